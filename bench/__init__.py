"""Measure Slipway side by side with CNCF distribution on one machine. `python -m bench --help` leads on."""
