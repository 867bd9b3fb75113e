"""The real components Slipway is tested with: which versions, how each is installed, how each is started."""
