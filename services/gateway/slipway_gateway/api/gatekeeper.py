"""The check that every route of the management API goes through: who asks, and may they."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from slipway_common.errors import Conflict, Denied, NotFound, Unauthenticated
from slipway_common.events.event import Origin
from slipway_common.oci.names import parse_repository_name
from slipway_common.web.request_ids import request_id_of
from slipway_common.web.routes import Access as RouteAccess
from slipway_common.web.routes import Handler
from slipway_gateway.access import Access
from slipway_gateway.api.challenges import PublicAddress
from slipway_gateway.domain.access import Account, Action, Decision, Identity
from slipway_gateway.domain.principals import ROOT_NAMESPACE, InvalidPrincipal, parse_namespace, parse_robot_name
from slipway_gateway.identity import Authenticator, BadCredentials
from slipway_gateway.refusals import Refusals
from slipway_gateway.sessions import LoginSessions, cookie_of
from slipway_gateway.store.access import NamespaceStanding, Standing
from slipway_gateway.store.repositories import Repository
from slipway_gateway.throttle import RequestRates

IDENTITY = web.RequestKey("identity", Identity)
ORIGIN = web.RequestKey("origin", Origin)
ACCOUNT = web.RequestKey("account", Account)
STANDING = web.RequestKey("standing", Standing)
REPOSITORY = web.RequestKey("repository", Repository)
NAMESPACE = web.RequestKey("namespace", NamespaceStanding)

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def account_of(request: web.Request) -> Account | None:
    return request.get(ACCOUNT)


@dataclass(slots=True)
class Gatekeeper:
    """Default deny, by the access that a route declares."""

    authenticator: Authenticator
    sessions: LoginSessions
    access: Access
    rates: RequestRates
    refusals: Refusals
    address: PublicAddress

    def guard(self, access: RouteAccess, handler: Handler) -> Handler:
        """A handler behind the check that `access` stands for."""

        async def guarded(request: web.Request) -> web.StreamResponse:
            origin = Origin(None, request_id_of(request), self.address.client_of(request))
            try:
                await self._identify(request, origin, access)
                await self._check(access, request)
                return await handler(request)
            except Denied as exc:
                self._note(request, origin, access, exc)
                raise
            except BadCredentials as exc:
                self.refusals.note(
                    Origin(exc.name, origin.request_id, origin.address), action="login", target=request.path,
                    reason=exc.message,
                )  # fmt: skip
                raise

        return guarded

    def _note(self, request: web.Request, origin: Origin, access: RouteAccess, refused: Denied) -> None:
        """What was refused: by the route, unless the handler knows better what was wanted and of what."""
        action = str(refused.facts.get("action", access))
        target = str(refused.facts.get("target", request.match_info.get("name") or request.path))
        self.refusals.note(request.get(ORIGIN, origin), action=action, target=target, reason=refused.message)

    async def _identify(self, request: web.Request, origin: Origin, access: RouteAccess) -> None:
        address, own_origin = origin.address or "", self.address.of(request)
        header, cookie = request.headers.get("Authorization"), cookie_of(request.cookies, secure=is_secure(own_origin))
        # Where everybody may call, a login that has ended must not stand in the way: of the next login, for one.
        if header is None and cookie is not None and access != "public":
            identity = await self.sessions.identify(cookie)
            if request.method not in _SAFE_METHODS:
                check_same_origin(request, own_origin)
        else:
            identity = await self.authenticator.identify(header, address)
        self.rates.take(identity.name, address)
        account = await self.access.account(identity)
        request[IDENTITY] = identity
        request[ORIGIN] = Origin(identity.actor, origin.request_id, address)
        if account is not None:
            request[ACCOUNT] = account

    async def _check(self, access: RouteAccess, request: web.Request) -> None:
        kind, _, word = access.partition(":")
        if kind == "public":
            return
        if kind == "repository":
            await self._check_repository(Action(word), request)
            return
        account, rules = account_of(request), self.access.rules
        # A registry token speaks of repositories and of nothing else.
        if rules.login_needed(account) or request[IDENTITY].scope is not None:
            raise Unauthenticated("log in with a name and a password or token")
        if kind == "namespace":
            await self._check_namespace(Action(word), request)
        elif kind == "robot":
            await self._check_robot(Action(word), request)
        elif access == "account" and (account is None or not account.bounds.unlimited):
            raise Denied("this takes your password, or a token without bounds")
        elif access == "system:admin" and not rules.is_operator(account):
            raise Denied("only administrators may do this")

    async def _check_repository(self, action: Action, request: web.Request) -> None:
        name = parse_repository_name(request.match_info["name"])
        standing = await self.access.standing(request[IDENTITY], name)
        decision = self.access.decide(request[IDENTITY], standing, action)
        if decision in (Decision.LOGIN, Decision.SCOPE):
            raise Unauthenticated("log in with a name and a password or token")
        if decision is Decision.DENY:
            raise Denied("this needs a right that you do not have here")
        if standing.repository is None:
            raise NotFound("no such repository", name=name)
        if standing.repository.name != name and request.method not in _SAFE_METHODS:
            raise Conflict("the repository has another name now: use that one", name=standing.repository.name)
        request[STANDING], request[REPOSITORY] = standing, standing.repository

    async def _check_namespace(self, action: Action, request: web.Request) -> None:
        standing = await self._standing_in(namespace_in(request), action, request)
        if standing.id is None:
            raise NotFound("no such namespace", namespace=request.match_info["namespace"])
        request[NAMESPACE] = standing

    async def _check_robot(self, action: Action, request: web.Request) -> None:
        """A robot is its namespace's. Which robots there are is told to nobody else."""
        try:
            namespace, _ = parse_robot_name(request.match_info["robot"])
        except InvalidPrincipal:
            namespace = ""  # where there are no robots at all
        standing = await self._standing_in(namespace, action, request)
        if standing.id is None or not namespace:
            raise NotFound("no such robot")
        request[NAMESPACE] = standing

    async def _standing_in(self, namespace: str, action: Action, request: web.Request) -> NamespaceStanding:
        """Where the caller stands in a namespace. Raises Denied unless that allows the action."""
        account = account_of(request)
        standing = await self.access.namespace(account, namespace)
        if self.access.rules.decide_namespace(account, action, namespace, standing.role) is not Decision.ALLOW:
            raise Denied("this needs a right that you do not have here")
        return standing


def namespace_in(request: web.Request) -> str:
    """The namespace that the path names; the root namespace is written `_`."""
    text = request.match_info["namespace"]
    return "" if text == ROOT_NAMESPACE else parse_namespace(text)


def is_secure(own_origin: str) -> bool:
    """Whether browsers reach the registry over HTTPS."""
    return own_origin.startswith("https:")


def check_same_origin(request: web.Request, own_origin: str) -> None:
    """Raise Denied unless a request that a browser sends with its cookie comes from a page of ours.

    Browsers say so by themselves (Fetch Metadata, Origin); a page of somebody else's cannot make them say otherwise.
    """
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if (site is not None and site != "same-origin") or (origin is not None and origin != own_origin):
        raise Denied("requests with the login's cookie are taken from the registry's own pages only")
    if site is None and origin is None:
        raise Denied("a request with the login's cookie must say which page it comes from")
    if request.can_read_body and request.content_type != "application/json":
        raise Denied("a request with the login's cookie is taken as JSON only")
