"""The event log: what has happened, in the transaction in which it happened."""
