"""Logging in at an OpenID provider: from the browser that asks, to an account here, its teams, and a login."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

import orjson

from slipway_common.errors import Denied, NotFound, Unauthenticated
from slipway_common.events.catalogue import AccountCreated, AccountUpdated
from slipway_common.events.event import SYSTEM_STREAM, Origin
from slipway_common.security.master_key import SecretBox
from slipway_gateway.changes import Change, Changes
from slipway_gateway.credentials import CredentialBounds, Credentials, Owner
from slipway_gateway.domain.principals import InvalidPrincipal, parse_account_name
from slipway_gateway.domain.secrets import CredentialKind
from slipway_gateway.federation.provider import (
    ExternalLogin,
    LoginAttempt,
    OpenIdProvider,
    challenge_of,
    new_login_attempt,
)
from slipway_gateway.store.accounts import AccountStore, User
from slipway_gateway.store.sessions import LoginSessionStore
from slipway_gateway.teams import Teams

# From leaving for the provider until being back; and for a command line to fetch its token.
_ATTEMPT_LIFE = timedelta(minutes=10)
_CODE_LIFE = timedelta(minutes=2)
_MAX_SAME_NAMES = 100


@dataclass(frozen=True, slots=True)
class CommandLine:
    """A command line that waits on this machine of the user's: its port, its own state, and what its token is bound to."""

    port: int
    state: str
    challenge: str


@dataclass(frozen=True, slots=True)
class Departure:
    """Where to send the browser, and what it must bring back in a cookie."""

    url: str
    browser_secret: str


@dataclass(frozen=True, slots=True)
class Arrival:
    """Who has logged in, and the command line that waits for it, if one does."""

    user: User
    command_line: CommandLine | None
    code: str | None = None


class ExternalLogins:
    def __init__(
        self,
        provider: OpenIdProvider | None,
        sessions: LoginSessionStore,
        accounts: AccountStore,
        teams: Teams,
        credentials: Credentials,
        changes: Changes,
        box: SecretBox,
    ) -> None:
        self._provider = provider
        self._sessions = sessions
        self._accounts = accounts
        self._teams = teams
        self._credentials = credentials
        self._changes = changes
        self._box = box

    def _configured(self) -> OpenIdProvider:
        if self._provider is None:
            raise NotFound("no OpenID provider is set up here (oidc_issuer): log in with name and password")
        return self._provider

    async def depart(self, callback: str, command_line: CommandLine | None) -> Departure:
        """Begin a login. Raises NotFound where no provider is set up, Unavailable while it is away."""
        attempt, browser_secret = new_login_attempt(), secrets.token_urlsafe(32)
        url = await self._configured().authorization_url(callback, attempt)
        kept = {
            "attempt": asdict(attempt),
            "browser": _hash(browser_secret).hex(),
            "command_line": asdict(command_line) if command_line is not None else None,
        }
        await self._sessions.keep_attempt(_hash(attempt.state), "oidc", self._seal(kept), life=_ATTEMPT_LIFE)
        return Departure(url, browser_secret)

    async def abandon(self, *, state: str, browser_secret: str) -> CommandLine | None:
        """End a login that the provider refused; the command line that waits for it, if one does."""
        kept = await self._take(state, browser_secret)
        return CommandLine(**kept["command_line"]) if kept is not None and kept["command_line"] else None

    async def _take(self, state: str, browser_secret: str) -> dict[str, Any] | None:
        """What was kept when this very browser left, once."""
        sealed = await self._sessions.take_attempt(_hash(state), "oidc")
        kept = self._open(sealed) if sealed is not None else None
        mine = kept is not None and hmac.compare_digest(kept["browser"], _hash(browser_secret).hex())
        return kept if mine else None

    async def arrive(self, *, code: str, state: str, browser_secret: str, callback: str, origin: Origin) -> Arrival:
        """Finish a login that this very browser began. Raises Unauthenticated for any other."""
        kept = await self._take(state, browser_secret)
        if kept is None:
            raise Unauthenticated("this login was not begun in this browser, or too long ago: start again")
        login = await self._configured().exchange_code(code, LoginAttempt(**kept["attempt"]), callback)
        user = await self._changes.make(origin, lambda change: self._user_of(change, login))
        if user.disabled:
            raise Denied("this account is disabled")
        waiting = CommandLine(**kept["command_line"]) if kept["command_line"] else None
        return Arrival(user, waiting, await self._code_for(user, waiting) if waiting else None)

    async def _user_of(self, change: Change, login: ExternalLogin) -> User:
        """The account of whoever logged in, made at the first time; with the teams of their groups."""
        known = await self._accounts.find_by_identity(change.connection, login.issuer, login.subject)
        user = known or await self._create(change, login)
        user = await self._refresh(change, user, login) if known is not None else user
        await self._teams.sync_groups(change, user.id, login.groups)
        return user

    async def _create(self, change: Change, login: ExternalLogin) -> User:
        values = {"display_name": login.name or "", "email": login.email or ""}
        for name in _names_for(login):
            made = await self._accounts.insert(change.connection, name, password_hash=None, values=values, actor=name)
            if made is not None:
                await self._accounts.link_identity(change.connection, made.id, login.issuer, login.subject)
                created = AccountCreated(account=name, issuer=login.issuer)
                change.tell(SYSTEM_STREAM, created, subject=f"user:{name}")
                return made
        raise Denied("no free name could be found for the account: ask an administrator")

    async def _refresh(self, change: Change, user: User, login: ExternalLogin) -> User:
        """What the provider says of somebody, as of now."""
        said = {"display_name": login.name, "email": login.email}
        changed = {key: value for key, value in said.items() if value is not None and value != getattr(user, key)}
        if not changed:
            return user
        after = await self._accounts.update(change.connection, user.id, version=None, values=changed)
        change.tell(
            SYSTEM_STREAM, AccountUpdated(account=user.name, changed=sorted(changed)), subject=f"user:{user.name}"
        )
        return after or user

    async def _code_for(self, user: User, waiting: CommandLine) -> str:
        code = secrets.token_urlsafe(32)
        kept = {"id": user.id, "name": user.name, "challenge": waiting.challenge}
        await self._sessions.keep_attempt(_hash(code), "cli", self._seal(kept), life=_CODE_LIFE)
        return code

    async def redeem(self, *, code: str, verifier: str, name: str, origin: Origin) -> str:
        """An access token for the command line that began the login: it alone knows the verifier (RFC 7636)."""
        sealed = await self._sessions.take_attempt(_hash(code), "cli")
        kept = self._open(sealed) if sealed is not None else None
        if kept is None or not _proves(verifier, kept["challenge"]):
            raise Unauthenticated("the code is wrong, was used already, or is too old: start again")
        owner = Owner(kept["id"], kept["name"], "user")
        by = Origin(kept["name"], origin.request_id, origin.address)
        _, secret = await self._credentials.create(owner, CredentialKind.TOKEN, name, CredentialBounds(), by)
        return secret

    def _seal(self, document: dict[str, Any]) -> bytes:
        return self._box.seal(orjson.dumps(document))

    def _open(self, sealed: bytes) -> dict[str, Any]:
        document: dict[str, Any] = orjson.loads(self._box.open(sealed))
        return document


def _proves(verifier: str, challenge: str) -> bool:
    return verifier.isascii() and hmac.compare_digest(challenge_of(verifier), challenge)


def _names_for(login: ExternalLogin) -> Iterator[str]:
    """Names to try for a new account: the provider's, then with a number. An account that is there is never taken over."""
    wanted = login.preferred_username or (login.email or "").partition("@")[0] or "user"
    plain = re.sub(r"[^a-z0-9._-]+", "-", wanted.lower().partition("@")[0]).strip("._-")[:56] or "user"
    for number in range(1, _MAX_SAME_NAMES):
        try:
            yield parse_account_name(plain if number == 1 else f"{plain}-{number}")
        except InvalidPrincipal:
            continue


def _hash(value: str) -> bytes:
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).digest()
