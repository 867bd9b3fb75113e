"""What two or more Slipway services need, and no more."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("slipway")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"
