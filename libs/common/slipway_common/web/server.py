"""Listening and serving, and stopping without dropping anyone."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import structlog
from aiohttp import web

from slipway_common.errors import Misconfigured
from slipway_common.settings import parse_listen
from slipway_common.web.connection import PatientConnection
from slipway_common.web.repeats import RepeatedAnswers, RepeatingConnection

_log = structlog.get_logger()
_Handle = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
# None: the application answers.
Shortcut = Callable[[web.BaseRequest], Awaitable[web.StreamResponse] | None]
_BACKLOG = 1024
# How much of a body may lie unread in memory for one connection; twice that at most.
READ_BUFFER_BYTES = 256 * 1024
_MAX_HEADER_BYTES = 16 * 1024  # a bearer token with many scopes is long
_TLS_HANDSHAKE_S = 10.0
_DRAIN_POLL_S = 0.02
# How long a request that was cancelled at the end may take to notice.
_CANCELLED_S = 1.0


def bind(address: str) -> socket.socket:
    """Bind and listen on `HOST:PORT` or `unix:/path`. Raises Misconfigured with the reason."""
    where = parse_listen(address)
    try:
        return _bind_unix(where) if isinstance(where, Path) else _bind_tcp(*where)
    except OSError as exc:
        raise Misconfigured(f"cannot listen on {address}: {exc.strerror or exc}") from exc


def _bind_unix(path: Path) -> socket.socket:
    path.parent.mkdir(parents=True, exist_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    mask = os.umask(0o177)  # for this user only
    try:
        listener.bind(str(path))
    finally:
        os.umask(mask)
    listener.listen(_BACKLOG)
    return listener


def _bind_tcp(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6 and not host:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listener.bind(address)
    listener.listen(_BACKLOG)
    return listener


def tls_context(certificate: Path, key: Path | None) -> ssl.SSLContext:
    """A server context with the standard library's safe defaults; Misconfigured if the files do not fit."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as exc:
        raise Misconfigured(f"tls_certificate {certificate}, tls_key {key}: {exc}") from exc
    return context


@contextlib.asynccontextmanager
async def serve(
    app: web.Application,
    listener: socket.socket,
    *,
    shutdown_s: float,
    tls: ssl.SSLContext | None = None,
    answers: RepeatedAnswers | None = None,
    shortcut: Shortcut | None = None,
) -> AsyncIterator[None]:
    """Serve `app` on `listener` while the context is open; then stop accepting, let requests finish, close.

    With `answers`, requests that repeat an earlier one are answered from there. `shortcut` may answer a request instead of `app`:
    past its router, its middlewares and its signals.
    """
    options: dict[str, Any] = {
        "access_log": None,
        "keepalive_timeout": 75,
        "read_bufsize": READ_BUFFER_BYTES,
        "auto_decompress": False,  # a blob's bytes are the client's, whatever their Content-Encoding says
        "max_line_size": _MAX_HEADER_BYTES,
        "max_field_size": _MAX_HEADER_BYTES,
    }
    runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=_CANCELLED_S, **options)
    await runner.setup()
    loop = asyncio.get_running_loop()
    manager = runner.server
    if manager is None:
        raise RuntimeError("a runner that was set up has a server")
    if shortcut is not None:
        manager.request_handler = _either(shortcut, manager.request_handler)
    known = answers if answers is not None else RepeatedAnswers(max_bytes=0)

    def connection() -> RepeatingConnection:
        return RepeatingConnection(known, manager, loop=loop, **options)

    handshake_s = _TLS_HANDSHAKE_S if tls is not None else None
    server = await loop.create_server(
        connection, sock=listener, ssl=tls, backlog=_BACKLOG, ssl_handshake_timeout=handshake_s
    )
    try:
        yield
    finally:
        server.close()
        await asyncio.shield(_stop(runner, manager, shutdown_s))


def _either(shortcut: Shortcut, application: _Handle) -> _Handle:
    def handle(request: web.BaseRequest) -> Awaitable[web.StreamResponse]:
        return shortcut(request) or application(request)

    return handle


async def _stop(runner: web.AppRunner, manager: web.Server, shutdown_s: float) -> None:
    """Let requests under way finish, for so long; cancel those that do not."""
    deadline = time.monotonic() + shutdown_s
    while time.monotonic() < deadline:
        busy = [one for one in manager.connections if isinstance(one, PatientConnection) and one.drain()]
        if not busy:
            break
        await asyncio.sleep(_DRAIN_POLL_S)
    await runner.cleanup()
