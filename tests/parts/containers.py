"""The same servers from their own container images, where a Docker engine has these images already.

testcontainers starts them; it is asked only for images that are there, so that no test run depends on a download.
Each class has the attributes and methods of its counterpart that runs as a process.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from typing import Any

from tests.parts.process import NotStarted, accepts_connections, free_port
from tests.parts.versions import CONTAINER_IMAGES

_START_TIMEOUT_S = 90


def image_for(server: str) -> str | None:
    """The image of `postgres`, `kafka` or `s3`, when a Docker engine can be reached and has it; else None."""
    import docker

    image = CONTAINER_IMAGES[server]
    try:
        with contextlib.closing(docker.from_env(timeout=5)) as client:
            client.images.get(image)
    except docker.errors.DockerException:
        return None
    return image


class _Container:
    """One container whose port is published on a port of 127.0.0.1 that stays over restarts."""

    def __init__(self, image: str, container_port: int) -> None:
        from testcontainers.core.container import DockerContainer

        self.port = free_port()
        self._container: Any = DockerContainer(image).with_bind_ports(container_port, self.port)

    def _start(self) -> None:
        container = self._container.get_wrapped_container()
        if container is None:
            self._container.start()
        else:
            container.start()
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not accepts_connections("127.0.0.1", self.port):
            if time.monotonic() > deadline:
                raise NotStarted(f"{self._container.image} took no connection within {_START_TIMEOUT_S} s")
            time.sleep(0.1)

    def stop(self) -> None:
        self._container.get_wrapped_container().stop()

    def kill(self) -> None:
        self._container.get_wrapped_container().kill()

    def pause(self) -> None:
        self._container.get_wrapped_container().pause()

    def resume(self) -> None:
        self._container.get_wrapped_container().unpause()

    def close(self) -> None:
        self._container.stop()


class ContainerPostgres(_Container):
    """PostgreSQL in a container."""

    def __init__(self, image: str) -> None:
        super().__init__(image, 5432)
        self._password = secrets.token_hex(12)
        self._container.with_env("POSTGRES_USER", "slipway").with_env("POSTGRES_DB", "slipway")
        self._container.with_env("POSTGRES_PASSWORD", self._password)

    @property
    def dsn(self) -> str:
        return f"postgresql://slipway:{self._password}@127.0.0.1:{self.port}/slipway"

    def start(self) -> ContainerPostgres:
        from testcontainers.core.waiting_utils import wait_for_logs

        self._start()
        # The image starts its server twice: once to make the database, once to serve.
        wait_for_logs(self._container, r"(?s)ready to accept connections.*ready to accept connections", timeout=60)
        return self


class ContainerKafka(_Container):
    """Kafka in a container, one KRaft node."""

    def __init__(self, image: str) -> None:
        super().__init__(image, 9092)
        for name, value in {
            "KAFKA_NODE_ID": "1",
            "KAFKA_PROCESS_ROLES": "broker,controller",
            "KAFKA_LISTENERS": "PLAINTEXT://:9092,CONTROLLER://:9093",
            "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://127.0.0.1:{self.port}",
            "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
            "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
            "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
            "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
            "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
            "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
        }.items():
            self._container.with_env(name, value)

    @property
    def bootstrap_servers(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> ContainerKafka:
        from testcontainers.core.waiting_utils import wait_for_logs

        self._start()
        wait_for_logs(self._container, "Kafka Server started", timeout=_START_TIMEOUT_S)
        return self


class ContainerS3(_Container):
    """MinIO in a container, with one bucket."""

    region = "us-east-1"

    def __init__(self, image: str, *, bucket: str = "slipway") -> None:
        super().__init__(image, 9000)
        self.bucket = bucket
        self.access_key = "slipway-" + secrets.token_hex(4)
        self.secret_key = secrets.token_hex(16)
        self._container.with_env("MINIO_ROOT_USER", self.access_key)
        self._container.with_env("MINIO_ROOT_PASSWORD", self.secret_key)
        # A folder at the root of MinIO's tree is a bucket.
        self._container.with_kwargs(entrypoint=["sh", "-c", f"mkdir -p /data/{bucket} && exec minio server /data"])

    @property
    def endpoint_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> ContainerS3:
        self._start()
        return self
