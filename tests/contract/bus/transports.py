"""The two ways by which events reach consumers, each brought up whole for a test."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import asyncpg

from slipway_common.bus.embedded import EmbeddedBus
from slipway_common.bus.kafka import KafkaBus, KafkaEndpoint, KafkaRelay
from slipway_common.bus.port import EventBus
from slipway_common.bus.watch import Pace
from slipway_common.events.consumer import Consumer

_ROOT = Path(__file__).resolve().parents[3]
# Comparisons are far apart: what arrives was brought by the bus's own means, unless a test asks for them.
_SELDOM_S = 3600.0


class Transport(Protocol):
    """How a test runs consumers; `compare_s` brings comparisons with the log back, in seconds."""

    name: str

    def running(self, pool: asyncpg.Pool, consumers: Sequence[Consumer], *, compare_s: float | None = None) -> Any: ...

    def describe(self) -> dict[str, Any]:
        """What another process needs to run the same transport."""


@dataclass(frozen=True)
class EmbeddedTransport:
    name: str = "embedded"

    @asynccontextmanager
    async def running(
        self, pool: asyncpg.Pool, consumers: Sequence[Consumer], *, compare_s: float | None = None
    ) -> AsyncIterator[EventBus]:
        pace = Pace(sweep_s=0.2, compare_s=compare_s or _SELDOM_S)
        bus = EmbeddedBus(pool, workers=4, batch_size=10, pace=pace)
        async with bus.run(consumers):
            yield bus

    def describe(self) -> dict[str, Any]:
        return {"name": self.name}


@dataclass(frozen=True)
class KafkaTransport:
    """A relay and a Kafka bus; the relay can be left out, for tests that publish by themselves."""

    endpoint: KafkaEndpoint
    relay: bool = True
    name: str = "kafka"

    @asynccontextmanager
    async def running(
        self, pool: asyncpg.Pool, consumers: Sequence[Consumer], *, compare_s: float | None = None
    ) -> AsyncIterator[EventBus]:
        async with AsyncExitStack() as stack:
            if self.relay:
                await stack.enter_async_context(self.relaying(pool))
            bus = KafkaBus(
                pool,
                self.endpoint,
                group_prefix=f"{self.endpoint.topic}.",
                batch_size=10,
                pace=Pace(sweep_s=None, compare_s=compare_s or _SELDOM_S, grace_s=1.0),
                consumer_options={
                    "session_timeout_ms": 6000,
                    "heartbeat_interval_ms": 300,
                    "metadata_max_age_ms": 1000,
                },
            )
            await stack.enter_async_context(bus.run(consumers))
            yield bus

    @asynccontextmanager
    async def relaying(self, pool: asyncpg.Pool) -> AsyncIterator[KafkaRelay]:
        bus = EmbeddedBus(pool, workers=4, batch_size=100, pace=Pace(sweep_s=0.2))
        async with KafkaRelay(self.endpoint, timeout_s=5) as relay, bus.run([relay]):
            yield relay

    def without_relay(self) -> KafkaTransport:
        return dataclasses.replace(self, relay=False)

    def describe(self) -> dict[str, Any]:
        where = {"bootstrap_servers": self.endpoint.bootstrap_servers, "topic": self.endpoint.topic}
        return {"name": self.name, "endpoint": {**where, "partitions": 3, "replication_factor": 1}, "relay": self.relay}


def transport_from(description: dict[str, Any]) -> EmbeddedTransport | KafkaTransport:
    if description["name"] == "embedded":
        return EmbeddedTransport()
    return KafkaTransport(endpoint=KafkaEndpoint(**description["endpoint"]), relay=description["relay"])


class Worker:
    """A process of its own that runs the recorder; it dies with its parent."""

    def __init__(self, dsn: str, transport: Transport, *, die: str | None = None, die_at: int = 0) -> None:
        order = {"dsn": dsn, "transport": transport.describe(), "die": die, "die_at": die_at, "parent": os.getpid()}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.contract.bus.worker", json.dumps(order)],
            cwd=_ROOT,
            stdin=subprocess.DEVNULL,
            stderr=None if os.environ.get("SLIPWAY_TEST_VERBOSE") else subprocess.DEVNULL,
            stdout=None if os.environ.get("SLIPWAY_TEST_VERBOSE") else subprocess.DEVNULL,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def is_running(self) -> bool:
        return self._process.poll() is None

    def send(self, number: signal.Signals) -> None:
        if self.is_running():
            self._process.send_signal(number)

    def end(self, number: signal.Signals = signal.SIGKILL) -> None:
        self.send(signal.SIGCONT)
        self.send(number)
        self._process.wait(20)

    def wait(self, timeout_s: float = 60) -> int:
        return self._process.wait(timeout_s)


def end_all(workers: Iterable[Worker]) -> None:
    for worker in workers:
        worker.end()
