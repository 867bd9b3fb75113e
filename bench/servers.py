"""Start and stop the registries under measurement, each on a free port with an empty data folder."""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bench import parts
from bench.processes import cpu_seconds, process_tree

_START_LIMIT_S = 60.0
_STOP_LIMIT_S = 40.0

# Distribution as its own example configuration has it (a descriptor cache in memory, 8 tag look-ups at once), with
# deletes allowed as Slipway allows them, and without access log, purging and health checks, which would only cost it
# time.
_PEER_CONFIG = """\
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage:
{cache}
  filesystem: {{rootdirectory: {data}}}
  delete: {{enabled: true}}
  tag: {{concurrencylimit: 8}}
  maintenance: {{uploadpurging: {{enabled: false}}}}
http: {{addr: "127.0.0.1:{port}", secret: bench}}
health: {{storagedriver: {{enabled: false}}}}
"""
_PEER_CACHE = "  cache: {blobdescriptor: inmemory}"


@dataclass(frozen=True, slots=True)
class Side:
    """Which registry stands on one side: `slipway`, `slipway:N` (N workers), `slipway-open` (login is off), `distribution`,
    `distribution-nocache`."""

    name: str
    label: str

    @property
    def is_slipway(self) -> bool:
        return self.name.startswith("slipway")


def parse_sides(text: str) -> list[Side]:
    """Read `A,B`; the same name twice measures the measurement itself."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        kind, _, workers = name.partition(":")
        known = kind in ("slipway", "slipway-open", "distribution", "distribution-nocache")
        if not known or (workers and (kind != "slipway" or not workers.isdigit())):
            raise ValueError(
                f"{name!r} is none of slipway, slipway:WORKERS, slipway-open, distribution, distribution-nocache"
            )
    if not names:
        raise ValueError("name at least one side")
    return [Side(name, name if names.index(name) == place else f"{name} (again)") for place, name in enumerate(names)]


@dataclass(slots=True)
class Server:
    """A running registry. `user` is None where it asks for no login."""

    side: Side
    process: subprocess.Popen[bytes]
    port: int
    folder: Path
    user: str | None = None
    password: str | None = None
    facts: dict[str, str] = field(default_factory=dict)

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def tree(self) -> set[int]:
        return process_tree(self.process.pid, self.folder)

    def cpu_s(self) -> float:
        return cpu_seconds(self.tree())


@contextlib.contextmanager
def running(side: Side, work_folder: Path, **environment: str) -> Iterator[Server]:
    """Start a registry, wait until it answers, and in the end stop it and remove its data. `environment`: settings."""
    folder = Path(tempfile.mkdtemp(prefix=f"bench-{side.name.partition(':')[0]}-", dir=work_folder))
    folder.chmod(0o711)  # an embedded PostgreSQL runs as another user below it
    server: Server | None = None
    try:
        server = _start(side, folder, environment)
        _wait_ready(server, "/readyz" if side.is_slipway else "/v2/")
        yield server
    finally:
        if server is not None:
            _stop(server)
        shutil.rmtree(folder, ignore_errors=True)


def _start(side: Side, folder: Path, environment: dict[str, str]) -> Server:
    port = _free_port()
    if not side.is_slipway:
        config = folder / "config.yml"
        cache = "" if side.name.endswith("nocache") else _PEER_CACHE
        config.write_text(_PEER_CONFIG.format(data=folder / "data", port=port, cache=cache))
        command = [str(parts.peer_binary()), "serve", str(config)]
        process = _spawn(command, folder, OTEL_TRACES_EXPORTER="none", **environment)
        return Server(side, process, port, folder)
    password = secrets.token_urlsafe(18)
    command = [sys.executable, "-m", "slipway_common", "serve"]
    command += ["--listen", f"127.0.0.1:{port}", "--data", str(folder / "data")]
    workers = side.name.partition(":")[2]
    if workers:
        command += ["--workers", workers]
    # No line per request, as the peer has none.
    environment = {"SLIPWAY_LOG_LEVEL": os.environ.get("SLIPWAY_LOG_LEVEL", "warning"), **environment}
    if side.name == "slipway-open":
        process = _spawn(command, folder, SLIPWAY_ANONYMOUS="everything", **environment)
        return Server(side, process, port, folder)
    process = _spawn(command, folder, SLIPWAY_ADMIN_PASSWORD=password, **environment)
    return Server(side, process, port, folder, user="admin", password=password)


def _spawn(command: list[str], folder: Path, **environment: str) -> subprocess.Popen[bytes]:
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **environment}, start_new_session=True
        )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_ready(server: Server, path: str) -> None:
    deadline = time.monotonic() + _START_LIMIT_S
    while time.monotonic() < deadline and server.process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(server.base + path, timeout=2) as answer:
            if answer.status == 200:
                return
        time.sleep(0.05)
    log = (server.folder / "log").read_text(errors="replace")[-2000:]
    state = (
        "did not become ready" if server.process.poll() is None else f"ended with status {server.process.returncode}"
    )
    raise RuntimeError(f"{server.side.label} {state} at its start; its log ends:\n{log}")


def _stop(server: Server) -> None:
    """Ask the server to stop; what is left of its processes after the limit is killed, one by one."""
    left = server.tree()
    if server.process.poll() is None:
        server.process.send_signal(signal.SIGTERM)
    try:
        server.process.wait(_STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        print(f"bench: {server.side.label} did not stop within {_STOP_LIMIT_S:.0f} s", file=sys.stderr)
    # A pid of the tree may have been given to someone else meanwhile: only those still in the tree are killed.
    for pid in left & server.tree() - {server.process.pid}:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if server.process.poll() is None:
        server.process.kill()
        server.process.wait()
