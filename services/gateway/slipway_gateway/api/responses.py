"""Answers whose bytes are known in advance, written in one piece."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from aiohttp import web


class PreparedBytes(web.Response):
    """Headers and a body in memory (None: a HEAD, whose Content-Length is in the headers)."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes | None) -> None:
        super().__init__(status=status, reason=HTTPStatus(status).phrase, headers=headers, body=body)
