"""helm, for charts."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.clients.target import CommandLine, Target
from tests.parts.versions import program_path


class Helm:
    parts = ("helm",)

    def __init__(self, target: Target, home: Path) -> None:
        self._target = target
        self._cli = CommandLine(str(program_path("helm")), home)

    def login(self, password: str) -> None:
        target = self._target
        self._cli.run(
            "registry", "login", "--plain-http", "-u", target.username or "", "--password-stdin", target.host,
            stdin=password,
        )  # fmt: skip

    def make_chart(self, name: str, version: str, *, text: str) -> Path:
        """Package a chart of one ConfigMap; returns the archive."""
        folder = self._cli.home / name
        (folder / "templates").mkdir(parents=True)
        (folder / "Chart.yaml").write_text(f"apiVersion: v2\nname: {name}\nversion: {version}\ndescription: {text}\n")
        (folder / "templates" / "hello.yaml").write_text(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: hello}\ndata: {text: " + text + "}\n"
        )
        self._cli.run("package", str(folder), "--destination", str(self._cli.home))
        return self._cli.home / f"{name}-{version}.tgz"

    def push(self, archive: Path, namespace: str) -> str:
        """Push a chart to namespace/<chart name>; returns the digest helm reports."""
        result = self._cli.attempt("push", "--plain-http", str(archive), f"oci://{self._target.host}/{namespace}")
        assert result.returncode == 0, result.stderr
        return next(
            line.split()[-1] for line in (result.stdout + result.stderr).splitlines() if line.startswith("Digest:")
        )

    def pull(self, repository: str, version: str) -> bytes:
        """Pull a chart; returns the archive."""
        folder = self._cli.home / "pulled"
        folder.mkdir(exist_ok=True)
        self._cli.run(
            "pull", "--plain-http", f"oci://{self._target.host}/{repository}", "--version", version,
            "--destination", str(folder),
        )  # fmt: skip
        return next(folder.glob("*.tgz")).read_bytes()

    def show(self, repository: str, version: str) -> str:
        return self._cli.run(
            "show", "chart", "--plain-http", f"oci://{self._target.host}/{repository}", "--version", version
        )
