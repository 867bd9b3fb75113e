"""`/healthz` (the process lives) and `/readyz` (it can do its work now)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog
from aiohttp import web

Check = Callable[[], Awaitable[None]]
_CHECK_TIMEOUT_S = 2.0
_log = structlog.get_logger()


class Health:
    """The checks of a process. A process is ready while it is not stopping and every check passes."""

    def __init__(self) -> None:
        self._checks: dict[str, Check] = {}
        self.started = False
        self.stopping = False

    def add(self, name: str, check: Check) -> None:
        """Register a coroutine function that raises when a part is away."""
        self._checks[name] = check

    async def report(self) -> dict[str, str]:
        """Each part's state: `ok`, or `failing`. Reasons go to the log, not to whoever asks."""
        states = await asyncio.gather(*(self._run(name, check) for name, check in self._checks.items()))
        report = dict(zip(self._checks, states, strict=True))
        if not self.started:
            report["start"] = "starting"
        if self.stopping:
            report["stop"] = "stopping"
        return report

    async def _run(self, name: str, check: Check) -> str:
        try:
            async with asyncio.timeout(_CHECK_TIMEOUT_S):
                await check()
        except Exception as exc:
            _log.warning("readiness_check_failed", part=name, error=f"{type(exc).__name__}: {exc}")
            return "failing"
        return "ok"

    async def handle_live(self, _request: web.BaseRequest) -> web.Response:
        return web.json_response({"status": "ok"})

    async def handle_ready(self, _request: web.BaseRequest) -> web.Response:
        report = await self.report()
        ready = all(state == "ok" for state in report.values())
        return web.json_response(
            {"status": "ready" if ready else "not ready", "parts": report}, status=200 if ready else 503
        )
