"""What the embedded bus adds to the contract: it finds every event by itself, hint or no hint."""

from __future__ import annotations

import asyncio

import asyncpg

from slipway_common.bus.embedded import EmbeddedBus
from slipway_common.bus.watch import Pace
from slipway_common.events.event import NewEvent, Origin
from tests.contract.bus.world import Recorder, World, fact, wait_until

SWEEPS_ONLY = Pace(sweep_s=0.1, compare_s=3600)
COMPARISONS_ONLY = Pace(sweep_s=None, compare_s=0.3)


async def append_in(world: World, connection: asyncpg.Connection, stream: str, *facts: NewEvent) -> None:
    await world.log.append(connection, stream, facts or [fact()], Origin(None, None))


async def test_a_sweep_finds_an_event_whose_hint_never_came(world: World) -> None:
    async with EmbeddedBus(world.pool, pace=SWEEPS_ONLY).run([Recorder(world)]):
        await asyncio.sleep(0.3)
        await world.append(1, 2, hint=False)
        await world.wait_for_everything(timeout_s=5)
    await world.assert_each_once_in_order()


async def test_a_sweep_finds_what_a_long_transaction_commits_after_younger_ones(world: World) -> None:
    """Transactions that began before others and commit after them: nothing that only looks ahead would find them."""
    old = [await asyncpg.connect(world.dsn) for _ in range(3)]
    try:
        async with EmbeddedBus(world.pool, pace=SWEEPS_ONLY).run([Recorder(world)]):
            transactions = [connection.transaction() for connection in old]
            for number, (connection, transaction) in enumerate(zip(old, transactions, strict=True)):
                await transaction.start()
                await append_in(world, connection, f"repository/{number + 10}")
            for connection, transaction in zip(old, transactions, strict=True):
                for stream in (1, 2):
                    await world.append(stream, 2, hint=False)
                await world.wait_for_everything(timeout_s=5)
                await transaction.commit()
                await world.wait_for_everything(timeout_s=5)
                assert not connection.is_in_transaction()
        await world.assert_each_once_in_order()
        assert len(await world.heads()) == 5
    finally:
        for connection in old:
            await connection.close()


async def test_a_sweep_finds_what_was_written_under_a_savepoint(world: World) -> None:
    async with EmbeddedBus(world.pool, pace=SWEEPS_ONLY).run([Recorder(world)]):
        await asyncio.sleep(0.3)
        async with world.pool.acquire() as connection, connection.transaction():
            async with connection.transaction():
                await append_in(world, connection, "repository/1")
            await world.append(2, hint=False)
            await asyncio.sleep(0.3)
        await world.wait_for_everything(timeout_s=5)
    await world.assert_each_once_in_order()


async def test_a_hint_needs_no_sweep(world: World) -> None:
    async with EmbeddedBus(world.pool, pace=Pace(sweep_s=3600, compare_s=3600)).run([Recorder(world)]):
        await asyncio.sleep(0.3)
        await world.append(1, 2, hint=True)
        await world.wait_for_everything(timeout_s=5)
    await world.assert_each_once_in_order()


async def test_waking_from_within_the_process_needs_no_hint(world: World) -> None:
    bus = EmbeddedBus(world.pool, pace=Pace(sweep_s=3600, compare_s=3600))
    async with bus.run([Recorder(world)]):
        await asyncio.sleep(0.3)
        await world.append(1, 2, hint=False)
        bus.wake(["repository/1", "repository/404"])
        await world.wait_for_everything(timeout_s=5)
    await world.assert_each_once_in_order()


async def test_a_comparison_needs_neither_sweep_nor_hint(world: World) -> None:
    async with EmbeddedBus(world.pool, pace=COMPARISONS_ONLY).run([Recorder(world)]):
        await asyncio.sleep(0.1)
        await world.append(1, 2, hint=False)
        await world.wait_for_everything(timeout_s=5)
    await world.assert_each_once_in_order()


async def test_a_long_backlog_does_not_keep_other_streams_waiting(world: World) -> None:
    await world.append(1, 400, hint=False)
    recorder = Recorder(world, prepare_s=0.02)
    async with EmbeddedBus(world.pool, workers=1, batch_size=10, pace=SWEEPS_ONLY).run([recorder]):
        await asyncio.sleep(0.2)
        await world.append(2, 1, hint=False)

        async def is_other_done() -> bool:
            return "repository/2" in await world.effects()

        await wait_until(is_other_done, timeout_s=5)
        assert len((await world.effects())["repository/1"]) < 400
        await world.wait_for_everything()
    await world.assert_each_once_in_order()


async def test_events_restored_from_another_server_do_not_fill_every_sweep(world: World) -> None:
    await world.append(1, 3)
    await world.pool.execute("UPDATE log.events SET xid = '9000000000'")
    snapshot = await world.log.snapshot(world.pool)
    assert (await world.log.sweep(world.pool, snapshot))[1] == []
    assert await world.log.raise_epoch(world.pool, reason="restored") == 2
    assert await world.pool.fetchval("SELECT count(*) FROM log.events WHERE xid > pg_current_xact_id()") == 0
