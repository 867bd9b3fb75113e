"""Rules without I/O: what a manifest and its config say, and what a run of events comes to."""
