"""Logging in with a browser: by name and password, for a cookie."""

from __future__ import annotations

from aiohttp import web
from pydantic import SecretStr

from slipway_common.errors import Denied
from slipway_common.web.routes import Route
from slipway_gateway.api.account import show_account
from slipway_gateway.api.gatekeeper import check_same_origin, is_secure
from slipway_gateway.api.management import ADDRESS, AUTHENTICATOR, MANAGEMENT
from slipway_gateway.api.resources import Body, nothing, read_json
from slipway_gateway.sessions import COOKIE, SECURE_COOKIE, NewLogin, cookie_of


class LoginBody(Body):
    name: str
    password: SecretStr


async def open_session(request: web.Request) -> web.Response:
    """Log in. Only from a page of ours: nobody else's may log a browser in as somebody (login CSRF)."""
    address = request.app[ADDRESS]
    if "Origin" in request.headers or "Sec-Fetch-Site" in request.headers:
        check_same_origin(request, address.of(request))
    body = await read_json(request, LoginBody)
    identity = await request.app[AUTHENTICATOR].by_password(
        body.name, body.password.get_secret_value(), address.client_of(request)
    )
    response = nothing()
    await begin_session(request, response, identity.principal_id)
    return response


async def begin_session(request: web.Request, response: web.Response, principal_id: int | None) -> None:
    """Open a session for somebody who has just shown who they are, and give the browser its cookie."""
    if principal_id is None:
        raise Denied("nobody is logged in")
    address = request.app[ADDRESS]
    login = await request.app[MANAGEMENT].sessions.open(
        principal_id, address=address.client_of(request), user_agent=request.headers.get("User-Agent", "")
    )
    _set_cookie(response, login, secure=is_secure(address.of(request)))


async def close_session(request: web.Request) -> web.Response:
    value = cookie_of(request.cookies, secure=is_secure(request.app[ADDRESS].of(request)))
    if value is not None:
        await request.app[MANAGEMENT].sessions.close(value)
    response = nothing()
    for name in (COOKIE, SECURE_COOKIE):
        response.del_cookie(name, path="/", secure=name == SECURE_COOKIE)
    return response


def _set_cookie(response: web.Response, login: NewLogin, *, secure: bool) -> None:
    response.set_cookie(
        SECURE_COOKIE if secure else COOKIE,
        login.value,
        max_age=int(login.life.total_seconds()),
        path="/",
        httponly=True,
        secure=secure,
        samesite="Lax",
    )


ROUTES: tuple[Route, ...] = (
    Route("POST", "/api/v1/login-session", "public", "Log in with a browser, for a cookie", open_session,
          body=LoginBody, status=204),
    Route("GET", "/api/v1/login-session", "login", "Show who is logged in with this browser", show_account),
    Route("DELETE", "/api/v1/login-session", "login", "Log out with this browser", close_session, status=204),
)  # fmt: skip
