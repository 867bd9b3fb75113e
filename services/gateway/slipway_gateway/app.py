"""Wiring of the gateway: how it is reached, and in which order it starts and stops."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import structlog
from aiohttp import web

from slipway_common.bus.embedded import EmbeddedBus
from slipway_common.errors import NotFound
from slipway_common.launcher.background import background
from slipway_common.launcher.parts import kafka_endpoint
from slipway_common.launcher.service import Runtime, Service
from slipway_common.web.operations import add_operations, handle_metrics
from slipway_common.web.peers import Peer, open_peer
from slipway_common.web.problems import problem_middleware, with_problems
from slipway_common.web.repeats import RepeatedAnswers
from slipway_common.web.routes import Handler
from slipway_common.web.server import serve, tls_context
from slipway_gateway.api.blobs import BlobHandlers
from slipway_gateway.api.challenges import Challenger
from slipway_gateway.api.external_login import CALLBACK, EXTERNAL_LOGINS, arrive, depart
from slipway_gateway.api.forward import Forwarder
from slipway_gateway.api.gatekeeper import Gatekeeper
from slipway_gateway.api.internal import InternalHandlers
from slipway_gateway.api.lists import ListHandlers
from slipway_gateway.api.management import ADDRESS, AUTHENTICATOR, MANAGEMENT
from slipway_gateway.api.manifests import ManifestHandlers
from slipway_gateway.api.paths import Kind
from slipway_gateway.api.registry import REGISTRY, Endpoint, Registry, RegistryResource
from slipway_gateway.api.repeats import Repeats
from slipway_gateway.api.resources import IDEMPOTENCY
from slipway_gateway.api.routes import ROUTES
from slipway_gateway.api.tokens import TokenHandlers
from slipway_gateway.api.transfer import RateLimits
from slipway_gateway.api.uploads import UploadHandlers
from slipway_gateway.cache import solo_watch
from slipway_gateway.domain.access import Action
from slipway_gateway.identity import CATALOG
from slipway_gateway.parts import Gateway, open_outgoing, open_store
from slipway_gateway.settings import GatewaySettings

_log = structlog.get_logger()

_REPEATS_BYTES = 32 * 1024 * 1024
# Publishing is waiting: for many streams with an event each, more at once is faster.
_RELAY_WORKERS = 16


def registry_endpoints(gateway: Gateway, rate: RateLimits) -> dict[tuple[Kind, str], Endpoint]:
    """Every request of the registry protocol that is answered, and the right that it takes."""
    uploads = UploadHandlers(
        uploads=gateway.uploads,
        repositories=gateway.repositories,
        blobs=gateway.blobs,
        access=gateway.access,
        rate=rate,
    )
    manifests = ManifestHandlers(
        reads=gateway.reads,
        pushes=gateway.pushes,
        deletions=gateway.deletions,
        blobs=gateway.blobs,
        access=gateway.access,
        ensure=uploads.ensure,
        rate=rate,
    )
    blobs = BlobHandlers(
        reads=gateway.reads,
        blobs=gateway.blobs,
        deletions=gateway.deletions,
        objects=gateway.objects,
        access=gateway.access,
        rate=rate,
        redirect=gateway.settings.s3_redirect,
    )
    lists = ListHandlers(gateway.reads, gateway.repository_store, gateway.manifests, gateway.access)
    return {
        (Kind.BASE, "GET"): Endpoint(None, _base),
        (Kind.BASE, "HEAD"): Endpoint(None, _base),
        (Kind.CATALOG, "GET"): Endpoint(None, lists.catalog, token_covers=CATALOG),
        (Kind.TAGS, "GET"): Endpoint(Action.PULL, lists.tags),
        (Kind.REFERRERS, "GET"): Endpoint(Action.PULL, lists.referrers),
        (Kind.MANIFEST, "GET"): Endpoint(Action.PULL, manifests.get),
        (Kind.MANIFEST, "HEAD"): Endpoint(Action.PULL, manifests.head),
        (Kind.MANIFEST, "PUT"): Endpoint(Action.PUSH, manifests.put),
        (Kind.MANIFEST, "DELETE"): Endpoint(Action.DELETE, manifests.delete),
        (Kind.BLOB, "GET"): Endpoint(Action.PULL, blobs.get),
        (Kind.BLOB, "HEAD"): Endpoint(Action.PULL, blobs.head),
        (Kind.BLOB, "DELETE"): Endpoint(Action.DELETE, blobs.delete),
        (Kind.UPLOADS, "POST"): Endpoint(Action.PUSH, uploads.start),
        (Kind.UPLOAD, "GET"): Endpoint(Action.PUSH, uploads.status, at_least=Action.PULL),
        (Kind.UPLOAD, "PATCH"): Endpoint(Action.PUSH, uploads.append),
        (Kind.UPLOAD, "PUT"): Endpoint(Action.PUSH, uploads.finish),
        (Kind.UPLOAD, "DELETE"): Endpoint(Action.PUSH, uploads.cancel),
    }


async def _base(_call: object) -> web.Response:
    """`GET /v2/`: the registry speaks this protocol, and you are logged in."""
    return web.json_response({}, headers={"Docker-Distribution-Api-Version": "registry/2.0"})


def public_app(gateway: Gateway, peers: dict[str, Peer]) -> web.Application:
    """What clients, browsers and tools reach."""
    settings = gateway.settings
    rate = RateLimits(idle_timeout_s=settings.body_timeout_s)
    registry = Registry(
        registry_endpoints(gateway, rate),
        authenticator=gateway.authenticator,
        access=gateway.access,
        uploads=gateway.uploads,
        rates=gateway.rates,
        refusals=gateway.refusals,
        address=gateway.address,
        challenger=Challenger(gateway.address),
        repeats=Repeats(gateway.cache, gateway.rates),
    )
    app = web.Application()
    app.router.register_resource(RegistryResource(registry))
    app[REGISTRY] = registry
    app[MANAGEMENT] = gateway.management
    app[IDEMPOTENCY] = gateway.idempotency
    app[AUTHENTICATOR] = gateway.authenticator
    app[ADDRESS] = gateway.address
    app[EXTERNAL_LOGINS] = gateway.external_logins
    for method, path, handler in (*_token_routes(gateway), *_management_routes(gateway, peers)):
        app.router.add_route(method, path, with_problems(handler))
    return app


Mounted = tuple[str, str, Handler]


def _token_routes(gateway: Gateway) -> list[Mounted]:
    """What every client and tool of an operator's asks for, outside the management API."""
    metrics = _gatekeeper(gateway).guard("system:admin", handle_metrics)
    tokens = TokenHandlers(
        authenticator=gateway.authenticator,
        access=gateway.access,
        credentials=gateway.credentials,
        workloads=gateway.workloads,
        ring=gateway.ring,
        rates=gateway.rates,
        refusals=gateway.refusals,
        address=gateway.address,
        life_s=gateway.settings.token_s,
    )
    return [
        ("GET", "/token", tokens.get),
        ("POST", "/token", tokens.post),
        ("GET", "/token/keys", tokens.keys),
        ("GET", "/login/oidc", depart),
        ("GET", CALLBACK, arrive),
        ("GET", "/healthz", gateway.runtime.health.handle_live),
        ("GET", "/readyz", gateway.runtime.health.handle_ready),
        ("GET", "/metrics", metrics),
    ]


def _management_routes(gateway: Gateway, peers: dict[str, Peer]) -> list[Mounted]:
    """The management API of every service, each route behind the access it declares; and nothing else."""
    gatekeeper = _gatekeeper(gateway)
    forwarder = Forwarder(peers, gateway.runtime.tokens)
    mounted: list[Mounted] = []
    for route in gateway.runtime.api:
        handler = route.handler if route.service == "gateway" else forwarder.handler(route)
        path = route.path.replace("{name}", _NAME_IN_PATH)
        mounted.append((route.method, path, gatekeeper.guard(route.access, handler)))
    mounted.append(("*", "/{path:(?s:.*)}", _not_found))
    return mounted


# A repository's name ends where a component is a dash: what follows is about the repository.
_NAME_IN_PATH = r"{name:(?!-/)[^/?]+(?:/(?!-(?:/|$))[^/?]+)*}"


def _gatekeeper(gateway: Gateway) -> Gatekeeper:
    return Gatekeeper(
        authenticator=gateway.authenticator,
        sessions=gateway.sessions,
        access=gateway.access,
        rates=gateway.rates,
        refusals=gateway.refusals,
        address=gateway.address,
    )


async def _not_found(request: web.Request) -> web.StreamResponse:
    own, allowed = request.match_info.route.resource, set[str]()
    for resource in request.app.router.resources():
        if resource is not own:
            allowed |= (await resource.resolve(request))[1]
    if allowed:
        raise web.HTTPMethodNotAllowed(request.method, allowed)
    raise NotFound("there is nothing here; the API's description is at /api/v1/openapi.json")


def internal_app(gateway: Gateway) -> web.Application:
    """What only the other services reach."""
    runtime = gateway.runtime
    handlers = InternalHandlers(
        tokens=runtime.tokens,
        repositories=gateway.repository_store,
        manifests=gateway.manifests,
        reads=gateway.reads,
        objects=gateway.objects,
        log=gateway.log,
        pool=runtime.database.pool,
    )
    app = web.Application(middlewares=[problem_middleware, handlers.middleware])
    app.router.add_routes(handlers.routes())
    add_operations(app, runtime.health)
    return app


@contextlib.asynccontextmanager
async def _relay(runtime: Runtime) -> AsyncIterator[None]:
    """Where events travel by Kafka, each gateway publishes the log; that several do is harmless."""
    if runtime.settings.bus != "kafka":
        yield
        return
    from slipway_common.bus.kafka import KafkaRelay

    # What a crash makes it forget is published again, and dropped by its sequence number where it arrives.
    reader = EmbeddedBus(runtime.database.relaxed, workers=_RELAY_WORKERS)
    runtime.announcer.add_local(reader.wake)
    async with KafkaRelay(kafka_endpoint(runtime.settings)) as relay, reader.run([relay]):
        yield


@contextlib.asynccontextmanager
async def run(runtime: Runtime) -> AsyncIterator[None]:
    """Serve until the context closes: then stop accepting, let requests finish, and close what they needed."""
    settings: GatewaySettings = runtime.settings
    async with AsyncExitStack() as stack:
        objects = open_store(settings)
        stack.push_async_callback(objects.close)
        gateway = Gateway(runtime, objects, await stack.enter_async_context(open_outgoing(settings)))
        stack.callback(gateway.passwords.close)
        await gateway.prepare()
        await stack.enter_async_context(_relay(runtime))
        await stack.enter_async_context(
            solo_watch(runtime.database.dsn, gateway.cache, wanted=settings.cache == "exact")
        )
        peers = {
            service: await stack.enter_async_context(
                open_peer(service, getattr(settings, f"{service}_url"), runtime.runtime_folder)
            )
            for service in sorted({route.service for route in runtime.api} - {"gateway"})
        }
        await stack.enter_async_context(background(gateway.maintenance.run(), name="maintenance"))
        await stack.enter_async_context(gateway.chores.running())
        runtime.health.add("database", runtime.database.check)
        runtime.health.add("storage", objects.check)
        await stack.enter_async_context(
            serve(internal_app(gateway), runtime.sockets["gateway.internal"], shutdown_s=settings.shutdown_s)
        )
        tls = tls_context(settings.tls_certificate, settings.tls_key) if settings.tls_certificate else None
        app = public_app(gateway, peers)
        await stack.enter_async_context(
            serve(
                app,
                runtime.sockets["gateway.public"],
                shutdown_s=settings.shutdown_s,
                tls=tls,
                answers=RepeatedAnswers(max_bytes=_REPEATS_BYTES),
                shortcut=app[REGISTRY].shortcut,
            )
        )
        _log.info("gateway_listens", address=settings.listen, tls=tls is not None)
        yield


SERVICE = Service(
    name="gateway",
    settings=GatewaySettings,
    migrations=("slipway_gateway.migrations", "gateway"),
    run=run,
    routes=ROUTES,
    listens=lambda settings: {"gateway.public": settings.listen},
    scales=True,
)
