"""The hot path: manifests and blobs, from memory where that is exact, else by one query."""

from __future__ import annotations

from slipway_common.oci.digests import Digest
from slipway_common.oci.names import RepositoryName, Tag, is_digest
from slipway_common.storage.port import ObjectStore
from slipway_gateway.cache import ContentCache, ExactCache
from slipway_gateway.store.blobs import Blob, BlobStore
from slipway_gateway.store.manifests import ManifestStore, StoredManifest
from slipway_gateway.store.repositories import Repository, RepositoryStore


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

    async def repository(self, name: RepositoryName) -> Repository | None:
        """The repository of that name."""
        key = ("repository", name)
        return self._cache.find(key) or await self._cache.get(key, lambda: self._repositories.find(name))

    async def manifest(self, repository: Repository, reference: Tag | Digest) -> StoredManifest | None:
        """A living manifest by tag or digest."""
        if is_digest(reference):
            digest = Digest(reference)
            return await self._cache.get(
                ("manifest", repository.id, digest), lambda: self._manifests.find_by_digest(repository.id, digest)
            )
        tag = Tag(reference)
        return await self._cache.get(
            ("tag", repository.id, tag), lambda: self._manifests.find_by_tag(repository.id, tag)
        )

    async def blob(self, repository: Repository, digest: Digest) -> Blob | None:
        """Where a blob's bytes are, if the repository has it."""
        return await self._cache.get(
            ("blob", repository.id, digest), lambda: self._blobs.find(repository.id, digest)
        )

    def remember(self, digest: Digest, content: bytes) -> None:
        """Keep a small blob's bytes for the next reader."""
        self._content.put(digest, content)

    def remembered(self, digest: Digest) -> bytes | None:
        """A small blob's bytes, if they are in memory. The caller has checked that the repository has it."""
        return self._content.find(digest)

    async def small_blob(self, repository: Repository, digest: Digest, *, max_bytes: int) -> bytes | None:
        """A blob's bytes in memory; None if the repository lacks it or it is larger than `max_bytes`."""
        blob = await self.blob(repository, digest)
        if blob is None or blob.size_bytes > max_bytes:
            return None
        content = self._content.find(digest)
        if content is None:
            content = await self._objects.read_all(blob.storage_key, max_bytes=max_bytes)
            self._content.put(digest, content)
        return content

    async def tag_page(self, repository: Repository, *, after: str, limit: int) -> list[str]:
        """Tags above `after`, in byte order."""
        pages: dict[tuple[str, int], list[str]] | None = await self._cache.get(
            ("tags", repository.id, ""), _empty_pages
        )
        if pages is None:
            return await self._repositories.list_tags(repository.id, after=after, limit=limit)
        page = pages.get((after, limit))
        if page is None:
            page = await self._repositories.list_tags(repository.id, after=after, limit=limit)
            if len(pages) < _MAX_PAGES:
                pages[after, limit] = page
        return page


# Pages remembered of one repository's list; they go all at once when a tag is set or deleted.
_MAX_PAGES = 64


async def _empty_pages() -> dict[tuple[str, int], list[str]]:
    return {}
