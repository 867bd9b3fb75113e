"""Fixtures that every kind of test shares: a PostgreSQL server for the run, a fresh database for each test."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from slipway_common.database.embedded import embedded_postgres

pytest_plugins = ["tests.parts.fixtures"]

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """One PostgreSQL 18 for the whole run; yields the DSN of its first database."""
    folder = Path(tempfile.mkdtemp(prefix="slipway-pg-", dir="/tmp"))
    folder.chmod(0o711)
    started = threading.Event()
    outcome: dict[str, object] = {}

    async def run() -> None:
        stop = asyncio.Event()
        outcome["loop"], outcome["stop"] = asyncio.get_running_loop(), stop
        try:
            async with embedded_postgres(folder / "postgres", socket_folder=folder / "run") as dsn:
                outcome["dsn"] = dsn
                started.set()
                await stop.wait()
        except BaseException as exc:
            outcome["error"] = exc
            started.set()
            raise

    thread = threading.Thread(target=lambda: asyncio.run(run()), name="postgres", daemon=True)
    thread.start()
    started.wait(90)
    if "dsn" not in outcome:
        raise RuntimeError(f"PostgreSQL did not start: {outcome.get('error')}")
    yield str(outcome["dsn"])
    outcome["loop"].call_soon_threadsafe(outcome["stop"].set)  # type: ignore[attr-defined]
    thread.join(30)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def database_url(postgres_server: str) -> AsyncIterator[str]:
    """The DSN of an empty database of this test's own."""
    name = f"test_{next(_numbers)}"
    admin = await asyncpg.connect(postgres_server)
    try:
        await admin.execute(f'CREATE DATABASE "{name}"')
        yield postgres_server.replace("/slipway?", f"/{name}?")
        await admin.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
    finally:
        await admin.close()
