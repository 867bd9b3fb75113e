"""Rows of upload sessions: their whole state, so that any process may go on with one."""

from __future__ import annotations

import secrets
import time
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta

import asyncpg

from slipway_common.database.pool import RETRYABLE_ERRORS, Database, database_errors
from slipway_common.database.queries import load_queries
from slipway_common.errors import Conflict, Unavailable
from slipway_common.oci.digests import Digest
from slipway_common.storage.port import WriterState
from slipway_gateway.store.blobs import read_state, write_state

_sql = load_queries("slipway_gateway")
_COMMIT_TRIES = 5


@dataclass(frozen=True, slots=True)
class UploadSession:
    """What is committed of an upload. `digest_so_far` is None when nobody has hashed all of it in one go.

    `content`: all of it, while it is small.
    """

    id: uuid.UUID
    storage_key: str
    algorithm: str
    offset_bytes: int
    digest_so_far: Digest | None
    state: WriterState | None
    content: bytes | None
    created_at: datetime

    @property
    def held(self) -> bytes | None:
        """All that has come, if nothing that counts is in storage."""
        return self.content if self.content is not None or self.offset_bytes else b""


class LeaseLost(Conflict):
    """Another writer has taken over the session."""


class UploadStore:
    """Sessions belong to a repository and a principal; nobody else finds them."""

    def __init__(self, database: Database, *, blob_lease: timedelta, writer_lease: timedelta) -> None:
        self._pool = database.pool
        # A session that a crash of PostgreSQL forgets was never acknowledged as an image: the client begins again.
        self._relaxed = database.relaxed
        self._blob_lease = blob_lease
        self._writer_lease = writer_lease

    async def open(
        self,
        repository_id: int,
        principal: str,
        *,
        algorithm: str,
        lease_token: uuid.UUID | None = None,
        token_id: str | None = None,
    ) -> UploadSession:
        """Begin a session; with a lease token the caller is its writer already. `token_id`: the bearer token's."""
        upload_id = new_upload_id()
        key = storage_key_of(upload_id)
        with database_errors():
            await self._relaxed.execute(
                _sql.insert_upload, upload_id, repository_id, principal, key, algorithm, lease_token, self._writer_lease,
                token_id,
            )  # fmt: skip
        return UploadSession(upload_id, key, algorithm, 0, None, None, None, datetime.now().astimezone())

    async def find(self, upload_id: uuid.UUID, repository_id: int, principal: str) -> UploadSession | None:
        with database_errors():
            row = await self._pool.fetchrow(_sql.find_upload, upload_id, repository_id, principal)
        return _session(row) if row else None

    async def was_opened_by(self, upload_id: uuid.UUID, principal: str, token_id: str, *, max_age: timedelta) -> bool:
        """Whether this very token opened the session, not longer ago than `max_age`."""
        with database_errors():
            found = await self._pool.fetchval(_sql.find_upload_by_token, upload_id, principal, token_id, max_age)
        return found is not None

    async def lease(
        self, upload_id: uuid.UUID, repository_id: int, principal: str, token: uuid.UUID
    ) -> UploadSession | None:
        """Become the session's writer; None if it is not there or another one is writing."""
        with database_errors():
            row = await self._relaxed.fetchrow(
                _sql.lease_upload, upload_id, repository_id, principal, token, self._writer_lease
            )
        return _session(row) if row else None

    async def renew(self, upload_id: uuid.UUID, token: uuid.UUID) -> None:
        """Keep the lease while bytes arrive. Raises LeaseLost."""
        with database_errors():
            row = await self._relaxed.fetchrow(_sql.renew_upload_lease, upload_id, token, self._writer_lease)
        if row is None:
            raise LeaseLost("another request is writing to this upload")

    async def release(self, upload_id: uuid.UUID, token: uuid.UUID) -> None:
        """Let the next writer in at once, with what was committed before."""
        with database_errors():
            await self._relaxed.execute(_sql.release_upload, upload_id, token)

    async def advance(
        self,
        upload_id: uuid.UUID,
        token: uuid.UUID,
        *,
        offset_bytes: int,
        digest_so_far: Digest | None,
        state: WriterState | None,
        content: bytes | None,
    ) -> None:
        """Commit how far the session has come, and let go of it. Raises LeaseLost.

        `content`: all of it, if this writer has not opened the object.
        """
        with database_errors():
            row = await self._pool.fetchrow(
                _sql.advance_upload, upload_id, token, offset_bytes, digest_so_far, write_state(state), content
            )
        if row is None:
            raise LeaseLost("another request is writing to this upload")

    async def commit_blob(
        self,
        upload_id: uuid.UUID,
        repository_id: int,
        principal: str,
        *,
        token: uuid.UUID | None,
        digest: Digest,
        size_bytes: int,
    ) -> bool | None:
        """Turn the session into a blob linked to its repository; True if its bytes are the ones kept.

        None if the session is not the caller's to commit: another writer has it, or (without `token`) it is not a fresh one.
        """
        row = await self._commit(
            _sql.commit_blob, upload_id, token, digest, size_bytes, self._blob_lease, repository_id, principal
        )
        return bool(row["first"]) if row["owned"] else None

    async def commit_small(
        self,
        upload_id: uuid.UUID,
        repository_id: int,
        principal: str,
        *,
        token: uuid.UUID | None,
        digest: Digest,
        content: bytes | None,
    ) -> bool | None:
        """As `commit_blob`, for a blob that becomes a row. `content`: its bytes; None: the session has them.

        Without `token`: None also if the session does not have them, or not exactly the bytes of this digest.
        """
        row = await self._commit(
            _sql.commit_small_blob, upload_id, token, digest, content, self._blob_lease, repository_id, principal
        )
        return bool(row["first"]) if row["owned"] else None

    async def put_small(self, repository_id: int, *, digest: Digest, content: bytes) -> bool:
        """Make a blob that becomes a row, without a session; True if these bytes are the ones kept."""
        row = await self._commit(
            _sql.commit_small_blob, None, None, digest, content, self._blob_lease, repository_id, ""
        )
        return bool(row["first"])

    async def _commit(self, statement: str, *arguments: object) -> asyncpg.Record:
        """A blob that is collected at this very moment makes the statement fail and run again."""
        with database_errors():
            for _ in range(_COMMIT_TRIES):
                try:
                    [row] = await self._pool.fetch(statement, *arguments)
                except RETRYABLE_ERRORS:
                    continue
                return row
        raise Unavailable("the blob could not be committed, because others change it at the same time")

    async def end(
        self, upload_id: uuid.UUID, repository_id: int, principal: str, token: uuid.UUID | None = None
    ) -> bool:
        """Give the session up; what it stored will be deleted. False if it is not there, or being written."""
        with database_errors():
            return await self._pool.fetchval(_sql.end_upload, upload_id, repository_id, principal, token) is not None

    async def reap(self, idle: timedelta, *, limit: int) -> int:
        """End sessions that nobody has touched for `idle`; the number of them."""
        with database_errors():
            return int(await self._pool.fetchval(_sql.reap_uploads, idle, limit))


def new_upload_id() -> uuid.UUID:
    """A UUID of version 7 (RFC 9562): milliseconds since 1970, then 74 random bits."""
    stamp = time.time_ns() // 1_000_000
    return uuid.UUID(int=stamp << 80 | 0x7 << 76 | secrets.randbits(12) << 64 | 0x2 << 62 | secrets.randbits(62))


def storage_key_of(upload_id: uuid.UUID) -> str:
    """Where a session's bytes go: an opaque key, never used twice.

    The folder, one of 256, comes from the id's time and changes every 16 s: objects spread evenly, yet what is uploaded at the
    same moment shares a folder, and with it the work of making the folder's entries durable.
    """
    return f"blobs/{upload_id.int >> 94 & 0xFF:02x}/{upload_id.hex}"


def _session(row: asyncpg.Record) -> UploadSession:
    return UploadSession(
        id=row["id"],
        storage_key=row["storage_key"],
        algorithm=row["algorithm"],
        offset_bytes=row["offset_bytes"],
        digest_so_far=row["digest_so_far"],
        state=read_state(row["writer_state"]),
        content=row["content"],
        created_at=row["created_at"],
    )
