"""Who is asking: passwords by Basic, and the registry's own bearer tokens."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import secrets
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakValueDictionary

from aiohttp import BasicAuth
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from cachetools import LRUCache, TTLCache

from slipway_common.errors import Unauthenticated, Unavailable
from slipway_common.oci.names import RepositoryName
from slipway_common.security.signing import InvalidToken, KeyRing
from slipway_gateway.cache import ExactCache, principal_key
from slipway_gateway.domain.access import ANONYMOUS, Action, Identity
from slipway_gateway.store.principals import Principal, PrincipalStore

SERVICE = "slipway"
ISSUER = "slipway"
# One hash takes 64 MiB and a core for a while: more at once would only take longer each.
_HASHES_AT_ONCE = 2
_HASHES_WAITING = 64
_MAX_PASSWORD_BYTES = 1024


class BadCredentials(Unauthenticated):
    """Unknown name or wrong password; which of them is nobody's business."""


class TooManyLogins(Unavailable):
    """More passwords are waiting to be checked than is sensible."""


class Passwords:
    """argon2id, off the loop, a bounded number at a time."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher()
        self._pool = ThreadPoolExecutor(max_workers=_HASHES_AT_ONCE, thread_name_prefix="argon2")
        self._waiting = 0
        # Checked in place of an unknown name's, so that the answer takes as long.
        self._dummy: str | None = None

    async def hash(self, password: str) -> str:
        hashed: str = await self._run(self._hasher.hash, password)
        return hashed

    async def verify(self, stored: str | None, password: str) -> bool:
        """Compare in a time that does not tell whether there was anything to compare with."""
        if self._dummy is None:
            self._dummy = await self.hash(secrets.token_hex(16))
        matches = await self._run(self._verify, stored or self._dummy, password)
        return matches and stored is not None

    def _verify(self, stored: str, password: str) -> bool:
        try:
            return self._hasher.verify(stored, password)
        except (VerificationError, InvalidHashError):
            return False

    async def _run(self, function: Any, *arguments: str) -> Any:
        if self._waiting >= _HASHES_WAITING:
            raise TooManyLogins("too many logins are being checked at this moment")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True, slots=True)
class _Remembered:
    principal_id: int
    credential_version: int


class Authenticator:
    """Turns an Authorization header into an Identity."""

    def __init__(self, store: PrincipalStore, cache: ExactCache, passwords: Passwords, ring: KeyRing) -> None:
        self._store = store
        self._cache = cache
        self._passwords = passwords
        self._ring = ring
        self._memory_key = os.urandom(32)
        self._verified_passwords: TTLCache[bytes, _Remembered] = TTLCache(maxsize=10_000, ttl=3600)
        self._checking: WeakValueDictionary[bytes, asyncio.Lock] = WeakValueDictionary()
        self._verified_tokens: LRUCache[str, Identity] = LRUCache(maxsize=20_000)

    async def identify(self, header: str | None) -> Identity:
        """Anonymous without a header; raises BadCredentials, InvalidToken or Unauthenticated for one that does not hold."""
        if header is None:
            return ANONYMOUS
        known = self._verified_tokens.get(header)
        if known is not None and known.expires_at > time.time():
            return await self._present(known)
        kind, _, value = header.partition(" ")
        if kind.lower() == "bearer":
            return await self._present(await self._by_token(header, value.strip()))
        if kind.lower() == "basic":
            return await self.by_password(*_decode_basic(header))
        raise Unauthenticated("log in with Basic or Bearer")

    async def by_password(self, name: str, password: str) -> Identity:
        """Raise BadCredentials unless the password is the account's. Verified by argon2 once, then remembered."""
        principal = await self.find_principal(name)
        memory = self._remember_key(name, password)
        if not self._is_remembered(memory, principal):
            # Many clients come with the same password after a restart: it is checked once, the others wait for the outcome.
            async with self._checking.setdefault(memory, asyncio.Lock()):
                if not self._is_remembered(memory, principal):
                    await self._verify(principal, password)
                    if principal is not None:
                        self._verified_passwords[memory] = _Remembered(principal.id, principal.credential_version)
        if principal is None:
            raise BadCredentials("the name or the password is wrong")
        return Identity(name=principal.name, is_admin=principal.is_admin)

    def _is_remembered(self, memory: bytes, principal: Principal | None) -> bool:
        remembered = self._verified_passwords.get(memory)
        return principal is not None and remembered == _Remembered(principal.id, principal.credential_version)

    async def _verify(self, principal: Principal | None, password: str) -> None:
        stored = principal.password_hash if principal else None
        if len(password.encode()) > _MAX_PASSWORD_BYTES or not await self._passwords.verify(stored, password):
            raise BadCredentials("the name or the password is wrong")

    def _remember_key(self, name: str, password: str) -> bytes:
        text = f"{len(name)}:{name}{password}".encode("utf-8", "surrogatepass")
        return hmac.digest(self._memory_key, text, hashlib.sha256)

    async def find_principal(self, name: str) -> Principal | None:
        key = principal_key(name)
        found: Principal | None = self._cache.find(key)
        return found or await self._cache.fill(key, lambda: self._store.find(name))

    async def _by_token(self, header: str, token: str) -> Identity:
        claims = await self._ring.verify(token, audience=SERVICE, issuer=ISSUER)
        name = claims.get("sub") or None
        if name is not None and not isinstance(name, str):
            raise InvalidToken("the token is not valid")
        identity = Identity(name=name, scope=_scope(claims.get("access")), expires_at=float(claims["exp"]))
        self._verified_tokens[header] = identity
        return identity

    async def _present(self, identity: Identity) -> Identity:
        """A token's owner as of now: a token does not outlive its account, nor what the account may do."""
        if identity.name is None:
            return identity
        principal = await self.find_principal(identity.name)
        if principal is None:
            raise InvalidToken("the token's account is gone")
        if principal.is_admin == identity.is_admin:
            return identity
        return replace(identity, is_admin=principal.is_admin)

    async def issue_token(
        self, identity: Identity, access: Mapping[RepositoryName, frozenset[Action]], *, life_s: int
    ) -> tuple[str, int]:
        """Sign a bearer token for what `access` grants; the token and its issue time (Unix seconds)."""
        entries = [
            {"type": "repository", "name": name, "actions": sorted(actions)}
            for name, actions in access.items()
            if actions
        ]
        claims = {
            "iss": ISSUER,
            "sub": identity.name or "",
            "aud": SERVICE,
            "jti": secrets.token_hex(12),
            "access": entries,
        }
        return await self._ring.sign(claims, life_s=life_s), int(time.time())


def _decode_basic(header: str) -> tuple[str, str]:
    try:
        auth = BasicAuth.decode(header, encoding="utf-8")
    except ValueError as exc:
        raise Unauthenticated("the Authorization header is malformed") from exc
    return auth.login, auth.password


def _scope(access: object) -> dict[str, frozenset[str]]:
    """Read the `access` claim; what does not have its form grants nothing."""
    if not isinstance(access, list):
        return {}
    scope: dict[str, frozenset[str]] = {}
    for entry in access:
        if isinstance(entry, dict) and entry.get("type") == "repository" and isinstance(entry.get("actions"), list):
            name = str(entry.get("name"))
            scope[name] = scope.get(name, frozenset()) | frozenset(map(str, entry["actions"]))
    return scope
