"""Bodies in and out, over real sockets, on both event loops.

The requests are written byte by byte where it matters: what a client library would never send is what must not hurt.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import itertools
import os
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import uvloop
from aiohttp import web

from slipway_common.errors import Unavailable
from slipway_common.storage.files import FileStore
from slipway_gateway.api import takeover as takeover_module
from slipway_gateway.api import transfer
from slipway_gateway.api.framing import MalformedBody
from slipway_gateway.api.transfer import BodyCutOff, BodyTooLarge, BodyTooSlow, FileBody, RateLimits, receive_body

KIB, MIB = 1024, 1024 * 1024


# The hook that should replace this fixture is global: it would run every test of the project on both loops.
pytestmark = pytest.mark.filterwarnings("ignore:Overriding the .event_loop_policy:pytest.PytestDeprecationWarning")


@pytest.fixture(params=["asyncio", "uvloop"])
def event_loop_policy(request: pytest.FixtureRequest) -> Iterator[asyncio.AbstractEventLoopPolicy]:
    return uvloop.EventLoopPolicy() if request.param == "uvloop" else asyncio.DefaultEventLoopPolicy()


@dataclass
class Server:
    """A server whose PUT hashes the body and answers its digest, and whose GET serves one file."""

    port: int = 0
    rate: RateLimits = field(default_factory=RateLimits)
    max_bytes: int | None = None
    room_bytes: int = 1 << 40
    file: str = ""
    store: FileStore | None = None
    received: list[int] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)
    consumed_in: set[str] = field(default_factory=set)
    flushes: int = 0
    fail_after_bytes: int = 1 << 60
    taken_over: int = 0

    async def put(self, request: web.Request) -> web.StreamResponse:
        digest, total = hashlib.sha256(), 0
        room = self.room_bytes

        def consume(chunk: memoryview) -> None:
            nonlocal total, room
            assert 0 < len(chunk) <= room
            room -= len(chunk)
            total += len(chunk)
            self.consumed_in.add(threading.current_thread().name)
            if total > self.fail_after_bytes:
                raise Unavailable("the disk is full")
            digest.update(chunk)

        async def flush() -> None:
            nonlocal room
            self.flushes += 1
            room = self.room_bytes

        try:
            size = await receive_body(
                request, consume, room=lambda: room, flush=flush, rate=self.rate, max_bytes=self.max_bytes
            )
        except BaseException as exc:
            self.errors.append(exc)
            if isinstance(exc, asyncio.CancelledError):
                raise
            return web.Response(status=503 if isinstance(exc, Unavailable) else 400, text=type(exc).__name__)
        assert size == total
        self.received.append(size)
        return web.Response(status=201, text=digest.hexdigest())

    async def get(self, request: web.Request) -> web.StreamResponse:
        assert self.store is not None
        start, length = request.query.get("start", "0"), request.query.get("length")
        reader = await self.store.open_reader(
            self.file, start=int(start), length=None if length is None else int(length)
        )
        return FileBody(reader, headers={"X-Kind": "blob"}, rate=self.rate)


@pytest.fixture
async def server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> AsyncIterator[Server]:
    state = Server(store=FileStore(tmp_path))
    real_enter = takeover_module.ConnectionTakeover.__aenter__

    async def counting_enter(self: takeover_module.ConnectionTakeover) -> takeover_module.ConnectionTakeover:
        state.taken_over += 1
        return await real_enter(self)

    monkeypatch.setattr(takeover_module.ConnectionTakeover, "__aenter__", counting_enter)
    application = web.Application()
    application.router.add_put("/", state.put)
    application.router.add_get("/", state.get)
    runner = web.AppRunner(application, access_log=None, handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    tls = request.getfixturevalue("tls")[0] if "tls" in request.fixturenames else None
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    state.port = runner.addresses[0][1]
    yield state
    await runner.cleanup()


class Client:
    """A raw connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()

    async def response(self, *, body: bool = True) -> tuple[int, dict[str, str], bytes]:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        lines = head.split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:] if line)}
        content = await self.reader.readexactly(int(headers.get("content-length", 0))) if body else b""
        return int(lines[0].split()[1]), headers, content

    async def closed(self) -> bool:
        return await self.reader.read(1) == b""


@pytest.fixture
async def connect(server: Server) -> AsyncIterator[Callable[[], Awaitable[Client]]]:
    clients: list[Client] = []

    async def one() -> Client:
        clients.append(Client(*await asyncio.open_connection("127.0.0.1", server.port)))
        return clients[-1]

    yield one
    for client in clients:
        client.writer.transport.abort()


Connect = Callable[[], Awaitable[Client]]


def head(length: int | None, *more: str) -> bytes:
    size = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    return "\r\n".join(["PUT / HTTP/1.1", "Host: x", size, *more, "", ""]).encode()


def chunks(content: bytes, size: int, *, extension: bytes = b"") -> bytes:
    pieces = [content[at : at + size] for at in range(0, len(content), size)]
    return b"".join(b"%x%s\r\n%s\r\n" % (len(piece), extension, piece) for piece in pieces) + b"0\r\n\r\n"


def expected(content: bytes) -> tuple[int, bytes]:
    return 201, hashlib.sha256(content).hexdigest().encode()


async def outcome(client: Client) -> tuple[int, bytes]:
    status, _, content = await client.response()
    return status, content


CONTENT = os.urandom(3 * MIB + 17)
SMALL = b"small body"
GET_NOTHING = b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n"


# -- bodies in --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 10_000, 100_000, 256 * KIB, 256 * KIB + 1, len(CONTENT)])
async def test_a_body_of_known_length_arrives_whole(server: Server, connect: Connect, size: int) -> None:
    client = await connect()
    await client.send(head(size), CONTENT[:size])
    assert await outcome(client) == expected(CONTENT[:size])


async def test_a_large_body_is_read_from_the_socket_in_threads(server: Server, connect: Connect) -> None:
    client = await connect()
    await client.send(head(len(CONTENT)), CONTENT)
    assert await outcome(client) == expected(CONTENT)
    assert server.taken_over == 1
    assert all(name.startswith("transfer") for name in server.consumed_in)


@pytest.mark.parametrize("chunk", [1000, 32 * KIB, 100_000, MIB, 4 * MIB])
async def test_a_chunked_body_arrives_whole_and_the_connection_goes_on(
    server: Server, connect: Connect, chunk: int
) -> None:
    client = await connect()
    for _ in range(2):
        await client.send(head(None), chunks(CONTENT, chunk))
        assert await outcome(client) == expected(CONTENT)
    await client.send(head(None), chunks(SMALL, 3))
    assert await outcome(client) == expected(SMALL)
    assert server.taken_over == 2 or chunk > MIB


async def test_chunks_of_every_size_with_extensions_and_trailers_arrive_whole(server: Server, connect: Connect) -> None:
    client = await connect()
    body = b""
    at = 0
    for number in range(1, 3000):
        piece = CONTENT[at : at + number]
        at += number
        body += b"%X;name=value\r\n%s\r\n" % (len(piece), piece) if piece else b""
    body += b"0\r\nX-Trailer: yes\r\n\r\n"
    await client.send(head(None), body)
    assert await outcome(client) == expected(CONTENT[:at])
    assert server.taken_over == 1


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_request_right_behind_a_body_is_answered_too(server: Server, connect: Connect, chunked: bool) -> None:
    client = await connect()
    body = head(None) + chunks(CONTENT, 32 * KIB) if chunked else head(len(CONTENT)) + CONTENT
    small = head(len(SMALL)) + SMALL
    await client.send(body + small + body + GET_NOTHING + small)
    assert await outcome(client) == expected(CONTENT)
    assert await outcome(client) == expected(SMALL)
    assert await outcome(client) == expected(CONTENT)
    assert (await outcome(client))[0] == 404
    assert await outcome(client) == expected(SMALL)
    assert server.taken_over == 2


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_connection_serves_many_large_bodies(server: Server, connect: Connect, chunked: bool) -> None:
    client = await connect()
    for _ in range(8):
        body = head(None) + chunks(CONTENT, 32 * KIB) if chunked else head(len(CONTENT)) + CONTENT
        await client.send(body)
        assert await outcome(client) == expected(CONTENT)
        await client.send(GET_NOTHING)
        assert (await outcome(client))[0] == 404
    assert server.taken_over == 8


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_in_pieces_of_any_size_arrives_whole(server: Server, connect: Connect, chunked: bool) -> None:
    """Single bytes around the places where parsers change their minds."""
    client = await connect()
    content = CONTENT[: 700 * KIB]
    raw = head(None) + chunks(content, 32 * KIB) if chunked else head(len(content)) + content
    cuts = {at for edge in (0, 256 * KIB, 512 * KIB, len(raw) - 60) for at in range(edge, min(edge + 60, len(raw)))}
    cuts |= set(range(0, len(raw), 50_021))
    edges = sorted(cuts | {len(raw)})
    for begin, end in itertools.pairwise(edges):
        await client.send(raw[begin:end])
        await asyncio.sleep(0.0005)
    assert await outcome(client) == expected(content)
    await client.send(head(len(SMALL)), SMALL)
    assert await outcome(client) == expected(SMALL)


async def test_the_last_chunk_and_the_trailers_may_come_late(server: Server, connect: Connect) -> None:
    client = await connect()
    raw = chunks(CONTENT, 32 * KIB)
    await client.send(head(None), raw[:-5])
    for last in (raw[-5:-4], raw[-4:-2], b"X-Trailer: a\r", b"\n", b"\r", b"\n"):
        await asyncio.sleep(0.03)
        await client.send(last)
    assert await outcome(client) == expected(CONTENT)
    await client.send(head(len(SMALL)), SMALL)
    assert await outcome(client) == expected(SMALL)


@pytest.mark.parametrize("length", [len(SMALL), len(CONTENT)])
async def test_expect_continue_is_answered_before_the_body(server: Server, connect: Connect, length: int) -> None:
    client = await connect()
    await client.send(head(length, "Expect: 100-continue"))
    assert (await client.response())[0] == 100
    content = CONTENT[:length]
    await client.send(content)
    assert await outcome(client) == expected(content)


@pytest.mark.parametrize("chunked", [False, True])
async def test_the_consumer_never_gets_more_than_it_has_room_for(
    server: Server, connect: Connect, chunked: bool
) -> None:
    server.room_bytes = 100_000
    client = await connect()
    await client.send(head(None) + chunks(CONTENT, 32 * KIB) if chunked else head(len(CONTENT)) + CONTENT)
    assert await outcome(client) == expected(CONTENT)
    assert server.flushes >= len(CONTENT) // 100_000


async def test_without_the_private_attributes_the_body_comes_through_the_stream(
    server: Server, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(takeover_module, "_PROTOCOL_NEEDS", ("_no_such_attribute",))
    client = await connect()
    for raw in (head(len(CONTENT)) + CONTENT, head(None) + chunks(CONTENT, 32 * KIB)):
        await client.send(raw)
        assert await outcome(client) == expected(CONTENT)
    assert server.taken_over == 0


# -- bodies that go wrong ---------------------------------------------------------------------------------------------


async def assert_in_step_or_closed(client: Client) -> None:
    """The rest of a body is never taken for a request."""
    try:
        async with asyncio.timeout(10):
            await client.send(GET_NOTHING)
            assert (await outcome(client))[0] == 404
    except (asyncio.IncompleteReadError, ConnectionError):
        pass


async def wait_for_error(server: Server) -> BaseException:
    async with asyncio.timeout(10):
        while not server.errors:
            await asyncio.sleep(0.01)
    return server.errors[0]


@pytest.mark.parametrize("sent", [0, 10_000, 300 * KIB, len(CONTENT) - 1])
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_client_that_dies_is_a_body_cut_off(server: Server, connect: Connect, sent: int, chunked: bool) -> None:
    client = await connect()
    if chunked:
        await client.send(head(None), chunks(CONTENT[: sent + 1], 32 * KIB)[:sent])
    else:
        await client.send(head(len(CONTENT)), CONTENT[:sent])
    await asyncio.sleep(0.05)
    client.writer.close()
    error = await wait_for_error(server)
    assert isinstance(error, (BodyCutOff, asyncio.CancelledError))
    if isinstance(error, BodyCutOff):
        assert error.received_bytes <= sent
    assert not server.received


async def test_a_body_over_the_limit_is_refused_before_it_is_read(server: Server, connect: Connect) -> None:
    server.max_bytes = MIB
    client = await connect()
    await client.send(head(len(CONTENT)))
    assert await outcome(client) == (400, b"BodyTooLarge")
    assert not server.consumed_in


async def test_a_chunked_body_over_the_limit_is_stopped(server: Server, connect: Connect) -> None:
    server.max_bytes = MIB
    client = await connect()
    sending = asyncio.create_task(client.send(head(None), chunks(CONTENT, 32 * KIB)))
    assert await outcome(client) == (400, b"BodyTooLarge")
    assert isinstance(server.errors[0], BodyTooLarge)
    await asyncio.gather(sending, return_exceptions=True)


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_client_that_stops_sending_is_dropped(server: Server, connect: Connect, chunked: bool) -> None:
    server.rate = RateLimits(idle_timeout_s=0.2)
    client = await connect()
    await client.send(head(None) + b"100000\r\n" if chunked else head(len(CONTENT)), CONTENT[: 300 * KIB])
    async with asyncio.timeout(5):
        assert await outcome(client) == (400, b"BodyTooSlow")
    assert isinstance(server.errors[0], BodyTooSlow)


async def test_a_client_that_drips_is_dropped(server: Server, connect: Connect) -> None:
    server.rate = RateLimits(idle_timeout_s=60, min_bytes_per_s=1000, window_s=0.5)
    client = await connect()
    await client.send(head(len(CONTENT)))

    async def drip() -> None:
        while True:
            await client.send(b"x")
            await asyncio.sleep(0.02)

    dripping = asyncio.create_task(drip())
    async with asyncio.timeout(5):
        assert await outcome(client) == (400, b"BodyTooSlow")
    dripping.cancel()
    await asyncio.gather(dripping, return_exceptions=True)


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_consumer_that_fails_is_told_to_a_client_that_still_sends(
    server: Server, connect: Connect, chunked: bool
) -> None:
    server.fail_after_bytes = MIB
    client = await connect()
    content = CONTENT * 5
    raw = head(None) + chunks(content, 32 * KIB) if chunked else head(len(content)) + content
    sending = asyncio.create_task(client.send(raw))
    assert await outcome(client) == (503, b"Unavailable")
    await asyncio.gather(sending, return_exceptions=True)
    await assert_in_step_or_closed(client)


@pytest.mark.parametrize(
    "bad",
    [
        b"zz\r\n",
        b"-5\r\n",
        b"+5\r\n",
        b"5 5\r\n",
        b"\r\n",
        b"5\n",
        b"0x5\r\n",
        b"1" * 300 + b"\r\n",
        b"10000000000000000\r\n",
    ],
)
async def test_malformed_chunks_are_refused_and_the_connection_closed(
    server: Server, connect: Connect, bad: bytes
) -> None:
    client = await connect()
    await client.send(head(None), chunks(CONTENT, 32 * KIB)[:-5], bad + b"hello\r\n0\r\n\r\n")
    status, content = await outcome(client)
    assert status == 400
    assert content in (b"MalformedBody", b"BodyCutOff")
    assert isinstance(server.errors[0], (MalformedBody, BodyCutOff))
    assert await client.closed()


async def test_a_chunk_longer_than_its_size_is_refused(server: Server, connect: Connect) -> None:
    client = await connect()
    await client.send(head(None), chunks(CONTENT, 32 * KIB)[:-5], b"5\r\nhello!\r\n0\r\n\r\n")
    assert (await outcome(client))[0] == 400


def count_descriptors() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_cancelled_upload_leaves_no_thread_and_no_descriptor(
    server: Server, connect: Connect, chunked: bool
) -> None:
    """`handler_cancellation` cancels the handler when its client is gone."""
    before = count_descriptors()
    for _ in range(5):
        client = await connect()
        await client.send(head(None) if chunked else head(20 * MIB), chunks(CONTENT, 32 * KIB)[:-5])
        client.writer.transport.abort()
    async with asyncio.timeout(10):
        while len(server.errors) < 5 or count_descriptors() > before:
            await asyncio.sleep(0.02)
    seen = sum(server.received)
    await asyncio.sleep(0.05)
    assert sum(server.received) == seen


async def test_cancelling_waits_for_the_thread_that_consumes() -> None:
    left, right = socket.socketpair()
    left.setblocking(False)
    entered, leave, returned = threading.Event(), threading.Event(), False

    def consume(chunk: memoryview) -> None:
        entered.set()
        leave.wait(5)

    from slipway_gateway.api.framing import LengthFraming
    from slipway_gateway.api.sockets import DirectSocket

    right.sendall(b"x" * 1000)
    with DirectSocket(left.fileno()) as connection:
        receiving = asyncio.create_task(connection.receive(LengthFraming(5000), lambda: 5000, consume))
        while not entered.is_set():
            await asyncio.sleep(0.001)
        receiving.cancel()
        await asyncio.sleep(0.05)
        assert not receiving.done()
        leave.set()
        with pytest.raises(asyncio.CancelledError):
            await receiving
        returned = True
    assert returned
    left.close()
    right.close()


# -- bodies out -------------------------------------------------------------------------------------------------------


@pytest.fixture
async def blob(server: Server) -> bytes:
    assert server.store is not None
    content = os.urandom(MIB) * 6 + b"end"
    server.file = "blobs/aa/one"
    async with await server.store.open_writer(server.file) as writer:
        await asyncio.to_thread(writer.write, content)
        await writer.finish()
    return content


def get(query: str = "", method: str = "GET", *more: str) -> bytes:
    return "\r\n".join([f"{method} /{query} HTTP/1.1", "Host: x", *more, "", ""]).encode()


async def test_a_file_is_sent_whole_and_the_connection_goes_on(server: Server, connect: Connect, blob: bytes) -> None:
    client = await connect()
    for _ in range(3):
        await client.send(get())
        status, headers, content = await client.response()
        assert (status, headers["x-kind"], content == blob) == (200, "blob", True)
    await client.send(GET_NOTHING)
    assert (await outcome(client))[0] == 404


@pytest.mark.parametrize(("start", "length"), [(0, 1), (5, 100_000), (3 * MIB, 2 * MIB), (6 * MIB, 3), (6 * MIB, 0)])
async def test_a_range_is_sent_exactly(server: Server, connect: Connect, blob: bytes, start: int, length: int) -> None:
    client = await connect()
    await client.send(get(f"?start={start}&length={length}"))
    assert (await client.response())[2] == blob[start : start + length]


async def test_pipelined_requests_get_their_files_in_order(server: Server, connect: Connect, blob: bytes) -> None:
    client = await connect()
    await client.send(get("?length=10") + get() + get("?start=5&length=200000") + GET_NOTHING)
    assert (await client.response())[2] == blob[:10]
    assert (await client.response())[2] == blob
    assert (await client.response())[2] == blob[5:200_005]
    assert (await outcome(client))[0] == 404


async def test_head_sends_the_length_and_no_body(server: Server, connect: Connect, blob: bytes) -> None:
    client = await connect()
    await client.send(get(method="HEAD"))
    status, headers, _ = await client.response(body=False)
    assert (status, headers["content-length"]) == (200, str(len(blob)))
    await client.send(get("?length=4"))
    assert (await client.response())[2] == blob[:4]


async def test_clients_that_leave_take_no_descriptor_along(server: Server, connect: Connect, blob: bytes) -> None:
    before = count_descriptors()
    for _ in range(5):
        client = await connect()
        await client.send(get())
        await client.reader.read(1000)
        client.writer.transport.abort()
    async with asyncio.timeout(5):
        while count_descriptors() > before:
            await asyncio.sleep(0.02)


async def test_a_client_that_does_not_read_is_dropped(server: Server, blob: bytes) -> None:
    server.rate = RateLimits(idle_timeout_s=0.3)
    before = count_descriptors()
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        await asyncio.to_thread(client.sendall, get())
        await asyncio.sleep(2.5)
        assert count_descriptors() <= before + 1  # ours; the server's and the file's are gone


async def test_a_file_that_is_shorter_than_promised_cuts_the_connection(
    server: Server, connect: Connect, blob: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert server.store is not None
    real = transfer.FileBody._send

    async def truncate_first(self: FileBody) -> None:
        assert server.store is not None
        os.truncate(server.store.path(server.file), MIB)
        await real(self)

    monkeypatch.setattr(transfer.FileBody, "_send", truncate_first)
    client = await connect()
    await client.send(get())
    with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
        await client.response()


# -- TLS --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(path)
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE
    return served, trusting


async def test_over_tls_bodies_go_through_the_stream(
    tls: tuple[ssl.SSLContext, ssl.SSLContext], server: Server, blob: bytes
) -> None:
    client = Client(*await asyncio.open_connection("127.0.0.1", server.port, ssl=tls[1]))
    for raw in (head(len(CONTENT)) + CONTENT, head(None) + chunks(CONTENT, 32 * KIB)):
        await client.send(raw)
        assert await outcome(client) == expected(CONTENT)
    await client.send(get())
    assert (await client.response())[2] == blob
    assert server.taken_over == 0
    client.writer.transport.abort()
