"""Lists: tags, repositories, referrers; in pages by key, never by scan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import orjson
from aiohttp import web

from slipway_common.oci import media_types
from slipway_common.oci.digests import parse_digest
from slipway_gateway.access import Access
from slipway_gateway.api.call import Call
from slipway_gateway.api.oci_errors import PaginationInvalid
from slipway_gateway.api.responses import PreparedBytes, make_head
from slipway_gateway.cache import tags_key
from slipway_gateway.reads import Reads
from slipway_gateway.store.manifests import ManifestStore, Referrer
from slipway_gateway.store.repositories import RepositoryStore, readable_by

MAX_PAGE = 1000
# Pages of referrers end by weight as well, that of their manifests: clients read up to 4 MiB.
_MAX_REFERRERS_BYTES = 3 * 1024 * 1024


@dataclass(slots=True)
class ListHandlers:
    reads: Reads
    repositories: RepositoryStore
    manifests: ManifestStore
    access: Access

    async def tags(self, call: Call) -> web.StreamResponse:
        limit = _limit(call)
        repository = call.existing()
        pages = await self.reads.tag_pages(repository)
        found = await pages.get(after=_after(call), limit=limit + 1) if limit else []
        body = orjson.dumps({"name": call.name, "tags": found[:limit]})
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        if len(found) > limit:
            headers["Link"] = _link(call, n=limit, last=found[limit - 1])
        return PreparedBytes(make_head(200, headers), body, premises=((tags_key(repository.id), pages),))

    async def catalog(self, call: Call) -> web.Response:
        """Names of the repositories that the caller may read."""
        limit = _limit(call)
        found = (
            await self.repositories.list_by_name(
                readable_by(self.access.rules, call.standing.account), after=_after(call), limit=limit + 1
            )
            if limit
            else []
        )
        names = [repository.name for repository in found]
        response = _json({"repositories": names[:limit]})
        if len(names) > limit:
            response.headers["Link"] = _link(call, n=limit, last=names[limit - 1])
        return response

    async def referrers(self, call: Call) -> web.Response:
        """Manifests whose subject is the digest. A repository that does not exist has none: the list is empty, not missing."""
        subject = parse_digest(call.reference)
        artifact_type = _plain(call, "artifactType") or None
        limit = _limit(call)
        found: list[Referrer] = []
        more = False
        if call.repository is not None and limit:
            found, more = await self.manifests.list_referrers(
                call.repository.id,
                subject,
                artifact_type=artifact_type,
                after=_after(call),
                limit=limit,
                max_bytes=_MAX_REFERRERS_BYTES,
            )
        page = [_referrer(referrer) for referrer in found]
        index = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": page}
        response = web.Response(body=orjson.dumps(index), headers={"Content-Type": media_types.OCI_INDEX})
        if artifact_type is not None:
            response.headers["OCI-Filters-Applied"] = "artifactType"
        if more:
            extra = {"artifactType": artifact_type} if artifact_type is not None else {}
            response.headers["Link"] = _link(call, n=limit, last=page[-1]["digest"], **extra)
        return response


def _referrer(referrer: Referrer) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "mediaType": referrer.media_type,
        "digest": referrer.digest,
        "size": referrer.size_bytes,
    }
    if referrer.artifact_type:
        entry["artifactType"] = referrer.artifact_type
    if referrer.annotations:
        entry["annotations"] = referrer.annotations
    return entry


def _limit(call: Call) -> int:
    """How many entries a page has; at most 1,000, whatever is asked for."""
    text = call.query.get("n")
    if text is None:
        return MAX_PAGE
    if not (text.isascii() and text.isdigit()):
        raise PaginationInvalid("n must be a number of entries", n=text[:40])
    return min(int(text[:19]), MAX_PAGE)


def _after(call: Call) -> str:
    """The entry after which the page begins; any text will do, whether or not there is such an entry."""
    return _plain(call, "last")


def _plain(call: Call, parameter: str) -> str:
    text = call.query.get(parameter, "")
    if "\x00" in text:  # which the database takes in no text
        raise PaginationInvalid(f"{parameter} must be text")
    return text


def _json(document: Any) -> web.Response:
    return web.Response(body=orjson.dumps(document), content_type="application/json")


def _link(call: Call, **parameters: object) -> str:
    path = quote(call.request.path, safe="/:@")
    return f'<{path}?{urlencode(parameters)}>; rel="next"'
