"""Use case: describe a manifest of a repository, reading what is needed from the gateway."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Any, TypeVar

from cachetools import LRUCache

from slipway_common.oci.digests import Digest, algorithm_of, digest_of
from slipway_common.oci.manifests import Descriptor, Manifest
from slipway_metadata.domain.config import MAX_CONFIG_BYTES
from slipway_metadata.domain.image import ImageDescription, describe, find_image_config, read_manifest
from slipway_metadata.gateway import Content, GatewayClient, TooLarge

# For manifests and for configs: documents are some KiB, so this holds those of a thousand images or more.
_CACHE_BYTES = 16 * 1024 * 1024
_CONCURRENCY = 8
_PREFETCH = 500
# Parsing more than this takes milliseconds and is left to a thread, so that nobody else waits for it.
_INLINE_BYTES = 128 * 1024
_TOO_LARGE = f"the config is larger than {MAX_CONFIG_BYTES // 1024 // 1024} MiB and was not read"

T = TypeVar("T")


class Describer:
    """Describes manifests, at most 8 at a time; remembers documents by digest, because their content never changes."""

    def __init__(self, gateway: GatewayClient) -> None:
        self._gateway = gateway
        self._turns = asyncio.Semaphore(_CONCURRENCY)
        self._manifests: LRUCache[str, Content] = LRUCache(_CACHE_BYTES, getsizeof=lambda content: len(content.data))
        self._configs: LRUCache[str, bytes] = LRUCache(_CACHE_BYTES, getsizeof=len)

    async def prefetch(self, repository_id: int, digests: Collection[str]) -> None:
        """Read in one call what describing `digests` will need, as far as it is small. Raises as GatewayClient does."""
        wanted = [digest for digest in digests if digest not in self._manifests][:_PREFETCH]
        if len(wanted) < 2:
            return
        for found in await self._gateway.get_small_manifests(repository_id, wanted):
            self._manifests[found.digest] = Content(found.media_type, found.body)
            config, digest = found.config, found.config_digest
            if config is not None and digest is not None and _is_content_of(config, Digest(digest)):
                self._configs[digest] = config

    async def describe(self, repository_id: int, digest: str) -> ImageDescription | None:
        """Describe one manifest; None when it has been deleted since. Raises as GatewayClient does."""
        async with self._turns:
            content = await self._get_manifest(repository_id, digest)
            if content is None:
                return None
            manifest = await _run(len(content.data), read_manifest, content.data, content.media_type)
            wanted = find_image_config(manifest)
            config, unread = (None, None) if wanted is None else await self._get_config(repository_id, wanted)
            return await _run(len(config or b""), _describe, content, manifest, config, unread)

    async def _get_manifest(self, repository_id: int, digest: str) -> Content | None:
        content = self._manifests.get(digest)
        if content is None:
            content = await self._gateway.get_manifest(repository_id, digest)
            if content is not None and len(content.data) < self._manifests.maxsize:
                self._manifests[digest] = content
        return content

    async def _get_config(self, repository_id: int, wanted: Descriptor) -> tuple[bytes | None, str | None]:
        """Return a config's bytes, or the reason why there are none."""
        if wanted.size_bytes > MAX_CONFIG_BYTES:
            return None, _TOO_LARGE
        config = self._configs.get(wanted.digest)
        if config is not None:
            return config, None
        try:
            config = await self._gateway.get_blob(repository_id, wanted.digest, max_bytes=MAX_CONFIG_BYTES)
        except TooLarge:
            return None, _TOO_LARGE
        if config is None:
            return None, "the config is not there"
        if not await _run(len(config), _is_content_of, config, wanted.digest):
            return None, "the config's bytes do not have its digest"
        if len(config) < self._configs.maxsize:
            self._configs[wanted.digest] = config
        return config, None


def _describe(
    content: Content, manifest: Manifest | None, config: bytes | None, unread: str | None
) -> ImageDescription:
    size = len(content.data)
    return describe(manifest, media_type=content.media_type, manifest_bytes=size, config=config, unread=unread)


def _is_content_of(data: bytes, digest: Digest) -> bool:
    return digest_of(data, algorithm_of(digest)) == digest


async def _run(size_bytes: int, function: Callable[..., T], *args: Any) -> T:
    """Call a pure function, in a thread when it has many bytes to go through."""
    return function(*args) if size_bytes < _INLINE_BYTES else await asyncio.to_thread(function, *args)
