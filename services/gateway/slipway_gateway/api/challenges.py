"""Asking a client to log in, in the words of the token protocol, and where the registry is as the client sees it."""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from aiohttp import web

from slipway_common.errors import Unauthenticated
from slipway_common.security.signing import InvalidToken
from slipway_gateway.api.oci_errors import error_response
from slipway_gateway.identity import SERVICE

_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")


# `192.0.2.7:4711`, `[2001:db8::7]:4711` and `[2001:db8::7]`.
_PORT = re.compile(r"^(?:\[([0-9A-Fa-f:.]+)\](?::[0-9]{1,5})?|([0-9.]+):[0-9]{1,5})$")


class PublicAddress:
    """The registry's own URL: the operator's, else the one the client used; and the client's own address."""

    def __init__(self, public_url: str | None, trusted_proxies: list[str], *, tls: bool) -> None:
        self._public_url = public_url
        self._trusted = [ip_network(network, strict=False) for network in trusted_proxies]
        self._tls = tls

    def of(self, request: web.BaseRequest) -> str:
        """For instance `https://registry.example.com`, without a slash at the end.

        Headers of a proxy count only if it is trusted, and the Host header only if it is well-formed.
        """
        if self._public_url is not None:
            return self._public_url
        scheme = "https" if self._tls else "http"
        if self._is_trusted(request.remote) and request.headers.get("X-Forwarded-Proto") in ("http", "https"):
            scheme = request.headers["X-Forwarded-Proto"]
        host = request.headers.get("Host", "")
        return f"{scheme}://{host if _HOST.fullmatch(host) else 'localhost'}"

    def client_of(self, request: web.BaseRequest) -> str:
        """The address a request comes from; if a trusted proxy sent it, the last of X-Forwarded-For that is not another one's."""
        remote = _as_written(request.remote or "")
        if not self._trusted or not self._is_trusted(remote):
            return remote
        # Several headers of one name are one list (RFC 9110, 5.3): a proxy may add its own after the client's.
        for text in reversed(",".join(request.headers.getall("X-Forwarded-For", [])).split(",")):
            found = _parse_address(text.strip())
            if found is None:
                break
            remote = str(found)
            if not self._is_trusted(remote):
                break
        return remote

    def _is_trusted(self, remote: str | None) -> bool:
        address = _parse_address(remote or "")
        return address is not None and any(address in network for network in self._trusted)


@lru_cache(maxsize=4096)
def _as_written(remote: str) -> str:
    """A socket's address in its usual form."""
    address = _parse_address(remote)
    return remote if address is None else str(address)


def _parse_address(text: str) -> IPv4Address | IPv6Address | None:
    """An address; some proxies write its port behind it."""
    try:
        address = ip_address(_PORT.sub(r"\1\2", text))
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped  # as a socket that listens on every address sees IPv4
    return address


class Challenger:
    """Renders 401 answers."""

    def __init__(self, address: PublicAddress) -> None:
        self._address = address

    def refuse(self, request: web.BaseRequest, exc: Unauthenticated, scope: str | None) -> web.Response:
        """401 with one Bearer challenge: where to get a token, for what, and what was wrong with the present one."""
        parts = [f'realm="{self._address.of(request)}/token"', f'service="{SERVICE}"']
        if scope is not None:
            parts.append(f'scope="{scope}"')
        error = self._error(request, exc)
        if error is not None:
            parts.append(f'error="{error}"')
        response = error_response(401, "UNAUTHORIZED", exc.message or "authentication required")
        response.headers["WWW-Authenticate"] = f"Bearer {','.join(parts)}"
        return response

    def _error(self, request: web.BaseRequest, exc: Unauthenticated) -> str | None:
        if isinstance(exc, InvalidToken):
            return "invalid_token"
        with_token = request.headers.get("Authorization", "")[:7].lower() == "bearer "
        return "insufficient_scope" if with_token else None
