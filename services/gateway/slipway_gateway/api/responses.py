"""Answers whose bytes are known in advance."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from http import HTTPStatus

from aiohttp import web

SERVER = "Slipway"
# What an answer rests on: a key of the exact cache, and the very object found under it.
Premise = tuple[Hashable, object]


class PreparedBytes(web.Response):
    """Headers and a body in memory (None: a HEAD, whose Content-Length is in the headers).

    `premises`, if given, say what content the answer rests on: while they hold, the same request has the same answer.
    """

    def __init__(
        self,
        status: int,
        headers: Mapping[str, str],
        body: bytes | None,
        *,
        premises: tuple[Premise, ...] | None = None,
    ) -> None:
        super().__init__(status=status, reason=HTTPStatus(status).phrase, headers=headers, body=body)
        self.plain_headers = headers
        self.content = body or b""
        self.premises = premises
