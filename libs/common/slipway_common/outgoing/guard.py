"""Requests that may leave the house: the address is judged at the moment it is connected, after the last look at the DNS.

    async with open_guarded_session(rules) as guarded, guarded.request("GET", url) as response:
        keys = await read_capped(response, max_bytes=1 << 20)

A name that meant a public address when it was checked can mean the metadata service when it is connected (DNS rebinding), and an
address in a URL is never looked up at all: only the socket knows. No redirect is followed, no proxy of the environment is used,
no cookie is kept, and an error names the host alone, since paths and queries of webhooks are secrets.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import socket
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from ipaddress import ip_address

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from slipway_common.errors import Unavailable
from slipway_common.outgoing.addresses import Allowance, forbidden_reason
from slipway_common.outgoing.targets import OutgoingRefused, parse_target_url

# Where HTTP is spoken in public; on other ports are databases and mail servers that can be talked into things by HTTP.
PUBLIC_PORTS = frozenset({80, 443, 8443})
_CONNECT_TIMEOUT_S = 5.0
# Others must get through while one target is slow.
_CONNECTIONS, _CONNECTIONS_TO_ONE_HOST = 64, 8

_TROUBLES: tuple[tuple[type[BaseException], str], ...] = (
    (TimeoutError, "did not answer in time"),
    (aiohttp.ClientConnectorDNSError, "has no address"),
    (aiohttp.ClientSSLError, "has no certificate that is trusted, or does not speak TLS"),
    (aiohttp.ClientConnectorError, "takes no connection"),
)


@dataclass(frozen=True, slots=True)
class OutgoingRules:
    """Where requests may go. In the operator's networks everything may be reached, elsewhere only what is public, by HTTPS."""

    allowance: Allowance
    ports: frozenset[int] = PUBLIC_PORTS
    plain_http: bool = False

    def refusal(self, scheme: str, address: str, port: int) -> str | None:
        """Why this address may not be connected; None if it may."""
        try:
            parsed = ip_address(address)
        except ValueError:
            return "has something for an address that is none"
        if self.allowance.covers(parsed):
            return None
        if reason := forbidden_reason(parsed):
            return f"leads to an address that is {reason}; only the setting outgoing_networks can open such a network"
        if scheme != "https" and not self.plain_http:
            return "must be reached by https"
        if port not in self.ports:
            return f"must be reached on one of the ports {', '.join(map(str, sorted(self.ports)))}"
        return None


@dataclass(slots=True)
class _Attempt:
    """A request under way: what the socket's maker, deep inside aiohttp, has to know of it, and what it has to say."""

    scheme: str
    refusal: str | None = None


_attempt: ContextVar[_Attempt] = ContextVar("outgoing_attempt")


class GuardedSession:
    """A pool of connections, each judged when it was made."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    @contextlib.asynccontextmanager
    async def request(
        self,
        method: str,
        url: URL | str,
        *,
        headers: Mapping[str, str] | None = None,
        data: bytes | Mapping[str, str] | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Make one request; a mapping is sent as a form. A redirect is an answer like others.

        Raises OutgoingRefused, and Unavailable when the other side cannot be reached or does not answer.
        """
        target = parse_target_url(str(url))
        attempt = _Attempt(target.scheme)
        token = _attempt.set(attempt)
        try:
            with _errors_of(target, attempt):
                response = await self._session.request(
                    method, target, headers=headers, data=data, allow_redirects=False
                )
        finally:
            _attempt.reset(token)
        async with response:
            yield response


@contextlib.asynccontextmanager
async def open_guarded_session(
    rules: OutgoingRules,
    *,
    timeout_s: float = 30.0,
    tls: ssl.SSLContext | None = None,
    resolver: AbstractResolver | None = None,
) -> AsyncIterator[GuardedSession]:
    """A session whose requests, from name to last byte, take `timeout_s` at most. `tls`: other authorities than the system's."""
    connector = aiohttp.TCPConnector(
        socket_factory=functools.partial(_open_socket, rules),
        resolver=resolver,
        use_dns_cache=False,
        ssl=tls or True,
        limit=_CONNECTIONS,
        limit_per_host=_CONNECTIONS_TO_ONE_HOST,
    )
    async with aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": "Slipway"},
        timeout=aiohttp.ClientTimeout(total=timeout_s, sock_connect=_CONNECT_TIMEOUT_S),
        trust_env=False,
    ) as session:
        yield GuardedSession(session)


async def read_capped(response: aiohttp.ClientResponse, max_bytes: int, *, truncate: bool = False) -> bytes:
    """The body, unpacked. Of a longer one the beginning if `truncate`, else raises Unavailable, as for one that breaks off."""
    body = bytearray()
    with _errors_of(response.url):
        while len(body) <= max_bytes and (chunk := await response.content.read(max_bytes + 1 - len(body))):
            body += chunk
    if len(body) > max_bytes and not truncate:
        raise Unavailable(f"{response.url.raw_host} sent more than {max_bytes} bytes", host=response.url.raw_host)
    return bytes(body[:max_bytes])


def _open_socket(rules: OutgoingRules, info: aiohttp.AddrInfoType) -> socket.socket:
    """Called by aiohttp for each address it is about to connect. It goes on to the next one after an OSError only."""
    family, kind, protocol, _, (address, port, *_) = info
    attempt = _attempt.get()
    if reason := rules.refusal(attempt.scheme, address, port):
        attempt.refusal = reason
        raise PermissionError(errno.EACCES, reason)
    return socket.socket(family, kind, protocol)


@contextlib.contextmanager
def _errors_of(url: URL, attempt: _Attempt | None = None) -> Iterator[None]:
    """Turn aiohttp's errors into ours, without its words, which can hold the whole URL (hence `from None`)."""
    try:
        yield
    except (aiohttp.ClientError, TimeoutError) as exc:
        if attempt is not None and attempt.refusal:
            raise OutgoingRefused(f"{url.raw_host} {attempt.refusal}", host=url.raw_host) from None
        trouble = next((words for kind, words in _TROUBLES if isinstance(exc, kind)), "broke the connection off")
        raise Unavailable(f"{url.raw_host} {trouble}", host=url.raw_host, cause=type(exc).__name__) from None
