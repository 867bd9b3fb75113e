"""Rows of those who can log in."""

from __future__ import annotations

from dataclasses import dataclass

from slipway_common.database.pool import Connection, Database, database_errors
from slipway_common.database.queries import load_queries

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


class PrincipalStore:
    def __init__(self, database: Database) -> None:
        self._pool = database.pool

    async def find(self, name: str) -> Principal | None:
        if "\x00" in name:
            return None
        with database_errors():
            row = await self._pool.fetchrow(_sql.find_principal, name)
        return Principal(**row) if row else None

    async def any(self) -> bool:
        return bool(await self._pool.fetchval(_sql.any_principal))

    async def insert_first_admin(self, name: str, password_hash: str) -> bool:
        """Create the first account; False if there is one already."""
        return await self._pool.fetchval(_sql.insert_first_admin, name, password_hash) is not None


async def set_password(connection: Connection, name: str, password_hash: str) -> bool:
    """Change a password; every remembered login with the old one ends. False if there is no such account."""
    return await connection.fetchval(_sql.set_password, name, password_hash) is not None
