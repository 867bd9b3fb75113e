"""How far each consumer has come in each stream."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal
from uuid import UUID

from slipway_common.errors import NotFound
from slipway_common.events.event import Event
from slipway_common.events.log import SQL, to_event

if TYPE_CHECKING:
    import asyncpg

    from slipway_common.events.log import Connection, Executor

Start = Literal["beginning", "snapshot", "now"]

# "<consumer>\n<stream>": somebody changed that position by hand.
POSITIONS_CHANNEL: Final = "slipway_positions"
_MAX_REASON_CHARS: Final = 2000


@dataclass(frozen=True, slots=True)
class Standing:
    """One consumer on one stream, and the events that come next, as of one moment.

    `head` is the stream's last seq, `first_seq` its oldest event still there, `last_seq` the last applied.
    """

    epoch: int
    head: int
    first_seq: int
    last_seq: int
    reload: bool
    parked: bool
    events: Sequence[Event]

    @property
    def next_seq(self) -> int:
        return self.last_seq + 1

    @property
    def is_trimmed(self) -> bool:
        """Retention has taken the event that would come next."""
        return self.next_seq < self.first_seq


@dataclass(frozen=True, slots=True)
class ConsumerStatus:
    name: str
    start: Start
    registered_at: datetime
    behind: int
    parked: int
    reloading: int


@dataclass(frozen=True, slots=True)
class ParkedStream:
    """`type` and `event_id` are None when retention took the event since; `waiting` counts it and those behind it."""

    consumer: str
    stream: str
    seq: int
    parked_at: datetime
    reason: str
    type: str | None
    event_id: UUID | None
    waiting: int


async def register(pool: asyncpg.Pool, name: str, start: Start) -> bool:
    """Give a new consumer its place in every stream there is; a known one keeps its own. Return whether it was new."""
    async with pool.acquire() as connection, connection.transaction():
        if await connection.fetchval(SQL.register, name, start) is None:
            return False
        await connection.execute(SQL.place_at_start, name, start)
        return True


async def unregister(pool: asyncpg.Pool, name: str) -> None:
    """Forget a consumer and its positions: retention no longer waits for it. Raises NotFound."""
    if await pool.fetchval(SQL.unregister, name) is None:
        raise NotFound("no such consumer", consumer=name)


async def list_consumers(connection: Executor) -> list[ConsumerStatus]:
    return [ConsumerStatus(**row) for row in await connection.fetch(SQL.consumers)]


async def fetch(connection: Executor, consumer: str, stream: str, *, limit: int) -> Standing | None:
    """Return where `consumer` stands on `stream` and its next `limit` events; None when there is no such stream."""
    rows = await connection.fetch(SQL.fetch, consumer, stream, limit)
    if not rows:
        return None
    first = rows[0]
    return Standing(
        epoch=first["current_epoch"],
        head=first["head"],
        first_seq=first["first_seq"],
        last_seq=first["last_seq"],
        reload=first["reload"],
        parked=first["parked"],
        events=[to_event(row) for row in rows if row["seq"] is not None],
    )


async def move(connection: Connection, consumer: str, stream: str, *, expected: int, to: int, epoch: int) -> bool:
    """Lock the position, recheck that it is `expected`, move it; False when anything is not as expected."""
    return await connection.fetchval(SQL.move, consumer, stream, expected, to, epoch) is not None


async def set_position(connection: Connection, consumer: str, stream: str, seq: int) -> None:
    """Set a position in the transaction that loads the stream's state from a snapshot made at `seq`."""
    await connection.execute(SQL.set_position, consumer, stream, seq)


async def prefer_indexes(connection: Connection) -> None:
    """Prepare a connection for sweeping."""
    await connection.execute(SQL.prefer_indexes)


async def relax(connection: Connection) -> None:
    """Let the present transaction be lost in a crash of the database: for effects that may as well be made twice."""
    await connection.execute(SQL.relax)


async def jump(connection: Executor, consumer: str, stream: str, *, expected: int, to: int) -> bool:
    """Step over events that retention has taken; False when the position has moved meanwhile."""
    return await connection.fetchval(SQL.jump, consumer, stream, expected, to) is not None


async def park(connection: Executor, consumer: str, stream: str, *, seq: int, reason: str) -> bool:
    """Stop `consumer` on `stream` before event `seq`; False when the position has moved meanwhile."""
    clean = reason.replace("\0", "")[:_MAX_REASON_CHARS]
    return await connection.fetchval(SQL.park, consumer, stream, seq, clean) is not None


async def find_behind(
    connection: Executor, consumers: Sequence[str], *, grace: timedelta = timedelta(0)
) -> list[tuple[str, str]]:
    """Compare all positions with all streams; return (consumer, stream) for each with work older than `grace`."""
    rows = await connection.fetch(SQL.behind, list(consumers), grace)
    return [(row["consumer"], row["stream"]) for row in rows]


async def count_behind(connection: Executor, consumers: Sequence[str]) -> list[Any]:
    """Return a row (consumer, behind, parked) for each consumer, over all streams."""
    return list(await connection.fetch(SQL.lag, list(consumers)))


async def list_parked(connection: Executor, consumer: str | None = None) -> list[ParkedStream]:
    return [
        ParkedStream(
            consumer=row["consumer"],
            stream=row["stream"],
            seq=row["parked_seq"],
            parked_at=row["parked_at"],
            reason=row["parked_reason"],
            type=row["type"],
            event_id=row["id"],
            waiting=row["waiting"],
        )
        for row in await connection.fetch(SQL.parked, consumer)
    ]


async def retry_parked(pool: asyncpg.Pool, consumer: str, stream: str) -> None:
    """Try the parked event again, then go on with those behind it. Raises NotFound when nothing is parked there."""
    await _change(pool, SQL.retry_parked, consumer, stream)


async def skip_parked(pool: asyncpg.Pool, consumer: str, stream: str) -> None:
    """Leave the parked event out for ever and go on behind it. Raises NotFound when nothing is parked there."""
    await _change(pool, SQL.skip_parked, consumer, stream)


async def rewind(pool: asyncpg.Pool, consumer: str, stream: str, *, to: int) -> int:
    """Make `consumer` apply again what follows seq `to`; works while it runs, and ends a parking. Return the new
    position.

    Below the oldest event left, a consumer with snapshots reloads the stream; others begin at the oldest. Raises
    NotFound.
    """
    return await _change(pool, SQL.rewind, consumer, stream, to)


async def _change(pool: asyncpg.Pool, statement: str, consumer: str, stream: str, *values: object) -> int:
    position = await pool.fetchval(statement, consumer, stream, *values)
    if position is None:
        raise NotFound("no such position", consumer=consumer, stream=stream)
    await notify_changed(pool, [(consumer, stream)])
    return int(position)


async def notify_changed(pool: asyncpg.Pool, places: Iterable[tuple[str, str]]) -> None:
    """Wake the processes that run these consumers."""
    await pool.execute(SQL.hint, POSITIONS_CHANNEL, [f"{consumer}\n{stream}" for consumer, stream in places])
