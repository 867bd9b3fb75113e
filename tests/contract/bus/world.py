"""A log, writers and consumers that leave a trace of all they did."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from slipway_common.database.migrations import upgrade
from slipway_common.database.pool import CONNECTION_ERRORS, open_database
from slipway_common.events import positions
from slipway_common.events.catalogue import RepositoryRef, TagDeleted
from slipway_common.events.event import Event, NewEvent, Origin, repository_stream
from slipway_common.events.log import EventLog
from slipway_common.events.positions import Start

# `number` is drawn while the position is locked, so within a stream it is the order in which effects were committed.
_EFFECTS = """
CREATE TABLE effects (
    number   bigserial PRIMARY KEY,
    consumer text NOT NULL,
    stream   text NOT NULL,
    seq      bigint NOT NULL,
    event_id uuid NOT NULL,
    pid      int NOT NULL
)
"""


def fact(text: str = "v1") -> NewEvent:
    repository = RepositoryRef(id=1, name="acme/hello", namespace="acme")
    return NewEvent.of(TagDeleted(repository=repository, tag=text, digest="sha256:" + "a" * 64), subject="acme/hello")


@dataclass
class World:
    """One database with an event log, and a table of the effects that consumers had."""

    dsn: str
    pool: asyncpg.Pool
    log: EventLog = field(default_factory=EventLog)

    async def append(self, stream: str | int, count: int = 1, *, text: str = "v1", hint: bool = True) -> int:
        name = repository_stream(stream) if isinstance(stream, int) else stream
        async with self.pool.acquire() as connection, connection.transaction():
            facts = [fact(text) for _ in range(count)]
            last = await self.log.append(connection, name, facts, Origin("ann", "r-1"))
        if hint:
            await self.log.hint(self.pool, [name])
        return last

    async def append_patiently(self, stream: int, count: int) -> None:
        """Append as a client does who tries again; one that was cut off before COMMIT has left nothing."""
        while True:
            try:
                await self.append(stream, count)
            except CONNECTION_ERRORS:
                continue
            else:
                return

    async def heads(self) -> dict[str, int]:
        return {row["stream"]: row["seq"] for row in await self.pool.fetch("SELECT stream, seq FROM log.streams")}

    async def effects(self, consumer: str = "recorder") -> dict[str, list[int]]:
        """Each stream's seqs in the order in which their effects were committed."""
        found: dict[str, list[int]] = {}
        rows = await self.pool.fetch("SELECT stream, seq FROM effects WHERE consumer = $1 ORDER BY number", consumer)
        for row in rows:
            found.setdefault(row["stream"], []).append(row["seq"])
        return found

    async def everything(self) -> dict[str, list[int]]:
        """What the effects are when each event had its effect once, in order."""
        return {stream: list(range(1, seq + 1)) for stream, seq in (await self.heads()).items()}

    async def wait_for_everything(self, consumer: str = "recorder", *, timeout_s: float = 30) -> None:
        async def is_complete() -> bool:
            positions_of = dict(
                await self.pool.fetch("SELECT stream, last_seq FROM log.positions WHERE consumer = $1", consumer)
            )
            return all(positions_of.get(stream, 0) == seq for stream, seq in (await self.heads()).items())

        await wait_until(is_complete, timeout_s=timeout_s)

    async def assert_each_once_in_order(self, consumer: str = "recorder") -> None:
        assert await self.effects(consumer) == await self.everything()

    async def position(self, stream: int, consumer: str = "recorder") -> int:
        statement = "SELECT last_seq FROM log.positions WHERE consumer = $1 AND stream = $2"
        return int(await self.pool.fetchval(statement, consumer, repository_stream(stream)) or 0)


@asynccontextmanager
async def open_world(dsn: str, *, fresh: bool = True):  # type: ignore[no-untyped-def]
    if fresh:
        await upgrade(dsn, package="slipway_common.events.migrations", schema="log")
    async with open_database(dsn, pool_size=16) as database:
        if fresh:
            await database.pool.execute(_EFFECTS)
        yield World(dsn=dsn, pool=database.pool)


async def wait_until(is_true: Callable[[], Awaitable[bool]], *, timeout_s: float = 30) -> None:
    async with asyncio.timeout(timeout_s):
        while not await is_true():
            await asyncio.sleep(0.02)


Trap = Callable[[Sequence[Event]], None]


@dataclass
class Recorder:
    """A consumer whose effect is a row; traps may raise, or kill the process, at the two moments that matter."""

    world: World
    name: str = "recorder"
    start: Start = "beginning"
    on_prepare: Trap | None = None
    on_apply: Trap | None = None
    prepare_s: float = 0.0
    batches: list[list[int]] = field(default_factory=list)
    reloads: list[str] = field(default_factory=list)

    async def prepare(self, events: Sequence[Event]) -> str:
        if self.prepare_s:
            await asyncio.sleep(self.prepare_s)
        if self.on_prepare:
            self.on_prepare(events)
        return "prepared"

    async def apply(self, connection: Any, events: Sequence[Event], prepared: Any) -> None:
        assert prepared == "prepared"
        self.batches.append([event.seq for event in events])
        await connection.executemany(
            "INSERT INTO effects (consumer, stream, seq, event_id, pid) VALUES ($1, $2, $3, $4, $5)",
            [(self.name, event.stream, event.seq, event.id, os.getpid()) for event in events],
        )
        if self.on_apply:
            self.on_apply(events)

    async def reload(self, stream: str) -> int:
        """Take the stream's head for its snapshot: the effects up to there are made at once."""
        self.reloads.append(stream)
        async with self.world.pool.acquire() as connection, connection.transaction():
            seq = await self.world.log.head(connection, stream)
            await connection.execute("DELETE FROM effects WHERE consumer = $1 AND stream = $2", self.name, stream)
            await connection.execute(
                "INSERT INTO effects (consumer, stream, seq, event_id, pid) "
                "SELECT $1, $2, seq, gen_random_uuid(), 0 FROM generate_series(1, $3::bigint) seq ORDER BY seq",
                self.name,
                stream,
                seq,
            )
            await positions.set_position(connection, self.name, stream, seq)
        return seq


def kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
