"""`/token`: the token protocol that docker and its kin use (distribution: Token Authentication Specification, OAuth2 form)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from aiohttp import web

from slipway_common.errors import InvalidInput, Unauthenticated
from slipway_common.security.signing import KeyRing
from slipway_gateway.api.bodies import read_form
from slipway_gateway.domain.access import AccessRules, Action, Identity
from slipway_gateway.domain.scopes import RequestedScope, parse_scopes
from slipway_gateway.identity import SERVICE, Authenticator
from slipway_gateway.reads import Reads


@dataclass(slots=True)
class TokenHandlers:
    authenticator: Authenticator
    reads: Reads
    rules: AccessRules
    ring: KeyRing
    life_s: int

    async def get(self, request: web.Request) -> web.Response:
        """Login by Basic, or none: then the token is an anonymous one."""
        identity = await self.authenticator.identify(request.headers.get("Authorization"))
        if identity.scope is not None:
            raise Unauthenticated("ask for a token with a password, not with another token")
        return await self._answer(identity, request.query.get("service"), request.query.getall("scope", []))

    async def post(self, request: web.Request) -> web.Response:
        """The OAuth2 form, with grant_type=password."""
        fields = await read_form(request)
        form = dict(fields)
        if form.get("grant_type") != "password":
            raise InvalidInput("grant_type must be password")
        identity = await self.authenticator.by_password(form.get("username", ""), form.get("password", ""))
        return await self._answer(identity, form.get("service"), [value for name, value in fields if name == "scope"])

    async def _answer(self, identity: Identity, service: str | None, scopes: Iterable[str]) -> web.Response:
        if service not in (None, "", SERVICE):
            raise InvalidInput(f"service must be {SERVICE}")
        access = {scope.name: await self._granted(identity, scope) for scope in parse_scopes(scopes)}
        token, issued_at = await self.authenticator.issue_token(identity, access, life_s=self.life_s)
        return web.json_response(
            {
                "token": token,
                "access_token": token,
                "expires_in": self.life_s,
                "issued_at": datetime.fromtimestamp(issued_at, UTC).isoformat().replace("+00:00", "Z"),
            },
            headers={"Cache-Control": "no-store"},
        )

    async def _granted(self, identity: Identity, scope: RequestedScope) -> frozenset[Action]:
        """What the token will cover of what was asked: no more than its owner may do at this moment."""
        repository = await self.reads.repository(scope.name)
        rights = self.rules.rights(identity, repository.visibility if repository else None)
        wanted = scope.actions | ({"pull"} if "push" in scope.actions else set())
        return rights if "*" in wanted else frozenset(right for right in rights if right.value in wanted)

    async def keys(self, _request: web.Request) -> web.Response:
        """The public keys, so that others can check our tokens."""
        return web.json_response(self.ring.public_keys(), headers={"Cache-Control": "public, max-age=300"})
