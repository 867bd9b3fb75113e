"""`slipway login --web`, whole: the command line, Slipway, a real Keycloak, and what a browser does between them."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from tests.parts.keycloak import KeycloakServer, log_in
from tests.parts.process import free_port, remove_folder, temporary_folder
from tests.parts.slipway import SlipwayProcess

pytestmark = pytest.mark.timeout(180)
PASSWORD = "alice's password"
SLIPWAY = str(Path(sys.executable).parent / "slipway")


@pytest.fixture
def slipway(keycloak: KeycloakServer) -> Iterator[SlipwayProcess]:
    realm = keycloak.create_realm("command-line")
    realm.create_user("alice", PASSWORD)
    port = free_port()
    realm.create_client("slipway", redirect_uris=[f"http://127.0.0.1:{port}/login/oidc/callback"])
    process = SlipwayProcess(env={"SLIPWAY_OIDC_ISSUER": realm.issuer}, port=port).start()
    yield process
    process.close()


@pytest.fixture
def home() -> Iterator[Path]:
    folder = temporary_folder("home")
    yield folder
    remove_folder(folder)


async def test_command_line_logs_in_by_the_provider_and_stays_logged_in(slipway: SlipwayProcess, home: Path) -> None:
    waiting = start(home, "login", slipway.url, "--web")
    address = await asyncio.to_thread(read_address, waiting)
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser:
        async with browser.get(URL(address, encoded=True), allow_redirects=False) as left:
            provider = left.headers["Location"]
        query = await log_in(provider, "alice", PASSWORD)
        async with browser.get(f"{slipway.url}/login/oidc/callback", params=dict(query)) as landed:
            assert landed.status == 200
            assert "You can close this page" in await landed.text()
    said, _ = await asyncio.to_thread(waiting.communicate, timeout=30)
    assert waiting.returncode == 0, said
    shown = await asyncio.to_thread(start(home, "whoami", "--json").communicate, timeout=30)
    assert '"alice"' in shown[0]


def start(home: Path, *arguments: str) -> subprocess.Popen[str]:
    """The command line of somebody without a browser of their own: the address is printed."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SLIPWAY_")}
    return subprocess.Popen(
        [SLIPWAY, *arguments],
        env={**inherited, "HOME": str(home), "XDG_CONFIG_HOME": str(home), "BROWSER": "/bin/true"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def read_address(waiting: subprocess.Popen[str]) -> str:
    assert waiting.stdout is not None
    for line in waiting.stdout:
        if (found := re.search(r"http://\S+/login/oidc\?\S+", line)) is not None:
            return found[0]
    raise AssertionError("no address was printed")
