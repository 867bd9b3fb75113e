"""The metadata service: what is in each repository, indexed from its events."""
