"""The content API for the other services: by digest, with a service token, on the internal address only."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass

import asyncpg
import orjson
from aiohttp import web
from aiohttp.typedefs import Middleware
from pydantic import BaseModel, Field

from slipway_common.errors import InvalidInput, NotFound, Unauthenticated
from slipway_common.events.event import repository_stream
from slipway_common.events.log import EventLog
from slipway_common.oci.digests import parse_digest
from slipway_common.oci.names import namespace_of
from slipway_common.security.service_tokens import ServiceTokens
from slipway_common.storage.port import ObjectStore
from slipway_common.web.routes import Handler
from slipway_gateway.api.transfer import FileBody
from slipway_gateway.reads import Reads
from slipway_gateway.store.manifests import ManifestStore
from slipway_gateway.store.repositories import Repository, RepositoryStore

_MAX_PAGE = 1000
_SMALL_CONTENT_BYTES = 64 * 1024
_MAX_CONTENTS_BYTES = 4 * 1024 * 1024


class ContentsRequest(BaseModel):
    """Which manifests are wanted, by digest."""

    manifests: list[str] = Field(max_length=500)


@dataclass(slots=True)
class InternalHandlers:
    tokens: ServiceTokens
    repositories: RepositoryStore
    manifests: ManifestStore
    reads: Reads
    objects: ObjectStore
    log: EventLog
    pool: asyncpg.Pool

    def routes(self) -> list[web.RouteDef]:
        prefix = "/internal/v1/repositories"
        return [
            web.get(prefix, self.list_repositories),
            web.get(prefix + r"/{repository_id:\d+}/manifests/{digest}", self.get_manifest),
            web.get(prefix + r"/{repository_id:\d+}/blobs/{digest}", self.get_blob),
            web.get(prefix + r"/{repository_id:\d+}/snapshot", self.snapshot),
            web.post(prefix + r"/{repository_id:\d+}/contents", self.get_contents),
        ]

    @property
    def middleware(self) -> Middleware:
        """Lets only services in, by tokens of their own."""

        @web.middleware
        async def check_service_token(request: web.Request, handler: Handler) -> web.StreamResponse:
            if request.path.startswith("/internal/"):
                kind, _, token = request.headers.get("Authorization", "").partition(" ")
                if kind.lower() != "bearer":
                    raise Unauthenticated("a service token is needed")
                claims = await self.tokens.verify(token, audience="gateway")
                if claims.service is None:
                    raise Unauthenticated("a service's own token is needed")
            return await handler(request)

        return check_service_token

    async def list_repositories(self, request: web.Request) -> web.Response:
        limit = _number(request, "n", 500)
        rows = await self.repositories.list_by_id(after=_number(request, "after", 0), limit=limit + 1)
        found = [{"id": row["id"], "name": row["name"], "namespace": namespace_of(row["name"])} for row in rows[:limit]]
        return web.json_response({"repositories": found, "next": found[-1]["id"] if len(rows) > limit else None})

    async def get_manifest(self, request: web.Request) -> web.StreamResponse:
        stored = await self.reads.manifest(_repository_id(request), parse_digest(request.match_info["digest"]))
        if stored is None:
            raise NotFound("no such manifest")
        headers = {"Content-Type": stored.media_type, "Docker-Content-Digest": stored.digest}
        return web.Response(body=stored.body, headers=headers)

    async def get_blob(self, request: web.Request) -> web.StreamResponse:
        digest = parse_digest(request.match_info["digest"])
        blob = await self.reads.blob(_repository_id(request), digest)
        if blob is None:
            raise NotFound("no such blob")
        headers = {"Content-Type": "application/octet-stream", "Docker-Content-Digest": digest}
        content = self.reads.at_hand(digest, blob)
        if content is not None:
            return web.Response(body=content, headers=headers)
        return FileBody(await self.objects.open_reader(blob.storage_key), headers=headers)

    async def get_contents(self, request: web.Request) -> web.Response:
        """Many small manifests in one answer, with those of their configs that are at hand.

        What is large, or beyond the answer's bound, is left out: it can be had one by one. A config needs no check of its
        own, as a living manifest keeps it in the repository.
        """
        wanted = ContentsRequest.model_validate_json(await request.read())
        repository_id = _repository_id(request)
        found = await self.manifests.find_small(repository_id, wanted.manifests, max_bytes=_SMALL_CONTENT_BYTES)
        image_ids = {image_id for _, image_id in found if image_id is not None}
        configs = await self.reads.contents(repository_id, sorted(image_ids))
        manifests: list[dict[str, str | None]] = []
        room = _MAX_CONTENTS_BYTES
        for stored, image_id in found:
            config = configs.get(image_id) if image_id is not None else None
            room -= len(stored.body) + len(config or b"")
            if room < 0:
                break
            manifests.append({
                "digest": stored.digest,
                "media_type": stored.media_type,
                "body": b64encode(stored.body).decode(),
                "config_digest": image_id if config is not None else None,
                "config": b64encode(config).decode() if config is not None else None,
            })  # fmt: skip
        return web.Response(body=orjson.dumps({"manifests": manifests}), content_type="application/json")

    async def snapshot(self, request: web.Request) -> web.Response:
        """One page of a repository's state. `seq` is read first: what happens meanwhile is told again by the log."""
        repository = await self._repository(request)
        after, limit = request.query.get("after", ""), _number(request, "n", 500)
        stream = repository_stream(repository.id)
        seq = await self.log.head(self.pool, stream)
        manifests, tags = await self.manifests.snapshot_page(repository.id, after=after, limit=limit + 1)
        page = manifests[:limit]
        return web.json_response({
            "repository": repository.ref.model_dump(),
            "stream": stream,
            "seq": seq,
            "tags": [
                {"name": row["name"], "digest": row["digest"], "updated_at": row["updated_at"].isoformat()} for row in tags
            ],
            "manifests": [
                {
                    "digest": row["digest"],
                    "media_type": row["media_type"],
                    "artifact_type": row["artifact_type"],
                    "subject": row["subject_digest"],
                    "size_bytes": row["size_bytes"],
                    "pushed_at": row["pushed_at"].isoformat(),
                    "pushed_by": row["pushed_by"],
                }
                for row in page
            ],
            "next": page[-1]["digest"] if len(manifests) > limit else None,
        })  # fmt: skip

    async def _repository(self, request: web.Request) -> Repository:
        found = await self.repositories.find_by_id(_repository_id(request))
        if found is None:
            raise NotFound("no such repository")
        return found


def _repository_id(request: web.Request) -> int:
    return int(request.match_info["repository_id"][:18])


def _number(request: web.Request, name: str, default: int) -> int:
    text = request.query.get(name)
    if text is None:
        return default
    if not text.isdigit() or len(text) > 18:
        raise InvalidInput(f"{name} must be a number")
    return min(int(text), _MAX_PAGE) if name == "n" else int(text)
