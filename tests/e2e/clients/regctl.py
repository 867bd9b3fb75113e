"""regctl, of regclient."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.e2e.clients.target import CommandLine, Target
from tests.parts.versions import program_path


class Regctl:
    parts = ("regctl",)
    keeps_bytes = True

    def __init__(self, target: Target, home: Path) -> None:
        self._target = target
        self._cli = CommandLine(str(program_path("regctl")), home, {"REGCTL_CONFIG": str(home / "regctl.json")})
        self._cli.run("registry", "set", target.host, "--tls", "disabled", "--skip-check")

    def login(self, password: str) -> None:
        target = self._target
        self._cli.run("registry", "login", target.host, "-u", target.username or "", "--pass-stdin", stdin=password)

    def push(self, layout: Path, tag: str, repository: str) -> None:
        self._cli.run("image", "copy", f"ocidir://{layout}:{tag}", self._target.ref(repository, tag))

    def pull(self, repository: str, reference: str) -> str:
        reference = self._target.ref(repository, reference)
        self._cli.run("image", "copy", reference, f"ocidir://{self._cli.home}/pulled:it")
        return self._cli.run("image", "digest", reference)

    def copy(self, source: str, repository: str, tag: str) -> None:
        self._cli.run("image", "copy", "--referrers", "--digest-tags", source, self._target.ref(repository, tag))

    def list_tags(self, repository: str) -> list[str]:
        return self._cli.run("tag", "ls", f"{self._target.host}/{repository}").splitlines()

    def list_repositories(self) -> list[str]:
        return self._cli.run("repo", "ls", self._target.host).splitlines()

    def delete(self, repository: str, reference: str) -> None:
        if ":" in reference:
            self._cli.run("manifest", "delete", self._target.ref(repository, reference))
        else:
            self._cli.run("tag", "delete", self._target.ref(repository, reference))

    def push_index(self, repository: str, tag: str, *, of: list[str]) -> None:
        """Make an index of images in the registry and push it."""
        references = [part for reference in of for part in ("--ref", reference)]
        self._cli.run("index", "create", self._target.ref(repository, tag), *references)

    def attach(self, repository: str, subject: str, *, artifact_type: str, content: str) -> None:
        self._cli.run(
            "artifact", "put", "--subject", self._target.ref(repository, subject), "--artifact-type", artifact_type,
            "--annotation", "test.content=" + content, "--file-media-type", "text/plain",
            stdin=content,
        )  # fmt: skip

    def discover(self, repository: str, subject: str, *, artifact_type: str | None = None) -> list[dict[str, Any]]:
        wanted = ("--filter-artifact-type", artifact_type) if artifact_type else ()
        said = self._cli.run(
            "artifact", "list", "--format", "{{json .}}", *wanted, self._target.ref(repository, subject)
        )
        return list(json.loads(said).get("descriptors") or [])
