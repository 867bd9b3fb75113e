"""The bus at scale: a relay publishes the log to Kafka, consumers are Kafka consumer groups.

Kafka carries, the log decides. A message lost, doubled, reordered, forged or of another history changes nothing:
consumers keep their positions in the log's database, read gaps from the log, and compare themselves with it now and
then.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import (
    ConsumerStoppedError,
    KafkaError,
    MessageSizeTooLargeError,
    TopicAlreadyExistsError,
    for_code,
)

from slipway_common.bus.following import background, following
from slipway_common.bus.schedule import Schedule
from slipway_common.bus.watch import Pace
from slipway_common.errors import Unavailable
from slipway_common.events import metrics, positions
from slipway_common.events.consumer import Consumer
from slipway_common.events.event import (
    CONTENT_TYPE,
    BadEnvelope,
    Event,
    is_stream,
    parse_cloudevent_json,
    to_cloudevent_json,
)
from slipway_common.events.positions import Start

if TYPE_CHECKING:
    import asyncpg

    from slipway_common.events.log import Connection

logger = structlog.get_logger(__name__)

_AWAY: Final = (KafkaError, ConsumerStoppedError, OSError, TimeoutError)
_RECONNECT_PAUSE_S: Final = 1.0
_STOP_TIMEOUT_S: Final = 5.0
_IDLE_POLL_MS: Final = 1000
_BUSY_POLL_MS: Final = 10
_MAX_MESSAGES: Final = 500
# The broker holds a request without news for so long, and with it the partitions resumed in the meantime.
_FETCH_WAIT_MS: Final = 50
_HEADERS: Final = [("content-type", CONTENT_TYPE.encode())]


@dataclass(frozen=True, slots=True)
class KafkaEndpoint:
    """Where events go. The topic is made when it is missing; an existing one is left as it is.

    `security` holds further arguments of aiokafka's clients, such as security_protocol, ssl_context, sasl_mechanism.
    """

    bootstrap_servers: str
    topic: str = "slipway.events"
    partitions: int = 12
    replication_factor: int = 3
    topic_config: Mapping[str, str] = field(default_factory=dict)
    security: Mapping[str, Any] = field(default_factory=dict)

    @property
    def client_arguments(self) -> dict[str, Any]:
        return {"bootstrap_servers": self.bootstrap_servers, **self.security}

    async def ensure_topic(self) -> None:
        """Create the topic unless it is there. Raises KafkaError."""
        admin = AIOKafkaAdminClient(**self.client_arguments)
        try:
            await admin.start()
            if self.topic in await admin.list_topics():
                return
            in_sync = str(max(1, self.replication_factor - 1))
            config = {"min.insync.replicas": in_sync, **self.topic_config}
            new = NewTopic(self.topic, self.partitions, self.replication_factor, topic_configs=config)
            answer = await admin.create_topics([new])
            _raise_topic_error(answer.topic_errors[0])
        finally:
            await admin.close()


def _raise_topic_error(answer: Sequence[Any]) -> None:
    error = for_code(answer[1])
    if answer[1] != 0 and error is not TopicAlreadyExistsError:
        raise error(f"topic {answer[0]}: {answer[2] if len(answer) > 2 else ''}")


class KafkaRelay:
    """A consumer of the log whose effect is that its events are in Kafka, acknowledged by all in-sync replicas.

    Run it on an EmbeddedBus. Two at once are harmless: what both publish is dropped by its seq.
    """

    name: str = "relay"
    start: Start = "beginning"

    def __init__(self, endpoint: KafkaEndpoint, *, timeout_s: float = 30.0, compression: str | None = "lz4") -> None:
        self._endpoint = endpoint
        self._timeout_s = timeout_s
        self._compression = compression
        self._producer: AIOKafkaProducer | None = None
        self._connecting = asyncio.Lock()
        self._discards: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> KafkaRelay:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._producer is not None:
            self._discard(self._producer)
        await asyncio.gather(*self._discards)

    async def prepare(self, events: Sequence[Event]) -> None:
        """Publish `events` in order. Raises Unavailable when Kafka does not acknowledge all of them in time."""
        started = time.perf_counter()
        producer: AIOKafkaProducer | None = None
        try:
            async with asyncio.timeout(self._timeout_s):
                producer = await self._connected()
                sent = [await self._send(producer, event) for event in events]
                await asyncio.gather(*sent)
        except MessageSizeTooLargeError:
            raise  # waiting would not make it smaller
        except _AWAY as exc:
            if producer is not None:
                self._discard(producer)
            raise Unavailable(f"Kafka did not acknowledge: {exc!r}"[:300]) from exc
        metrics.PUBLISH_SECONDS.observe(time.perf_counter() - started)

    async def apply(self, connection: Connection, events: Sequence[Event], prepared: None) -> None:
        """Nothing but the position; should a crash lose it, some events are published twice."""
        await positions.relax(connection)

    async def reload(self, stream: str) -> int:
        raise NotImplementedError("the relay begins with the oldest event there is")

    async def _send(self, producer: AIOKafkaProducer, event: Event) -> asyncio.Future[Any]:
        body, key = to_cloudevent_json(event), event.stream.encode()
        acknowledged: asyncio.Future[Any] = await producer.send(self._endpoint.topic, body, key=key, headers=_HEADERS)
        return acknowledged

    async def _connected(self) -> AIOKafkaProducer:
        async with self._connecting:
            if self._producer is None:
                await self._endpoint.ensure_topic()
                producer = AIOKafkaProducer(
                    **self._endpoint.client_arguments,
                    acks="all",
                    enable_idempotence=True,
                    compression_type=self._compression,
                    linger_ms=2,
                    max_batch_size=256 * 1024,
                    request_timeout_ms=int(self._timeout_s * 1000),
                )
                try:
                    await producer.start()
                except BaseException:
                    await _stop(producer)
                    raise
                self._producer = producer
            return self._producer

    def _discard(self, producer: AIOKafkaProducer) -> None:
        """Let go of a producer that failed: an idempotent one may be stuck with a hole in its sequence numbers."""
        if self._producer is producer:
            self._producer = None
            task = asyncio.create_task(_stop(producer), name="relay-producer-stop")
            self._discards.add(task)
            task.add_done_callback(self._discards.discard)


async def _stop(client: AIOKafkaProducer | AIOKafkaConsumer) -> None:
    """Stop a client that may have nobody to talk to."""
    with contextlib.suppress(*_AWAY):
        async with asyncio.timeout(_STOP_TIMEOUT_S):
            await client.stop()


class KafkaBus:
    """Each consumer is a Kafka consumer group; any number of processes may run the same consumers.

    Once at the start and each `pace.compare_s` the positions are compared with the log; events older than
    `pace.grace_s` that Kafka has not brought are read from the log. `consumer_options` are further arguments of
    aiokafka's consumer.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        endpoint: KafkaEndpoint,
        *,
        group_prefix: str = "slipway.",
        workers: int = 4,
        batch_size: int = 100,
        pace: Pace | None = None,
        consumer_options: Mapping[str, Any] | None = None,
    ) -> None:
        self._pool = pool
        self._endpoint = endpoint
        self._group_prefix = group_prefix
        self._workers = workers
        self._batch_size = batch_size
        self._pace = pace or Pace(sweep_s=None, grace_s=30)
        self._options = dict(consumer_options or {})

    @contextlib.asynccontextmanager
    async def run(self, consumers: Sequence[Consumer]) -> AsyncIterator[None]:
        async with following(
            self._pool, consumers, workers=self._workers, batch_size=self._batch_size, pace=self._pace
        ) as schedules:
            readers = {f"{name}-reader": self._reader(name, schedule).run() for name, schedule in schedules.items()}
            async with background(readers):
                yield

    def wake(self, streams: Iterable[str]) -> None:
        """Do nothing: Kafka is bringing the news."""

    def _reader(self, name: str, schedule: Schedule) -> _GroupMember:
        options = {"group_id": self._group_prefix + name, **self._options}
        return _GroupMember(name, schedule, self._endpoint, options)


class _GroupMember:
    """Reads the partitions that the group gives to this process, and commits offsets once the effects are committed.

    A partition whose messages are being worked on is paused, so that one that is held up holds up no other, and the
    member keeps polling, as the group demands.
    """

    def __init__(self, name: str, schedule: Schedule, endpoint: KafkaEndpoint, options: dict[str, Any]) -> None:
        self._name = name
        self._schedule = schedule
        self._endpoint = endpoint
        self._options = options

    async def run(self) -> None:
        """Read until cancelled, joining the group anew whenever Kafka comes back."""
        while True:
            try:
                await self._endpoint.ensure_topic()
                async with self._client() as client:
                    await self._read(client)
            except* _AWAY as group:
                logger.warning("kafka_reader_interrupted", consumer=self._name, error=repr(group.exceptions[0])[:300])
            await asyncio.sleep(_RECONNECT_PAUSE_S)

    @contextlib.asynccontextmanager
    async def _client(self) -> AsyncIterator[AIOKafkaConsumer]:
        client = AIOKafkaConsumer(
            self._endpoint.topic,
            **self._endpoint.client_arguments,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            **{"fetch_max_wait_ms": _FETCH_WAIT_MS, **self._options},
        )
        try:
            await client.start()
            yield client
        finally:
            await _stop(client)

    async def _read(self, client: AIOKafkaConsumer) -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                # A call that waits does not notice a partition resumed meanwhile, so it may only wait long while none is.
                wait_ms = _BUSY_POLL_MS if client.paused() else _IDLE_POLL_MS
                for partition, messages in (
                    await client.getmany(timeout_ms=wait_ms, max_records=_MAX_MESSAGES)
                ).items():
                    client.pause(partition)
                    group.create_task(self._handle(client, partition, messages), name=f"{self._name}-{partition}")

    async def _handle(
        self, client: AIOKafkaConsumer, partition: TopicPartition, messages: list[ConsumerRecord]
    ) -> None:
        carried = self._decode(messages)
        await asyncio.gather(*(self._schedule.offer(stream, events) for stream, events in carried.items()))
        try:
            await client.commit({partition: messages[-1].offset + 1})
        except KafkaError as exc:
            # Somebody else has the partition now; he gets these messages again and finds them applied.
            logger.info(
                "offset_not_committed", consumer=self._name, partition=partition.partition, error=repr(exc)[:300]
            )
        if partition in client.assignment():
            client.resume(partition)

    def _decode(self, messages: Iterable[ConsumerRecord]) -> dict[str, list[Event]]:
        """Return the events by stream; an empty list says that the log must be read for it."""
        carried: dict[str, list[Event]] = {}
        unreadable: dict[str, list[Event]] = {}
        for message in messages:
            try:
                event = parse_cloudevent_json(message.value or b"")
            except BadEnvelope as exc:
                metrics.REFUSED.labels(self._name, "unreadable").inc()
                logger.error("carried_event_unreadable", consumer=self._name, offset=message.offset, error=str(exc))
                key = (message.key or b"").decode("ascii", errors="replace")
                if is_stream(key):
                    unreadable[key] = []
            else:
                carried.setdefault(event.stream, []).append(event)
        return carried | unreadable
