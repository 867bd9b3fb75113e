"""Receiving blobs: sessions that any process can go on with, bytes hashed on their way to their final key."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import structlog
from cachetools import LRUCache
from prometheus_client import Counter

from slipway_common.errors import InvalidInput, NotFound
from slipway_common.oci.digests import Digest, InvalidDigest, algorithm_of, digest_of, new_hash
from slipway_common.storage.port import (
    SMALL_OBJECT_BYTES,
    UNLIMITED_ROOM_BYTES,
    ObjectLost,
    ObjectMissing,
    ObjectStore,
    ObjectWriter,
    WriterBusy,
)
from slipway_gateway.cache import ContentCache
from slipway_gateway.intake import Intake, Receive, replay
from slipway_gateway.store.blobs import ROW_BLOB_BYTES
from slipway_gateway.store.repositories import Repository
from slipway_gateway.store.uploads import LeaseLost, UploadSession, UploadStore, storage_key_of

if TYPE_CHECKING:
    from hashlib import _Hash

_log = structlog.get_logger()
_received = Counter("slipway_upload_bytes", "Bytes of blobs received")
_committed = Counter("slipway_blobs_committed", "Blobs uploaded and committed", ["kept"])

# A push may take as long as this on one login; then it must log in again.
_OUTLIVES_TOKEN_FOR = timedelta(hours=24)

RENEW_EVERY_S = 10.0


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

    async def open(
        self, repository: Repository, principal: str, *, algorithm: str, token_id: str | None = None
    ) -> UploadSession:
        """Begin a session. The token that opened it may see it through, even if it expires meanwhile."""
        return await self._store.open(repository.id, principal, algorithm=algorithm, token_id=token_id)

    async def outlives_token(self, principal: str, upload_id: uuid.UUID, token_id: str | None) -> bool:
        """Whether a token that has expired may still go on with this session: it is the one that opened it."""
        return token_id is not None and await self._store.was_opened_by(
            upload_id, principal, token_id, max_age=_OUTLIVES_TOKEN_FOR
        )

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

    async def put_whole(
        self, repository: Repository, principal: str, *, digest: Digest, receive: Receive, size_bytes: int | None
    ) -> None:
        """Receive a blob in one request (POST with `digest`). `size_bytes`: the length of its body, if that is known."""
        if size_bytes is not None and size_bytes <= ROW_BLOB_BYTES:
            await self._put_row(repository, digest, await self._receive_small(receive))
            return
        token = uuid.uuid4()
        session = await self._store.open(repository.id, principal, algorithm=algorithm_of(digest), lease_token=token)
        try:
            async with self._writing(session, repository, principal, token):
                await self._finish(
                    session, repository, principal, token, digest=digest, receive=receive, size_bytes=size_bytes
                )
        except BaseException:
            # The client never learns the session's id, so nobody could go on with it.
            with contextlib.suppress(Exception):
                await asyncio.shield(self._store.end(session.id, repository.id, principal, token))
            raise

    async def _put_row(self, repository: Repository, digest: Digest, content: bytes) -> None:
        if digest_of(content, algorithm_of(digest)) != digest:
            raise _wrong(digest)
        kept = await asyncio.shield(self._store.put_small(repository.id, digest=digest, content=content))
        self._count(kept, digest, content)

    async def append(
        self,
        repository: Repository,
        principal: str,
        upload_id: uuid.UUID,
        *,
        start: int | None,
        receive: Receive,
        size_bytes: int | None,
    ) -> int:
        """Add a request's body to the session (PATCH); the session's new length in bytes.

        `start` is where the client says the bytes belong, `size_bytes` how many it says they are. Raises UploadUnknown,
        OutOfOrder, CutOff.
        """
        session, token = await self._lease(repository, principal, upload_id, start)
        async with (
            self._writing(session, repository, principal, token),
            self._intake(session, session.algorithm, size_bytes) as intake,
        ):
            try:
                await self._receive(session, token, intake, receive)
            except CutOff:
                await asyncio.shield(self._advance(session, token, intake))
                raise
            return await self._advance(session, token, intake)

    async def finish(
        self,
        repository: Repository,
        principal: str,
        upload_id: uuid.UUID,
        *,
        start: int | None,
        digest: Digest,
        receive: Receive,
        size_bytes: int | None,
    ) -> None:
        """Add the last bytes, if any, and turn the session into a blob (PUT).

        Raises InvalidDigest, which ends the session; UploadUnknown, OutOfOrder and CutOff as `append`.
        """
        if self._may_be_at_once(upload_id, start, size_bytes):
            content = await self._receive_small(receive)
            if await self._finish_at_once(repository, principal, upload_id, digest, content):
                return
            receive = replay(content)
        session, token = await self._lease(repository, principal, upload_id, start)
        async with self._writing(session, repository, principal, token):
            await self._finish(
                session, repository, principal, token, digest=digest, receive=receive, size_bytes=size_bytes
            )

    def _may_be_at_once(self, upload_id: uuid.UUID, start: int | None, size_bytes: int | None) -> bool:
        """Whether the body may be a small blob whole, or be empty because a small one has come already."""
        if size_bytes is None or size_bytes > SMALL_OBJECT_BYTES or upload_id in self._hashes:
            return False
        return start is None or (start == 0 and size_bytes > 0)

    async def _finish_at_once(
        self, repository: Repository, principal: str, upload_id: uuid.UUID, digest: Digest, content: bytes
    ) -> bool:
        """Commit a small blob without asking about its session first; False if that is not what it is.

        Most blobs are small, and are sent whole to a session just opened, in this request or the one before: the statement
        that commits the blob checks that. If it is too large for a row, the file is the lock: it must not have been there.
        """
        if content and digest_of(content, algorithm_of(digest)) != digest:
            return False
        if len(content) > ROW_BLOB_BYTES:
            kept = await self._put_object(repository, principal, upload_id, digest, content)
        else:
            # Without bytes of its own the request means those that the session holds.
            kept = await asyncio.shield(
                self._store.commit_small(
                    upload_id, repository.id, principal, token=None, digest=digest, content=content or None
                )
            )
        if kept is None:
            return False
        self._count(kept, digest, content or None)
        return True

    async def _put_object(
        self, repository: Repository, principal: str, upload_id: uuid.UUID, digest: Digest, content: bytes
    ) -> bool | None:
        key = storage_key_of(upload_id)
        if not await self._objects.create(key, content):
            return None
        kept = await asyncio.shield(
            self._store.commit_blob(
                upload_id, repository.id, principal, token=None, digest=digest, size_bytes=len(content)
            )
        )
        if kept is None:
            await self._objects.delete([key])
        return kept

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

    @contextlib.asynccontextmanager
    async def _intake(self, session: UploadSession, algorithm: str, size_bytes: int | None) -> AsyncIterator[Intake]:
        """Take bytes in behind what the session has. Its object is opened at once if it is clear that it will be."""

        async def open_writer() -> ObjectWriter:
            return await self._objects.open_writer(session.storage_key, state=session.state)

        held = session.held
        hash_ = self._hash_for(session, algorithm)
        async with Intake(held, hash_, open_writer, keep_bytes=self._content.max_item_bytes) as intake:
            if held is None or len(held) + (size_bytes or 0) > ROW_BLOB_BYTES:
                await intake.open()
            yield intake

    async def _advance(self, session: UploadSession, token: uuid.UUID, intake: Intake) -> int:
        """Make what came durable, and say so; what is held becomes durable by that."""
        state, held = await intake.commit(), intake.held
        offset = session.offset_bytes + intake.received_bytes
        so_far = Digest(f"{session.algorithm}:{intake.hash.hexdigest()}") if intake.hash is not None else None
        await self._store.advance(
            session.id, token, offset_bytes=offset, digest_so_far=so_far, state=state, content=held
        )
        if held is not None and so_far is not None:
            self._content.put(so_far, held)
        elif intake.hash is not None:
            self._hashes[session.id] = (offset, intake.hash)
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
        size_bytes: int | None,
    ) -> None:
        async with self._intake(session, algorithm_of(digest), size_bytes) as intake:
            try:
                await self._receive(session, token, intake, receive)
            except CutOff:
                if algorithm_of(digest) == session.algorithm or intake.hash is None:
                    await asyncio.shield(self._advance(session, token, intake))
                raise
            await self._check_early(session, intake, digest)
            await intake.finish()
        if intake.hash is None and not self._known(session, intake, digest):
            await self._verify_stored(session, digest)
        held, whole_bytes = intake.held, session.offset_bytes + intake.received_bytes
        if held is not None:
            commit = self._store.commit_small(
                session.id, repository.id, principal, token=token, digest=digest, content=held
            )
        else:
            commit = self._store.commit_blob(
                session.id, repository.id, principal, token=token, digest=digest, size_bytes=whole_bytes
            )
        # Once begun the commit is seen through, even if the client leaves: it decides whose the bytes are.
        kept = await asyncio.shield(commit)
        if kept is None:
            raise LeaseLost("another request is writing to this upload")
        self._hashes.pop(session.id, None)
        self._count(kept, digest, intake.content)

    def _count(self, kept: bool, digest: Digest, content: bytes | None) -> None:
        _committed.labels("new" if kept else "again").inc()
        if content is not None:
            self._content.put(digest, content)

    async def _check_early(self, session: UploadSession, intake: Intake, digest: Digest) -> None:
        """Refuse a wrong digest before the store is asked to complete the object."""
        if intake.hash is not None and intake.hash.hexdigest() != digest.partition(":")[2]:
            raise _wrong(digest)
        if intake.hash is None and self._comparable(session, intake, digest) and session.digest_so_far != digest:
            raise _wrong(digest)

    def _comparable(self, session: UploadSession, intake: Intake, digest: Digest) -> bool:
        """Whether the digest that was stored beside the offset says all: nothing came since, and it is of the same kind."""
        return (
            not intake.received_bytes
            and session.digest_so_far is not None
            and algorithm_of(session.digest_so_far) == algorithm_of(digest)
        )

    def _known(self, session: UploadSession, intake: Intake, digest: Digest) -> bool:
        return self._comparable(session, intake, digest) and session.digest_so_far == digest

    async def _receive_small(self, receive: Receive) -> bytes:
        """A whole body that is known to be small."""
        content = bytearray()
        _received.inc(await receive(content.extend, room=lambda: UNLIMITED_ROOM_BYTES, flush=_nothing))
        return bytes(content)

    async def _receive(self, session: UploadSession, token: uuid.UUID, intake: Intake, receive: Receive) -> None:
        renewal = _Later(RENEW_EVERY_S, lambda: self._renew(session, token, intake))
        try:
            _received.inc(await receive(intake.consume, room=intake.room, flush=intake.flush))
        finally:
            await renewal.stop()

    async def _renew(self, session: UploadSession, token: uuid.UUID, intake: Intake) -> None:
        """Keep the lease for as long as bytes come: a client that stalls loses it, whatever our clock does."""
        seen = 0
        while True:
            if intake.received_bytes > seen:
                seen = intake.received_bytes
                await self._store.renew(session.id, token)
            await asyncio.sleep(RENEW_EVERY_S)

    def _hash_for(self, session: UploadSession, algorithm: str) -> _Hash | None:
        """The hash of all that the session has, if it can be had without reading it from storage."""
        if session.held is not None:
            hash_ = new_hash(algorithm)
            hash_.update(session.held)
            return hash_
        if algorithm != session.algorithm:
            return None
        hashed, known = self._hashes.pop(session.id, (0, None))
        return known if hashed == session.offset_bytes else None

    async def _verify_stored(self, session: UploadSession, digest: Digest) -> None:
        """Hash the complete object again, as nobody hashed it in one go with this algorithm. Raises InvalidDigest."""
        hash_ = new_hash(algorithm_of(digest))
        async with await self._objects.open_reader(session.storage_key) as reader:
            async for chunk in reader:
                await asyncio.to_thread(hash_.update, chunk)
        if hash_.hexdigest() != digest.partition(":")[2]:
            raise _wrong(digest)


def _wrong(digest: Digest) -> InvalidDigest:
    return InvalidDigest("the bytes received do not have this digest", digest=digest)
