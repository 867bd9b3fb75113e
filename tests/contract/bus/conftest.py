"""What the contract is held against."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import AsyncIterator

import pytest

from slipway_common.bus.kafka import KafkaEndpoint
from tests.contract.bus.transports import EmbeddedTransport, KafkaTransport, Transport
from tests.contract.bus.world import World, open_world

_numbers = itertools.count(1)


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    async with open_world(database_url) as opened:
        yield opened


@pytest.fixture(params=["embedded", "kafka"])
def transport(request: pytest.FixtureRequest) -> Transport:
    if request.param == "embedded":
        return EmbeddedTransport()
    return request.getfixturevalue("kafka_transport")


@pytest.fixture
def kafka_transport(request: pytest.FixtureRequest) -> KafkaTransport:
    """Kafka with a topic of the test's own; without a broker the test is skipped, or fails where it is required."""
    broker = request.getfixturevalue("kafka")
    topic = f"events-{os.getpid()}-{int(time.time())}-{next(_numbers)}"
    return KafkaTransport(KafkaEndpoint(broker.bootstrap_servers, topic=topic, partitions=3, replication_factor=1))
