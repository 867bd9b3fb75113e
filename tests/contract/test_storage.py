"""The contract of object storage, kept by files and by S3 alike (S3: a real server, and moto as a second opinion)."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import subprocess
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from slipway_common.errors import Unavailable
from slipway_common.storage.files import FileStore
from slipway_common.storage.port import (
    ObjectLost,
    ObjectMissing,
    ObjectStore,
    ObjectTooLarge,
    ObjectWriter,
    StorageFull,
    WriterBusy,
    WriterState,
)
from slipway_common.storage.s3 import S3Config, S3Store
from tests.contract.faulty_s3 import FaultyS3, faulty_s3
from tests.parts.s3 import S3Server

MIB = 1024 * 1024
PART = 5 * MIB  # the least S3 takes for a part that is not the last

OpenStore = Callable[[], ObjectStore]


def s3_config(endpoint_url: str, access_key: str, secret_key: str, bucket: str, **changes: object) -> S3Config:
    settings: dict[str, object] = {
        "part_size_bytes": PART,
        "pool_bytes": 4 * PART,
        "read_timeout_s": 10.0,
        "prefix": "blob-store/",
    }
    return S3Config(
        bucket=bucket,
        endpoint_url=endpoint_url,
        access_key=access_key,
        secret_key=secret_key,
        **(settings | changes),  # type: ignore[arg-type]
    )


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    client = boto3.client(
        "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
    )
    client.create_bucket(Bucket="slipway")
    yield url
    server.stop()


@pytest.fixture(params=["files", "s3", "moto"])
async def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[OpenStore]:
    """A function that opens the same store again, as another process would."""
    opened: list[ObjectStore] = []
    if request.param == "s3":
        server: S3Server = request.getfixturevalue("s3")
        config = s3_config(server.endpoint_url, server.access_key, server.secret_key, server.bucket)
    elif request.param == "moto":
        config = s3_config(request.getfixturevalue("moto_url"), "a", "b", "slipway")

    def open_again() -> ObjectStore:
        store: ObjectStore = FileStore(tmp_path / "store") if request.param == "files" else S3Store(config)
        opened.append(store)
        return store

    yield open_again
    for store in opened:
        await store.close()


@pytest.fixture
def store(open_store: OpenStore) -> ObjectStore:
    return open_store()


@pytest.fixture
def key() -> str:
    name = uuid.uuid4().hex
    return f"blobs/{name[:2]}/{name}"


async def write(writer: ObjectWriter, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        if writer.room_bytes == 0:
            await writer.flush()
        piece = rest[: writer.room_bytes]
        await asyncio.to_thread(writer.write, piece)
        rest = rest[len(piece) :]


async def put(store: ObjectStore, key: str, content: bytes) -> None:
    async with await store.open_writer(key) as writer:
        await write(writer, content)
        await writer.finish()


async def get(store: ObjectStore, key: str, *, start: int = 0, length: int | None = None) -> bytes:
    async with await store.open_reader(key, start=start, length=length) as reader:
        content = b"".join([chunk async for chunk in reader])
        assert len(content) == reader.length_bytes
        return content


def through_json(state: WriterState) -> WriterState:
    return WriterState.from_json(state.to_json())


def some_bytes(size: int) -> bytes:
    return os.urandom(min(size, 1000)) * (size // 1000 + 1) if size > 1000 else os.urandom(size)


# -- whole objects ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 64 * 1024, 64 * 1024 + 1, PART, PART + 1, 2 * PART])
async def test_what_was_finished_is_read_back_byte_exact(store: ObjectStore, key: str, size: int) -> None:
    content = some_bytes(size)[:size]
    await put(store, key, content)
    assert await get(store, key) == content
    assert await store.size(key) == size
    assert await store.read_all(key, max_bytes=size) == content


async def test_reading_all_of_a_larger_object_is_refused(store: ObjectStore, key: str) -> None:
    await put(store, key, b"twelve bytes")
    with pytest.raises(ObjectTooLarge):
        await store.read_all(key, max_bytes=11)


@pytest.mark.parametrize(
    ("start", "length", "expected"),
    [(0, 4, b"0123"), (6, None, b"6789"), (8, 100, b"89"), (9, 1, b"9"), (10, None, b""), (50, 5, b""), (3, 0, b"")],
)
async def test_ranges_are_cut_at_the_end(
    store: ObjectStore, key: str, start: int, length: int | None, expected: bytes
) -> None:
    await put(store, key, b"0123456789")
    assert await get(store, key, start=start, length=length) == expected


async def test_a_range_of_a_large_object_is_exact_and_knows_the_size(store: ObjectStore, key: str) -> None:
    content = some_bytes(PART + 500_000)
    await put(store, key, content)
    async with await store.open_reader(key, start=PART - 100_000, length=300_000) as reader:
        assert reader.size_bytes == len(content)
        assert (reader.start, reader.length_bytes) == (PART - 100_000, 300_000)
        assert b"".join([chunk async for chunk in reader]) == content[PART - 100_000 : PART + 200_000]


async def test_what_is_not_there_is_missing(store: ObjectStore, key: str) -> None:
    assert await store.size(key) is None
    with pytest.raises(ObjectMissing):
        await store.open_reader(key)
    with pytest.raises(ObjectMissing):
        await store.open_reader(key, start=5, length=5)
    with pytest.raises(ObjectMissing):
        await store.read_all(key, max_bytes=10)


async def test_delete_takes_missing_keys_as_well(store: ObjectStore, key: str) -> None:
    await put(store, key, b"bytes")
    await store.delete([key, key + "-never"])
    await store.delete([])
    assert await store.size(key) is None


async def test_a_store_that_works_passes_its_check(store: ObjectStore) -> None:
    await store.check()


# -- uploads that go on -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [0, 10, 64 * 1024 + 7, PART, PART + 70_000])
async def test_another_process_goes_on_exactly_at_the_committed_offset(
    open_store: OpenStore, key: str, first: int
) -> None:
    content = some_bytes(2 * PART + 123)[: 2 * PART + 123]
    async with await open_store().open_writer(key) as writer:
        await write(writer, content[:first])
        state = await writer.commit()
        await write(writer, b"never committed" * 10_000)  # and then the process dies
    assert state.offset_bytes == first
    async with await open_store().open_writer(key, state=through_json(state)) as writer:
        assert writer.offset_bytes == first
        await write(writer, content[first:])
        await writer.finish()
    assert await get(open_store(), key) == content
    await assert_nothing_else(open_store(), key)


async def test_parts_sent_after_the_commit_do_not_come_back(open_store: OpenStore, key: str) -> None:
    content = some_bytes(3 * PART)[: 3 * PART]
    async with await open_store().open_writer(key) as writer:
        await write(writer, content[: PART + 5])
        state = await writer.commit()
        await write(writer, b"x" * (2 * PART))  # whole parts, under numbers that no state names
    async with await open_store().open_writer(key, state=through_json(state)) as writer:
        await write(writer, content[PART + 5 :])
        await writer.finish()
    assert await get(open_store(), key) == content


async def test_many_small_commits_make_one_object_and_leave_nothing_else(open_store: OpenStore, key: str) -> None:
    state: WriterState | None = None
    for piece in range(5):
        async with await open_store().open_writer(key, state=state) as writer:
            await write(writer, bytes([piece]) * 1000)
            state = through_json(await writer.commit())
    async with await open_store().open_writer(key, state=state) as writer:
        await writer.finish()
    assert await get(open_store(), key) == b"".join(bytes([piece]) * 1000 for piece in range(5))
    await assert_nothing_else(open_store(), key)


async def test_committing_twice_without_new_bytes_changes_nothing(open_store: OpenStore, key: str) -> None:
    async with await open_store().open_writer(key) as writer:
        await write(writer, b"abc")
        assert await writer.commit() == await writer.commit()
        state = await writer.commit()
    async with await open_store().open_writer(key, state=state) as writer:
        assert (await writer.commit()).offset_bytes == 3


async def test_finishing_again_after_a_crash_is_fine(open_store: OpenStore, key: str) -> None:
    content = some_bytes(PART + 100)
    async with await open_store().open_writer(key) as writer:
        await write(writer, content)
        state = through_json(await writer.commit())
        await writer.finish()
    async with await open_store().open_writer(key, state=state) as writer:
        await writer.finish()
    assert await get(open_store(), key) == content


async def test_bytes_that_were_committed_and_are_gone_are_noticed(open_store: OpenStore, key: str) -> None:
    async with await open_store().open_writer(key) as writer:
        await write(writer, b"abc" * 100_000)
        state = await writer.commit()
    await open_store().abandon(key, state)
    with pytest.raises((ObjectMissing, ObjectLost)):
        async with await open_store().open_writer(key, state=state) as writer:
            await writer.finish()


async def test_of_two_writers_one_wins_whole(open_store: OpenStore, key: str) -> None:
    mine, theirs = some_bytes(100_000), some_bytes(100_000)
    failed = 0
    async with await open_store().open_writer(key) as first:
        await write(first, mine)
        try:
            async with await open_store().open_writer(key) as second:
                await write(second, theirs)
                await second.finish()
        except WriterBusy:
            failed += 1
        await first.finish()
    assert await get(open_store(), key) == mine
    assert failed or isinstance(open_store(), S3Store)


# -- leaving nothing behind -------------------------------------------------------------------------------------------


async def assert_nothing_else(store: ObjectStore, key: str) -> None:
    """No tails, no multipart uploads beside the object."""
    if isinstance(store, S3Store):
        name = store.config.prefix + key
        listed = await store.call("list_objects_v2", {"Prefix": name})
        assert [entry["Key"] for entry in listed.get("Contents", ())] in ([name], [])
        uploads = await store.call("list_multipart_uploads", {"Prefix": name})
        assert not uploads.get("Uploads")
    elif isinstance(store, FileStore):
        assert [path.name for path in store.path(key).parent.glob("*")] in ([store.path(key).name], [])


@pytest.mark.parametrize("size", [10, 100_000, 2 * PART + 10])
@pytest.mark.parametrize("known", [True, False])
async def test_an_abandoned_upload_leaves_nothing(open_store: OpenStore, key: str, size: int, known: bool) -> None:
    async with await open_store().open_writer(key) as writer:
        await write(writer, b"z" * size)
        state = await writer.commit()
    await open_store().abandon(key, through_json(state) if known else None)
    assert await open_store().size(key) is None
    await assert_nothing_else(open_store(), key)


async def test_an_aborted_upload_leaves_nothing(open_store: OpenStore, key: str) -> None:
    async with await open_store().open_writer(key) as writer:
        await write(writer, b"z" * (2 * PART))
        await writer.commit()
        await writer.abort()
    assert await open_store().size(key) is None
    await assert_nothing_else(open_store(), key)


async def test_a_closed_writer_takes_nothing_more(store: ObjectStore, key: str) -> None:
    async with await store.open_writer(key) as writer:
        await write(writer, b"abc")
    await writer.close()
    with pytest.raises(RuntimeError):
        writer.write(b"x")
    assert await store.size(key) is None


@pytest.mark.parametrize("key", ["../x", "/etc/passwd", "a//b", "a/../b", "", "A", "a b", "a/.hidden", "a\n"])
async def test_keys_that_are_not_plain_paths_are_refused(store: ObjectStore, key: str) -> None:
    with pytest.raises(ValueError, match="not a storage key"):
        await store.open_writer(key)


# -- files only -------------------------------------------------------------------------------------------------------


async def test_a_second_process_cannot_open_a_file_that_is_being_written(tmp_path: Path, key: str) -> None:
    one, other = FileStore(tmp_path), FileStore(tmp_path)
    async with await one.open_writer(key) as writer:
        await write(writer, b"abc")
        state = await writer.commit()
        with pytest.raises(WriterBusy):
            await other.open_writer(key, state=state)
    async with await other.open_writer(key, state=state) as writer:
        await writer.finish()


async def test_a_failed_fsync_loses_the_upload_for_good(
    tmp_path: Path, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FileStore(tmp_path)
    calls = 0

    def fsync(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise OSError(errno.EIO, "injected")

    async with await store.open_writer(key) as writer:
        await write(writer, b"z" * 100_000)
        monkeypatch.setattr(os, "fsync", fsync)
        for _ in range(2):
            with pytest.raises(ObjectLost):
                await writer.finish()
    assert calls == 1
    assert await store.size(key) is None


async def test_each_new_folder_is_made_durable_before_the_commit_returns(
    tmp_path: Path, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: set[str] = set()
    real_fsync = os.fsync

    def fsync(descriptor: int) -> None:
        synced.add(os.readlink(f"/proc/self/fd/{descriptor}"))
        real_fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    store = FileStore(tmp_path / "store")
    async with await store.open_writer(key) as writer:
        await write(writer, b"abc")
        await writer.commit()
    path = store.path(key)
    assert {str(at) for at in (path, *path.parents[:4])} <= synced


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=12", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


async def test_a_full_disk_is_told_and_recovers(small_disk: Path, key: str) -> None:
    store = FileStore(small_disk / "store")
    await put(store, key + "-early", b"still readable" * 10_000)
    async with await store.open_writer(key) as writer:
        with pytest.raises(StorageFull):
            await write(writer, b"z" * (2 * MIB))
        with pytest.raises(StorageFull):
            await writer.commit()
        await writer.abort()
    await store.check()
    assert len(await get(store, key + "-early")) == 140_000
    await put(store, key, b"there is room again" * 10_000)


async def test_a_disk_without_inodes_is_told(small_disk: Path) -> None:
    store = FileStore(small_disk)

    async def fill() -> None:
        for number in range(20):
            await put(store, f"blobs/aa/{number}", b"x")

    with pytest.raises(StorageFull):
        await fill()


async def test_a_folder_that_cannot_be_used_fails_the_check(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Unavailable):
        await FileStore(tmp_path / "file" / "store").check()


async def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    await put(store, "blobs/aa/one", b"z" * 100_000)
    before = len(os.listdir("/proc/self/fd"))
    for number in range(20):
        opening = asyncio.create_task(store.open_reader("blobs/aa/one"))
        await asyncio.sleep(0)
        opening.cancel()
        await asyncio.gather(opening, return_exceptions=True)
        writer = await store.open_writer(f"blobs/aa/{number}x")
        writing = asyncio.create_task(write(writer, b"z" * MIB))
        await asyncio.sleep(0.001)
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        await writer.close()
    await asyncio.sleep(0.1)
    assert len(os.listdir("/proc/self/fd")) <= before


# -- S3 only: what a service may do ------------------------------------------------------------------------------------


@asynccontextmanager
async def broken(server: S3Server, **changes: object) -> AsyncIterator[tuple[FaultyS3, S3Store]]:
    async with faulty_s3(server.endpoint_url) as proxy:
        store = S3Store(s3_config(proxy.url, server.access_key, server.secret_key, server.bucket, **changes))
        try:
            yield proxy, store
        finally:
            await store.close()


def is_complete(request: object) -> bool:
    return request.method == "POST" and "uploadId" in request.query  # type: ignore[attr-defined]


def is_put(request: object) -> bool:
    return request.method == "PUT"  # type: ignore[attr-defined, no-any-return]


def is_get(request: object) -> bool:
    return request.method == "GET"  # type: ignore[attr-defined, no-any-return]


async def test_a_complete_that_worked_unheard_is_recognised(s3: S3Server, key: str) -> None:
    content = some_bytes(PART + 10)
    async with broken(s3) as (proxy, store):
        proxy.break_next("lose-answer", is_complete)
        await put(store, key, content)
        assert await get(store, key) == content
        assert sum("uploadId" in line and line.startswith("POST") for line in proxy.seen) == 2


async def test_an_error_in_a_200_is_an_error(s3: S3Server, key: str) -> None:
    async with broken(s3, attempts=1) as (proxy, store):
        proxy.break_next("200-error", is_complete)
        with pytest.raises(Unavailable):
            await put(store, key, some_bytes(PART + 10))
        assert await store.size(key) is None


async def test_an_error_in_a_200_is_tried_again(s3: S3Server, key: str) -> None:
    content = some_bytes(PART + 10)
    async with broken(s3) as (proxy, store):
        proxy.break_next("200-error", is_complete)
        await put(store, key, content)
        assert await get(store, key) == content


@pytest.mark.parametrize("size", [10, PART + 10])
async def test_a_service_that_recovers_is_not_noticed(s3: S3Server, key: str, size: int) -> None:
    content = some_bytes(size)[:size]
    async with broken(s3) as (proxy, store):
        proxy.break_next("503", is_put, times=2)
        await put(store, key, content)
        assert await get(store, key) == content


async def test_a_service_that_does_not_recover_is_told(s3: S3Server, key: str) -> None:
    async with broken(s3, attempts=2) as (proxy, store):
        proxy.break_next("503", is_put, times=5)
        with pytest.raises(Unavailable):
            await put(store, key, b"abc")


async def test_a_stalled_service_times_out(s3: S3Server, key: str) -> None:
    async with broken(s3, attempts=1, read_timeout_s=0.5, call_timeout_s=1.0) as (proxy, store):
        proxy.break_next("stall", is_put)
        async with asyncio.timeout(5):
            with pytest.raises(Unavailable):
                await put(store, key, b"abc")


async def test_a_truncated_answer_is_never_taken_for_the_object(s3: S3Server, key: str) -> None:
    content = some_bytes(MIB)
    async with broken(s3) as (proxy, store):
        await put(store, key, content)
        proxy.break_next("truncate", is_get)
        with pytest.raises(Unavailable):
            await get(store, key)


async def test_a_service_that_is_away_fails_the_check() -> None:
    store = S3Store(s3_config("http://127.0.0.1:9", "a", "b", "slipway", attempts=1))
    with pytest.raises(Unavailable):
        await store.check()
    await store.close()


async def test_a_presigned_url_serves_the_object(s3: S3Server, key: str) -> None:
    import aiohttp

    store = S3Store(s3_config(s3.endpoint_url, s3.access_key, s3.secret_key, s3.bucket))
    await put(store, key, b"content")
    url = await store.presigned_url(key, expires_s=60)
    assert url is not None
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        assert (answer.status, await answer.read()) == (200, b"content")
    await store.close()


async def test_more_parts_than_the_service_takes_are_refused(
    s3: S3Server, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slipway_common.storage.s3.MAX_PARTS", 2)
    store = S3Store(s3_config(s3.endpoint_url, s3.access_key, s3.secret_key, s3.bucket))
    async with await store.open_writer(key) as writer:
        with pytest.raises(ObjectTooLarge):
            await write(writer, b"z" * (4 * PART))
        await writer.abort()
    await assert_nothing_else(store, key)
    await store.close()


async def test_more_uploads_than_the_pool_holds_wait_their_turn(s3: S3Server) -> None:
    """Sixteen uploads with room for four parts: all succeed, and memory stays near the pool's size."""
    store = S3Store(s3_config(s3.endpoint_url, s3.access_key, s3.secret_key, s3.bucket))
    content = some_bytes(PART + MIB)
    await put(store, "warm/up", content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    keys = [f"crowd/{number}" for number in range(16)]
    async with asyncio.timeout(120), asyncio.TaskGroup() as group:
        for each in keys:
            group.create_task(put(store, each, content))
    grown_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown_mib < 3 * 4 * PART / MIB
    assert {await store.size(each) for each in keys} == {len(content)}
    await store.delete(keys)
    await store.close()
