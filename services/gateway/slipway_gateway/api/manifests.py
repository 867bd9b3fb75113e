"""Manifests (distribution-spec: Pulling, Pushing and Deleting manifests)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import lru_cache

from aiohttp import web

from slipway_common.oci.digests import Digest
from slipway_common.oci.manifests import MAX_MANIFEST_BYTES, InvalidManifest
from slipway_common.oci.names import Tag, is_digest, parse_reference, parse_tag
from slipway_common.web.heads import Head
from slipway_gateway.access import Access
from slipway_gateway.api.bodies import read_body
from slipway_gateway.api.call import Call
from slipway_gateway.api.oci_errors import ManifestTooLarge
from slipway_gateway.api.responses import KEPT_HEADS, Premise, PreparedBytes, make_head
from slipway_gateway.api.transfer import BodyTooLarge, RateLimits
from slipway_gateway.cache import manifest_key
from slipway_gateway.deletions import Deletions, ManifestUnknown
from slipway_gateway.domain.access import Action
from slipway_gateway.pushes import Pushes
from slipway_gateway.reads import Reads
from slipway_gateway.store.blobs import BlobStore
from slipway_gateway.store.manifests import StoredManifest
from slipway_gateway.store.repositories import Repository

# As many as a registry must take by `?tag=` and then some; bounds the transaction.
_MAX_TAGS = 100


@dataclass(slots=True)
class ManifestHandlers:
    reads: Reads
    pushes: Pushes
    deletions: Deletions
    blobs: BlobStore
    access: Access
    ensure: Callable[[Call], Awaitable[Repository]]
    rate: RateLimits

    async def get(self, call: Call) -> web.StreamResponse:
        stored, premise = await self._find(call)
        return PreparedBytes(_head(stored), stored.body, premises=(premise,))

    async def head(self, call: Call) -> web.StreamResponse:
        stored, premise = await self._find(call)
        repository = call.existing()
        if self.access.may(call.identity, call.standing, Action.PUSH):
            await self.blobs.renew_manifest_lease(repository.id, stored.digest)
            return PreparedBytes(_head(stored), None)
        return PreparedBytes(_head(stored), None, premises=(premise,))

    async def put(self, call: Call) -> web.Response:
        reference = parse_reference(call.reference)
        extra = [parse_tag(tag) for tag in call.query.getall("tag", [])]
        if len(extra) > _MAX_TAGS:
            raise InvalidManifest(f"at most {_MAX_TAGS} tags can be set at once")
        body = await self._read_body(call)
        repository = await self.ensure(call)
        pushed = await self.pushes.put(
            repository,
            reference,
            body,
            content_type=_content_type(call.request),
            extra_tags=extra,
            origin=call.origin,
        )
        response = web.Response(
            status=201,
            headers={
                "Location": f"/v2/{call.name}/manifests/{reference}",
                "Docker-Content-Digest": pushed.digest,
            },
        )
        if pushed.subject is not None:
            response.headers["OCI-Subject"] = pushed.subject
        for tag in extra:
            response.headers.add("OCI-Tag", tag)
        return response

    async def delete(self, call: Call) -> web.Response:
        repository = call.existing()
        reference = parse_reference(call.reference)
        if is_digest(reference):
            await self.deletions.delete_manifest(repository, Digest(reference), origin=call.origin)
        else:
            await self.deletions.delete_tag(repository, Tag(reference), origin=call.origin)
        return web.Response(status=202)

    async def _find(self, call: Call) -> tuple[StoredManifest, Premise]:
        reference, repository = parse_reference(call.reference), call.existing()
        stored = await self.reads.manifest(repository.id, reference)
        if stored is None:
            raise ManifestUnknown("no such manifest in this repository", reference=reference)
        return stored, (manifest_key(repository.id, reference), stored)

    async def _read_body(self, call: Call) -> bytes:
        try:
            return await read_body(call.request, max_bytes=MAX_MANIFEST_BYTES, rate=self.rate)
        except BodyTooLarge as exc:
            raise ManifestTooLarge("manifests may be up to 4 MiB", max_bytes=MAX_MANIFEST_BYTES) from exc


def _head(stored: StoredManifest) -> Head:
    return _head_of(stored.media_type, len(stored.body), stored.digest)


@lru_cache(maxsize=KEPT_HEADS)
def _head_of(media_type: str, size_bytes: int, digest: Digest) -> Head:
    """The media type is the manifest's own: a digest names bytes, so there is nothing to negotiate about."""
    headers = {
        "Content-Type": media_type,
        "Content-Length": str(size_bytes),
        "Docker-Content-Digest": digest,
        "ETag": f'"{digest}"',
        "X-Content-Type-Options": "nosniff",
    }
    return make_head(200, headers)


def _content_type(request: web.BaseRequest) -> str | None:
    text = request.headers.get("Content-Type")
    return text.partition(";")[0].strip() or None if text else None
