"""What every bus promises to those who run consumers on it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from slipway_common.events.consumer import Consumer


class EventBus(Protocol):
    """Brings each event of the log to each consumer, in the order of its stream, until its effect is committed.

    Nothing is lost while the bus, the consumer or the database is away, and nothing that is away makes it give up.
    """

    def run(self, consumers: Sequence[Consumer]) -> AbstractAsyncContextManager[None]:
        """Register `consumers` and work for them for as long as the context lives.

        Entering waits for the database; leaving drops work in hand, which its transaction undoes. A bus runs once at a
        time.
        """

    def wake(self, streams: Iterable[str]) -> None:
        """Say that `streams` have news, from within the process that committed it. Optional: it only saves time."""
