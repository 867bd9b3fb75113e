"""The hot path: manifests and blobs, from memory where that is exact, else by one query."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import structlog

from slipway_common.oci.digests import Digest, algorithm_of, digest_of
from slipway_common.oci.names import Tag, is_digest
from slipway_common.storage.port import ObjectStore
from slipway_gateway.cache import ContentCache, ExactCache, blob_key, manifest_key, tags_key
from slipway_gateway.store.blobs import Blob, BlobStore
from slipway_gateway.store.manifests import ManifestStore, StoredManifest
from slipway_gateway.store.repositories import Repository, RepositoryStore

_log = structlog.get_logger()


class Reads:
    def __init__(
        self,
        *,
        repositories: RepositoryStore,
        manifests: ManifestStore,
        blobs: BlobStore,
        objects: ObjectStore,
        cache: ExactCache,
        content: ContentCache,
    ) -> None:
        self._repositories = repositories
        self._manifests = manifests
        self._blobs = blobs
        self._objects = objects
        self._cache = cache
        self._content = content

    async def manifest(self, repository_id: int, reference: Tag | Digest) -> StoredManifest | None:
        """A living manifest by tag or digest."""
        key = manifest_key(repository_id, reference)
        found: StoredManifest | None = self._cache.find(key)
        return found or await self._cache.fill(key, lambda: self._find_manifest(repository_id, reference))

    async def _find_manifest(self, repository_id: int, reference: Tag | Digest) -> StoredManifest | None:
        """Read a manifest and check that its bytes are what its digest says."""
        stored = await (
            self._manifests.find_by_digest(repository_id, Digest(reference))
            if is_digest(reference)
            else self._manifests.find_by_tag(repository_id, Tag(reference))
        )
        if stored is not None and digest_of(stored.body, algorithm_of(stored.digest)) != stored.digest:
            _log.error("manifest_damaged", repository=repository_id, digest=stored.digest)
            return None
        return stored

    async def blob(self, repository_id: int, digest: Digest) -> Blob | None:
        """A blob, or where its bytes are, if the repository has it."""
        key = blob_key(repository_id, digest)
        found: Blob | None = self._cache.find(key)
        return found or await self._cache.fill(key, lambda: self._find_blob(repository_id, digest))

    async def _find_blob(self, repository_id: int, digest: Digest) -> Blob | None:
        """Read a blob's row, and check that the bytes in it, if there are any, are what its digest says."""
        blob = await self._blobs.find(repository_id, digest)
        if blob is None or blob.content is None or _is_whole(blob.content, digest):
            return blob
        return None

    def remember(self, digest: Digest, content: bytes) -> None:
        """Keep a small blob's bytes for the next reader."""
        self._content.put(digest, content)

    def remembered(self, digest: Digest) -> bytes | None:
        """A small blob's bytes, if they are in memory. The caller has checked that the repository has it."""
        return self._content.find(digest)

    def at_hand(self, digest: Digest, blob: Blob) -> bytes | None:
        """The bytes of a blob that was found: they came with it, or are in memory."""
        return blob.content if blob.content is not None else self._content.find(digest)

    async def contents(self, repository_id: int, digests: Sequence[Digest]) -> dict[Digest, bytes]:
        """The bytes of those of the repository's blobs that need not be read from storage. The caller knows that it has them."""
        known = {digest: content for digest in digests if (content := self._content.find(digest)) is not None}
        wanted = [digest for digest in digests if digest not in known]
        rows = await self._blobs.find_contents(repository_id, wanted) if wanted else {}
        return known | {digest: content for digest, content in rows.items() if _is_whole(content, digest)}

    async def small_blob(self, repository_id: int, digest: Digest, *, max_bytes: int) -> bytes | None:
        """A blob's bytes in memory; None if the repository lacks it or it is larger than `max_bytes`."""
        blob = await self.blob(repository_id, digest)
        if blob is None or blob.size_bytes > max_bytes:
            return None
        content = self.at_hand(digest, blob)
        if content is None:
            content = await self._objects.read_all(blob.storage_key, max_bytes=max_bytes)
            self._content.put(digest, content)
        return content

    async def tag_pages(self, repository: Repository) -> TagPages:
        """The remembered pages of a repository's tag list; they all go when a tag is set or deleted."""
        key = tags_key(repository.id)
        pages: TagPages | None = self._cache.find(key)
        if pages is None:
            pages = TagPages(self._repositories, repository.id)
            await self._cache.fill(key, _ready(pages))
        return pages


class TagPages:
    """Pages of one repository's tags, as long as none of them changes."""

    weight_bytes = 128 * 1024  # the most that those names take

    def __init__(self, store: RepositoryStore, repository_id: int) -> None:
        self._store = store
        self._repository_id = repository_id
        self._pages: dict[tuple[str, int], list[str]] = {}
        self._room = _MAX_NAMES

    async def get(self, *, after: str, limit: int) -> list[str]:
        """Tags above `after`, in byte order."""
        page = self._pages.get((after, limit))
        if page is None:
            page = await self._store.list_tags(self._repository_id, after=after, limit=limit)
            self._room -= len(page)
            if self._room >= 0:
                self._pages[after, limit] = page
        return page


# So many names of one list are remembered, in whatever pages; enough for the longest page and some short ones.
_MAX_NAMES = 1200


def _is_whole(content: bytes, digest: Digest) -> bool:
    if digest_of(content, algorithm_of(digest)) == digest:
        return True
    _log.error("blob_damaged", digest=digest)
    return False


def _ready(pages: TagPages) -> Callable[[], Awaitable[TagPages | None]]:
    async def load() -> TagPages | None:
        return pages

    return load
