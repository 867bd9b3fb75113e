"""The image index on a real PostgreSQL and a real event log; the gateway's content API is an in-memory stand-in."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from slipway_common.database.migrations import upgrade
from slipway_common.database.pool import Database, open_database
from slipway_common.errors import Unavailable
from slipway_common.events import positions
from slipway_common.events.catalogue import (
    ImagePushed,
    ManifestDeleted,
    ManifestPushed,
    Payload,
    RepositoryCreated,
    RepositoryRef,
    TagDeleted,
)
from slipway_common.events.consumer import Follower
from slipway_common.events.event import Event, NewEvent, Origin, repository_stream
from slipway_common.events.log import EventLog
from slipway_common.security.service_tokens import ServiceClaims
from slipway_common.web.problems import problem_middleware
from slipway_metadata.api.images import IMAGES, ROUTES
from slipway_metadata.app import build
from slipway_metadata.gateway import GatewayClient
from slipway_metadata.index import ImageIndexer
from tests.parts.images import Image, make_artifact, make_image, make_index, sha256_digest
from tests.unit.metadata.documents import make_attestation, make_attested_index, make_document_image
from tests.unit.metadata.test_image import DOCKER_CONFIG, HOSTILE

TOKEN = "service-token"
REPOSITORY = RepositoryRef(id=7, name="acme/hello", namespace="acme")
STREAM = repository_stream(REPOSITORY.id)


@dataclass
class Pushed:
    image: Image
    at: datetime


@dataclass
class FakeGateway:
    """What the gateway knows of one repository; every change is also an event in the real log."""

    database: Database
    manifests: dict[str, Pushed] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    tags: dict[str, tuple[str, datetime]] = field(default_factory=dict)
    exists: bool = True
    fails_with: int | None = None
    redirects_to: str | None = None
    storage_headers: list[dict[str, str]] = field(default_factory=list)
    page_size: int = 2
    seq: int = 0

    async def push(self, image: Image, *tags: str) -> None:
        for child in image.children:
            await self.push(child)
        event = await self._append(
            ManifestPushed(
                repository=REPOSITORY, digest=image.digest, media_type=image.media_type, size_bytes=len(image.manifest)
            )
        )
        self.blobs |= image.blobs
        self.manifests[image.digest] = Pushed(image, event.time)
        self.seq = event.seq
        if tags:
            await self.tag(image, *tags)

    async def tag(self, image: Image, *tags: str, listed: int | None = None) -> None:
        """Set tags; with `listed`, only so many of them are in the event."""
        event = await self._append(
            ImagePushed(
                repository=REPOSITORY,
                digest=image.digest,
                tags=list(tags[:listed]),
                media_type=image.media_type,
                size_bytes=1,
                truncated=listed is not None,
            )
        )
        self.tags |= dict.fromkeys(tags, (image.digest, event.time))
        self.seq = event.seq

    async def delete_tag(self, tag: str) -> None:
        digest, _ = self.tags.pop(tag)
        self.seq = (await self._append(TagDeleted(repository=REPOSITORY, tag=tag, digest=digest))).seq

    async def delete(self, image: Image) -> None:
        del self.manifests[image.digest]
        self.tags = {tag: (digest, at) for tag, (digest, at) in self.tags.items() if digest != image.digest}
        self.seq = (await self._append(ManifestDeleted(repository=REPOSITORY, digest=image.digest))).seq

    async def _append(self, payload: Payload) -> Event:
        async with self.database.pool.acquire() as connection, connection.transaction():
            events = [NewEvent.of(payload)]
            seq = await EventLog().append(connection, STREAM, events, Origin("ann", None))
        [event] = await EventLog().read(self.database.pool, STREAM, after=seq - 1, limit=1)
        return event

    def application(self) -> web.Application:
        app = web.Application(middlewares=[self._check])
        root = "/internal/v1/repositories"
        app.router.add_get(root, self._list)
        app.router.add_get(root + "/7/manifests/{digest}", self._get_manifest)
        app.router.add_get(root + "/7/blobs/{digest}", self._get_blob)
        app.router.add_get(root + "/7/snapshot", self._get_snapshot)
        app.router.add_get("/storage/{digest}", self._get_stored)
        return app

    @web.middleware
    async def _check(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        if self.fails_with is not None:
            return web.Response(status=self.fails_with)
        if not request.path.startswith("/storage/"):
            assert request.headers["Authorization"] == f"Bearer {TOKEN}"
        return await handler(request)

    async def _list(self, request: web.Request) -> web.Response:
        known = [{"id": 7, "name": REPOSITORY.name, "namespace": "acme"}] if self.exists else []
        return web.json_response({"repositories": known, "next": None})

    async def _get_manifest(self, request: web.Request) -> web.Response:
        pushed = self.manifests.get(request.match_info["digest"])
        if pushed is None:
            raise web.HTTPNotFound
        return web.Response(body=pushed.image.manifest, content_type=pushed.image.media_type)

    async def _get_blob(self, request: web.Request) -> web.Response:
        digest = request.match_info["digest"]
        if digest not in self.blobs:
            raise web.HTTPNotFound
        if self.redirects_to is not None:
            raise web.HTTPTemporaryRedirect(f"{self.redirects_to}/storage/{digest}")
        return web.Response(body=self.blobs[digest])

    async def _get_stored(self, request: web.Request) -> web.Response:
        self.storage_headers.append(dict(request.headers))
        return web.Response(body=self.blobs[request.match_info["digest"]])

    async def _get_snapshot(self, request: web.Request) -> web.Response:
        if not self.exists:
            raise web.HTTPNotFound
        after = request.query.get("after", "")
        digests = sorted(digest for digest in self.manifests if digest > after)
        page = digests[: self.page_size]
        body: dict[str, Any] = {
            "repository": REPOSITORY.model_dump(),
            "stream": STREAM,
            "seq": self.seq,
            "manifests": [
                {"digest": digest, "pushed_at": self.manifests[digest].at, "pushed_by": "ann"} for digest in page
            ],
            "next": page[-1] if len(digests) > len(page) else None,
        }
        if not after:
            body["tags"] = [
                {"name": name, "digest": digest, "updated_at": at} for name, (digest, at) in self.tags.items()
            ]
        return web.Response(body=orjson.dumps(body), content_type="application/json")


@dataclass
class World:
    database: Database
    gateway: FakeGateway
    indexer: ImageIndexer
    api: TestClient[web.Request, web.Application]

    async def settle(self, *, batch_size: int = 100) -> None:
        """Apply all events there are."""
        follower = Follower(self.database.pool, self.indexer, batch_size=batch_size)
        while await follower.step(STREAM):
            pass

    async def get(self, path: str = "", status: int = 200) -> Any:
        response = await self.api.get(f"/api/v1/repositories/{REPOSITORY.name}/-/images{path}")
        assert response.status == status, await response.text()
        return await response.json()

    async def digests(self) -> list[str]:
        return [image["digest"] for image in (await self.get())["images"]]

    async def dump(self) -> dict[str, list[Any]]:
        """All rows of the index, without the numbers that PostgreSQL gave them."""
        statements = {
            "manifests": "SELECT to_jsonb(m) - 'id' AS row FROM metadata.manifests m ORDER BY digest",
            "layers": "SELECT m.digest, to_jsonb(l) - 'manifest_id' AS row FROM metadata.layers l "
            "JOIN metadata.manifests m ON m.id = l.manifest_id ORDER BY 1, l.position",
            "children": "SELECT m.digest, to_jsonb(c) - 'manifest_id' AS row FROM metadata.children c "
            "JOIN metadata.manifests m ON m.id = c.manifest_id ORDER BY 1, c.position",
            "tags": "SELECT to_jsonb(t) AS row FROM metadata.tags t ORDER BY name",
        }
        return {name: [json.loads(row["row"]) for row in await self.database.pool.fetch(sql)]
                for name, sql in statements.items()}  # fmt: skip


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    await upgrade(database_url, package="slipway_common.events.migrations", schema="log")
    await upgrade(database_url, package="slipway_metadata.migrations", schema="metadata")
    async with contextlib.AsyncExitStack() as stack:
        database = await stack.enter_async_context(open_database(database_url, pool_size=4))
        gateway = FakeGateway(database)
        server = TestServer(gateway.application())
        await server.start_server()
        stack.push_async_callback(server.close)
        session = await stack.enter_async_context(aiohttp.ClientSession())
        indexer, images = build(database, GatewayClient(session, str(server.make_url("/")), _token))
        await positions.register(database.pool, indexer.name, indexer.start)
        api = TestClient(TestServer(_api(images)))
        await api.start_server()
        stack.push_async_callback(api.close)
        yield World(database, gateway, indexer, api)


async def _token() -> str:
    return TOKEN


def _api(images: Any) -> web.Application:
    @web.middleware
    async def claim(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        request["claims"] = ServiceClaims(sub="ann", repository_id=REPOSITORY.id)
        return await handler(request)

    app = web.Application(middlewares=[problem_middleware, claim])
    app[IMAGES] = images
    for route in ROUTES:
        app.router.add_route(route.method, route.path.replace("{name}", "{name:.+}"), route.handler)
    return app


async def test_pushed_image_is_listed_with_all_that_it_is(world: World) -> None:
    image = make_document_image(json.dumps(DOCKER_CONFIG).encode())
    await world.gateway.push(image, "1", "latest")
    await world.settle()
    [listed] = (await world.get())["images"]
    assert listed["digest"] == image.digest
    assert listed["image_id"] == image.config_digest
    assert (listed["kind"], listed["tags"], listed["pushed_by"]) == ("image", ["1", "latest"], "ann")
    assert listed["platforms"] == [{"os": "linux", "architecture": "arm64", "variant": "v8"}]
    assert listed["size_bytes"] == len(image.manifest) + sum(len(blob) for blob in image.blobs.values())
    assert [layer["digest"] for layer in listed["layers"]] == [sha256_digest(b"one"), sha256_digest(b"two")]
    assert [layer["created_by"] for layer in listed["layers"]] == ["ADD rootfs.tar / # buildkit", "RUN make"]
    assert [layer["diff_id"] for layer in listed["layers"]] == DOCKER_CONFIG["rootfs"]["diff_ids"]


@pytest.mark.parametrize("by", ["tag", "digest", "image id"])
async def test_image_is_found_by_tag_digest_and_image_id(world: World, by: str) -> None:
    image = make_document_image(json.dumps(DOCKER_CONFIG).encode())
    await world.gateway.push(image, "1")
    await world.settle()
    reference = {"tag": "1", "digest": image.digest, "image id": image.config_digest}[by]
    detail = await world.get(f"/{reference}")
    assert detail["digest"] == image.digest
    assert detail["config"]["entrypoint"] == ["/entry.sh"]
    assert [step["empty"] for step in detail["history"]] == [False, True, False, True, True]


@pytest.mark.parametrize("reference", ["nothing", "sha256:" + "0" * 64])
async def test_unknown_reference_is_not_found(world: World, reference: str) -> None:
    await world.get(f"/{reference}", status=404)


@pytest.mark.parametrize("reference", ["sha256:", "md5:00", "%00", "%ff", "a" * 3000, "..%2f"])
async def test_malformed_reference_is_refused(world: World, reference: str) -> None:
    await world.get(f"/{reference}", status=400)


async def test_index_is_listed_and_its_children_are_not(world: World) -> None:
    index = make_index("hello")
    await world.gateway.push(index, "1")
    await world.settle()
    [listed] = (await world.get())["images"]
    assert (listed["kind"], listed["layers"], listed["image_id"]) == ("index", [], None)
    assert [child["digest"] for child in listed["manifests"]] == [child.digest for child in index.children]
    assert [child["image_id"] for child in listed["manifests"]] == [child.config_digest for child in index.children]
    assert [platform["architecture"] for platform in listed["platforms"]] == ["amd64", "arm64"]
    detail = await world.get("/1")
    assert [len(child["layers"]) for child in detail["manifests"]] == [1, 1]


async def test_tagged_child_is_listed_beside_its_index(world: World) -> None:
    index = make_index("hello")
    await world.gateway.push(index, "1")
    await world.gateway.tag(index.children[0], "amd64")
    await world.settle()
    assert set(await world.digests()) == {index.digest, index.children[0].digest}
    await world.gateway.delete_tag("amd64")
    await world.settle()
    assert await world.digests() == [index.digest]


async def test_attestation_is_named_and_is_no_platform(world: World) -> None:
    image, attestation = make_image("hello"), make_attestation()
    await world.gateway.push(make_attested_index(image, attestation), "1")
    await world.settle()
    [listed] = (await world.get())["images"]
    assert [child["kind"] for child in listed["manifests"]] == ["image", "attestation"]
    assert listed["manifests"][1]["attests"] == image.digest
    assert [platform["architecture"] for platform in listed["platforms"]] == ["amd64"]


async def test_tree_counts_each_digest_once(world: World) -> None:
    index = make_index("hello", platforms=[("amd64", None), ("amd64", None)])
    assert index.children[0].digest == index.children[1].digest
    await world.gateway.push(index, "1")
    await world.settle()
    child = index.children[0]
    expected = len(index.manifest) + len(child.manifest) + sum(len(blob) for blob in child.blobs.values())
    assert (await world.get("/1"))["size_bytes"] == expected


async def test_index_that_comes_before_its_children_ends_up_the_same(world: World) -> None:
    index = make_index("hello")
    await world.gateway.push(index, "1")
    await world.settle()
    in_order = await world.dump()
    pushed = dict(world.gateway.manifests)
    # The index is read while its children are not there yet, in a batch of its own.
    world.gateway.manifests = {index.digest: pushed[index.digest]}
    await world.database.pool.execute("TRUNCATE metadata.repositories CASCADE")
    await positions.rewind(world.database.pool, world.indexer.name, STREAM, to=2)
    await world.settle()
    assert [child["kind"] for child in (await world.get("/1"))["manifests"]] == ["image", "image"]
    world.gateway.manifests = pushed
    await positions.rewind(world.database.pool, world.indexer.name, STREAM, to=0)
    await world.settle(batch_size=1)
    assert await world.dump() == in_order


async def test_deleted_manifest_goes_with_its_tags(world: World) -> None:
    image, other = make_image("one"), make_image("two")
    await world.gateway.push(image, "1", "latest")
    await world.gateway.push(other, "2")
    await world.settle()
    await world.gateway.delete(image)
    await world.settle()
    assert await world.digests() == [other.digest]
    await world.get("/latest", status=404)


async def test_children_of_a_deleted_index_are_listed(world: World) -> None:
    index = make_index("hello")
    await world.gateway.push(index, "1")
    await world.settle()
    await world.gateway.delete(index)
    await world.settle()
    assert set(await world.digests()) == {child.digest for child in index.children}


async def test_moved_tag_names_the_new_image_only(world: World) -> None:
    old, new = make_image("old"), make_image("new")
    await world.gateway.push(old, "latest")
    await world.settle()
    await world.gateway.push(new, "latest")
    await world.settle()
    tags = {image["digest"]: image["tags"] for image in (await world.get())["images"]}
    assert tags == {new.digest: ["latest"], old.digest: []}
    assert (await world.get("/latest"))["digest"] == new.digest


async def test_tags_that_an_event_had_no_room_for_are_asked_for(world: World) -> None:
    image = make_image("hello")
    await world.gateway.push(image)
    await world.gateway.tag(image, *(f"v{number}" for number in range(120)), listed=10)
    await world.settle()
    detail = await world.get(f"/{image.digest}")
    assert (len(detail["tags"]), detail["more_tags"]) == (120, False)
    [listed] = (await world.get())["images"]
    assert (len(listed["tags"]), listed["more_tags"]) == (100, True)


async def _push_a_bit_of_everything(gateway: FakeGateway) -> None:
    image, index = make_document_image(json.dumps(DOCKER_CONFIG).encode()), make_index("hello")
    await gateway.push(image, "1", "latest")
    await gateway.push(index, "2", "latest")
    await gateway.push(make_attested_index(make_image("attested"), make_attestation()), "3")
    await gateway.push(make_artifact("application/spdx+json", b"sbom", subject=image))
    for position, config in enumerate(HOSTILE.values()):
        await gateway.push(make_document_image(config), f"hostile-{position}")
    nul = {"a\x00": "b\x00"}
    await gateway.push(make_document_image(b"{}", layer_type="\x00" * 9, annotations=nul, artifactType="t\x00"), "nul")
    await gateway.push(make_document_image(b'{"created":"0001-06-01T00:00:00+01:00"}', layer_type="m" * 9000), "long")
    gone = make_image("gone")
    await gateway.push(gone, "gone")
    await gateway.delete(gone)
    await gateway.delete_tag("3")
    await gateway.push(image)


@pytest.mark.parametrize("batch_size", [1, 7, 100])
async def test_replay_changes_nothing(world: World, batch_size: int) -> None:
    await _push_a_bit_of_everything(world.gateway)
    await world.settle()
    first = await world.dump()
    await positions.rewind(world.database.pool, world.indexer.name, STREAM, to=0)
    await world.settle(batch_size=batch_size)
    assert await world.dump() == first
    assert await positions.list_parked(world.database.pool) == []


async def test_rebuild_equals_replay(world: World) -> None:
    await _push_a_bit_of_everything(world.gateway)
    await world.settle()
    replayed = await world.dump()
    await world.database.pool.execute("DELETE FROM metadata.tags")
    await world.database.pool.execute("UPDATE metadata.manifests SET size_bytes = 0, top_level = NOT top_level")
    seen: list[tuple[int, int]] = []
    assert await world.indexer.rebuild(lambda done, total: seen.append((done, total))) == 1
    assert await world.dump() == replayed
    assert seen == [(1, 1)]


async def test_events_cut_by_retention_are_made_up_for_by_the_snapshot(world: World) -> None:
    await _push_a_bit_of_everything(world.gateway)
    await world.database.pool.execute("DELETE FROM log.events WHERE seq <= 5")
    await world.database.pool.execute("UPDATE log.streams SET first_seq = 6")
    await world.settle()
    reloaded = await world.dump()
    await world.indexer.rebuild()
    assert await world.dump() == reloaded
    assert len(reloaded["manifests"]) == len(world.gateway.manifests)


async def test_stream_without_snapshot_is_settled(world: World) -> None:
    async with world.database.pool.acquire() as connection, connection.transaction():
        event = NewEvent.of(RepositoryCreated(repository=REPOSITORY, visibility="private"))
        await EventLog().append(connection, "system", [event], Origin(None, None))
    assert await world.indexer.reload("system") == 1


async def test_repository_that_is_gone_is_forgotten_by_a_rebuild(world: World) -> None:
    await world.gateway.push(make_image("hello"), "1")
    await world.settle()
    world.gateway.exists = False
    await world.indexer.rebuild()
    assert await world.digests() == []
    assert await world.database.pool.fetchval("SELECT count(*) FROM metadata.manifests") == 0


async def test_gateway_away_delays_and_parks_nothing(world: World) -> None:
    image = make_image("hello")
    await world.gateway.push(image, "1")
    world.gateway.fails_with = 503
    with pytest.raises(Unavailable):
        await world.settle()
    assert await positions.list_parked(world.database.pool) == []
    world.gateway.fails_with = None
    await world.settle()
    assert await world.digests() == [image.digest]


async def test_config_behind_a_redirect_is_read_without_the_token(world: World) -> None:
    world.gateway.redirects_to = ""
    await world.gateway.push(make_image("hello"), "1")
    await world.settle()
    assert (await world.get("/1"))["problem"] is None
    assert world.gateway.storage_headers
    assert all("Authorization" not in headers for headers in world.gateway.storage_headers)


@pytest.mark.parametrize(
    ("stored", "problem"),
    [
        (None, "the config is not there"),
        (b"other bytes", "the config's bytes do not have its digest"),
        (bytes(5 * 1024 * 1024), "the config is larger than 4 MiB and was not read"),
    ],
    ids=["missing", "false", "longer than said"],
)
async def test_config_that_cannot_be_had_leaves_an_image_with_a_problem(
    world: World, stored: bytes | None, problem: str
) -> None:
    image = make_image("hello")
    await world.gateway.push(image, "1")
    del world.gateway.blobs[image.config_digest]
    if stored is not None:
        world.gateway.blobs[image.config_digest] = stored
    await world.settle()
    found = await world.get("/1")
    assert (found["problem"], found["image_id"], len(found["layers"])) == (problem, image.config_digest, 1)
    # The next push reads it again.
    world.gateway.blobs[image.config_digest] = image.blobs[image.config_digest]
    await world.gateway.push(image)
    await world.settle()
    assert (await world.get("/1"))["problem"] is None


async def test_sizes_beyond_a_bigint_are_bounded(world: World) -> None:
    layers = [
        {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": f"sha256:{n:064}", "size": 2**63 - 1}
        for n in range(3)
    ]
    await world.gateway.push(make_document_image(b"{}", (), layers=layers), "1")
    await world.settle()
    assert (await world.get("/1"))["size_bytes"] == 2**63 - 1


async def test_pages_lead_through_all_images_newest_first(world: World) -> None:
    images = [make_image(f"image {number}") for number in range(7)]
    for image in images:
        await world.gateway.push(image)
    await world.settle()
    seen: list[str] = []
    page = await world.get("?n=3")
    while page["next"] is not None:
        seen += [image["digest"] for image in page["images"]]
        page = await world.get(f"?n=3&last={page['next']}")
    seen += [image["digest"] for image in page["images"]]
    assert seen == [image.digest for image in reversed(images)]


async def test_page_of_heavy_images_is_cut_and_goes_on(world: World) -> None:
    labels = {"config": {"Labels": {"long": "x" * 3_900_000}}}
    images = [make_document_image(json.dumps({**labels, "os": str(number)}).encode()) for number in range(5)]
    for image in images:
        await world.gateway.push(image)
    await world.settle()
    first = await world.get()
    assert [image["digest"] for image in first["images"]] == [image.digest for image in images[:2:-1]]
    second = await world.get(f"?last={first['next']}")
    assert [image["digest"] for image in second["images"]] == [image.digest for image in images[2:0:-1]]


@pytest.mark.parametrize("query", ["n=0", "n=-1", "n=501", "n=abc", f"n={10**18}", "last=abc", "last=%00"])
async def test_query_out_of_bounds_is_refused(world: World, query: str) -> None:
    await world.get(f"?{query}", status=400)


async def test_list_of_an_unknown_repository_is_empty(world: World) -> None:
    assert await world.get() == {"images": [], "next": None}


async def test_rebuild_while_events_come_ends_in_the_same_state(world: World) -> None:
    async def push() -> None:
        for number in range(10):
            await world.gateway.push(make_image(f"image {number}"), "latest", f"v{number}")
            await world.settle(batch_size=3)

    async with asyncio.TaskGroup() as group:
        group.create_task(push())
        for _ in range(3):
            group.create_task(world.indexer.rebuild())
    await world.settle()
    concurrent = await world.dump()
    await world.indexer.rebuild()
    assert await world.dump() == concurrent
    assert len(concurrent["manifests"]) == 10
