"""What the tests of every part of Slipway build their inputs with. Nothing that runs in production imports it."""
