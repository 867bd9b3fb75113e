"""Starting services: one process or many, found by entry point, never imported by name."""
