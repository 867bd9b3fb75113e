"""cosign, with a key of the tests' own and no transparency log."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.e2e.clients.target import CommandLine, Target
from tests.parts.versions import program_path


class Cosign:
    parts = ("cosign",)

    def __init__(self, target: Target, home: Path) -> None:
        self._target = target
        self._cli = CommandLine(str(program_path("cosign")), home, {"COSIGN_PASSWORD": "", "COSIGN_YES": "true"})

    def login(self, password: str) -> None:
        target = self._target
        self._cli.run("login", target.host, "-u", target.username or "", "-p", password)

    def make_key(self, name: str) -> None:
        """Make `<name>.key` and `<name>.pub`."""
        self._cli.run("generate-key-pair", "--output-key-prefix", name)

    def sign(self, repository: str, digest: str, *, key: str) -> None:
        self._cli.run(
            "sign", "--key", f"{key}.key", "--tlog-upload=false", "--use-signing-config=false",
            "--allow-http-registry", self._target.ref(repository, digest),
        )  # fmt: skip

    def verify(self, repository: str, reference: str, *, key: str) -> subprocess.CompletedProcess[str]:
        return self._cli.attempt(
            "verify", "--key", f"{key}.pub", "--insecure-ignore-tlog", "--allow-http-registry",
            self._target.ref(repository, reference),
        )  # fmt: skip
