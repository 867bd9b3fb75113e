"""The object-store port: opaque keys, objects written once from front to back.

    SlipwayError
    ├── NotFound
    │   └── ObjectMissing       no object under this key, or less of it than was committed
    ├── InvalidInput
    │   └── ObjectTooLarge      more bytes than the store can keep in one object
    ├── Conflict
    │   └── WriterBusy          another writer has this object open
    └── Unavailable             the store is away, slow or broken: try again later
        ├── StorageFull         no space, no inodes, or over the operator's quota
        └── ObjectLost          what was written cannot be trusted: the upload must begin anew

An upload outlives a process. `ObjectWriter.commit` makes durable what was written so far and answers a `WriterState`;
the caller stores it beside the offset (in PostgreSQL), and any process goes on from there with `open_writer`.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

from slipway_common.errors import Conflict, InvalidInput, NotFound, Unavailable

UNLIMITED_ROOM_BYTES = 1 << 62
# What a store may handle in one go: an object of this size is written, or read, with a single call.
SMALL_OBJECT_BYTES = 64 * 1024

_KEY = re.compile(r"[a-z0-9][a-z0-9._-]*(?:/[a-z0-9][a-z0-9._-]*)*")
_MAX_KEY_LENGTH = 512


class ObjectMissing(NotFound):
    """No object under this key, or less of it than was committed."""


class ObjectTooLarge(InvalidInput):
    """More bytes than the store can keep in one object."""


class WriterBusy(Conflict):
    """Another writer has this object open."""


class StorageFull(Unavailable):
    """No space, no inodes, or over the operator's quota."""

    retry_after_s = 60


class ObjectLost(Unavailable):
    """The bytes written cannot be trusted (fsync failed, parts vanished): the upload must begin anew."""


@dataclass(frozen=True, slots=True)
class WriterState:
    """Where a committed upload stands; opaque to all but the store that made it.

    `offset_bytes` is the length that is durable. The rest is S3's: the multipart upload, its parts as (number, ETag) in
    order, the size every part has, the object that holds the tail shorter than a part, and the tails before it: the
    next writer deletes those, for by then this state is the stored one.
    """

    offset_bytes: int
    upload_id: str | None = None
    parts: tuple[tuple[int, str], ...] = ()
    part_size_bytes: int = 0
    tail_key: str | None = None
    stale_keys: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Render as a JSON object, leaving out what is not set."""
        fields: dict[str, Any] = {
            "offset_bytes": self.offset_bytes,
            "upload_id": self.upload_id,
            "parts": [[number, etag] for number, etag in self.parts],
            "part_size_bytes": self.part_size_bytes,
            "tail_key": self.tail_key,
            "stale_keys": list(self.stale_keys),
        }
        return {name: value for name, value in fields.items() if value or name == "offset_bytes"}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote."""
        return cls(
            offset_bytes=int(fields["offset_bytes"]),
            upload_id=fields.get("upload_id"),
            parts=tuple((int(number), str(etag)) for number, etag in fields.get("parts", ())),
            part_size_bytes=int(fields.get("part_size_bytes", 0)),
            tail_key=fields.get("tail_key"),
            stale_keys=tuple(str(key) for key in fields.get("stale_keys", ())),
        )


class ObjectWriter(Protocol):
    """One upload being written. Use as an async context manager: leaving it closes, and deletes nothing.

    A failed call leaves the writer broken: every later call but `close` and `abort` raises the same error.
    """

    @property
    def offset_bytes(self) -> int:
        """Length of the object so far, durable or not."""

    @property
    def room_bytes(self) -> int:
        """How much `write` takes now; at 0 await `flush` first."""

    def write(self, chunk: memoryview | bytes) -> None:
        """Append bytes, blocking: call it from a worker thread, never with more than `room_bytes`."""

    async def flush(self) -> None:
        """Make room: send a part that is full, and wait for buffer space. Durable is only what `commit` covers."""

    async def commit(self) -> WriterState:
        """Make everything written so far durable and answer the state to store with the offset."""

    async def finish(self) -> None:
        """Make the object complete and durable under its key, and close. Idempotent over processes."""

    async def abort(self) -> None:
        """Close, and delete whatever this upload left in the store."""

    async def close(self) -> None:
        """Let go of the object; what was committed stays and can be resumed. Idempotent."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


class ObjectReader(Protocol):
    """A range of one object. Use as an async context manager, or `close` it."""

    @property
    def size_bytes(self) -> int:
        """Size of the whole object."""

    @property
    def start(self) -> int:
        """First byte of the range."""

    @property
    def length_bytes(self) -> int:
        """Bytes in the range, cut at the object's end."""

    def local_file(self) -> int | None:
        """Answer an open file descriptor (the reader's own) when the bytes are in a local file."""

    def in_memory(self) -> bytes | None:
        """Answer the whole range when it is small and already read."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Iterate over the range in bounded chunks; raises Unavailable when the store ends early."""

    async def close(self) -> None:
        """Let go of file or connection. Idempotent."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


class ObjectStore(Protocol):
    """Keeps objects under opaque keys. Every call may raise Unavailable."""

    async def open_writer(self, key: str, *, state: WriterState | None = None) -> ObjectWriter:
        """Begin a new object, or go on exactly at `state.offset_bytes`; bytes beyond it are cut off.

        Raises WriterBusy (some stores only when the writer first touches the object) and ObjectMissing when what was
        committed is not there any more.
        """

    async def create(self, key: str, content: bytes) -> bool:
        """Put a small object, whole and durable, under a key that has none; False if it has, or if the store cannot tell."""

    async def open_reader(self, key: str, *, start: int = 0, length: int | None = None) -> ObjectReader:
        """Open a range; it is cut at the object's end. Raises ObjectMissing."""

    async def read_all(self, key: str, *, max_bytes: int) -> bytes:
        """Read a whole object into memory. Raises ObjectTooLarge over `max_bytes`, ObjectMissing."""

    async def delete(self, keys: Sequence[str]) -> None:
        """Delete objects; missing ones are fine."""

    async def abandon(self, key: str, state: WriterState | None) -> None:
        """Delete whatever an unfinished upload left."""

    async def size(self, key: str) -> int | None:
        """Answer the size of a complete object in bytes, None when there is none."""

    async def presigned_url(self, key: str, *, expires_s: int, content_type: str | None = None) -> str | None:
        """Answer a URL that serves the object for `expires_s`, None when this store has no such thing."""

    async def check(self) -> None:
        """Raise Unavailable when the store cannot serve."""

    async def close(self) -> None:
        """Let go of threads and connections."""


def checked_key(key: str) -> str:
    """Answer the key; raise ValueError unless it is a relative path of plain lower-case components."""
    if len(key) > _MAX_KEY_LENGTH or not _KEY.fullmatch(key):
        raise ValueError(f"not a storage key: {key!r}")
    return key
