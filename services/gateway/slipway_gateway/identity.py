"""Who is asking: passwords and secrets by Basic, secrets and the registry's own tokens by Bearer."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf
from typing import Any
from weakref import WeakValueDictionary

from aiohttp import BasicAuth
from cachetools import LRUCache, TTLCache

from slipway_common.errors import Unauthenticated
from slipway_common.oci.names import RepositoryName
from slipway_common.security.signing import InvalidToken, KeyRing
from slipway_gateway.access import Access
from slipway_gateway.domain.access import ANONYMOUS, Action, Identity
from slipway_gateway.domain.secrets import CredentialKind, hash_secret, kind_of, looks_like_secret
from slipway_gateway.passwords import MAX_PASSWORD_BYTES, Passwords
from slipway_gateway.store.principals import Credential, Principal, PrincipalStore
from slipway_gateway.throttle import LoginThrottle, network_of

SERVICE = "slipway"
ISSUER = "slipway"
# What a token can cover beside repositories: the list of their names.
CATALOG = "registry:catalog"
_LAPSED_FOR_S = 24 * 3600
_MAX_USED = 10_000


class BadCredentials(Unauthenticated):
    """Unknown name or wrong password; which of them is nobody's business. `name` is what was tried."""

    def __init__(self, message: str, *, name: str | None) -> None:
        super().__init__(message)
        self.name = name or "unknown"


@dataclass(frozen=True, slots=True)
class _Remembered:
    principal_id: int
    credential_version: int


class Authenticator:
    """Turns an Authorization header into an Identity: what the credential says by itself. What that is worth at this moment is
    looked up with the repository (access.py)."""

    def __init__(
        self, store: PrincipalStore, access: Access, passwords: Passwords, ring: KeyRing, throttle: LoginThrottle
    ) -> None:
        self._store = store
        self._access = access
        self._passwords = passwords
        self._ring = ring
        self._throttle = throttle
        self._memory_key = os.urandom(32)
        self._verified_passwords: TTLCache[bytes, _Remembered] = TTLCache(maxsize=10_000, ttl=3600)
        # Where they came from: elsewhere a password that is known to be right must not tell itself from a wrong one.
        self._known_places: TTLCache[tuple[bytes, str], bool] = TTLCache(maxsize=50_000, ttl=3600)
        self._checking: WeakValueDictionary[bytes, asyncio.Lock] = WeakValueDictionary()
        self._verified_tokens: LRUCache[str, Identity] = LRUCache(maxsize=20_000)
        self._used: dict[int, tuple[datetime, str]] = {}

    def recall(self, header: str | None) -> Identity | None:
        """What `identify` answers, if it takes no look at anything: nobody, or whom a token names that was verified before."""
        if header is None:
            return ANONYMOUS
        known = self._verified_tokens.get(header)
        return known if known is not None and known.expires_at > time.time() else None

    async def identify(self, header: str | None, address: str) -> Identity:
        """Anonymous without a header; raises BadCredentials, InvalidToken or Unauthenticated for one that does not hold."""
        known = self.recall(header)
        if known is not None or header is None:
            return known or ANONYMOUS
        kind, _, value = header.partition(" ")
        if kind.lower() == "bearer":
            return await self._by_bearer(header, value.strip(), address)
        if kind.lower() == "basic":
            return await self.by_basic(*_decode_basic(header), address)
        raise Unauthenticated("log in with Basic or Bearer")

    async def identify_lapsed(self, header: str | None) -> Identity:
        """The identity of a bearer token of ours that has expired, for the one use in which that may be overlooked."""
        kind, _, value = (header or "").partition(" ")
        if kind.lower() != "bearer":
            raise InvalidToken("the token is not valid")
        claims = await self._ring.verify(
            value.strip(), audience=SERVICE, issuer=ISSUER, accept_expired_for_s=_LAPSED_FOR_S
        )
        return _identity(claims)

    async def _by_bearer(self, header: str, token: str, address: str) -> Identity:
        if looks_like_secret(token):
            return await self.by_secret(token, address)
        identity = _identity(await self._ring.verify(token, audience=SERVICE, issuer=ISSUER))
        self._verified_tokens[header] = identity
        return identity

    async def by_basic(self, name: str, password: str, address: str) -> Identity:
        """A name with its password, access token or robot secret. Raises BadCredentials, TooMany."""
        if looks_like_secret(password):
            return await self.by_secret(password, address, name=name)
        return await self.by_password(name, password, address)

    async def by_secret(self, secret: str, address: str, *, name: str | None = None) -> Identity:
        """An access token or robot secret, with its owner's name where one is given. Raises BadCredentials."""
        credential = await self.find_credential(secret)
        if credential is None or credential.kind is CredentialKind.REFRESH or name not in (None, credential.principal):
            raise BadCredentials("the name or the secret is wrong, or the secret has expired or was revoked", name=name)
        self.note_use(credential.id, address)
        return Identity(
            name=credential.principal,
            principal_id=credential.principal_id,
            credential_id=credential.id,
            expires_at=credential.expires_at.timestamp() if credential.expires_at is not None else inf,
        )

    async def find_credential(self, secret: str) -> Credential | None:
        """The credential of a secret that is good at this moment."""
        if kind_of(secret) is None:
            return None
        memory, hash_ = await self._access.memory(), hash_secret(secret)
        found = memory.credentials.get(hash_)
        if not isinstance(found, Credential):
            found = await self._store.find_credential(hash_)
            if found is not None:
                memory.credentials[hash_] = found
        expired = found is not None and found.expires_at is not None and found.expires_at <= datetime.now(UTC)
        return None if expired else found

    async def by_password(self, name: str, password: str, address: str) -> Identity:
        """Raise BadCredentials unless the password is the account's. Verified by argon2 once, then remembered."""
        principal = await self._find_principal(name)
        memory = self._remember_key(name, password)
        place = memory, network_of(address)
        if not self._is_remembered(memory, principal):
            # Many clients come with the same password after a restart: it is checked once, the others wait for the outcome.
            async with self._checking.setdefault(memory, asyncio.Lock()):
                if not self._is_remembered(memory, principal):
                    await self._verify(principal, name, password, address)
                    if principal is not None:
                        self._verified_passwords[memory] = _Remembered(principal.id, principal.credential_version)
                        self._known_places[place] = True
        if principal is None:
            raise BadCredentials("the name or the password is wrong", name=name)
        if place not in self._known_places:
            await self._throttle.check(name, address)
            self._known_places[place] = True
        return Identity(name=principal.name, principal_id=principal.id, credential_version=principal.credential_version)

    def _is_remembered(self, memory: bytes, principal: Principal | None) -> bool:
        remembered = self._verified_passwords.get(memory)
        return principal is not None and remembered == _Remembered(principal.id, principal.credential_version)

    async def _verify(self, principal: Principal | None, name: str, password: str, address: str) -> None:
        await self._throttle.check(name, address)
        stored = principal.password_hash if principal else None
        too_long = len(password.encode("utf-8", "surrogatepass")) > MAX_PASSWORD_BYTES
        if too_long or not await self._passwords.verify(stored, password):
            await self._throttle.failed(name, address)
            raise BadCredentials("the name or the password is wrong", name=name)
        await self._throttle.succeeded(name, address)
        if principal is not None:
            await self._store.touch_login(principal.id)

    def _remember_key(self, name: str, password: str) -> bytes:
        text = f"{len(name)}:{name}{password}".encode("utf-8", "surrogatepass")
        return hmac.digest(self._memory_key, text, hashlib.sha256)

    async def _find_principal(self, name: str) -> Principal | None:
        memory = await self._access.memory()
        found = memory.principals.get(name)
        if not isinstance(found, Principal):
            found = await self._store.find(name)
            if found is not None:
                memory.principals[name] = found
        return found

    def note_use(self, credential_id: int, address: str) -> None:
        self._used[credential_id] = (datetime.now(UTC), address)

    async def flush_used(self) -> bool:
        """Write down when access tokens and robot secrets were last used."""
        used, self._used = self._used, {}
        batch = dict(list(used.items())[:_MAX_USED])
        if batch:
            await self._store.touch_credentials(batch)
        return False

    async def issue_token(
        self,
        identity: Identity,
        access: Mapping[RepositoryName, frozenset[Action]],
        *,
        catalog: bool = False,
        life_s: int,
    ) -> tuple[str, int]:
        """Sign a bearer token for what `access` grants; the token and its issue time (Unix seconds)."""
        entries: list[dict[str, Any]] = [
            {"type": "repository", "name": name, "actions": sorted(actions)}
            for name, actions in access.items()
            if actions
        ]
        if catalog:
            entries.append({"type": "registry", "name": "catalog", "actions": ["*"]})
        claims = {
            "iss": ISSUER,
            "sub": identity.name or "",
            "aud": SERVICE,
            "jti": secrets.token_hex(12),
            "access": entries,
            "pid": identity.principal_id,
            "cred": identity.credential_id,
            "pwv": identity.credential_version,
        }
        present = {name: value for name, value in claims.items() if value is not None}
        return await self._ring.sign(present, life_s=life_s), int(time.time())


def _identity(claims: Mapping[str, Any]) -> Identity:
    """What a verified token says. Raises InvalidToken for one that does not have the form of ours."""
    name = claims.get("sub") or None
    principal_id, credential_id, version = claims.get("pid"), claims.get("cred"), claims.get("pwv")
    numbers = (principal_id, credential_id, version)
    if not all(number is None or (type(number) is int and 0 < number < 2**63) for number in numbers):
        raise InvalidToken("the token is not valid")
    # Whose token it is, and by which login it was had, is said whole or not at all.
    whole = principal_id is not None and (credential_id is None) != (version is None)
    if not (isinstance(name, str) and whole if name is not None else numbers == (None, None, None)):
        raise InvalidToken("the token is not valid")
    return Identity(
        name=name,
        principal_id=principal_id,
        credential_id=credential_id,
        credential_version=version,
        scope=_scope(claims.get("access")),
        token_id=str(claims.get("jti") or "") or None,
        expires_at=float(claims["exp"]),
    )


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
        if not isinstance(entry, dict) or not isinstance(entry.get("actions"), list):
            continue
        name = str(entry.get("name"))
        if entry.get("type") == "registry" and name == "catalog":
            name = CATALOG
        elif entry.get("type") != "repository" or ":" in name:
            continue
        scope[name] = scope.get(name, frozenset()) | frozenset(map(str, entry["actions"]))
    return scope
