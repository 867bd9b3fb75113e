"""Logins of browsers: a random cookie, kept as a hash, that can be ended at any time."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from slipway_common.security.signing import InvalidToken
from slipway_gateway.domain.access import Identity
from slipway_gateway.store.sessions import LoginSessionStore

# The prefix makes browsers take it over HTTPS only, for this host alone; on plain http (a trial on localhost) it has none.
COOKIE = "slipway_login"
SECURE_COOKIE = f"__Host-{COOKIE}"
_LIFE = timedelta(days=7)
_IDLE = timedelta(hours=24)
_SEEN_EVERY = timedelta(minutes=5)
_MAX_SESSIONS = 100


def cookie_of(cookies: Mapping[str, str], *, secure: bool) -> str | None:
    """The login's cookie, if a browser sends one. Over HTTPS only the one with the prefix: others can be set by other hosts."""
    return cookies.get(SECURE_COOKIE if secure else COOKIE)


@dataclass(frozen=True, slots=True)
class NewLogin:
    value: str
    life: timedelta


class LoginSessions:
    """A session ends after seven days, after a day without use, when the password changes, when the account is disabled."""

    def __init__(self, store: LoginSessionStore) -> None:
        self._store = store

    async def open(self, principal_id: int, *, address: str, user_agent: str) -> NewLogin:
        """Begin a session for somebody who has logged in just now."""
        value = secrets.token_urlsafe(32)
        await self._store.insert(_hash(value), principal_id, life=_LIFE, address=address, user_agent=_plain(user_agent))
        return NewLogin(value, _LIFE)

    async def identify(self, value: str) -> Identity:
        """Whose session it is. Raises InvalidToken for one that has ended."""
        found = await self._store.find(_hash(value), idle=_IDLE)
        if found is None:
            raise InvalidToken("the login has ended: log in again")
        if datetime.now(UTC) - found.last_seen_at > _SEEN_EVERY:
            await self._store.touch(_hash(value))
        return Identity(name=found.name, principal_id=found.principal_id, credential_version=found.credential_version)

    async def close(self, value: str) -> None:
        await self._store.delete(_hash(value))

    async def trim(self) -> bool:
        await self._store.trim(_IDLE, sessions=_MAX_SESSIONS)
        return False


def _hash(value: str) -> bytes:
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).digest()


def _plain(text: str) -> str:
    """What the database can keep of a header."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode()[:200]
