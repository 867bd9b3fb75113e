"""Bodies of any size in and out: the two functions a registry lives on.

`receive_body` streams a request's body to a blocking consumer (hash and write) in worker threads. A large body with a
Content-Length on a plain connection is read straight from the socket, past aiohttp's stream; everything else (chunked,
TLS, small) comes through `request.content`, where receiving and consuming overlap. `FileBody` is a response whose bytes
the kernel sends from a file, when there is one.

Both give up on a client that moves less than a minimum rate, and hold no thread while they wait for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import structlog
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from slipway_common.errors import InvalidInput, Unavailable
from slipway_common.storage.port import ObjectReader
from slipway_gateway.api.framing import MalformedBody
from slipway_gateway.api.sockets import DirectSocket, Turn, run_in_turn, wait_out
from slipway_gateway.api.takeover import ConnectionTakeover, plain_socket

_log = structlog.get_logger()

# Below this the stream is as fast as taking the socket over. Measured: docs/storage.md.
DIRECT_RECEIVE_BYTES = 256 * 1024
# What the stream may hold ahead of the consumer; a second batch is with the consumer meanwhile.
_STREAM_BATCH_BYTES = 512 * 1024
# A whole body of this size is consumed at once: less work than handing it to a thread.
_INLINE_BYTES = 64 * 1024
# Pieces in which a chunked body is fed to the parser until it is in step; Go's clients send chunks of 32 KiB.
_IN_STEP_BYTES = 64 * 1024
_STALL_POLL_S = 1.0
_DRAIN_POLL_S = 0.005


class BodyCutOff(InvalidInput):
    """The client went away, or broke the framing, before the body was complete."""

    def __init__(self, received_bytes: int, message: str = "the request body ended early") -> None:
        super().__init__(message, received_bytes=received_bytes)
        self.received_bytes = received_bytes


class BodyTooSlow(BodyCutOff):
    """The client sent less than the minimum rate; the connection closes after the response."""


class BodyTooLarge(InvalidInput):
    """More bytes than the limit, announced or sent."""


@dataclass(frozen=True, slots=True)
class RateLimits:
    """What a client must do to keep its transfer.

    `idle_timeout_s`: the longest time without a single byte. `min_bytes_per_s`: the least average over each
    `window_s`; 0 switches this off. Waiting for storage does not count against the client.
    """

    idle_timeout_s: float = 60.0
    min_bytes_per_s: int = 1024
    window_s: float = 30.0


async def receive_body(
    request: web.BaseRequest,
    consume: Callable[[memoryview], None],
    *,
    room: Callable[[], int],
    flush: Callable[[], Awaitable[None]],
    max_bytes: int | None = None,
    rate: RateLimits | None = None,
) -> int:
    """Stream the request's body to `consume` and answer its length in bytes.

    `consume` is called in worker threads, one call at a time, with at most `room()` bytes, valid during the call only;
    `flush` is awaited when there is no room. Raises BodyCutOff, BodyTooSlow, BodyTooLarge, and whatever `consume` and
    `flush` raise; no thread is in `consume` any more when this returns or raises, even when cancelled.
    """
    announced = request.content_length
    if max_bytes is not None and announced is not None and announced > max_bytes:
        raise BodyTooLarge("the request body is larger than allowed", max_bytes=max_bytes)
    sink = _Sink(consume, room, flush)
    pace = _Pace(rate or RateLimits())
    if announced is not None:
        takeover = ConnectionTakeover.of(request, at_least_bytes=DIRECT_RECEIVE_BYTES)
        if takeover is not None:
            return await _receive_direct(takeover, sink, pace, 0, None)
    return await _receive_stream(request, sink, pace, max_bytes)


async def _receive_direct(
    takeover: ConnectionTakeover, sink: _Sink, pace: _Pace, received: int, max_bytes: int | None
) -> int:
    """Receive from the socket. `received` bytes came before; answers the length of the whole body."""
    async with takeover:
        while True:
            if buffered := takeover.buffered():
                received += len(buffered)
                await sink.take(buffered)
            if takeover.framing is not None or takeover.ended:
                break
            _check_size(received, max_bytes)
            await _feed_parser(takeover, received, pace)
        framing = takeover.framing
        while framing is not None and not framing.complete:
            with _cut_off(received):
                progress = await takeover.connection.receive(framing, sink.room, sink.consume)
            received += progress.moved_bytes
            pace.moved(progress.moved_bytes)
            _check_size(received, max_bytes)
            if progress.why is Turn.PEER_CLOSED:
                raise BodyCutOff(received)
            if progress.why is Turn.NO_ROOM:
                with pace.paused():
                    await sink.flush()
            elif progress.why is Turn.WOULD_BLOCK:
                pace.check(received)
                await takeover.connection.wait_readable(framing.least_bytes, _STALL_POLL_S)
        with _cut_off(received):
            await takeover.complete(pace.limits.idle_timeout_s)
    return received


async def _feed_parser(takeover: ConnectionTakeover, received: int, pace: _Pace) -> None:
    """Let aiohttp's parser find the boundary of a chunk in what comes next."""
    with _cut_off(received):
        raw = takeover.connection.receive_now(_IN_STEP_BYTES)
    if raw is None:
        pace.check(received)
        await takeover.connection.wait_readable(1, _STALL_POLL_S)
    elif raw:
        pace.moved(len(raw))
        takeover.feed(raw)
    else:
        raise BodyCutOff(received)


@contextmanager
def _cut_off(received: int) -> Iterator[None]:
    """A connection that fails, or trailers that never come, cut the body off."""
    try:
        yield
    except (ConnectionError, TimeoutError) as exc:
        raise BodyCutOff(received) from exc


async def _receive_stream(request: web.BaseRequest, sink: _Sink, pace: _Pace, max_bytes: int | None) -> int:
    """Receive the next batch while a thread consumes the one before; a chunked body that goes on is taken over."""
    content = request.content
    content.set_read_chunk_size(_STREAM_BATCH_BYTES)
    received = 0
    consuming: asyncio.Task[None] | None = None
    try:
        while batch := await _next_batch(request, received, pace):
            received += len(batch)
            _check_size(received, max_bytes)
            pace.moved(len(batch))
            if received == len(batch) <= min(_INLINE_BYTES, sink.room()) and content.at_eof():
                sink.consume(memoryview(batch))
                break
            if consuming is not None:
                with pace.paused():
                    await consuming
            consuming = asyncio.create_task(sink.take(batch), name="consume-body")
            if received >= DIRECT_RECEIVE_BYTES and (takeover := ConnectionTakeover.of(request)) is not None:
                await consuming
                return await _receive_direct(takeover, sink, pace, received, max_bytes)
        if consuming is not None:
            await consuming
    except BodyCutOff:
        if consuming is not None:  # what has come may be resumed from
            await consuming
        raise
    finally:
        if consuming is not None:
            consuming.cancel()
            await wait_out(consuming)
    announced = request.content_length
    if announced is not None and received != announced:
        raise BodyCutOff(received)
    return received


async def _next_batch(request: web.BaseRequest, received: int, pace: _Pace) -> bytes:
    try:
        while True:
            pace.check(received)
            try:
                async with asyncio.timeout(_STALL_POLL_S):
                    return await request.content.readany()
            except TimeoutError:
                if getattr(request.protocol, "_messages", None) and not request.content.is_eof():
                    # aiohttp has queued its refusal of malformed chunks behind this very request.
                    raise MalformedBody("the chunks of the request body are malformed") from None
    except (ConnectionError, web.RequestPayloadError) as exc:
        raise BodyCutOff(received) from exc
    except RuntimeError as exc:  # aiohttp's StreamReader once the connection is lost
        if request.transport is None:
            raise BodyCutOff(received) from exc
        raise


def _check_size(received: int, max_bytes: int | None) -> None:
    if max_bytes is not None and received > max_bytes:
        raise BodyTooLarge("the request body is larger than allowed", max_bytes=max_bytes)


class _Sink:
    """Feeds the blocking consumer, never with more than there is room for."""

    def __init__(
        self, consume: Callable[[memoryview], None], room: Callable[[], int], flush: Callable[[], Awaitable[None]]
    ) -> None:
        self.consume = consume
        self.room = room
        self.flush = flush

    async def take(self, batch: bytes) -> None:
        """Consume a batch whole."""
        rest = memoryview(batch)
        while rest:
            room = self.room()
            if room <= 0:
                await self.flush()
                continue
            await run_in_turn(self.consume, rest[:room])
            rest = rest[room:]


class _Pace:
    """Watches that a client keeps the minimum rate."""

    def __init__(self, limits: RateLimits) -> None:
        self.limits = limits
        self._last_byte_at = self._window_began_at = time.monotonic()
        self._window_bytes = 0

    def moved(self, size_bytes: int) -> None:
        """Note progress."""
        if size_bytes:
            self._last_byte_at = time.monotonic()
            self._window_bytes += size_bytes

    def too_slow(self) -> bool:
        """Judge, and begin a new window when the present one is over."""
        now = time.monotonic()
        if now - self._last_byte_at > self.limits.idle_timeout_s:
            return True
        elapsed = now - self._window_began_at
        if elapsed < self.limits.window_s:
            return False
        slow = self._window_bytes < self.limits.min_bytes_per_s * elapsed
        self._window_began_at, self._window_bytes = now, 0
        return slow

    def check(self, received_bytes: int) -> None:
        """Raise BodyTooSlow when the client is."""
        if self.too_slow():
            raise BodyTooSlow(received_bytes, "the request body came too slowly")

    def paused(self) -> _PauseOfPace:
        """Stop the clock while we, not the client, are slow."""
        return _PauseOfPace(self)

    def shift(self, seconds: float) -> None:
        """Forget a time that was not the client's."""
        self._last_byte_at += seconds
        self._window_began_at += seconds


class _PauseOfPace:
    def __init__(self, pace: _Pace) -> None:
        self._pace = pace
        self._began_at = 0.0

    def __enter__(self) -> None:
        self._began_at = time.monotonic()

    def __exit__(self, *exc_info: object) -> None:
        self._pace.shift(time.monotonic() - self._began_at)


class FileBody(web.StreamResponse):
    """A response with the bytes of an object's range; it owns the reader and closes it.

    A local file goes out by sendfile on the connection's own socket; what is small and already read goes out with the
    headers in one write; everything else (TLS, S3) is streamed. HEAD sends the headers alone.
    """

    def __init__(
        self,
        reader: ObjectReader,
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        rate: RateLimits | None = None,
    ) -> None:
        super().__init__(status=status, headers=dict(headers or {}))
        self._reader = reader
        self._rate = rate or RateLimits()
        self.content_length = reader.length_bytes

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Prepare as any response; whatever goes wrong, the reader is closed."""
        try:
            return await super().prepare(request)
        except BaseException:
            await self._reader.close()
            raise

    async def write_eof(self, data: bytes = b"") -> None:
        """Send the body. Raises ConnectionError when the client is gone, too slow, or the object ended early."""
        if self._eof_sent:
            return
        try:
            if self._must_be_empty_body or not self._reader.length_bytes:
                await super().write_eof()
            elif (content := self._reader.in_memory()) is not None:
                await super().write_eof(content)
            else:
                await self._send()
                await super().write_eof()
        finally:
            await self._reader.close()

    async def _send(self) -> None:
        request, writer = self._req, self._payload_writer
        assert request is not None
        assert writer is not None
        transport = request.transport
        file = self._reader.local_file()
        descriptor = None if file is None else plain_socket(transport)
        try:
            if file is None or descriptor is None or transport is None:
                await self._stream(writer)
            else:
                await self._send_file(writer, transport, descriptor, file)
        except (Unavailable, OSError) as exc:
            if not isinstance(exc, (ConnectionError, TimeoutError)):  # those are the client's doing
                _log.error("response_cut_short", reason=str(exc) or type(exc).__name__)
            # Headers are out: the only way to say that the body is not whole is to cut the connection.
            if transport is not None:
                transport.abort()
            raise ConnectionResetError("the response could not be completed") from exc

    async def _stream(self, writer: AbstractStreamWriter) -> None:
        async for chunk in self._reader:
            async with asyncio.timeout(self._rate.idle_timeout_s):
                await writer.write(chunk)
        async with asyncio.timeout(self._rate.idle_timeout_s):
            await writer.drain()

    async def _send_file(
        self, writer: AbstractStreamWriter, transport: asyncio.Transport, descriptor: int, file: int
    ) -> None:
        writer.send_headers()
        pace = _Pace(self._rate)
        offset, remaining = self._reader.start, self._reader.length_bytes
        with DirectSocket(descriptor) as connection:
            await _drained(transport, pace)
            while remaining:
                progress = await connection.send_file(file, offset, remaining)
                offset += progress.moved_bytes
                remaining -= progress.moved_bytes
                pace.moved(progress.moved_bytes)
                if progress.why is Turn.FILE_ENDED:
                    raise Unavailable("the file ended early")
                if progress.why is Turn.WOULD_BLOCK:
                    if pace.too_slow():
                        raise TimeoutError
                    await connection.wait_writable(_STALL_POLL_S)
        writer.output_size += self._reader.length_bytes


async def _drained(transport: asyncio.Transport, pace: _Pace) -> None:
    """Wait until the transport has written its last byte: what follows bypasses it."""
    delay_s = 0.0
    while transport.get_write_buffer_size():
        if transport.is_closing():
            raise ConnectionResetError("connection lost")
        if pace.too_slow():
            raise TimeoutError
        await asyncio.sleep(delay_s)
        delay_s = _DRAIN_POLL_S
