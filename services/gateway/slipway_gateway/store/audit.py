"""Rows of what was refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from slipway_common.database.pool import Database, database_errors
from slipway_common.database.queries import load_queries

_sql = load_queries("slipway_gateway")


@dataclass(frozen=True, slots=True)
class Refusal:
    """One or more refusals of the same kind within a few seconds. `id` is 0 before it is written."""

    id: int
    first_at: datetime
    last_at: datetime
    count: int
    actor: str
    address: str
    action: str
    target: str
    reason: str
    request_id: str


class RefusalStore:
    def __init__(self, database: Database) -> None:
        self._pool = database.pool
        self._relaxed = database.relaxed

    async def insert(self, refusals: Sequence[Refusal]) -> None:
        rows = [
            (
                one.first_at, one.last_at, one.count, one.actor, one.address, one.action, one.target, one.reason,
                one.request_id,
            )
            for one in refusals
        ]  # fmt: skip
        with database_errors():
            await self._relaxed.executemany(_sql.insert_refusal, rows)

    async def trim(self, older_than: timedelta) -> None:
        with database_errors():
            await self._pool.execute(_sql.trim_refusals, older_than)

    async def search(
        self,
        *,
        actor: str | None,
        target: str | None,
        since: datetime | None,
        until: datetime | None,
        before: tuple[datetime, int] | None,
        limit: int,
    ) -> list[Refusal]:
        """The newest first; `before` continues a page."""
        at, number = before or (None, None)
        with database_errors():
            rows = await self._pool.fetch(_sql.search_refusals, actor, target, since, until, at, number, limit)
        return [Refusal(**row) for row in rows]
