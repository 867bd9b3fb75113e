"""What this process remembers of the database: exactly, or not at all.

Answers that can change (where a tag points, whether a blob is linked here) are remembered only while this is the one gateway
process on the database; every change then goes through this process, which drops what it touches before COMMIT is sent and
again when the outcome is known. Content by digest never changes and is remembered freely.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterator
from datetime import datetime, timedelta
from typing import Any, TypeVar

import asyncpg
import structlog
from prometheus_client import Counter, Gauge

from slipway_common.database.pool import CONNECTION_ERRORS, Connection
from slipway_common.errors import Unavailable
from slipway_common.oci.digests import Digest
from slipway_common.oci.names import Tag, is_digest

_log = structlog.get_logger()
T = TypeVar("T")

# Any number that only gateways use, on the database they share.
_SOLO_LOCK = 7_305_519_204_117_032
_CHECK_EVERY_S = 1.0
# By then a gateway whose connection ended has seen that, and begins no change without the guard.
_NOTICED_AFTER = timedelta(seconds=0.5)
# What an answer takes beside the `weight_bytes` it may have: key, object, entries in two tables.
_ANSWER_BYTES = 600
# A COMMIT whose answer was lost is carried out or undone by then: the server ends idle transactions after 60 s.
OUTCOME_KNOWN_AFTER_S = 90.0
_OUTCOME_UNKNOWN: tuple[type[BaseException], ...] = (Unavailable, *CONNECTION_ERRORS)

_exact = Gauge("slipway_cache_exact", "1 while answers are served from memory, 0 while the database is asked each time")
_lookups = Counter("slipway_cache_lookups", "Look-ups of changeable answers", ["result"])
_hits = _lookups.labels("hit")
_misses = _lookups.labels("miss")


# The keys under which answers are remembered, and dropped by whoever changes them.


def manifest_key(repository_id: int, reference: Tag | Digest) -> tuple[str, int, str]:
    return ("manifest" if is_digest(reference) else "tag", repository_id, reference)


def tags_key(repository_id: int) -> tuple[str, int]:
    return ("tags", repository_id)


def blob_key(repository_id: int, digest: Digest) -> tuple[str, int, str]:
    return ("blob", repository_id, digest)


class ExactCache:
    """Changeable answers, by key. Only positive ones are kept, so that additions need to drop nothing but lists."""

    def __init__(self, *, max_bytes: int = 64 * 1024 * 1024) -> None:
        self._answers: OrderedDict[Hashable, Any] = OrderedDict()
        self._weights: dict[Hashable, int] = {}
        self._max_bytes = max_bytes
        self._used_bytes = 0
        self._changing: dict[Hashable, int] = {}
        self._alone = False
        self._enabled = False
        # Raised by every change: an answer read before it must not be stored after it.
        self._generation = 0

    @property
    def enabled(self) -> bool:
        return self._enabled

    def claim(self) -> None:
        """No other process remembers anything, nor will while this lasts: changes here need no guard."""
        self._alone = True

    def enable(self) -> None:
        """Remember answers: all that changes them is done by this process."""
        self._alone = self._enabled = True
        _exact.set(1)

    def disable(self) -> None:
        """Forget everything, and remember nothing until enabled again."""
        self._alone = self._enabled = False
        self._generation += 1
        self._answers.clear()
        self._weights.clear()
        self._used_bytes = 0
        _exact.set(0)

    def find(self, key: Hashable) -> Any:
        """The remembered answer, or None."""
        answer = self._answers.get(key)
        if answer is None:
            _misses.inc()
        else:
            _hits.inc()
        return answer

    def holds(self, key: Hashable, answer: object) -> bool:
        """Whether `answer` is still what is remembered under `key`: this very object."""
        return self._answers.get(key) is answer

    async def fill(self, key: Hashable, load: Callable[[], Awaitable[T | None]]) -> T | None:
        """What `load` reads from the database, remembered if nothing has changed meanwhile."""
        generation = self._generation
        loaded = await load()
        if loaded is not None and self._enabled and generation == self._generation and key not in self._changing:
            self._keep(key, loaded)
        return loaded

    def _keep(self, key: Hashable, answer: object) -> None:
        self._remove(key)
        self._answers[key] = answer
        self._weights[key] = weight = _ANSWER_BYTES + getattr(answer, "weight_bytes", 0)
        self._used_bytes += weight
        while self._used_bytes > self._max_bytes:
            self._remove(next(iter(self._answers)))

    def _remove(self, key: Hashable) -> None:
        if self._answers.pop(key, None) is not None:
            self._used_bytes -= self._weights.pop(key)

    @property
    def guard_key(self) -> int | None:
        """The advisory lock that a transaction which changes answers must share; None while this process alone has any."""
        return None if self._alone else _SOLO_LOCK

    async def guard(self, connection: Connection) -> None:
        """In a transaction that changes answers: wait until no other process remembers any."""
        if (key := self.guard_key) is not None:
            await connection.execute("SELECT pg_advisory_xact_lock_shared($1)", key)

    @contextlib.contextmanager
    def changing(self, *keys: Hashable) -> Iterator[None]:
        """Open around a transaction that changes the answers to `keys`, from before its COMMIT until its outcome is known."""
        self._begin(keys)
        try:
            yield
        except _OUTCOME_UNKNOWN:
            asyncio.get_running_loop().call_later(OUTCOME_KNOWN_AFTER_S, self._end, keys)
            raise
        except BaseException:
            self._end(keys)
            raise
        self._end(keys)

    def _begin(self, keys: tuple[Hashable, ...]) -> None:
        for key in keys:
            self._changing[key] = self._changing.get(key, 0) + 1
        self._drop(keys)

    def _end(self, keys: tuple[Hashable, ...]) -> None:
        self._drop(keys)
        for key in keys:
            left = self._changing[key] - 1
            if left:
                self._changing[key] = left
            else:
                del self._changing[key]

    def _drop(self, keys: tuple[Hashable, ...]) -> None:
        self._generation += 1
        for key in keys:
            self._remove(key)


class ContentCache:
    """Bytes by digest, least recently used ones dropped: manifests' neighbours such as configs and small layers."""

    def __init__(self, *, max_bytes: int, max_item_bytes: int) -> None:
        self.max_item_bytes = max_item_bytes
        self._max_bytes = max_bytes
        self._used_bytes = 0
        self._items: OrderedDict[str, bytes] = OrderedDict()

    def find(self, key: str) -> bytes | None:
        content = self._items.get(key)
        if content is not None:
            self._items.move_to_end(key)
        return content

    def put(self, key: str, content: bytes) -> None:
        if len(content) > self.max_item_bytes or key in self._items:
            return
        self._items[key] = content
        self._used_bytes += len(content)
        while self._used_bytes > self._max_bytes:
            _, dropped = self._items.popitem(last=False)
            self._used_bytes -= len(dropped)


@contextlib.asynccontextmanager
async def solo_watch(dsn: str, cache: ExactCache, *, wanted: bool) -> AsyncIterator[None]:
    """Enable `cache` while no other gateway process uses this database.

    Every gateway holds the lock shared for as long as it serves, and tries for it exclusively each second. Who has it
    exclusively and sees another waiting forgets its answers first and lets go then, so the newcomer, who waits for its
    shared lock here before it serves anything, never changes what somebody else remembers. Who gets it after another one
    lost it, connection and all, waits for a second look: by then that one has noticed, and its last changes are over.
    """
    watch = _SoloWatch(dsn, cache, wanted=wanted)
    await watch.join()
    await watch.look()
    # Nothing was served yet: whatever others still do, the first reader here sees it.
    await watch.look(noticed_after=timedelta(0))
    task = asyncio.create_task(watch.run(), name="solo-watch")
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        cache.disable()
        watch.leave()


class _SoloWatch:
    def __init__(self, dsn: str, cache: ExactCache, *, wanted: bool) -> None:
        self._dsn = dsn
        self._cache = cache
        self._wanted = wanted
        self._connection: asyncpg.Connection | None = None
        # When the lock became ours alone, by the database's clock; None while others share it.
        self._alone_since: datetime | None = None

    async def join(self) -> None:
        """Share the lock; whoever has it alone lets go within about a second."""
        connection = await asyncpg.connect(self._dsn, timeout=10, server_settings={"application_name": "slipway solo"})
        try:
            connection.add_termination_listener(self._lost)
            await connection.execute("SELECT pg_advisory_lock_shared($1)", _SOLO_LOCK, timeout=30)
        except BaseException:
            connection.terminate()
            raise
        self._connection = connection

    def leave(self) -> None:
        self._forget()
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    def _lost(self, connection: object) -> None:
        if connection is self._connection:
            self._forget()
            self._connection = None

    def _forget(self) -> None:
        self._cache.disable()
        self._alone_since = None

    async def run(self) -> None:
        while True:
            await asyncio.sleep(_CHECK_EVERY_S)
            try:
                if self._connection is None:
                    await self.join()
                async with asyncio.timeout(_CHECK_EVERY_S):
                    await self.look()
            except Exception as exc:
                # Without an answer in time nothing is known of others: forget, and begin anew.
                _log.warning("solo_check_failed", error=f"{type(exc).__name__}: {exc}")
                self.leave()

    async def look(self, *, noticed_after: timedelta = _NOTICED_AFTER) -> None:
        """Let go for who waits, else come a step closer to answering from memory."""
        connection = self._connection
        if connection is None or not self._wanted:
            return
        if self._alone_since is None:
            # First: a change that begins with the guard from here on would wait for ourselves. While we share the lock
            # nobody else has it alone.
            self._cache.claim()
            self._alone_since = await connection.fetchval(_TRY_ALONE, _SOLO_LOCK)
            if self._alone_since is None:
                self._forget()
        elif await connection.fetchval(_OTHERS_WAIT, _SOLO_LOCK >> 32, _SOLO_LOCK & 0xFFFFFFFF):
            self._forget()
            await connection.execute("SELECT pg_advisory_unlock($1)", _SOLO_LOCK)
        elif not self._cache.enabled and not await connection.fetchval(_OLDER_WORK, self._alone_since, noticed_after):
            self._cache.enable()


_OTHERS_WAIT = """
SELECT EXISTS (
    SELECT FROM pg_locks
    WHERE locktype = 'advisory' AND NOT granted AND classid = $1::bigint::oid AND objid = $2::bigint::oid AND objsubid = 1
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
)
"""

_TRY_ALONE = "SELECT clock_timestamp() WHERE pg_try_advisory_lock($1)"

# Transactions that may have begun when somebody else had the lock alone; or it is too early to tell.
_OLDER_WORK = """
SELECT clock_timestamp() < $1::timestamptz + $2::interval OR EXISTS (
    SELECT FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name = 'slipway'
      AND xact_start < $1::timestamptz + $2::interval
)
"""
