"""An issuer of tokens of the tests' own, on loopback: it signs whatever it is told to, and counts who asks for its keys."""

from __future__ import annotations

import base64
import json
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

from aiohttp import web
from joserfc import jwt
from joserfc.jwk import ECKey, OKPKey, RSAKey

from tests.parts.process import free_port

Key = ECKey | OKPKey | RSAKey
CODE = "the-code"


class FakeIssuer:
    """`discovery` and `keys` are what it publishes, `tokens` is what its token endpoint gives; change them at will."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.key: Key = ECKey.generate_key("P-256", auto_kid=True)
        self.keys: list[dict[str, Any]] = [published(self.key)]
        self.discovery: dict[str, Any] = {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/keys",
        }
        self.tokens: dict[str, Any] = {}
        self.token_status = 200
        self.asked: Counter[str] = Counter()
        self.forms: list[dict[str, str]] = []
        self.authorizations: list[str | None] = []
        self._runner: web.AppRunner | None = None

    async def start(self) -> FakeIssuer:
        app = web.Application()
        app.router.add_get("/.well-known/openid-configuration", self._discovery)
        app.router.add_get("/keys", self._keys)
        app.router.add_post("/token", self._token)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        return self

    async def close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Claims that hold now, with `changes`; a claim changed to None is left out."""
        now = int(time.time())
        claims = {"iss": self.url, "sub": "somebody", "iat": now, "exp": now + 300, **changes}
        return {name: value for name, value in claims.items() if value is not None}

    def sign(
        self, claims: Mapping[str, Any], *, key: Key | None = None, algorithm: str = "ES256", **header: Any
    ) -> str:
        key = key or self.key
        head = {"alg": algorithm, "kid": key.kid, **header}
        return jwt.encode({k: v for k, v in head.items() if v is not None}, dict(claims), key, algorithms=[algorithm])

    def replace_key(self, key: Key) -> None:
        """From now on sign with another key, and publish only that."""
        self.key = key
        self.keys = [published(key)]

    async def _discovery(self, _request: web.Request) -> web.Response:
        self.asked["discovery"] += 1
        return web.json_response(self.discovery)

    async def _keys(self, _request: web.Request) -> web.Response:
        self.asked["keys"] += 1
        return web.json_response({"keys": self.keys})

    async def _token(self, request: web.Request) -> web.Response:
        self.forms.append({name: str(value) for name, value in (await request.post()).items()})
        self.authorizations.append(request.headers.get("Authorization"))
        return web.json_response(self.tokens, status=self.token_status)


def published(key: Key) -> dict[str, Any]:
    """A key as its issuer shows it."""
    return {**key.as_dict(private=False), "kid": key.kid, "use": "sig"}


def write_token(header: Mapping[str, Any], claims: Mapping[str, Any], signature: bytes = b"") -> str:
    """A token as an attacker writes one: any header, any signature."""
    return f"{signing_input(header, claims)}.{_base64url(signature)}"


def signing_input(header: Mapping[str, Any], claims: Mapping[str, Any]) -> str:
    return f"{_base64url(json.dumps(header).encode())}.{_base64url(json.dumps(claims).encode())}"


def _base64url(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode("ascii")
