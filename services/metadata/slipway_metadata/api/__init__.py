"""The metadata service's HTTP handlers: parse, call, render."""
