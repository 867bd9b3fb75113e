"""Taking away tags, manifests and blobs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from slipway_common.database.pool import retried
from slipway_common.errors import Conflict, NotFound
from slipway_common.events.catalogue import ManifestDeleted, TagDeleted
from slipway_common.events.event import NewEvent, Origin, repository_stream
from slipway_common.events.log import EventLog
from slipway_common.oci.digests import Digest
from slipway_common.oci.names import Tag
from slipway_gateway.cache import ExactCache, manifest_key, tags_key
from slipway_gateway.store.blobs import BlobStore
from slipway_gateway.store.manifests import ManifestStore
from slipway_gateway.store.repositories import Repository


class ManifestUnknown(NotFound):
    """No such manifest or tag in this repository."""


class BlobUnknown(NotFound):
    """No such blob in this repository."""


class ManifestInUse(Conflict):
    """An index of the repository names this manifest."""


class Deletions:
    def __init__(
        self,
        manifests: ManifestStore,
        blobs: BlobStore,
        cache: ExactCache,
        log: EventLog,
        announce: Callable[[str], None],
    ) -> None:
        self._manifests = manifests
        self._blobs = blobs
        self._cache = cache
        self._log = log
        self._announce = announce

    async def delete_tag(self, repository: Repository, tag: Tag, *, origin: Origin) -> None:
        """Delete a tag; what it pointed to stays. Raises ManifestUnknown."""
        await asyncio.shield(self._delete_tag(repository, tag, origin))

    async def _delete_tag(self, repository: Repository, tag: Tag, origin: Origin) -> None:
        with self._cache.changing(manifest_key(repository.id, tag), tags_key(repository.id)):
            await retried(lambda: self._untag(repository, tag, origin))
        self._announce(repository_stream(repository.id))

    async def _untag(self, repository: Repository, tag: Tag, origin: Origin) -> None:
        async with self._manifests.transaction() as connection:
            digest = await self._manifests.delete_tag(connection, repository.id, tag, actor=origin.actor)
            if digest is None:
                raise ManifestUnknown("no such tag", tag=tag)
            event = NewEvent.of(
                TagDeleted(repository=repository.ref, tag=tag, digest=digest), subject=f"{repository.name}:{tag}"
            )
            await self._log.append(connection, repository_stream(repository.id), [event], origin)

    async def delete_manifest(self, repository: Repository, digest: Digest, *, origin: Origin) -> None:
        """Put a manifest into the trash, with its tags. Raises ManifestUnknown, ManifestInUse."""
        await asyncio.shield(self._delete_manifest(repository, digest, origin))

    async def _delete_manifest(self, repository: Repository, digest: Digest, origin: Origin) -> None:
        tags = await self._manifests.tags_of(repository.id, digest)
        keys = [manifest_key(repository.id, tag) for tag in tags]
        while True:
            with self._cache.changing(*keys, manifest_key(repository.id, digest), tags_key(repository.id)):
                expected = {key[2] for key in keys}
                moved = await retried(partial(self._trash, repository, digest, expected, origin))
            if moved is None:
                break
            # A tag came between: drop its answer first as well.
            keys = [manifest_key(repository.id, tag) for tag in moved]
        self._announce(repository_stream(repository.id))

    async def _trash(
        self, repository: Repository, digest: Digest, expected: set[str], origin: Origin
    ) -> list[Tag] | None:
        try:
            async with self._manifests.transaction() as connection:
                parents = await self._manifests.lock_and_read_uses(connection, repository.id, digest)
                if parents is None:
                    raise ManifestUnknown("no such manifest", digest=digest)
                if parents:
                    raise ManifestInUse("an index names this manifest: delete the index first", indexes=parents)
                tags = await self._manifests.trash(connection, repository.id, digest, actor=origin.actor)
                if not expected.issuperset(tags):
                    raise _TagsMoved(tags)
                event = NewEvent.of(
                    ManifestDeleted(repository=repository.ref, digest=digest, tags=tags),
                    subject=f"{repository.name}@{digest}",
                )
                await self._log.append(connection, repository_stream(repository.id), [event], origin)
        except _TagsMoved as moved:
            return moved.tags
        return None

    async def delete_blob(self, repository: Repository, digest: Digest) -> None:
        """Take a blob out of the repository. Raises BlobUnknown, BlobInUse."""
        if not await asyncio.shield(self._blobs.unlink(repository.id, digest)):
            raise BlobUnknown("no such blob", digest=digest)


class _TagsMoved(Exception):
    """The manifest has tags that were not known before its lock was held; the transaction is undone."""

    def __init__(self, tags: list[Tag]) -> None:
        super().__init__()
        self.tags = tags
