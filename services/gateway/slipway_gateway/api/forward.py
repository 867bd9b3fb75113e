"""Passing requests on to the service that owns the answer, with a token that says who asks for what."""

from __future__ import annotations

from collections.abc import Mapping

import aiohttp
from aiohttp import web

from slipway_common.errors import Unavailable
from slipway_common.security.service_tokens import ServiceClaims, ServiceTokens
from slipway_common.web.peers import Peer
from slipway_common.web.request_ids import HEADER as REQUEST_ID
from slipway_common.web.request_ids import request_id_of
from slipway_common.web.routes import Handler, Route
from slipway_gateway.api.bodies import read_body
from slipway_gateway.api.gatekeeper import IDENTITY, REPOSITORY

_PASSED_BACK = ("Content-Type", "Link", "Retry-After", "ETag")
_MAX_BODY_BYTES = 1024 * 1024


class Forwarder:
    """Calls other services on behalf of users."""

    def __init__(self, peers: Mapping[str, Peer], tokens: ServiceTokens) -> None:
        self._peers = peers
        self._tokens = tokens

    def handler(self, route: Route) -> Handler:
        """A handler that lets the service of `route` answer."""

        async def forward(request: web.Request) -> web.StreamResponse:
            peer = self._peers[route.service]
            headers = {
                "Authorization": f"Bearer {await self._token(route, request)}",
                REQUEST_ID: request_id_of(request),
            }
            if request.content_type and request.can_read_body:
                headers["Content-Type"] = request.content_type
            body = await read_body(request, max_bytes=_MAX_BODY_BYTES) if request.can_read_body else None
            try:
                async with peer.request(request.method, request.raw_path, headers=headers, data=body) as answer:
                    content = await answer.read()
                    passed = {name: answer.headers[name] for name in _PASSED_BACK if name in answer.headers}
                    return web.Response(status=answer.status, body=content, headers=passed)
            except (aiohttp.ClientError, TimeoutError, OSError) as exc:
                raise Unavailable(f"the {route.service} service does not answer") from exc

        return forward

    async def _token(self, route: Route, request: web.Request) -> str:
        repository = request.get(REPOSITORY)
        claims = ServiceClaims(
            sub=request[IDENTITY].actor,
            repository_id=repository.id if repository else None,
            repository=repository.name if repository else None,
            action=route.access.partition(":")[2],
            request_id=request_id_of(request),
        )
        return await self._tokens.issue(route.service, claims)
