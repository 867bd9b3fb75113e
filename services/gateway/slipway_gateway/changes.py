"""Changes to who may do what and to what there is: one transaction with the events that tell of it, in force when it returns."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import TypeVar

import asyncpg

from slipway_common.database.pool import Connection, Database, database_errors, retried
from slipway_common.errors import Conflict
from slipway_common.events.catalogue import Payload
from slipway_common.events.event import NewEvent, Origin
from slipway_common.events.log import EventLog
from slipway_gateway.access import ACCESS_KEY
from slipway_gateway.cache import ExactCache

T = TypeVar("T")


@dataclass(slots=True)
class Change:
    """A transaction under way: its connection, whose doing it is, and what it will have to tell."""

    connection: Connection
    origin: Origin
    events: dict[str, list[NewEvent]] = field(default_factory=dict)

    def tell(self, stream: str, payload: Payload, *, subject: str) -> None:
        self.events.setdefault(stream, []).append(NewEvent.of(payload, subject=subject))


class Changes:
    """Makes changes: what anybody remembers of rights is dropped before COMMIT, and again when its outcome is known."""

    def __init__(self, database: Database, cache: ExactCache, log: EventLog, announce: Callable[[str], None]) -> None:
        self._pool = database.pool
        self._cache = cache
        self._log = log
        self._announce = announce

    async def make(self, origin: Origin, work: Callable[[Change], Awaitable[T]], *, adds_only: bool = False) -> T:
        """Run `work` in a transaction and append what it tells; seen through even if the caller leaves.

        `work` may run again when another transaction got in the way. Raises Conflict where what it makes is there already.
        `adds_only`: it changes nothing that anybody can remember, as what is not there is not remembered.
        """
        return await asyncio.shield(self._make(origin, work, () if adds_only else (ACCESS_KEY,)))

    async def _make(self, origin: Origin, work: Callable[[Change], Awaitable[T]], keys: tuple[Hashable, ...]) -> T:
        told: list[str] = []
        try:
            with database_errors(), self._cache.changing(*keys):
                result = await retried(lambda: self._once(origin, work, told))
        except asyncpg.UniqueViolationError as exc:
            raise Conflict("there is one of that name already") from exc
        for stream in told:
            self._announce(stream)
        return result

    async def _once(self, origin: Origin, work: Callable[[Change], Awaitable[T]], told: list[str]) -> T:
        async with self._pool.acquire() as connection, connection.transaction():
            await self._cache.guard(connection)
            change = Change(connection, origin)
            result = await work(change)
            # Streams are locked last, in sorted order.
            for stream in sorted(change.events):
                await self._log.append(connection, stream, change.events[stream], origin)
        told[:] = list(change.events)
        return result
