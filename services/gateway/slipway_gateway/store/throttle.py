"""Rows that count failed logins."""

from __future__ import annotations

from datetime import datetime, timedelta

from slipway_common.database.pool import Database, database_errors
from slipway_common.database.queries import load_queries

_sql = load_queries("slipway_gateway")


class FailureStore:
    """Losing a few counts in a crash of PostgreSQL harms nobody: commits do not wait for the disk."""

    def __init__(self, database: Database) -> None:
        self._pool = database.relaxed

    async def blocked_until(self, keys: list[str]) -> datetime | None:
        """The latest end of a block on any of `keys`; None if there is none."""
        with database_errors():
            found: datetime | None = await self._pool.fetchval(_sql.find_block, keys)
        return found

    async def count(
        self, key: str, *, window: timedelta, forgiven: int, first_block: timedelta, longest_block: timedelta
    ) -> None:
        with database_errors():
            await self._pool.execute(_sql.count_failure, key, window, forgiven, first_block, longest_block)

    async def forget(self, key: str) -> None:
        with database_errors():
            await self._pool.execute(_sql.forget_failures, key)

    async def trim(self, window: timedelta) -> None:
        """Delete counts that mean nothing any more."""
        with database_errors():
            await self._pool.execute(_sql.trim_failures, window)
