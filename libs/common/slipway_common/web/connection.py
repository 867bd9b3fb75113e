"""One client's connection: for how long it may take to say what it wants, and what it hears when that is no HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog
from aiohttp import web
from aiohttp.web_protocol import RequestHandler

_log = structlog.get_logger()

# From the connection, or from a request's first byte, to the end of its headers. Whoever needs longer holds a socket for nothing.
HEAD_TIMEOUT_S = 10.0
# In the form of the registry's errors: most who get here meant to speak to it. Nothing of what they sent comes back.
_NOT_HTTP = b'{"errors":[{"code":"UNSUPPORTED","message":"the request is not valid HTTP"}]}'


class PatientConnection(RequestHandler):
    """Waits for the head of a request, but not for ever; between requests the keep-alive timeout counts.

    When the server stops, a request under way is finished, its body included, and says that it was the last.
    """

    __slots__ = ("_head_timer", "draining")

    def __init__(self, manager: web.Server, **options: Any) -> None:
        super().__init__(manager, **options)
        self._head_timer: asyncio.TimerHandle | None = None
        self.draining = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Expect the first head."""
        super().connection_made(transport)
        self._head_timer = self._loop.call_later(HEAD_TIMEOUT_S, self._give_up)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Expect nothing more."""
        self.head_complete()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse, then see whether that was the end of a head, or the beginning of one."""
        super().data_received(data)
        if self._waiter is None or self._waiter.done():
            if self._request_count:
                self.head_complete()
        elif self._head_timer is None:
            # Still waiting for a request, although something came: the beginning of a head.
            self._head_timer = self._loop.call_later(HEAD_TIMEOUT_S, self._give_up)

    def head_complete(self) -> None:
        """A whole head has come, or none will."""
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self) -> None:
        self._head_timer = None
        if self._waiter is not None and not self._waiter.done():
            self.force_close()

    def drain(self) -> bool:
        """Close, now or after the present request; whether there is one. (aiohttp's own way drops the rest of its body.)"""
        self.draining = True
        busy = self._waiter is None or self._waiter.done()
        if not busy:
            self.force_close()
        return busy

    def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> Coroutine[Any, Any, tuple[web.StreamResponse, bool]]:
        """Send the response; while draining it tells the client to come back by a new connection."""
        if self.draining and not resp.prepared:
            resp.force_close()
        return super().finish_response(request, resp, start_time)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Refuse what is no HTTP in few words; everything else as the base class does."""
        if status != 400:
            return super().handle_error(request, status, exc, message)
        _log.info("not_http", remote=request.remote, reason=f"{type(exc).__name__}: {exc}"[:200])
        if request.writer.output_size > 0:
            raise ConnectionError("a response was begun already")
        response = web.Response(status=400, body=_NOT_HTTP, content_type="application/json")
        response.force_close()
        return response
