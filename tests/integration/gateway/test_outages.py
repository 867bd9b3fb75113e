"""What the gateway leans on goes away under it: it says so at once, acknowledges nothing, and recovers by itself."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Self

import pytest

from slipway_common.database.embedded import embedded_postgres
from slipway_common.testing.images import an_image, digest
from tests.integration.gateway.client import Answer, Client, open_client
from tests.integration.gateway.running import RunningGateway, make_folder, run_sql, running_gateway

KIB, MIB = 1024, 1024 * 1024
REPOSITORY = "acme/app"
_SOON_S = 3.0


class OwnPostgres:
    """A PostgreSQL of this test's own, to be stopped, killed, and started again on the same data."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self.dsn = ""

    def start(self) -> Self:
        ready = threading.Event()

        async def run() -> None:
            self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
            async with embedded_postgres(self.folder / "postgres", socket_folder=self.folder / "run") as dsn:
                self.dsn = dsn
                ready.set()
                await self._stop.wait()

        self._thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
        self._thread.start()
        assert ready.wait(60), "PostgreSQL did not start"
        return self

    def stop(self) -> None:
        if self._loop is not None and self._stop is not None and self._thread is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(30)

    def kill(self) -> None:
        """As the out-of-memory killer would: no word to anybody."""
        pid = int((self.folder / "postgres" / "data" / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGKILL)
        self.stop()


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[OwnPostgres]:
    folder = make_folder()
    server = OwnPostgres(folder).start()
    yield server
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)


async def soon(work: asyncio.Future[Answer] | asyncio.Task[Answer]) -> Answer:
    async with asyncio.timeout(_SOON_S):
        return await work


async def wait_for(client: Client, path: str, status: int, *, timeout_s: float = 10) -> float:
    """How long it took until `path` answered so."""
    started = time.monotonic()
    while (await client.get(path)).status != status:
        assert time.monotonic() - started < timeout_s, f"{path} did not answer {status}"
        await asyncio.sleep(0.05)
    return time.monotonic() - started


@pytest.mark.parametrize("how", ["stopped", "killed"])
async def test_database_that_is_away_means_503_at_once_and_no_acknowledgement(
    own_postgres: OwnPostgres, how: str
) -> None:
    image, late = an_image(how).build(), an_image(f"{how} late").build()
    content = os.urandom(300 * KIB)
    async with (
        running_gateway(own_postgres.dsn, folder=own_postgres.folder) as gateway,
        open_client(gateway.url) as client,
    ):
        repository = f"{REPOSITORY}-{how}"
        await client.push(repository, image, "latest")
        await client.push_content(repository, late)
        location = await client.open_upload(repository)
        await client.patch(location, content[: 100 * KIB])
        token = client.with_token(await client.get_token(f"repository:{repository}:pull"))
        assert (await token.get_manifest(repository, "latest")).status == 200

        await asyncio.to_thread(own_postgres.kill if how == "killed" else own_postgres.stop)
        refused = [
            asyncio.create_task(work)
            for work in (
                client.get_manifest(repository, "latest"),
                token.get_manifest(repository, "latest"),
                client.get_blob(repository, image.config_digest),
                client.put_manifest(repository, "late", late.manifest, late.media_type),
                client.start_upload(repository),
                client.start_upload(repository, body=content, digest=digest(content)),
                client.patch(location, content[100 * KIB :]),
                client.finish(location, digest(content), content[100 * KIB :]),
                client.delete(f"/v2/{repository}/manifests/latest"),
                client.get("/v2/_catalog"),
                client.get("/token?service=slipway"),
                client.get("/readyz"),
            )
        ]
        answers = [await soon(task) for task in refused]
        assert {answer.status for answer in answers} == {503}
        for answer in answers[:-2]:
            assert answer.codes == ["UNAVAILABLE"]
            assert int(answer.headers["Retry-After"]) >= 1
        assert (await client.get("/healthz")).status == 200

        await asyncio.to_thread(own_postgres.start)
        assert await wait_for(client, f"/v2/{repository}/manifests/latest", 200) < 5
        await wait_for(client, "/readyz", 200)
        assert (await client.get_manifest(repository, "late")).status == 404
        assert (await client.put_manifest(repository, "late", late.manifest, late.media_type)).status == 201
        status = await client.get(location)
        assert status.headers["Range"] == f"0-{100 * KIB - 1}"
        assert (await client.finish(location, digest(content), content[100 * KIB :])).status == 201
        assert (await client.get_blob(repository, digest(content))).body == content


async def test_cut_connections_are_replaced_without_anybody_noticing(own_postgres: OwnPostgres) -> None:
    """Idle connections that a firewall or a fail-over cut: at most one answer is 503, then all is well."""
    async with (
        running_gateway(own_postgres.dsn, folder=own_postgres.folder) as gateway,
        open_client(gateway.url) as client,
    ):
        image = an_image("cut").build()
        await client.push(REPOSITORY, image, "latest")
        for _ in range(3):
            await run_sql(
                own_postgres.dsn,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name LIKE 'slipway%' AND pid <> pg_backend_pid()",
            )
            statuses = [(await client.get_manifest(REPOSITORY, "latest")).status for _ in range(5)]
            assert statuses[-3:] == [200, 200, 200], statuses
            assert set(statuses) <= {200, 503}


class SmallDisk:
    """A file system of a few MiB that can be filled, and made read-only."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self) -> None:
        with (self.folder / "filler").open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(b"x" * 64 * KIB)
            except OSError:
                return

    def empty(self) -> None:
        (self.folder / "filler").unlink()

    def remount(self, how: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{how}", str(self.folder)], check=True, capture_output=True)


@pytest.fixture
def small_disk() -> Iterator[SmallDisk]:
    folder = make_folder()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m,mode=0711", "tmpfs", str(folder)]
    mounted = subprocess.run(command, check=False, capture_output=True, text=True) if os.geteuid() == 0 else None
    if mounted is None or mounted.returncode:
        pytest.skip(f"a tmpfs can only be mounted by root: {mounted.stderr.strip() if mounted else 'not root'}")
    yield SmallDisk(folder)
    subprocess.run(["umount", "-l", str(folder)], check=False)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def on_small_disk(database_url: str, small_disk: SmallDisk) -> AsyncIterator[RunningGateway]:
    async with running_gateway(database_url, storage_folder=small_disk.folder / "objects") as gateway:
        yield gateway


@pytest.mark.parametrize("how", ["full", "read-only"])
async def test_storage_that_takes_nothing_means_503_while_reads_go_on(
    on_small_disk: RunningGateway, small_disk: SmallDisk, how: str
) -> None:
    content, more = os.urandom(500 * KIB), os.urandom(500 * KIB)
    async with open_client(on_small_disk.url) as client:
        image = an_image().with_layer(content).build()
        await client.push(REPOSITORY, image, "latest")
        location = await client.open_upload(REPOSITORY)
        await client.patch(location, more[: 200 * KIB])

        small_disk.fill() if how == "full" else small_disk.remount("ro")
        for answer in (
            await client.start_upload(REPOSITORY, body=more, digest=digest(more)),
            await client.patch(await client.open_upload(REPOSITORY), more),
            await client.finish(await client.open_upload(REPOSITORY), digest(more), more),
            await client.patch(location, more[200 * KIB :]),
            await client.finish(location, digest(more), more[200 * KIB :]),
        ):
            assert (answer.status, answer.codes) == (503, ["UNAVAILABLE"])
        assert (await client.get_blob(REPOSITORY, digest(more))).status == 404
        assert (await client.get_blob(REPOSITORY, digest(content))).body == content
        assert (await client.get_manifest(REPOSITORY, "latest")).body == image.manifest
        if how == "read-only":
            assert (await client.get("/readyz")).status == 503

        small_disk.empty() if how == "full" else small_disk.remount("rw")
        assert (await client.get(location)).headers["Range"] == f"0-{200 * KIB - 1}"
        assert (await client.finish(location, digest(more), more[200 * KIB :])).status == 201
        assert (await client.get_blob(REPOSITORY, digest(more))).body == more


async def test_storage_folder_that_is_gone_means_503_and_recovers(database_url: str) -> None:
    async with running_gateway(database_url) as gateway, open_client(gateway.url) as client:
        content = os.urandom(200 * KIB)
        name = await client.push_blob(REPOSITORY, content)
        moved = gateway.objects.with_name("elsewhere")
        gateway.objects.rename(moved)
        gateway.objects.write_text("not a folder")
        answer = await client.start_upload(REPOSITORY, body=b"x" * 200_000, digest=digest(b"x" * 200_000))
        assert (answer.status, answer.codes) == (503, ["UNAVAILABLE"])
        assert (await client.get_blob(REPOSITORY, name)).status in (404, 503)
        assert (await client.get("/readyz")).status == 503
        gateway.objects.unlink()
        moved.rename(gateway.objects)
        assert (await client.get_blob(REPOSITORY, name)).body == content
        await client.push_blob(REPOSITORY, os.urandom(200 * KIB))


async def test_gateway_drains_what_it_has_begun_before_it_stops(database_url: str) -> None:
    content = os.urandom(2 * MIB)
    folder = make_folder()
    gateway = RunningGateway(database_url, folder)
    await asyncio.to_thread(gateway.start)
    try:
        async with open_client(gateway.url) as client:
            location = await client.open_upload(REPOSITORY)
            sent_half = asyncio.Event()

            async def slowly() -> AsyncIterator[bytes]:
                yield content[:MIB]
                sent_half.set()
                await asyncio.sleep(0.5)
                yield content[MIB:]

            upload = asyncio.create_task(client.finish(location, digest(content), slowly()))  # type: ignore[arg-type]
            await sent_half.wait()
            stopping = asyncio.create_task(asyncio.to_thread(gateway.stop))
            assert (await upload).status == 201
            await stopping
        async with running_gateway(database_url, folder=folder) as again, open_client(again.url) as client:
            assert (await client.get_blob(REPOSITORY, digest(content))).body == content
    finally:
        shutil.rmtree(folder, ignore_errors=True)
