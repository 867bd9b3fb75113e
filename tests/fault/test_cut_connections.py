"""Connections to PostgreSQL and S3 break while clients push: what was acknowledged is there, the rest is no harm."""

from __future__ import annotations

import asyncio
import random
from urllib.parse import urlsplit

import pytest

from tests.fault.trial import KILLS, SEED, SETTINGS, check_promises, pushing, say
from tests.parts.fixtures import require, start_kafka, start_postgres, start_s3
from tests.parts.slipway import SlipwayStack
from tests.parts.toxiproxy import Toxiproxy

CUTS = max(10, KILLS // 5)
PUSHERS = 4
CUT_FOR_S = (0.05, 0.6)
WHOLE_FOR_S = (0.3, 1.2)

pytestmark = pytest.mark.timeout(max(600, CUTS * 10))


@pytest.mark.parametrize("server", ["postgres", "s3"])
async def test_cut_connections_lose_no_acknowledged_push(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    require("toxiproxy")
    proxies = Toxiproxy().start()
    try:
        stack = _start_behind(proxies, server)
        try:
            choices = random.Random(SEED)
            async with pushing(stack.url, stack.password, pushers=PUSHERS, choices=choices) as log:
                for _ in range(CUTS):
                    await asyncio.sleep(choices.uniform(*WHOLE_FOR_S))
                    await asyncio.to_thread(proxies.cut, server)
                    await asyncio.sleep(choices.uniform(*CUT_FOR_S))
                    await asyncio.to_thread(proxies.mend, server)
                await asyncio.sleep(WHOLE_FOR_S[1])
            figures = await check_promises(log, stack.url, stack.password, least=CUTS)
        finally:
            stack.close()
    finally:
        proxies.close()
    say(capsys, f"connections to {server} cut {CUTS} times: {figures}")


def _start_behind(proxies: Toxiproxy, server: str) -> SlipwayStack:
    """A stack that reaches `server` through a proxy."""
    postgres, kafka, s3 = start_postgres(), start_kafka(), start_s3()
    if server == "postgres":
        port = proxies.open(server, postgres.port)
        address = urlsplit(postgres.dsn)
        login, _, _ = address.netloc.rpartition("@")
        env = {"SLIPWAY_DATABASE_URL": address._replace(netloc=f"{login}@127.0.0.1:{port}").geturl()}
    else:
        env = {"SLIPWAY_S3_ENDPOINT_URL": f"http://127.0.0.1:{proxies.open(server, s3.port)}"}
    return SlipwayStack(postgres, kafka, s3, env={**SETTINGS, **env}).start()  # type: ignore[arg-type]
