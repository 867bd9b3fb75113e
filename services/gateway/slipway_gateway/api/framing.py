"""Where a request body ends in the bytes of a connection: by its announced length, or by its chunks (RFC 9112, 7.1)."""

from __future__ import annotations

import re
from typing import Protocol

from slipway_common.errors import InvalidInput

_CRLF = b"\r\n"
# Size, and extensions which nobody uses and everybody may send. Longer lines are an attack.
_MAX_SIZE_LINE_BYTES = 256
_SIZE_LINE = re.compile(rb"([0-9a-fA-F]{1,15})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?")
# After a chunk's data at least CRLF and the last chunk, "0" CRLF CRLF, must follow.
_LEAST_AFTER_CHUNK_BYTES = 7


class MalformedBody(InvalidInput):
    """The chunks of a request body are not as the RFC has them; the connection cannot be used any more."""


class Framing(Protocol):
    """Tells a body's bytes from what surrounds them."""

    @property
    def complete(self) -> bool:
        """True when the body's last byte was decoded."""

    @property
    def wanted_bytes(self) -> int | None:
        """How much may be received at most without touching the next request; None when that is not known."""

    @property
    def least_bytes(self) -> int:
        """How much must come at the least before the body can be complete."""

    def decode(self, received: memoryview) -> memoryview:
        """Answer the body's bytes in what was received; may move them within `received`. Raises MalformedBody."""


class LengthFraming:
    """A body of an announced length."""

    def __init__(self, remaining_bytes: int) -> None:
        self._remaining = remaining_bytes

    @property
    def complete(self) -> bool:
        """True when all announced bytes have come."""
        return self._remaining == 0

    @property
    def wanted_bytes(self) -> int | None:
        """Exactly what is missing."""
        return self._remaining

    @property
    def least_bytes(self) -> int:
        """Exactly what is missing."""
        return self._remaining

    def decode(self, received: memoryview) -> memoryview:
        """Count; there is nothing to take away."""
        self._remaining -= len(received)
        return received


class ChunkedFraming:
    """A chunked body, entered in the middle of a chunk.

    It stops before the last chunk: that line, the trailers and whatever was received beyond stay in `rest`.
    """

    wanted_bytes = None

    def __init__(self, chunk_remaining_bytes: int) -> None:
        self._remaining = chunk_remaining_bytes
        self._line = b""
        self.rest: bytes | None = None

    @property
    def complete(self) -> bool:
        """True when the last chunk's line was seen."""
        return self.rest is not None

    @property
    def least_bytes(self) -> int:
        """The rest of this chunk, and the shortest end of a body."""
        return self._remaining + _LEAST_AFTER_CHUNK_BYTES - len(self._line)

    def decode(self, received: memoryview) -> memoryview:
        """Move the data of all chunks to the front and answer it."""
        at = out = 0
        while at < len(received):
            if self._remaining:
                size = min(self._remaining, len(received) - at)
                if out != at:
                    received[out : out + size] = received[at : at + size]
                at += size
                out += size
                self._remaining -= size
            else:
                at += self._next_chunk(received[at:])
        return received[:out]

    def _next_chunk(self, received: memoryview) -> int:
        """Read CRLF, size, CRLF and answer how many bytes that took; an unfinished line is kept for the next call."""
        window = self._line + bytes(received[:_MAX_SIZE_LINE_BYTES])
        if not _CRLF.startswith(window[:2]):
            raise MalformedBody("a chunk does not end where its size says")
        end = window.find(_CRLF, 2)
        if end < 0:
            if len(window) >= _MAX_SIZE_LINE_BYTES:
                raise MalformedBody("a chunk's size line is too long")
            self._line = window
            return len(received)
        size = chunk_size(window[2:end])
        taken = end + 2 - len(self._line)
        self._line = b""
        if size:
            self._remaining = size
            return taken
        self.rest = window[2 : end + 2] + bytes(received[taken:])
        return len(received)


def chunk_size(line: bytes) -> int:
    """Read a chunk's size line without its CRLF. Raises MalformedBody."""
    match = _SIZE_LINE.fullmatch(line)
    if match is None:
        raise MalformedBody("a chunk's size cannot be read")
    return int(match[1], 16)


def chunk_in_progress(raw: memoryview | bytes, data_bytes: int) -> ChunkedFraming | None:
    """Find the framing in raw bytes of which a trusted parser says that the last `data_bytes` are data of one chunk.

    Answers None when the size line of that chunk is not among them.
    """
    head_end = len(raw) - data_bytes
    if data_bytes <= 0 or head_end < 2 * len(_CRLF):
        return None
    head = bytes(raw[max(0, head_end - _MAX_SIZE_LINE_BYTES) : head_end])
    line_start = head.rfind(_CRLF, 0, -2)
    if not head.endswith(_CRLF) or line_start < 0:
        return None
    size = chunk_size(head[line_start + 2 : -2])
    if size < data_bytes:
        return None
    return ChunkedFraming(size - data_bytes)
