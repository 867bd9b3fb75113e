"""The bytes of an upload on their way in: hashed, and held in memory for as long as they may become a row."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from slipway_common.storage.port import ObjectWriter, WriterState
from slipway_gateway.store.blobs import ROW_BLOB_BYTES

if TYPE_CHECKING:
    from hashlib import _Hash


class Receive(Protocol):
    """Streams a request's body to `consume`, in worker threads; the number of bytes that came. Raises CutOff."""

    async def __call__(
        self,
        consume: Callable[[memoryview], None],
        *,
        room: Callable[[], int],
        flush: Callable[[], Awaitable[None]],
    ) -> int: ...


def replay(content: bytes | bytearray) -> Receive:
    """A body that has been received already."""

    async def receive(
        consume: Callable[[memoryview], None], *, room: Callable[[], int], flush: Callable[[], Awaitable[None]]
    ) -> int:
        rest = memoryview(content)
        while rest:
            size = min(room(), len(rest))
            if size == 0:
                await flush()
                continue
            consume(rest[:size])
            rest = rest[size:]
        return len(content)

    return receive


class Intake:
    """What a session has, and what one request adds to it.

    `held` is all that came before, or None if it is in storage. While the whole is no larger than a row may be it is held in
    memory; where more comes there is no room, and `flush` opens the session's object and writes to it from then on. A copy is
    kept up to `keep_bytes`. Use as an async context manager: leaving it lets go of the object and deletes nothing.
    """

    def __init__(
        self,
        held: bytes | None,
        hash_: _Hash | None,
        open_writer: Callable[[], Awaitable[ObjectWriter]],
        *,
        keep_bytes: int = 0,
    ) -> None:
        self.hash = hash_
        self.received_bytes = 0
        self._open_writer = open_writer
        self._writer: ObjectWriter | None = None
        self._kept = bytearray(held) if held is not None else None
        self._keep_bytes = max(keep_bytes, ROW_BLOB_BYTES)

    @property
    def content(self) -> bytes | None:
        """All the session has, if that is little."""
        return bytes(self._kept) if self._kept is not None else None

    @property
    def held(self) -> bytes | None:
        """All the session has, if nothing of it went to storage: it may become a row."""
        return self.content if self._writer is None else None

    def room(self) -> int:
        """How much `consume` takes now; at 0 await `flush` first."""
        if self._writer is not None:
            return self._writer.room_bytes
        return ROW_BLOB_BYTES - len(self._kept) if self._kept is not None else 0

    def consume(self, chunk: memoryview) -> None:
        """Take bytes in, blocking: not more than there is room for."""
        if self.hash is not None:
            self.hash.update(chunk)
        if self._writer is not None:
            self._writer.write(chunk)
        self.received_bytes += len(chunk)
        if self._kept is not None:
            if len(self._kept) + len(chunk) > self._keep_bytes:
                self._kept = None
            else:
                self._kept += chunk

    async def flush(self) -> None:
        """Make room."""
        if self._writer is None:
            await self.open()
        else:
            await self._writer.flush()

    async def open(self) -> None:
        """Open the object, and write to it what was held so far."""
        self._writer = writer = await self._open_writer()
        await replay(self._kept or b"")(writer.write, room=lambda: writer.room_bytes, flush=writer.flush)

    async def commit(self) -> WriterState | None:
        """Make durable what is in storage, if anything is; the state to store with the offset."""
        return await self._writer.commit() if self._writer is not None else None

    async def finish(self) -> None:
        """Make the object complete, if there is one."""
        if self._writer is not None:
            await self._writer.finish()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._writer is not None:
            await self._writer.close()
