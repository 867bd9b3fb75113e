"""Connections to PostgreSQL, and what each of them promises."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from slipway_common.errors import Misconfigured, Unavailable

T = TypeVar("T")
# A connection of one's own, or one borrowed from a pool.
Connection: TypeAlias = "asyncpg.Connection | PoolConnectionProxy"

# What asyncpg raises when the server is away, going away, or out of room, rather than when a statement is wrong.
CONNECTION_ERRORS: tuple[type[BaseException], ...] = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.exceptions.OperatorInterventionError,
    asyncpg.exceptions.InsufficientResourcesError,
    asyncpg.exceptions.InternalClientError,
    asyncpg.exceptions.CannotConnectNowError,
    asyncpg.exceptions.LockNotAvailableError,  # lock_timeout: others have held a row for too long
)

# A transaction that PostgreSQL undid because of another one: the same statements may be run again.
RETRYABLE_ERRORS: tuple[type[BaseException], ...] = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.ForeignKeyViolationError,
)


_TRIES = 5


async def retried(work: Callable[[], Awaitable[T]]) -> T:
    """Run a whole transaction, again if PostgreSQL undid it because of another one. Unavailable if that goes on."""
    for _ in range(_TRIES):
        try:
            return await work()
        except RETRYABLE_ERRORS as exc:
            failure = exc
    raise Unavailable("others change the same content at the same time") from failure


@dataclass(frozen=True, slots=True)
class Database:
    """Two pools on one PostgreSQL.

    pool     commits are durable when COMMIT returns (synchronous_commit=on, set here so that no server default weakens it)
    relaxed  for rows whose loss in a crash harms nobody (upload sessions just opened, leases): commits do not wait for disk
    """

    dsn: str
    pool: asyncpg.Pool
    relaxed: asyncpg.Pool

    async def check(self) -> None:
        """Raise Unavailable unless a statement can be run now."""
        with database_errors():
            await self.pool.fetchval("SELECT 1", timeout=2)


@contextlib.asynccontextmanager
async def open_database(dsn: str, *, pool_size: int, acquire_timeout_s: float = 2.0) -> AsyncIterator[Database]:
    """Open both pools; refuse a server that would lose what it acknowledged."""
    durable = await _create_pool(dsn, size=pool_size, synchronous_commit="on", timeout_s=acquire_timeout_s)
    try:
        await _check_server(durable)
        relaxed = await _create_pool(dsn, size=pool_size, synchronous_commit="off", timeout_s=acquire_timeout_s)
    except BaseException:
        durable.terminate()
        raise
    try:
        yield Database(dsn=dsn, pool=durable, relaxed=relaxed)
    finally:
        for pool in (durable, relaxed):
            await _close(pool)


async def _close(pool: asyncpg.Pool) -> None:
    try:
        async with asyncio.timeout(5):
            await pool.close()
    except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        pool.terminate()


async def _create_pool(dsn: str, *, size: int, synchronous_commit: str, timeout_s: float) -> asyncpg.Pool:
    return await asyncpg.create_pool(
        dsn,
        min_size=1,
        max_size=size,
        command_timeout=30,
        timeout=timeout_s + 8,
        max_inactive_connection_lifetime=300,
        reset=_leave_as_it_is,
        server_settings={
            "application_name": "slipway",
            "synchronous_commit": synchronous_commit,
            "idle_in_transaction_session_timeout": "60000",
            "lock_timeout": "20000",
            # Plans are made for the shape of the statement once; the hot ones are single-row look-ups by key.
            "plan_cache_mode": "force_generic_plan",
            # Lists are short pages in the order of an index. Not knowing how many rows there are, the planner would collect and
            # sort them all, as long as it takes a row elsewhere on the disk for dear.
            "random_page_cost": "1.1",
            "jit": "off",
        },
    )


async def _leave_as_it_is(_connection: object) -> None:
    """Spare each use of a connection the round trip that resets its session: nobody here changes a session's state.

    An open transaction is rolled back all the same, by asyncpg itself.
    """


async def _check_server(pool: asyncpg.Pool) -> None:
    version = await pool.fetchval("SELECT current_setting('server_version_num')::int")
    if version < 150_000:
        raise Misconfigured(f"PostgreSQL 15 or newer is needed; this server is {version // 10_000}")
    if await pool.fetchval("SELECT current_setting('fsync')") != "on":
        raise Misconfigured("this PostgreSQL runs with fsync=off: it would lose acknowledged pushes; set fsync=on")


@contextlib.contextmanager
def database_errors() -> Iterator[None]:
    """Turn "PostgreSQL is away" into Unavailable; let every other error through."""
    try:
        yield
    except CONNECTION_ERRORS as exc:
        raise Unavailable("the database is not reachable") from exc
