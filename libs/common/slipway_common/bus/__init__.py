"""Bring events to consumers: straight from the log, or by way of Kafka. One port, one contract."""
