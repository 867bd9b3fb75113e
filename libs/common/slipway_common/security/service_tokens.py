"""Tokens with which services of Slipway call each other: short-lived, for one audience, saying on whose behalf."""

from __future__ import annotations

import time

import asyncpg
from cachetools import LRUCache
from pydantic import BaseModel, ValidationError

from slipway_common.security.master_key import SecretBox
from slipway_common.security.signing import InvalidToken, KeyRing

LIFE_S = 30
_ISSUER = "slipway"


class ServiceClaims(BaseModel):
    """What a service token says. `repository_id` and `action` bound what it may be used for; None means: nothing of the kind."""

    sub: str
    service: str | None = None
    repository_id: int | None = None
    repository: str | None = None
    action: str | None = None
    request_id: str | None = None


class ServiceTokens:
    """Issues and verifies service tokens."""

    def __init__(self, pool: asyncpg.Pool, box: SecretBox) -> None:
        self._ring = KeyRing(pool, box, purpose="internal", token_type="slipway-internal+jwt")  # noqa: S106
        self._verified: LRUCache[tuple[str, str], tuple[float, ServiceClaims]] = LRUCache(maxsize=4096)
        self._own: dict[tuple[str, str], tuple[float, str]] = {}

    async def load(self) -> None:
        await self._ring.load()

    async def issue(self, audience: str, claims: ServiceClaims) -> str:
        """Sign a token that service `audience` accepts for 30 seconds."""
        body = claims.model_dump(exclude_none=True)
        return await self._ring.sign({**body, "iss": _ISSUER, "aud": audience}, life_s=LIFE_S)

    async def issue_own(self, audience: str, service: str) -> str:
        """A token for what `service` does by itself; the same one for half of its life."""
        key = (audience, service)
        until, token = self._own.get(key, (0.0, ""))
        if time.monotonic() >= until:
            token = await self.issue(audience, ServiceClaims(sub=f"service:{service}", service=service))
            self._own[key] = (time.monotonic() + LIFE_S / 2, token)
        return token

    async def verify(self, token: str, *, audience: str) -> ServiceClaims:
        """Raise InvalidToken unless `token` is a service token for `audience`."""
        expires_at, known = self._verified.get((audience, token), (0.0, None))
        if known is not None and expires_at > time.time():
            return known
        claims = await self._ring.verify(token, audience=audience, issuer=_ISSUER)
        try:
            verified = ServiceClaims.model_validate(claims)
        except ValidationError as exc:
            raise InvalidToken("the token's claims are malformed") from exc
        self._verified[audience, token] = (float(claims["exp"]), verified)
        return verified
