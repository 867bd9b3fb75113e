"""Blobs that are rows: whichever way they come, nothing of them is in storage, and they are served without it."""

from __future__ import annotations

import asyncio
import os
import shutil
import uuid
from collections.abc import AsyncIterable, AsyncIterator
from pathlib import Path

import pytest

from slipway_common.testing.images import an_image, digest
from slipway_gateway.store.uploads import storage_key_of
from tests.integration.gateway.client import Client, open_client
from tests.integration.gateway.running import RunningGateway, make_folder, run_sql, running_gateway
from tests.parts.s3 import S3Server

KIB = 1024
# The most that a row takes.
ROW_BYTES = 16 * KIB
REPOSITORY = "acme/app"
WAYS = ["post", "put", "patch", "chunked-patch", "two-patches", "chunked-post", "chunked-put"]


@pytest.fixture
async def gateway(database_url: str) -> AsyncIterator[RunningGateway]:
    async with running_gateway(database_url) as running:
        yield running


@pytest.fixture
async def own(gateway: RunningGateway) -> AsyncIterator[Client]:
    """The administrator at a gateway of the test's own."""
    async with open_client(gateway.url) as opened:
        yield opened


@pytest.fixture
async def folder() -> AsyncIterator[Path]:
    made = make_folder()
    yield made
    shutil.rmtree(made, ignore_errors=True)


async def chunked(content: bytes) -> AsyncIterable[bytes]:
    """A body of a length that is not announced."""
    for start in range(0, len(content), 1000):
        yield content[start : start + 1000]


async def push(client: Client, repository: str, content: bytes, way: str, algorithm: str = "sha256") -> str:
    """Push a blob one way or the other; its digest."""
    name = digest(content, algorithm)
    if way.endswith("post"):
        body = content if way == "post" else chunked(content)
        answer = await client.start_upload(repository, body=body, digest=name)
    else:
        location = await client.open_upload(repository, digest_algorithm=algorithm)
        pieces: list[bytes | AsyncIterable[bytes]] = {
            "patch": [content],
            "chunked-patch": [chunked(content)],
            "two-patches": [content[: len(content) // 2], content[len(content) // 2 :]],
        }.get(way, [])  # type: ignore[assignment]
        for piece in pieces:
            assert (await client.patch(location, piece)).status == 202
        last = {"put": content, "chunked-put": chunked(content)}.get(way, b"")
        answer = await client.finish(location, name, last)
    assert (answer.status, answer.digest) == (201, name), str(answer)
    return name


async def find_row(gateway: RunningGateway, name: str) -> tuple[str, bytes | None] | None:
    """Key and bytes of a blob's row."""
    rows = await run_sql(gateway.database_url, "SELECT storage_key, content FROM gateway.blobs WHERE digest = $1", name)
    return (rows[0]["storage_key"], rows[0]["content"]) if rows else None


async def reclaimable(gateway: RunningGateway) -> list[str]:
    return [
        row["storage_key"] for row in await run_sql(gateway.database_url, "SELECT storage_key FROM gateway.reclaim")
    ]


def stored_files(gateway: RunningGateway) -> list[Path]:
    return [path for path in gateway.objects.rglob("*") if path.is_file()]


async def wait_until_stored(gateway: RunningGateway, count: int) -> None:
    """Wait until the reclaimer has left so many files."""
    async with asyncio.timeout(15):
        while len(stored_files(gateway)) != count or await reclaimable(gateway):
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("way", WAYS)
async def test_small_blob_is_in_the_database_and_not_in_storage(gateway: RunningGateway, own: Client, way: str) -> None:
    content = os.urandom(5000)
    name = await push(own, REPOSITORY, content, way)
    assert await find_row(gateway, name) == ("", content)
    assert stored_files(gateway) == []
    assert await run_sql(gateway.database_url, "SELECT FROM gateway.uploads") == []
    assert (await own.get_blob(REPOSITORY, name)).body == content


async def test_session_of_a_small_blob_leaves_nothing_to_reclaim(gateway: RunningGateway, own: Client) -> None:
    for way in ("post", "put", "patch", "chunked-patch", "two-patches"):
        await push(own, REPOSITORY, os.urandom(5000), way)
        assert await reclaimable(gateway) == []


@pytest.mark.parametrize("way", WAYS)
async def test_small_blob_has_the_digest_that_its_client_chose(
    client: Client, repository: str, shared_gateway: RunningGateway, way: str
) -> None:
    content = os.urandom(5000)
    name = await push(client, repository, content, way, "sha512")
    assert await find_row(shared_gateway, name) == ("", content)
    assert (await client.get_blob(repository, name)).body == content
    assert (await client.get_blob(repository, digest(content))).status == 404


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", [0, ROW_BYTES, ROW_BYTES + 1, 64 * KIB, 64 * KIB + 1], ids=str)
async def test_blob_is_a_row_up_to_16_kib_and_an_object_beyond(
    client: Client, repository: str, shared_gateway: RunningGateway, way: str, size: int
) -> None:
    content = os.urandom(size)
    name = await push(client, repository, content, way)
    row = await find_row(shared_gateway, name)
    assert row is not None
    key, held = row
    if size <= ROW_BYTES:
        assert (key, held) == ("", content)
    else:
        assert held is None
        assert (shared_gateway.objects / key).read_bytes() == content
    answer = await client.get_blob(repository, name)
    assert (answer.status, answer.body) == (200, content)


async def test_row_blob_is_served_whole_and_in_part_without_storage(gateway: RunningGateway, own: Client) -> None:
    """By a gateway that has never seen its bytes, and has no storage that could have them."""
    content = os.urandom(ROW_BYTES)
    name = await push(own, REPOSITORY, content, "put")
    async with running_gateway(
        gateway.database_url, folder=gateway.folder, name="two", storage_folder=gateway.folder / "other"
    ) as two:
        other = own.at(two.url)
        assert (await other.head(f"/v2/{REPOSITORY}/blobs/{name}")).headers["Content-Length"] == str(ROW_BYTES)
        for asked, first, stop in (
            ("0-0", 0, 1),
            ("5000-9999", 5000, 10_000),
            ("16000-", 16_000, 16_384),
            ("-1", 16_383, 16_384),
        ):
            part = await other.get_blob(REPOSITORY, name, headers={"Range": f"bytes={asked}"})
            assert (part.status, part.body) == (206, content[first:stop])
            assert part.headers["Content-Range"] == f"bytes {first}-{stop - 1}/{ROW_BYTES}"
        assert (await other.get_blob(REPOSITORY, name, headers={"Range": "bytes=16384-"})).status == 416
        assert (await other.get_blob(REPOSITORY, name)).body == content


async def test_config_that_another_gateway_took_in_tells_the_platform(gateway: RunningGateway, own: Client) -> None:
    image = an_image("elsewhere").for_platform("linux/arm64/v8").build()
    await own.push_content(REPOSITORY, image)
    async with running_gateway(gateway.database_url, folder=gateway.folder, name="two") as two:
        other = own.at(two.url)
        await other.put_manifest(REPOSITORY, "latest", image.manifest, image.media_type)
        pushed = (await other.list_events(REPOSITORY))[-1]["data"]
        assert [platform["architecture"] for platform in pushed["platforms"]] == ["arm64"]


async def test_bytes_that_are_not_what_their_digest_says_are_not_served(gateway: RunningGateway, own: Client) -> None:
    name = await push(own, REPOSITORY, b"as it was pushed", "put")
    await run_sql(gateway.database_url, "UPDATE gateway.blobs SET content = 'as it was Pushed' WHERE digest = $1", name)
    async with running_gateway(gateway.database_url, folder=gateway.folder, name="two") as two:
        other = own.at(two.url)
        assert (await other.get_blob(REPOSITORY, name)).codes == ["BLOB_UNKNOWN"]
        assert (await other.head(f"/v2/{REPOSITORY}/blobs/{name}")).status == 404


async def test_small_blob_is_not_redirected_to_the_bucket(database_url: str, s3: S3Server) -> None:
    settings = {
        "storage": "s3",
        "s3_endpoint_url": s3.endpoint_url,
        "s3_bucket": s3.bucket,
        "s3_access_key": s3.access_key,
        "s3_secret_key": s3.secret_key,
        "s3_prefix": f"{uuid.uuid4().hex}/",
        "s3_redirect": True,
    }
    async with running_gateway(database_url, **settings) as gateway, open_client(gateway.url) as client:
        for way in WAYS:
            content = os.urandom(3000)
            name = await push(client, REPOSITORY, content, way)
            assert (await client.get_blob(REPOSITORY, name)).body == content
            part = await client.get_blob(REPOSITORY, name, headers={"Range": "bytes=10-19"})
            assert (part.status, part.body) == (206, content[10:20])
        large = await push(client, REPOSITORY, os.urandom(100 * KIB), "put")
        assert (await client.get_blob(REPOSITORY, large)).status == 307


# One digest, several pushes.


async def store_as_object(gateway: RunningGateway, name: str, *, quarantined: bool = False) -> str:
    """Turn a row into what a version before would have made of it: an object. Its key."""
    row = await find_row(gateway, name)
    assert row is not None
    assert row[1] is not None
    key = storage_key_of(uuid.uuid4())
    (gateway.objects / key).parent.mkdir(parents=True, exist_ok=True)
    (gateway.objects / key).write_bytes(row[1])
    await run_sql(
        gateway.database_url,
        "UPDATE gateway.blobs SET content = NULL, storage_key = $2,"
        " quarantined_at = CASE WHEN $3 THEN clock_timestamp() END WHERE digest = $1",
        name,
        key,
        quarantined,
    )
    return key


@pytest.mark.parametrize("way", ["post", "put", "patch", "chunked-put"])
async def test_blob_that_is_an_object_stays_one_when_it_is_pushed_again(
    gateway: RunningGateway, own: Client, way: str
) -> None:
    content = os.urandom(2000)
    name = await push(own, REPOSITORY, content, "put")
    key = await store_as_object(gateway, name)
    await push(own, "acme/other", content, way)
    assert await find_row(gateway, name) == (key, None)
    for repository in (REPOSITORY, "acme/other"):
        assert (await own.get_blob(repository, name)).body == content
        assert (await own.delete(f"/v2/{repository}/blobs/{name}")).status == 202
    assert await find_row(gateway, name) is None
    await wait_until_stored(gateway, 0)


@pytest.mark.parametrize("way", ["post", "put", "patch", "chunked-put"])
async def test_blob_that_was_found_bad_is_replaced_by_a_row(gateway: RunningGateway, own: Client, way: str) -> None:
    content = os.urandom(2000)
    name = await push(own, REPOSITORY, content, "put")
    await store_as_object(gateway, name, quarantined=True)
    assert (await own.get_blob(REPOSITORY, name)).status == 404
    await push(own, REPOSITORY, content, way)
    assert await find_row(gateway, name) == ("", content)
    assert (await own.get_blob(REPOSITORY, name)).body == content
    await wait_until_stored(gateway, 0)


async def test_row_that_was_found_bad_is_replaced(gateway: RunningGateway, own: Client) -> None:
    content = os.urandom(2000)
    name = await push(own, REPOSITORY, content, "put")
    await run_sql(gateway.database_url, "UPDATE gateway.blobs SET content = 'bad', quarantined_at = clock_timestamp()")
    await push(own, REPOSITORY, content, "put")
    assert await find_row(gateway, name) == ("", content)
    assert await reclaimable(gateway) == []


async def test_many_pushes_of_one_digest_at_once_make_one_row(
    client: Client, repository: str, other_repository: str, shared_gateway: RunningGateway
) -> None:
    content = os.urandom(9000)
    names = await asyncio.gather(
        *(push(client, name, content, way) for way in WAYS for name in (repository, other_repository) for _ in range(2))
    )
    assert set(names) == {digest(content)}
    assert await find_row(shared_gateway, names[0]) == ("", content)
    for name in (repository, other_repository):
        assert (await client.get_blob(name, names[0])).body == content


async def test_blob_that_is_pushed_while_it_is_deleted_is_whole_or_not_there(
    client: Client, repository: str, other_repository: str
) -> None:
    content = os.urandom(9000)
    name = digest(content)

    async def delete(where: str) -> None:
        assert (await client.delete(f"/v2/{where}/blobs/{name}")).status in (202, 404)

    for round_ in range(12):
        way = WAYS[round_ % len(WAYS)]
        await asyncio.gather(
            push(client, repository, content, way), delete(other_repository), delete(repository), delete(other_repository),
            push(client, other_repository, content, "put"),
        )  # fmt: skip
        for where in (repository, other_repository):
            answer = await client.get_blob(where, name)
            assert answer.status == 404 or answer.body == content
            await push(client, where, content, way)
            assert (await client.get_blob(where, name)).body == content


# Links.


async def test_mounted_row_outlives_the_repository_it_came_from(gateway: RunningGateway, own: Client) -> None:
    name = await push(own, REPOSITORY, b"shared", "post")
    assert (await own.start_upload("acme/other", mount=name, **{"from": REPOSITORY})).status == 201
    assert (await own.delete(f"/v2/{REPOSITORY}/blobs/{name}")).status == 202
    assert (await own.get_blob("acme/other", name)).body == b"shared"
    assert await find_row(gateway, name) == ("", b"shared")


async def test_row_goes_with_its_last_link_and_leaves_nothing_to_reclaim(gateway: RunningGateway, own: Client) -> None:
    """Nothing is put on the list of keys, on which a key that is none would stop all that come after it."""
    small = await push(own, REPOSITORY, b"small", "put")
    large = await push(own, REPOSITORY, os.urandom(20 * KIB), "put")
    assert (await own.delete(f"/v2/{REPOSITORY}/blobs/{small}")).status == 202
    assert await find_row(gateway, small) is None
    assert await reclaimable(gateway) == []
    assert len(stored_files(gateway)) == 1
    assert (await own.delete(f"/v2/{REPOSITORY}/blobs/{large}")).status == 202
    await wait_until_stored(gateway, 0)


# Sessions that hold what has come.


async def session_of(gateway: RunningGateway, location: str) -> tuple[int, bytes | None]:
    rows = await run_sql(
        gateway.database_url,
        "SELECT offset_bytes, content FROM gateway.uploads WHERE id = $1",
        uuid.UUID(location[-36:]),
    )
    return rows[0]["offset_bytes"], rows[0]["content"]


async def test_session_holds_what_has_come_until_it_is_too_much_for_a_row(database_url: str) -> None:
    """Two gateways in turn, with empty pieces between: each goes on exactly where the other stopped."""
    sizes = [0, 1, 4000, 0, ROW_BYTES - 4001, 0, 1, 5, 70_000]
    content = os.urandom(sum(sizes))
    async with (
        running_gateway(database_url) as one,
        running_gateway(database_url, folder=one.folder, name="two") as two,
        open_client(one.url) as client,
    ):
        gateways = [client, client.at(two.url)]
        location = await client.open_upload(REPOSITORY)
        path = one.objects / storage_key_of(uuid.UUID(location[-36:]))
        offset = 0
        for number, size in enumerate(sizes):
            answer = await gateways[number % 2].patch(location, content[offset : offset + size])
            assert answer.status == 202
            offset += size
            small = offset <= ROW_BYTES
            assert await session_of(one, location) == (offset, content[:offset] if small else None)
            assert path.exists() is not small
            status = await gateways[1 - number % 2].get(location)
            assert status.headers["Range"] == f"0-{max(offset - 1, 0)}"
        assert (await gateways[1].finish(location, digest(content))).status == 201
        assert path.read_bytes() == content
        assert (await client.get_blob(REPOSITORY, digest(content))).body == content


@pytest.mark.parametrize("more", [b"", b"the rest", os.urandom(20 * KIB)], ids=["nothing", "a-row", "an-object"])
async def test_session_survives_the_gateway_that_held_it(database_url: str, folder: Path, more: bytes) -> None:
    """Nothing of it is in that process, or in its storage."""
    content = os.urandom(3000)
    async with running_gateway(database_url, folder=folder) as one, open_client(one.url) as client:
        location = await client.open_upload(REPOSITORY)
        await client.patch(location, content)
    async with (
        running_gateway(database_url, folder=folder, storage_folder=folder / "other") as two,
        open_client(two.url) as client,
    ):
        assert (await client.get(location)).headers["Range"] == "0-2999"
        if more:
            assert (await client.patch(location, more, content_range=f"3000-{2999 + len(more)}")).status == 202
        assert (await client.finish(location, digest(content + more))).status == 201
        assert (await client.get_blob(REPOSITORY, digest(content + more))).body == content + more


@pytest.mark.parametrize("further", [False, True], ids=["at-once", "after-another"])
@pytest.mark.parametrize("way", ["after-all", "with-all"])
async def test_object_of_a_session_that_became_a_row_is_deleted(
    gateway: RunningGateway, own: Client, way: str, further: bool
) -> None:
    """A process was killed when it had opened the object, and before it could say how far it had come: its lease is left."""
    content = os.urandom(3000)
    location = await own.open_upload(REPOSITORY)
    if way == "after-all":
        await own.patch(location, content)
    key = storage_key_of(uuid.UUID(location[-36:]))
    (gateway.objects / key).parent.mkdir(parents=True, exist_ok=True)
    (gateway.objects / key).write_bytes(os.urandom(100 * KIB))
    await run_sql(
        gateway.database_url,
        "UPDATE gateway.uploads SET lease_token = gen_random_uuid(), lease_until = clock_timestamp() - interval '1 s'",
    )
    if further:
        assert (await own.patch(location, b"")).status == 202
    assert (await own.finish(location, digest(content), content if way == "with-all" else b"")).status == 201
    assert (await own.get_blob(REPOSITORY, digest(content))).body == content
    await wait_until_stored(gateway, 0)


@pytest.mark.parametrize("announced", [True, False], ids=["content-length", "chunked"])
async def test_object_of_a_refused_request_is_deleted_although_the_session_becomes_a_row(
    gateway: RunningGateway, own: Client, announced: bool
) -> None:
    """Storage failed in the middle; the client sends something small then."""
    location = await own.open_upload(REPOSITORY)
    key = storage_key_of(uuid.UUID(location[-36:]))
    folder = (gateway.objects / key).parent
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("not a folder")
    large = os.urandom(100 * KIB)
    assert (await own.patch(location, large if announced else chunked(large))).status == 503
    folder.unlink()
    folder.mkdir()
    (gateway.objects / key).write_bytes(large)
    assert (await own.finish(location, digest(b"small"), b"small")).status == 201
    await wait_until_stored(gateway, 0)


async def test_pushes_of_small_blobs_go_on_without_storage(gateway: RunningGateway, own: Client) -> None:
    """Nothing of them would be there. Whatever needs storage is refused, and what was held is not lost by that."""
    held = os.urandom(2000)
    location = await own.open_upload(REPOSITORY)
    await own.patch(location, held)
    moved = gateway.objects.with_name("elsewhere")
    gateway.objects.rename(moved)
    gateway.objects.write_text("not a folder")
    for way in WAYS:
        content = os.urandom(3000)
        name = await push(own, REPOSITORY, content, way)
        assert (await own.get_blob(REPOSITORY, name)).body == content
    image = an_image("without storage").build()
    await own.push(REPOSITORY, image, "latest")
    large = os.urandom(20 * KIB)
    for refused in (
        await own.start_upload(REPOSITORY, body=large, digest=digest(large)),
        await own.finish(await own.open_upload(REPOSITORY), digest(large), large),
        await own.patch(await own.open_upload(REPOSITORY), chunked(large)),
        await own.patch(location, large),
        await own.patch(location, chunked(large)),
    ):
        assert (refused.status, refused.codes) == (503, ["UNAVAILABLE"])
    assert (await own.get(location)).headers["Range"] == "0-1999"
    gateway.objects.unlink()
    moved.rename(gateway.objects)
    assert (await own.patch(location, large)).status == 202
    assert (await own.finish(location, digest(held + large))).status == 201
    assert (await own.get_blob(REPOSITORY, digest(held + large))).body == held + large


async def test_row_of_another_repository_is_not_had_by_its_digest(
    client: Client, repository: str, other_repository: str
) -> None:
    """Neither an empty body nor other bytes, on a session or without one, get at what is stored elsewhere."""
    name = await push(client, repository, b"only in the first", "put")
    held = await client.open_upload(other_repository)
    await client.patch(held, b"a guess")
    refused = [
        await client.start_upload(other_repository, body=b"a guess", digest=name),
        await client.start_upload(other_repository, body=b"", digest=name),
        await client.finish(await client.open_upload(other_repository), name),
        await client.finish(await client.open_upload(other_repository), name, b"a guess"),
        await client.finish(held, name),
    ]
    for answer in refused:
        assert (answer.status, answer.codes) == (400, ["DIGEST_INVALID"])
    assert (await client.get_blob(other_repository, name)).status == 404


async def test_session_of_another_user_or_repository_is_not_ended_by_its_digest(
    client: Client, bob: Client, repository: str, other_repository: str
) -> None:
    await client.open_upload(other_repository)
    location = await client.open_upload(repository)
    await client.patch(location, b"held")
    fresh = await client.open_upload(repository)
    for path, body in ((location, b""), (fresh, b"held")):
        for answer in (
            await bob.finish(path, digest(b"held"), body),
            await client.finish(path.replace(repository, other_repository), digest(b"held"), body),
        ):
            assert (answer.status, answer.codes) == (404, ["BLOB_UPLOAD_UNKNOWN"])
    assert (await client.get_blob(repository, digest(b"held"))).status == 404
    assert (await client.finish(location, digest(b"held"))).status == 201
