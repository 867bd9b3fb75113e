"""A PostgreSQL server as an operator would bring it: a release older than the embedded one, over TCP, with a password.

The oldest supported release matters most here: the embedded server, which most tests run on, is the newest.
"""

from __future__ import annotations

import os
import pwd
import secrets
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

_START_TIMEOUT_S = 60.0


def find_binaries() -> Path | None:
    """The folder of the distribution's newest PostgreSQL server programs, or None."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


class PostgresServer:
    """A server on a free port with one empty database named slipway."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or temporary_folder("postgres")
        self.port = free_port()
        self._password = secrets.token_hex(12)
        self._program: Program | None = None

    @property
    def dsn(self) -> str:
        return f"postgresql://slipway:{self._password}@127.0.0.1:{self.port}/slipway"

    def start(self) -> PostgresServer:
        binaries = find_binaries()
        if binaries is None:
            raise NotStarted("there is no PostgreSQL server on this machine")
        user = _unprivileged_user()
        if not (self.folder / "data").exists():
            self._initialise(binaries, user)
        self._program = Program(
            "PostgreSQL",
            [
                str(binaries / "postgres"), "-D", str(self.folder / "data"), "-p", str(self.port),
                "-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={self.folder / 'run'}",
                "-c", "max_connections=200",
            ],
            log=self.folder / "postgres.log",
            user=user,
            cwd=Path("/"),
        )  # fmt: skip
        self._program.spawn()
        self._program.wait_until(lambda: accepts_connections("127.0.0.1", self.port), timeout_s=_START_TIMEOUT_S)
        self._program.wait_until(lambda: self._make_database(binaries), timeout_s=_START_TIMEOUT_S)
        return self

    def _initialise(self, binaries: Path, user: tuple[int, int] | None) -> None:
        password_file = self.folder / "password"
        password_file.write_text(self._password)
        (self.folder / "run").mkdir(mode=0o755)
        (self.folder / "data").mkdir(mode=0o700)
        if user is not None:
            for path in (password_file, self.folder / "run", self.folder / "data"):
                os.chown(path, *user)
        initdb = [
            str(binaries / "initdb"), "-D", str(self.folder / "data"), "-U", "slipway", "--auth=scram-sha-256",
            f"--pwfile={password_file}", "--encoding=UTF8", "--locale=C", "--data-checksums", "--no-instructions",
        ]  # fmt: skip
        result = subprocess.run(
            initdb,
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            user=user[0] if user else None,
            group=user[1] if user else None,
            extra_groups=[] if user else None,
        )
        if result.returncode != 0:
            raise NotStarted(f"PostgreSQL's data could not be created:\n{result.stderr}")

    def _make_database(self, binaries: Path) -> bool:
        """Create the database; False while the server is still coming up."""
        maintenance = self.dsn.removesuffix("/slipway") + "/postgres"
        created = subprocess.run(
            [str(binaries / "createdb"), f"--maintenance-db={maintenance}", "slipway"],
            capture_output=True,
            text=True,
            check=False,
        )
        return created.returncode == 0 or "already exists" in created.stderr

    def stop(self) -> None:
        """Stop in order and at once: its clients are cut off, what they committed is on disk."""
        if self._program is not None:
            self._program.send(signal.SIGINT)  # SIGTERM would wait for every client to leave
            self._program.terminate()

    def kill(self) -> None:
        if self._program is not None:
            self._program.kill()

    def close(self) -> None:
        self.kill()
        remove_folder(self.folder)


def _unprivileged_user() -> tuple[int, int] | None:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return entry.pw_uid, entry.pw_gid
    raise NotStarted("PostgreSQL refuses to run as root, and there is no user postgres or nobody")
