"""Objects as files: `root/<key>`, one file for each object, complete or not.

    root/blobs/<aa>/<uuid>

A file is not renamed when it is complete: that it counts is said by a row in PostgreSQL. While it is written it is held
by flock, so that two processes never write one file. Every blocking call runs in the store's own bounded thread pool;
a small object (up to 64 KiB) is created, written and made durable in a single hop to a thread.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from slipway_common.errors import SlipwayError, Unavailable
from slipway_common.storage.port import (
    SMALL_OBJECT_BYTES,
    UNLIMITED_ROOM_BYTES,
    ObjectLost,
    ObjectMissing,
    ObjectTooLarge,
    StorageFull,
    WriterBusy,
    WriterState,
    checked_key,
)

T = TypeVar("T")

_READ_CHUNK_BYTES = 256 * 1024
# After each of these the disk begins to write, so that the fsync at the end does not wait for the whole blob.
_WRITE_BEHIND_BYTES = 8 * 1024 * 1024
# A file that `abandon` removed between open and flock is opened anew; more than a few times means a bug.
_OPEN_ATTEMPTS = 5


class FileStore:
    """An object store in a folder of a local (or POSIX-true network) file system."""

    def __init__(self, root: Path, *, threads: int = 8) -> None:
        self._root = root
        self._pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="storage-files")
        self._folders = _Folders(root)

    async def open_writer(self, key: str, *, state: WriterState | None = None) -> FileWriter:
        """Begin or go on; a new file is touched only when more than 64 KiB have come, or at the first commit."""
        writer = FileWriter(self, checked_key(key), state.offset_bytes if state else 0)
        if state is not None:
            try:
                await self.run(writer.open_now)
            except BaseException:
                await writer.close()
                raise
        return writer

    async def create(self, key: str, content: bytes) -> bool:
        """Create, write and sync in one hop; the file system says whether the key was free."""
        return await self.run(self._create_now, self.path(key), content)

    def _create_now(self, path: Path, content: bytes) -> bool:
        try:
            self._folders.ensure(path.parent)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            return False
        except OSError as exc:
            raise storage_error(exc, path) from exc
        try:
            _write_fully(descriptor, content)
            os.fsync(descriptor)
            self._folders.sync(path.parent)
        except OSError as exc:
            _unlink_quietly(path)
            raise storage_error(exc, path) from exc
        finally:
            os.close(descriptor)
        return True

    async def open_reader(self, key: str, *, start: int = 0, length: int | None = None) -> FileReader:
        """Open, and read at once what is small: one hop."""
        path = self.path(key)
        opening = self._pool.submit(FileReader.open_now, self, path, start, length)
        try:
            return await asyncio.wrap_future(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close_unclaimed)
            raise

    async def read_all(self, key: str, *, max_bytes: int) -> bytes:
        """Read a whole object in one hop."""
        return await self.run(_read_whole, self.path(key), max_bytes)

    async def delete(self, keys: Sequence[str]) -> None:
        """Unlink the files."""
        paths = [self.path(key) for key in keys]

        def unlink_all() -> None:
            for path in paths:
                _unlink(path)

        await self.run(unlink_all)

    async def abandon(self, key: str, state: WriterState | None) -> None:
        """Unlink the file, whatever is in it."""
        await self.delete([key])

    async def size(self, key: str) -> int | None:
        """Answer the file's length in bytes."""
        path = self.path(key)

        def length() -> int | None:
            try:
                return os.stat(path).st_size
            except FileNotFoundError:
                return None
            except OSError as exc:
                raise storage_error(exc, path) from exc

        return await self.run(length)

    async def presigned_url(self, key: str, *, expires_s: int, content_type: str | None = None) -> str | None:
        """Answer None: files have no address of their own."""
        return None

    async def check(self) -> None:
        """Look at the folder, for at most 2 s: a network file system that is away blocks for ever."""

        def look() -> None:
            try:
                os.makedirs(self._root, mode=0o700, exist_ok=True)
                os.stat(self._root)
            except OSError as exc:
                raise storage_error(exc, self._root) from exc
            if not os.access(self._root, os.R_OK | os.W_OK | os.X_OK):
                raise Unavailable("the storage folder cannot be written", path=str(self._root))

        try:
            async with asyncio.timeout(2):
                await self.run(look)
        except TimeoutError as exc:
            raise Unavailable("the storage folder does not answer", path=str(self._root)) from exc

    async def close(self) -> None:
        """Stop the threads after their present work."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def path(self, key: str) -> Path:
        """Answer where a key's bytes are."""
        return self._root / checked_key(key)

    @property
    def folders(self) -> _Folders:
        """The folders known to be durable."""
        return self._folders

    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        """Call a blocking function in one of the store's threads."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)


class FileWriter:
    """Writes one file. Its lock serialises the threads that touch the descriptor, so that none outlives `close`."""

    room_bytes = UNLIMITED_ROOM_BYTES

    def __init__(self, store: FileStore, key: str, offset_bytes: int) -> None:
        self._store = store
        self._key = key
        self._path = store.path(key)
        self._start_bytes = offset_bytes
        self._offset_bytes = offset_bytes
        self._lock = threading.Lock()
        self._pending = bytearray()
        self._fd: int | None = None
        self._entry_durable = offset_bytes > 0
        self._dirty = False
        self._behind_bytes = 0
        self._closed = False
        self._failure: SlipwayError | None = None

    @property
    def offset_bytes(self) -> int:
        """Length of the object so far, durable or not."""
        return self._offset_bytes

    def write(self, chunk: memoryview | bytes) -> None:
        """Append, blocking."""
        with self._lock:
            self._check_usable()
            if self._fd is None and len(self._pending) + len(chunk) <= SMALL_OBJECT_BYTES:
                self._pending += chunk
            else:
                self._write_through(chunk)
            self._offset_bytes += len(chunk)

    async def flush(self) -> None:
        """Nothing to do: a file always has room."""

    async def commit(self) -> WriterState:
        """fsync the file, and the folders that lead to it."""
        await self._store.run(self._commit_now)
        return WriterState(offset_bytes=self._offset_bytes)

    async def finish(self) -> None:
        """As `commit`, then close, in one hop."""
        await self._store.run(self._finish_now)

    async def abort(self) -> None:
        """Close and unlink."""
        await self._store.run(self._abort_now)

    async def close(self) -> None:
        """Close the file; waits for a thread that is still writing."""
        if self._closed:
            return
        if self._lock.acquire(blocking=False):
            try:
                if not self._dirty:  # then closing does not wait for the disk
                    self._close()
                    return
            finally:
                self._lock.release()
        await asyncio.shield(asyncio.ensure_future(self._store.run(self._close_now)))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    # What follows runs in a thread.

    def open_now(self) -> None:
        """Open, lock, and cut off what was never committed."""
        with self._lock:
            self._check_usable()
            self._open()

    def _commit_now(self) -> None:
        with self._lock:
            self._check_usable()
            self._make_durable()

    def _finish_now(self) -> None:
        with self._lock:
            self._check_usable()
            self._make_durable()
            self._close()

    def _abort_now(self) -> None:
        with self._lock:
            _unlink(self._path)
            self._close()

    def _close_now(self) -> None:
        with self._lock:
            self._close()

    def _check_usable(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._closed:
            raise RuntimeError("the writer is closed")

    def _fail(self, failure: SlipwayError) -> SlipwayError:
        self._failure = failure
        return failure

    def _open(self) -> None:
        try:
            self._store.folders.ensure(self._path.parent)
            self._fd = _open_locked(self._path, create=self._start_bytes == 0)
            size = os.fstat(self._fd).st_size
            if size < self._start_bytes:
                raise ObjectMissing("fewer bytes in the file than were committed", key=self._key, size_bytes=size)
            if size > self._start_bytes:
                os.ftruncate(self._fd, self._start_bytes)
                self._dirty = True
            os.lseek(self._fd, self._start_bytes, os.SEEK_SET)
        except SlipwayError as exc:
            raise self._fail(exc) from exc.__cause__
        except OSError as exc:
            raise self._fail(storage_error(exc, self._path)) from exc

    def _write_through(self, *chunks: memoryview | bytes) -> None:
        if self._fd is None:
            self._open()
        assert self._fd is not None
        self._dirty = True
        try:
            for chunk in (self._pending, *chunks):
                _write_fully(self._fd, chunk)
                self._behind_bytes += len(chunk)
            if self._behind_bytes >= _WRITE_BEHIND_BYTES:
                _begin_write_back(self._fd, self._behind_bytes)
                self._behind_bytes = 0
        except OSError as exc:
            raise self._fail(storage_error(exc, self._path)) from exc
        self._pending = bytearray()

    def _make_durable(self) -> None:
        if self._fd is None or self._pending:
            self._write_through()
        assert self._fd is not None
        try:
            if os.fstat(self._fd).st_nlink == 0:
                raise self._fail(ObjectMissing("the file was removed while it was written", key=self._key))
        except OSError as exc:
            raise self._fail(storage_error(exc, self._path)) from exc
        try:
            if self._dirty:
                os.fsync(self._fd)
            if not self._entry_durable:
                self._store.folders.sync(self._path.parent)
        except OSError as exc:
            # After a failed fsync the kernel calls the pages clean: a second fsync would succeed without the bytes.
            _unlink_quietly(self._path)
            raise self._fail(ObjectLost("the file could not be made durable", key=self._key, reason=str(exc))) from exc
        self._dirty = False
        self._entry_durable = True

    def _close(self) -> None:
        self._closed = True
        self._pending = bytearray()
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


class FileReader:
    """Reads a range of one file."""

    def __init__(self, store: FileStore, fd: int, *, size_bytes: int, start: int, length_bytes: int) -> None:
        self._store = store
        self._fd: int | None = fd
        self._content: bytes | None = None
        self.size_bytes = size_bytes
        self.start = start
        self.length_bytes = length_bytes

    @classmethod
    def open_now(cls, store: FileStore, path: Path, start: int, length: int | None) -> FileReader:
        """Open in a thread; a range of up to 64 KiB is read at once, and its file closed."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as exc:
            raise storage_error(exc, path) from exc
        try:
            size = os.fstat(fd).st_size
            room = max(0, size - start)
            reader = cls(
                store, fd, size_bytes=size, start=start, length_bytes=room if length is None else min(length, room)
            )
            if reader.length_bytes <= SMALL_OBJECT_BYTES:
                reader._content = reader._pread(0, reader.length_bytes)
                reader.close_now()
        except OSError as exc:
            os.close(fd)
            raise storage_error(exc, path) from exc
        except BaseException:
            os.close(fd)
            raise
        return reader

    def local_file(self) -> int | None:
        """Answer the open descriptor; None when the range is in memory, or the reader is closed."""
        return self._fd

    def in_memory(self) -> bytes | None:
        """Answer the range when it was small."""
        return self._content

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._content is not None:
            if self._content:
                yield self._content
            return
        done = 0
        while done < self.length_bytes:
            chunk = await self._store.run(self._pread, done, min(_READ_CHUNK_BYTES, self.length_bytes - done))
            yield chunk
            done += len(chunk)

    async def close(self) -> None:
        """Close the file."""
        self.close_now()

    def close_now(self) -> None:
        """Close the file; a read-only descriptor closes without waiting for the disk."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close_now()

    def _pread(self, offset: int, length: int) -> bytes:
        if self._fd is None:
            raise RuntimeError("the reader is closed")
        try:
            chunk = os.pread(self._fd, length, self.start + offset)
        except OSError as exc:
            raise storage_error(exc, None) from exc
        if not chunk and length:
            raise Unavailable("the file ended early")
        return chunk


class _Turn:
    """The syncs of one folder, by number: the last that began, that succeeded, that failed."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.begun = self.done = self.failed = 0


class _Folders:
    """Makes folders and their entries durable, each once per process.

    A folder that exists may have been made a moment ago by another process which has not yet made it durable: so the
    parents are synced at the first use of a folder, whoever made it.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._durable: set[Path] = set()
        self._turns: dict[Path, _Turn] = {}

    def sync(self, folder: Path) -> None:
        """Make the entries of a folder durable. Who comes while that is being done shares the next time with others.

        Raises OSError, to all who shared it: what one fsync failed to write, the next one knows nothing of.
        """
        turn = self._turns.setdefault(folder, _Turn())
        arrived = turn.begun
        with turn.lock:
            if turn.failed > arrived:
                raise OSError(errno.EIO, "the folder could not be made durable", str(folder))
            if turn.done > arrived:
                return  # one that began after we came
            turn.begun += 1
            try:
                _fsync_folder(folder)
            except OSError:
                turn.failed = turn.begun
                raise
            turn.done = turn.begun

    def ensure(self, folder: Path) -> None:
        """Make the folder if need be; raises OSError."""
        if folder in self._durable and folder.exists():
            return
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        at = folder
        while True:
            _fsync_folder(at.parent)
            if at in (self._root, at.parent):
                break
            at = at.parent
        self._durable.add(folder)


def storage_error(exc: OSError, path: Path | None) -> SlipwayError:
    """Map what the operating system says to the port's errors."""
    facts = {"path": str(path), "reason": exc.strerror or str(exc)}
    if exc.errno == errno.ENOENT:
        return ObjectMissing("no such object", **facts)
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull("no space left for objects", **facts)
    return Unavailable("the storage folder failed", **facts)


def _close_unclaimed(opening: Future[FileReader]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close_now()


def _open_locked(path: Path, *, create: bool) -> int:
    for _ in range(_OPEN_ATTEMPTS):
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT if create else 0)
        fd = os.open(path, flags, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(fd).st_nlink:
                return fd
        except BlockingIOError as exc:
            os.close(fd)
            raise WriterBusy("another writer has this object open", path=str(path)) from exc
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
    raise WriterBusy("the object is being removed", path=str(path))


def _write_fully(fd: int, chunk: memoryview | bytes | bytearray) -> None:
    with memoryview(chunk) as rest:
        written = 0
        while written < len(rest):
            written += os.write(fd, rest[written:])


def _begin_write_back(fd: int, last_bytes: int) -> None:
    """On Linux this advice starts the writing of dirty pages and drops none of them; elsewhere it is at worst idle."""
    end = os.lseek(fd, 0, os.SEEK_CUR)
    os.posix_fadvise(fd, end - last_bytes, last_bytes, os.POSIX_FADV_DONTNEED)


def _read_whole(path: Path, max_bytes: int) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            if os.fstat(file.fileno()).st_size > max_bytes:
                raise ObjectTooLarge("the object is larger than was asked for", max_bytes=max_bytes)
            return file.readall()
    except OSError as exc:
        raise storage_error(exc, path) from exc


def _fsync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _unlink(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as exc:
        raise storage_error(exc, path) from exc


def _unlink_quietly(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:  # the next writer finds fewer bytes than were committed, or reaping removes it
        return
