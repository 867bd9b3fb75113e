"""Start a program for the length of a test, know when it answers, stop it, keep what it printed."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1
_STOP_TIMEOUT_S = 20.0
_TAIL_LINES = 40


class NotStarted(Exception):
    """A program did not come up; the message ends with the last lines it printed."""


# Below the ports that the kernel gives to clients (32768 and up): one of those may be taken between our asking and a server's
# listening. From a place by chance, so that two runs on one machine do not meet.
_ports = itertools.cycle(random.sample(range(11_000, 32_000), 21_000))


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody uses at this moment, and that this run has not handed out lately."""
    for port in _ports:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("the cycle of ports has no end")


def temporary_folder(name: str) -> Path:
    """A new folder under /tmp that other users may enter, for servers that refuse to run as root."""
    folder = Path(tempfile.mkdtemp(prefix=f"slipway-{name}-", dir="/tmp"))
    folder.chmod(0o711)
    return folder


def remove_folder(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def accepts_connections(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=0.5):
            return True
    except OSError:
        return False


class Program:
    """One program started by the tests.

    It dies with the tests (Linux tells it when its parent goes), it is found by its own process id and never by name.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
        user: tuple[int, int] | None = None,
        cwd: Path | None = None,
    ) -> None:
        """`environment` is the whole of it, not an addition; `user` is a (uid, gid) to become."""
        self.name = name
        self.log = log
        self._command = [str(part) for part in command]
        self._environment = dict(environment) if environment is not None else None
        self._user = user
        self._cwd = cwd
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} was never started"
        return self._process.pid

    def spawn(self) -> None:
        """Start the program; do not wait for it."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                cwd=self._cwd,
                start_new_session=True,
                preexec_fn=self._become,
            )

    def _become(self) -> None:
        if self._user is not None:
            os.setgroups([])
            os.setgid(self._user[1])
            os.setuid(self._user[0])
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def wait_until(self, ready: Callable[[], bool], *, timeout_s: float) -> None:
        """Return when `ready()` says so; raise NotStarted when the program ends first or time is up."""
        deadline = time.monotonic() + timeout_s
        while not ready():
            self.check_running()
            if time.monotonic() > deadline:
                raise NotStarted(f"{self.name} was not ready within {timeout_s:.0f} s:\n{self.tail()}")
            time.sleep(0.03)

    def check_running(self) -> None:
        """Raise NotStarted when the program has ended."""
        if self._process is not None and self._process.poll() is not None:
            raise NotStarted(f"{self.name} ended with code {self._process.returncode}:\n{self.tail()}")

    def send(self, signal_number: signal.Signals) -> None:
        if self.is_running():
            os.kill(self.pid, signal_number)

    def kill(self) -> None:
        """SIGKILL this one process, as a crash would; what it started is left to notice by itself."""
        self.send(signal.SIGKILL)
        if self._process is not None:
            self._process.wait(_STOP_TIMEOUT_S)

    def terminate(self, *, timeout_s: float = _STOP_TIMEOUT_S) -> int | None:
        """SIGTERM, then SIGKILL when that takes too long; return the exit code."""
        if self._process is None:
            return None
        self.send(signal.SIGTERM)
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            return self._process.returncode

    def tail(self, lines: int = _TAIL_LINES) -> str:
        """The last lines the program printed."""
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return "(it printed nothing)"
