"""Proxies on TCP that break connections on demand, between Slipway and a server it depends on."""

from __future__ import annotations

import requests

from tests.parts.process import Program, accepts_connections, free_port, remove_folder, temporary_folder
from tests.parts.versions import program_path

_TIMEOUT_S = 10.0
_START_TIMEOUT_S = 30.0


class Toxiproxy:
    """`open(name, port)` puts a proxy before a port of 127.0.0.1; `cut` and `mend` it at will."""

    def __init__(self) -> None:
        self.folder = temporary_folder("toxiproxy")
        self._port = free_port()
        self._program = Program(
            "toxiproxy",
            [str(program_path("toxiproxy")), "-host", "127.0.0.1", "-port", str(self._port)],
            log=self.folder / "toxiproxy.log",
        )

    def start(self) -> Toxiproxy:
        self._program.spawn()
        self._program.wait_until(lambda: accepts_connections("127.0.0.1", self._port), timeout_s=_START_TIMEOUT_S)
        return self

    def open(self, name: str, port: int) -> int:
        """Return the port at which `port` can be reached through the proxy `name`."""
        listen = free_port()
        self._post(
            "/proxies",
            {"name": name, "listen": f"127.0.0.1:{listen}", "upstream": f"127.0.0.1:{port}", "enabled": True},
        )
        return listen

    def cut(self, name: str) -> None:
        """Close every connection of the proxy and refuse new ones."""
        self._post(f"/proxies/{name}", {"enabled": False})

    def stall(self, name: str) -> None:
        """Let nothing through any more, with every connection open."""
        self._post(f"/proxies/{name}/toxics", {"name": "stall", "type": "timeout", "attributes": {"timeout": 0}})

    def mend(self, name: str) -> None:
        """Undo cut() and stall()."""
        self._post("/reset", {})

    def _post(self, path: str, body: dict[str, object]) -> None:
        response = requests.post(f"http://127.0.0.1:{self._port}{path}", json=body, timeout=_TIMEOUT_S)
        response.raise_for_status()

    def close(self) -> None:
        self._program.kill()
        remove_folder(self.folder)
