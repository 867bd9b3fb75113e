"""What a client is pointed at, and how its command line is run."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Target:
    """A registry on plain http, with or without login."""

    host: str
    username: str | None = None
    password: str | None = None

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    def ref(self, repository: str, reference: str) -> str:
        """`host/repository:tag` or `host/repository@digest`."""
        joint = "@" if ":" in reference else ":"
        return f"{self.host}/{repository}{joint}{reference}"


class CommandLine:
    """One client program with a home folder of its own, so that no login or setting leaks in or out."""

    def __init__(self, program: str, home: Path, environment: Mapping[str, str] | None = None) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.home = home
        self._program = program
        self._environment = {
            "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin",
            "HOME": str(home),
            "DOCKER_CONFIG": str(home / "docker"),
            "XDG_RUNTIME_DIR": str(home / "run"),
            "REGISTRY_AUTH_FILE": str(home / "auth.json"),
            **(environment or {}),
        }
        (home / "run").mkdir(mode=0o700, exist_ok=True)
        (home / "docker").mkdir(exist_ok=True)
        (home / "auth.json").write_text("{}")

    def run(self, *arguments: str, stdin: str = "", cwd: Path | None = None) -> str:
        """Run the program; return its standard output, fail with what it complained of."""
        result = self.attempt(*arguments, stdin=stdin, cwd=cwd)
        if result.returncode != 0:
            said = "\n".join(part for part in (result.stderr.strip(), result.stdout.strip()) if part)
            raise AssertionError(f"{Path(self._program).name} {' '.join(arguments)}: code {result.returncode}\n{said}")
        return result.stdout.strip()

    def attempt(self, *arguments: str, stdin: str = "", cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run the program and return how it went."""
        return subprocess.run(
            [self._program, *arguments],
            env=self._environment,
            input=stdin,
            cwd=cwd or self.home,
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIMEOUT_S,
        )
