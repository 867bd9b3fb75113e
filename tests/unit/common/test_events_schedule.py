"""Each stream once, one worker at a time, and rest for what fails."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from slipway_common.bus.following import background
from slipway_common.bus.schedule import Schedule
from slipway_common.errors import Unavailable
from slipway_common.events.event import Event


async def run_until(schedule: Schedule, done: asyncio.Future[None] | asyncio.Event) -> None:
    async with background({"schedule": schedule.run()}), asyncio.timeout(5):
        await (done.wait() if isinstance(done, asyncio.Event) else done)


async def test_streams_woken_many_times_are_stepped_once() -> None:
    steps: list[str] = []

    async def step(stream: str, carried: Sequence[Event]) -> bool:
        steps.append(stream)
        return False

    schedule = Schedule("test", step, workers=2)
    for _ in range(5):
        schedule.wake(["a/1", "b/1"])
    await run_until(schedule, schedule.offer("c/1", []))
    assert sorted(steps) == ["a/1", "b/1", "c/1"]


async def test_a_stream_woken_during_its_step_is_stepped_again() -> None:
    again = asyncio.Event()
    steps = 0

    async def step(stream: str, carried: Sequence[Event]) -> bool:
        nonlocal steps
        steps += 1
        if steps == 1:
            schedule.wake([stream])
        else:
            again.set()
        return False

    schedule = Schedule("test", step, workers=2)
    schedule.wake(["a/1"])
    await run_until(schedule, again)


async def test_one_stream_is_never_stepped_by_two_workers() -> None:
    running: set[str] = set()
    done = asyncio.Event()
    steps = 0

    async def step(stream: str, carried: Sequence[Event]) -> bool:
        nonlocal steps
        assert stream not in running
        running.add(stream)
        schedule.wake([stream])
        await asyncio.sleep(0.001)
        running.remove(stream)
        steps += 1
        if steps == 50:
            done.set()
        return steps % 2 == 0

    schedule = Schedule("test", step, workers=8)
    schedule.wake(["a/1", "b/1"])
    await run_until(schedule, done)


async def test_what_is_offered_is_done_only_when_the_step_succeeds() -> None:
    failures = [Unavailable("away"), RuntimeError("a fault of ours"), OSError("away")]

    async def step(stream: str, carried: Sequence[Event]) -> bool:
        if failures:
            raise failures.pop(0)
        return False

    schedule = Schedule("test", step, workers=1)
    await run_until(schedule, schedule.offer("a/1", []))
    assert failures == []


async def test_a_failing_stream_does_not_hold_the_only_worker() -> None:
    async def step(stream: str, carried: Sequence[Event]) -> bool:
        if stream == "sick/1":
            raise Unavailable("away")
        return False

    schedule = Schedule("test", step, workers=1)
    schedule.wake(["sick/1"])
    await run_until(schedule, schedule.offer("well/1", []))


async def test_an_error_of_the_body_comes_out_as_it_is_and_ends_the_work() -> None:
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.set()

    async def body() -> None:
        async with background({"work": work()}):
            await asyncio.sleep(0)
            raise KeyError("body")

    with pytest.raises(KeyError):
        await body()
    assert ended.is_set()


async def test_work_that_fails_ends_the_body() -> None:
    async def work() -> None:
        raise KeyError("work")

    async def body() -> None:
        async with background({"work": work()}):
            await asyncio.sleep(3600)

    with pytest.raises(ExceptionGroup):
        await body()
