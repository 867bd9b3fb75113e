"""The database of the Slipway on this machine, for commands that work on it directly."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import asyncpg

from slipway_common.errors import Unavailable
from slipway_common.launcher.parts import embedded_dsn
from slipway_common.launcher.service import load_installed_settings
from slipway_common.settings import CommonSettings


@contextlib.asynccontextmanager
async def connect() -> AsyncIterator[asyncpg.Pool]:
    """The database of the running Slipway, found by the same settings that it was started with."""
    loaded = load_installed_settings([CommonSettings])[0]
    url = loaded.database_url
    dsn = url.get_secret_value() if url is not None else embedded_dsn(loaded.data)
    try:
        pool = await asyncpg.create_pool(dsn, min_size=1, max_size=4, timeout=5)
    except (OSError, asyncpg.PostgresError, TimeoutError) as exc:
        raise Unavailable(
            f"no database to be reached ({exc}). Is Slipway running? Set SLIPWAY_DATA or SLIPWAY_DATABASE_URL as there."
        ) from exc
    try:
        yield pool
    finally:
        pool.terminate()
