"""oras."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.e2e.clients.target import CommandLine, Target
from tests.parts.versions import program_path


class Oras:
    parts = ("oras",)
    keeps_bytes = True

    def __init__(self, target: Target, home: Path) -> None:
        self._target = target
        self._cli = CommandLine(str(program_path("oras")), home)

    def login(self, password: str) -> None:
        target = self._target
        self._cli.run(
            "login", "--plain-http", "-u", target.username or "", "--password-stdin", target.host, stdin=password
        )

    def push(self, layout: Path, tag: str, repository: str) -> None:
        self._cli.run(
            "cp", "--no-tty", "--from-oci-layout", f"{layout}:{tag}", "--to-plain-http",
            self._target.ref(repository, tag),
        )  # fmt: skip

    def pull(self, repository: str, reference: str) -> str:
        reference = self._target.ref(repository, reference)
        self._cli.run(
            "cp", "--no-tty", "--from-plain-http", reference, "--to-oci-layout", f"{self._cli.home}/pulled:it"
        )
        return self._cli.run("resolve", "--plain-http", reference)

    def copy(self, source: str, repository: str, tag: str) -> None:
        self._cli.run(
            "cp", "--no-tty", "--from-plain-http", source, "--to-plain-http", self._target.ref(repository, tag)
        )

    def copy_with_referrers(self, source: str, repository: str, tag: str) -> None:
        self._cli.run(
            "cp", "--no-tty", "--recursive", "--from-plain-http", source, "--to-plain-http",
            self._target.ref(repository, tag),
        )  # fmt: skip

    def list_tags(self, repository: str) -> list[str]:
        return self._cli.run("repo", "tags", "--plain-http", f"{self._target.host}/{repository}").splitlines()

    def list_repositories(self) -> list[str]:
        return self._cli.run("repo", "ls", "--plain-http", self._target.host).splitlines()

    def delete(self, repository: str, reference: str) -> None:
        self._cli.run("manifest", "delete", "--force", "--plain-http", self._target.ref(repository, reference))

    def push_file(self, repository: str, tag: str, *, artifact_type: str, content: str) -> str:
        """Push an artifact of one file; returns its digest."""
        (self._cli.home / "file.txt").write_text(content)
        said = self._cli.run(
            "push", "--no-tty", "--plain-http", "--artifact-type", artifact_type, "--format", "json",
            self._target.ref(repository, tag), "file.txt:text/plain",
        )  # fmt: skip
        return str(json.loads(said)["digest"])

    def pull_file(self, repository: str, reference: str) -> str:
        folder = self._cli.home / "files"
        self._cli.run("pull", "--no-tty", "--plain-http", "-o", str(folder), self._target.ref(repository, reference))
        return (folder / "file.txt").read_text()

    def attach(self, repository: str, subject: str, *, artifact_type: str, content: str) -> str:
        """Attach a file to an image; returns the artifact's digest."""
        (self._cli.home / "attached.txt").write_text(content)
        said = self._cli.run(
            "attach", "--no-tty", "--plain-http", "--artifact-type", artifact_type, "--format", "json",
            "--annotation", "test.content=" + content, self._target.ref(repository, subject),
            "attached.txt:text/plain",
        )  # fmt: skip
        return str(json.loads(said)["digest"])

    def discover(self, repository: str, subject: str, *, artifact_type: str | None = None) -> list[dict[str, Any]]:
        """What refers to an image, as oras sees it."""
        wanted = ("--artifact-type", artifact_type) if artifact_type else ()
        said = self._cli.run(
            "discover", "--plain-http", "--format", "json", *wanted, self._target.ref(repository, subject)
        )
        found = json.loads(said)
        return list(found.get("referrers") or found.get("manifests") or [])
