"""Several gateways on one database: what one changes all others see at once, whoever joins, leaves, or loses its place."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from slipway_common.testing.images import Image, an_image
from tests.integration.gateway.client import Client, open_client
from tests.integration.gateway.running import RunningGateway, make_folder, run_sql, running_gateway

REPOSITORY = "acme/app"
_ALONE = """
SELECT FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ExclusiveLock' AND granted
AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


@pytest.fixture
async def folder() -> AsyncIterator[Path]:
    made = make_folder()
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
async def one(database_url: str, folder: Path) -> AsyncIterator[RunningGateway]:
    async with running_gateway(database_url, folder=folder, name="one") as gateway:
        yield gateway


@pytest.fixture
async def client(one: RunningGateway) -> AsyncIterator[Client]:
    async with open_client(one.url) as opened:
        yield opened


async def wait_until_alone(database_url: str) -> None:
    async with asyncio.timeout(10):
        while not await run_sql(database_url, _ALONE):
            await asyncio.sleep(0.05)


async def push_variants(client: Client, count: int = 4) -> list[Image]:
    images = [an_image(f"variant {number}").build() for number in range(count)]
    for image in images:
        await client.push(REPOSITORY, image)
    return images


async def test_what_one_changes_the_other_sees_at_once(
    one: RunningGateway, client: Client, database_url: str, folder: Path
) -> None:
    images = await push_variants(client, 2)
    async with running_gateway(database_url, folder=folder, name="two") as two:
        other = client.at(two.url)
        for round_ in range(10):
            writer, reader = (client, other) if round_ % 2 else (other, client)
            image = images[round_ % 2]
            await writer.put_manifest(REPOSITORY, "latest", image.manifest, image.media_type)
            assert (await reader.get_manifest(REPOSITORY, "latest")).digest == image.digest
            assert await reader.list_tags(REPOSITORY) == ["latest"]
            await writer.delete(f"/v2/{REPOSITORY}/manifests/latest")
            assert (await reader.get_manifest(REPOSITORY, "latest")).status == 404
            assert await reader.list_tags(REPOSITORY) == []
        blob = await client.push_blob(REPOSITORY, b"shared")
        assert (await other.get_blob(REPOSITORY, blob)).body == b"shared"
        await client.delete(f"/v2/{REPOSITORY}/blobs/{blob}")
        assert (await other.get_blob(REPOSITORY, blob)).status == 404
        await client.delete(f"/v2/{REPOSITORY}/manifests/{images[0].digest}")
        assert (await other.get_manifest(REPOSITORY, images[0].digest)).status == 404


class Register:
    """One tag that is moved here and read there. No read that begins after a move was acknowledged may show what was before."""

    def __init__(self, images: list[Image]) -> None:
        self._images = images
        self._order = {image.digest: number for number, image in enumerate(images)}
        self._moves = 0
        self._acknowledged = 0
        self.reads = 0

    async def move(self, client: Client) -> None:
        self._moves += 1
        number = self._moves
        image = self._images[number % len(self._images)]
        answer = await client.put_manifest(REPOSITORY, "latest", image.manifest, image.media_type)
        assert answer.status == 201, str(answer)
        self._acknowledged = number

    async def read(self, client: Client) -> None:
        """Moves come one after the other, so what is read is the acknowledged one, or one begun meanwhile."""
        earliest = self._acknowledged
        answer = await client.get_manifest(REPOSITORY, "latest")
        latest = self._moves
        assert answer.status == 200, str(answer)
        allowed = {number % len(self._images) for number in range(earliest, latest + 1)}
        assert self._order[answer.digest] in allowed, f"stale: {earliest}..{latest}"
        self.reads += 1


async def test_no_read_is_stale_while_a_newcomer_joins_and_leaves(
    one: RunningGateway, client: Client, database_url: str, folder: Path
) -> None:
    register = Register(await push_variants(client))
    await register.move(client)
    rng = random.Random(1)
    gateways = [client]
    stop = asyncio.Event()

    async def write() -> None:
        while not stop.is_set():
            await register.move(rng.choice(gateways))
            await asyncio.sleep(rng.random() * 0.01)

    async def read() -> None:
        while not stop.is_set():
            await register.read(rng.choice(gateways))

    async with asyncio.TaskGroup() as group:
        group.create_task(write())
        for _ in range(3):
            group.create_task(read())
        for number in range(2):
            await wait_until_alone(database_url)
            await asyncio.sleep(0.2)
            async with running_gateway(database_url, folder=folder, name=f"newcomer-{number}") as newcomer:
                assert not await run_sql(database_url, _ALONE), "the one that was alone has let go before others serve"
                gateways.append(client.at(newcomer.url))
                await asyncio.sleep(0.7)
                gateways.pop()
                await asyncio.sleep(0.1)  # what was begun there is answered before it goes
        stop.set()
    assert register.reads > 100


async def test_no_read_is_stale_while_places_are_lost(
    one: RunningGateway, client: Client, database_url: str, folder: Path
) -> None:
    """The connections that say who is alone are cut again and again, under a writer at each of two gateways."""
    register = Register(await push_variants(client))
    await register.move(client)
    stop = asyncio.Event()
    rng = random.Random(2)
    async with running_gateway(database_url, folder=folder, name="two") as two:
        gateways = [client, client.at(two.url)]

        async def write() -> None:
            while not stop.is_set():
                await register.move(rng.choice(gateways))

        async def read(reader: Client) -> None:
            while not stop.is_set():
                await register.read(reader)

        async with asyncio.TaskGroup() as group:
            group.create_task(write())
            for gateway in gateways:
                group.create_task(read(gateway))
            for _ in range(6):
                await run_sql(
                    database_url,
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'slipway solo'"
                    " AND datname = current_database() ORDER BY random() LIMIT 1",
                )
                await asyncio.sleep(0.6)
            stop.set()
    assert register.reads > 50


async def test_gateway_that_is_left_alone_answers_from_memory_again(
    one: RunningGateway, client: Client, database_url: str, folder: Path
) -> None:
    (image,) = await push_variants(client, 1)
    async with running_gateway(database_url, folder=folder, name="two"):
        assert not await run_sql(database_url, _ALONE)
    await wait_until_alone(database_url)
    await asyncio.sleep(2.2)
    await client.get_manifest(REPOSITORY, image.digest)
    before = await count_reads(database_url)
    for _ in range(20):
        await client.get_manifest(REPOSITORY, image.digest)
    assert await count_reads(database_url) - before < 20


async def count_reads(database_url: str) -> int:
    """Look-ups in the table of manifests, as PostgreSQL counts them."""
    rows = await run_sql(
        database_url,
        "SELECT pg_stat_force_next_flush(), idx_scan + seq_scan AS scans FROM pg_stat_user_tables WHERE relname = 'manifests'",
    )
    return int(rows[0]["scans"])


async def test_connection_that_only_waits_for_its_place_is_not_left_behind(
    one: RunningGateway, client: Client, database_url: str
) -> None:
    """Whoever loses its place while another holds it alone asks again, and leaves no connection each time."""
    solo = "SELECT pid FROM pg_stat_activity WHERE application_name = 'slipway solo' AND datname = current_database()"
    for _ in range(4):
        await run_sql(database_url, solo.replace("SELECT pid", "SELECT pg_terminate_backend(pid)"))
        await asyncio.sleep(0.3)
    await wait_until_alone(database_url)
    assert len(await run_sql(database_url, solo)) == 1


async def test_many_gateways_start_at_once_on_an_empty_database(database_url: str, folder: Path) -> None:
    """One makes the schema, the keys and the account; all of them serve with the same."""
    gateways = [RunningGateway(database_url, folder, name=str(number)) for number in range(3)]
    await asyncio.gather(*(asyncio.to_thread(gateway.start) for gateway in gateways))
    try:
        async with open_client(gateways[0].url) as client:
            token = await client.get_token(f"repository:{REPOSITORY}:pull,push")
            for gateway in gateways:
                assert (await client.at(gateway.url).get("/v2/")).status == 200
                assert (await client.at(gateway.url).with_token(token).start_upload(REPOSITORY)).status == 202
    finally:
        await asyncio.gather(*(asyncio.to_thread(gateway.stop) for gateway in gateways))
