"""`/token`: the token protocol that docker and its kin use (distribution: Token Authentication Specification, OAuth2 form)."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf

from aiohttp import web

from slipway_common.errors import InvalidInput, Unauthenticated
from slipway_common.events.event import Origin
from slipway_common.security.signing import KeyRing
from slipway_common.web.request_ids import request_id_of
from slipway_gateway.access import Access
from slipway_gateway.api.bodies import read_form
from slipway_gateway.api.challenges import PublicAddress
from slipway_gateway.credentials import Credentials
from slipway_gateway.domain.access import ANONYMOUS, TOKEN_ACTIONS, Action, Identity
from slipway_gateway.domain.scopes import RequestedScope, parse_scopes
from slipway_gateway.identity import CATALOG, SERVICE, Authenticator, BadCredentials
from slipway_gateway.refusals import Refusals
from slipway_gateway.throttle import RequestRates
from slipway_gateway.workloads import EXCHANGE, Workloads


@dataclass(slots=True)
class TokenHandlers:
    authenticator: Authenticator
    access: Access
    credentials: Credentials
    workloads: Workloads
    ring: KeyRing
    rates: RequestRates
    refusals: Refusals
    address: PublicAddress
    life_s: int

    async def get(self, request: web.Request) -> web.Response:
        """Login by Basic, or none: then the token is an anonymous one."""
        address = self.address.client_of(request)
        identity = await self._login(
            request, self.authenticator.identify(request.headers.get("Authorization"), address)
        )
        if identity.scope is not None:
            raise Unauthenticated("ask for a token with a password, not with another token")
        query = request.query
        _check_service(query.get("service"))
        refresh = await self._refresh_token(identity, wanted=query.get("offline_token") == "true")
        return await self._answer(identity, query.getall("scope", []), refresh=refresh)

    async def post(self, request: web.Request) -> web.Response:
        """The OAuth2 form: password, refresh_token, or the exchange of a CI system's token (RFC 6749, RFC 8693)."""
        fields = await read_form(request)
        form = dict(fields)
        _check_service(form.get("service"))
        scopes = [value for name, value in fields if name == "scope"]
        address = self.address.client_of(request)
        grant = form.get("grant_type")
        if grant == "password":
            login = self.authenticator.by_basic(form.get("username", ""), form.get("password", ""), address)
            identity = await self._login(request, login)
            refresh = await self._refresh_token(identity, wanted=form.get("access_type") == "offline")
            return await self._answer(identity, scopes, refresh=refresh)
        if grant == "refresh_token":
            given = form.get("refresh_token", "")
            identity = await self._login(request, self.credentials.by_refresh_token(given, address))
            return await self._answer(identity, scopes, refresh=given)
        if grant == EXCHANGE:
            return await self._exchange(request, form)
        raise InvalidInput(f"grant_type must be password, refresh_token or {EXCHANGE}")

    async def _login(self, request: web.Request, login: object) -> Identity:
        try:
            identity: Identity = await login  # type: ignore[misc]
        except BadCredentials as exc:
            origin = Origin(exc.name, request_id_of(request), self.address.client_of(request))
            self.refusals.note(origin, action="login", target="/token", reason=exc.message)
            raise
        self.rates.take(identity.name, self.address.client_of(request))
        return identity

    async def _refresh_token(self, identity: Identity, *, wanted: bool) -> str | None:
        if not wanted or not identity.known:
            return None
        return await self.credentials.issue_refresh_token(identity)

    async def _exchange(self, request: web.Request, form: Mapping[str, str]) -> web.Response:
        """A short-lived robot secret for a CI system's token."""
        address = self.address.client_of(request)
        origin = Origin(None, request_id_of(request), address)
        self.rates.take(None, address)
        try:
            robot = form.get("robot") or form.get("client_id") or ""
            issued = await self.workloads.exchange(form.get("subject_token", ""), robot=robot, origin=origin)
        except BadCredentials as exc:
            refused = Origin(exc.name, origin.request_id, address)
            self.refusals.note(refused, action="login", target="/token", reason=exc.message)
            raise
        return web.json_response(
            {
                "access_token": issued.secret,
                "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
                "token_type": "Bearer",
                "expires_in": issued.life_s,
                "username": issued.robot,
            },
            headers={"Cache-Control": "no-store"},
        )

    async def _answer(self, identity: Identity, scopes: Iterable[str], *, refresh: str | None) -> web.Response:
        account = await self.access.account(identity)
        identity = identity if account is not None else ANONYMOUS
        texts = list(scopes)
        access = {scope.name: await self._granted(identity, scope) for scope in parse_scopes(texts)}
        life_s = self.life_s
        if identity.expires_at != inf:
            life_s = max(1, min(life_s, int(identity.expires_at - time.time())))
        catalog = account is not None and any(f"{CATALOG}:*" in text.split() for text in texts)
        token, issued_at = await self.authenticator.issue_token(identity, access, catalog=catalog, life_s=life_s)
        document = {
            "token": token,
            "access_token": token,
            "expires_in": life_s,
            "issued_at": datetime.fromtimestamp(issued_at, UTC).isoformat().replace("+00:00", "Z"),
        }
        if refresh is not None:
            document["refresh_token"] = refresh
        return web.json_response(document, headers={"Cache-Control": "no-store"})

    async def _granted(self, identity: Identity, scope: RequestedScope) -> frozenset[Action]:
        """What the token will cover of what was asked: no more than its owner may do at this moment."""
        standing = await self.access.standing(identity, scope.name)
        rights = self.access.rules.rights(standing.account, standing.place) & TOKEN_ACTIONS
        wanted = scope.actions | ({"pull"} if "push" in scope.actions else set())
        return rights if "*" in wanted else frozenset(right for right in rights if right.value in wanted)

    async def keys(self, _request: web.Request) -> web.Response:
        """The public keys, so that others can check our tokens."""
        return web.json_response(self.ring.public_keys(), headers={"Cache-Control": "public, max-age=300"})


def _check_service(service: str | None) -> None:
    if service not in (None, "", SERVICE):
        raise InvalidInput(f"service must be {SERVICE}")
