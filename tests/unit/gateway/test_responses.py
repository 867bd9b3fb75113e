"""Answers that are sent as they are say what aiohttp would have said, on every kind of connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from slipway_gateway.api.responses import SERVER, PreparedBytes, make_head

BODY = b"x" * 5000
HEADERS = {"Content-Type": "application/x", "Content-Length": str(len(BODY)), "ETag": '"e"'}


async def as_it_is(request: web.Request) -> web.StreamResponse:
    return PreparedBytes(make_head(200, HEADERS), None if request.method == "HEAD" else BODY)


async def with_more(request: web.Request) -> web.StreamResponse:
    answer = await as_it_is(request)
    answer.headers["X-More"] = "1"
    return answer


async def last(request: web.Request) -> web.StreamResponse:
    answer = await as_it_is(request)
    answer.force_close()
    return answer


async def usual(request: web.Request) -> web.StreamResponse:
    return web.Response(headers={**HEADERS, "Server": SERVER}, body=None if request.method == "HEAD" else BODY)


async def usual_last(request: web.Request) -> web.StreamResponse:
    answer = await usual(request)
    answer.force_close()
    return answer


@pytest.fixture
async def port() -> AsyncIterator[int]:
    app = web.Application()
    routes = {
        "/as-it-is": as_it_is, "/with-more": with_more, "/last": last, "/usual/as-it-is": usual, "/usual/last": usual_last,
    }  # fmt: skip
    for path, handler in routes.items():
        app.router.add_route("*", path, handler)
    async with TestServer(app) as server:
        assert server.port is not None
        yield server.port


async def exchange(port: int, *requests: str) -> bytes:
    """All that comes back until the server closes, or says nothing for a moment."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write("".join(f"{request}\r\n\r\n" for request in requests).encode())
    received = b""
    try:
        while data := await asyncio.wait_for(reader.read(65_536), 0.3):
            received += data
    except TimeoutError:
        received += b"<still open>"
    writer.close()
    return received


def parts(received: bytes) -> tuple[bytes, dict[bytes, bytes], bytes]:
    """Status line, headers by name without the moment, and what follows."""
    head, _, rest = received.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    headers = dict(line.split(b": ", 1) for line in lines)
    assert len(headers) == len(lines)
    assert headers.pop(b"Date").endswith(b" GMT")
    return first, headers, rest


@pytest.mark.parametrize("path", ["/as-it-is", "/last"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "request_of",
    [
        lambda line: f"{line} HTTP/1.1\r\nHost: a",
        lambda line: f"{line} HTTP/1.1\r\nHost: a\r\nConnection: close",
        lambda line: f"{line} HTTP/1.0",
        lambda line: f"{line} HTTP/1.0\r\nConnection: keep-alive",
    ],
    ids=["1.1", "1.1 close", "1.0", "1.0 keep-alive"],
)
async def test_answer_is_what_aiohttp_would_say(
    port: int, path: str, method: str, request_of: Callable[[str], str]
) -> None:
    mine, theirs = [await exchange(port, request_of(f"{method} {where}")) for where in (path, f"/usual{path}")]
    assert parts(mine) == parts(theirs)


async def test_header_that_was_added_is_sent(port: int) -> None:
    _, headers, rest = parts(await exchange(port, "GET /with-more HTTP/1.1\r\nHost: a"))
    assert headers[b"X-More"] == b"1"
    assert headers[b"ETag"] == b'"e"'
    assert headers[b"Server"] == SERVER.encode()
    assert rest == BODY + b"<still open>"


async def test_connection_goes_on_after_the_answer(port: int) -> None:
    first = "GET /as-it-is HTTP/1.1\r\nHost: a"
    received = await exchange(port, first, first, f"{first}\r\nConnection: close")
    assert received.count(b"HTTP/1.1 200 OK\r\n") == 3
    assert received.count(BODY) == 3
    assert not received.endswith(b"<still open>")


async def test_client_that_does_not_read_is_waited_for() -> None:
    """What is in the answer's way is the transport's buffer, not memory without end."""
    sent = asyncio.Event()
    body = b"y" * 64_000_000

    class Watched(PreparedBytes):
        async def write_eof(self, data: bytes = b"") -> None:
            await super().write_eof(data)
            sent.set()

    async def handle(_request: web.Request) -> web.StreamResponse:
        return Watched(make_head(200, {"Content-Length": str(len(body))}), body)

    app = web.Application()
    app.router.add_get("/", handle)
    async with TestServer(app) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(sent.wait(), 0.2)
        await reader.readexactly(len(body))
        await asyncio.wait_for(sent.wait(), 5)
        writer.close()
