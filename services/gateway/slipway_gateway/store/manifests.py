"""Rows of manifests, their edges, tags and history; and the push transaction."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import asyncpg
import orjson

from slipway_common.database.pool import Connection, Database, database_errors
from slipway_common.database.queries import load_queries
from slipway_common.oci.digests import Digest
from slipway_common.oci.manifests import Manifest, Platform
from slipway_common.oci.names import Tag
from slipway_gateway.cache import ExactCache

_sql = load_queries("slipway_gateway")


@dataclass(frozen=True, slots=True)
class StoredManifest:
    """A manifest as it is served: bytes exactly as pushed."""

    digest: Digest
    media_type: str
    body: bytes
    subject_digest: Digest | None

    @property
    def weight_bytes(self) -> int:
        """What remembering it takes."""
        return len(self.body)


@dataclass(frozen=True, slots=True)
class Child:
    """What an index needs to know of a manifest it names."""

    digest: Digest
    image_id: Digest | None
    size_bytes: int
    tree_size_bytes: int
    platform: Platform | None


@dataclass(frozen=True, slots=True)
class NewManifest:
    """All that is stored of a manifest. `blobs` and `children` are what it needs, each with the size it claims."""

    digest: Digest
    manifest: Manifest
    body: bytes
    tree_size_bytes: int
    platform: Platform | None
    blobs: Sequence[tuple[Digest, int]]
    children: Sequence[tuple[Digest, int]]
    tags: Sequence[Tag] = field(default_factory=tuple)
    actor: str | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a manifest was not stored: the repository is gone, or content is missing, or not of the size claimed."""

    repository_gone: bool
    missing: Sequence[Digest]
    actual_sizes: dict[Digest, int]


@dataclass(frozen=True, slots=True)
class Referrer:
    digest: Digest
    media_type: str
    artifact_type: str | None
    size_bytes: int
    annotations: dict[str, str]


class ManifestStore:
    def __init__(self, database: Database, cache: ExactCache, *, lease: timedelta) -> None:
        self._pool = database.pool
        self._cache = cache
        self._lease = lease

    async def find_by_digest(self, repository_id: int, digest: Digest) -> StoredManifest | None:
        with database_errors():
            row = await self._pool.fetchrow(_sql.find_manifest_by_digest, repository_id, digest)
        return StoredManifest(**row) if row else None

    async def find_by_tag(self, repository_id: int, tag: Tag) -> StoredManifest | None:
        with database_errors():
            row = await self._pool.fetchrow(_sql.find_manifest_by_tag, repository_id, tag)
        return StoredManifest(**row) if row else None

    async def find_small(
        self, repository_id: int, digests: Sequence[str], *, max_bytes: int
    ) -> list[tuple[StoredManifest, Digest | None]]:
        """Those of the manifests that are here and have at most `max_bytes`, each with its ImageId."""
        with database_errors():
            rows = await self._pool.fetch(_sql.find_small_manifests, repository_id, digests, max_bytes)
        return [(StoredManifest(row["digest"], row["media_type"], row["body"], None), row["image_id"]) for row in rows]

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A transaction that changes what others may remember."""
        with database_errors():
            async with self._pool.acquire() as connection, connection.transaction():
                await self._cache.guard(connection)
                yield connection

    async def read_children(self, repository_id: int, digests: Sequence[Digest]) -> dict[Digest, Child]:
        """Which of `digests` are manifests of the repository, and what an index needs to know of them."""
        with database_errors():
            rows = await self._pool.fetch(_sql.read_children, repository_id, digests)
        return {row["digest"]: _child(row) for row in rows}

    async def push(self, repository_id: int, new: NewManifest, events: tuple[Any, ...]) -> Refusal | None:
        """Store a manifest (or revive it), its edges and tags, and the events that tell of it; or say why not.

        One transaction, durable when this returns. `events` are the arguments of log.append; into the last of them goes what
        the tags pointed to before. Raises RETRYABLE_ERRORS when others got in the way.
        """
        manifest, platform = new.manifest, new.platform
        with database_errors():
            async with self._pool.acquire() as connection:
                rows = await connection.fetch(
                    _sql.push_manifest,
                    self._cache.guard_key,  # as of now, not of when we began to wait for a connection
                    repository_id,
                    new.digest,
                    manifest.media_type,
                    manifest.effective_artifact_type,
                    manifest.image_id,
                    manifest.subject.digest if manifest.subject else None,
                    new.tree_size_bytes,
                    platform.os if platform else None,
                    platform.architecture if platform else None,
                    platform.variant if platform else None,
                    new.body,
                    orjson.dumps(manifest.annotations).decode() if manifest.annotations else None,
                    self._lease,
                    new.actor,
                    [digest for digest, _ in new.blobs],
                    [size for _, size in new.blobs],
                    [digest for digest, _ in new.children],
                    [size for _, size in new.children],
                    new.tags,
                    *events,
                )
        return _refusal(rows)

    async def lock_and_read_uses(
        self, connection: Connection, repository_id: int, digest: Digest
    ) -> list[Digest] | None:
        """Lock a manifest for deletion; the living indexes that name it. None if it is not there."""
        await connection.fetchval(_sql.lock_repository_shared, repository_id)
        await connection.fetchval(_sql.lock_manifest, repository_id, digest)
        row = await connection.fetchrow(_sql.read_manifest_uses, repository_id, digest)
        return row["parents"] if row else None

    async def trash(
        self, connection: Connection, repository_id: int, digest: Digest, *, actor: str | None
    ) -> list[Tag]:
        """Put a manifest into the trash; the tags that went with it."""
        tags = [row["name"] for row in await connection.fetch(_sql.delete_tags_of, repository_id, digest, actor)]
        await connection.execute(_sql.trash_manifest, repository_id, digest)
        return tags

    async def delete_tag(
        self, connection: Connection, repository_id: int, tag: Tag, *, actor: str | None
    ) -> Digest | None:
        """Delete a tag; what it pointed to, None if it is not there."""
        await connection.fetchval(_sql.lock_repository_shared, repository_id)
        return await connection.fetchval(_sql.delete_tag, repository_id, tag, actor)  # type: ignore[no-any-return]

    async def tags_of(self, repository_id: int, digest: Digest) -> list[Tag]:
        with database_errors():
            rows = await self._pool.fetch(_sql.tags_of, repository_id, digest)
        return [row["name"] for row in rows]

    async def list_referrers(
        self, repository_id: int, subject: Digest, *, artifact_type: str | None, after: str, limit: int, max_bytes: int
    ) -> tuple[list[Referrer], bool]:
        """Living manifests whose subject is `subject`, by digest, until they weigh `max_bytes`; and whether there are more."""
        with database_errors():
            rows = await self._pool.fetch(
                _sql.list_referrers, repository_id, subject, after, artifact_type, limit + 1, max_bytes
            )
        more = bool(rows) and rows[0]["found"] > min(len(rows), limit)
        return [
            Referrer(
                digest=row["digest"],
                media_type=row["media_type"],
                artifact_type=row["artifact_type"],
                size_bytes=row["size_bytes"],
                annotations=orjson.loads(row["annotations"]) if row["annotations"] else {},
            )
            for row in rows[:limit]
        ], more

    async def snapshot_page(
        self, repository_id: int, *, after: str, limit: int
    ) -> tuple[list[asyncpg.Record], list[asyncpg.Record]]:
        """One page of living manifests by digest, and (on the first page) all tags, as of one moment."""
        with database_errors():
            async with self._pool.acquire() as connection, connection.transaction(isolation="repeatable_read"):
                manifests = await connection.fetch(_sql.snapshot_manifests, repository_id, after, limit)
                tags = await connection.fetch(_sql.snapshot_tags, repository_id) if not after else []
        return manifests, tags


def _child(row: asyncpg.Record) -> Child:
    platform = Platform(row["os"], row["architecture"] or "", row["variant"]) if row["os"] else None
    return Child(row["digest"], row["image_id"], row["size_bytes"], row["tree_size_bytes"], platform)


def _refusal(rows: list[asyncpg.Record]) -> Refusal | None:
    if all(row["kind"] == "tag" for row in rows):
        return None
    return Refusal(
        repository_gone=any(row["kind"] == "gone" for row in rows),
        missing=list(dict.fromkeys(row["name"] for row in rows if row["kind"] == "missing")),
        actual_sizes={row["name"]: int(row["detail"]) for row in rows if row["kind"] == "size"},
    )
