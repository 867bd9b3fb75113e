"""Which streams have work, each of them once and by one worker at a time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from slipway_common.events import metrics
from slipway_common.events.consumer import is_transient
from slipway_common.events.event import Event

logger = structlog.get_logger(__name__)

Step = Callable[[str, Sequence[Event]], Awaitable[bool]]

_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 15.0


@dataclass(slots=True)
class _Job:
    """What is known to be waiting for one stream."""

    carried: list[Event] = field(default_factory=list)
    from_log: bool = False
    waiters: list[asyncio.Future[None]] = field(default_factory=list)
    failures: int = 0

    def absorb(self, other: _Job) -> None:
        self.carried += other.carried
        self.from_log |= other.from_log
        self.waiters += other.waiters


class Schedule:
    """Hands streams to a few workers, a step at a time, so that a long backlog does not keep the short ones waiting.

    A stream that has been served rests for `gather_s`: the first event is told at once, and what follows it closely
    comes as one batch. A stream whose step fails because a part is away rests (0.1 s, doubling to 15 s, jittered)
    without holding a worker.
    """

    def __init__(self, name: str, step: Step, *, workers: int, gather_s: float = 0.0) -> None:
        self._gather_s = gather_s
        self._name = name
        self._step = step
        self._workers = workers
        self._jobs: dict[str, _Job] = {}
        self._held: set[str] = set()  # being worked on, or resting
        self._ready: asyncio.Queue[str] = asyncio.Queue()

    def wake(self, streams: Iterable[str]) -> None:
        """Read what is new in `streams` from the log."""
        for stream in streams:
            self._add(stream, _Job(from_log=True))

    def offer(self, stream: str, events: Sequence[Event]) -> asyncio.Future[None]:
        """Apply `events` that a message bus carried (none: read the log). Done once they are applied or parked."""
        future = asyncio.get_running_loop().create_future()
        self._add(stream, _Job(carried=list(events), from_log=not events, waiters=[future]))
        return future

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._workers):
                group.create_task(self._work(), name=f"{self._name}-worker-{number}")

    def _add(self, stream: str, job: _Job) -> None:
        known = self._jobs.get(stream)
        if known is not None:
            known.absorb(job)
            return
        self._jobs[stream] = job
        if stream not in self._held:
            self._ready.put_nowait(stream)

    async def _work(self) -> None:
        while True:
            stream = await self._ready.get()
            job = self._jobs.pop(stream)
            self._held.add(stream)
            try:
                more = await self._step(stream, () if job.from_log else job.carried)
            except Exception as exc:
                self._rest(stream, job, exc)
            else:
                self._finish(stream, job, more)

    def _finish(self, stream: str, job: _Job, more: bool) -> None:
        if more:
            job.failures = 0
            self._put_back(stream, job)
            self._release(stream)
            return
        for waiter in job.waiters:
            if not waiter.done():
                waiter.set_result(None)
        if self._gather_s and not job.waiters:  # what a message bus offers comes in batches already
            asyncio.get_running_loop().call_later(self._gather_s, self._release, stream)
        else:
            self._release(stream)

    def _rest(self, stream: str, job: _Job, error: Exception) -> None:
        job.failures += 1
        pause_s = _pause_s(job.failures)
        self._put_back(stream, job)
        metrics.RETRIED.labels(self._name).inc()
        # An error that waiting does not cure is a fault of ours; stopping would help nobody, so it is tried again,
        # loudly.
        log = logger.warning if is_transient(error) else logger.exception
        log("events_delayed", consumer=self._name, stream=stream, failures=job.failures, error=repr(error)[:300])
        asyncio.get_running_loop().call_later(pause_s, self._release, stream)

    def _put_back(self, stream: str, job: _Job) -> None:
        if stream in self._jobs:
            job.absorb(self._jobs[stream])
        self._jobs[stream] = job

    def _release(self, stream: str) -> None:
        self._held.discard(stream)
        if stream in self._jobs:
            self._ready.put_nowait(stream)


def _pause_s(failures: int) -> float:
    """Double with each failure; jitter keeps streams that failed together from coming back together."""
    longest_s = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(failures - 1, 16))
    return longest_s * random.uniform(0.5, 1)  # noqa: S311
