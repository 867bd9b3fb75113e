"""The gateway: the registry protocol, identity and rights, the edge of the management API."""
