"""The gateway's own part of the management API, as one table."""

from __future__ import annotations

import orjson
from aiohttp import web

from slipway_common.web.routes import Route
from slipway_gateway.api import (
    account,
    authz,
    external_login,
    grants,
    login,
    namespaces,
    repositories,
    robots,
    teams,
    users,
)
from slipway_gateway.api.management import MANAGEMENT


async def show_openapi(request: web.Request) -> web.Response:
    return web.Response(body=orjson.dumps(request.app[MANAGEMENT].document()), content_type="application/json")


ROUTES: tuple[Route, ...] = (
    *repositories.ROUTES,
    *grants.ROUTES,
    *namespaces.ROUTES,
    *users.ROUTES,
    *teams.ROUTES,
    *robots.ROUTES,
    *account.ROUTES,
    *login.ROUTES,
    *external_login.ROUTES,
    *authz.ROUTES,
    Route("GET", "/api/v1/openapi.json", "public", "Show this document", show_openapi),
)
