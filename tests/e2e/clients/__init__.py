"""Drivers of real registry clients: how each logs in, pushes, pulls, lists, copies and deletes."""
