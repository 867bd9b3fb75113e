"""Run a recorder on a bus until killed, or until the moment at which the order says to die."""

from __future__ import annotations

import asyncio
import ctypes
import json
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer

from slipway_common.events.event import Event
from tests.contract.bus.transports import transport_from
from tests.contract.bus.world import Recorder, kill_self, open_world

_PR_SET_PDEATHSIG = 1


async def main(order: dict[str, Any]) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    transport = transport_from(order["transport"])
    async with open_world(order["dsn"], fresh=False) as world:
        recorder = Recorder(world)
        trap = _kill_at(order["die_at"])
        match order["die"]:
            case "prepared":
                recorder.on_prepare = trap
            case "applied":
                recorder.on_apply = trap
            case "committed":
                _trap_offset_commit(trap)
        async with transport.running(world.pool, [recorder]):
            await _until_told()


def _kill_at(number: int) -> Callable[[Sequence[Event]], None]:
    """Kill this process at the `number`-th event that comes by."""
    seen = 0

    def trap(events: Sequence[Event]) -> None:
        nonlocal seen
        seen += len(events)
        if seen >= number:
            kill_self()

    return trap


def _trap_offset_commit(trap: Callable[[Sequence[Any]], None]) -> None:
    """Die when effects are committed and the offsets of their messages are not."""

    async def commit(_self: object, offsets: object = None) -> None:
        trap([offsets])

    AIOKafkaConsumer.commit = commit


async def _until_told() -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
