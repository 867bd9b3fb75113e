"""Errors of the management API as RFC 9457 problem documents; one table, one middleware."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import structlog
from aiohttp import web
from pydantic import ValidationError

from slipway_common import errors
from slipway_common.database.pool import CONNECTION_ERRORS
from slipway_common.web.request_ids import request_id_of

_log = structlog.get_logger()

# The first class that matches counts.
_TABLE: tuple[tuple[type[BaseException], int, str], ...] = (
    (errors.InvalidInput, 400, "The request is not valid"),
    (errors.NotFound, 404, "Not found"),
    (errors.Conflict, 409, "Not possible now"),
    (errors.PreconditionFailed, 412, "Changed meanwhile"),
    (errors.TooMany, 429, "Too many requests"),
    (errors.Unauthenticated, 401, "Log in first"),
    (errors.Denied, 403, "Not allowed"),
    (errors.Unavailable, 503, "A part of the registry is away"),
    (ValidationError, 400, "The request is not valid"),
    (CONNECTION_ERRORS, 503, "A part of the registry is away"),  # type: ignore[assignment]
)


def problem(status: int, title: str, *, detail: str = "", request_id: str = "", **more: Any) -> web.Response:
    """One problem document."""
    body = {"type": "about:blank", "title": title, "status": status, **more}
    if detail:
        body["detail"] = detail
    if request_id:
        body["request_id"] = request_id
    return web.Response(status=status, body=orjson.dumps(body), content_type="application/problem+json")


def render_problem(exc: BaseException, request_id: str) -> web.Response:
    """Turn any error into its document; what nobody foresaw is logged with its trace and told to nobody."""
    for kind, status, title in _TABLE:
        if isinstance(exc, kind):
            return _known(exc, status, title, request_id)
    _log.exception("request_failed", request_id=request_id, exc_info=exc)
    return problem(500, "Something went wrong", detail=f"See the log for request {request_id}.", request_id=request_id)


def _known(exc: BaseException, status: int, title: str, request_id: str) -> web.Response:
    more: dict[str, Any] = {}
    detail = exc.message if isinstance(exc, errors.SlipwayError) else ""
    if isinstance(exc, ValidationError):
        more["errors"] = [
            {"field": ".".join(str(part) for part in error["loc"]), "message": error["msg"]}
            for error in exc.errors(include_url=False, include_input=False, include_context=False)
        ]
        detail = "; ".join(f"{error['field']}: {error['message']}" for error in more["errors"])
    response = problem(status, title, detail=detail, request_id=request_id, **more)
    if status in (429, 503):
        response.headers["Retry-After"] = str(getattr(exc, "retry_after_s", 2))
    if status == 401:
        response.headers["WWW-Authenticate"] = 'Basic realm="slipway", charset="UTF-8"'
    return response


def with_problems(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """One handler with what `problem_middleware` gives to all handlers of an application."""

    async def handle(request: web.Request) -> web.StreamResponse:
        return await problem_middleware(request, handler)

    return handle


@web.middleware
async def problem_middleware(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Give each request an id, each error its document, each failure a line in the log."""
    request_id = request_id_of(request)
    started = time.perf_counter()
    with structlog.contextvars.bound_contextvars(request_id=request_id):
        try:
            response = await handler(request)
        except web.HTTPException as exc:
            response = problem(exc.status, exc.reason, request_id=request_id)
            if isinstance(exc, web.HTTPMethodNotAllowed):
                response.headers["Allow"] = ", ".join(sorted(exc.allowed_methods))
        except Exception as exc:
            response = render_problem(exc, request_id)
        if request.method not in ("GET", "HEAD") or response.status >= 400:
            elapsed_ms = round((time.perf_counter() - started) * 1000, 1)
            _log.info("request", method=request.method, path=request.path, status=response.status, ms=elapsed_ms)
    if not response.prepared:
        response.headers["X-Request-Id"] = request_id
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
    return response
