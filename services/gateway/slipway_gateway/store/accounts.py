"""Rows of users, as they are managed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg

from slipway_common.database.pool import Connection, Database, database_errors
from slipway_common.database.queries import load_queries

_sql = load_queries("slipway_gateway")


@dataclass(frozen=True, slots=True)
class User:
    id: int
    name: str
    display_name: str
    email: str
    is_admin: bool
    disabled: bool
    has_password: bool
    version: int
    created_at: datetime
    created_by: str | None
    last_login_at: datetime | None


class AccountStore:
    def __init__(self, database: Database) -> None:
        self._pool = database.pool

    async def find(self, name: str) -> User | None:
        with database_errors():
            row = await self._pool.fetchrow(_sql.find_user, name)
        return User(**row) if row else None

    async def find_principal(self, name: str, kind: str) -> tuple[int, bool] | None:
        """The id of a user or robot that may log in, and whether it is an administrator."""
        with database_errors():
            row = await self._pool.fetchrow(_sql.find_living_principal, name, kind)
        return (row["id"], row["is_admin"]) if row else None

    async def list_by_name(self, *, after: str, limit: int) -> list[User]:
        with database_errors():
            rows = await self._pool.fetch(_sql.list_users, after, limit)
        return [User(**row) for row in rows]

    async def teams_of(self, principal_id: int) -> list[str]:
        with database_errors():
            rows = await self._pool.fetch(_sql.teams_of, principal_id)
        return [row["name"] for row in rows]

    async def insert(
        self,
        connection: Connection,
        name: str,
        *,
        password_hash: str | None,
        values: Mapping[str, Any],
        actor: str | None,
    ) -> User | None:
        """None if there is an account of that name already."""
        row = await connection.fetchrow(
            _sql.insert_user, name, password_hash, values.get("display_name") or "", values.get("email") or "",
            bool(values.get("is_admin")), actor,
        )  # fmt: skip
        return User(**row) if row else None

    async def lock(self, connection: Connection, name: str) -> User | None:
        await connection.fetchval(_sql.lock_user, name)
        row = await connection.fetchrow(_sql.find_user, name)
        return User(**row) if row else None

    async def update(
        self, connection: Connection, user_id: int, *, version: int | None, values: Mapping[str, Any]
    ) -> User | None:
        """Set what is in `values`; None if the version is another one."""
        row = await connection.fetchrow(
            _sql.update_user, user_id, version, values.get("display_name"), values.get("email"),
            values.get("is_admin"), values.get("disabled"), values.get("password_hash"),
        )  # fmt: skip
        return User(**row) if row else None

    async def delete(self, connection: Connection, user_id: int) -> None:
        await connection.execute(_sql.delete_user, user_id)

    async def has_other_admin(self, connection: Connection, user_id: int) -> bool:
        """Whether somebody else is an administrator; nobody stops being one until the transaction ends."""
        rows: list[asyncpg.Record] = await connection.fetch(_sql.lock_admins)
        return any(row["id"] != user_id for row in rows)

    async def find_by_identity(self, connection: Connection, issuer: str, subject: str) -> User | None:
        """Who somebody at an OpenID provider is here."""
        row = await connection.fetchrow(_sql.find_user_by_identity, issuer, subject)
        return User(**row) if row else None

    async def link_identity(self, connection: Connection, user_id: int, issuer: str, subject: str) -> None:
        await connection.execute(_sql.link_identity, user_id, issuer, subject)
