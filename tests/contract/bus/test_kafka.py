"""What Kafka adds to the contract: its own ways to lose, double, reorder, delay and redistribute messages."""

from __future__ import annotations

import asyncio
import dataclasses
import random
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from slipway_common.bus.embedded import EmbeddedBus
from slipway_common.bus.kafka import KafkaEndpoint, KafkaRelay
from slipway_common.events import positions
from slipway_common.events.event import Event, parse_cloudevent_json, to_cloudevent_json
from tests.contract.bus.transports import KafkaTransport, Worker, end_all
from tests.contract.bus.world import Recorder, World, wait_until
from tests.parts.kafka import KafkaBroker


@pytest.fixture
async def producer(kafka_transport: KafkaTransport) -> AsyncIterator[AIOKafkaProducer]:
    """A hand of the test's own in the topic."""
    await kafka_transport.endpoint.ensure_topic()
    client = AIOKafkaProducer(bootstrap_servers=kafka_transport.endpoint.bootstrap_servers)
    await client.start()
    yield client
    await client.stop()


async def publish(producer: AIOKafkaProducer, endpoint: KafkaEndpoint, events: Sequence[Event]) -> None:
    for event in events:
        await producer.send_and_wait(endpoint.topic, to_cloudevent_json(event), key=event.stream.encode())


async def read_topic(endpoint: KafkaEndpoint) -> list[Event]:
    """Every message that is in the topic now, partition by partition."""
    consumer = AIOKafkaConsumer(bootstrap_servers=endpoint.bootstrap_servers, auto_offset_reset="earliest")
    await consumer.start()
    try:
        partitions = [TopicPartition(endpoint.topic, number) for number in range(endpoint.partitions)]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        messages: list[Event] = []
        for partition in partitions:
            consumer.assign([partition])
            await consumer.seek_to_beginning(partition)
            while await consumer.position(partition) < ends[partition]:
                found = await consumer.getmany(partition, timeout_ms=500)
                messages += [parse_cloudevent_json(each.value) for each in found.get(partition, [])]
        return messages
    finally:
        await consumer.stop()


async def in_log(world: World, stream: int) -> list[Event]:
    return await world.log.read(world.pool, f"repository/{stream}", after=0, limit=10_000)


async def delete_all_records(endpoint: KafkaEndpoint) -> None:
    """What Kafka's retention does, at once."""
    admin = AIOKafkaAdminClient(bootstrap_servers=endpoint.bootstrap_servers)
    await admin.start()
    try:
        partitions = [TopicPartition(endpoint.topic, number) for number in range(endpoint.partitions)]
        await admin.delete_records({each: RecordsToDelete(before_offset=-1) for each in partitions})
    finally:
        await admin.close()


# -- the relay --------------------------------------------------------------------------------------------------------


async def test_the_relay_publishes_each_event_once_and_in_order(world: World, kafka_transport: KafkaTransport) -> None:
    for turn in range(30):
        await world.append(turn % 3 + 1, 3)
    async with kafka_transport.relaying(world.pool):
        await world.wait_for_everything("relay")
    for stream in (1, 2, 3):
        published = [
            event for event in await read_topic(kafka_transport.endpoint) if event.stream.endswith(f"/{stream}")
        ]
        assert published == await in_log(world, stream)


async def test_a_zombie_relay_doubles_messages_and_no_effect(world: World, kafka_transport: KafkaTransport) -> None:
    class Zombie(KafkaRelay):
        """Publishes, then sleeps before it moves the position, as one does that was stopped in between."""

        async def prepare(self, events: Sequence[Event]) -> None:
            await super().prepare(events)
            await asyncio.sleep(random.uniform(0, 0.2))

    zombie = Zombie(kafka_transport.endpoint, timeout_s=5)
    recorder = Recorder(world)
    async with (
        zombie,
        EmbeddedBus(world.pool, batch_size=3).run([zombie]),
        kafka_transport.running(world.pool, [recorder]),
    ):
        for turn in range(40):
            await world.append(turn % 3 + 1, 2)
            await asyncio.sleep(0.01)
        await world.wait_for_everything()
        await world.wait_for_everything("relay")
    await world.assert_each_once_in_order()
    assert len(await read_topic(kafka_transport.endpoint)) > sum((await world.heads()).values())


# -- messages that are not as they should be --------------------------------------------------------------------------


async def test_nothing_but_kafka_brings_events_between_comparisons(
    world: World, kafka_transport: KafkaTransport, producer: AIOKafkaProducer
) -> None:
    """Guards the tests of this page: were the log read all the time, they would prove nothing."""
    async with kafka_transport.without_relay().running(world.pool, [Recorder(world)]):
        await world.append(1, 3)
        await asyncio.sleep(1.5)
        assert await world.effects() == {}
        await publish(producer, kafka_transport.endpoint, await in_log(world, 1))
        await world.wait_for_everything()
    await world.assert_each_once_in_order()


async def test_doubled_and_reordered_messages_change_nothing(
    world: World, kafka_transport: KafkaTransport, producer: AIOKafkaProducer
) -> None:
    for stream in (1, 2, 3):
        await world.append(stream, 20)
    messages = [event for stream in (1, 2, 3) for event in await in_log(world, stream)] * 3
    random.shuffle(messages)
    async with kafka_transport.without_relay().running(world.pool, [Recorder(world)]):
        await publish(producer, kafka_transport.endpoint, messages)
        await world.wait_for_everything()
    await world.assert_each_once_in_order()


async def test_a_gap_is_read_from_the_log(
    world: World, kafka_transport: KafkaTransport, producer: AIOKafkaProducer
) -> None:
    await world.append(1, 9)
    async with kafka_transport.without_relay().running(world.pool, [Recorder(world)]):
        await publish(producer, kafka_transport.endpoint, (await in_log(world, 1))[-1:])
        await world.wait_for_everything()
    await world.assert_each_once_in_order()


async def test_messages_of_another_epoch_are_not_believed(
    world: World, kafka_transport: KafkaTransport, producer: AIOKafkaProducer
) -> None:
    await world.append(1, 2)
    true = await in_log(world, 1)
    false = [dataclasses.replace(event, epoch=7, id=UUID(int=seq)) for seq, event in enumerate(true)]
    async with kafka_transport.without_relay().running(world.pool, [Recorder(world)]):
        await publish(producer, kafka_transport.endpoint, false)
        await world.wait_for_everything()
    recorded = await world.pool.fetch("SELECT event_id FROM effects ORDER BY number")
    assert [row["event_id"] for row in recorded] == [event.id for event in true]


async def test_messages_that_the_log_does_not_have_are_not_believed(
    world: World, kafka_transport: KafkaTransport, producer: AIOKafkaProducer
) -> None:
    await world.append(1, 2)
    true = await in_log(world, 1)
    forged = [dataclasses.replace(true[-1], seq=3), dataclasses.replace(true[-1], stream="repository/99", seq=1)]
    async with kafka_transport.without_relay().running(world.pool, [Recorder(world)]):
        await publish(producer, kafka_transport.endpoint, [*true, *forged])
        await world.append(2)
        await publish(producer, kafka_transport.endpoint, await in_log(world, 2))
        await world.wait_for_everything()
    await world.assert_each_once_in_order()


@pytest.mark.parametrize("value", [b"", b"{", b"[]", b"\xff\xfe", b'{"specversion":"1.0"}', None])
async def test_an_unreadable_message_blocks_nothing_and_its_stream_is_read_from_the_log(
    world: World, kafka_transport: KafkaTransport, producer: AIOKafkaProducer, value: bytes | None
) -> None:
    await world.append(1, 2)
    await world.append(2, 2)
    topic = kafka_transport.endpoint.topic
    async with kafka_transport.without_relay().running(world.pool, [Recorder(world)]):
        for partition in range(3):
            for key in (b"\x00\xff", b"no/such/stream", b"repository/1"):
                await producer.send_and_wait(topic, value, key=key, partition=partition)
        await publish(producer, kafka_transport.endpoint, await in_log(world, 2))
        await world.wait_for_everything()
    await world.assert_each_once_in_order()


async def test_messages_lost_to_retention_are_read_from_the_log(world: World, kafka_transport: KafkaTransport) -> None:
    async with kafka_transport.running(world.pool, [Recorder(world)]):
        await world.append(1, 3)
        await world.wait_for_everything()
    async with kafka_transport.relaying(world.pool):
        await world.append(1, 3)
        await world.append(2, 3)
        await world.wait_for_everything("relay")
    await delete_all_records(kafka_transport.endpoint)
    async with kafka_transport.running(world.pool, [Recorder(world)], compare_s=0.5):
        await world.wait_for_everything()
        await world.append(1, 1)
        await world.wait_for_everything()
    await world.assert_each_once_in_order()


async def test_offsets_are_committed_only_after_the_effect(world: World, kafka_transport: KafkaTransport) -> None:
    held = asyncio.Event()

    class Held(Recorder):
        async def prepare(self, events: Sequence[Event]) -> str:
            await held.wait()
            return await super().prepare(events)

    async with kafka_transport.running(world.pool, [Held(world)]):
        await world.append(1, 3)
        await world.wait_for_everything("relay")
        await asyncio.sleep(1)
        assert await committed_total(kafka_transport.endpoint) == 0
        held.set()
        await world.wait_for_everything()

        async def is_committed() -> bool:
            return await committed_total(kafka_transport.endpoint) == 3

        await wait_until(is_committed)


async def test_a_parked_stream_does_not_hold_back_its_partition(world: World, kafka_transport: KafkaTransport) -> None:
    def trap(events: Sequence[Event]) -> None:
        if events[0].stream == "repository/1":
            raise ValueError("poison")

    async with kafka_transport.running(world.pool, [Recorder(world, on_apply=trap)]):
        for stream in range(1, 10):
            await world.append(stream, 2)

        async def is_all_committed() -> bool:
            return await committed_total(kafka_transport.endpoint) == 18

        await wait_until(is_all_committed)
    effects = await world.effects()
    assert sorted(effects) == [f"repository/{stream}" for stream in range(2, 10)]
    assert [each.stream for each in await positions.list_parked(world.pool)] == ["repository/1"]


async def committed_total(endpoint: KafkaEndpoint) -> int:
    admin = AIOKafkaAdminClient(bootstrap_servers=endpoint.bootstrap_servers)
    await admin.start()
    try:
        offsets = await admin.list_consumer_group_offsets(f"{endpoint.topic}.recorder")
        return sum(each.offset for each in offsets.values())
    finally:
        await admin.close()


# -- Kafka away, members coming and going -----------------------------------------------------------------------------


@asynccontextmanager
async def broker_stopped(broker: KafkaBroker) -> AsyncIterator[None]:
    await asyncio.to_thread(broker.stop)
    try:
        yield
    finally:
        broker.start()  # in this thread: the broker dies with the thread that started it


@pytest.mark.timeout(180)
async def test_kafka_may_go_away_and_come_back(
    world: World, kafka_transport: KafkaTransport, kafka: KafkaBroker
) -> None:
    async with kafka_transport.running(world.pool, [Recorder(world)]):
        await world.append(1, 3)
        await world.wait_for_everything()
        async with broker_stopped(kafka):
            for turn in range(40):
                await world.append(turn % 4 + 1, 2)
                await asyncio.sleep(0.3)
        await world.append(1, 1)
        await world.wait_for_everything(timeout_s=90)
        await world.append(2, 1)
        await world.wait_for_everything()
    await world.assert_each_once_in_order()


@pytest.mark.timeout(180)
async def test_everything_may_start_while_kafka_is_away(
    world: World, kafka_transport: KafkaTransport, kafka: KafkaBroker
) -> None:
    async with broker_stopped(kafka):
        running = kafka_transport.running(world.pool, [Recorder(world)])
        await running.__aenter__()
        await world.append(1, 3)
        await asyncio.sleep(3)
    await world.wait_for_everything(timeout_s=90)
    await running.__aexit__(None, None, None)
    await world.assert_each_once_in_order()


@pytest.mark.timeout(180)
async def test_events_flow_from_the_log_while_kafka_is_away(
    world: World, kafka_transport: KafkaTransport, kafka: KafkaBroker
) -> None:
    async with kafka_transport.running(world.pool, [Recorder(world)], compare_s=1):
        async with broker_stopped(kafka):
            await world.append(1, 5)
            await world.wait_for_everything(timeout_s=20)
        await world.append(1, 5)
        await world.wait_for_everything(timeout_s=60)
    await world.assert_each_once_in_order()


@pytest.mark.timeout(180)
async def test_a_broker_that_stands_still_loses_nothing(
    world: World, kafka_transport: KafkaTransport, kafka: KafkaBroker
) -> None:
    async with kafka_transport.running(world.pool, [Recorder(world)]):
        await world.append(1, 3)
        await world.wait_for_everything()
        kafka.pause()
        try:
            for turn in range(20):
                await world.append(turn % 3 + 1, 2)
                await asyncio.sleep(0.5)
            assert await world.position(1, "relay") == 3, "the relay went on without an acknowledgement"
        finally:
            kafka.resume()
        await world.wait_for_everything(timeout_s=90)
    await world.assert_each_once_in_order()


@pytest.mark.timeout(240)
async def test_members_that_come_go_and_freeze_make_each_effect_once(
    world: World, kafka_transport: KafkaTransport
) -> None:
    """A rebalance every second or two: members killed, ended in order, and frozen past their session."""
    workers = [Worker(world.dsn, kafka_transport.without_relay()) for _ in range(2)]
    frozen: list[Worker] = []

    async def write() -> None:
        for turn in range(300):
            await world.append(turn % 7 + 1, random.choice([1, 2]))
            await asyncio.sleep(0.05)

    async def disturb() -> None:
        for turn in range(10):
            await asyncio.sleep(1.5)
            victim = workers.pop(0)
            if turn % 3 == 2:
                victim.send(signal.SIGSTOP)
                frozen.append(victim)
            else:
                await asyncio.to_thread(victim.end, signal.SIGKILL if turn % 3 else signal.SIGTERM)
            workers.append(Worker(world.dsn, kafka_transport.without_relay()))
            if len(frozen) == 2:
                workers.append(frozen.pop(0))
                workers[-1].send(signal.SIGCONT)

    async with kafka_transport.relaying(world.pool):
        try:
            await asyncio.gather(write(), disturb())
            for worker in frozen:
                worker.send(signal.SIGCONT)
            await world.wait_for_everything(timeout_s=90)
        finally:
            end_all([*workers, *frozen])
    await world.assert_each_once_in_order()
    processes = await world.pool.fetchval("SELECT count(DISTINCT pid) FROM effects")
    assert processes > 2, "the work never changed hands"
