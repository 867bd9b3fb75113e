"""Receiving blobs: sessions that any process can go on with, bytes hashed on their way to their final key."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Protocol

import structlog
from cachetools import LRUCache
from prometheus_client import Counter

from slipway_common.errors import InvalidInput, NotFound
from slipway_common.oci.digests import Digest, InvalidDigest, algorithm_of, digest_of, new_hash
from slipway_common.storage.port import (
    UNLIMITED_ROOM_BYTES,
    ObjectLost,
    ObjectMissing,
    ObjectStore,
    ObjectWriter,
    WriterBusy,
)
from slipway_gateway.cache import ContentCache
from slipway_gateway.store.repositories import Repository
from slipway_gateway.store.uploads import LeaseLost, UploadSession, UploadStore, storage_key_of

if TYPE_CHECKING:
    from hashlib import _Hash

_log = structlog.get_logger()
_received = Counter("slipway_upload_bytes", "Bytes of blobs received")
_committed = Counter("slipway_blobs_committed", "Blobs uploaded and committed", ["kept"])

RENEW_EVERY_S = 10.0
_READ_BACK_CHUNK_BYTES = 1024 * 1024


class UploadUnknown(NotFound):
    """No such session, or not this principal's, or not of this repository."""


class OutOfOrder(InvalidInput):
    """The bytes do not continue where the session stands, or somebody else is writing. The session lives on."""

    def __init__(self, upload_id: uuid.UUID, offset_bytes: int, message: str) -> None:
        super().__init__(message, offset_bytes=offset_bytes)
        self.upload_id = upload_id
        self.offset_bytes = offset_bytes


class CutOff(InvalidInput):
    """The body ended before its announced length; what came is kept, and the session can be resumed."""


class Receive(Protocol):
    """Streams a request's body to `consume`, in worker threads; the number of bytes that came. Raises CutOff."""

    async def __call__(
        self,
        consume: Callable[[memoryview], None],
        *,
        room: Callable[[], int],
        flush: Callable[[], Awaitable[None]],
    ) -> int: ...


class _Body:
    """Hashes and writes one request's bytes, and keeps a copy while they are few."""

    def __init__(self, writer: ObjectWriter, hash_: _Hash | None, *, keep_bytes: int) -> None:
        self._writer = writer
        self.hash = hash_
        self.received_bytes = 0
        self._keep_bytes = keep_bytes
        self._kept: bytearray | None = bytearray() if keep_bytes else None

    def consume(self, chunk: memoryview) -> None:
        if self.hash is not None:
            self.hash.update(chunk)
        self._writer.write(chunk)
        self.received_bytes += len(chunk)
        if self._kept is not None:
            if self.received_bytes > self._keep_bytes:
                self._kept = None
            else:
                self._kept += chunk

    @property
    def content(self) -> bytes | None:
        return bytes(self._kept) if self._kept is not None else None


def _replay(content: bytes) -> Receive:
    """A body that has been received already."""

    async def receive(
        consume: Callable[[memoryview], None], *, room: Callable[[], int], flush: Callable[[], Awaitable[None]]
    ) -> int:
        rest = memoryview(content)
        while rest:
            if room() == 0:
                await flush()
            size = min(room(), len(rest))
            consume(rest[:size])
            rest = rest[size:]
        return len(content)

    return receive


async def _nothing() -> None:
    return None


class _Later:
    """Work that begins after a while, if it has not been stopped by then: most uploads are over before."""

    def __init__(self, after_s: float, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._work = work
        self._task: asyncio.Task[None] | None = None
        self._timer = asyncio.get_running_loop().call_later(after_s, self._begin)

    def _begin(self) -> None:
        self._task = asyncio.create_task(self._work(), name="renew-upload-lease")

    async def stop(self) -> None:
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            if not self._task.cancelled() and (exc := self._task.exception()) is not None:
                _log.warning("upload_lease_not_renewed", error=f"{type(exc).__name__}: {exc}")


class Uploads:
    """Everything that can be done with an upload session."""

    def __init__(self, store: UploadStore, objects: ObjectStore, content: ContentCache) -> None:
        self._store = store
        self._objects = objects
        self._content = content
        # Hashes of sessions that this process wrote last, by session: (bytes hashed, hash). Another process, or one that
        # has forgotten, reads the stored bytes again at the end.
        self._hashes: LRUCache[uuid.UUID, tuple[int, _Hash]] = LRUCache(maxsize=4096)

    async def open(self, repository: Repository, principal: str, *, algorithm: str) -> UploadSession:
        """Begin a session."""
        return await self._store.open(repository.id, principal, algorithm=algorithm)

    async def get(self, repository: Repository, principal: str, upload_id: uuid.UUID) -> UploadSession:
        """Raise UploadUnknown unless the session is this principal's, in this repository."""
        session = await self._store.find(upload_id, repository.id, principal)
        if session is None:
            raise UploadUnknown("no such upload", upload=str(upload_id))
        return session

    async def cancel(self, repository: Repository, principal: str, upload_id: uuid.UUID) -> None:
        """End a session; its bytes are deleted. Raises UploadUnknown, or OutOfOrder while another request is writing."""
        if await self._store.end(upload_id, repository.id, principal):
            self._hashes.pop(upload_id, None)
            return
        raise self._busy(await self.get(repository, principal, upload_id))

    async def put_whole(self, repository: Repository, principal: str, *, digest: Digest, receive: Receive) -> None:
        """Receive a blob in one request (POST with `digest`)."""
        token = uuid.uuid4()
        session = await self._store.open(repository.id, principal, algorithm=algorithm_of(digest), lease_token=token)
        try:
            async with self._writing(session, repository, principal, token):
                await self._finish(session, repository, principal, token, digest=digest, receive=receive)
        except BaseException:
            # The client never learns the session's id, so nobody could go on with it.
            with contextlib.suppress(Exception):
                await asyncio.shield(self._store.end(session.id, repository.id, principal, token))
            raise

    async def append(
        self,
        repository: Repository,
        principal: str,
        upload_id: uuid.UUID,
        *,
        start: int | None,
        receive: Receive,
    ) -> int:
        """Add a request's body to the session (PATCH); the session's new length in bytes.

        `start` is where the client says the bytes belong. Raises UploadUnknown, OutOfOrder, CutOff.
        """
        session, token = await self._lease(repository, principal, upload_id, start)
        async with self._writing(session, repository, principal, token):
            return await self._append(session, token, receive)

    async def finish(
        self,
        repository: Repository,
        principal: str,
        upload_id: uuid.UUID,
        *,
        start: int | None,
        digest: Digest,
        receive: Receive,
        small: bool = False,
    ) -> None:
        """Add the last bytes, if any, and turn the session into a blob (PUT).

        Raises InvalidDigest, which ends the session; UploadUnknown, OutOfOrder and CutOff as `append`. `small`: the request's
        body is known to be small, and may be all there is.
        """
        if small and start in (None, 0):
            content = bytearray()
            _received.inc(await receive(content.extend, room=lambda: UNLIMITED_ROOM_BYTES, flush=_nothing))
            if content and await self._finish_small(repository, principal, upload_id, digest, bytes(content)):
                return
            receive = _replay(bytes(content))
        session, token = await self._lease(repository, principal, upload_id, start)
        async with self._writing(session, repository, principal, token):
            await self._finish(session, repository, principal, token, digest=digest, receive=receive)

    async def _finish_small(
        self, repository: Repository, principal: str, upload_id: uuid.UUID, digest: Digest, content: bytes
    ) -> bool:
        """Put a blob that came whole, without asking about its session first; False if that is not what it is.

        Most blobs are small, and are sent whole to a session just opened: for them the file is the lock (it must not have been
        there), and the statement that commits the blob checks that the session is fresh.
        """
        if digest_of(content, algorithm_of(digest)) != digest:
            return False
        key = storage_key_of(upload_id)
        if not await self._objects.create(key, content):
            return False
        kept = await asyncio.shield(
            self._store.commit_blob(
                upload_id, repository.id, principal, token=None, digest=digest, size_bytes=len(content)
            )
        )
        if kept is None:
            await self._objects.delete([key])
            return False
        self._count(kept, digest, content)
        return True

    async def _lease(
        self, repository: Repository, principal: str, upload_id: uuid.UUID, start: int | None
    ) -> tuple[UploadSession, uuid.UUID]:
        token = uuid.uuid4()
        session = await self._store.lease(upload_id, repository.id, principal, token)
        if session is None:
            raise self._busy(await self.get(repository, principal, upload_id))
        if start is not None and start != session.offset_bytes:
            await self._store.release(upload_id, token)
            raise OutOfOrder(
                upload_id, session.offset_bytes, f"the next byte to send is {session.offset_bytes}, not {start}"
            )
        return session, token

    def _busy(self, session: UploadSession) -> OutOfOrder:
        return OutOfOrder(session.id, session.offset_bytes, "another request is writing to this upload")

    @contextlib.asynccontextmanager
    async def _writing(
        self, session: UploadSession, repository: Repository, principal: str, token: uuid.UUID
    ) -> AsyncIterator[None]:
        """Let go of the session's lease however the request ends; a wrong digest ends the session itself."""
        try:
            yield
        except InvalidDigest:
            self._hashes.pop(session.id, None)
            await self._store.end(session.id, repository.id, principal, token)
            raise
        except (ObjectLost, ObjectMissing) as exc:
            # What was stored is gone or cannot be trusted: nobody can go on from there.
            self._hashes.pop(session.id, None)
            await self._store.end(session.id, repository.id, principal, token)
            raise UploadUnknown("what was uploaded so far is lost; begin again", upload=str(session.id)) from exc
        except (LeaseLost, WriterBusy) as exc:
            raise self._busy(session) from exc
        except BaseException:
            with contextlib.suppress(Exception):
                await asyncio.shield(self._store.release(session.id, token))
            raise

    async def _append(self, session: UploadSession, token: uuid.UUID, receive: Receive) -> int:
        hash_ = self._take_hash(session)
        async with await self._objects.open_writer(session.storage_key, state=session.state) as writer:
            body = _Body(writer, hash_, keep_bytes=0)
            try:
                await self._receive(session, token, writer, body, receive)
            except CutOff:
                await asyncio.shield(self._advance(session, token, writer, body))
                raise
            return await self._advance(session, token, writer, body)

    async def _advance(self, session: UploadSession, token: uuid.UUID, writer: ObjectWriter, body: _Body) -> int:
        """Make what came durable, then say so."""
        state = await writer.commit()
        offset = session.offset_bytes + body.received_bytes
        so_far = Digest(f"{session.algorithm}:{body.hash.hexdigest()}") if body.hash is not None else None
        await self._store.advance(session.id, token, offset_bytes=offset, digest_so_far=so_far, state=state)
        if body.hash is not None:
            self._hashes[session.id] = (offset, body.hash)
        return offset

    async def _finish(
        self,
        session: UploadSession,
        repository: Repository,
        principal: str,
        token: uuid.UUID,
        *,
        digest: Digest,
        receive: Receive,
    ) -> None:
        hash_ = self._hash_for(session, digest)
        async with await self._objects.open_writer(session.storage_key, state=session.state) as writer:
            body = _Body(writer, hash_, keep_bytes=0 if session.offset_bytes else self._content.max_item_bytes)
            try:
                await self._receive(session, token, writer, body, receive)
            except CutOff:
                if algorithm_of(digest) == session.algorithm or body.hash is None:
                    await asyncio.shield(self._advance(session, token, writer, body))
                raise
            await self._check_early(session, body, digest)
            await writer.finish()
        size_bytes = session.offset_bytes + body.received_bytes
        if body.hash is None and not self._known(session, body, digest):
            await self._verify_stored(session, digest)
        # Once begun the commit is seen through, even if the client leaves: it decides whose the bytes are.
        kept = await asyncio.shield(
            self._store.commit_blob(
                session.id, repository.id, principal, token=token, digest=digest, size_bytes=size_bytes
            )
        )
        if kept is None:
            raise LeaseLost("another request is writing to this upload")
        self._hashes.pop(session.id, None)
        self._count(kept, digest, body.content)

    def _count(self, kept: bool, digest: Digest, content: bytes | None) -> None:
        _committed.labels("new" if kept else "again").inc()
        if content is not None:
            self._content.put(digest, content)

    async def _check_early(self, session: UploadSession, body: _Body, digest: Digest) -> None:
        """Refuse a wrong digest before the store is asked to complete the object."""
        if body.hash is not None and body.hash.hexdigest() != digest.partition(":")[2]:
            raise InvalidDigest("the bytes received do not have this digest", digest=digest)
        if body.hash is None and self._comparable(session, body, digest) and session.digest_so_far != digest:
            raise InvalidDigest("the bytes received do not have this digest", digest=digest)

    def _comparable(self, session: UploadSession, body: _Body, digest: Digest) -> bool:
        """Whether the digest that was stored beside the offset says all: nothing came since, and it is of the same kind."""
        return (
            not body.received_bytes
            and session.digest_so_far is not None
            and algorithm_of(session.digest_so_far) == algorithm_of(digest)
        )

    def _known(self, session: UploadSession, body: _Body, digest: Digest) -> bool:
        return self._comparable(session, body, digest) and session.digest_so_far == digest

    async def _receive(
        self, session: UploadSession, token: uuid.UUID, writer: ObjectWriter, body: _Body, receive: Receive
    ) -> None:
        renewal = _Later(RENEW_EVERY_S, lambda: self._renew(session, token, body))
        try:
            _received.inc(await receive(body.consume, room=lambda: writer.room_bytes, flush=writer.flush))
        finally:
            await renewal.stop()

    async def _renew(self, session: UploadSession, token: uuid.UUID, body: _Body) -> None:
        """Keep the lease for as long as bytes come: a client that stalls loses it, whatever our clock does."""
        seen = 0
        while True:
            if body.received_bytes > seen:
                seen = body.received_bytes
                await self._store.renew(session.id, token)
            await asyncio.sleep(RENEW_EVERY_S)

    def _take_hash(self, session: UploadSession) -> _Hash | None:
        """The hash of all committed bytes, if this process has it."""
        if session.offset_bytes == 0:
            return new_hash(session.algorithm)
        hashed, hash_ = self._hashes.pop(session.id, (0, None))
        return hash_ if hashed == session.offset_bytes else None

    def _hash_for(self, session: UploadSession, digest: Digest) -> _Hash | None:
        if session.offset_bytes == 0:
            return new_hash(algorithm_of(digest))
        return self._take_hash(session) if algorithm_of(digest) == session.algorithm else None

    async def _verify_stored(self, session: UploadSession, digest: Digest) -> None:
        """Hash the complete object again, as nobody hashed it in one go with this algorithm. Raises InvalidDigest."""
        hash_ = new_hash(algorithm_of(digest))
        async with await self._objects.open_reader(session.storage_key) as reader:
            async for chunk in reader:
                await asyncio.to_thread(hash_.update, chunk)
        if hash_.hexdigest() != digest.partition(":")[2]:
            raise InvalidDigest("the bytes received do not have this digest", digest=digest)
