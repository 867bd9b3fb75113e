"""Rows of access tokens, robot secrets and refresh tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from slipway_common.database.pool import Connection, Database, database_errors
from slipway_common.database.queries import load_queries
from slipway_gateway.domain.access import Action
from slipway_gateway.domain.secrets import CredentialKind

_sql = load_queries("slipway_gateway")


@dataclass(frozen=True, slots=True)
class NewCredential:
    kind: CredentialKind
    name: str
    hash: bytes
    hint: str
    actions: Sequence[Action] | None
    patterns: Sequence[str] | None
    expires_at: datetime | None
    created_by: str | None


@dataclass(frozen=True, slots=True)
class CredentialRow:
    """A credential as its owner sees it: everything but the secret."""

    id: int
    kind: str
    name: str
    hint: str
    actions: list[str] | None
    patterns: list[str] | None
    created_at: datetime
    created_by: str | None
    expires_at: datetime | None
    last_used_at: datetime | None
    last_used_address: str | None


class CredentialStore:
    def __init__(self, database: Database) -> None:
        self._pool = database.pool

    async def lock_and_count(self, connection: Connection, principal_id: int, kind: CredentialKind) -> int:
        """How many good ones there are, and will be until the transaction ends."""
        await connection.fetchval(_sql.lock_principal, principal_id)
        return int(await connection.fetchval(_sql.count_credentials, principal_id, kind))

    async def insert(self, connection: Connection, principal_id: int, new: NewCredential) -> CredentialRow:
        [row] = await connection.fetch(
            _sql.insert_credential, principal_id, new.kind, new.name, new.hash, new.hint,
            list(new.actions) if new.actions is not None else None, new.patterns, new.expires_at, new.created_by,
        )  # fmt: skip
        return CredentialRow(**row)

    async def insert_refresh(
        self,
        principal_id: int,
        *,
        hash_: bytes,
        hint: str,
        parent_id: int | None,
        credential_version: int | None,
        expires_at: datetime,
    ) -> None:
        """A refresh token with the bounds of the access token it was had for."""
        with database_errors():
            await self._pool.execute(
                _sql.insert_refresh_token, principal_id, hash_, hint, parent_id, credential_version, expires_at
            )

    async def delete(self, connection: Connection, principal_id: int, credential_id: int) -> CredentialRow | None:
        """With all that was had for it; None if it is not there."""
        row = await connection.fetchrow(_sql.delete_credential, principal_id, credential_id)
        return CredentialRow(**row) if row else None

    async def list_of(self, principal_id: int, kind: CredentialKind) -> list[CredentialRow]:
        with database_errors():
            rows = await self._pool.fetch(_sql.list_credentials, principal_id, kind)
        return [CredentialRow(**row) for row in rows]

    async def trim(self, connection: Connection, *, refresh_tokens: int) -> None:
        """Delete what is over, and of each principal's refresh tokens all but so many."""
        await connection.execute(_sql.trim_credentials)
        await connection.execute(_sql.trim_refresh_tokens, refresh_tokens)
