"""Apply events in order, each effect once: what every bus does with a consumer, however the events reach it.

The position row moves in the transaction of the effect. That one rule gives order (only `last + 1` is applied),
deduplication (`seq <= last` is dropped), gap detection (the log is read) and rewinding (set the row), in any number of
processes at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

import aiohttp
import asyncpg
import structlog

from slipway_common.database.pool import CONNECTION_ERRORS
from slipway_common.errors import Unavailable
from slipway_common.events import metrics, positions
from slipway_common.events.event import Event
from slipway_common.events.positions import Standing, Start

if TYPE_CHECKING:
    from slipway_common.events.log import Connection

logger = structlog.get_logger(__name__)

_TRANSIENT: Final = (
    *CONNECTION_ERRORS,
    aiohttp.ClientError,
    Unavailable,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.LockNotAvailableError,
)
# Pauses between the tries of an event that fails for a reason of its own; after the last it parks.
_RETRY_PAUSES_S: Final = (0.1, 0.5)


class Consumer(Protocol):
    """Something that acts on events. `name` is its position's key: never change it.

    `start` says where it begins when it is new: with all events there are, with a snapshot of each stream, or with what
    comes.
    """

    name: str
    start: Start

    async def prepare(self, events: Sequence[Event], /) -> Any:
        """Fetch what the effect of `events` (one stream, consecutive) needs; outside any transaction, may run twice."""

    async def apply(self, connection: Connection, events: Sequence[Event], prepared: Any, /) -> None:
        """Make the effect, in the transaction that moves the position. Database only, no other I/O."""

    async def reload(self, stream: str, /) -> int:
        """Load the stream's state from a snapshot and set the position (`positions.set_position`) in one transaction.

        Only asked of consumers that start from a snapshot. Return the seq that the state is of.
        """


def is_transient(error: BaseException) -> bool:
    """Whether waiting helps: a part is away, rather than the event being wrong."""
    # asyncpg calls a value that does not fit its column an interface error too: that one stays wrong for ever.
    return isinstance(error, _TRANSIENT) and not isinstance(error, ValueError)


class Follower:
    """Takes one consumer along streams, a step at a time.

    Steps of one stream that overlap, here or in another process, are safe but wasteful: one of them
    finds the position moved.
    """

    def __init__(self, pool: asyncpg.Pool, consumer: Consumer, *, batch_size: int) -> None:
        self._pool = pool
        self._consumer = consumer
        self._name = consumer.name
        self._batch_size = batch_size

    async def step(self, stream: str, carried: Sequence[Event] = ()) -> bool:
        """Apply the next events of `stream`; return whether there is more to do.

        `carried` are events as a message bus brought them, in any order; the log is read where they do not continue the
        position. Raises only transient errors (`is_transient`): step again later.
        """
        standing = await positions.fetch(self._pool, self._name, stream, limit=0 if carried else self._batch_size)
        if standing is None or standing.parked:
            return False
        if standing.reload or standing.is_trimmed:
            return await self._recover(stream, standing)
        if not carried:
            return await self._apply_next(standing, standing.events, goal=standing.head)
        return await self._apply_carried(stream, standing, carried)

    async def _apply_carried(self, stream: str, standing: Standing, carried: Sequence[Event]) -> bool:
        believed = [event for event in carried if self._is_credible(standing, event)]
        goal = max((event.seq for event in believed), default=0)
        if goal <= standing.last_seq:
            # Nothing new, or nothing to be believed: what was refused may still stand for something true.
            return len(believed) < len(carried) and await self.step(stream)
        batch = _continue_from(standing.next_seq, believed)[: self._batch_size]
        if not batch:
            return await self.step(stream)
        return await self._apply_next(standing, batch, goal=goal)

    def _is_credible(self, standing: Standing, event: Event) -> bool:
        """Only events of this epoch that the log can have: the log decides, the bus merely carries."""
        reason = "epoch" if event.epoch != standing.epoch else "not_in_log" if event.seq > standing.head else None
        if reason is None:
            return True
        metrics.REFUSED.labels(self._name, reason).inc()
        logger.warning(
            "carried_event_refused",
            consumer=self._name,
            stream=event.stream,
            seq=event.seq,
            epoch=event.epoch,
            why=reason,
        )
        return False

    async def _apply_next(self, standing: Standing, batch: Sequence[Event], *, goal: int) -> bool:
        if not batch:
            return False
        try:
            moved = await self._apply(batch, standing.epoch)
        except Exception as exc:
            if is_transient(exc):
                raise
            moved = await self._apply_singly(batch, standing.epoch)
        return not moved or batch[-1].seq < goal

    async def _apply(self, batch: Sequence[Event], epoch: int) -> bool:
        """Make the effect of `batch` and move the position, both or neither; False when the position was elsewhere."""
        prepared = await self._consumer.prepare(batch)
        first, last = batch[0], batch[-1]
        async with self._pool.acquire() as connection, connection.transaction():
            expected = first.seq - 1
            if not await positions.move(
                connection, self._name, first.stream, expected=expected, to=last.seq, epoch=epoch
            ):
                return False
            await self._consumer.apply(connection, batch, prepared)
        metrics.APPLIED.labels(self._name).inc(len(batch))
        return True

    async def _apply_singly(self, batch: Sequence[Event], epoch: int) -> bool:
        """Go event by event, so that only the one that fails is parked and those before it are not held back."""
        for event in batch:
            if not await self._apply_or_park(event, epoch):
                return False
        return True

    async def _apply_or_park(self, event: Event, epoch: int) -> bool:
        for pause_s in (*_RETRY_PAUSES_S, None):
            try:
                return await self._apply([event], epoch)
            except Exception as exc:
                if is_transient(exc):
                    raise
                if pause_s is None:
                    await self._park(event.stream, event.seq, exc)
                else:
                    await asyncio.sleep(pause_s)
        return False

    async def _park(self, stream: str, seq: int, error: Exception) -> None:
        reason = f"{type(error).__name__}: {error}"
        if await positions.park(self._pool, self._name, stream, seq=seq, reason=reason):
            metrics.PARKED.labels(self._name).inc()
            logger.error("stream_parked", consumer=self._name, stream=stream, seq=seq, exc_info=error)

    async def _recover(self, stream: str, standing: Standing) -> bool:
        """Get over events that are not there any more, or that a snapshot stands for."""
        if self._consumer.start != "snapshot":
            return await self._jump(stream, standing)
        try:
            position = await self._consumer.reload(stream)
        except Exception as exc:
            if is_transient(exc):
                raise
            await self._park(stream, standing.next_seq, exc)
            return False
        metrics.RELOADED.labels(self._name).inc()
        logger.info("stream_reloaded", consumer=self._name, stream=stream, seq=position)
        return True

    async def _jump(self, stream: str, standing: Standing) -> bool:
        to = standing.first_seq - 1
        if await positions.jump(self._pool, self._name, stream, expected=standing.last_seq, to=to):
            missed = to - standing.last_seq
            metrics.MISSED.labels(self._name).inc(missed)
            logger.error("events_missed", consumer=self._name, stream=stream, count=missed, next_seq=standing.first_seq)
        return True


def _continue_from(next_seq: int, events: Sequence[Event]) -> list[Event]:
    """Return the run of `events` that begins at `next_seq`, in order, without doubles."""
    by_seq = {event.seq: event for event in events}
    run: list[Event] = []
    while event := by_seq.get(next_seq + len(run)):
        run.append(event)
    return run
