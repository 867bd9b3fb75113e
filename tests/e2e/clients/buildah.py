"""buildah, with storage of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.e2e.clients.target import CommandLine, Target


class Buildah:
    parts = ("buildah", "docker")  # docker's part brings the static busybox

    def __init__(self, target: Target, home: Path) -> None:
        self._target = target
        self._cli = CommandLine("buildah", home)
        self._storage = (
            "--root", str(home / "storage"), "--runroot", str(home / "runroot"), "--storage-driver", "vfs",
        )  # fmt: skip

    def _run(self, *arguments: str, stdin: str = "") -> str:
        return self._cli.run(*self._storage, *arguments, stdin=stdin)

    def login(self, password: str) -> None:
        target = self._target
        self._run(
            "login", "--tls-verify=false", "-u", target.username or "", "--password-stdin", target.host,
            stdin=password,
        )  # fmt: skip

    def build(self, name: str, *, text: str) -> str:
        """Build an image FROM scratch with a RUN step; returns its image id."""
        folder = self._cli.home / "build"
        folder.mkdir(exist_ok=True)
        shutil.copy(shutil.which("busybox") or "/bin/busybox", folder / "busybox")
        (folder / "Containerfile").write_text(
            f'FROM scratch\nCOPY busybox /bin/busybox\nRUN ["/bin/busybox", "sh", "-c", "echo {text} > /hello"]\n'
        )
        return self._run("bud", "--isolation", "chroot", "--quiet", "--tag", name, str(folder)).splitlines()[-1]

    def push(self, name: str, repository: str, tag: str) -> str:
        """Push what was built; returns the digest buildah says it pushed."""
        digest_file = self._cli.home / "digest"
        self._run(
            "push", "--quiet", "--tls-verify=false", "--digestfile", str(digest_file), name,
            f"docker://{self._target.ref(repository, tag)}",
        )  # fmt: skip
        return digest_file.read_text().strip()

    def pull(self, repository: str, reference: str) -> str:
        """Pull and return the image id."""
        return self._run("pull", "--quiet", "--tls-verify=false", self._target.ref(repository, reference))

    def remove_all(self) -> None:
        self._run("rmi", "--all", "--force")
