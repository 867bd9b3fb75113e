"""The bus of one machine: consumers read the event log itself."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from slipway_common.bus.following import following
from slipway_common.bus.schedule import Schedule
from slipway_common.bus.watch import Pace
from slipway_common.events.consumer import Consumer

if TYPE_CHECKING:
    import asyncpg


class EmbeddedBus:
    """Follows the log by hints and sweeps; takes one connection to watch, and up to `workers` for each consumer."""

    def __init__(
        self, pool: asyncpg.Pool, *, workers: int = 4, batch_size: int = 100, pace: Pace | None = None
    ) -> None:
        self._pool = pool
        self._workers = workers
        self._batch_size = batch_size
        self._pace = pace or Pace()
        self._schedules: Mapping[str, Schedule] = {}

    @contextlib.asynccontextmanager
    async def run(self, consumers: Sequence[Consumer]) -> AsyncIterator[None]:
        async with following(
            self._pool, consumers, workers=self._workers, batch_size=self._batch_size, pace=self._pace
        ) as self._schedules:
            yield

    def wake(self, streams: Iterable[str]) -> None:
        streams = list(streams)
        for schedule in self._schedules.values():
            schedule.wake(streams)
