"""A real gateway in this process: real PostgreSQL, real files, a real port; its own thread and event loop."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Self

import asyncpg
import uvloop
from argon2 import PasswordHasher

from slipway_common.launcher.service import Service, installed_services
from slipway_common.launcher.serving import migrate, open_sockets, run_services
from slipway_common.settings import load_settings
from slipway_common.web.health import Health
from slipway_gateway import passwords
from tests.parts.process import free_port

ADMIN = "admin"
PASSWORD = "the-admin's-password"
_START_TIMEOUT_S = 30.0
# Cheap on purpose: what is tested is who may do what, not how slow a guess is.
_hasher = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
passwords.PasswordHasher = lambda: _hasher  # type: ignore[assignment,misc]


class RunningGateway:
    """One gateway process's worth of Slipway, in a thread. Several may share a database and a folder."""

    def __init__(
        self,
        database_url: str,
        folder: Path,
        *,
        name: str = "one",
        services: tuple[str, ...] = ("gateway",),
        **settings: Any,
    ) -> None:
        self.database_url = database_url
        self.folder = folder
        self.port = free_port()
        self._services = [installed_services()[service] for service in services]
        self._values = {
            "data": folder / name,
            "storage_folder": folder / "objects",
            "master_key_file": folder / "master.key",
            "listen": f"127.0.0.1:{self.port}",
            "database_url": database_url,
            "database_pool_size": 4,
            "admin_password": PASSWORD,
            "shutdown_s": 5,
            **settings,
        }
        self.health = Health()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"gateway-{name}", daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def objects(self) -> Path:
        return Path(self._values["storage_folder"])

    def start(self) -> Self:
        (self.folder / "objects").mkdir(parents=True, exist_ok=True)
        Path(self._values["data"]).mkdir(exist_ok=True)
        self._thread.start()
        if not self._ready.wait(_START_TIMEOUT_S):
            raise RuntimeError("the gateway did not start in time")
        if self._failure is not None:
            raise self._failure
        return self

    def stop(self) -> None:
        if self._loop is not None and self._stop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(_START_TIMEOUT_S)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            try:
                runner.run(self._serve())
            except BaseException as exc:
                self._failure = exc
                self._ready.set()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        settings = load_settings(
            [service.settings for service in self._services],
            known=[service.settings for service in installed_services().values()],
            overrides=self._values,
            environ={},
        )
        await migrate(self.database_url, self._services)
        sockets = open_sockets(self._services, settings)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(
                run_services(self._services, settings, self.database_url, sockets, self.health, lambda text: None)
            )
            self.health.started = True
            self._ready.set()
            await self._stop.wait()
            self.health.stopping = True

    @property
    def service_names(self) -> list[str]:
        return [service.name for service in self._services]


def make_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="slipway-gateway-", dir="/tmp"))
    folder.chmod(0o711)
    return folder


@asynccontextmanager
async def running_gateway(
    database_url: str, *, folder: Path | None = None, **settings: Any
) -> AsyncIterator[RunningGateway]:
    """Start a gateway; stop it at the end, and remove its folder unless it was given."""
    own = folder or make_folder()
    gateway = RunningGateway(database_url, own, **settings)
    await asyncio.to_thread(gateway.start)
    try:
        yield gateway
    finally:
        await asyncio.to_thread(gateway.stop)
        if folder is None:
            shutil.rmtree(own, ignore_errors=True)


async def add_principal(database_url: str, name: str, *, password: str, is_admin: bool = False) -> None:
    """Another account. To be made before a gateway hears its name: the row is written behind the gateway's back."""
    await run_sql(
        database_url,
        "INSERT INTO gateway.principals (kind, name, password_hash, is_admin) VALUES ('user', $1, $2, $3)",
        name,
        _hasher.hash(password),
        is_admin,
    )


async def add_public_repository(database_url: str, name: str) -> None:
    """A public repository, empty. To be made before a gateway hears its name."""
    await run_sql(
        database_url,
        "WITH space AS (INSERT INTO gateway.namespaces (name) VALUES ($2)"
        " ON CONFLICT (name) DO UPDATE SET name = EXCLUDED.name RETURNING id)"
        " INSERT INTO gateway.repositories (namespace_id, name, visibility) SELECT id, $1, 'public' FROM space",
        name,
        name.partition("/")[0],
    )


async def run_sql(database_url: str, statement: str, *arguments: Any) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(database_url)
    try:
        return list(await connection.fetch(statement, *arguments))
    finally:
        await connection.close()


def services() -> dict[str, Service]:
    return installed_services()
