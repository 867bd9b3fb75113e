"""Answers whose bytes are known in advance."""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping

from aiohttp import HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter

from slipway_common.web.heads import Head

SERVER = "Slipway"
# Heads of manifests and of blobs that are kept, some 500 bytes each.
KEPT_HEADS = 4096
# What an answer rests on: a key of the exact cache, and the very object found under it.
Premise = tuple[Hashable, object]


def make_head(status: int, headers: Mapping[str, str]) -> Head:
    """The head of an answer of ours. Its Content-Length is to be among the headers."""
    return Head(status, {**headers, "Server": SERVER})


class PreparedBytes(web.StreamResponse):
    """A head and a body in memory (None: a HEAD), sent as they are.

    `premises`, if given, say what content the answer rests on: while they hold, the same request has the same answer.
    """

    def __init__(self, head: Head, body: bytes | None, *, premises: tuple[Premise, ...] | None = None) -> None:
        super().__init__(status=head.status)
        self.head = head
        self.content = body or b""
        self.premises = premises
        self._writer: AbstractStreamWriter | None = None
        self._as_it_is = False

    @property
    def prepared(self) -> bool:
        return self._as_it_is or super().prepared

    @property
    def keep_alive(self) -> bool | None:
        return self._as_it_is or super().keep_alive

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """The usual way, where something has to be said of the connection, or was added to the headers."""
        if self._as_it_is:
            return self._writer
        if (
            request.version == HttpVersion11
            and request.keep_alive
            and super().keep_alive is None
            and not self.headers
            and not super().prepared
        ):
            self._as_it_is = True
            self._writer = request.writer
            return self._writer
        self.headers.extend({name: value for name, value in self.head.headers.items() if name not in self.headers})
        return await super().prepare(request)

    async def write_eof(self, data: bytes = b"") -> None:
        """Send head and body in one piece; `data` is not for answers that are known in advance."""
        if not self._as_it_is:
            await super().write_eof(self.content)
        elif self._writer is not None:
            writer, self._writer = self._writer, None
            await writer.write_eof(self.head.render(time.time()) + self.content)
