"""One trial: clients push while something is broken, then all of it is read back and judged."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.fault.load import Pusher, PushLog
from tests.fault.verdict import judge

# How often something is broken; the long form sets thousands.
KILLS = int(os.environ.get("SLIPWAY_KILLS", "100"))
# Repeats the random choices of a run (not its timing).
SEED = int(os.environ.get("SLIPWAY_TEST_SEED", "0")) or random.SystemRandom().randrange(1, 2**31)

_PAUSE_S = 0.03
_SETTLE_S = 2.0
_WARM_UP_S = 60.0

# Clients keep the token of their one login for the length of a trial.
SETTINGS = {"SLIPWAY_TOKEN_S": "3600"}


@contextlib.asynccontextmanager
async def pushing(url: str, password: str, *, pushers: int, choices: random.Random) -> AsyncIterator[PushLog]:
    """Run `pushers` clients for as long as the context lives; yield the log they write."""
    log, stop = PushLog(), asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        for number in range(pushers):
            pusher = Pusher(
                f"p{number}",
                log,
                url=url,
                login=_login(password),
                shared_repository="kill/shared",
                seed=choices.randrange(2**31),
                pause_s=_PAUSE_S,
            )
            tasks.create_task(pusher.run(stop), name=f"pusher {number}")
        try:
            await _wait_for_first_pushes(log, pushers)
            yield log
        finally:
            stop.set()


async def _wait_for_first_pushes(log: PushLog, number: int) -> None:
    """Let every client log in and push once: checking a password takes longer than the time between two kills."""
    async with asyncio.timeout(_WARM_UP_S):
        while log.count("ok") < number:
            await asyncio.sleep(0.05)


async def check_promises(log: PushLog, url: str, password: str, *, least: int) -> str:
    """Read everything back and fail on any broken promise; return the figures as one line.

    `least` is how many pushes must have been acknowledged for the trial to mean anything.
    """
    await asyncio.sleep(_SETTLE_S)
    verdict = await judge(log, url=url, headers=_login(password))
    figures = (
        f"{log.count('ok')} pushes acknowledged, {log.count('unknown')} unknown, "
        f"{len(log.failed_before_manifest)} broken off before the manifest; {verdict} (seed {SEED})"
    )
    assert not verdict.violations(), figures + "\n" + "\n".join(verdict.violations()[:20])
    refused = [push.answer for push in log.pushes if push.outcome == "refused"] + log.refused_blobs
    assert not refused, f"{figures}\n{len(refused)} requests were refused, the first: {refused[0]}"
    assert log.count("ok") >= least, figures
    return figures


def say(capsys: pytest.CaptureFixture[str], line: str) -> None:
    """Print past pytest's capture: the figures belong in every log."""
    with capsys.disabled():
        print(f"\n{line}", flush=True)


def _login(password: str) -> dict[str, str]:
    return {"Authorization": aiohttp.encode_basic_auth("admin", password)}
