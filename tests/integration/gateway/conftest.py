"""Gateways to test against: one for all tests that only need their own repository, and ways to start others."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import asyncpg
import pytest

from tests.integration.gateway.client import Client, open_client
from tests.integration.gateway.running import RunningGateway, add_principal, make_folder

T = TypeVar("T")
_numbers = itertools.count(1)
OTHER_PASSWORD = "the-other's-password"


@pytest.fixture(scope="session")
def shared_gateway(postgres_server: str) -> Iterator[RunningGateway]:
    """A gateway with default settings for all tests that keep to a repository of their own.

    Besides `admin` it knows `bob`, an administrator too, and `eve`, who has no rights.
    """
    with gateway_of_its_own(postgres_server, "shared_gateway") as gateway:
        for name, is_admin in (("bob", True), ("eve", False)):
            _run(add_principal(gateway.database_url, name, password=OTHER_PASSWORD, is_admin=is_admin))
        yield gateway


@contextmanager
def gateway_of_its_own(postgres_server: str, database: str, **settings: Any) -> Iterator[RunningGateway]:
    """A gateway for several tests, with a database of this name."""
    _run(_execute(postgres_server, f"CREATE DATABASE {database}"))
    folder = make_folder()
    gateway = RunningGateway(postgres_server.replace("/slipway?", f"/{database}?"), folder, **settings).start()
    try:
        yield gateway
    finally:
        gateway.stop()
        shutil.rmtree(folder, ignore_errors=True)
        _run(_execute(postgres_server, f"DROP DATABASE IF EXISTS {database} WITH (FORCE)"))


@pytest.fixture
async def client(shared_gateway: RunningGateway) -> AsyncIterator[Client]:
    """The administrator at the shared gateway."""
    async with open_client(shared_gateway.url) as opened:
        yield opened


@pytest.fixture
async def guesser(shared_gateway: RunningGateway) -> AsyncIterator[Client]:
    """Somebody at an address of their own, whose wrong guesses slow down nobody else."""
    number = next(_numbers)
    address = f"127.1.{number // 250}.{number % 250 + 1}"
    async with open_client(shared_gateway.url, local_address=address) as opened:
        yield opened


@pytest.fixture
def eve(client: Client) -> Client:
    """Somebody with an account and without rights."""
    return client.with_basic("eve", OTHER_PASSWORD)


@pytest.fixture
def bob(client: Client) -> Client:
    """Another administrator."""
    return client.with_basic("bob", OTHER_PASSWORD)


@pytest.fixture
def repository() -> str:
    """A name that no other test uses."""
    return f"acme/test-{next(_numbers)}"


@pytest.fixture
def other_repository() -> str:
    return f"acme/other-{next(_numbers)}"


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run to completion in a thread: the test runner has a loop of its own here."""
    results: list[T] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            results.append(asyncio.run(work))
        except BaseException as exc:
            failures.append(exc)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]
