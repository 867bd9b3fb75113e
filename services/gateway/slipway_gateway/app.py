"""Wiring of the gateway: what is made of what, and in which order it starts and stops."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta

import structlog
from aiohttp import web

from slipway_common import __version__
from slipway_common.bus.embedded import EmbeddedBus
from slipway_common.errors import NotFound
from slipway_common.events.log import EventLog
from slipway_common.launcher.background import background
from slipway_common.launcher.parts import kafka_endpoint
from slipway_common.launcher.service import Runtime, Service
from slipway_common.security.signing import KeyRing
from slipway_common.storage.files import FileStore
from slipway_common.storage.port import ObjectStore
from slipway_common.web.operations import add_operations, handle_metrics
from slipway_common.web.peers import Peer, open_peer
from slipway_common.web.problems import problem_middleware, with_problems
from slipway_common.web.repeats import RepeatedAnswers
from slipway_common.web.routes import Handler, openapi_document
from slipway_common.web.server import serve, tls_context
from slipway_gateway.api.blobs import BlobHandlers
from slipway_gateway.api.challenges import Challenger, PublicAddress
from slipway_gateway.api.forward import Forwarder
from slipway_gateway.api.internal import InternalHandlers
from slipway_gateway.api.lists import ListHandlers
from slipway_gateway.api.management import MANAGEMENT, ROUTES, Gatekeeper, Management
from slipway_gateway.api.manifests import ManifestHandlers
from slipway_gateway.api.paths import Kind
from slipway_gateway.api.registry import Endpoint, Registry, RegistryResource
from slipway_gateway.api.repeats import Repeats
from slipway_gateway.api.tokens import TokenHandlers
from slipway_gateway.api.transfer import RateLimits
from slipway_gateway.api.uploads import UploadHandlers
from slipway_gateway.cache import ContentCache, ExactCache, solo_watch
from slipway_gateway.cli import build_cli
from slipway_gateway.deletions import Deletions
from slipway_gateway.domain.access import AccessRules, Action
from slipway_gateway.identity import Authenticator, Passwords
from slipway_gateway.maintenance import Maintenance
from slipway_gateway.pushes import Pushes
from slipway_gateway.reads import Reads
from slipway_gateway.settings import GatewaySettings
from slipway_gateway.store.blobs import BlobStore, ReclaimStore
from slipway_gateway.store.manifests import ManifestStore
from slipway_gateway.store.principals import PrincipalStore
from slipway_gateway.store.repositories import RepositoryStore
from slipway_gateway.store.uploads import UploadStore
from slipway_gateway.uploads import Uploads

_log = structlog.get_logger()

ADMIN = "admin"
# A writer renews its lease every 10 s while bytes come; three missed renewals, and another may go on.
_WRITER_LEASE = timedelta(seconds=30)
# Configs and small layers up to this size are kept in memory.
_SMALL_BLOB_BYTES = 64 * 1024
_REPEATS_BYTES = 32 * 1024 * 1024
# Publishing is waiting: for many streams with an event each, more at once is faster.
_RELAY_WORKERS = 16


class Gateway:
    """The parts of a running gateway."""

    def __init__(self, runtime: Runtime, objects: ObjectStore) -> None:
        settings: GatewaySettings = runtime.settings
        database = runtime.database
        lease = timedelta(seconds=settings.blob_lease_s)
        log, announce = EventLog("slipway/gateway"), runtime.announcer.announce
        self.runtime, self.settings, self.objects, self.log = runtime, settings, objects, log
        self.cache = ExactCache(max_bytes=settings.cache_bytes // 2)
        self.content = ContentCache(max_bytes=settings.cache_bytes // 2, max_item_bytes=_SMALL_BLOB_BYTES)
        self.principals = PrincipalStore(database)
        self.repositories = RepositoryStore(database, log)
        self.manifests = ManifestStore(database, self.cache, lease=lease)
        self.blobs = BlobStore(database, self.cache, lease=lease)
        self.upload_store = UploadStore(database, blob_lease=lease, writer_lease=_WRITER_LEASE)
        self.reads = Reads(
            repositories=self.repositories,
            manifests=self.manifests,
            blobs=self.blobs,
            objects=objects,
            cache=self.cache,
            content=self.content,
        )
        self.passwords = Passwords()
        self.ring = KeyRing(database.pool, runtime.box, purpose="registry", token_type="JWT")  # noqa: S106
        self.authenticator = Authenticator(self.principals, self.cache, self.passwords, self.ring)
        self.rules = AccessRules(anonymous=settings.anonymous)
        self.uploads = Uploads(self.upload_store, objects, self.content)
        self.pushes = Pushes(self.manifests, self.reads, self.cache, log, announce)
        self.deletions = Deletions(self.manifests, self.blobs, self.cache, log, announce)
        self.maintenance = Maintenance(
            uploads=self.upload_store,
            reclaim=ReclaimStore(database),
            objects=objects,
            pool=database.pool,
            upload_idle=timedelta(seconds=settings.upload_idle_s),
            event_retention=timedelta(days=settings.event_retention_days),
        )

    async def prepare(self) -> None:
        """Load keys; make the first account."""
        await self.ring.load()
        await self._make_first_admin()

    async def _make_first_admin(self) -> None:
        if await self.principals.any():
            return
        given = self.settings.admin_password
        password = given.get_secret_value() if given else secrets.token_urlsafe(18)
        if await self.principals.insert_first_admin(ADMIN, await self.passwords.hash(password)) and given is None:
            self.runtime.announce(
                f"\n  The first account was made. This is shown once:\n\n    user      {ADMIN}\n    password  {password}\n"
            )


def registry_endpoints(gateway: Gateway, rate: RateLimits) -> dict[tuple[Kind, str], Endpoint]:
    """Every request of the registry protocol that is answered, and the right that it takes."""
    uploads = UploadHandlers(
        uploads=gateway.uploads,
        repositories=gateway.repositories,
        blobs=gateway.blobs,
        reads=gateway.reads,
        rules=gateway.rules,
        default_visibility=gateway.settings.default_visibility,
        rate=rate,
    )
    manifests = ManifestHandlers(
        reads=gateway.reads,
        pushes=gateway.pushes,
        deletions=gateway.deletions,
        blobs=gateway.blobs,
        rules=gateway.rules,
        ensure=uploads.ensure,
        rate=rate,
    )
    blobs = BlobHandlers(
        reads=gateway.reads,
        blobs=gateway.blobs,
        deletions=gateway.deletions,
        objects=gateway.objects,
        rules=gateway.rules,
        rate=rate,
        redirect=gateway.settings.s3_redirect,
    )
    lists = ListHandlers(gateway.reads, gateway.repositories, gateway.manifests, gateway.rules)
    return {
        (Kind.BASE, "GET"): Endpoint(None, _base),
        (Kind.BASE, "HEAD"): Endpoint(None, _base),
        (Kind.CATALOG, "GET"): Endpoint(None, lists.catalog),
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
        (Kind.UPLOAD, "GET"): Endpoint(Action.PUSH, uploads.status, scope=Action.PULL),
        (Kind.UPLOAD, "PATCH"): Endpoint(Action.PUSH, uploads.append),
        (Kind.UPLOAD, "PUT"): Endpoint(Action.PUSH, uploads.finish),
        (Kind.UPLOAD, "DELETE"): Endpoint(Action.PUSH, uploads.cancel),
    }


async def _base(_call: object) -> web.Response:
    """`GET /v2/`: the registry speaks this protocol, and you are logged in."""
    return web.json_response({}, headers={"Docker-Distribution-Api-Version": "registry/2.0"})


def public_app(gateway: Gateway, peers: dict[str, Peer]) -> web.Application:
    """What clients, browsers and tools reach."""
    settings, runtime = gateway.settings, gateway.runtime
    rate = RateLimits(idle_timeout_s=settings.body_timeout_s)
    address = PublicAddress(settings.public_url, settings.trusted_proxies, tls=settings.tls_certificate is not None)
    registry = Registry(
        registry_endpoints(gateway, rate),
        authenticator=gateway.authenticator,
        reads=gateway.reads,
        rules=gateway.rules,
        challenger=Challenger(address),
        repeats=Repeats(gateway.cache),
    )
    app = web.Application()
    app.router.register_resource(RegistryResource(registry))
    app[MANAGEMENT] = Management(
        repositories=gateway.repositories,
        log=gateway.log,
        pool=runtime.database.pool,
        rules=gateway.rules,
        document=lambda: openapi_document(runtime.api, version=__version__),
    )
    for method, path, handler in (*_token_routes(gateway), *_management_routes(gateway, peers)):
        app.router.add_route(method, path, with_problems(handler))
    return app


Mounted = tuple[str, str, Handler]


def _token_routes(gateway: Gateway) -> list[Mounted]:
    """What every client and tool of an operator's asks for, outside the management API."""
    gatekeeper = Gatekeeper(gateway.authenticator, gateway.reads, gateway.rules)
    metrics = gatekeeper.guard("system:admin", handle_metrics)
    tokens = TokenHandlers(gateway.authenticator, gateway.reads, gateway.rules, gateway.ring, gateway.settings.token_s)
    return [
        ("GET", "/token", tokens.get),
        ("POST", "/token", tokens.post),
        ("GET", "/token/keys", tokens.keys),
        ("GET", "/healthz", gateway.runtime.health.handle_live),
        ("GET", "/readyz", gateway.runtime.health.handle_ready),
        ("GET", "/metrics", metrics),
    ]


def _management_routes(gateway: Gateway, peers: dict[str, Peer]) -> list[Mounted]:
    """The management API of every service, each route behind the access it declares; and nothing else."""
    gatekeeper = Gatekeeper(gateway.authenticator, gateway.reads, gateway.rules)
    forwarder = Forwarder(peers, gateway.runtime.tokens)
    mounted: list[Mounted] = []
    for route in gateway.runtime.api:
        handler = route.handler if route.service == "gateway" else forwarder.handler(route)
        path = route.path.replace("{name}", "{name:[^?]+?}")
        mounted.append((route.method, path, gatekeeper.guard(route.access, handler)))
    mounted.append(("GET", "/{path:.*}", _not_found))
    return mounted


async def _not_found(_request: web.Request) -> web.StreamResponse:
    raise NotFound("there is nothing here; the API's description is at /api/v1/openapi.json")


def internal_app(gateway: Gateway) -> web.Application:
    """What only the other services reach."""
    runtime = gateway.runtime
    handlers = InternalHandlers(
        tokens=runtime.tokens,
        repositories=gateway.repositories,
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


def _open_store(settings: GatewaySettings) -> ObjectStore:
    if settings.storage == "files":
        return FileStore(settings.storage_folder or settings.data / "objects")
    from slipway_common.storage.s3 import S3Config, S3Store

    return S3Store(
        S3Config(
            bucket=settings.s3_bucket or "",
            endpoint_url=settings.s3_endpoint_url,
            region=settings.s3_region,
            access_key=settings.s3_access_key.get_secret_value() if settings.s3_access_key else None,
            secret_key=settings.s3_secret_key.get_secret_value() if settings.s3_secret_key else None,
            prefix=settings.s3_prefix,
            part_size_bytes=settings.s3_part_size_bytes,
            pool_bytes=settings.s3_pool_bytes,
        )
    )


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
        objects = _open_store(settings)
        stack.push_async_callback(objects.close)
        gateway = Gateway(runtime, objects)
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
        runtime.health.add("database", runtime.database.check)
        runtime.health.add("storage", objects.check)
        await stack.enter_async_context(
            serve(internal_app(gateway), runtime.sockets["gateway.internal"], shutdown_s=settings.shutdown_s)
        )
        tls = tls_context(settings.tls_certificate, settings.tls_key) if settings.tls_certificate else None
        await stack.enter_async_context(
            serve(
                public_app(gateway, peers),
                runtime.sockets["gateway.public"],
                shutdown_s=settings.shutdown_s,
                tls=tls,
                answers=RepeatedAnswers(max_bytes=_REPEATS_BYTES),
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
    commands=("accounts", build_cli),
)
