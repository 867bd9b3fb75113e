"""What both buses do alike: place consumers, keep their schedules going, watch the log."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import structlog

from slipway_common.bus.schedule import Schedule
from slipway_common.bus.watch import Pace, Watch
from slipway_common.events import positions
from slipway_common.events.consumer import Consumer, Follower, is_transient

if TYPE_CHECKING:
    import asyncpg

logger = structlog.get_logger(__name__)

_REGISTER_PAUSE_S: Final = 0.5


@contextlib.asynccontextmanager
async def following(
    pool: asyncpg.Pool, consumers: Sequence[Consumer], *, workers: int, batch_size: int, pace: Pace
) -> AsyncIterator[Mapping[str, Schedule]]:
    """Work for `consumers` while the context lives; yield their schedules by name, for whoever brings more work."""
    for consumer in consumers:
        await _register(pool, consumer)
    schedules = {
        each.name: Schedule(each.name, Follower(pool, each, batch_size=batch_size).step, workers=workers)
        for each in consumers
    }

    def wake(consumer: str, streams: Iterable[str]) -> None:
        schedules[consumer].wake(streams)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(Watch(pool, list(schedules), wake, pace).run(), name="log-watch")]
        tasks += [group.create_task(each.run(), name=f"{name}-schedule") for name, each in schedules.items()]
        yield schedules
        for task in tasks:
            task.cancel()


async def _register(pool: asyncpg.Pool, consumer: Consumer) -> None:
    """Register `consumer`, waiting for the database as long as it takes."""
    while True:
        try:
            if await positions.register(pool, consumer.name, consumer.start):
                logger.info("consumer_registered", consumer=consumer.name, start=consumer.start)
            return
        except Exception as exc:
            if not is_transient(exc):
                raise
            logger.warning("registration_delayed", consumer=consumer.name, error=repr(exc)[:300])
        await asyncio.sleep(_REGISTER_PAUSE_S)
