"""pytest fixtures that start the real components, and the rule for what is missing: skip and say why, or fail in CI."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.parts.api import Api
from tests.parts.containers import ContainerKafka, ContainerPostgres, ContainerS3, image_for
from tests.parts.docker import DockerEngine
from tests.parts.install import is_installed
from tests.parts.kafka import KafkaBroker
from tests.parts.keycloak import KeycloakServer
from tests.parts.postgres import PostgresServer, find_binaries
from tests.parts.registry import DistributionRegistry
from tests.parts.s3 import S3Server
from tests.parts.slipway import SlipwayProcess, SlipwayStack

# A server that a test starts needs these parts, when it is not there as a container image.
_SERVER_PARTS = {"kafka": ("java", "kafka"), "s3": ("versitygw",), "postgres": ("postgres",)}


def require(*parts: str) -> None:
    """Skip the test when a part is not installed; fail it where SLIPWAY_TEST_REQUIRE names the part or says `all`."""
    missing = [part for part in parts if not _is_there(part)]
    if not missing:
        return
    reason = f"{', '.join(missing)} not installed (python -m tests.parts install {' '.join(missing)})"
    demanded = {name.strip() for name in os.environ.get("SLIPWAY_TEST_REQUIRE", "").split(",")}
    if "all" in demanded or demanded.intersection(missing):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def _is_there(part: str) -> bool:
    if part == "docker" and os.geteuid() != 0:
        return False  # the engine of the tests runs as root
    if part == "postgres":
        return find_binaries() is not None
    return is_installed(part)


def start_postgres() -> PostgresServer | ContainerPostgres:
    if (image := image_for("postgres")) is not None:
        return ContainerPostgres(image).start()
    require(*_SERVER_PARTS["postgres"])
    return PostgresServer().start()


def start_kafka() -> KafkaBroker | ContainerKafka:
    if (image := image_for("kafka")) is not None:
        return ContainerKafka(image).start()
    require(*_SERVER_PARTS["kafka"])
    return KafkaBroker().start()


def start_s3() -> S3Server | ContainerS3:
    if (image := image_for("s3")) is not None:
        return ContainerS3(image).start()
    require(*_SERVER_PARTS["s3"])
    return S3Server().start()


def start_stack(*, gateways: int = 1, env: dict[str, str] | None = None) -> SlipwayStack:
    """Slipway's services as processes of their own on servers of their own; close() ends them all."""
    servers: list[PostgresServer | KafkaBroker | S3Server | ContainerPostgres | ContainerKafka | ContainerS3] = []
    try:
        for start in (start_postgres, start_kafka, start_s3):
            servers.append(start())
        stack = SlipwayStack(*servers, env=env, gateways=gateways)  # type: ignore[arg-type]
        try:
            return stack.start()
        except BaseException:
            stack.close()
            raise
    except BaseException:
        for server in servers:
            server.close()
        raise


@pytest.fixture(scope="session")
def kafka() -> Iterator[KafkaBroker | ContainerKafka]:
    """A broker for the run. A test that stops or pauses it starts it again."""
    broker = start_kafka()
    yield broker
    broker.close()


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server | ContainerS3]:
    """An S3 server for the run, with one bucket: use keys of your own."""
    server = start_s3()
    yield server
    server.close()


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[DockerEngine]:
    """A Docker engine for the run; it takes plain http on 127.0.0.0/8."""
    require("docker")
    engine = DockerEngine().start()
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def keycloak() -> Iterator[KeycloakServer]:
    """An OpenID provider for the run: make a realm of your own in it."""
    require("java", "keycloak")
    server = KeycloakServer().start()
    yield server
    server.close()


@pytest.fixture(scope="module")
def distribution() -> Iterator[DistributionRegistry]:
    """CNCF distribution, to compare with."""
    require("registry")
    registry = DistributionRegistry().start()
    yield registry
    registry.close()


@pytest.fixture(scope="module")
def slipway() -> Iterator[SlipwayProcess]:
    """Slipway whole in one process, on files and the embedded database, with login."""
    process = SlipwayProcess().start()
    yield process
    process.close()


@pytest.fixture(scope="module")
def slipway_stack() -> Iterator[SlipwayStack]:
    """Slipway's services as processes on PostgreSQL, Kafka and S3, with login."""
    stack = start_stack()
    yield stack
    stack.close()


@pytest.fixture(scope="module")
def api(slipway: SlipwayProcess) -> Api:
    """A plain client of `slipway`, logged in as its administrator."""
    return Api(slipway.url, username=slipway.username, password=slipway.password)
