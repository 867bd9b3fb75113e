"""A real S3 server, as a process: versitygw, which keeps objects as files."""

from __future__ import annotations

import os
import secrets
import urllib.error
import urllib.request
from pathlib import Path

from tests.parts.process import Program, free_port, remove_folder, temporary_folder
from tests.parts.versions import program_path

_START_TIMEOUT_S = 30.0


class S3Server:
    """An S3 endpoint with one empty bucket; its data and its port outlive stop() and kill()."""

    region = "us-east-1"

    def __init__(self, folder: Path | None = None, *, bucket: str = "slipway") -> None:
        self.folder = folder or temporary_folder("s3")
        self.bucket = bucket
        self.port = free_port()
        self.access_key = "slipway-" + secrets.token_hex(4)
        self.secret_key = secrets.token_hex(16)
        self._program: Program | None = None

    @property
    def endpoint_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> S3Server:
        # A folder at the root of versitygw's tree is a bucket.
        (self.folder / "data" / self.bucket).mkdir(parents=True, exist_ok=True)
        self._program = Program(
            "versitygw",
            [
                str(program_path("versitygw")), "--port", f"127.0.0.1:{self.port}", "--quiet", "--keep-alive",
                "--region", self.region, "--health", "/health", "posix", str(self.folder / "data"),
            ],
            log=self.folder / "versitygw.log",
            environment={
                "PATH": os.environ.get("PATH", ""),
                "ROOT_ACCESS_KEY": self.access_key,
                "ROOT_SECRET_KEY": self.secret_key,
            },
        )  # fmt: skip
        self._program.spawn()
        self._program.wait_until(self._answers, timeout_s=_START_TIMEOUT_S)
        return self

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.endpoint_url}/health", timeout=2):
                return True
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False

    def stop(self) -> None:
        if self._program is not None:
            self._program.terminate()

    def kill(self) -> None:
        if self._program is not None:
            self._program.kill()

    def close(self) -> None:
        self.kill()
        remove_folder(self.folder)
