"""Rows of logins that browsers have."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from slipway_common.database.pool import Database, database_errors
from slipway_common.database.queries import load_queries

_sql = load_queries("slipway_gateway")


@dataclass(frozen=True, slots=True)
class LoginSession:
    principal_id: int
    name: str
    credential_version: int
    last_seen_at: datetime


class LoginSessionStore:
    def __init__(self, database: Database) -> None:
        self._pool = database.pool
        self._relaxed = database.relaxed

    async def insert(self, hash_: bytes, principal_id: int, *, life: timedelta, address: str, user_agent: str) -> None:
        with database_errors():
            await self._pool.execute(_sql.insert_login_session, hash_, principal_id, life, address, user_agent)

    async def find(self, hash_: bytes, *, idle: timedelta) -> LoginSession | None:
        """A session that holds: not over, not idle for too long, and of the present password."""
        with database_errors():
            row = await self._pool.fetchrow(_sql.find_login_session, hash_, idle)
        return LoginSession(**row) if row else None

    async def touch(self, hash_: bytes) -> None:
        with database_errors():
            await self._relaxed.execute(_sql.touch_login_session, hash_)

    async def delete(self, hash_: bytes) -> None:
        with database_errors():
            await self._pool.execute(_sql.delete_login_session, hash_)

    async def trim(self, idle: timedelta, *, sessions: int) -> None:
        """Delete what is over, and of each principal's sessions all but so many."""
        with database_errors():
            await self._pool.execute(_sql.trim_login_sessions, idle)
            await self._pool.execute(_sql.trim_many_login_sessions, sessions)
            await self._pool.execute(_sql.trim_login_attempts)

    async def keep_attempt(self, hash_: bytes, kind: str, sealed: bytes, *, life: timedelta) -> None:
        """Keep what has to be known when somebody comes back from a provider, or a command line asks for its token."""
        with database_errors():
            await self._pool.execute(_sql.insert_login_attempt, hash_, kind, sealed, life)

    async def take_attempt(self, hash_: bytes, kind: str) -> bytes | None:
        """What was kept, once; None if there is nothing, or not any more."""
        with database_errors():
            found: bytes | None = await self._pool.fetchval(_sql.take_login_attempt, hash_, kind)
        return found
