"""ES256 signing keys in the database, and the tokens they sign and verify.

The algorithm is fixed and the key is chosen by us from our own rows: nothing in a token's header decides how it is checked.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import asyncpg
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from slipway_common.database.pool import Connection, database_errors
from slipway_common.database.queries import load_queries
from slipway_common.errors import Unauthenticated
from slipway_common.security.master_key import SecretBox

_sql = load_queries("slipway_common.security")

KEY_AGE = timedelta(days=90)  # then a new key signs
KEY_LIFE = timedelta(days=100)  # then the old one no longer verifies; far longer than any token lives
_RELOAD_AFTER_S = 300.0
_UNKNOWN_KEY_RELOAD_S = 1.0  # an unknown key id makes us look again, but not more often than this
_LEEWAY_S = 5


class InvalidToken(Unauthenticated):
    """Not a token of ours, or no longer valid."""


class KeyRing:
    """The keys of one purpose. Keys of different purposes never verify each other's tokens."""

    def __init__(self, pool: asyncpg.Pool, box: SecretBox, *, purpose: str, token_type: str) -> None:
        self._pool = pool
        self._box = box
        self._purpose = purpose
        self._type = token_type
        self._keys: dict[str, ECKey] = {}
        self._signer: ECKey | None = None
        self._loaded_at = 0.0
        self._loading = asyncio.Lock()

    async def load(self) -> None:
        """Read the keys; make one if there is none or the newest has reached its age."""
        async with self._loading:
            with database_errors():
                async with self._pool.acquire() as connection, connection.transaction():
                    await connection.execute(_sql.lock_purpose, self._purpose)
                    rows = await connection.fetch(_sql.list_keys, self._purpose)
                    if not rows or rows[0]["age"] > KEY_AGE:
                        await self._create(connection)
                        await connection.execute(_sql.delete_keys, self._purpose, KEY_LIFE)
                        rows = await connection.fetch(_sql.list_keys, self._purpose)
            self._keys = {row["kid"]: ECKey.import_key(self._box.open(row["private_key"])) for row in rows}
            self._signer = self._keys[rows[0]["kid"]]
            self._loaded_at = time.monotonic()

    async def _create(self, connection: Connection) -> None:
        key = ECKey.generate_key("P-256", auto_kid=True)
        sealed = self._box.seal(key.as_pem(private=True))
        await connection.execute(_sql.insert_key, key.thumbprint(), self._purpose, sealed)

    async def sign(self, claims: Mapping[str, Any], *, life_s: int) -> str:
        """Sign `claims` with `iat`, `nbf` and `exp` added."""
        if time.monotonic() - self._loaded_at > _RELOAD_AFTER_S or self._signer is None:
            await self.load()
        if self._signer is None:
            raise RuntimeError("a key ring that loaded has a key")
        now = int(time.time())
        header = {"alg": "ES256", "typ": self._type, "kid": self._signer.thumbprint()}
        return jwt.encode(header, {**claims, "iat": now, "nbf": now, "exp": now + life_s}, self._signer)

    async def verify(self, token: str, *, audience: str, issuer: str, accept_expired_for_s: int = 0) -> dict[str, Any]:
        """Return the claims of a valid token; raise InvalidToken for any other.

        The `exp` claim is in the result: who caches must drop it then. `accept_expired_for_s` is for the one use where a token
        that was good may come late.
        """
        key = await self._key_of(token)
        try:
            decoded = jwt.decode(token, key, algorithms=["ES256"])
            if decoded.header.get("typ") != self._type:
                raise InvalidToken("this token is meant for something else")
            registry = jwt.JWTClaimsRegistry(
                leeway=_LEEWAY_S + accept_expired_for_s,
                aud={"essential": True, "value": audience},
                iss={"essential": True, "value": issuer},
                exp={"essential": True},
                nbf={"essential": True},
            )
            registry.validate(decoded.claims)
        except (JoseError, ValueError, TypeError) as exc:
            raise InvalidToken("the token is not valid") from exc
        return decoded.claims

    async def _key_of(self, token: str) -> ECKey:
        kid = _key_id(token)
        key = self._keys.get(kid)
        if key is None and time.monotonic() - self._loaded_at > _UNKNOWN_KEY_RELOAD_S:
            await self.load()
            key = self._keys.get(kid)
        if key is None:
            raise InvalidToken("the token was not signed by this registry")
        return key

    def public_keys(self) -> dict[str, Any]:
        """The JWKS document."""
        keys = [
            {**key.as_dict(private=False), "kid": kid, "use": "sig", "alg": "ES256"} for kid, key in self._keys.items()
        ]
        return {"keys": keys}


def _key_id(token: str) -> str:
    from joserfc.jws import extract_compact

    try:
        header = extract_compact(token.encode("ascii")).headers()
    except (JoseError, ValueError, UnicodeEncodeError) as exc:
        raise InvalidToken("the token is malformed") from exc
    kid = header.get("kid")
    return kid if isinstance(kid, str) else ""
