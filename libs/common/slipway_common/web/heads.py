"""The beginning of an answer, put together once for all the times it is sent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

# What would end a header, or be taken for something else (RFC 9110, 5.5).
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class Head:
    """Status line and headers, all but the date."""

    __slots__ = ("_start", "headers", "size_bytes", "status")

    def __init__(self, status: int, headers: Mapping[str, str]) -> None:
        """Raise ValueError for a header with a control character in it."""
        lines = [f"{name}: {value}" for name, value in headers.items()]
        if any(map(_CONTROL.search, lines)):
            raise ValueError("a header must not have control characters")
        first = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"
        self._start = "\r\n".join((first, *lines, "Date: ")).encode()
        self.headers = headers
        self.status = status
        self.size_bytes = len(self._start)

    def render(self, now: float) -> bytes:
        """The whole head, with the empty line after it. `now` in Unix seconds."""
        return b"%b%b\r\n\r\n" % (self._start, _date(int(now)))


@lru_cache(maxsize=2)
def _date(second: int) -> bytes:
    return formatdate(second, usegmt=True).encode()
