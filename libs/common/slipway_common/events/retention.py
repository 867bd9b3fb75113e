"""Let go of old events, once those who need them have them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import structlog

from slipway_common.events.log import SQL

if TYPE_CHECKING:
    import asyncpg

logger = structlog.get_logger(__name__)


async def trim(pool: asyncpg.Pool, *, older_than: timedelta, hard_age: timedelta) -> int:
    """Delete events older than `older_than` that every registered consumer has applied; return how many went.

    Events older than `hard_age` go in any case: a consumer that never came for them finds out, reloads or jumps, and
    says so. Streams that are closed and empty go as well.
    """
    now = datetime.now(UTC)
    deleted = 0
    for row in await pool.fetch(SQL.trimmable, now - older_than, now - hard_age):
        deleted += await pool.fetchval(SQL.trim_stream, row["stream"], row["cut"])
    await pool.execute(SQL.drop_closed_streams, now - older_than)
    if deleted:
        logger.info("events_trimmed", count=deleted)
    return deleted
