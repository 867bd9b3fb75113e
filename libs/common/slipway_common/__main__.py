"""`python -m slipway_common` is `slipway`."""

from slipway_common.launcher.cli import main

main()
