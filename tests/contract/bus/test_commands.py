"""The commands for operators, against a real log."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import asyncpg
import pytest
from typer.testing import CliRunner, Result

from slipway_common.bus.embedded import EmbeddedBus
from slipway_common.events import positions
from slipway_common.events.cli import build_events_cli
from tests.contract.bus.world import Recorder, World


@pytest.fixture
def run(world: World):  # type: ignore[no-untyped-def]
    """Run `events …` as a user does: in a thread, for it has an event loop and connections of its own."""

    @asynccontextmanager
    async def connect() -> AsyncIterator[asyncpg.Pool]:
        async with asyncpg.create_pool(world.dsn, min_size=1, max_size=2) as pool:
            yield pool

    async def run(*arguments: str) -> Result:
        cli = build_events_cli(connect)
        return await asyncio.to_thread(CliRunner(env={"COLUMNS": "200"}).invoke, cli, arguments)

    return run


async def test_tail_prints_one_cloudevent_per_line(world: World, run) -> None:  # type: ignore[no-untyped-def]
    await world.append(1, 3)
    await world.append(2, 2)
    result = await run("tail", "--repository", "1", "--after", "1", "--no-follow", "--json")
    assert [json.loads(line)["seq"] for line in result.stdout.splitlines()] == [2, 3]
    result = await run("tail", "--after", "0", "--no-follow")
    assert len(result.stdout.splitlines()) == 5
    assert "repository/2#1 slipway.tag.deleted.v1 acme/hello ann" in result.stdout


async def test_consumers_are_listed_with_their_lag(world: World, run) -> None:  # type: ignore[no-untyped-def]
    await positions.register(world.pool, "recorder", "now")
    await world.append(1, 3)
    result = await run("consumers")
    assert "recorder" in result.stdout
    (row,) = await positions.list_consumers(world.pool)
    assert (row.behind, row.parked, row.reloading) == (3, 0, 0)


async def test_replay_rewinds_one_stream_or_all(world: World, run) -> None:  # type: ignore[no-untyped-def]
    await world.append(1, 3)
    await world.append(2, 3)
    async with EmbeddedBus(world.pool).run([Recorder(world)]):
        await world.wait_for_everything()
        moment = datetime.now(UTC)
        await world.append(2, 1)
        await world.wait_for_everything()
        assert (await run("replay", "recorder", "--repository", "1", "--to", "1")).exit_code == 0
        await world.wait_for_everything()
        assert await world.effects() == {"repository/1": [1, 2, 3, 2, 3], "repository/2": [1, 2, 3, 4]}
        assert (await run("replay", "recorder", "--since", moment.strftime("%Y-%m-%d %H:%M:%S"))).exit_code == 0
        await world.wait_for_everything()
    assert (await world.effects())["repository/2"][-1] == 4


async def test_replay_of_an_unknown_consumer_says_so(world: World, run) -> None:  # type: ignore[no-untyped-def]
    await world.append(1)
    result = await run("replay", "nobody", "--to", "0")
    assert result.exit_code == 1
    assert "nobody" in result.stderr
    assert (await run("replay", "nobody")).exit_code == 2


async def test_parked_streams_are_listed_and_skipped(world: World, run) -> None:  # type: ignore[no-untyped-def]
    await positions.register(world.pool, "recorder", "beginning")
    await world.append(1, 2)
    await positions.park(world.pool, "recorder", "repository/1", seq=1, reason="ValueError: poison")
    result = await run("parked", "list")
    assert all(word in result.stdout for word in ("recorder", "repository/1", "ValueError: poison"))
    assert (await run("parked", "skip", "recorder", "repository/1")).exit_code == 0
    assert await world.position(1) == 1
    assert (await run("parked", "retry", "recorder", "repository/1")).exit_code == 1


async def test_a_consumer_is_unregistered_and_the_epoch_raised(world: World, run) -> None:  # type: ignore[no-untyped-def]
    await positions.register(world.pool, "recorder", "now")
    assert (await run("unregister", "recorder")).exit_code == 0
    assert await positions.list_consumers(world.pool) == []
    assert (await run("unregister", "recorder")).exit_code == 1
    assert "epoch 2" in (await run("raise-epoch", "--reason", "restored")).stdout
    assert await world.log.epoch(world.pool) == 2


async def test_the_asyncapi_document_is_printed(world: World, run) -> None:  # type: ignore[no-untyped-def]
    assert json.loads((await run("asyncapi")).stdout)["asyncapi"] == "3.0.0"
