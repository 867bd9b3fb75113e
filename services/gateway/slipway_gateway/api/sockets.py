"""A connection's socket beside its transport: large receives and sendfile in worker threads.

aiohttp hands a body over in small pieces through the event loop, and uvloop has no sendfile; both cost more than the
bytes themselves. A `DirectSocket` works on a duplicate of the connection's descriptor. A thread is held only while
bytes move (and for a few milliseconds of grace); waiting for a slow client is the event loop's work.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from functools import cache
from types import TracebackType
from typing import Self, TypeVar

from slipway_gateway.api.framing import Framing

T = TypeVar("T")

# One buffer for each thread, not for each upload: memory does not grow with the number of clients.
RECEIVE_BUFFER_BYTES = 1024 * 1024
_THREADS = 8
# After this the thread is given back, so that many fast clients take turns; a hop costs about 0.1 ms.
_TURN_S = 0.025
# A client on a fast network refills within this time: waiting here is cheaper than a hop through the loop.
_GRACE_MS = 2
_GRACE_AFTER_BYTES = 32 * 1024
# The kernel wakes us when this much has come, not for every packet.
_WAKE_AT_BYTES = 256 * 1024
_SENDFILE_BYTES = 4 * 1024 * 1024


class Turn(Enum):
    """Why a thread gave up its turn."""

    DONE = auto()
    TIME_UP = auto()
    WOULD_BLOCK = auto()
    NO_ROOM = auto()
    PEER_CLOSED = auto()
    FILE_ENDED = auto()


@dataclass(frozen=True, slots=True)
class Progress:
    """What one turn did."""

    moved_bytes: int
    why: Turn


class DirectSocket:
    """A duplicate of a connection's socket. Use as a context manager on the event loop."""

    def __init__(self, descriptor: int) -> None:
        """Duplicate the descriptor of a non-blocking stream socket; raises OSError."""
        self._socket = socket.socket(fileno=os.dup(descriptor))
        self._stop = threading.Event()
        self._low_water = 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the socket back as it was found: the option is shared with the connection's own descriptor."""
        self.restore()
        self._socket.close()

    def end_sending(self) -> None:
        """Tell the client that nothing more will come; it may still send."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def restore(self) -> None:
        """Let the connection's own reader be woken by every byte again."""
        if self._low_water > 1:
            self._set_low_water(1)

    async def receive(
        self, framing: Framing, room: Callable[[], int], consume: Callable[[memoryview], None]
    ) -> Progress:
        """Hand what the client has sent of a body to `consume`, in a thread, until it is complete or a turn is over.

        When cancelled the thread has ended before this returns. Raises what `consume` raises, MalformedBody, OSError.
        """
        return await self._in_thread(self._receive_turn, framing, room, consume)

    def receive_now(self, size_bytes: int) -> bytes | None:
        """Answer what has come, at most so much; None when nothing has, b"" when the client has closed."""
        try:
            return self._socket.recv(size_bytes, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None

    async def send_file(self, file: int, offset: int, count: int) -> Progress:
        """Send from an open file until the client takes no more for now. Raises OSError."""
        return await self._in_thread(self._send_turn, file, offset, count)

    async def wait_readable(self, least_bytes: int, timeout_s: float) -> None:
        """Wait until a good deal of `least_bytes` has come, the client has closed, or the time is up."""
        self._raise_low_water(least_bytes)
        loop = asyncio.get_running_loop()
        await _wait(loop.add_reader, loop.remove_reader, self._socket.fileno(), timeout_s)

    async def wait_writable(self, timeout_s: float) -> None:
        """Wait until the client takes more, is gone, or the time is up."""
        loop = asyncio.get_running_loop()
        await _wait(loop.add_writer, loop.remove_writer, self._socket.fileno(), timeout_s)

    def _raise_low_water(self, wanted_bytes: int) -> None:
        low_water = max(1, min(wanted_bytes, _WAKE_AT_BYTES))
        if low_water != self._low_water:
            self._set_low_water(low_water)

    def _set_low_water(self, size_bytes: int) -> None:
        self._low_water = size_bytes
        with suppress(OSError):  # a closed connection, or a kernel without it: we are woken sooner, nothing else
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size_bytes)

    async def _in_thread(self, function: Callable[..., T], *arguments: object) -> T:
        turn = asyncio.get_running_loop().run_in_executor(_threads(), function, *arguments)
        try:
            return await asyncio.shield(turn)
        except asyncio.CancelledError:
            self._stop.set()
            await wait_out(turn)
            raise

    # What follows runs in a thread.

    def _receive_turn(
        self, framing: Framing, room: Callable[[], int], consume: Callable[[memoryview], None]
    ) -> Progress:
        buffer = _thread_buffer()
        until = time.monotonic() + _TURN_S
        moved = 0
        while not framing.complete:
            if self._stop.is_set() or time.monotonic() > until:
                return Progress(moved, Turn.TIME_UP)
            wanted = min(len(buffer), room(), framing.wanted_bytes or RECEIVE_BUFFER_BYTES)
            if wanted <= 0:
                return Progress(moved, Turn.NO_ROOM)
            filled, why = self._fill(buffer[:wanted])
            data = framing.decode(buffer[:filled])
            if data:
                consume(data)
                moved += len(data)
            if framing.complete:
                break
            if why is Turn.PEER_CLOSED:
                return Progress(moved, why)
            if why is Turn.WOULD_BLOCK and not (filled >= _GRACE_AFTER_BYTES and self._more_soon(framing)):
                return Progress(moved, why)
        return Progress(moved, Turn.DONE)

    def _fill(self, buffer: memoryview) -> tuple[int, Turn]:
        filled = 0
        while filled < len(buffer):
            try:
                received = self._socket.recv_into(buffer[filled:], 0, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return filled, Turn.WOULD_BLOCK
            if not received:
                return filled, Turn.PEER_CLOSED
            filled += received
        return filled, Turn.DONE

    def _send_turn(self, file: int, offset: int, count: int) -> Progress:
        until = time.monotonic() + _TURN_S
        moved = 0
        while moved < count:
            if self._stop.is_set() or time.monotonic() > until:
                return Progress(moved, Turn.TIME_UP)
            try:
                sent = os.sendfile(self._socket.fileno(), file, offset + moved, min(count - moved, _SENDFILE_BYTES))
            except BlockingIOError:
                if moved >= _GRACE_AFTER_BYTES and self._ready(select.POLLOUT):
                    continue
                return Progress(moved, Turn.WOULD_BLOCK)
            if not sent:
                return Progress(moved, Turn.FILE_ENDED)
            moved += sent
        return Progress(moved, Turn.DONE)

    def _more_soon(self, framing: Framing) -> bool:
        """Wait the time of grace for a good deal more; a body that ends before that only costs this time."""
        self._raise_low_water(framing.wanted_bytes or _WAKE_AT_BYTES)
        return self._ready(select.POLLIN)

    def _ready(self, event: int) -> bool:
        poller = select.poll()
        poller.register(self._socket.fileno(), event)
        return bool(poller.poll(_GRACE_MS))


async def run_in_turn(function: Callable[..., T], *arguments: object) -> T:
    """Call a blocking function in a thread; when cancelled it has ended before this returns."""
    turn = asyncio.get_running_loop().run_in_executor(_threads(), function, *arguments)
    try:
        return await asyncio.shield(turn)
    except asyncio.CancelledError:
        await wait_out(turn)
        raise


async def _wait(
    watch: Callable[..., object], unwatch: Callable[[int], object], descriptor: int, timeout_s: float
) -> None:
    ready = asyncio.get_running_loop().create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    watch(descriptor, wake)
    try:
        await asyncio.wait((ready,), timeout=timeout_s)
    finally:
        unwatch(descriptor)


async def wait_out(turn: asyncio.Future[T]) -> None:
    """Wait for what was told to stop, through further cancellations; its outcome no longer matters."""
    while not turn.done():
        try:
            await asyncio.wait((turn,))
        except asyncio.CancelledError:
            continue
    if not turn.cancelled():
        turn.exception()


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=_THREADS, thread_name_prefix="transfer")


_local = threading.local()


def _thread_buffer() -> memoryview:
    buffer: memoryview | None = getattr(_local, "buffer", None)
    if buffer is None:
        buffer = _local.buffer = memoryview(bytearray(RECEIVE_BUFFER_BYTES))
    return buffer
