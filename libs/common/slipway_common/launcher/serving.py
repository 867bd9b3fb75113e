"""`slipway serve` in one process: bring up what the services share, then the services, and take all down in order."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import structlog

from slipway_common.database.migrations import upgrade
from slipway_common.database.pool import open_database
from slipway_common.events.announcer import Announcer
from slipway_common.events.log import EventLog
from slipway_common.launcher.parts import open_bus, open_postgres, remove_runtime_folder, runtime_folder
from slipway_common.launcher.service import Runtime, Service, installed_services
from slipway_common.security.master_key import load_master_key
from slipway_common.security.service_tokens import ServiceTokens
from slipway_common.settings import CommonSettings, parse_listen
from slipway_common.web.health import Health
from slipway_common.web.peers import internal_socket
from slipway_common.web.server import bind

_log = structlog.get_logger()

# The migrations of what all services share, before their own.
_COMMON_MIGRATIONS = (("slipway_common.events.migrations", "log"), ("slipway_common.security.migrations", "keys"))
# A worker inherits its listening sockets from its supervisor: {name: file descriptor} in this variable.
INHERITED_SOCKETS = "SLIPWAY_WORKER_SOCKETS"
# Which of the workers a process is; the first gateway speaks for all.
WORKER_NAME = "SLIPWAY_WORKER_NAME"
FIRST_WORKER = "gateway-1"


async def serve_services(
    services: Sequence[Service], settings: Sequence[CommonSettings], announce: Callable[[str], None]
) -> None:
    """Run `services` in this process until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        health = Health()
        sockets = open_sockets(services, settings)
        dsn = await stack.enter_async_context(open_postgres(settings[0]))
        await migrate(dsn, services)
        await stack.enter_async_context(run_services(services, settings, dsn, sockets, health, announce))
        health.started = True
        if os.environ.get(WORKER_NAME, FIRST_WORKER) == FIRST_WORKER:
            announce(f"  Slipway is ready at {_address(services, settings)}\n")
        sockets_folder = str(runtime_folder(settings[0].data))
        _log.info("ready", services=[service.name for service in services], pid=os.getpid(), sockets=sockets_folder)
        await stop.wait()
        _log.info("stopping")
        health.stopping = True
    remove_sockets(services, settings)
    _log.info("stopped")


def _address(services: Sequence[Service], settings: Sequence[CommonSettings]) -> str:
    for service, own in zip(services, settings, strict=True):
        public = service.listens(own).get(f"{service.name}.public")
        if public is not None:
            scheme = "https" if getattr(own, "tls_certificate", None) else "http"
            return getattr(own, "public_url", None) or f"{scheme}://{_reachable(public)}"
    return ", ".join(service.name for service in services)


def _reachable(listen: str) -> str:
    """An address to click on, from one to listen on: every address includes this machine's own."""
    host, _, port = listen.rpartition(":")
    return f"localhost:{port}" if host in ("", "0.0.0.0", "[::]") else listen  # noqa: S104


async def migrate(dsn: str, services: Sequence[Service]) -> None:
    """Bring every schema that this process uses to its newest version."""
    for package, schema in (*_COMMON_MIGRATIONS, *(service.migrations for service in services)):
        await upgrade(dsn, package=package, schema=schema)


@contextlib.asynccontextmanager
async def run_services(
    services: Sequence[Service],
    settings: Sequence[CommonSettings],
    dsn: str,
    sockets: dict[str, socket.socket],
    health: Health,
    announce: Callable[[str], None],
) -> AsyncIterator[None]:
    """Open what the services share, then each of them; the last to open is the first to close."""
    common = settings[0]
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(open_database(dsn, pool_size=common.database_pool_size))
        box = load_master_key(common.master_key_path)
        tokens = ServiceTokens(database.pool, box)
        await tokens.load()
        announcer = Announcer(EventLog(), database.pool)
        await stack.enter_async_context(announcer.run())
        api = tuple(route for service in installed_services().values() for route in service.routes)
        # The others before the gateway: once it listens, what it forwards to is there.
        for service, own in sorted(zip(services, settings, strict=True), key=lambda pair: pair[0].scales):
            bus = open_bus(own, database.relaxed if service.repeatable else database.pool)
            announcer.add_local(bus.wake)
            runtime = Runtime(
                settings=own,
                database=database,
                bus=bus,
                announcer=announcer,
                box=box,
                tokens=tokens,
                health=health,
                runtime_folder=runtime_folder(own.data),
                sockets=sockets,
                api=api,
                announce=announce,
            )
            await stack.enter_async_context(service.run(runtime))
        yield


def open_sockets(services: Sequence[Service], settings: Sequence[CommonSettings]) -> dict[str, socket.socket]:
    """Every listening socket of the services: inherited, or bound now, so that mistakes show at once."""
    inherited: Mapping[str, int] = json.loads(os.environ.get(INHERITED_SOCKETS, "{}"))
    found = {name: socket.socket(fileno=descriptor) for name, descriptor in inherited.items()}
    for name, address in listening_addresses(services, settings).items():
        if name not in found:
            found[name] = bind(address)
    return found


def remove_sockets(services: Sequence[Service], settings: Sequence[CommonSettings]) -> None:
    """Take away what the listening leaves behind in the file system; a worker leaves that to its supervisor."""
    if INHERITED_SOCKETS in os.environ:
        return
    for address in listening_addresses(services, settings).values():
        where = parse_listen(address)
        if isinstance(where, Path):
            where.unlink(missing_ok=True)
    remove_runtime_folder(settings[0].data)


def listening_addresses(services: Sequence[Service], settings: Sequence[CommonSettings]) -> dict[str, str]:
    """Name -> `HOST:PORT` or `unix:/path`, of the services' public and internal sockets."""
    addresses: dict[str, str] = {}
    for service, own in zip(services, settings, strict=True):
        addresses |= service.listens(own)
        # One address can serve one service only; several in one process use their sockets.
        own_address = own.internal_listen if len(services) == 1 else None
        addresses[f"{service.name}.internal"] = (
            own_address or f"unix:{internal_socket(runtime_folder(own.data), service.name)}"
        )
    return addresses
