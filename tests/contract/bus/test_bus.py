"""The contract of the event bus, kept by both of its implementations.

Real PostgreSQL, real Kafka, real processes that are really killed. What is checked is the trace of effects: every event
of every stream once, in the order of its commit.
"""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Sequence
from datetime import timedelta

import asyncpg
import pytest

from slipway_common.errors import Unavailable
from slipway_common.events import positions
from slipway_common.events.event import Event, Origin, repository_stream
from slipway_common.events.retention import trim
from tests.contract.bus.transports import Transport, Worker
from tests.contract.bus.world import Recorder, World, fact, wait_until

AGES_AGO = timedelta(0)


def fail_at(stream: int, seq: int, error: Exception | None = None):  # type: ignore[no-untyped-def]
    def trap(events: Sequence[Event]) -> None:
        if any(event.stream == repository_stream(stream) and event.seq == seq for event in events):
            raise error or ValueError(f"event {seq} is poison")

    return trap


# -- order, gaps, once ------------------------------------------------------------------------------------------------


async def test_events_of_concurrent_writers_arrive_once_and_in_the_order_of_their_stream(
    world: World, transport: Transport
) -> None:
    async def write(number: int) -> None:
        for turn in range(15):
            await world.append(turn % 4 + 1, random.choice([1, 2, 3]))

    async with transport.running(world.pool, [Recorder(world)]):
        await asyncio.gather(*(write(number) for number in range(6)))
        await world.wait_for_everything()
    await world.assert_each_once_in_order()


async def test_seq_has_no_gaps_where_writers_roll_back(world: World, transport: Transport) -> None:
    class ChangedMind(Exception):
        pass

    async def write(number: int) -> None:
        for turn in range(20):
            try:
                async with world.pool.acquire() as connection, connection.transaction():
                    await world.log.append(connection, "repository/1", [fact()], Origin(None, None))
                    if (turn + number) % 3 == 0:
                        raise ChangedMind
            except ChangedMind:
                continue

    async with transport.running(world.pool, [Recorder(world)]):
        await asyncio.gather(*(write(number) for number in range(4)))
        await world.wait_for_everything()
    seqs = [event.seq for event in await world.log.read(world.pool, "repository/1", after=0, limit=1000)]
    assert seqs == list(range(1, await world.log.head(world.pool, "repository/1") + 1))
    await world.assert_each_once_in_order()


async def test_two_consumers_each_get_everything(world: World, transport: Transport) -> None:
    async with transport.running(world.pool, [Recorder(world, name="one"), Recorder(world, name="two")]):
        await world.append(1, 5)
        await world.append(2, 5)
        for name in ("one", "two"):
            await world.wait_for_everything(name)
            await world.assert_each_once_in_order(name)


async def test_a_consumer_goes_on_where_it_stopped(world: World, transport: Transport) -> None:
    for _ in range(3):
        await world.append(1, 4)
        recorder = Recorder(world)
        async with transport.running(world.pool, [recorder]):
            await world.wait_for_everything()
    await world.assert_each_once_in_order()
    assert [seq for batch in recorder.batches for seq in batch] == [9, 10, 11, 12]


@pytest.mark.parametrize("moment", ["prepared", "applied", "committed"])
async def test_effects_happen_once_when_the_process_is_killed(world: World, transport: Transport, moment: str) -> None:
    if moment == "committed" and transport.name == "embedded":
        pytest.skip("the embedded bus keeps no offsets beside the positions")
    for stream in (1, 2, 3):
        await world.append(stream, 12)
    for death in (1, 1, 1) if moment == "committed" else (1, 2, 4):
        worker = Worker(world.dsn, transport, die=moment, die_at=death)
        assert await asyncio.to_thread(worker.wait) == -signal.SIGKILL
    async with transport.running(world.pool, [Recorder(world)]):
        await world.wait_for_everything()
        await world.append(1)
        await world.wait_for_everything()
    await world.assert_each_once_in_order()


async def test_two_processes_with_the_same_consumer_make_each_effect_once(world: World, transport: Transport) -> None:
    workers = [Worker(world.dsn, transport) for _ in range(2)]
    try:
        for turn in range(60):
            await world.append(turn % 6 + 1, 2)
            await asyncio.sleep(0.02)
        await world.wait_for_everything(timeout_s=60)
    finally:
        for worker in workers:
            worker.end()
    await world.assert_each_once_in_order()


# -- trouble ----------------------------------------------------------------------------------------------------------


async def test_poison_parks_its_stream_alone_and_only_for_its_consumer(world: World, transport: Transport) -> None:
    sick = Recorder(world, name="sick", on_apply=fail_at(1, 3))
    well = Recorder(world, name="well")
    for stream in (1, 2):
        await world.append(stream, 5)
    async with transport.running(world.pool, [sick, well]):
        await world.wait_for_everything("well")
        await wait_until(lambda: _is_parked(world, "sick"))
        await world.append(1)
        await world.append(2)
        await wait_until(lambda: _has_effects(world, "sick", 2, 6))
    assert await world.effects("sick") == {"repository/1": [1, 2], "repository/2": [1, 2, 3, 4, 5, 6]}
    (parked,) = await positions.list_parked(world.pool)
    assert (parked.consumer, parked.stream, parked.seq, parked.waiting) == ("sick", "repository/1", 3, 4)
    assert parked.reason == "ValueError: event 3 is poison"
    assert parked.type == "slipway.tag.deleted.v1"


@pytest.mark.parametrize("way", ["retry", "skip"])
async def test_a_parked_stream_goes_on_after(world: World, transport: Transport, way: str) -> None:
    recorder = Recorder(world, on_prepare=fail_at(1, 2))
    async with transport.running(world.pool, [recorder]):
        await world.append(1, 4)
        await wait_until(lambda: _is_parked(world))
        if way == "retry":
            recorder.on_prepare = None
            await positions.retry_parked(world.pool, "recorder", "repository/1")
        else:
            await positions.skip_parked(world.pool, "recorder", "repository/1")
        await world.wait_for_everything()
    expected = [1, 2, 3, 4] if way == "retry" else [1, 3, 4]
    assert await world.effects() == {"repository/1": expected}
    assert await positions.list_parked(world.pool) == []


async def test_what_is_away_is_waited_for_and_parks_nothing(world: World, transport: Transport) -> None:
    recorder = Recorder(world, on_prepare=fail_at(1, 2, Unavailable("the gateway is away")))
    async with transport.running(world.pool, [recorder]):
        await world.append(1, 3)
        await world.append(2, 3)
        await wait_until(lambda: _has_effects(world, "recorder", 2, 3))
        await asyncio.sleep(1)
        assert await positions.list_parked(world.pool) == []
        recorder.on_prepare = None
        await world.wait_for_everything()
    await world.assert_each_once_in_order()


async def test_a_deadlock_is_tried_again(world: World, transport: Transport) -> None:
    recorder = Recorder(world)
    trouble = iter([asyncpg.DeadlockDetectedError("deadlock"), asyncpg.SerializationError("serialization")])

    def trap(_: Sequence[Event]) -> None:
        if error := next(trouble, None):
            raise error

    recorder.on_apply = trap
    async with transport.running(world.pool, [recorder]):
        await world.append(1, 3)
        await world.wait_for_everything()
    await world.assert_each_once_in_order()


async def test_the_bus_goes_on_when_its_connections_are_cut(world: World, transport: Transport) -> None:
    async with transport.running(world.pool, [Recorder(world)], compare_s=1):
        for _ in range(4):
            await world.append_patiently(1, 3)
            await _cut_all_other_connections(world)
            await world.append_patiently(2, 3)
            await asyncio.sleep(0.3)
        await world.wait_for_everything()
    await world.assert_each_once_in_order()


# -- positions by hand ------------------------------------------------------------------------------------------------


async def test_a_running_consumer_is_rewound(world: World, transport: Transport) -> None:
    async with transport.running(world.pool, [Recorder(world)]):
        await world.append(1, 6)
        await world.wait_for_everything()
        assert await positions.rewind(world.pool, "recorder", "repository/1", to=2) == 2
        await world.wait_for_everything()
        await world.append(1)
        await world.wait_for_everything()
    assert await world.effects() == {"repository/1": [1, 2, 3, 4, 5, 6, 3, 4, 5, 6, 7]}


async def test_rewinding_while_events_are_in_hand_neither_loses_nor_doubles(world: World, transport: Transport) -> None:
    recorder = Recorder(world, prepare_s=0.01)
    async with transport.running(world.pool, [recorder]):
        for _ in range(10):
            await world.append(1, 4)
            await positions.rewind(world.pool, "recorder", "repository/1", to=0)
            await asyncio.sleep(random.uniform(0, 0.05))
        await world.wait_for_everything()
    (seqs,) = (await world.effects()).values()
    # Each effect is the first of the stream again, or follows the one before.
    assert all(seq in (1, before + 1) for before, seq in zip([0, *seqs], seqs, strict=False))
    assert seqs[-40:] == list(range(1, 41))


async def test_a_consumer_from_now_gets_only_what_comes(world: World, transport: Transport) -> None:
    await world.append(1, 3)
    async with transport.running(world.pool, [Recorder(world, start="now")]):
        await world.append(1, 2)
        await world.append(2, 2)
        await world.wait_for_everything()
    assert await world.effects() == {"repository/1": [4, 5], "repository/2": [1, 2]}


async def test_a_consumer_from_a_snapshot_loads_each_stream_once_then_follows(
    world: World, transport: Transport
) -> None:
    for stream in (1, 2, 3):
        await world.append(stream, 3)
    recorder = Recorder(world, start="snapshot")
    async with transport.running(world.pool, [recorder]):
        await world.wait_for_everything()
        await world.append(1, 2)
        await world.append(4, 2)
        await world.wait_for_everything()
    await world.assert_each_once_in_order()
    assert sorted(recorder.reloads) == ["repository/1", "repository/2", "repository/3"]


async def test_a_snapshot_that_cannot_be_had_for_now_is_waited_for(world: World, transport: Transport) -> None:
    await world.append(1, 3)

    class Hesitant(Recorder):
        refusals = 2

        async def reload(self, stream: str) -> int:
            if self.refusals:
                self.refusals -= 1
                raise Unavailable("the gateway is away")
            return await super().reload(stream)

    async with transport.running(world.pool, [Hesitant(world, start="snapshot")]):
        await world.append(1)
        await world.wait_for_everything()
    await world.assert_each_once_in_order()


async def test_an_unregistered_consumer_is_forgotten(world: World, transport: Transport) -> None:
    await world.append(1, 3)
    async with transport.running(world.pool, [Recorder(world)]):
        await world.wait_for_everything()
    await positions.unregister(world.pool, "recorder")
    names = [each.name for each in await positions.list_consumers(world.pool)]
    assert "recorder" not in names
    assert await world.position(1) == 0


# -- retention --------------------------------------------------------------------------------------------------------


async def test_retention_waits_for_registered_consumers(world: World, transport: Transport) -> None:
    await world.append(1, 3)
    async with transport.running(world.pool, [Recorder(world)]):
        await world.wait_for_everything()
        await wait_until(lambda: _is_done(world, transport))
    await world.append(1, 2)
    await trim(world.pool, older_than=AGES_AGO, hard_age=timedelta(days=1))
    assert await world.log.first_seq(world.pool, "repository/1") == 4
    async with transport.running(world.pool, [Recorder(world)]):
        await world.wait_for_everything()
    assert await world.effects() == {"repository/1": [1, 2, 3, 4, 5]}


async def test_events_gone_from_the_log_are_jumped_over(world: World, transport: Transport) -> None:
    await positions.register(world.pool, "recorder", "now")
    await world.append(1, 3)
    assert await trim(world.pool, older_than=AGES_AGO, hard_age=AGES_AGO) == 3
    await world.append(1, 2)
    async with transport.running(world.pool, [Recorder(world, start="now")], compare_s=1):
        await world.wait_for_everything()
    assert await world.effects() == {"repository/1": [4, 5]}


async def test_events_gone_from_the_log_are_made_good_by_a_snapshot(world: World, transport: Transport) -> None:
    await positions.register(world.pool, "recorder", "snapshot")
    await world.append(1, 3)
    await world.append(2, 3)
    await trim(world.pool, older_than=AGES_AGO, hard_age=AGES_AGO)
    await world.append(1, 2)
    recorder = Recorder(world, start="snapshot")
    async with transport.running(world.pool, [recorder], compare_s=1):
        await world.wait_for_everything()
        await world.append(2, 1)
        await world.wait_for_everything()
    await world.assert_each_once_in_order()
    assert sorted(recorder.reloads) == ["repository/1", "repository/2"]


# -- epoch ------------------------------------------------------------------------------------------------------------


async def test_an_effect_prepared_before_a_new_epoch_is_not_made_blindly(world: World, transport: Transport) -> None:
    raised = asyncio.Event()
    seen: list[int] = []

    class Slow(Recorder):
        async def prepare(self, events: Sequence[Event]) -> str:
            if not raised.is_set():
                await self.world.log.raise_epoch(self.world.pool, reason="restored from a backup")
                raised.set()
            seen.append(len(events))
            return await super().prepare(events)

    async with transport.running(world.pool, [Slow(world)]):
        await world.append(1, 3)
        await world.wait_for_everything()
    await world.assert_each_once_in_order()
    assert len(seen) >= 2, "the batch of the epoch before was applied without looking again"


# -- helpers of this page ---------------------------------------------------------------------------------------------


async def _is_parked(world: World, consumer: str = "recorder") -> bool:
    return bool(await positions.list_parked(world.pool, consumer))


async def _has_effects(world: World, consumer: str, stream: int, count: int) -> bool:
    return len((await world.effects(consumer)).get(repository_stream(stream), [])) >= count


async def _is_done(world: World, transport: Transport) -> bool:
    names = ["recorder", "relay"] if transport.name == "kafka" else ["recorder"]
    return await positions.find_behind(world.pool, names) == []


async def _cut_all_other_connections(world: World) -> None:
    connection = await asyncpg.connect(world.dsn)
    try:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    finally:
        await connection.close()
