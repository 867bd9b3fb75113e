"""Blob uploads (distribution-spec: Pushing blobs)."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass

from aiohttp import web

from slipway_common.oci.digests import Digest, parse_algorithm, parse_digest
from slipway_common.oci.names import InvalidName, parse_repository_name
from slipway_gateway.access import Access
from slipway_gateway.api.call import Call, receiver
from slipway_gateway.api.oci_errors import SizeInvalid
from slipway_gateway.api.transfer import RateLimits
from slipway_gateway.domain.access import Action, Decision, covers
from slipway_gateway.repositories import Repositories
from slipway_gateway.store.blobs import BlobStore
from slipway_gateway.store.repositories import Repository
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
    repositories: Repositories
    blobs: BlobStore
    access: Access
    rate: RateLimits

    async def start(self, call: Call) -> web.Response:
        """POST: mount, put whole, or open a session."""
        repository = await self.ensure(call)
        query = call.query
        if "mount" in query:
            digest = parse_digest(query["mount"])
            if await self._mount(call, repository, digest, query.get("from")):
                return _created(call, digest)
        elif "digest" in query:
            digest = parse_digest(query["digest"])
            await self.uploads.put_whole(
                repository,
                call.actor,
                digest=digest,
                receive=receiver(call.request, self.rate),
                size_bytes=call.request.content_length,
            )
            return _created(call, digest)
        algorithm = parse_algorithm(query.get("digest-algorithm", "sha256"))
        session = await self.uploads.open(repository, call.actor, algorithm=algorithm, token_id=call.identity.token_id)
        return _progress(call, session.id, 0, status=202)

    async def ensure(self, call: Call) -> Repository:
        """The repository; a first push creates it (who may has been decided before)."""
        if call.repository is not None:
            return call.repository
        return await self.repositories.create_by_push(call.name, call.standing, call.origin)

    async def _mount(self, call: Call, repository: Repository, digest: Digest, source: str | None) -> bool:
        """Link a blob that the caller may read elsewhere. False, for whatever reason, looks like a missing blob."""
        source_id = await self._find_source(call, digest) if source is None else await self._check_source(call, source)
        return source_id is not None and await self.blobs.mount(repository.id, source_id=source_id, digest=digest)

    async def _find_source(self, call: Call, digest: Digest) -> int | None:
        scope, account = call.identity.scope, call.standing.account
        if account is not None and not account.bounds.include(Action.PULL):
            account = None  # such a credential reads what everybody reads
        among = None if scope is None else [name for name in scope if covers(scope, name, Action.PULL)]
        return await self.blobs.find_mountable(
            digest,
            principal_id=account.id if account is not None else None,
            all_repositories=self.access.rules.may_read_all(account),
            within=account.bounds.regexes if account is not None else None,
            among=among,
        )

    async def _check_source(self, call: Call, source: str) -> int | None:
        try:
            name = parse_repository_name(source)
        except InvalidName:
            return None
        there = await self.access.standing(call.identity, name)
        if there.repository is None:
            return None
        decision = self.access.decide(call.identity, there, Action.PULL)
        if decision is Decision.SCOPE:
            raise ScopeLacking((call.name, name))
        return there.repository.id if decision is Decision.ALLOW else None

    async def append(self, call: Call) -> web.Response:
        """PATCH: more bytes."""
        repository = call.existing()
        upload_id = parse_upload_id(call.reference)
        offset = await self.uploads.append(
            repository,
            call.actor,
            upload_id,
            start=_start_of(call.request),
            receive=receiver(call.request, self.rate),
            size_bytes=call.request.content_length,
        )
        return _progress(call, upload_id, offset, status=202)

    async def finish(self, call: Call) -> web.Response:
        """PUT: the last bytes, if any, and the digest of all."""
        repository = call.existing()
        digest = parse_digest(call.query.get("digest", ""))
        await self.uploads.finish(
            repository,
            call.actor,
            parse_upload_id(call.reference),
            start=_start_of(call.request),
            digest=digest,
            receive=receiver(call.request, self.rate),
            size_bytes=call.request.content_length,
        )
        return _created(call, digest)

    async def status(self, call: Call) -> web.Response:
        """GET: how far the session has come."""
        repository = call.existing()
        session = await self.uploads.get(repository, call.actor, parse_upload_id(call.reference))
        return _progress(call, session.id, session.offset_bytes, status=204)

    async def cancel(self, call: Call) -> web.Response:
        """DELETE: give the session up."""
        await self.uploads.cancel(call.existing(), call.actor, parse_upload_id(call.reference))
        return web.Response(status=204)


def upload_location(name: str, upload_id: uuid.UUID) -> str:
    """A path, never an absolute URL: no proxy can get it wrong."""
    return f"/v2/{name}/blobs/uploads/{upload_id}"


def range_so_far(offset_bytes: int) -> str:
    """The specification's inclusive range; an empty upload has no better word than 0-0."""
    return f"0-{max(offset_bytes - 1, 0)}"


def _progress(call: Call, upload_id: uuid.UUID, offset_bytes: int, *, status: int) -> web.Response:
    return web.Response(
        status=status,
        headers={
            "Location": upload_location(call.name, upload_id),
            "Range": range_so_far(offset_bytes),
            "Docker-Upload-UUID": str(upload_id),
        },
    )


def _created(call: Call, digest: Digest) -> web.Response:
    return web.Response(
        status=201,
        headers={"Location": f"/v2/{call.name}/blobs/{digest}", "Docker-Content-Digest": digest},
    )


def parse_upload_id(text: str) -> uuid.UUID:
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
