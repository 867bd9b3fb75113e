"""Login by a browser: a person logs in there, and the command line waits on a port of this machine for what comes of it.

The loopback flow of native applications (RFC 8252, section 7.3) with proof that who fetches the token began the login (RFC 7636):

    1. listen on 127.0.0.1, any port; make `state` and `verifier`
    2. the browser goes to <registry>/login/oidc?cli=<port>&state=…&challenge=<S256 of the verifier>
    3. after the login it comes to http://127.0.0.1:<port>/?code=…&state=…
    4. POST /account/tokens/exchange {code, verifier, name} gives the token

What is in the addresses is worth nothing without the verifier, which goes to the registry only.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import os
import secrets
import sys
import threading
import webbrowser
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web
from yarl import URL

from slipway_common.client.api import open_api
from slipway_common.client.output import say
from slipway_common.errors import Denied, Unavailable

# Long enough to find a second factor.
_PATIENCE_S: Final = 300.0
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'",
}
_PAGE: Final = "<!doctype html><meta charset=utf-8><title>Slipway</title><p>{}</p>"


@dataclass(slots=True)
class _Visit:
    """Waits for the browser to come back."""

    state: str
    code: asyncio.Future[str] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    async def handle(self, request: web.Request) -> web.Response:
        """Whoever does not know `state` is not answered, and changes nothing."""
        if not hmac.compare_digest(request.query.get("state", "").encode(), self.state.encode()):
            return _page(400, "This is not the login that the command line waits for.")
        code = request.query.get("code")
        if not self.code.done():
            if code:
                self.code.set_result(code)
            else:
                refusal = request.query.get("error_description") or request.query.get("error") or "no code came back"
                self.code.set_exception(Denied(f"the login in the browser failed: {refusal}"))
        return _page(200, "You can close this page, and go back to the terminal." if code else "The login failed.")


async def log_in_by_browser(url: str, name: str) -> str:
    """A token, named `name`, for a login in the browser. Raises Denied if that was refused, Unavailable if nobody came."""
    verifier = secrets.token_urlsafe(48)
    visit = _Visit(secrets.token_urlsafe(24))
    async with _listen(visit) as port:
        query = {"cli": str(port), "state": visit.state, "challenge": _challenge(verifier)}
        address = str(URL(f"{url}/login/oidc").with_query(query))
        say(f"Log in with your browser on this machine, at\n\n  {address}\n")
        _open_browser(address)
        try:
            async with asyncio.timeout(_PATIENCE_S):
                code = await visit.code
        except TimeoutError as exc:
            raise Unavailable(f"nobody logged in for {_PATIENCE_S / 60:.0f} minutes: try again") from exc
    async with open_api(url, None, say) as api:
        made = await api.post("/account/tokens/exchange", {"code": code, "verifier": verifier, "name": name})
    return str(made["token"])


@contextlib.asynccontextmanager
async def _listen(visit: _Visit) -> AsyncIterator[int]:
    """Serve the one page that the browser comes back to; yields the port."""
    app = web.Application()
    app.router.add_get("/", visit.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=2)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def _open_browser(address: str) -> None:
    """Open it where there is a screen. In a thread of its own, as some browsers return only when they are closed."""
    if sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        threading.Thread(target=webbrowser.open, args=(address,), name="browser", daemon=True).start()


def _challenge(verifier: str) -> str:
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _page(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=_PAGE.format(text), content_type="text/html", headers=_HEADERS)
