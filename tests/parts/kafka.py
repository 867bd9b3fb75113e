"""A real Kafka broker: one KRaft node, as a process."""

from __future__ import annotations

import base64
import secrets
import shutil
import signal
import subprocess
from pathlib import Path

from tests.parts.process import (
    NotStarted,
    Program,
    accepts_connections,
    free_port,
    remove_folder,
    temporary_folder,
)
from tests.parts.versions import jars_folder

_START_TIMEOUT_S = 60.0
_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={folder}/data
num.partitions=3
default.replication.factor=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=5
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
log.retention.check.interval.ms=1000
# A killed broker may come back at once, not after the ten seconds a controller waits by default.
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
"""


class KafkaBroker:
    """Start, pause, kill and start again; its data and its port stay."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or temporary_folder("kafka")
        self.port = free_port()
        self._controller_port = free_port()
        self._program: Program | None = None

    @property
    def bootstrap_servers(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> KafkaBroker:
        """Start the broker and wait until it takes connections; the first start formats its storage."""
        properties = self.folder / "server.properties"
        if not properties.exists():
            self._format(properties)
        self._program = Program(
            "Kafka",
            [*_java("-Xms128m", "-Xmx384m"), "kafka.Kafka", str(properties)],
            log=self.folder / "kafka.log",
            cwd=self.folder,
        )
        self._program.spawn()
        self._program.wait_until(lambda: accepts_connections("127.0.0.1", self.port), timeout_s=_START_TIMEOUT_S)
        return self

    def _format(self, properties: Path) -> None:
        properties.write_text(
            _PROPERTIES.format(port=self.port, controller_port=self._controller_port, folder=self.folder)
        )
        cluster_id = base64.urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=")
        if cluster_id.startswith("-"):  # it would be read as an option
            cluster_id = "A" + cluster_id[1:]
        result = subprocess.run(
            [*_java("-Xmx128m"), "kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(properties)],
            capture_output=True,
            text=True,
            check=False,
            timeout=_START_TIMEOUT_S,
        )
        if result.returncode != 0:
            properties.unlink()
            raise NotStarted(f"Kafka's storage could not be formatted:\n{result.stdout}{result.stderr}")

    def stop(self) -> None:
        """Stop in order: what was acknowledged is on disk, the port is free, start() continues."""
        if self._program is not None:
            self._program.terminate(timeout_s=30)

    def kill(self) -> None:
        if self._program is not None:
            self._program.kill()

    def pause(self) -> None:
        """Stand still with every connection open, as an overloaded broker does."""
        if self._program is not None:
            self._program.send(signal.SIGSTOP)

    def resume(self) -> None:
        if self._program is not None:
            self._program.send(signal.SIGCONT)

    def close(self) -> None:
        """Stop at once and remove the data."""
        self.resume()
        self.kill()
        remove_folder(self.folder)


def _java(*options: str) -> list[str]:
    java = shutil.which("java")
    if java is None:
        raise NotStarted("Kafka needs a Java runtime")
    quiet = ["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
    return [java, *options, *quiet, "-cp", f"{jars_folder('kafka')}/*"]
