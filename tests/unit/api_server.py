"""A server that stands for Slipway's management API: it answers what a test tells it to, and remembers what it was asked."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from aiohttp import web


@dataclass(frozen=True, slots=True)
class Call:
    """One request. `path` is below `/api/v1`, decoded; `raw_path` as it came."""

    method: str
    path: str
    raw_path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    body: Any


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer; with `lost` the connection is cut instead."""

    body: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    lost: bool = False


def problem(status: int, title: str, detail: str = "", **headers: str) -> Reply:
    document = {"type": "about:blank", "title": title, "status": status, "detail": detail, "request_id": "r1"}
    return Reply(document, status, {"Content-Type": "application/problem+json", **headers})


class FakeApi:
    """Runs in a thread while the context is open. What nobody told it to answer is 404."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.calls: list[Call] = []
        self._tls = tls
        self._replies: dict[tuple[str, str], list[Reply]] = defaultdict(list)
        self._started = threading.Event()
        self._port = 0

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._port}"

    def tell(self, method: str, path: str, *replies: Any) -> None:
        """Answer with these, one after the other, the last for ever; what is no Reply is a document."""
        self._replies[method, path] = [one if isinstance(one, Reply) else Reply(one) for one in replies]

    def asked(self, method: str, path: str) -> list[Call]:
        return [call for call in self.calls if (call.method, call.path) == (method, path)]

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="fake-api", daemon=True)
        self._thread.start()
        assert self._started.wait(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    async def _run(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        runner = web.ServerRunner(web.Server(self._handle), shutdown_timeout=0.2)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self._tls).start()
        self._port = runner.addresses[0][1]
        self._started.set()
        await self._stop.wait()
        await runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        content = await request.read()
        path = request.path.removeprefix("/api/v1")
        self.calls.append(
            Call(
                method=request.method,
                path=path,
                raw_path=request.raw_path,
                query=dict(request.query),
                headers=request.headers.copy(),
                body=json.loads(content) if content else None,
            )
        )
        told = self._replies[request.method, path] or [problem(404, "Not found", "nothing there")]
        return _render(told.pop(0) if len(told) > 1 else told[0], request)


def _render(reply: Reply, request: web.BaseRequest) -> web.Response:
    if reply.lost:
        assert request.transport is not None
        request.transport.abort()
    body = reply.raw if reply.raw is not None else json.dumps(reply.body).encode() if reply.body is not None else b""
    headers = {"Content-Type": "application/json", **reply.headers}
    return web.Response(status=reply.status, body=body, headers=headers)
