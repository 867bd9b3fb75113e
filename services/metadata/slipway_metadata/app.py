"""Wiring of the metadata service."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import aiohttp
import structlog
from aiohttp import web

from slipway_common.database.pool import Database
from slipway_common.errors import Unauthenticated
from slipway_common.launcher.service import Runtime, Service
from slipway_common.security.service_tokens import ServiceTokens
from slipway_common.web.operations import add_operations
from slipway_common.web.peers import open_peer
from slipway_common.web.problems import problem_middleware
from slipway_common.web.server import serve
from slipway_metadata.api.images import IMAGES, ROUTES
from slipway_metadata.gateway import GatewayClient
from slipway_metadata.index import ImageIndexer
from slipway_metadata.settings import MetadataSettings
from slipway_metadata.store import ImageStore

_log = structlog.get_logger()


def build(database: Database, gateway: GatewayClient) -> tuple[ImageIndexer, ImageStore]:
    """Make the consumer that keeps the index, and the store that api.images.ROUTES answer from (`app[IMAGES]`)."""
    return ImageIndexer(database, gateway), ImageStore(database.pool)


def internal_app(runtime: Runtime, images: ImageStore) -> web.Application:
    """What the gateway forwards here, and what an operator's tools ask."""
    app = web.Application(middlewares=[problem_middleware, _claims_middleware(runtime.tokens)])
    app[IMAGES] = images
    for route in ROUTES:
        app.router.add_route(route.method, route.path.replace("{name}", "{name:[^?]+?}"), route.handler)
    add_operations(app, runtime.health)
    return app


def _claims_middleware(tokens: ServiceTokens):  # type: ignore[no-untyped-def]
    @web.middleware
    async def check_claims(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Only requests with a token of the gateway's reach the API; what they are for stands in the token."""
        if request.path.startswith("/api/"):
            kind, _, token = request.headers.get("Authorization", "").partition(" ")
            claims = await tokens.verify(token, audience="metadata") if kind.lower() == "bearer" else None
            if claims is None or claims.repository_id is None:
                raise Unauthenticated("a token of the gateway's is needed")
            request["claims"] = claims
        return await handler(request)

    return check_claims


@contextlib.asynccontextmanager
async def run(runtime: Runtime) -> AsyncIterator[None]:
    """Keep the index and answer from it, until the context closes."""
    settings: MetadataSettings = runtime.settings

    async def token() -> str:
        return await runtime.tokens.issue_own("gateway", "metadata")

    async with AsyncExitStack() as stack:
        peer = await stack.enter_async_context(open_peer("gateway", settings.gateway_url, runtime.runtime_folder))
        storage_session = await stack.enter_async_context(aiohttp.ClientSession(auto_decompress=False))
        client = GatewayClient(peer.session, peer.base_url, token, storage_session=storage_session)
        indexer, images = build(runtime.database, client)
        runtime.health.add("database", runtime.database.check)
        await stack.enter_async_context(
            serve(internal_app(runtime, images), runtime.sockets["metadata.internal"], shutdown_s=settings.shutdown_s)
        )
        await stack.enter_async_context(runtime.bus.run([indexer]))
        _log.info("metadata_listens")
        yield


SERVICE = Service(
    name="metadata",
    settings=MetadataSettings,
    migrations=("slipway_metadata.migrations", "metadata"),
    run=run,
    routes=ROUTES,
    repeatable=True,
)
