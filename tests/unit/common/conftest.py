"""What the tests of keys and tokens share: a database with the keys' schema, and a box."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import asyncpg
import pytest
from cryptography.fernet import Fernet

from slipway_common.database.migrations import upgrade
from slipway_common.security.master_key import SecretBox


@pytest.fixture
def box() -> SecretBox:
    return SecretBox([Fernet(Fernet.generate_key())])


@pytest.fixture(scope="session")
def keys_database(postgres_server: str) -> str:
    """The DSN of one database for all tests of keys, which empty its one table."""

    async def create() -> None:
        admin = await asyncpg.connect(postgres_server)
        await admin.execute("CREATE DATABASE keys_of_tests")
        await admin.close()
        await upgrade(dsn, package="slipway_common.security.migrations", schema="keys")

    dsn = postgres_server.replace("/slipway?", "/keys_of_tests?")
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, create()).result()
    return dsn


@pytest.fixture
async def pool(keys_database: str) -> AsyncIterator[asyncpg.Pool]:
    settings = {"synchronous_commit": "off"}
    made = await asyncpg.create_pool(keys_database, min_size=1, max_size=4, server_settings=settings)
    await made.execute("DELETE FROM keys.signing_keys")
    yield made
    made.terminate()
