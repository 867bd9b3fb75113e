"""How one service of Slipway reaches another: over TCP in a stack, over a Unix socket on one machine."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp

# Between services of one machine or one network: what takes longer than this is not going to answer.
_TIMEOUT = aiohttp.ClientTimeout(total=30, connect=5)


class Peer:
    """Another service's internal address. `session` never follows redirects by itself and ignores the environment's proxies."""

    def __init__(self, session: aiohttp.ClientSession, base_url: str) -> None:
        self.session = session
        self.base_url = base_url

    def request(
        self, method: str, path: str, *, headers: dict[str, str], data: bytes | None = None
    ) -> contextlib.AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """Call the peer; `path` is raw and starts with a slash."""
        from yarl import URL

        url = URL(self.base_url + path, encoded=True)
        return self.session.request(method, url, headers=headers, data=data, allow_redirects=False)


@contextlib.asynccontextmanager
async def open_peer(name: str, url: str | None, runtime_folder: Path) -> AsyncIterator[Peer]:
    """The peer at `url`, or the one that listens on its Unix socket in the runtime folder."""
    connector = aiohttp.UnixConnector(str(internal_socket(runtime_folder, name))) if url is None else None
    async with aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT, auto_decompress=False) as session:
        yield Peer(session, url or f"http://{name}.slipway")


def internal_socket(runtime_folder: Path, name: str) -> Path:
    """Where a service answers the others on one machine."""
    return runtime_folder / f"{name}.sock"
