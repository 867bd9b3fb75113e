"""A proxy before an S3 server that breaks chosen requests, once each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web

_ERROR = '<?xml version="1.0" encoding="UTF-8"?><Error><Code>{0}</Code><Message>made up</Message></Error>'


@dataclass
class FaultyS3:
    """Forwards to `upstream`; `plan` holds (predicate, fault) pairs, each used up by the first request that fits."""

    upstream: str
    plan: list[tuple[Callable[[web.Request], bool], str]] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    url: str = ""

    def break_next(self, fault: str, fits: Callable[[web.Request], bool], times: int = 1) -> None:
        """Faults: `503`, `200-error`, `stall`, `lose-answer` (done, but the client is not told), `truncate`."""
        self.plan += [(fits, fault)] * times

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(f"{request.method} {request.path_qs}")
        fault = self._fault_for(request)
        body = await request.read()
        if fault == "503":
            return web.Response(status=503, text=_ERROR.format("SlowDown"), content_type="application/xml")
        if fault == "200-error":
            return web.Response(status=200, text=_ERROR.format("InternalError"), content_type="application/xml")
        if fault == "stall":
            await asyncio.sleep(30)
        headers = {
            name: value for name, value in request.headers.items() if name not in ("Transfer-Encoding", "Expect")
        }
        async with (
            aiohttp.ClientSession(auto_decompress=False, skip_auto_headers=["Accept", "User-Agent"]) as session,
            session.request(
                request.method, f"{self.upstream}{request.raw_path}", data=body or None, headers=headers
            ) as answer,
        ):
            content = await answer.read()
            kept = {name: value for name, value in answer.headers.items() if name not in ("Transfer-Encoding", "Date")}
            if fault == "lose-answer":
                assert request.transport is not None
                request.transport.abort()
                return web.Response()
            response = web.StreamResponse(status=answer.status, headers=kept)
            await response.prepare(request)
            if fault == "truncate":
                await response.write(content[: len(content) // 2])
                assert request.transport is not None
                request.transport.abort()
                return response
            if request.method != "HEAD":
                await response.write(content)
            return response

    def _fault_for(self, request: web.Request) -> str | None:
        for at, (fits, fault) in enumerate(self.plan):
            if fits(request):
                del self.plan[at]
                return fault
        return None


@asynccontextmanager
async def faulty_s3(upstream: str) -> AsyncIterator[FaultyS3]:
    """Run the proxy on a port of its own."""
    proxy = FaultyS3(upstream)
    application = web.Application(client_max_size=1 << 30)  # answers Expect: 100-continue
    application.router.add_route("*", "/{path:.*}", proxy.handle)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    proxy.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield proxy
    finally:
        await runner.cleanup()
