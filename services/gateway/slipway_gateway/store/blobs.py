"""Rows of blobs, of their links to repositories, and of the keys to reclaim."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import asyncpg
import orjson

from slipway_common.database.pool import Connection, Database, database_errors, retried
from slipway_common.database.queries import load_queries
from slipway_common.errors import Conflict
from slipway_common.oci.digests import Digest
from slipway_common.storage.port import WriterState
from slipway_gateway.cache import ExactCache, blob_key

_sql = load_queries("slipway_gateway")

# A blob of at most this size is a row: configs and manifests' small neighbours are, and few layers (docs/adr/0013).
ROW_BLOB_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class Blob:
    """A blob as one repository has it: its bytes themselves, or the key of the object that has them (else empty)."""

    size_bytes: int
    storage_key: str
    created_at: datetime
    content: bytes | None

    @property
    def weight_bytes(self) -> int:
        """What remembering it takes."""
        return len(self.content or b"")


@dataclass(frozen=True, slots=True)
class Reclaimable:
    """A storage key to delete; `unfinished` if an upload left it."""

    storage_key: str
    unfinished: bool
    state: WriterState | None


class BlobInUse(Conflict):
    """A living manifest of the repository needs this blob."""


class BlobStore:
    def __init__(self, database: Database, cache: ExactCache, *, lease: timedelta) -> None:
        self._pool = database.pool
        self._cache = cache
        self._lease = lease

    async def find(self, repository_id: int, digest: Digest) -> Blob | None:
        with database_errors():
            row = await self._pool.fetchrow(_sql.find_blob, repository_id, digest)
        return Blob(**row) if row else None

    async def find_contents(self, repository_id: int, digests: Sequence[Digest]) -> dict[Digest, bytes]:
        """The bytes of those of the blobs that are rows."""
        with database_errors():
            rows = await self._pool.fetch(_sql.find_contents, repository_id, digests)
        return {row["digest"]: row["content"] for row in rows}

    async def renew_lease(self, repository_id: int, digest: Digest) -> None:
        """Give a pusher who was told that the blob is there the time to use it."""
        with database_errors():
            await self._pool.execute(_sql.renew_blob_lease, repository_id, digest, self._lease)

    async def renew_manifest_lease(self, repository_id: int, digest: Digest) -> None:
        with database_errors():
            await self._pool.execute(_sql.renew_manifest_lease, repository_id, digest, self._lease)

    async def mount(self, repository_id: int, *, source_id: int, digest: Digest) -> bool:
        """Link a blob of another repository; False if it is not (or no longer) there."""
        with database_errors():
            try:
                row = await self._pool.fetchrow(_sql.mount_blob, repository_id, source_id, digest, self._lease)
            except asyncpg.ForeignKeyViolationError:
                return False  # collected while we looked
        return row is not None

    async def find_mountable(
        self,
        digest: Digest,
        *,
        principal_id: int | None,
        all_repositories: bool,
        within: Sequence[str] | None,
        among: Sequence[str] | None,
    ) -> int | None:
        """The id of a repository with this blob that the caller may read.

        `within` are the patterns that a credential is bounded to, `among` the names that a token covers; None: all.
        """
        with database_errors():
            found: int | None = await self._pool.fetchval(
                _sql.find_mountable, digest, principal_id, all_repositories, within, among
            )
        return found

    async def unlink(self, repository_id: int, digest: Digest) -> bool:
        """Take the blob out of the repository; False if it is not there.

        A living manifest that needs it: BlobInUse. One in the trash: the link is only hidden. None: the link goes, and with
        the last link anywhere the blob; the key of its object, if it has one, joins the reclaim list.
        """
        with database_errors(), self._cache.changing(blob_key(repository_id, digest)):
            return await retried(lambda: self._unlink_once(repository_id, digest))

    async def _unlink_once(self, repository_id: int, digest: Digest) -> bool:
        async with self._pool.acquire() as connection, connection.transaction():
            await self._cache.guard(connection)
            return await self._unlink(connection, repository_id, digest)

    async def _unlink(self, connection: Connection, repository_id: int, digest: Digest) -> bool:
        if await connection.fetchval(_sql.lock_link, repository_id, digest) is None:
            return False
        [edges] = await connection.fetch(_sql.count_edges, repository_id, digest)
        if edges["living"]:
            raise BlobInUse("a manifest of this repository needs the blob: delete the manifest first", digest=digest)
        if edges["all"]:
            await connection.execute(_sql.hide_link, repository_id, digest)
            return True
        await connection.execute(_sql.delete_link, repository_id, digest)
        await connection.fetchval(_sql.lock_blob, digest)
        await connection.execute(_sql.delete_unlinked_blob, digest)
        return True


class ReclaimStore:
    """The list of storage keys that nothing names any more."""

    def __init__(self, database: Database) -> None:
        self._pool = database.pool

    async def take(self, limit: int, *, retry_after: timedelta) -> list[Reclaimable]:
        """Take keys to delete. Those not confirmed by `confirm` come up again after `retry_after`."""
        with database_errors():
            async with self._pool.acquire() as connection, connection.transaction():
                rows = await connection.fetch(_sql.take_reclaimable, limit)
                await connection.execute(_sql.postpone_reclaimable, [row["storage_key"] for row in rows], retry_after)
        return [Reclaimable(row["storage_key"], row["unfinished"], read_state(row["writer_state"])) for row in rows]

    async def confirm(self, keys: list[str]) -> None:
        with database_errors():
            await self._pool.execute(_sql.delete_reclaimed, keys)


def read_state(text: str | None) -> WriterState | None:
    return WriterState.from_json(orjson.loads(text)) if text else None


def write_state(state: WriterState | None) -> str | None:
    return orjson.dumps(state.to_json()).decode() if state is not None else None
