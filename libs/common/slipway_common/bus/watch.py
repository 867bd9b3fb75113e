"""Find out which streams have news: by hints, by an exact sweep each second, by comparing everything now and then."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import structlog

from slipway_common.database.pool import CONNECTION_ERRORS
from slipway_common.events import metrics, positions
from slipway_common.events.consumer import is_transient
from slipway_common.events.log import HINT_CHANNEL, EventLog
from slipway_common.events.positions import POSITIONS_CHANNEL, prefer_indexes

if TYPE_CHECKING:
    import asyncpg

    from slipway_common.events.log import Connection

logger = structlog.get_logger(__name__)

_RECONNECT_PAUSE_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Pace:
    """How often to look, in seconds; `grace_s` leaves younger events to the bus that is carrying them.

    `gather_s` is the pause between two steps of one stream, which makes a batch of what comes in quick succession.
    sweep_s None: no sweeps and no hints, only comparisons (for a bus that brings the events by itself).
    """

    sweep_s: float | None = 1.0
    compare_s: float = 60.0
    grace_s: float = 0.0
    gather_s: float = 1.0


class Watch:
    """Calls `wake(consumer, streams)` for work found, over one connection of its own.

    The connection matters: when it breaks, the server may have begun anew or be another one, and everything is
    compared.
    """

    def __init__(
        self, pool: asyncpg.Pool, consumers: Sequence[str], wake: Callable[[str, Iterable[str]], None], pace: Pace
    ) -> None:
        self._pool = pool
        self._consumers = list(consumers)
        self._wake = wake
        self._pace = pace
        self._broken = asyncio.Event()
        self._log = EventLog()

    async def run(self) -> None:
        """Watch until cancelled, over as many connections as it takes."""
        while True:
            try:
                async with self._connection() as connection:
                    await self._watch(connection)
            except Exception as exc:
                log = logger.warning if is_transient(exc) else logger.exception
                log("log_watch_interrupted", error=repr(exc)[:300])
            await asyncio.sleep(_RECONNECT_PAUSE_S)

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        async with self._pool.acquire() as connection:
            self._broken.clear()
            connection.add_termination_listener(self._on_terminated)
            await prefer_indexes(connection)
            if self._pace.sweep_s is not None:
                await connection.add_listener(HINT_CHANNEL, self._on_hint)
            await connection.add_listener(POSITIONS_CHANNEL, self._on_position_changed)
            try:
                yield connection
            finally:
                # Of a connection that broke, nothing is left to be undone.
                with contextlib.suppress(*CONNECTION_ERRORS):
                    await self._unlisten(connection)

    async def _unlisten(self, connection: Connection) -> None:
        connection.remove_termination_listener(self._on_terminated)
        await connection.remove_listener(HINT_CHANNEL, self._on_hint)
        await connection.remove_listener(POSITIONS_CHANNEL, self._on_position_changed)

    async def _watch(self, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        while not connection.is_closed():
            # The snapshot is taken before comparing: what commits in between is seen twice rather than never.
            snapshot = await self._log.snapshot(connection)
            await self._compare(connection)
            until = loop.time() + self._pace.compare_s
            while loop.time() < until and not await self._pause(min(self._tick_s, until - loop.time())):
                if self._pace.sweep_s is not None:
                    snapshot, streams = await self._log.sweep(connection, snapshot)
                    self._wake_all(streams)

    @property
    def _tick_s(self) -> float:
        return self._pace.compare_s if self._pace.sweep_s is None else self._pace.sweep_s

    async def _pause(self, seconds: float) -> bool:
        """Wait; return whether the connection broke meanwhile."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(seconds, 0)):
                await self._broken.wait()
        return self._broken.is_set()

    async def _compare(self, connection: Connection) -> None:
        grace = timedelta(seconds=self._pace.grace_s)
        found: dict[str, list[str]] = {}
        for consumer, stream in await positions.find_behind(connection, self._consumers, grace=grace):
            found.setdefault(consumer, []).append(stream)
        for consumer, streams in found.items():
            self._wake(consumer, streams)
        for row in await positions.count_behind(connection, self._consumers):
            metrics.BEHIND.labels(row["consumer"]).set(row["behind"])
            metrics.PARKED_STREAMS.labels(row["consumer"]).set(row["parked"])

    def _wake_all(self, streams: Sequence[str]) -> None:
        for consumer in self._consumers:
            self._wake(consumer, streams)

    def _on_hint(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        self._wake_all(str(payload).split("\n"))

    def _on_position_changed(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        consumer, _, stream = str(payload).partition("\n")
        if consumer in self._consumers:
            self._wake(consumer, [stream])

    def _on_terminated(self, _connection: object) -> None:
        self._broken.set()
