"""The registry protocol: one pipeline for every request under /v2/, one table of what each of them needs."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

import structlog
from aiohttp import web
from prometheus_client import Counter, Histogram

from slipway_common.errors import Denied, NotFound, Unauthenticated
from slipway_common.events.event import Origin
from slipway_common.security.signing import InvalidToken
from slipway_common.web.request_ids import request_id_of
from slipway_gateway.access import Access
from slipway_gateway.api.call import Call
from slipway_gateway.api.challenges import Challenger, PublicAddress
from slipway_gateway.api.oci_errors import MethodNotAllowed, PathUnknown, RangeNotSatisfiable, render_error
from slipway_gateway.api.paths import Kind, Target, parse_path
from slipway_gateway.api.repeats import Repeats
from slipway_gateway.api.responses import SERVER, PreparedBytes
from slipway_gateway.api.uploads import ScopeLacking, parse_upload_id, range_so_far, upload_location
from slipway_gateway.domain.access import Action, Decision, Identity, Place, covers_word
from slipway_gateway.domain.scopes import render_scope
from slipway_gateway.identity import CATALOG, Authenticator, BadCredentials
from slipway_gateway.refusals import Refusals
from slipway_gateway.store.access import Standing
from slipway_gateway.throttle import RequestRates
from slipway_gateway.uploads import OutOfOrder, Uploads

_log = structlog.get_logger()
_seconds = Histogram(
    "slipway_registry_request_seconds",
    "Time to answer requests of the registry protocol, without the time the body of the answer takes",
    ["endpoint", "method"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
_answers = Counter("slipway_registry_requests", "Requests of the registry protocol", ["endpoint", "method", "status"])

Handler = Callable[[Call], Awaitable[web.StreamResponse]]
# Few paths are asked for most of the time. Longer ones lead nowhere, and would only fill memory.
_known_paths = lru_cache(maxsize=4096)(parse_path)
_MAX_KNOWN_PATH = 512


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What a method on a kind of path does, and the right it takes.

    action        None: being logged in is all it takes
    at_least      what a token must cover, where that is less than the right
    token_covers  what a token must cover where no repository is named
    """

    action: Action | None
    handler: Handler
    at_least: Action | None = None
    token_covers: str | None = None


class Registry:
    """Answers everything under /v2/."""

    def __init__(
        self,
        endpoints: dict[tuple[Kind, str], Endpoint],
        *,
        authenticator: Authenticator,
        access: Access,
        uploads: Uploads,
        rates: RequestRates,
        refusals: Refusals,
        address: PublicAddress,
        challenger: Challenger,
        repeats: Repeats,
    ) -> None:
        self.endpoints = endpoints
        self._authenticator = authenticator
        self._access = access
        self._uploads = uploads
        self._rates = rates
        self._refusals = refusals
        self._address = address
        self._challenger = challenger
        self._repeats = repeats
        self._meters = {(kind, method): _Meter(kind, method) for kind, method in endpoints}

    def shortcut(self, request: web.BaseRequest) -> Awaitable[web.StreamResponse] | None:
        """Answer most requests without the application's router; `Expect: 100-continue` is left to it."""
        if request.raw_path.startswith("/v2/") and "Expect" not in request.headers:
            return self.handle(request)
        return None

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Parse, identify, decide, call, render."""
        started = time.perf_counter()
        target: Target | None = None
        try:
            path = request.raw_path.partition("?")[0]
            target = _known_paths(path) if len(path) <= _MAX_KNOWN_PATH else parse_path(path)
            response = await self._answer(request, target)
        except Exception as exc:
            response = self._refuse(request, target, exc)
        if not isinstance(response, PreparedBytes):
            response.headers["Server"] = SERVER
        if target is not None and (meter := self._meters.get((target.kind, request.method))) is not None:
            meter.count(response.status, time.perf_counter() - started)
        return response

    async def _answer(self, request: web.BaseRequest, target: Target | None) -> web.StreamResponse:
        if target is None:
            raise PathUnknown("not a path of the registry protocol")
        endpoint = self.endpoints.get((target.kind, request.method))
        if endpoint is None:
            raise MethodNotAllowed([method for kind, method in self.endpoints if kind is target.kind])
        address = self._address.client_of(request)
        header = request.headers.get("Authorization")
        identity = self._authenticator.recall(header) or await self._identify(header, target, address)
        self._rates.take(identity.name, address)
        standing = self._access.recall(identity, target.name) or await self._stand(identity, target)
        call = Call(request, target.name, target.reference, identity, standing, address)
        try:
            self._authorise(endpoint, identity, standing)
            response = await endpoint.handler(call)
        except Denied as exc:
            self._refusals.note(call.origin, action=endpoint.action or "read", target=target.name, reason=exc.message)
            raise
        if isinstance(response, PreparedBytes) and response.premises is not None:
            self._repeats.offer(call, response)
        if request.method not in ("GET", "HEAD"):
            self._log_write(call, target, response.status)
        return response

    async def _identify(self, header: str | None, target: Target, address: str) -> Identity:
        try:
            return await self._authenticator.identify(header, address)
        except InvalidToken:
            if target.kind is not Kind.UPLOAD:
                raise
            # A long push may outlive its token: the session remembers which one it was opened by.
            lapsed = await self._authenticator.identify_lapsed(header)
            if not await self._uploads.outlives_token(lapsed.actor, parse_upload_id(target.reference), lapsed.token_id):
                raise
            return lapsed

    async def _stand(self, identity: Identity, target: Target) -> Standing:
        if target.name:
            return await self._access.standing(identity, target.name)
        return Standing(await self._access.account(identity), None, Place(target.name, None, None))

    def _log_write(self, call: Call, target: Target, status: int) -> None:
        """Pushes and deletions are worth a line each; the blobs they are made of only when somebody looks closely."""
        say = _log.info if target.kind is Kind.MANIFEST or call.request.method == "DELETE" else _log.debug
        say(
            "registry_write",
            method=call.request.method,
            endpoint=target.kind.value,
            repository=target.name,
            reference=target.reference,
            status=status,
            actor=call.actor,
            request_id=call.origin.request_id,
        )

    def _authorise(self, endpoint: Endpoint, identity: Identity, standing: Standing) -> None:
        """Raise Unauthenticated or Denied unless the request is allowed."""
        if endpoint.action is None:
            if self._access.rules.login_needed(standing.account):
                raise Unauthenticated("authentication required")
            if endpoint.token_covers is not None and not covers_word(identity.scope, endpoint.token_covers):
                raise InsufficientScope("the token does not cover this")
            return
        decision = self._access.decide(identity, standing, endpoint.action, at_least=endpoint.at_least)
        if decision is Decision.ALLOW:
            return
        if decision is Decision.DENY:
            raise Denied("requested access to the resource is denied")
        if decision is Decision.SCOPE:
            raise InsufficientScope("the token does not cover this")
        raise Unauthenticated("authentication required")

    def _refuse(self, request: web.BaseRequest, target: Target | None, exc: Exception) -> web.StreamResponse:
        """Render what went wrong; a 401 tells where and for what to log in."""
        if isinstance(exc, ScopeLacking):
            own, source = exc.names
            scope = f"{render_scope(own, ('pull', 'push'))} {render_scope(source, ('pull',))}"
            return self._challenger.refuse(request, InsufficientScope("the token does not cover this"), scope)
        if isinstance(exc, Unauthenticated):
            if isinstance(exc, BadCredentials):
                origin = Origin(exc.name, request_id_of(request), self._address.client_of(request))
                self._refusals.note(origin, action="login", target=target.name if target else "", reason=exc.message)
            return self._challenger.refuse(request, exc, _scope_for(request.method, target))
        response = render_error(exc, request_id=request_id_of(request))
        if response.status == 416:
            self._add_position(response, target, exc)
        if not isinstance(exc, NotFound) or request.method not in ("GET", "HEAD"):
            _log.info(
                "registry_refused", method=request.method, path=request.path[:300], status=response.status,
                reason=f"{type(exc).__name__}: {exc}"[:300],
            )  # fmt: skip
        return response

    def _add_position(self, response: web.Response, target: Target | None, exc: Exception) -> None:
        if isinstance(exc, OutOfOrder) and target is not None:
            response.headers["Location"] = upload_location(target.name, exc.upload_id)
            response.headers["Range"] = range_so_far(exc.offset_bytes)
            response.headers["Docker-Upload-UUID"] = str(exc.upload_id)
        elif isinstance(exc, RangeNotSatisfiable):
            response.headers["Content-Range"] = f"bytes */{exc.size_bytes}"


class _Meter:
    """Counts the answers of one endpoint."""

    __slots__ = ("_labels", "_observe", "_succeed")

    def __init__(self, kind: Kind, method: str) -> None:
        self._labels = kind.value, method
        self._observe = _seconds.labels(*self._labels).observe
        self._succeed = _answers.labels(*self._labels, "200").inc

    def count(self, status: int, seconds: float) -> None:
        self._observe(seconds)
        if status == 200:
            self._succeed()
        else:
            _answers.labels(*self._labels, str(status)).inc()


class InsufficientScope(Unauthenticated):
    """The token is good, but not for this."""


def _scope_for(method: str, target: Target | None) -> str | None:
    """What a client should ask a token for: everything that such a request may need."""
    if target is not None and target.kind is Kind.CATALOG:
        return f"{CATALOG}:*"
    if target is None or not target.name:
        return None
    actions: Iterable[str] = ("pull",)
    if method in ("POST", "PUT", "PATCH") or target.kind is Kind.UPLOAD:
        actions = ("pull", "push")
    if method == "DELETE":
        actions = ("pull", "push", "delete")
    return render_scope(target.name, actions)


# Where an application has it.
REGISTRY = web.AppKey("registry", Registry)


class RegistryResource(web.AbstractResource):
    """Puts the registry under /v2/ of an aiohttp application, with one look-up in place of a walk over patterns."""

    def __init__(self, registry: Registry) -> None:
        super().__init__(name="registry")
        self._route = _RegistryRoute(registry, self)

    @property
    def canonical(self) -> str:
        return "/v2"

    def url_for(self, **_kwargs: str):  # type: ignore[no-untyped-def]
        raise RuntimeError("registry locations are made by the handlers")

    def add_prefix(self, prefix: str) -> None:
        raise RuntimeError("clients expect the registry at /v2/")

    def get_info(self):  # type: ignore[no-untyped-def]
        return {"path": "/v2/"}

    def raw_match(self, path: str) -> bool:
        return False

    async def resolve(self, request: web.Request) -> tuple[web.UrlMappingMatchInfo | None, set[str]]:
        if request.raw_path.startswith("/v2"):
            return web.UrlMappingMatchInfo({}, self._route), set()
        return None, set()

    def __len__(self) -> int:
        return 1

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter((self._route,))


class _RegistryRoute(web.AbstractRoute):
    def __init__(self, registry: Registry, resource: RegistryResource) -> None:
        super().__init__("*", registry.handle, resource=resource)

    @property
    def name(self) -> str | None:
        return "registry"

    def url_for(self, *_args: str, **_kwargs: str):  # type: ignore[no-untyped-def]
        raise RuntimeError("registry locations are made by the handlers")

    def get_info(self):  # type: ignore[no-untyped-def]
        return {"path": "/v2/"}
