"""What happens by itself: idle uploads end, bytes that nothing names are deleted, old events go."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

import asyncpg
import structlog
from prometheus_client import Counter

from slipway_common.errors import Unavailable
from slipway_common.events.retention import trim
from slipway_common.launcher.background import background
from slipway_common.storage.port import ObjectStore
from slipway_gateway.credentials import Credentials
from slipway_gateway.idempotency import IdempotentAnswers
from slipway_gateway.identity import Authenticator
from slipway_gateway.refusals import Refusals
from slipway_gateway.sessions import LoginSessions
from slipway_gateway.store.audit import RefusalStore
from slipway_gateway.store.blobs import Reclaimable, ReclaimStore
from slipway_gateway.store.repositories import RepositoryStore
from slipway_gateway.store.throttle import FailureStore
from slipway_gateway.store.uploads import UploadStore

_log = structlog.get_logger()
_reclaimed = Counter("slipway_objects_reclaimed", "Objects deleted because nothing names them any more")
_reaped = Counter("slipway_uploads_reaped", "Upload sessions ended because nobody went on with them")
_BATCH = 500
_RETRY_AFTER = timedelta(minutes=1)
_HARD_AGE_FACTOR = 3
_FAILURES_KEPT = timedelta(hours=1)


class Maintenance:
    """Periodic work of a gateway. Any number of gateways may do it at once."""

    def __init__(
        self,
        *,
        uploads: UploadStore,
        reclaim: ReclaimStore,
        objects: ObjectStore,
        pool: asyncpg.Pool,
        upload_idle: timedelta,
        event_retention: timedelta,
    ) -> None:
        self._uploads = uploads
        self._reclaim = reclaim
        self._objects = objects
        self._pool = pool
        self._upload_idle = upload_idle
        self._event_retention = event_retention

    async def run(self) -> None:
        """Work until cancelled."""
        reap_every_s = min(60.0, self._upload_idle.total_seconds() / 4)
        async with asyncio.TaskGroup() as group:
            group.create_task(_repeat(self.reap_uploads, reap_every_s), name="reap-uploads")
            group.create_task(_repeat(self.reclaim_objects, 2.0), name="reclaim-objects")
            group.create_task(_repeat(self.trim_events, 3600.0), name="trim-events")

    async def reap_uploads(self) -> bool:
        """End some idle sessions; whether there may be more."""
        count = await self._uploads.reap(self._upload_idle, limit=_BATCH)
        if count:
            _reaped.inc(count)
            _log.info("uploads_reaped", count=count)
        return count == _BATCH

    async def reclaim_objects(self) -> bool:
        """Delete some objects of the reclaim list: the object first, its row when that is done."""
        items = await self._reclaim.take(_BATCH, retry_after=_RETRY_AFTER)
        if not items:
            return False
        await self._objects.delete([item.storage_key for item in items if not item.unfinished])
        done = [item.storage_key for item in items if not item.unfinished]
        for item in items:
            if item.unfinished and await self._abandon(item):
                done.append(item.storage_key)
        await self._reclaim.confirm(done)
        _reclaimed.inc(len(done))
        return len(items) == _BATCH

    async def _abandon(self, item: Reclaimable) -> bool:
        try:
            await self._objects.abandon(item.storage_key, item.state)
        except Exception as exc:
            # The row stays, and comes up again.
            _log.warning("object_not_reclaimed", key=item.storage_key, error=f"{type(exc).__name__}: {exc}")
            return False
        return True

    async def trim_events(self) -> bool:
        await trim(self._pool, older_than=self._event_retention, hard_age=self._event_retention * _HARD_AGE_FACTOR)
        return False


@dataclass(slots=True)
class Chores:
    """Small periodic work around logins: what was gathered is written down, what is over is deleted."""

    authenticator: Authenticator
    refusals: Refusals
    refusal_store: RefusalStore
    failures: FailureStore
    sessions: LoginSessions
    idempotency: IdempotentAnswers
    credentials: Credentials
    repositories: RepositoryStore
    refusal_retention: timedelta

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Work while the context is open; what was gathered is written down at the end as well."""
        async with background(self._run(), name="chores"):
            yield
        with contextlib.suppress(Unavailable):
            await self.refusals.flush()
            await self.authenticator.flush_used()

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(_repeat(self.refusals.flush, 5.0), name="write-refusals")
            group.create_task(_repeat(self.authenticator.flush_used, 30.0), name="write-uses")
            group.create_task(_repeat(self.tidy, 600.0), name="tidy")

    async def tidy(self) -> bool:
        await self.failures.trim(_FAILURES_KEPT)
        await self.sessions.trim()
        await self.idempotency.trim()
        await self.credentials.trim()
        await self.repositories.trim_aliases()
        await self.refusal_store.trim(self.refusal_retention)
        return False


async def _repeat(work: Callable[[], Awaitable[bool]], every_s: float) -> None:
    """Do `work` again and again: at once while it says there is more, else after a pause. It never ends by an error."""
    while True:
        try:
            more = await work()
        except Exception as exc:
            more = False
            _log.warning("maintenance_failed", work=work.__name__, error=f"{type(exc).__name__}: {exc}")
        if not more:
            await asyncio.sleep(every_s)
