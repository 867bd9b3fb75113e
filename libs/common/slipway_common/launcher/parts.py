"""The parts that settings choose between: database, event bus, runtime folder."""

from __future__ import annotations

import contextlib
import hashlib
import os
import ssl
import stat
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg

from slipway_common.bus.embedded import EmbeddedBus
from slipway_common.bus.port import EventBus
from slipway_common.database.embedded import embedded_postgres
from slipway_common.errors import Misconfigured
from slipway_common.settings import CommonSettings

if TYPE_CHECKING:
    from slipway_common.bus.kafka import KafkaEndpoint


def runtime_folder(data: Path) -> Path:
    """A private folder with a short path for sockets, one for each data folder. Socket paths are limited to 108 bytes.

    Raises Misconfigured if somebody else made it.
    """
    name = f"slipway-{hashlib.sha256(str(data.resolve()).encode()).hexdigest()[:10]}"
    if os.geteuid() == 0 and os.access("/run", os.W_OK):
        folder = Path("/run") / name
    elif os.environ.get("XDG_RUNTIME_DIR") and os.access(os.environ["XDG_RUNTIME_DIR"], os.W_OK):
        folder = Path(os.environ["XDG_RUNTIME_DIR"]) / name
    else:
        folder = Path(tempfile.gettempdir()) / f"{name}-{os.geteuid()}"
    folder.mkdir(mode=0o711, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise Misconfigured(f"{folder} belongs to somebody else: remove it, or choose another data folder")
    folder.chmod(0o711)  # the embedded database may run as another user, and has a folder of its own in here
    return folder


def remove_runtime_folder(data: Path) -> None:
    """Take away the folder, unless another process has something in it."""
    folder = runtime_folder(data)
    for path in (folder / "pg", folder):
        with contextlib.suppress(OSError):
            path.rmdir()


def embedded_dsn(data: Path) -> str:
    """Where the embedded PostgreSQL of a data folder listens while Slipway runs."""
    return f"postgresql:///slipway?host={runtime_folder(data) / 'pg'}&user=slipway"


@contextlib.asynccontextmanager
async def open_postgres(settings: CommonSettings) -> AsyncIterator[str]:
    """The DSN to use: the operator's, or that of an embedded server which lives as long as the context."""
    if settings.database_url is not None:
        yield settings.database_url.get_secret_value()
        return
    settings.data.mkdir(parents=True, exist_ok=True)
    folder = runtime_folder(settings.data) / "pg"
    async with embedded_postgres(settings.data / "postgres", socket_folder=folder) as dsn:
        yield dsn


def open_bus(settings: CommonSettings, pool: asyncpg.Pool) -> EventBus:
    """How consumers of this process get their events."""
    if settings.bus == "embedded":
        return EmbeddedBus(pool)
    from slipway_common.bus.kafka import KafkaBus

    return KafkaBus(pool, kafka_endpoint(settings))


def kafka_endpoint(settings: CommonSettings) -> KafkaEndpoint:
    from slipway_common.bus.kafka import KafkaEndpoint

    return KafkaEndpoint(
        bootstrap_servers=settings.kafka_bootstrap_servers,
        topic=settings.kafka_topic,
        partitions=settings.kafka_partitions,
        replication_factor=settings.kafka_replication,
        security=_kafka_security(settings),
    )


def _kafka_security(settings: CommonSettings) -> dict[str, Any]:
    security: dict[str, Any] = {"security_protocol": settings.kafka_security_protocol}
    if settings.kafka_security_protocol.endswith("SSL"):
        security["ssl_context"] = ssl.create_default_context(cafile=settings.kafka_ca_file)
    if settings.kafka_security_protocol.startswith("SASL"):
        security["sasl_mechanism"] = settings.kafka_sasl_mechanism
        security["sasl_plain_username"] = settings.kafka_username
        security["sasl_plain_password"] = (
            settings.kafka_password.get_secret_value() if settings.kafka_password else None
        )
    return security
