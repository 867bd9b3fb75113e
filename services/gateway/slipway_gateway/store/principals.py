"""Rows of those who can log in, as a login needs them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from slipway_common.database.pool import Connection, Database, database_errors
from slipway_common.database.queries import load_queries
from slipway_gateway.domain.secrets import CredentialKind

_sql = load_queries("slipway_gateway")


@dataclass(frozen=True, slots=True)
class Principal:
    """An account that is not disabled."""

    id: int
    name: str
    kind: str
    password_hash: str | None
    credential_version: int
    is_admin: bool


@dataclass(frozen=True, slots=True)
class Credential:
    """An access token, robot secret or refresh token that is good, and whose it is."""

    id: int
    kind: CredentialKind
    expires_at: datetime | None
    credential_version: int | None
    parent_id: int | None
    principal_id: int
    principal: str


class PrincipalStore:
    def __init__(self, database: Database) -> None:
        self._pool = database.pool
        self._relaxed = database.relaxed

    async def find(self, name: str) -> Principal | None:
        if "\x00" in name:
            return None
        with database_errors():
            row = await self._pool.fetchrow(_sql.find_principal, name)
        return Principal(**row) if row else None

    async def find_credential(self, hash_: bytes) -> Credential | None:
        with database_errors():
            row = await self._pool.fetchrow(_sql.find_credential, hash_)
        return Credential(**{**row, "kind": CredentialKind(row["kind"])}) if row else None

    async def touch_credentials(self, used: Mapping[int, tuple[datetime, str]]) -> None:
        """Note when credentials were last used, and from where."""
        ids = sorted(used)
        with database_errors():
            await self._relaxed.execute(
                _sql.touch_credentials, ids, [used[one][0] for one in ids], [used[one][1] for one in ids]
            )

    async def touch_login(self, principal_id: int) -> None:
        with database_errors():
            await self._relaxed.execute(_sql.touch_login, principal_id)

    async def any(self) -> bool:
        return bool(await self._pool.fetchval(_sql.any_principal))

    async def insert_first_admin(self, name: str, password_hash: str) -> bool:
        """Create the first account; False if there is one already."""
        return await self._pool.fetchval(_sql.insert_first_admin, name, password_hash) is not None


async def set_password(connection: Connection, name: str, password_hash: str) -> bool:
    """Change a password; every login with the old one ends. False if there is no such account."""
    return await connection.fetchval(_sql.set_password, name, password_hash) is not None
