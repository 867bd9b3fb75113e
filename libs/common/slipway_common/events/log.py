"""Write and read the event log. Whoever has something to say appends; nobody else touches the schema `log`."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import orjson

from slipway_common.database.queries import load_queries
from slipway_common.errors import InvalidInput
from slipway_common.events import metrics
from slipway_common.events.event import MAX_ENVELOPE_BYTES, Event, NewEvent, Origin

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

    Connection = asyncpg.Connection | PoolConnectionProxy
    Executor = asyncpg.Pool | Connection

SQL = load_queries("slipway_common.events")

HINT_CHANNEL: Final = "slipway_events"
# Names, braces, ids, time, type, stream and numbers of an envelope; the attributes of free length are counted as they
# are.
_FIXED_ENVELOPE_BYTES: Final = 768
# PostgreSQL refuses payloads of 8000 bytes and more.
_MAX_NOTIFY_BYTES: Final = 7000


class EnvelopeTooLarge(InvalidInput):
    """The payload does not fit into 64 KiB and has no shorter form."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """A stream's oldest event and its last; `first_seq` is `seq + 1` when none is left. Both 0: no such stream."""

    first_seq: int
    seq: int


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where an event stands among those of all streams, by time."""

    time: datetime
    stream: str
    seq: int


class EventLog:
    """The log as its writers and readers see it; `source` is who the events written here are from."""

    def __init__(self, source: str = "slipway/gateway") -> None:
        self._source = source

    async def append(
        self,
        connection: Connection,
        stream: str,
        events: Sequence[NewEvent],
        origin: Origin,
    ) -> int:
        """Write `events` in the caller's transaction; return the seq of the last one.

        Call it last before COMMIT: from here on the stream's row is locked, which is what makes seq gapless and equal
        to the order of commits. Several streams: in sorted order. One round trip. Raises EnvelopeTooLarge, ValueError
        for no events.
        """
        arguments = self.arguments(stream, events, origin)
        last_seq: int = await connection.fetchval(SQL.append, *arguments)
        self.count(len(events))
        return last_seq

    def arguments(
        self,
        stream: str,
        events: Sequence[NewEvent],
        origin: Origin,
        *,
        reserve_bytes: int = 0,
    ) -> tuple[Any, ...]:
        """What the SQL function log.append takes, for a service's own function that ends with a call of it.

        `reserve_bytes` are left free in each envelope for what that function adds. Tell `count` once it is committed.
        """
        if not events:
            raise ValueError("nothing to append")
        named = _size(self._source) + _size(origin.actor) + _size(origin.request_id)
        room = MAX_ENVELOPE_BYTES - _FIXED_ENVELOPE_BYTES - named
        return (
            stream,
            [uuid.uuid4() for _ in events],
            [event.type for event in events],
            [event.subject for event in events],
            [_encode(event, room - reserve_bytes) for event in events],
            self._source,
            origin.actor,
            origin.request_id,
            origin.address,
        )

    def count(self, events: int) -> None:
        """Count events that were written."""
        metrics.APPENDED.inc(events)

    async def read(self, connection: Executor, stream: str, *, after: int, limit: int) -> list[Event]:
        """Return up to `limit` events of `stream` with seq > `after`, in order.

        The first one's seq is above `after + 1` when retention has taken those between.
        """
        return [to_event(row) for row in await connection.fetch(SQL.read, stream, after, limit)]

    async def search(
        self,
        connection: Executor,
        *,
        actor: str | None = None,
        stream: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        before: Place | None = None,
        limit: int,
    ) -> list[Event]:
        """Return up to `limit` events, the newest first; `before` continues a page."""
        at = (before.time, before.stream, before.seq) if before is not None else (None, None, None)
        return [to_event(row) for row in await connection.fetch(SQL.search, actor, stream, since, until, *at, limit)]

    async def bounds(self, connection: Executor, stream: str) -> Bounds:
        row = await connection.fetchrow(SQL.bounds, stream)
        return Bounds(first_seq=row["first_seq"], seq=row["seq"]) if row else Bounds(first_seq=0, seq=0)

    async def head(self, connection: Executor, stream: str) -> int:
        """Return the seq of the stream's last event, 0 when it never had one."""
        return (await self.bounds(connection, stream)).seq

    async def first_seq(self, connection: Executor, stream: str) -> int:
        return (await self.bounds(connection, stream)).first_seq

    async def find_seq_at(self, connection: Executor, stream: str, moment: datetime) -> int:
        """Return the seq of the last event before `moment`: rewinding there replays what came since."""
        return int(await connection.fetchval(SQL.find_seq_at, stream, moment) or 0)

    async def heads(self, connection: Executor) -> dict[str, int]:
        """Return every stream with the seq of its last event."""
        return {row["stream"]: row["seq"] for row in await connection.fetch(SQL.heads)}

    async def snapshot(self, connection: Executor) -> str:
        """Return what is visible now, for `sweep` to begin from."""
        return str(await connection.fetchval(SQL.snapshot))

    async def sweep(self, connection: Executor, snapshot: str) -> tuple[str, list[str]]:
        """Return the present snapshot, and the streams with events that `snapshot` could not see: all of them, always.

        Only for snapshots of the same server without a restart in between; compare positions with heads otherwise.
        """
        row = await connection.fetchrow(SQL.sweep, snapshot)
        assert row is not None
        return row["snapshot"], row["streams"]

    async def hint(self, connection: Executor, streams: Iterable[str]) -> None:
        """Tell waiting readers where to look. Only after COMMIT: inside a transaction it would serialise all commits.

        A hint may get lost; readers find every event within a second without it.
        """
        await connection.execute(SQL.hint, HINT_CHANNEL, _pack(streams))

    async def close(self, connection: Connection, stream: str) -> None:
        """Mark a stream that will never be written again; it goes once retention has taken its events."""
        await connection.execute(SQL.close_stream, stream)

    async def epoch(self, connection: Executor) -> int:
        return int(await connection.fetchval(SQL.epoch))

    async def raise_epoch(self, pool: asyncpg.Pool, *, reason: str) -> int:
        """Begin a new history after a restore, or after a fail-over that may have lost commits; return its number.

        What was sent out before, and may never have happened in this database, is dropped by every consumer from now
        on.
        """
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute(SQL.rebase_transactions)
            return int(await connection.fetchval(SQL.raise_epoch, reason))


def _encode(event: NewEvent, room_bytes: int) -> str:
    payload = event.data
    while True:
        body = payload.model_dump_json()
        if _size(body) + _size(event.subject) + _size(event.type) <= room_bytes:
            return body
        shorter = payload.shortened()
        if shorter is None:
            raise EnvelopeTooLarge("the event does not fit into 64 KiB", type=event.type, size_bytes=_size(body))
        payload = shorter


def _size(text: str | None) -> int:
    if text is None:
        return 0
    return len(text) if text.isascii() else len(text.encode())


def _pack(streams: Iterable[str]) -> list[str]:
    """Join stream names by lines into as few notifications as fit."""
    packed: list[str] = []
    for stream in sorted(set(streams)):
        if packed and len(packed[-1]) + len(stream) < _MAX_NOTIFY_BYTES:
            packed[-1] += "\n" + stream
        else:
            packed.append(stream)
    return packed


def to_event(row: Any) -> Event:
    """Make an Event of a row that has the columns of log.events."""
    return Event(
        id=row["id"],
        type=row["type"],
        source=row["source"],
        time=row["time"],
        subject=row["subject"],
        stream=row["stream"],
        seq=row["seq"],
        epoch=row["epoch"],
        actor=row["actor"],
        request_id=row["request_id"],
        data=orjson.loads(row["data"]),
        address=row.get("address"),
    )
