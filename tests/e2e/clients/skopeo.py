"""skopeo."""

from __future__ import annotations

import json
from pathlib import Path

from tests.e2e.clients.target import CommandLine, Target
from tests.parts.images import sha256_digest


class Skopeo:
    parts = ("skopeo",)
    keeps_bytes = True

    def __init__(self, target: Target, home: Path) -> None:
        self._target = target
        self._cli = CommandLine("skopeo", home)

    def login(self, password: str) -> None:
        target = self._target
        self._cli.run(
            "login", "--tls-verify=false", "-u", target.username or "", "--password-stdin", target.host,
            stdin=password,
        )  # fmt: skip

    def push(self, layout: Path, tag: str, repository: str) -> None:
        self.copy(f"oci:{layout}:{tag}", repository, tag)

    def pull(self, repository: str, reference: str) -> str:
        source = f"docker://{self._target.ref(repository, reference)}"
        self._cli.run(
            "copy", "--insecure-policy", "--src-tls-verify=false", "--all", "--preserve-digests", source,
            f"oci:{self._cli.home}/pulled:it",
        )  # fmt: skip
        raw = self._cli.attempt("inspect", "--raw", "--tls-verify=false", source)
        assert raw.returncode == 0, raw.stderr
        return sha256_digest(raw.stdout.encode())

    def copy(self, source: str, repository: str, tag: str) -> None:
        if ":/" not in source:
            source = f"docker://{source}"
        self._cli.run(
            "copy", "--insecure-policy", "--src-tls-verify=false", "--dest-tls-verify=false", "--all",
            "--preserve-digests", source, f"docker://{self._target.ref(repository, tag)}",
        )  # fmt: skip

    def list_tags(self, repository: str) -> list[str]:
        listed = self._cli.run("list-tags", "--tls-verify=false", f"docker://{self._target.host}/{repository}")
        return list(json.loads(listed)["Tags"])

    def delete(self, repository: str, reference: str) -> None:
        self._cli.run("delete", "--tls-verify=false", f"docker://{self._target.ref(repository, reference)}")
