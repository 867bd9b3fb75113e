"""What no client library would send: broken framing, slow heads, and thousands of requests that make no sense."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import re
import time
from collections.abc import AsyncIterator

import pytest

from slipway_common.testing.images import digest
from slipway_common.web import connection
from tests.integration.gateway.client import Client, basic
from tests.integration.gateway.running import ADMIN, PASSWORD, RunningGateway

AUTH = f"Authorization: {basic(ADMIN, PASSWORD)}\r\n"
_HANG_S = 15.0
# 2,000 take a few seconds; SLIPWAY_TEST_FUZZ=1000000 is the long form.
_FUZZ_REQUESTS = int(os.environ.get("SLIPWAY_TEST_FUZZ", "2000"))


class Wire:
    """A connection on which every byte is ours."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self._writer = writer

    async def send(self, data: bytes | str) -> None:
        with contextlib.suppress(ConnectionError):
            self._writer.write(data.encode("latin-1") if isinstance(data, str) else data)
            await self._writer.drain()

    async def receive_all(self) -> bytes:
        """Everything until the server closes; fails when it does not."""
        received = b""
        async with asyncio.timeout(_HANG_S):
            with contextlib.suppress(ConnectionError):
                while data := await self.reader.read(65_536):
                    received += data
        return received

    async def receive_response(self) -> tuple[int, bytes]:
        """One response, by its Content-Length."""
        async with asyncio.timeout(_HANG_S):
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = next(
                (int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
            )
            return int(head.split(b" ")[1]), await self.reader.readexactly(length)

    def close(self) -> None:
        self._writer.close()


@pytest.fixture
async def wire(shared_gateway: RunningGateway) -> AsyncIterator[Wire]:
    opened = await connect(shared_gateway)
    yield opened
    opened.close()


async def connect(gateway: RunningGateway) -> Wire:
    return Wire(*await asyncio.open_connection("127.0.0.1", gateway.port))


def statuses(received: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] ([0-9]{3}) ", received)]


HOST = "Host: x\r\n"
SMUGGLED = "GET /v2/smuggled/tags/list HTTP/1.1\r\nHost: x\r\n\r\n"
PUT = f"PUT /v2/a/manifests/b HTTP/1.1\r\n{HOST}"
CHUNKED = f"{PUT}{AUTH}Transfer-Encoding: chunked\r\n\r\n"
BROKEN = {
    "length and chunks": f"{PUT}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": f"{PUT}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "two lengths": f"{PUT}Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
    "two equal lengths": f"{PUT}Content-Length: 5\r\nContent-Length: 5\r\n\r\nabcde",
    "list of lengths": f"{PUT}Content-Length: 5, 5\r\n\r\nabcde",
    "negative length": f"{PUT}Content-Length: -1\r\n\r\n",
    "length with a sign": f"{PUT}Content-Length: +5\r\n\r\nabcde",
    "hexadecimal length": f"{PUT}Content-Length: 0x5\r\n\r\nabcde",
    "length in other digits": f"{PUT}Content-Length: \xb2\r\n\r\nab",
    "length over 64 bits": f"{PUT}Content-Length: {'9' * 30}\r\n\r\n",
    "chunked twice": f"{PUT}Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "chunked not last": f"{PUT}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "unknown encoding": f"{PUT}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "space before the colon": f"{PUT}Content-Length : 5\r\n\r\nabcde",
    "folded header": f"{PUT}X: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "folded transfer encoding": f"{PUT}Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "bare line feeds": "GET /v2/ HTTP/1.1\nHost: x\n\n",
    "bare line feed in a header": "GET /v2/ HTTP/1.1\r\nHost: x\nX: y\r\n\r\n",
    "bare carriage return": "GET /v2/ HTTP/1.1\r\nHost: x\rX: y\r\n\r\n",
    "NUL in a header": "GET /v2/ HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n",
    "NUL in the path": "GET /v2/\0 HTTP/1.1\r\nHost: x\r\n\r\n",
    "space in the path": "GET /v2/ a HTTP/1.1\r\nHost: x\r\n\r\n",
    "bytes above ASCII in the path": "GET /v2/\xe4/tags/list HTTP/1.1\r\nHost: x\r\n\r\n",
    "no version": "GET /v2/\r\n\r\n",
    "odd version": "GET /v2/ HTTP/9.9\r\nHost: x\r\n\r\n",
    "HTTP/2 preface": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no HTTP at all": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + "\x00" * 64,
    "no colon": "GET /v2/ HTTP/1.1\r\nHost x\r\n\r\n",
    "no header name": "GET /v2/ HTTP/1.1\r\n: x\r\n\r\n",
    "long line": f"GET /v2/{'a' * 20_000} HTTP/1.1\r\nHost: x\r\n\r\n",
    "long header": f"GET /v2/ HTTP/1.1\r\nHost: x\r\nX: {'a' * 20_000}\r\n\r\n",
    "long header name": f"GET /v2/ HTTP/1.1\r\nHost: x\r\n{'a' * 20_000}: x\r\n\r\n",
    "many headers": "GET /v2/ HTTP/1.1\r\nHost: x\r\n" + "X: y\r\n" * 5000 + "\r\n",
    "bad chunk size": f"{CHUNKED}zz\r\nabc\r\n0\r\n\r\n",
    "negative chunk size": f"{CHUNKED}-3\r\nabc\r\n0\r\n\r\n",
    "huge chunk size": f"{CHUNKED}{'f' * 40}\r\nabc",
    "chunk longer than its size": f"{CHUNKED}3\r\nabcdef\r\n0\r\n\r\n",
    "chunk ended by a line feed": f"{CHUNKED}3\r\nabc\n0\r\n\r\n",
    "chunk size ended by a line feed": f"{CHUNKED}3\nabc\r\n0\r\n\r\n",
}  # fmt: skip


@pytest.mark.parametrize("why", BROKEN)
async def test_broken_http_is_refused_and_the_connection_closed(wire: Wire, why: str) -> None:
    """Nothing sent behind it is ever taken for a request of its own."""
    await wire.send(BROKEN[why] + SMUGGLED)
    received = await wire.receive_all()
    assert all(400 <= status < 500 for status in statuses(received)), received[:300]
    assert len(statuses(received)) == 1, received[:600]
    assert b"smuggled" not in received


@pytest.mark.parametrize("why", [name for name in BROKEN if "chunk" in name and "size" in name])
async def test_upload_with_broken_chunks_is_refused(wire: Wire, client: Client, repository: str, why: str) -> None:
    location = await client.open_upload(repository)
    request = BROKEN[why].replace("PUT /v2/a/manifests/b", f"PATCH {location}")
    await wire.send(request + SMUGGLED)
    received = await wire.receive_all()
    assert all(400 <= status < 500 for status in statuses(received)), received[:300]
    assert (await client.get(location)).status == 204


async def test_body_of_a_refused_request_is_never_taken_for_the_next_one(wire: Wire) -> None:
    body = SMUGGLED.encode()
    await wire.send(f"{PUT}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    status, answer = await wire.receive_response()
    assert (status, json.loads(answer)["errors"][0]["code"]) == (401, "UNAUTHORIZED")
    await wire.send(f"GET /v2/ HTTP/1.1\r\n{HOST}{AUTH}\r\n")
    assert await wire.receive_response() == (200, b"{}")


async def test_pipelined_requests_are_answered_in_order(wire: Wire, client: Client, repository: str) -> None:
    name = await client.push_blob(repository, b"content")
    one = f"GET /v2/ HTTP/1.1\r\n{HOST}{AUTH}\r\n"
    two = f"GET /v2/{repository}/blobs/{name} HTTP/1.1\r\n{HOST}{AUTH}\r\n"
    await wire.send((one + two) * 20)
    for _ in range(20):
        assert await wire.receive_response() == (200, b"{}")
        assert await wire.receive_response() == (200, b"content")


async def test_identical_requests_are_answered_alike_however_they_are_cut(
    wire: Wire, client: Client, repository: str
) -> None:
    """Whole, in pieces, two at once: what may be answered from memory never gets out of step."""
    name = await client.push_blob(repository, b"content")
    request = f"GET /v2/{repository}/blobs/{name} HTTP/1.1\r\n{HOST}{AUTH}\r\n".encode()
    ping = f"GET /v2/ HTTP/1.1\r\n{HOST}{AUTH}\r\n".encode()
    rng = random.Random(7)
    for _ in range(60):
        shape = rng.choice(["whole", "cut", "twice", "ping", "with-body"])
        if shape == "whole":
            await wire.send(request)
        elif shape == "cut":
            at = rng.randrange(1, len(request))
            await wire.send(request[:at])
            await asyncio.sleep(0.002)
            await wire.send(request[at:])
        elif shape == "twice":
            await wire.send(request + request)
            assert await wire.receive_response() == (200, b"content")
        elif shape == "ping":
            await wire.send(ping)
            assert await wire.receive_response() == (200, b"{}")
            continue
        else:
            inner = ping
            await wire.send(request.replace(b"\r\n\r\n", b"\r\nContent-Length: %d\r\n\r\n" % len(inner)))
            await asyncio.sleep(0.002)
            await wire.send(inner)
        assert await wire.receive_response() == (200, b"content")


@pytest.fixture
def short_deadline(monkeypatch: pytest.MonkeyPatch) -> float:
    """The deadline for heads, made short; what operators get is ten seconds."""
    assert connection.HEAD_TIMEOUT_S == 10
    monkeypatch.setattr(connection, "HEAD_TIMEOUT_S", 1.0)
    return 1.0


async def test_head_that_never_ends_is_given_up(shared_gateway: RunningGateway, short_deadline: float) -> None:
    """One byte now and then does not keep a connection; a first request, a later one, and none at all."""
    started = time.monotonic()
    fresh, later, silent = [await connect(shared_gateway) for _ in range(3)]
    await later.send(f"GET /v2/ HTTP/1.1\r\n{HOST}{AUTH}\r\n")
    assert await later.receive_response() == (200, b"{}")

    async def trickle(wire: Wire) -> None:
        await wire.send("GET /v2/ HTTP/1.1\r\nHost: x\r\nX: ")
        for _ in range(60):
            await wire.send("a")
            await asyncio.sleep(0.1)

    trickling = [asyncio.create_task(trickle(wire)) for wire in (fresh, later)]
    try:
        await asyncio.gather(*(wire.receive_all() for wire in (fresh, later, silent)))
    finally:
        for task in trickling:
            task.cancel()
        for wire in (fresh, later, silent):
            wire.close()
    assert 0.9 < time.monotonic() - started < 5


async def test_idle_connection_stays_open_beyond_the_deadline_for_heads(
    shared_gateway: RunningGateway, client: Client, repository: str, short_deadline: float
) -> None:
    """Answered by parsing, answered from memory, and after a body: idle is not slow."""
    name = await client.push_blob(repository, b"content")
    get = f"GET /v2/{repository}/blobs/{name} HTTP/1.1\r\n{HOST}{AUTH}\r\n"
    put = f"PATCH {await client.open_upload(repository)} HTTP/1.1\r\n{HOST}{AUTH}Content-Length: 3\r\n\r\n"
    wires = [await connect(shared_gateway) for _ in range(2)]
    for _ in range(3):
        await wires[0].send(get)
        assert await wires[0].receive_response() == (200, b"content")
    await wires[1].send(put)
    await asyncio.sleep(0.05)
    await wires[1].send("abc")
    assert (await wires[1].receive_response())[0] == 202
    await asyncio.sleep(short_deadline + 0.5)
    for wire in wires:
        await wire.send(get)
        assert await wire.receive_response() == (200, b"content")
        wire.close()


async def test_many_slow_connections_do_not_slow_the_others(shared_gateway: RunningGateway, client: Client) -> None:
    slow = [await connect(shared_gateway) for _ in range(200)]
    for wire in slow:
        await wire.send("GET /v2/ HTTP/1.1\r\nHost: ")
    started = time.monotonic()
    for _ in range(20):
        assert (await client.get("/v2/")).status == 200
    assert time.monotonic() - started < 5
    for wire in slow:
        wire.close()


async def test_expectation_that_is_unknown_is_refused(wire: Wire) -> None:
    await wire.send(f"GET /v2/ HTTP/1.1\r\n{HOST}{AUTH}Expect: miracles\r\n\r\n")
    status, _ = await wire.receive_response()
    assert 400 <= status < 500


async def test_client_that_waits_for_100_continue_gets_it(wire: Wire, client: Client, repository: str) -> None:
    location = await client.open_upload(repository)
    path = f"{location}?digest={digest(b'content')}"
    await wire.send(f"PUT {path} HTTP/1.1\r\n{HOST}{AUTH}Expect: 100-continue\r\nContent-Length: 7\r\n\r\n")
    async with asyncio.timeout(_HANG_S):
        assert await wire.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    await wire.send("content")
    assert (await wire.receive_response())[0] == 201


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "CONNECT", "PROPFIND", "POST", "PATCH", "PUT", "DELETE", "FOO"])
async def test_method_that_a_path_does_not_take_is_refused(wire: Wire, method: str) -> None:
    await wire.send(f"{method} /v2/_catalog HTTP/1.1\r\n{HOST}{AUTH}Content-Length: 0\r\nConnection: close\r\n\r\n")
    received = await wire.receive_all()
    (status,) = statuses(received)
    assert status in (400, 404, 405)
    if status == 405:
        assert b"Allow: GET" in received


@pytest.mark.parametrize(
    ("host", "realm"),
    [
        ("registry.example.com", "http://registry.example.com/token"),
        ("registry.example.com:5000", "http://registry.example.com:5000/token"),
        ("[::1]:5000", "http://[::1]:5000/token"),
        ('x",realm="http://evil', "http://localhost/token"),
        ("x/../evil", "http://localhost/token"),
        ("user@evil", "http://localhost/token"),
        ("x y", "http://localhost/token"),
        ("", "http://localhost/token"),
    ],
)
async def test_realm_comes_from_a_well_formed_host_only(wire: Wire, host: str, realm: str) -> None:
    await wire.send(f"GET /v2/ HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\n\r\n")
    async with asyncio.timeout(_HANG_S):
        head = (await wire.reader.readuntil(b"\r\n\r\n")).decode()
    if " 400 " not in head.split("\r\n")[0]:
        assert f'realm="{realm}"' in head
        assert "evil" not in head


# Thousands of requests that make no sense

_SEGMENTS = [
    "v2",
    "acme",
    "a",
    "A",
    "",
    ".",
    "..",
    "%2e%2e",
    "%2f",
    "%252f",
    "%00",
    "%ff",
    "%",
    "%zz",
    "blobs",
    "uploads",
    "manifests",
    "tags",
    "list",
    "referrers",
    "_catalog",
    "latest",
    "sha256:" + "0" * 64,
    "sha256:abc",
    "sha512:" + "a" * 128,
    "x" * 300,
    "123e4567-e89b-12d3-a456-426614174000",
    "a--b",
    "a_b",
    "a___b",
    "-",
    "~",
    ";",
    "a;b",
    "a,b",
    "*",
    "'",
    "\\",
    "<x>",
    "{}",
    "|",
    "\u0661",
    "fuzz/repo",
    "fuzz",
]
_VALUES = [
    "",
    "0",
    "-1",
    "1",
    "abc",
    "9" * 30,
    "%00",
    "%ff",
    "sha256:" + "0" * 64,
    "sha256:",
    "md5:x",
    "acme/x",
    "../..",
    "'",
    "%",
    "a%0d%0ab",
    "x" * 2000,
    "\u0661",
    "true",
    "[]",
]
_PARAMETERS = ["n", "last", "digest", "mount", "from", "tag", "artifactType", "digest-algorithm", "_state", "n%00", ""]
_HEADERS = [
    "Range",
    "Content-Range",
    "Content-Type",
    "If-Range",
    "If-None-Match",
    "Accept",
    "Content-Encoding",
    "X-Request-Id",
    "Accept-Encoding",
    "X-Forwarded-Proto",
    "Docker-Content-Digest",
    "Cookie",
    "Upgrade",
    "Origin",
]
_HEADER_VALUES = [
    "",
    "bytes=0-",
    "bytes=9-1",
    "0-0",
    "5-3",
    "-1-5",
    "99999999999999999999-1",
    "bytes 0-4/*",
    "*/*",
    "gzip",
    "\xff\xfe",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "text/plain; charset=x",
    "a" * 3000,
    "websocket",
    'W/"x"',
    "multipart/form-data; boundary=x",
]
_BODIES = [
    b"",
    b"{}",
    b"[]",
    b"null",
    b"{",
    b'{"schemaVersion":2}',
    b"\xff\xfe",
    b"[" * 5000,
    b'{"schemaVersion":2,"manifests":[{}]}',
    b'{"schemaVersion":2,"manifests":[{"mediaType":"a","digest":"sha256:x","size":-1}]}',
    b'{"schemaVersion":1e999}',
    b'{"schemaVersion":2,"config":{"mediaType":"x\\u0000","digest":"sha256:' + b"0" * 64 + b'","size":0},"layers":[]}',
    b'{"schemaVersion":2,"schemaVersion":2}',
    b'{"SchemaVersion":2}',
    b'{"schemaVersion":2,"x":"\\udc00"}',
    b"1" * 6000,
]


def nonsense(rng: random.Random) -> bytes:
    """One request that is well-formed HTTP and makes no sense to a registry."""
    method = rng.choice(["GET", "GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS", "FOO"])
    shapes = (
        lambda: "/v2/" + "/".join(rng.choices(_SEGMENTS, k=rng.randint(1, 7))),
        lambda: f"/v2/fuzz/repo/manifests/{rng.choice(_SEGMENTS)}",
        lambda: f"/v2/fuzz/repo/blobs/{rng.choice(_SEGMENTS)}",
        lambda: f"/v2/fuzz/repo/blobs/uploads/{rng.choice(_SEGMENTS)}",
        lambda: f"/v2/{rng.choice(_SEGMENTS)}/tags/list",
        lambda: f"/v2/fuzz/repo/referrers/{rng.choice(_SEGMENTS)}",
        lambda: "/v2/_catalog",
    )
    path = rng.choice(shapes)()
    query = "&".join(f"{rng.choice(_PARAMETERS)}={rng.choice(_VALUES)}" for _ in range(rng.randint(0, 3)))
    body = rng.choice(_BODIES) if method in ("PUT", "POST", "PATCH") or rng.random() < 0.1 else b""
    headers = "".join(f"{rng.choice(_HEADERS)}: {rng.choice(_HEADER_VALUES)}\r\n" for _ in range(rng.randint(0, 3)))
    target = (path + ("?" + query if query else "")).replace("\u0661", "%D9%A1").replace(" ", "%20")
    head = f"{method} {target} HTTP/1.1\r\nHost: x\r\n{AUTH if rng.random() < 0.8 else ''}{headers}"
    return f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode("latin-1") + body


async def test_nonsense_is_refused_in_the_specifications_form_and_never_fails_the_server(
    shared_gateway: RunningGateway, client: Client
) -> None:
    seed = int(os.environ.get("SLIPWAY_TEST_SEED", "20261124"))
    rng = random.Random(seed)
    requests = (nonsense(rng) for _ in range(_FUZZ_REQUESTS))
    seen: dict[int, int] = {}

    async def work() -> None:
        for request in requests:
            wire = await connect(shared_gateway)
            await wire.send(request)
            received = await wire.receive_all()
            wire.close()
            check_refusal(request, received, seen)

    await asyncio.gather(*(work() for _ in range(8)))
    assert sum(seen.values()) == _FUZZ_REQUESTS
    assert {400, 401, 404, 405} <= set(seen)
    assert (await client.get("/v2/")).status == 200


def check_refusal(request: bytes, received: bytes, seen: dict[int, int]) -> None:
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith((b"HTTP/1.1 ", b"HTTP/1.0 ")), f"no answer to {request!r}: {received[:200]!r}"
    status = int(head[9:12])
    seen[status] = seen.get(status, 0) + 1
    assert status < 500, f"{request!r} -> {received[:500]!r}"
    if status >= 400 and not request.startswith(b"HEAD "):
        error = json.loads(body)["errors"][0]
        assert error["code"], f"{request!r} -> {received[:500]!r}"
        assert error["message"]
