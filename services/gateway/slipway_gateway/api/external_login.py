"""Logging in at an OpenID provider: leaving for it, coming back, and the command line that waits for it."""

from __future__ import annotations

from html import escape
from urllib.parse import urlencode

from aiohttp import web
from pydantic import BaseModel, Field

from slipway_common.errors import SlipwayError, Unauthenticated, Unavailable
from slipway_common.events.event import Origin
from slipway_common.web.request_ids import request_id_of
from slipway_common.web.routes import Route
from slipway_gateway.api.gatekeeper import ORIGIN
from slipway_gateway.api.login import begin_session
from slipway_gateway.api.management import ADDRESS
from slipway_gateway.api.resources import Body, answer, read_json
from slipway_gateway.external_logins import CommandLine, ExternalLogins

EXTERNAL_LOGINS = web.AppKey("external_logins", ExternalLogins)
CALLBACK = "/login/oidc/callback"
_COOKIE = "slipway_login_attempt"
_COOKIE_PATH = "/login/oidc"
_COOKIE_LIFE_S = 600


class DepartQuery(BaseModel):
    """Of a command line that waits for the login: its port on this machine, its state, and its challenge (S256)."""

    cli: int | None = Field(None, ge=1024, le=65535)
    state: str = Field("", max_length=200, pattern=r"^[A-Za-z0-9_-]*$")
    challenge: str = Field("", max_length=43, pattern=r"^[A-Za-z0-9_-]*$")

    def command_line(self) -> CommandLine | None:
        if self.cli is None:
            return None
        if len(self.challenge) != 43 or len(self.state) < 16:
            raise Unauthenticated("a command line must send its state and its challenge")
        return CommandLine(self.cli, self.state, self.challenge)


class ExchangeBody(Body):
    code: str = Field(max_length=200)
    verifier: str = Field(min_length=43, max_length=128)
    name: str = Field("slipway", min_length=1, max_length=100, description="What the token is for.")


class ExchangedToken(BaseModel):
    token: str = Field(description="The secret, shown this once.")


async def depart(request: web.Request) -> web.Response:
    query = DepartQuery.model_validate(dict(request.query))
    departure = await request.app[EXTERNAL_LOGINS].depart(_callback(request), query.command_line())
    response = web.Response(status=303, headers={"Location": departure.url, "Cache-Control": "no-store"})
    response.set_cookie(
        _COOKIE, departure.browser_secret, max_age=_COOKIE_LIFE_S, path=_COOKIE_PATH, httponly=True, samesite="Lax",
        secure=_callback(request).startswith("https:"),
    )  # fmt: skip
    return response


async def arrive(request: web.Request) -> web.Response:
    """A person looks at this: what is wrong is said on a page."""
    try:
        return await _arrive(request)
    except SlipwayError as exc:
        status = 503 if isinstance(exc, Unavailable) else 403
        return _page(status, "Not logged in", exc.message)


async def _arrive(request: web.Request) -> web.Response:
    if "error" in request.query:
        return await _refused(request, request.query["error"][:200])
    arrival = await request.app[EXTERNAL_LOGINS].arrive(
        code=request.query.get("code", ""),
        state=request.query.get("state", ""),
        browser_secret=request.cookies.get(_COOKIE, ""),
        callback=_callback(request),
        origin=Origin(None, request_id_of(request), request.app[ADDRESS].client_of(request)),
    )
    if arrival.command_line is not None:
        response = _to_command_line(arrival.command_line, {"code": arrival.code or ""})
    else:
        response = _page(200, "You are logged in", f"as {arrival.user.name}.")
        await begin_session(request, response, arrival.user.id)
    response.headers["Cache-Control"] = "no-store"
    response.del_cookie(_COOKIE, path=_COOKIE_PATH)
    return response


async def _refused(request: web.Request, error: str) -> web.Response:
    """The provider says no: the command line that waits is told, or else the person."""
    waiting = await request.app[EXTERNAL_LOGINS].abandon(
        state=request.query.get("state", ""), browser_secret=request.cookies.get(_COOKIE, "")
    )
    if waiting is None:
        raise Unauthenticated(f"the provider says: {error}")
    return _to_command_line(waiting, {"error": error})


def _to_command_line(waiting: CommandLine, query: dict[str, str]) -> web.Response:
    location = f"http://127.0.0.1:{waiting.port}/?{urlencode({**query, 'state': waiting.state})}"
    return web.Response(status=303, headers={"Location": location, "Cache-Control": "no-store"})


async def exchange(request: web.Request) -> web.Response:
    """The command line's part: the code that came to its port, and the proof that it began."""
    body = await read_json(request, ExchangeBody)
    token = await request.app[EXTERNAL_LOGINS].redeem(
        code=body.code, verifier=body.verifier, name=body.name, origin=request[ORIGIN]
    )
    return answer(ExchangedToken(token=token), status=201)


def _callback(request: web.Request) -> str:
    return request.app[ADDRESS].of(request) + CALLBACK


def _page(status: int, title: str, text: str) -> web.Response:
    body = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>Slipway: {escape(title)}</title><h1>{escape(title)}</h1><p>{escape(text)}</p></html>\n"
    )
    headers = {
        "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
        "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
    return web.Response(status=status, text=body, content_type="text/html", headers=headers)


ROUTES: tuple[Route, ...] = (
    Route("POST", "/api/v1/account/tokens/exchange", "public", "Get an access token for a login that a browser has finished",
          exchange, body=ExchangeBody, response=ExchangedToken, status=201),
)  # fmt: skip
