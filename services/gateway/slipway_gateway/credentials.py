"""Access tokens, robot secrets and refresh tokens: made, shown once, taken back."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import inf

from slipway_common.errors import Conflict, InvalidInput, NotFound
from slipway_common.events.catalogue import CredentialCreated, CredentialRevoked
from slipway_common.events.event import SYSTEM_STREAM, Origin, namespace_stream
from slipway_gateway.changes import Change, Changes
from slipway_gateway.domain.access import Action, Identity
from slipway_gateway.domain.patterns import parse_pattern
from slipway_gateway.domain.secrets import SECRET_BYTES, CredentialKind, hash_secret, hint_of, make_secret
from slipway_gateway.identity import Authenticator, BadCredentials
from slipway_gateway.store.credentials import CredentialRow, CredentialStore, NewCredential

MAX_TOKENS = 100
# Two, so that a secret can be replaced while the old one is still in use.
MAX_ROBOT_SECRETS = 2
# Each login of a client makes one. Those not used for longest go.
MAX_REFRESH_TOKENS = 100
# Names of secrets that builds get for their CI system's token.
TRUST_PREFIX = "trust:"


@dataclass(frozen=True, slots=True)
class CredentialBounds:
    """What a new credential shall be good for at most, as somebody wrote it."""

    actions: Sequence[Action] | None = None
    patterns: Sequence[str] | None = None
    expires_in: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose credentials: a user's, or a robot's of some namespace."""

    id: int
    name: str
    kind: str
    namespace_id: int | None = None

    @property
    def stream(self) -> str:
        return SYSTEM_STREAM if self.namespace_id is None else namespace_stream(self.namespace_id)

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"


class Credentials:
    def __init__(
        self,
        store: CredentialStore,
        authenticator: Authenticator,
        changes: Changes,
        *,
        refresh_life: timedelta,
        longest_life: timedelta | None,
    ) -> None:
        self._store = store
        self._authenticator = authenticator
        self._changes = changes
        self._refresh_life = refresh_life
        self._longest_life = longest_life

    async def create(
        self, owner: Owner, kind: CredentialKind, name: str, bounds: CredentialBounds, origin: Origin
    ) -> tuple[CredentialRow, str]:
        """Make an access token or robot secret; with the secret, which nobody can see again."""
        return await self._changes.make(
            origin, lambda change: self.create_in(change, owner, kind, name, bounds), adds_only=True
        )

    async def create_in(
        self, change: Change, owner: Owner, kind: CredentialKind, name: str, bounds: CredentialBounds
    ) -> tuple[CredentialRow, str]:
        """The same within a transaction of the caller's."""
        secret = make_secret(kind, secrets.token_bytes(SECRET_BYTES))
        new = NewCredential(
            kind=kind,
            name=name,
            hash=hash_secret(secret),
            hint=hint_of(secret),
            actions=bounds.actions,
            patterns=[parse_pattern(pattern).text for pattern in bounds.patterns]
            if bounds.patterns is not None
            else None,
            expires_at=self._end(bounds.expires_in),
            created_by=change.origin.actor,
        )
        await self._check_number(change, owner, kind, name)
        made = await self._store.insert(change.connection, owner.id, new)
        created = CredentialCreated(
            owner=str(owner), id=made.id, kind=kind, name=name,
            expires_at=made.expires_at.isoformat(timespec="seconds") if made.expires_at else None,
        )  # fmt: skip
        change.tell(owner.stream, created, subject=str(owner))
        return made, secret

    async def _check_number(self, change: Change, owner: Owner, kind: CredentialKind, name: str) -> None:
        """Raise Conflict if the owner has as many as there may be. The owner's row is locked, so that none slips by."""
        if name.startswith(TRUST_PREFIX):
            return  # had for a CI system's token: it ends by itself
        limit = MAX_ROBOT_SECRETS if kind is CredentialKind.ROBOT else MAX_TOKENS
        if await self._store.lock_and_count(change.connection, owner.id, kind) >= limit:
            raise Conflict(f"there are {limit} already: revoke one first", owner=str(owner))

    def _end(self, expires_in: timedelta | None) -> datetime | None:
        if self._longest_life is not None:
            if expires_in is not None and expires_in > self._longest_life:
                raise InvalidInput(f"at most {self._longest_life.days} days are allowed here")
            expires_in = expires_in or self._longest_life
        return datetime.now(UTC) + expires_in if expires_in is not None else None

    async def revoke(self, owner: Owner, credential_id: int, origin: Origin) -> None:
        """Take a credential back: it, and what was had for it, is worth nothing from now on. Raises NotFound."""

        async def work(change: Change) -> None:
            gone = await self._store.delete(change.connection, owner.id, credential_id)
            if gone is None:
                raise NotFound("there is no such token or secret", id=credential_id)
            revoked = CredentialRevoked(owner=str(owner), id=gone.id, kind=gone.kind, name=gone.name)
            change.tell(owner.stream, revoked, subject=str(owner))

        await self._changes.make(origin, work)

    async def list_of(self, owner: Owner, kind: CredentialKind) -> list[CredentialRow]:
        return await self._store.list_of(owner.id, kind)

    async def trim(self) -> None:
        """Delete refresh tokens and builds' secrets whose time is over, and refresh tokens beyond what one needs."""

        async def work(change: Change) -> None:
            await self._store.trim(change.connection, refresh_tokens=MAX_REFRESH_TOKENS)

        await self._changes.make(Origin("system", None), work)

    async def issue_refresh_token(self, identity: Identity) -> str | None:
        """A token with which a client gets bearer tokens without keeping the password; None where they are turned off.

        It is good for what the login is good for, and ends with it: when the password changes, or the access token is revoked.
        """
        if not self._refresh_life or identity.principal_id is None:
            return None
        secret = make_secret(CredentialKind.REFRESH, secrets.token_bytes(SECRET_BYTES))
        end = datetime.now(UTC) + self._refresh_life
        if identity.expires_at != inf:
            end = min(end, datetime.fromtimestamp(identity.expires_at, UTC))
        await self._store.insert_refresh(
            identity.principal_id,
            hash_=hash_secret(secret),
            hint=hint_of(secret),
            parent_id=identity.credential_id,
            credential_version=identity.credential_version,
            expires_at=end,
        )
        return secret

    async def by_refresh_token(self, secret: str, address: str) -> Identity:
        """Whose refresh token it is. Raises BadCredentials."""
        found = await self._authenticator.find_credential(secret)
        if found is None or found.kind is not CredentialKind.REFRESH:
            raise BadCredentials("the refresh token is wrong, has expired or was revoked: log in again", name=None)
        self._authenticator.note_use(found.id, address)
        return Identity(
            name=found.principal,
            principal_id=found.principal_id,
            credential_id=found.id,
            expires_at=found.expires_at.timestamp() if found.expires_at is not None else inf,
        )
