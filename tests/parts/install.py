"""Install the real components: Debian packages, Go programs, Java programs, each by its ordinary client.

Everything lands in one cache folder outside the tree, once for each version; a stamp file says which version is there.
A failed download is tried again, for registries do time out; a part that cannot be had is reported, and the tests that
need it say so.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.parts.versions import (
    PARTS,
    DebianPackages,
    GoProgram,
    MavenArchive,
    MavenJars,
    archive_folder,
    cache_folder,
    jars_folder,
    program_path,
)

_ATTEMPTS = 3
_PAUSE_S = 5.0
_GO_TIMEOUT_S = 1500.0
_MAVEN_TIMEOUT_S = 600.0
_APT_TIMEOUT_S = 900.0


class NotInstalled(Exception):
    """A part could not be installed here; the message says why."""


def is_installed(part: str) -> bool:
    described = PARTS[part]
    if isinstance(described, DebianPackages):
        return all(_find_program(program) for program in described.programs)
    if isinstance(described, GoProgram):
        return program_path(part).exists() and _read_stamp(part) == described.version
    if isinstance(described, MavenArchive):
        return _read_stamp(part) == described.version and archive_folder(part).is_dir()
    return _read_stamp(part) == described.version and any(jars_folder(part).glob("*.jar"))


def install(names: Sequence[str]) -> list[str]:
    """Install what is missing of `names`; return those that could not be installed."""
    missing = [name for name in names if not is_installed(name)]
    if not missing:
        return []
    failed = _install_debian([name for name in missing if isinstance(PARTS[name], DebianPackages)])
    for name in missing:
        described = PARTS[name]
        if isinstance(described, DebianPackages):
            continue
        started = time.monotonic()
        try:
            with _one_installer():
                if is_installed(name):
                    continue
                _say(f"{name} {described.version}: installing")
                if isinstance(described, GoProgram):
                    _install_go(name, described)
                elif isinstance(described, MavenArchive):
                    _install_archive(name, described)
                else:
                    _install_maven(name, described)
        except NotInstalled as exc:
            _say(f"{name}: NOT installed: {exc}")
            failed.append(name)
        else:
            _say(f"{name} {described.version}: installed in {time.monotonic() - started:.0f} s")
    return failed


def _install_debian(names: Sequence[str]) -> list[str]:
    packages = [package for name in names for package in _packages_of(name)]
    if not packages:
        return []
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        _say(f"{', '.join(names)}: NOT installed: that takes root and apt-get; install {' '.join(packages)} yourself")
        return list(names)
    _say(f"{' '.join(packages)}: installing with apt-get")
    # No service may start by itself: the tests start their own, on sockets and ports of their own.
    with _no_services_started():
        environment = {"DEBIAN_FRONTEND": "noninteractive"}
        options = ["-o", "DPkg::Lock::Timeout=300", "-o", "Acquire::Retries=3"]
        try:
            _run(["apt-get", "update", "-qq", *options], timeout_s=_APT_TIMEOUT_S, environment=environment)
            _run(
                ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *options, *packages],
                timeout_s=_APT_TIMEOUT_S,
                environment=environment,
            )
        except NotInstalled as exc:
            _say(f"apt-get: {exc}")
    return [name for name in names if not is_installed(name)]


def _packages_of(name: str) -> tuple[str, ...]:
    described = PARTS[name]
    assert isinstance(described, DebianPackages)
    return described.packages


@contextmanager
def _no_services_started() -> Iterator[None]:
    policy = Path("/usr/sbin/policy-rc.d")
    if policy.exists():
        yield
        return
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    try:
        yield
    finally:
        policy.unlink(missing_ok=True)


def _install_go(name: str, program: GoProgram) -> None:
    if shutil.which("go") is None:
        raise NotInstalled("there is no Go toolchain on this machine")
    with tempfile.TemporaryDirectory(prefix="build-", dir=cache_folder()) as folder:
        flags = f"{os.environ.get('GOFLAGS', '')} -trimpath -ldflags=-s".strip()
        environment = {"GOBIN": folder, "GOFLAGS": flags, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local"}
        _run(
            ["go", "install", f"{program.package}@{program.version}"],
            timeout_s=_GO_TIMEOUT_S,
            environment=environment,
        )
        target = program_path(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        (Path(folder) / (program.built_as or name)).replace(target)
    _write_stamp(name, program.version)


def _install_maven(name: str, jars: MavenJars) -> None:
    _require_maven()
    target = jars_folder(name)
    with tempfile.TemporaryDirectory(prefix="build-", dir=cache_folder()) as folder:
        (Path(folder) / "pom.xml").write_text(_make_pom(jars))
        _run(
            ["mvn", "-q", "-B", "-f", f"{folder}/pom.xml", "dependency:copy-dependencies",
             f"-DoutputDirectory={folder}/lib"],
            timeout_s=_MAVEN_TIMEOUT_S,
        )  # fmt: skip
        shutil.rmtree(target, ignore_errors=True)
        (Path(folder) / "lib").rename(target)
    _write_stamp(name, jars.version)


def _install_archive(name: str, archive: MavenArchive) -> None:
    _require_maven()
    target = archive_folder(name)
    with tempfile.TemporaryDirectory(prefix="build-", dir=cache_folder()) as folder:
        _run(
            ["mvn", "-q", "-B", "dependency:copy", f"-Dartifact={archive.artifact}", f"-DoutputDirectory={folder}/zip"],
            timeout_s=_MAVEN_TIMEOUT_S,
            cwd=Path(folder),
        )
        (packed,) = (Path(folder) / "zip").glob("*.zip")
        with zipfile.ZipFile(packed) as content:
            content.extractall(folder)
        unpacked = Path(folder) / target.name
        if archive.prepare:
            _run(archive.prepare, timeout_s=_MAVEN_TIMEOUT_S, cwd=unpacked)
        shutil.rmtree(target, ignore_errors=True)
        unpacked.rename(target)
    _write_stamp(name, archive.version)


def _require_maven() -> None:
    if shutil.which("mvn") is None:
        raise NotInstalled("there is no Maven on this machine")


def _make_pom(jars: MavenJars) -> str:
    dependencies = "".join(
        "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>".format(
            *artifact.split(":")
        )
        for artifact in jars.artifacts
    )
    return (
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        "<groupId>slipway.tests</groupId><artifactId>parts</artifactId><version>1</version>"
        f"<dependencies>{dependencies}</dependencies></project>\n"
    )


def _run(
    command: Sequence[str],
    *,
    timeout_s: float,
    environment: dict[str, str] | None = None,
    cwd: Path | None = None,
) -> None:
    """Run a package client quietly; a failure or a time-out is tried again, then raised with its last lines."""
    reason = ""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            result = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=timeout_s,
                check=False,
                env={**os.environ, **(environment or {})},
                cwd=cwd,
            )
        except subprocess.TimeoutExpired:
            reason = f"no answer within {timeout_s:.0f} s"
        else:
            if result.returncode == 0:
                return
            reason = " / ".join(result.stdout.strip().splitlines()[-3:])
        if attempt < _ATTEMPTS:
            _say(f"{command[0]} {command[1]}: attempt {attempt} failed ({reason}); once more")
            time.sleep(_PAUSE_S * attempt)
    raise NotInstalled(reason)


@contextmanager
def _one_installer() -> Iterator[None]:
    """Let one process install at a time: two would build the same thing twice."""
    cache_folder().mkdir(parents=True, exist_ok=True)
    with (cache_folder() / "install.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _find_program(program: str) -> str | None:
    # Daemons are in /usr/sbin, which is not on every user's path.
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _stamp(part: str) -> Path:
    return cache_folder() / "stamps" / part


def _read_stamp(part: str) -> str | None:
    try:
        return _stamp(part).read_text().strip()
    except OSError:
        return None


def _write_stamp(part: str, version: str) -> None:
    _stamp(part).parent.mkdir(parents=True, exist_ok=True)
    _stamp(part).write_text(version + "\n")


def _say(line: str) -> None:
    print(f"parts: {line}", file=sys.stderr, flush=True)
