"""SIGKILL at random moments while clients push: nothing acknowledged may be lost, nothing dangle, no event be missing.

SLIPWAY_KILLS sets how often (100; `make soak` sets thousands), SLIPWAY_TEST_SEED repeats a run's random choices.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Sequence

import pytest

from tests.fault.trial import KILLS, SEED, SETTINGS, check_promises, pushing, say
from tests.parts.fixtures import start_stack
from tests.parts.slipway import SlipwayProcess

PUSHERS = 6
UP_FOR_S = (0.05, 0.9)

pytestmark = pytest.mark.timeout(max(900, KILLS * 20))


async def test_killed_embedded_slipway_keeps_every_acknowledged_push(capsys: pytest.CaptureFixture[str]) -> None:
    """Everything in one process: gateway, metadata and, with them, the embedded database go down at once."""
    slipway = SlipwayProcess(env=SETTINGS).start()
    try:
        figures = await _kill_and_check(slipway, url=slipway.url, password=slipway.password)
    finally:
        slipway.close()
    say(capsys, f"whole Slipway killed: {figures}")


async def test_killed_gateway_of_the_stack_keeps_every_acknowledged_push(capsys: pytest.CaptureFixture[str]) -> None:
    """The gateway alone is killed; PostgreSQL, Kafka, S3 and metadata live on."""
    stack = start_stack(env=SETTINGS)
    try:
        # Each start of a stack's gateway takes longer, and the code that is killed is the same.
        figures = await _kill_and_check(
            stack.gateway, url=stack.url, password=stack.password, kills=max(1, KILLS * 3 // 10)
        )
    finally:
        stack.close()
    say(capsys, f"gateway killed: {figures}")


async def test_killed_metadata_of_the_stack_catches_up(capsys: pytest.CaptureFixture[str]) -> None:
    """metadata is killed under load: pushes go on, and it shows all of them afterwards."""
    stack = start_stack(env=SETTINGS)
    try:
        figures = await _kill_and_check(
            stack.metadata, url=stack.url, password=stack.password, kills=max(1, KILLS // 20)
        )
    finally:
        stack.close()
    say(capsys, f"metadata killed: {figures}")


async def _kill_and_check(victim: SlipwayProcess, *, url: str, password: str, kills: int = KILLS) -> str:
    """Push and kill, read everything back; return a line of figures."""
    choices = random.Random(SEED)
    async with pushing(url, password, pushers=PUSHERS, choices=choices) as log:
        recoveries = await _kill_repeatedly(victim, choices, kills)
        await asyncio.sleep(UP_FOR_S[1])
    recovery = (
        f"{kills} kills, back at the first 2xx after p50 {statistics.median(recoveries):.2f} s, "
        f"p99 {_percentile(recoveries, 99):.2f} s, at most {max(recoveries):.2f} s"
    )
    print(recovery)
    return f"{recovery}; {await check_promises(log, url, password, least=kills)}"


async def _kill_repeatedly(victim: SlipwayProcess, choices: random.Random, kills: int) -> list[float]:
    """Kill `victim` at random moments and start it again at once; return how long each took to answer again."""
    recoveries: list[float] = []
    for _ in range(kills):
        await asyncio.sleep(choices.uniform(*UP_FOR_S))
        killed_at = time.monotonic()
        victim.kill()
        victim.spawn()
        await asyncio.to_thread(victim.wait_ready)
        recoveries.append(time.monotonic() - killed_at)
    return recoveries


def _percentile(values: Sequence[float], percent: int) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]
