"""Guarded requests against real listeners on loopback: 127.0.0.2 is what the operator has opened, everything else is inward.

A listener that must not be reached never accepts: the kernel finishes each handshake for it and keeps the connection in its
queue, so that counting the queue finds every connection that was made, also one that was closed at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import socket
import ssl
import traceback
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import uvloop
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from slipway_common.errors import Unavailable
from slipway_common.outgoing.addresses import Allowance, parse_allowance
from slipway_common.outgoing.guard import GuardedSession, OutgoingRules, open_guarded_session, read_capped
from slipway_common.outgoing.targets import OutgoingRefused
from tests.parts.certificates import Certificates, make_certificates
from tests.parts.process import free_port

OPEN = "127.0.0.2"
SECRET = "c0ffee"


class Listener:
    """Takes connections, answers none, and counts them."""

    def __init__(self, address: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._socket = socket.socket(family)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((address, port))
        self._socket.listen(128)
        self._socket.setblocking(False)
        self.port: int = self._socket.getsockname()[1]

    def connections(self) -> int:
        count = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                self._socket.accept()[0].close()
                count += 1
        return count

    def close(self) -> None:
        self._socket.close()


@dataclass
class FakeResolver(AbstractResolver):
    """Names with their answers, each a list of addresses; the last answer stays."""

    names: dict[str, list[list[str]]]
    asked: list[str] = field(default_factory=list)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        self.asked.append(host)
        answers = self.names.get(host)
        if not answers:
            raise OSError(None, "no such name")
        addresses = answers.pop(0) if len(answers) > 1 else answers[0]
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in addresses
        ]

    async def close(self) -> None: ...


@pytest.fixture
def forbidden() -> Iterator[Listener]:
    """On 127.0.0.1, at a port that `service` uses on 127.0.0.2."""
    listener = Listener("127.0.0.1", free_port())
    yield listener
    assert listener.connections() == 0
    listener.close()


@pytest.fixture
def forbidden_v6(forbidden: Listener) -> Iterator[Listener]:
    try:
        listener = Listener("::1", forbidden.port)
    except OSError as exc:
        pytest.skip(f"no IPv6 here: {exc}")
    yield listener
    assert listener.connections() == 0
    listener.close()


@dataclass
class Service:
    """Answers on the open address as its path says."""

    forbidden: Listener
    requests: list[web.Request] = field(default_factory=list)
    port: int = 0
    let_go: asyncio.Event = field(default_factory=asyncio.Event)

    def url(self, path: str = "/", host: str = OPEN) -> str:
        return f"http://{host}:{self.port}{path}"

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        match request.path.strip("/").split("/"):
            case ["redirect", status]:
                location = f"http://127.0.0.1:{self.forbidden.port}/"
                return web.Response(status=int(status), headers={"Location": location})
            case ["bytes", count]:
                return web.Response(body=b"x" * int(count))
            case ["bomb"]:
                return web.Response(body=gzip.compress(bytes(64 << 20)), headers={"Content-Encoding": "gzip"})
            case ["slow"]:
                await self.let_go.wait()
            case ["slow-body"]:
                response = web.StreamResponse(headers={"Content-Length": "9"})
                await response.prepare(request)
                await response.write(b"x")
                await self.let_go.wait()
            case ["broken-body"]:
                response = web.StreamResponse(headers={"Content-Length": "9"})
                await response.prepare(request)
                await response.write(b"x")
                assert request.transport is not None
                request.transport.close()
                return response
            case ["echo"]:
                return web.Response(body=await request.read(), headers={"X-Was": request.headers["Content-Type"]})
            case ["cookie"]:
                return web.Response(headers={"Set-Cookie": "a=b; Path=/"})
        return web.Response(text="hello")


@contextlib.asynccontextmanager
async def serving(service: Service, tls: ssl.SSLContext | None = None) -> AsyncIterator[Service]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", service.answer)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    service.port = service.forbidden.port
    await web.TCPSite(runner, OPEN, service.port, ssl_context=tls).start()
    try:
        yield service
    finally:
        service.let_go.set()
        await runner.cleanup()


@pytest.fixture
async def service(forbidden: Listener) -> AsyncIterator[Service]:
    async with serving(Service(forbidden)) as service:
        yield service


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return make_certificates(tmp_path)


@pytest.fixture
async def secure_service(forbidden: Listener, certificates: Certificates) -> AsyncIterator[Service]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates.certificate, certificates.key)
    async with serving(Service(forbidden), context) as service:
        yield service


def opened(
    resolver: FakeResolver | None = None, *, timeout_s: float = 20.0, tls: ssl.SSLContext | None = None
) -> AbstractAsyncContextManager[GuardedSession]:
    """A session of an operator who has opened 127.0.0.2."""
    rules = OutgoingRules(parse_allowance([f"{OPEN}/32"]))
    return open_guarded_session(rules, timeout_s=timeout_s, tls=tls, resolver=resolver)


def closed(port: int, resolver: FakeResolver | None = None) -> AbstractAsyncContextManager[GuardedSession]:
    """A session that nothing but the addresses holds back."""
    return open_guarded_session(OutgoingRules(Allowance(), frozenset({port}), plain_http=True), resolver=resolver)


async def fetch(guarded: GuardedSession, url: str) -> bytes:
    async with guarded.request("GET", url) as response:
        return await read_capped(response, 1024)


async def refuse(guarded: GuardedSession, url: str) -> str:
    with pytest.raises(OutgoingRefused) as caught:
        await fetch(guarded, url)
    return str(caught.value)


# All of them lead to a listener on 127.0.0.1 or ::1, on Linux, if they are let.
INWARD = ["127.0.0.1", "127.0.0.1%0", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1", "::ffff:0.0.0.0", "::1%lo"]
ELSEWHERE = [
    "169.254.169.254",
    "10.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b:1::7f00:1",
    "2002:7f00:1::",
    "::127.0.0.1",
    "fec0::1",
]


@pytest.mark.parametrize("address", INWARD + ELSEWHERE)
async def test_a_name_that_leads_inward_is_not_connected(
    address: str, forbidden: Listener, forbidden_v6: Listener
) -> None:
    async with closed(forbidden.port, FakeResolver({"hooks.example": [[address]]})) as guarded:
        refusal = await refuse(guarded, f"http://hooks.example:{forbidden.port}/{SECRET}")
    assert refusal.startswith("hooks.example ")
    assert SECRET not in refusal
    assert address.partition("%")[0] not in refusal


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "::ffff:127.0.0.1"])
async def test_the_same_name_is_connected_when_its_network_is_open(address: str) -> None:
    """What the tests above would see if nobody refused."""
    listener = Listener("::1" if address == "::1" else "127.0.0.1", free_port())
    rules = OutgoingRules(parse_allowance(["127.0.0.0/8", "::1"]))
    resolver = FakeResolver({"hooks.example": [[address]]})
    async with open_guarded_session(rules, timeout_s=0.3, resolver=resolver) as guarded:
        with pytest.raises(Unavailable, match="did not answer in time"):
            await fetch(guarded, f"http://hooks.example:{listener.port}/")
    assert listener.connections() == 1
    listener.close()


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "0.0.0.0", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "①②⑦.⓪.⓪.①"]
)
async def test_an_address_in_the_url_is_not_connected_when_it_leads_inward(
    host: str, forbidden: Listener, forbidden_v6: Listener
) -> None:
    async with closed(forbidden.port) as guarded:
        assert "leads to an address that is" in await refuse(guarded, f"http://{host}:{forbidden.port}/")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST"])
async def test_a_name_that_the_system_knows_is_not_connected_when_it_leads_inward(
    host: str, forbidden: Listener, forbidden_v6: Listener
) -> None:
    async with closed(forbidden.port) as guarded:
        assert "loopback" in await refuse(guarded, f"http://{host}:{forbidden.port}/")


async def test_a_name_that_turns_inward_after_the_first_request_is_not_connected(service: Service) -> None:
    resolver = FakeResolver({"hooks.example": [[OPEN], ["127.0.0.1"]]})
    async with opened(resolver) as guarded:
        async with guarded.request(
            "GET", service.url(host="hooks.example"), headers={"Connection": "close"}
        ) as response:
            assert await read_capped(response, 1024) == b"hello"
        assert "loopback" in await refuse(guarded, service.url(host="hooks.example"))
    assert resolver.asked == ["hooks.example", "hooks.example"]


async def test_of_a_name_with_several_addresses_only_the_open_ones_are_connected(
    service: Service, forbidden_v6: Listener
) -> None:
    resolver = FakeResolver({"hooks.example": [["::1", "127.0.0.1", OPEN, "169.254.169.254"]]})
    async with opened(resolver) as guarded:
        assert await fetch(guarded, service.url(host="hooks.example")) == b"hello"


async def test_a_name_with_several_addresses_that_all_lead_inward_is_refused(
    forbidden: Listener, forbidden_v6: Listener
) -> None:
    resolver = FakeResolver({"hooks.example": [["::1", "127.0.0.1", "10.0.0.1", "fd00::1"]]})
    async with closed(forbidden.port, resolver) as guarded:
        assert "leads to an address" in await refuse(guarded, f"http://hooks.example:{forbidden.port}/")


@pytest.mark.parametrize("answer", ["localhost", "127.1", "2130706433", "0x7f.1", ""])
async def test_an_answer_that_is_no_address_is_not_looked_up_again(answer: str, forbidden: Listener) -> None:
    async with closed(forbidden.port, FakeResolver({"hooks.example": [[answer]]})) as guarded:
        await refuse(guarded, f"http://hooks.example:{forbidden.port}/")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_redirect_is_an_answer_and_not_followed(status: int, method: str, service: Service) -> None:
    async with opened() as guarded, guarded.request(method, service.url(f"/redirect/{status}")) as response:
        assert response.status == status
        assert "127.0.0.1" in response.headers["Location"]
    assert len(service.requests) == 1


async def test_requests_at_the_same_time_do_not_share_their_refusals(service: Service) -> None:
    resolver = FakeResolver({"hooks.example": [[OPEN]], "evil.example": [["127.0.0.1"]]})
    async with opened(resolver) as guarded:
        outcomes = await asyncio.gather(
            *(fetch(guarded, service.url(host=host)) for host in ("hooks.example", "evil.example") * 20),
            return_exceptions=True,
        )
    assert outcomes[::2] == [b"hello"] * 20
    assert [type(outcome) for outcome in outcomes[1::2]] == [OutgoingRefused] * 20


async def test_what_one_session_may_reach_another_does_not(service: Service) -> None:
    async with opened() as guarded, closed(service.port) as other:
        assert await fetch(guarded, service.url()) == b"hello"
        assert "loopback" in await refuse(other, service.url())
    assert len(service.requests) == 1


async def test_proxies_of_the_environment_are_not_used(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{service.forbidden.port}")
    monkeypatch.setenv("no_proxy", "")
    async with opened() as guarded:
        assert await fetch(guarded, service.url()) == b"hello"


async def test_no_cookie_is_kept_and_the_sender_is_named(service: Service) -> None:
    async with opened() as guarded:
        for _ in range(2):
            await fetch(guarded, service.url("/cookie"))
    assert "Cookie" not in service.requests[1].headers
    assert service.requests[1].headers["User-Agent"] == "Slipway"


@pytest.mark.parametrize(
    ("data", "sent", "kind"),
    [(b'{"a": 1}', b'{"a": 1}', "application/json"), ({"a": "b c"}, b"a=b+c", "application/x-www-form-urlencoded")],
)
async def test_bytes_are_sent_as_they_are_and_a_mapping_as_a_form(
    data: bytes | dict[str, str], sent: bytes, kind: str, service: Service
) -> None:
    headers = {"Content-Type": kind} if isinstance(data, bytes) else {}
    async with (
        opened() as guarded,
        guarded.request("POST", URL(service.url("/echo")), headers=headers, data=data) as response,
    ):
        assert await read_capped(response, 1024) == sent
        assert response.headers["X-Was"] == kind


@pytest.mark.parametrize(("size", "cap"), [(0, 0), (0, 9), (9, 9), (100_000, 100_000), (1_000_000, 2_000_000)])
async def test_a_body_up_to_the_cap_is_read_whole(size: int, cap: int, service: Service) -> None:
    async with opened() as guarded, guarded.request("GET", service.url(f"/bytes/{size}")) as response:
        assert len(await read_capped(response, cap)) == size


@pytest.mark.parametrize(
    ("path", "cap"), [("/bytes/1", 0), ("/bytes/10", 9), ("/bytes/5000000", 4096), ("/bomb", 1 << 20)]
)
async def test_a_body_over_the_cap_is_refused_or_cut_off(path: str, cap: int, service: Service) -> None:
    async with opened() as guarded:
        async with guarded.request("GET", service.url(path)) as response:
            with pytest.raises(Unavailable, match=rf"127\.0\.0\.2 sent more than {cap} bytes"):
                await read_capped(response, cap)
        async with guarded.request("GET", service.url(path)) as response:
            assert len(await read_capped(response, cap, truncate=True)) == cap


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/slow", "did not answer in time"),
        ("/slow-body", "did not answer in time"),
        ("/broken-body", "broke the connection off"),
    ],
)
async def test_an_answer_that_does_not_come_is_unavailable_and_its_url_stays_secret(
    path: str, words: str, service: Service
) -> None:
    async with opened(timeout_s=0.5) as guarded:
        with pytest.raises(Unavailable) as caught:
            await fetch(guarded, service.url(f"{path}?token={SECRET}"))
    assert str(caught.value) == f"{OPEN} {words}"
    assert SECRET not in "".join(traceback.format_exception(caught.value))


async def test_looking_up_the_name_is_part_of_the_time() -> None:
    class SilentResolver(FakeResolver):
        async def resolve(self, *_: object, **__: object) -> list[ResolveResult]:
            await asyncio.sleep(60)
            return []

    async with opened(SilentResolver({}), timeout_s=0.2) as guarded:
        with pytest.raises(Unavailable, match=r"^hooks\.example did not answer in time$"):
            await fetch(guarded, "https://hooks.example/")


async def test_a_connection_that_is_not_taken_is_unavailable_and_its_url_stays_secret(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Here aiohttp's own words have the whole URL."""
    monkeypatch.setattr("slipway_common.outgoing.guard._CONNECT_TIMEOUT_S", 0.3)
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind((OPEN, free_port()))
        full.listen(0)
        for client in (first, second):
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        async with opened() as guarded:
            with pytest.raises(Unavailable, match="did not answer in time") as caught:
                await fetch(guarded, f"http://{OPEN}:{full.getsockname()[1]}/{SECRET}")
    assert SECRET not in "".join(traceback.format_exception(caught.value))


async def test_what_cannot_be_reached_is_unavailable(service: Service) -> None:
    async with opened(FakeResolver({})) as guarded:
        with pytest.raises(Unavailable, match=r"^hooks\.example has no address$"):
            await fetch(guarded, "https://hooks.example/")
        with pytest.raises(Unavailable, match=rf"^{OPEN} takes no connection$"):
            await fetch(guarded, f"http://{OPEN}:{free_port()}/")
        with pytest.raises(Unavailable, match=rf"^{OPEN} has no certificate that is trusted, or does not speak TLS$"):
            await fetch(guarded, service.url().replace("http:", "https:"))


async def test_a_certificate_must_be_of_the_name_and_of_a_trusted_authority(
    secure_service: Service, certificates: Certificates
) -> None:
    trust = ssl.create_default_context(cafile=certificates.authority)
    url = f"https://localhost:{secure_service.port}/"
    names = {"localhost": [[OPEN]], "hooks.example": [[OPEN]]}
    async with opened(FakeResolver(names), tls=trust) as guarded:
        assert await fetch(guarded, url) == b"hello"
        with pytest.raises(Unavailable, match="certificate"):
            await fetch(guarded, url.replace("localhost", "hooks.example"))
    async with opened(FakeResolver(names)) as guarded:
        with pytest.raises(Unavailable, match="certificate"):
            await fetch(guarded, url)


def test_the_guard_holds_on_the_loop_that_services_run_on(forbidden: Listener, forbidden_v6: Listener) -> None:
    async def try_inward() -> None:
        resolver = FakeResolver({"one.example": [["127.0.0.1"]], "more.example": [["::1", "127.0.0.1"]]})
        async with closed(forbidden.port, resolver) as guarded:
            for host in ("one.example", "more.example", "127.0.0.1", "[::1]"):
                await refuse(guarded, f"http://{host}:{forbidden.port}/")

    uvloop.run(try_inward())
