"""Parts of an upload that need neither store nor database."""

from __future__ import annotations

import asyncio
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_gateway.uploads import _Body, _Later, _replay


class Writer:
    """Takes no more than it has room for, and has room again after a flush."""

    def __init__(self, rooms: list[int]) -> None:
        self.rooms = rooms
        self.room_bytes = rooms[0]
        self.written = bytearray()
        self.flushes = 0

    def write(self, chunk: memoryview | bytes) -> None:
        assert 0 < len(chunk) <= self.room_bytes
        self.written += chunk
        self.room_bytes -= len(chunk)

    async def flush(self) -> None:
        assert self.room_bytes == 0, "flushed although there was room"
        self.flushes += 1
        self.room_bytes = self.rooms[self.flushes % len(self.rooms)]


async def replay(content: bytes, writer: Writer) -> int:
    return await _replay(content)(writer.write, room=lambda: writer.room_bytes, flush=writer.flush)


@given(st.binary(max_size=200), st.lists(st.integers(1, 50), min_size=1, max_size=5))
def test_body_is_given_again_in_pieces_that_fit(content: bytes, rooms: list[int]) -> None:
    writer = Writer(rooms)
    assert asyncio.run(replay(content, writer)) == len(content)
    assert writer.written == content


async def test_body_larger_than_the_room_is_flushed_in_between() -> None:
    writer = Writer([10])
    assert await replay(bytes(range(35)), writer) == 35
    assert (bytes(writer.written), writer.flushes) == (bytes(range(35)), 3)


async def test_body_that_just_fits_is_not_flushed() -> None:
    writer = Writer([10])
    await replay(b"x" * 10, writer)
    assert writer.flushes == 0


async def test_body_waits_for_room_before_its_first_byte() -> None:
    writer = Writer([10])
    writer.room_bytes = 0
    await replay(b"x" * 10, writer)
    assert (writer.flushes, len(writer.written)) == (1, 10)


async def test_empty_body_is_given_again_as_nothing() -> None:
    writer = Writer([10])
    writer.room_bytes = 0
    assert await replay(b"", writer) == 0
    assert (writer.flushes, len(writer.written)) == (0, 0)


@given(st.lists(st.binary(min_size=1, max_size=30), max_size=6), st.integers(0, 60))
def test_bytes_are_hashed_written_and_kept_while_they_are_few(chunks: list[bytes], keep_bytes: int) -> None:
    writer, content = Writer([10_000]), b"".join(chunks)
    body = _Body(writer, hashlib.sha256(), keep_bytes=keep_bytes)  # type: ignore[arg-type]
    for chunk in chunks:
        body.consume(memoryview(chunk))
    assert body.hash is not None
    assert body.hash.hexdigest() == hashlib.sha256(content).hexdigest()
    assert (writer.written, body.received_bytes) == (content, len(content))
    assert body.content == (content if keep_bytes and len(content) <= keep_bytes else None)


def test_bytes_of_a_session_that_another_process_began_are_written_unhashed() -> None:
    writer = Writer([100])
    body = _Body(writer, None, keep_bytes=0)  # type: ignore[arg-type]
    body.consume(memoryview(b"abc"))
    assert (bytes(writer.written), body.hash, body.content) == (b"abc", None, None)


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
