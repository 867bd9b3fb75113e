"""What both buses do alike: place consumers, keep their schedules going, watch the log."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

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
        each.name: Schedule(
            each.name, Follower(pool, each, batch_size=batch_size).step, workers=workers, gather_s=pace.gather_s
        )
        for each in consumers
    }

    def wake(consumer: str, streams: Iterable[str]) -> None:
        schedules[consumer].wake(streams)

    tasks = {f"{name}-schedule": schedule.run() for name, schedule in schedules.items()}
    async with background({"log-watch": Watch(pool, list(schedules), wake, pace).run(), **tasks}):
        yield schedules


@contextlib.asynccontextmanager
async def background(work: Mapping[str, Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Run named coroutines while the context lives.

    One that fails ends the context (an ExceptionGroup); an error of the context's own body comes out as it is.
    """
    failure: Exception | None = None
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(coroutine, name=name) for name, coroutine in work.items()]
        try:
            yield
        except Exception as exc:
            failure = exc
        for task in tasks:
            task.cancel()
    if failure is not None:
        raise failure


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
