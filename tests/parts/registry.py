"""CNCF distribution, the registry to compare with: what a client does there it must do with Slipway too."""

from __future__ import annotations

import os

from tests.parts.process import Program, accepts_connections, free_port, remove_folder, temporary_folder
from tests.parts.versions import program_path

_START_TIMEOUT_S = 30.0
_CONFIGURATION = """\
version: 0.1
log: {{level: warn, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {folder}/data}}, delete: {{enabled: true}}}}
http: {{addr: 127.0.0.1:{port}}}
"""


class DistributionRegistry:
    """distribution v3 on files, without login."""

    def __init__(self) -> None:
        self.folder = temporary_folder("distribution")
        self.port = free_port()
        self._program: Program | None = None

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    def start(self) -> DistributionRegistry:
        configuration = self.folder / "config.yml"
        configuration.write_text(_CONFIGURATION.format(folder=self.folder, port=self.port))
        self._program = Program(
            "distribution",
            [str(program_path("registry")), "serve", str(configuration)],
            log=self.folder / "registry.log",
            environment={"PATH": os.environ.get("PATH", ""), "OTEL_TRACES_EXPORTER": "none"},
        )
        self._program.spawn()
        self._program.wait_until(lambda: accepts_connections("127.0.0.1", self.port), timeout_s=_START_TIMEOUT_S)
        return self

    def close(self) -> None:
        if self._program is not None:
            self._program.kill()
        remove_folder(self.folder)
