"""The errors of Slipway's own making.

    SlipwayError
    ├── InvalidInput        the caller must change the request
    ├── NotFound            nothing there by that name
    ├── Conflict            true at another time, or for another caller
    ├── PreconditionFailed  changed since you looked
    ├── Unauthenticated     who are you?
    ├── Denied              known, but not allowed
    ├── TooMany             asked too often: try again later
    ├── Unavailable         a part we depend on is away: try again later
    └── Misconfigured       an operator must change the settings

Errors carry facts, not phrases for a protocol: each edge (the registry protocol, the management API, the command line)
renders them its own way, from one table.
"""

from __future__ import annotations


class SlipwayError(Exception):
    """Anything that Slipway itself decides to raise."""

    def __init__(self, message: str = "", **facts: object) -> None:
        super().__init__(message)
        self.message = message
        self.facts = facts


class InvalidInput(SlipwayError):
    """The request can never succeed as it stands."""


class NotFound(SlipwayError):
    """Nothing there by that name, or nothing this caller may know of."""


class Conflict(SlipwayError):
    """The present state does not allow this."""


class Unauthenticated(SlipwayError):
    """An identity is needed, and none that counts was given."""


class Denied(SlipwayError):
    """The identity is known and has no right to do this."""


class PreconditionFailed(SlipwayError):
    """The resource is not in the state that the request was made for."""


class TooMany(SlipwayError):
    """Whoever asks has done so too often; the same request may succeed after `retry_after_s` seconds."""

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Unavailable(SlipwayError):
    """A part that Slipway depends on is away or full; the same request may succeed later."""

    retry_after_s: int = 2


class Misconfigured(SlipwayError):
    """The settings, or the machine, do not allow what was asked."""
