"""What one issuer of tokens publishes about itself (OpenID Connect Discovery 1.0): its addresses and its keys."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from yarl import URL

from slipway_common.errors import Misconfigured, SlipwayError, Unauthenticated, Unavailable
from slipway_common.outgoing.targets import OutgoingRefused, parse_target_url
from slipway_gateway.federation.documents import Requests, get_document
from slipway_gateway.federation.keys import PublicKey, find_key, read_keys

_DISCOVERY = "/.well-known/openid-configuration"
# A key that was withdrawn counts for at most so long; and so long does an outage of the issuer leave its tokens good.
_REFRESH_AFTER_S = 600.0
_FORGET_AFTER_S = 3600.0
UNKNOWN_KEY_PAUSE_S = 10.0  # an unknown key id makes us look again, but not more often than this
_FAILURE_PAUSE_S = 2.0  # who comes while the issuer is away is told so, without another try


class UnusableIssuer(Misconfigured):
    """What is published at the issuer's address cannot be used."""


class UnknownKey(Unauthenticated):
    """The issuer has published no key by which a token could be checked."""


@dataclass(frozen=True, slots=True)
class Published:
    """What the issuer has published, and when it was read, by the monotonic clock.

    client_authentication  the ways in which its token endpoint takes a client's secret
    """

    authorization_endpoint: URL | None
    token_endpoint: URL | None
    client_authentication: tuple[str, ...]
    keys: tuple[PublicKey, ...]
    read_at: float

    @property
    def age_s(self) -> float:
        return time.monotonic() - self.read_at


class Issuer:
    """Knows an issuer's addresses and keys; asks when it must, one request at a time, and not too often."""

    def __init__(self, requests: Requests, url: str, *, unknown_key_pause_s: float = UNKNOWN_KEY_PAUSE_S) -> None:
        self.url = url
        self._requests = requests
        self._unknown_key_pause_s = unknown_key_pause_s
        self._known: Published | None = None
        self._failure: SlipwayError | None = None
        self._failed_at = 0.0
        self._reading = asyncio.Lock()

    async def published(self) -> Published:
        """What is known, read anew when it has become old. Raises Unavailable, UnusableIssuer, OutgoingRefused."""
        known = self._known
        if known is None or known.age_s > _FORGET_AFTER_S:
            return await self._read_again(known)
        if known.age_s < _REFRESH_AFTER_S or self._reading.locked():
            return known
        try:
            return await self._read_again(known)
        except Unavailable:
            return known

    async def find_key(self, kid: str | None, algorithm: str) -> PublicKey:
        """The key that a token's header means. Raises UnknownKey, and what `published` raises."""
        known = await self.published()
        found = find_key(known.keys, kid, algorithm)
        if found is None and known.age_s > self._unknown_key_pause_s:
            known = await self._read_again(known)
            found = find_key(known.keys, kid, algorithm)
        if found is None:
            raise UnknownKey("the token is signed with a key that its issuer does not publish", issuer=self.url)
        return found

    async def _read_again(self, known: Published | None) -> Published:
        async with self._reading:
            if self._known is not None and self._known is not known:
                return self._known  # somebody else has, while we waited
            if self._failure is not None and time.monotonic() - self._failed_at < _FAILURE_PAUSE_S:
                raise type(self._failure)(self._failure.message, **self._failure.facts)
            try:
                self._known = await self._read()
            except SlipwayError as exc:
                self._failure, self._failed_at = exc, time.monotonic()
                raise
            self._failure = None
            return self._known

    async def _read(self) -> Published:
        document = await get_document(self._requests, self._address(self.url.rstrip("/") + _DISCOVERY))
        if document.get("issuer") != self.url:
            raise UnusableIssuer(
                f"what is published at {self.url} is about another issuer; write it exactly as it writes itself",
                issuer=self.url,
            )
        keys_at = self._endpoint(document, "jwks_uri")
        if keys_at is None:
            raise UnusableIssuer(f"{self.url} does not say where its keys are", issuer=self.url)
        methods = document.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        return Published(
            authorization_endpoint=self._endpoint(document, "authorization_endpoint"),
            token_endpoint=self._endpoint(document, "token_endpoint"),
            client_authentication=tuple(str(method) for method in methods) if isinstance(methods, list) else (),
            keys=read_keys(await get_document(self._requests, keys_at)),
            read_at=time.monotonic(),
        )

    def _endpoint(self, document: dict[str, Any], name: str) -> URL | None:
        """An address that the issuer gives: by https, or where the issuer itself is, if that is known by http."""
        text = document.get(name)
        if text is None:
            return None
        url = self._address(text if isinstance(text, str) else "")
        if url.scheme != "https" and url.origin() != URL(self.url).origin():
            raise UnusableIssuer(f"{self.url} gives an address by plain http as its {name}", issuer=self.url)
        return url

    def _address(self, text: str) -> URL:
        try:
            return parse_target_url(text)
        except OutgoingRefused as exc:
            raise UnusableIssuer(f"{self.url} is no address of an issuer, or gives one that is none") from exc
