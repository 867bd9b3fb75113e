"""`slipway serve --workers N`: several gateway processes on one address, everything else in one more.

The supervisor owns the embedded database and the listening sockets, starts the workers, and starts again those that die.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

import structlog

from slipway_common.launcher.parts import open_postgres, runtime_folder
from slipway_common.launcher.service import Service
from slipway_common.launcher.serving import INHERITED_SOCKETS, WORKER_NAME, migrate, open_sockets, remove_sockets
from slipway_common.settings import CommonSettings

_log = structlog.get_logger()
_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 10.0
# A worker that lived this long before it died was healthy: its next start does not wait.
_HEALTHY_S = 30.0


@dataclass(frozen=True, slots=True)
class Worker:
    """One child process: its name in the log, and the services it runs."""

    name: str
    services: tuple[str, ...]


def plan_workers(services: Sequence[Service], workers: int) -> list[Worker]:
    """N of each service that scales, one for all the others."""
    others = tuple(service.name for service in services if not service.scales)
    planned = [Worker("others", others)] if others else []
    for service in services:
        if service.scales:
            planned += [Worker(f"{service.name}-{number}", (service.name,)) for number in range(1, workers + 1)]
    return planned


async def supervise(
    services: Sequence[Service],
    settings: Sequence[CommonSettings],
    workers: int,
    announce: Callable[[str], None],
) -> None:
    """Run until SIGTERM or SIGINT; then stop the workers, the database last."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        sockets = open_sockets(services, settings)
        for listener in sockets.values():
            listener.set_inheritable(True)
        dsn = await stack.enter_async_context(open_postgres(settings[0]))
        await migrate(dsn, services)
        metrics = runtime_folder(settings[0].data) / "metrics"
        shutil.rmtree(metrics, ignore_errors=True)
        metrics.mkdir()
        environment = {
            **os.environ,
            "SLIPWAY_DATABASE_URL": dsn,
            "PROMETHEUS_MULTIPROC_DIR": str(metrics),
            INHERITED_SOCKETS: json.dumps({name: listener.fileno() for name, listener in sockets.items()}),
        }
        descriptors = tuple(listener.fileno() for listener in sockets.values())
        async with asyncio.TaskGroup() as group:
            for worker in plan_workers(services, workers):
                group.create_task(
                    _keep_running(worker, environment, descriptors, stop, settings[0].shutdown_s), name=worker.name
                )
        shutil.rmtree(metrics, ignore_errors=True)
    remove_sockets(services, settings)
    _log.info("stopped")


async def _keep_running(
    worker: Worker, environment: dict[str, str], descriptors: tuple[int, ...], stop: asyncio.Event, shutdown_s: float
) -> None:
    pause_s = _FIRST_PAUSE_S
    while not stop.is_set():
        started = asyncio.get_running_loop().time()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "slipway_common", "serve", *worker.services,
            env={**environment, WORKER_NAME: worker.name}, pass_fds=descriptors,
        )  # fmt: skip
        _log.info("worker_started", worker=worker.name, pid=process.pid)
        await _wait_for_either(process, stop)
        if stop.is_set():
            await _terminate(process, shutdown_s)
            return
        _log.error("worker_died", worker=worker.name, pid=process.pid, code=process.returncode)
        if asyncio.get_running_loop().time() - started > _HEALTHY_S:
            pause_s = _FIRST_PAUSE_S
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), pause_s)
        pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)


async def _wait_for_either(process: asyncio.subprocess.Process, stop: asyncio.Event) -> None:
    died = asyncio.create_task(process.wait())
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({died, stopped}, return_when=asyncio.FIRST_COMPLETED)
    for task in (died, stopped):
        task.cancel()


async def _terminate(process: asyncio.subprocess.Process, shutdown_s: float) -> None:
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), shutdown_s + 5)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
