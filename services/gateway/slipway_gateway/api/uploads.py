"""Blob uploads (distribution-spec: Pushing blobs)."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass

from aiohttp import web

from slipway_common.oci.digests import Digest, parse_algorithm, parse_digest
from slipway_common.oci.names import InvalidName, parse_repository_name
from slipway_common.storage.port import SMALL_OBJECT_BYTES
from slipway_gateway.api.call import Call, receiver
from slipway_gateway.api.oci_errors import SizeInvalid
from slipway_gateway.api.transfer import RateLimits
from slipway_gateway.domain.access import AccessRules, Action, Decision, Identity, covers
from slipway_gateway.reads import Reads
from slipway_gateway.store.blobs import BlobStore
from slipway_gateway.store.repositories import Repository, RepositoryStore
from slipway_gateway.uploads import Uploads, UploadUnknown

# The specification writes `<start>-<end>`, without the unit of RFC 9110; some clients send `bytes a-b/*` all the same.
_CONTENT_RANGE = re.compile(r"(?:bytes[ =])?([0-9]{1,19})-([0-9]{1,19})(?:/(?:[0-9]+|\*))?")


class ScopeLacking(Exception):
    """The source of a mount is readable for the principal, but not by this token."""

    def __init__(self, names: tuple[str, str]) -> None:
        super().__init__()
        self.names = names


@dataclass(slots=True)
class UploadHandlers:
    uploads: Uploads
    repositories: RepositoryStore
    blobs: BlobStore
    reads: Reads
    rules: AccessRules
    default_visibility: str
    rate: RateLimits

    async def start(self, call: Call) -> web.Response:
        """POST: mount, put whole, or open a session."""
        repository = await self.ensure(call)
        query = call.query
        if "mount" in query:
            digest = parse_digest(query["mount"])
            if await self._mount(call, repository, digest, query.get("from")):
                return _created(repository, digest)
        elif "digest" in query:
            digest = parse_digest(query["digest"])
            await self.uploads.put_whole(
                repository, call.actor, digest=digest, receive=receiver(call.request, self.rate)
            )
            return _created(repository, digest)
        algorithm = parse_algorithm(query.get("digest-algorithm", "sha256"))
        session = await self.uploads.open(repository, call.actor, algorithm=algorithm)
        return _progress(repository, session.id, 0, status=202)

    async def ensure(self, call: Call) -> Repository:
        """The repository; a first push creates it (who may has been decided before)."""
        if call.repository is not None:
            return call.repository
        return await self.repositories.ensure(
            call.name, visibility=self.default_visibility, actor=call.actor, request_id=call.request_id
        )

    async def _mount(self, call: Call, repository: Repository, digest: Digest, source: str | None) -> bool:
        """Link a blob that the caller may read elsewhere. False, for whatever reason, looks like a missing blob."""
        source_id = (
            await self._find_source(digest, call.identity) if source is None else await self._check_source(call, source)
        )
        return source_id is not None and await self.blobs.mount(repository.id, source_id=source_id, digest=digest)

    async def _find_source(self, digest: Digest, identity: Identity) -> int | None:
        among = (
            None
            if identity.scope is None
            else [name for name in identity.scope if covers(identity.scope, name, Action.PULL)]
        )
        return await self.blobs.find_mountable(digest, all_repositories=self.rules.may_read_all(identity), among=among)

    async def _check_source(self, call: Call, source: str) -> int | None:
        try:
            name = parse_repository_name(source)
        except InvalidName:
            return None
        found = await self.reads.repository(name)
        if found is None:
            return None
        decision = self.rules.decide(call.identity, Action.PULL, name, found.visibility)
        if decision is Decision.SCOPE and not covers(call.identity.scope, name, Action.PULL):
            raise ScopeLacking((call.name, name))
        return found.id if decision is Decision.ALLOW else None

    async def append(self, call: Call) -> web.Response:
        """PATCH: more bytes."""
        repository = call.existing()
        upload_id = _parse_id(call.reference)
        offset = await self.uploads.append(
            repository,
            call.actor,
            upload_id,
            start=_start_of(call.request),
            receive=receiver(call.request, self.rate),
        )
        return _progress(repository, upload_id, offset, status=202)

    async def finish(self, call: Call) -> web.Response:
        """PUT: the last bytes, if any, and the digest of all."""
        repository = call.existing()
        digest = parse_digest(call.query.get("digest", ""))
        await self.uploads.finish(
            repository,
            call.actor,
            _parse_id(call.reference),
            start=_start_of(call.request),
            digest=digest,
            receive=receiver(call.request, self.rate),
            small=0 < (call.request.content_length or 0) <= SMALL_OBJECT_BYTES,
        )
        return _created(repository, digest)

    async def status(self, call: Call) -> web.Response:
        """GET: how far the session has come."""
        repository = call.existing()
        session = await self.uploads.get(repository, call.actor, _parse_id(call.reference))
        return _progress(repository, session.id, session.offset_bytes, status=204)

    async def cancel(self, call: Call) -> web.Response:
        """DELETE: give the session up."""
        await self.uploads.cancel(call.existing(), call.actor, _parse_id(call.reference))
        return web.Response(status=204)


def upload_location(name: str, upload_id: uuid.UUID) -> str:
    """A path, never an absolute URL: no proxy can get it wrong."""
    return f"/v2/{name}/blobs/uploads/{upload_id}"


def range_so_far(offset_bytes: int) -> str:
    """The specification's inclusive range; an empty upload has no better word than 0-0."""
    return f"0-{max(offset_bytes - 1, 0)}"


def _progress(repository: Repository, upload_id: uuid.UUID, offset_bytes: int, *, status: int) -> web.Response:
    return web.Response(
        status=status,
        headers={
            "Location": upload_location(repository.name, upload_id),
            "Range": range_so_far(offset_bytes),
            "Docker-Upload-UUID": str(upload_id),
        },
    )


def _created(repository: Repository, digest: Digest) -> web.Response:
    return web.Response(
        status=201,
        headers={"Location": f"/v2/{repository.name}/blobs/{digest}", "Docker-Content-Digest": digest},
    )


def _parse_id(text: str) -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except ValueError as exc:
        raise UploadUnknown("no such upload", upload=text[:64]) from exc


def _start_of(request: web.BaseRequest) -> int | None:
    """Where the client says its bytes belong; None if it does not say. Raises SizeInvalid for a range that lies."""
    text = request.headers.get("Content-Range")
    if text is None:
        return None
    match = _CONTENT_RANGE.fullmatch(text.strip())
    if match is None:
        raise SizeInvalid("Content-Range is written <first byte>-<last byte>")
    first, last = int(match[1]), int(match[2])
    length = request.content_length
    # An empty body is announced as 0-0 by some and as x-(x-1) by others.
    if length is not None and length != last - first + 1 and not (length == 0 and last - first in (-1, 0)):
        raise SizeInvalid(f"Content-Range spans {last - first + 1} bytes, but Content-Length is {length}")
    return first
