"""Parts of an upload that need neither store nor database."""

from __future__ import annotations

import asyncio
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_common.storage.port import ObjectWriter, WriterState
from slipway_gateway.intake import Intake, replay
from slipway_gateway.store.blobs import ROW_BLOB_BYTES
from slipway_gateway.uploads import _Later


class Writer:
    """Takes no more than it has room for, and has room again after a flush."""

    def __init__(self, rooms: list[int]) -> None:
        self.rooms = rooms
        self.room_bytes = rooms[0]
        self.written = bytearray()
        self.flushes = 0
        self.finished = self.closed = False

    def write(self, chunk: memoryview | bytes) -> None:
        assert 0 < len(chunk) <= self.room_bytes
        self.written += chunk
        self.room_bytes -= len(chunk)

    async def flush(self) -> None:
        assert self.room_bytes == 0, "flushed although there was room"
        self.flushes += 1
        self.room_bytes = self.rooms[self.flushes % len(self.rooms)]

    async def commit(self) -> WriterState:
        return WriterState(len(self.written))

    async def finish(self) -> None:
        self.finished = True

    async def close(self) -> None:
        self.closed = True


async def replayed(content: bytes, writer: Writer) -> int:
    return await replay(content)(writer.write, room=lambda: writer.room_bytes, flush=writer.flush)


@given(st.binary(max_size=200), st.lists(st.integers(1, 50), min_size=1, max_size=5))
def test_body_is_given_again_in_pieces_that_fit(content: bytes, rooms: list[int]) -> None:
    writer = Writer(rooms)
    assert asyncio.run(replayed(content, writer)) == len(content)
    assert writer.written == content


async def test_body_larger_than_the_room_is_flushed_in_between() -> None:
    writer = Writer([10])
    assert await replayed(bytes(range(35)), writer) == 35
    assert (bytes(writer.written), writer.flushes) == (bytes(range(35)), 3)


async def test_body_that_just_fits_is_not_flushed() -> None:
    writer = Writer([10])
    await replayed(b"x" * 10, writer)
    assert writer.flushes == 0


async def test_body_waits_for_room_before_its_first_byte() -> None:
    writer = Writer([10])
    writer.room_bytes = 0
    await replayed(b"x" * 10, writer)
    assert (writer.flushes, len(writer.written)) == (1, 10)


async def test_empty_body_is_given_again_as_nothing() -> None:
    writer = Writer([10])
    writer.room_bytes = 0
    assert await replayed(b"", writer) == 0
    assert (writer.flushes, len(writer.written)) == (0, 0)


class Session:
    """An upload's object, which is opened when it is needed."""

    def __init__(self, rooms: tuple[int, ...] = (1 << 40,)) -> None:
        self.writer = Writer(list(rooms))
        self.opened = 0

    async def open(self) -> ObjectWriter:
        self.opened += 1
        return self.writer  # type: ignore[return-value]

    def intake(self, held: bytes | None = b"", *, keep_bytes: int = 0, hashed: bool = True) -> Intake:
        hash_ = hashlib.sha256(held or b"") if hashed else None
        return Intake(held, hash_, self.open, keep_bytes=keep_bytes)


async def take_in(intake: Intake, *chunks: bytes) -> None:
    for chunk in chunks:
        await replay(chunk)(intake.consume, room=intake.room, flush=intake.flush)


@given(
    before=st.integers(0, ROW_BLOB_BYTES),
    sizes=st.lists(st.integers(0, ROW_BLOB_BYTES), max_size=4),
    rooms=st.lists(st.integers(100, 50_000), min_size=1, max_size=3),
    keep_bytes=st.integers(0, 4 * ROW_BLOB_BYTES),
)
def test_bytes_are_held_up_to_a_row_and_all_of_them_written_beyond(
    before: int, sizes: list[int], rooms: list[int], keep_bytes: int
) -> None:
    held, chunks = b"b" * before, [bytes([number]) * size for number, size in enumerate(sizes)]
    session, whole = Session(tuple(rooms)), held + b"".join(chunks)

    async def run() -> None:
        async with session.intake(held, keep_bytes=keep_bytes) as intake:
            await take_in(intake, *chunks)
            assert intake.hash is not None
            assert intake.hash.hexdigest() == hashlib.sha256(whole).hexdigest()
            assert intake.received_bytes == len(whole) - before
            small = len(whole) <= ROW_BLOB_BYTES
            assert intake.held == (whole if small else None)
            assert (session.opened, bytes(session.writer.written)) == ((0, b"") if small else (1, whole))
            assert intake.content == (whole if len(whole) <= max(keep_bytes, ROW_BLOB_BYTES) else None)
            assert await intake.commit() == (None if small else WriterState(len(whole)))
            await intake.finish()
            assert session.writer.finished is not small
        assert session.writer.closed is not small

    asyncio.run(run())


async def test_object_that_is_opened_at_once_gets_what_was_held_first() -> None:
    session = Session()
    async with session.intake(b"before ") as intake:
        await intake.open()
        await take_in(intake, b"after")
        assert (bytes(session.writer.written), session.opened) == (b"before after", 1)
        assert (intake.held, intake.content, intake.received_bytes) == (None, b"before after", 5)


async def test_bytes_of_a_session_that_is_in_storage_are_written_there_and_nothing_is_kept() -> None:
    session = Session()
    async with session.intake(None, hashed=False) as intake:
        assert intake.room() == 0
        await take_in(intake, b"abc")
        assert (bytes(session.writer.written), intake.hash) == (b"abc", None)
        assert (intake.held, intake.content) == (None, None)


async def test_intake_that_could_not_open_its_object_has_nothing_to_close() -> None:
    async def fail() -> ObjectWriter:
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        async with Intake(b"", None, fail) as intake:
            await take_in(intake, b"x" * (ROW_BLOB_BYTES + 1))


class Work:
    def __init__(self, error: Exception | None = None) -> None:
        self.begun = self.cancelled = False
        self.error = error

    async def run(self) -> None:
        self.begun = True
        if self.error is not None:
            raise self.error
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.cancelled = True
            raise


async def test_later_work_that_is_stopped_before_never_begins() -> None:
    work = Work()
    later = _Later(0.02, work.run)
    await later.stop()
    await asyncio.sleep(0.04)
    assert not work.begun


async def test_later_work_that_has_begun_is_over_once_it_is_stopped() -> None:
    work = Work()
    later = _Later(0.0, work.run)
    await asyncio.sleep(0.01)
    assert work.begun
    await later.stop()
    assert work.cancelled


async def test_later_work_that_failed_does_not_fail_the_upload() -> None:
    later = _Later(0.0, Work(ConnectionResetError()).run)
    await asyncio.sleep(0.01)
    await later.stop()


async def test_cancellation_while_later_work_is_stopped_is_the_callers() -> None:
    work = Work()

    async def upload() -> None:
        later = _Later(0.0, work.run)
        try:
            await asyncio.sleep(60)
        finally:
            await later.stop()

    task = asyncio.create_task(upload())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert work.cancelled
