"""Saying that streams have news, right after COMMIT: at once within the process, gathered for the others."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable

import asyncpg
import structlog

from slipway_common.events.log import EventLog

_log = structlog.get_logger()
# One notification tells of everything committed meanwhile: at hundreds of pushes a second they would cost as much as
# the pushes.
_GATHER_S = 0.02


class Announcer:
    """Collects the names of streams that were written to. A hint that gets lost costs a second, never an event."""

    def __init__(self, log: EventLog, pool: asyncpg.Pool) -> None:
        self._log = log
        self._pool = pool
        self._waiting: set[str] = set()
        self._some = asyncio.Event()
        self._local: list[Callable[[Iterable[str]], None]] = []

    def add_local(self, wake: Callable[[Iterable[str]], None]) -> None:
        """Also tell a reader in this process."""
        self._local.append(wake)

    def announce(self, stream: str) -> None:
        for wake in self._local:
            wake([stream])
        self._waiting.add(stream)
        self._some.set()

    @contextlib.asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self._notify(), name="announcer")
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _notify(self) -> None:
        while True:
            await self._some.wait()
            await asyncio.sleep(_GATHER_S)
            streams, self._waiting = self._waiting, set()
            self._some.clear()
            try:
                await self._log.hint(self._pool, streams)
            except Exception as exc:
                _log.warning("hint_not_sent", error=f"{type(exc).__name__}: {exc}")
