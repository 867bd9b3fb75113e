"""What an operator's tools ask a process: is it alive, is it ready, and its metrics."""

from __future__ import annotations

import os

from aiohttp import web
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector

from slipway_common.web.health import Health


def add_operations(app: web.Application, health: Health) -> None:
    """Add `/healthz`, `/readyz` and `/metrics` to an internal application."""
    app.router.add_get("/healthz", health.handle_live)
    app.router.add_get("/readyz", health.handle_ready)
    app.router.add_get("/metrics", handle_metrics)


async def handle_metrics(request: web.Request) -> web.Response:
    """Every metric of this process, or of all workers where there are several."""
    registry = REGISTRY
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return web.Response(body=encode(registry), headers={"Content-Type": content_type})
