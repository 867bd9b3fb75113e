"""Requests to places that users, not operators, have named."""
