"""Blobs (distribution-spec: Pulling blobs, Checking if content exists, Deleting blobs)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from aiohttp import web

from slipway_common.oci.digests import Digest, parse_digest
from slipway_common.storage.port import ObjectMissing, ObjectStore
from slipway_common.web.heads import Head
from slipway_gateway.access import Access
from slipway_gateway.api.call import Call
from slipway_gateway.api.oci_errors import RangeNotSatisfiable
from slipway_gateway.api.responses import KEPT_HEADS, PreparedBytes, make_head
from slipway_gateway.api.transfer import FileBody, RateLimits
from slipway_gateway.cache import blob_key
from slipway_gateway.deletions import BlobUnknown, Deletions
from slipway_gateway.domain.access import Action
from slipway_gateway.reads import Reads
from slipway_gateway.store.blobs import Blob, BlobStore

_REDIRECT_S = 60


@dataclass(slots=True)
class BlobHandlers:
    reads: Reads
    blobs: BlobStore
    deletions: Deletions
    objects: ObjectStore
    access: Access
    rate: RateLimits
    redirect: bool

    async def get(self, call: Call) -> web.StreamResponse:
        """GET, whole or one range."""
        digest, blob = await self._find(call)
        span = _parse_range(call.request, blob.size_bytes, digest)
        head = _head(digest, blob.size_bytes, span)
        start, length = span or (0, blob.size_bytes)
        content = self.reads.at_hand(digest, blob)
        if content is not None:
            premise = (blob_key(call.existing().id, digest), blob)
            return PreparedBytes(head, content[start : start + length], premises=None if span else (premise,))
        if self.redirect and (url := await self.objects.presigned_url(blob.storage_key, expires_s=_REDIRECT_S)):
            return web.Response(status=307, headers={"Location": url, "Docker-Content-Digest": digest})
        try:
            reader = await self.objects.open_reader(blob.storage_key, start=start, length=length)
        except ObjectMissing as exc:
            raise BlobUnknown("the blob's bytes are missing from storage", digest=digest) from exc
        content = reader.in_memory()
        if content is None:
            return FileBody(reader, status=head.status, headers=head.headers, rate=self.rate)
        await reader.close()
        if span is None:
            self.reads.remember(digest, content)
        return PreparedBytes(head, content)

    async def head(self, call: Call) -> web.StreamResponse:
        """HEAD. Told to a pusher, the answer holds for the length of a lease, so the database is asked."""
        repository = call.existing()
        if self.access.may(call.identity, call.standing, Action.PUSH):
            await self.blobs.renew_lease(repository.id, parse_digest(call.reference))
            digest, blob = await self._find(call)
            return PreparedBytes(_head(digest, blob.size_bytes), None)
        digest, blob = await self._find(call)
        premise = (blob_key(repository.id, digest), blob)
        return PreparedBytes(_head(digest, blob.size_bytes), None, premises=(premise,))

    async def delete(self, call: Call) -> web.Response:
        """DELETE: out of this repository; others keep it."""
        await self.deletions.delete_blob(call.existing(), parse_digest(call.reference))
        return web.Response(status=202)

    async def _find(self, call: Call) -> tuple[Digest, Blob]:
        digest = parse_digest(call.reference)
        blob = await self.reads.blob(call.existing().id, digest)
        if blob is None:
            raise BlobUnknown("no such blob in this repository", digest=digest)
        return digest, blob


@lru_cache(maxsize=KEPT_HEADS)
def _head(digest: Digest, size_bytes: int, span: tuple[int, int] | None = None) -> Head:
    start, length = span or (0, size_bytes)
    headers = {
        # Whatever a user pushed is never to be interpreted by a browser.
        "Content-Type": "application/octet-stream",
        "Content-Length": str(length),
        "Docker-Content-Digest": digest,
        "ETag": f'"{digest}"',
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, max-age=31536000, immutable",
        "X-Content-Type-Options": "nosniff",
        "Content-Disposition": "attachment",
        "Content-Security-Policy": "sandbox; default-src 'none'",
    }
    if span is not None:
        headers["Content-Range"] = f"bytes {start}-{start + length - 1}/{size_bytes}"
    return make_head(206 if span else 200, headers)


def _parse_range(request: web.BaseRequest, size_bytes: int, digest: Digest) -> tuple[int, int] | None:
    """(start, length) of a single byte range (RFC 9110, 14.2); None: send everything.

    What is not understood, several ranges among it, is ignored as the RFC allows. Raises RangeNotSatisfiable.
    """
    text = request.headers.get("Range")
    if text is None or not text.startswith("bytes=") or "," in text:
        return None
    if_range = request.headers.get("If-Range")
    if if_range is not None and if_range != f'"{digest}"':
        return None
    first_text, dash, last_text = text.removeprefix("bytes=").strip().partition("-")
    if not dash or not _number(first_text or "0") or not _number(last_text or "0") or not (first_text or last_text):
        return None
    if not first_text:
        length = min(int(last_text), size_bytes)
        first, last = size_bytes - length, size_bytes - 1
        if length == 0:
            raise RangeNotSatisfiable(size_bytes)
    else:
        first = int(first_text)
        last = min(int(last_text), size_bytes - 1) if last_text else size_bytes - 1
    if first >= size_bytes or last < first:
        raise RangeNotSatisfiable(size_bytes)
    return first, last - first + 1


def _number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 19
