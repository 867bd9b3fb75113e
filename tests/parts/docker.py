"""A Docker engine of the tests' own: private socket, private storage, no network, no image from outside."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.parts.process import NotStarted, Program, remove_folder, temporary_folder

_START_TIMEOUT_S = 60.0
_COMMAND_TIMEOUT_S = 120.0


class DockerEngine:
    """`docker(…)` runs the client against this engine with a configuration folder of its own."""

    def __init__(self) -> None:
        self.folder = temporary_folder("docker")
        self._program: Program | None = None

    @property
    def host(self) -> str:
        return f"unix://{self.folder}/docker.sock"

    @property
    def environment(self) -> dict[str, str]:
        """What a client needs to reach this engine and no other."""
        return {
            "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin",
            "HOME": str(self.folder),
            "DOCKER_HOST": self.host,
            "DOCKER_CONFIG": str(self.folder / "config"),
            "DOCKER_BUILDKIT": "0",  # the classic builder is in the engine itself
        }

    def start(self) -> DockerEngine:
        failures = []
        for driver in ("overlay2", "vfs"):  # overlay2 is not to be had on every file system
            self._program = Program(
                f"dockerd ({driver})",
                [
                    shutil.which("dockerd", path=self.environment["PATH"]) or "dockerd",
                    "--host", self.host,
                    "--data-root", str(self.folder / driver),
                    "--exec-root", str(self.folder / "exec"),
                    "--pidfile", str(self.folder / "docker.pid"),
                    "--storage-driver", driver,
                    "--bridge", "none", "--iptables=false", "--ip6tables=false",
                    "--insecure-registry", "127.0.0.0/8",
                ],
                log=self.folder / f"dockerd-{driver}.log",
                environment=self.environment,
            )  # fmt: skip
            self._program.spawn()
            try:
                self._program.wait_until(self._answers, timeout_s=_START_TIMEOUT_S)
            except NotStarted as exc:
                failures.append(str(exc))
                self._program.terminate()
            else:
                return self
        raise NotStarted("\n".join(failures))

    def _answers(self) -> bool:
        result = subprocess.run(
            ["docker", "version", "--format", "{{.Server.Version}}"],
            env=self.environment,
            capture_output=True,
            check=False,
            timeout=_COMMAND_TIMEOUT_S,
        )
        return result.returncode == 0

    def docker(self, *arguments: str, stdin: str = "") -> str:
        """Run `docker` with these arguments; return what it printed, raise with what it complained of."""
        result = subprocess.run(
            ["docker", *arguments],
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=_COMMAND_TIMEOUT_S,
        )
        if result.returncode != 0:
            raise AssertionError(f"docker {' '.join(arguments)}: {result.stderr.strip() or result.stdout.strip()}")
        return result.stdout.strip()

    def build_busybox(self, name: str, *, text: str) -> str:
        """Build a small image that runs: a static busybox, and `text` in /hello in a layer of its own."""
        folder = self.folder / "build"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        shutil.copy(shutil.which("busybox") or "/bin/busybox", folder / "busybox")
        (folder / "hello").write_text(text)
        (folder / "Dockerfile").write_text(
            "FROM scratch\n"
            "COPY busybox /bin/busybox\n"
            "COPY hello /hello\n"
            'LABEL org.opencontainers.image.title="hello"\n'
            'CMD ["/bin/busybox", "cat", "/hello"]\n'
        )
        self.docker("build", "--quiet", "--tag", name, str(folder))
        return name

    def image_id(self, name: str) -> str:
        return self.docker("image", "inspect", "--format", "{{.Id}}", name)

    def close(self) -> None:
        if self._program is not None:
            self._program.terminate()
        for mount in _mounts_under(self.folder):
            subprocess.run(["umount", "-l", mount], check=False, capture_output=True)
        remove_folder(self.folder)


def _mounts_under(folder: Path) -> list[str]:
    points = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    return sorted((point for point in points if point.startswith(f"{folder}/")), reverse=True)
