"""Rows of answers that are given again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from slipway_common.database.pool import Database, database_errors
from slipway_common.database.queries import load_queries

_sql = load_queries("slipway_gateway")


@dataclass(frozen=True, slots=True)
class KnownRequest:
    """A request that came before; `sealed` is its answer, None while it is under way."""

    request_hash: bytes
    sealed: bytes | None


class IdempotencyStore:
    def __init__(self, database: Database) -> None:
        self._pool = database.pool

    async def begin(
        self, principal_id: int, key: str, request_hash: bytes, *, given_up_after: timedelta
    ) -> KnownRequest | None:
        """None if the key is new, and taken by this request from now on."""
        with database_errors():
            taken = await self._pool.fetchval(_sql.begin_idempotent, principal_id, key, request_hash, given_up_after)
            if taken is not None:
                return None
            row = await self._pool.fetchrow(_sql.find_idempotent, principal_id, key)
        return KnownRequest(**row) if row else None

    async def keep(self, principal_id: int, key: str, sealed: bytes) -> None:
        with database_errors():
            await self._pool.execute(_sql.keep_idempotent, principal_id, key, sealed)

    async def forget(self, principal_id: int, key: str) -> None:
        with database_errors():
            await self._pool.execute(_sql.forget_idempotent, principal_id, key)

    async def trim(self, older_than: timedelta) -> None:
        with database_errors():
            await self._pool.execute(_sql.trim_idempotent, older_than)
