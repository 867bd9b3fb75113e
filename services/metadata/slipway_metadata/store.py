"""The image index in PostgreSQL, schema `metadata`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import asyncpg
from pydantic import TypeAdapter

from slipway_common.database.pool import database_errors
from slipway_common.database.queries import load_queries
from slipway_common.errors import NotFound
from slipway_common.oci.digests import Digest
from slipway_common.oci.names import Tag, is_digest
from slipway_metadata.domain.config import ConfigFacts, HistoryEntry
from slipway_metadata.domain.image import Layer
from slipway_metadata.domain.stored import Cursor, StoredChild, StoredImage, find_platform
from slipway_metadata.events import Changes, TagTarget

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Connection = asyncpg.Connection | PoolConnectionProxy

SQL = load_queries("slipway_metadata")

# How much of manifests and configs may stand behind one answer: some thousand images of the usual kind.
_PAGE_BYTES = 8 * 1024 * 1024
_TAGS_IN_LIST = 100
_TAGS_IN_DETAIL = 1000

_LAYERS = TypeAdapter(list[Layer])
_HISTORY = TypeAdapter(list[HistoryEntry])
_CHILDREN = TypeAdapter(list[StoredChild])
_CONFIG = TypeAdapter(ConfigFacts | None)
_ANNOTATIONS = TypeAdapter(dict[str, str])


class ImageStore:
    """What the API reads. Every method raises Unavailable when the database is away."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def list_images(
        self, repository_id: int, *, limit: int, after: Cursor
    ) -> tuple[list[StoredImage], Cursor | None]:
        """Return up to `limit` images, newest push first, and where the next page begins.

        A page may be shorter than `limit` before the end: its length in bytes is bounded too.
        """
        with database_errors():
            rows = await self._pool.fetch(
                SQL.find_page, repository_id, after.pushed_at, after.digest, limit + 1, _PAGE_BYTES
            )
            images = await self._load([row["id"] for row in rows[:limit]], tags=_TAGS_IN_LIST, whole=False)
        is_last = not rows or len(images) == rows[0]["available"]
        return images, None if is_last or not images else Cursor(images[-1].pushed_at, images[-1].digest)

    async def get_image(self, repository_id: int, reference: Tag | Digest) -> StoredImage:
        """Find one image by tag, digest or ImageId (of several with that config, the newest). Raises NotFound."""
        statement = SQL.find_by_digest if is_digest(reference) else SQL.find_by_tag
        with database_errors():
            image_id = await self._pool.fetchval(statement, repository_id, reference)
            images = [] if image_id is None else await self._load([image_id], tags=_TAGS_IN_DETAIL, whole=True)
        if not images:
            raise NotFound("no image of this repository has that tag, digest or ImageId", reference=reference)
        return images[0]

    async def load_children(self, repository_id: int, digest: str) -> dict[str, StoredImage]:
        """Return the indexed children of an index by digest, as many of the first as one answer may hold."""
        with database_errors():
            rows = await self._pool.fetch(SQL.find_children, repository_id, digest, _PAGE_BYTES)
            images = await self._load([row["id"] for row in rows], tags=0, whole=False)
        return {image.digest: image for image in images}

    async def _load(self, ids: list[int], *, tags: int, whole: bool) -> list[StoredImage]:
        return [_to_image(row, tags) for row in await self._pool.fetch(SQL.load_images, ids, tags + 1, whole)]


def _to_image(row: asyncpg.Record, tag_limit: int) -> StoredImage:
    return StoredImage(
        digest=row["digest"],
        kind=row["kind"],
        media_type=row["media_type"],
        artifact_type=row["artifact_type"],
        subject=row["subject"],
        image_id=row["image_id"],
        platform=find_platform(row["os"], row["architecture"], row["variant"]),
        created_at=row["created_at"],
        pushed_at=row["pushed_at"],
        pushed_by=row["pushed_by"],
        size_bytes=row["size_bytes"],
        tags=row["tags"][:tag_limit],
        more_tags=len(row["tags"]) > tag_limit,
        layers=_LAYERS.validate_json(row["layers"]),
        history=_HISTORY.validate_json(row["history"]),
        children=_CHILDREN.validate_json(row["children"]),
        config=_CONFIG.validate_json(row["config"] or "null"),
        annotations=_ANNOTATIONS.validate_json(row["annotations"]),
        problem=row["problem"],
    )


async def write_changes(
    connection: Connection, repository_id: int, name: str, changes: Changes, *, manifests: Iterable[str]
) -> None:
    """Apply the net effect of events of one repository, in the caller's transaction; twice is the same as once.

    `manifests` are JSON lists of described manifests, as Spool makes them, of what `changes.pushed` names.
    """
    await connection.execute(SQL.keep_repository, repository_id, name)
    moved_tags = [*changes.tags, *changes.deleted_tags]
    deleted = list(changes.deleted)
    touched = await connection.fetch(SQL.find_touched, repository_id, deleted, moved_tags)
    if deleted:
        await connection.execute(SQL.delete_manifests, repository_id, deleted)
        await connection.execute(SQL.delete_tags_of, repository_id, deleted)
    if changes.deleted_tags:
        await connection.execute(SQL.delete_tags, repository_id, list(changes.deleted_tags))
    await _set_tags(connection, repository_id, changes.tags)
    for chunk in manifests:
        await _write_manifests(connection, repository_id, chunk)
    digests = {row["digest"] for row in touched} | {target.digest for target in changes.tags.values()}
    if digests:
        await connection.execute(SQL.place, repository_id, list(digests), [])


async def replace_repository(
    connection: Connection, repository_id: int, name: str, tags: Mapping[str, TagTarget], *, manifests: Iterable[str]
) -> None:
    """Put the state of a snapshot in the place of all that is known of a repository, in the caller's transaction."""
    await connection.execute(SQL.keep_repository, repository_id, name)
    await connection.execute(SQL.clear_manifests, repository_id)
    await connection.execute(SQL.clear_tags, repository_id)
    await _set_tags(connection, repository_id, tags)
    for chunk in manifests:
        await _write_manifests(connection, repository_id, chunk)


async def forget_repository(connection: Connection, repository_id: int) -> None:
    """Drop a repository that the gateway does not have any more."""
    await connection.execute(SQL.delete_repository, repository_id)


async def list_repository_ids(pool: asyncpg.Pool) -> set[int]:
    """Return the repositories that the index knows of."""
    return {row["id"] for row in await pool.fetch(SQL.list_repositories)}


async def _set_tags(connection: Connection, repository_id: int, tags: Mapping[str, TagTarget]) -> None:
    if tags:
        digests = [target.digest for target in tags.values()]
        times = [target.updated_at for target in tags.values()]
        await connection.execute(SQL.set_tags, repository_id, list(tags), digests, times)


async def _write_manifests(connection: Connection, repository_id: int, chunk: str) -> None:
    rows = await connection.fetch(SQL.write_manifests, repository_id, chunk)
    await connection.execute(SQL.write_layers, repository_id, chunk)
    await connection.execute(SQL.write_children, repository_id, chunk)
    # The size of a tree is told by manifests alone, which never change: nothing to measure where all were known.
    await connection.execute(SQL.measure, repository_id, [row["id"] for row in rows if row["is_new"]])
    await connection.execute(SQL.place, repository_id, [], [row["id"] for row in rows])
