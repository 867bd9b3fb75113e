"""crane, of go-containerregistry."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.clients.target import CommandLine, Target
from tests.parts.versions import program_path


class Crane:
    parts = ("crane",)
    keeps_bytes = True

    def __init__(self, target: Target, home: Path) -> None:
        self._target = target
        self._cli = CommandLine(str(program_path("crane")), home)

    def login(self, password: str) -> None:
        target = self._target
        self._cli.run("auth", "login", target.host, "-u", target.username or "", "--password-stdin", stdin=password)

    def push(self, layout: Path, tag: str, repository: str) -> None:
        """crane pushes a layout that holds one image; an index with --index."""
        self._cli.run("push", str(layout), self._target.ref(repository, tag))

    def pull(self, repository: str, reference: str) -> str:
        reference = self._target.ref(repository, reference)
        self._cli.run("pull", "--format=oci", reference, str(self._cli.home / "pulled"))
        self._cli.run("validate", "--remote", reference)
        return self._cli.run("digest", reference)

    def copy(self, source: str, repository: str, tag: str) -> None:
        self._cli.run("copy", source, self._target.ref(repository, tag))

    def list_tags(self, repository: str) -> list[str]:
        return self._cli.run("ls", f"{self._target.host}/{repository}").splitlines()

    def list_repositories(self) -> list[str]:
        return self._cli.run("catalog", self._target.host).splitlines()

    def delete(self, repository: str, reference: str) -> None:
        self._cli.run("delete", self._target.ref(repository, reference))
