"""Read a request's body from the socket itself, and give the connection back in order.

Taking over: hold the transport's reading, drain what aiohttp has received of this body, and receive the rest from a
duplicate of the socket. With a Content-Length exactly the missing bytes are received, so a pipelined request stays in
the kernel. In a chunked body only aiohttp's parser knows how far the present chunk goes: it is fed what we receive
until a chunk begins within those bytes, then their size line tells.

Giving back: a fresh parser takes the place of the one that still counts; after chunks it is fed a request head of ours
and the received last chunk, trailers and whatever lies beyond. When the body was not read to its end, the connection
closes after the response instead, and what the client still sends is thrown away for a short while, so that it can read
that response.

This reaches into aiohttp's protocol object. Each attribute it needs is looked up first; where one is missing (another
version), the body comes through the stream.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any, Self

from aiohttp import StreamReader, hdrs, web
from aiohttp.http_parser import HttpRequestParser

from slipway_gateway.api.framing import ChunkedFraming, Framing, LengthFraming, MalformedBody, chunk_in_progress
from slipway_gateway.api.sockets import DirectSocket, Turn

_LINGER_S = 5.0
_LINGER_POLL_S = 0.05
_LINGER_BYTES = 64 * 1024 * 1024
_PROTOCOL_NEEDS = (
    "_parser",
    "_upgraded",
    "_messages",
    "_read_bufsize",
    "_max_msg_queue_size",
    "_manager",
    "_pause_reading_for_buffer",
    "_resume_reading_for_buffer",
    "max_line_size",
    "max_field_size",
    "max_headers",
)
# The parser must have read a head before it reads the end of a body; this one is for its eyes only.
_CHUNKED_HEAD = b"PUT / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
_TRAILER_POLL_S = 0.005
_lingering: set[asyncio.Task[None]] = set()


class ConnectionTakeover:
    """The taking over of one request's connection. Use as an async context manager."""

    def __init__(self, request: web.BaseRequest, descriptor: int) -> None:
        self._request = request
        self._protocol: Any = request.protocol
        self._payload: Any = request.content
        self._announced_bytes = request.content_length
        self._complete = False
        self.connection = DirectSocket(descriptor)
        self.framing: Framing | None = None

    @classmethod
    def of(cls, request: web.BaseRequest, *, at_least_bytes: int = 1) -> Self | None:
        """Prepare the takeover when the connection allows it and at least so many bytes are still to come."""
        payload = request.content
        if request.version >= (2, 0) or hdrs.CONTENT_ENCODING in request.headers:
            return None
        if type(payload) is not StreamReader or payload.exception() is not None or payload.is_eof():
            return None
        if request.content_length is not None and request.content_length - payload.total_bytes < at_least_bytes:
            return None
        protocol: Any = request.protocol
        if not all(hasattr(protocol, name) for name in _PROTOCOL_NEEDS) or protocol._parser is None:
            return None
        if protocol._upgraded or protocol._messages or not hasattr(payload, "_http_chunk_splits"):
            return None
        descriptor = plain_socket(request.transport)
        if descriptor is None:
            return None
        try:
            return cls(request, descriptor)
        except OSError:  # out of descriptors, or closed this instant: the stream tells
            return None

    async def __aenter__(self) -> Self:
        self._protocol._pause_reading_for_buffer()
        return self

    def buffered(self) -> bytes:
        """Take what aiohttp has received of the body; once it is empty `framing` is set, if it can be known."""
        data: bytes = self._payload.read_nowait()
        if self._announced_bytes is not None:
            self.framing = LengthFraming(self._announced_bytes - self._payload.total_bytes)
        return data

    @property
    def ended(self) -> bool:
        """True when aiohttp's parser itself has seen the end of the body."""
        return bool(self._payload.is_eof())

    def feed(self, raw: bytes) -> None:
        """Give received bytes to aiohttp's parser, as the transport would, and look for the chunk in progress.

        Raises MalformedBody.
        """
        self._protocol.data_received(raw)
        total = -1
        while total != self._payload.total_bytes:  # the parser may have paused half-way: it goes on with nothing new
            total = self._payload.total_bytes
            self._protocol.data_received(b"")
        if self.ended:
            return
        if self._protocol._messages:  # a refusal, queued behind this very request
            raise MalformedBody("the chunks of the request body are malformed")
        splits = self._payload._http_chunk_splits
        if splits:
            self.framing = chunk_in_progress(raw, total - splits[-1])

    async def complete(self, timeout_s: float) -> None:
        """Say that every byte was received: the connection goes on with the next request.

        After chunks the trailers may still be on their way: raises TimeoutError, MalformedBody.
        """
        if not self.ended and isinstance(self.framing, ChunkedFraming):
            await self._finish_chunks(self.framing.rest or b"", timeout_s)
        elif not self.ended and self._connected():
            self._protocol._parser = _fresh_parser(self._protocol)
        self._complete = True

    async def _finish_chunks(self, rest: bytes, timeout_s: float) -> None:
        if not self._connected():
            return
        parser = _fresh_parser(self._protocol)
        ((_, trailing),), _, _ = parser.feed_data(_CHUNKED_HEAD)
        self._protocol._parser = parser
        self._protocol.data_received(rest)
        self.connection.restore()
        self._protocol._resume_reading_for_buffer()
        async with asyncio.timeout(timeout_s):
            while not trailing.is_eof():
                if self._protocol._messages or not self._connected():
                    raise MalformedBody("the end of the request body is malformed")
                await asyncio.sleep(_TRAILER_POLL_S)
        parser.message_consumed()

    async def __aexit__(self, exc_type: type[BaseException] | None, *exc_info: object) -> None:
        if self._connected() and not self._complete:
            self._close_after_response(linger=exc_type is not None and issubclass(exc_type, Exception))
            return
        self.connection.close()
        if self._connected():
            if not self.ended:
                self._payload.feed_eof()
            self._protocol._resume_reading_for_buffer()

    def _connected(self) -> bool:
        return self._protocol.transport is not None and self._protocol._parser is not None

    def _close_after_response(self, *, linger: bool) -> None:
        """Stop reading requests; what still arrives belongs to a body nobody wants."""
        request: Any = self._request
        message = getattr(request, "_message", None)
        if message is not None and hasattr(message, "_replace"):
            request._message = message._replace(should_close=True)
        self._protocol._pause_reading_for_buffer()
        if not self.ended:
            self._payload.feed_eof()
        self._protocol.close()
        if not linger:
            self.connection.close()
            return
        task = asyncio.create_task(_linger(self.connection, self._protocol), name="linger")
        _lingering.add(task)
        task.add_done_callback(_lingering.discard)


def plain_socket(transport: asyncio.BaseTransport | None) -> int | None:
    """Answer the descriptor of an unencrypted stream socket under this transport, None for any other."""
    if transport is None or transport.is_closing() or transport.get_extra_info("sslcontext") is not None:
        return None
    under = transport.get_extra_info("socket")
    if under is None or under.type != socket.SOCK_STREAM:
        return None
    descriptor = under.fileno()
    return descriptor if isinstance(descriptor, int) and descriptor >= 0 else None


def _fresh_parser(protocol: Any) -> Any:
    """Build the parser as `RequestHandler.__init__` does."""
    settings = getattr(protocol._manager, "_kwargs", {})
    return HttpRequestParser(
        protocol,
        asyncio.get_running_loop(),
        protocol._read_bufsize,
        max_line_size=protocol.max_line_size,
        max_field_size=protocol.max_field_size,
        max_headers=protocol.max_headers,
        payload_exception=web.RequestPayloadError,
        auto_decompress=settings.get("auto_decompress", True),
        max_msg_queue_size=protocol._max_msg_queue_size,
    )


async def _linger(connection: DirectSocket, protocol: Any) -> None:
    """Read and forget, for a bounded time and amount; once the response is out, end our side of the connection."""
    unwanted = LengthFraming(_LINGER_BYTES)
    ended = False
    with connection:
        try:
            async with asyncio.timeout(_LINGER_S):
                while not unwanted.complete:
                    progress = await connection.receive(unwanted, lambda: _LINGER_BYTES, lambda chunk: None)
                    if progress.why is Turn.PEER_CLOSED:
                        return
                    if protocol.transport is None and not ended:
                        connection.end_sending()
                        ended = True
                    await connection.wait_readable(1, _LINGER_POLL_S)
        except (TimeoutError, OSError):
            return
