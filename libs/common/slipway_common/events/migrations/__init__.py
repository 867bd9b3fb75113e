"""The schema `log`."""
