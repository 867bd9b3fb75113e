"""podman, with storage of its own."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.clients.target import CommandLine, Target


class Podman:
    """It packs layers anew when it pushes, so digests are its own."""

    parts = ("podman",)
    keeps_bytes = False

    def __init__(self, target: Target, home: Path) -> None:
        self._target = target
        self._cli = CommandLine("podman", home)
        self._storage = (
            "--root", str(home / "storage"), "--runroot", str(home / "runroot"), "--storage-driver", "vfs",
            "--cgroup-manager", "cgroupfs", "--events-backend", "none",
        )  # fmt: skip

    def _run(self, *arguments: str, stdin: str = "") -> str:
        return self._cli.run(*self._storage, *arguments, stdin=stdin)

    def login(self, password: str) -> None:
        target = self._target
        self._run(
            "login", "--tls-verify=false", "-u", target.username or "", "--password-stdin", target.host,
            stdin=password,
        )  # fmt: skip

    def push(self, layout: Path, tag: str, repository: str) -> None:
        image_id = self._run("pull", "--quiet", f"oci:{layout}:{tag}").splitlines()[-1]
        self._run("push", "--quiet", "--tls-verify=false", image_id, self._target.ref(repository, tag))
        self._run("rmi", "--force", image_id)

    def pull(self, repository: str, reference: str) -> str:
        reference = self._target.ref(repository, reference)
        self._run("pull", "--quiet", "--tls-verify=false", reference)
        return self._run("image", "inspect", "--format", "{{.Digest}}", reference)

    def push_index(self, repository: str, tag: str, *, of: list[str]) -> None:
        """Make a manifest list of images in the registry and push it."""
        name = f"localhost/{repository}:{tag}"
        self._run("manifest", "create", name)
        for reference in of:
            self._run("manifest", "add", "--tls-verify=false", name, f"docker://{reference}")
        self._run("manifest", "push", "--all", "--tls-verify=false", name,
                  f"docker://{self._target.ref(repository, tag)}")  # fmt: skip
