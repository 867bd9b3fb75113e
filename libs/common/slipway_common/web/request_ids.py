"""One id for each request, from the caller if it sent a sane one, so that logs of several systems can be joined."""

from __future__ import annotations

import os
import re

from aiohttp import web

HEADER = "X-Request-Id"
_SANE = re.compile(r"[A-Za-z0-9._:/+=-]{1,64}")


def request_id_of(request: web.BaseRequest) -> str:
    """The caller's X-Request-Id if it is short and plain, else a new one of 16 hexadecimal characters."""
    given = request.headers.get(HEADER)
    return given if given is not None and _SANE.fullmatch(given) else os.urandom(8).hex()
