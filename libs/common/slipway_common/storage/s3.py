"""Objects in a bucket of any S3 service: one PutObject for a small object, a multipart upload for a large one.

    <prefix><key>                  the object
    <prefix><key>.tail-<uuid>      bytes after the last whole part of an upload that is not finished

Every part has the same size (some services insist), and a part number is never used twice: what a process that died
sent under a number cannot come to stand for other bytes. The service checks each body against its Content-MD5, and the
list of part ETags when the upload is completed. This is the only module that knows aioboto3, and only its client API.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import io
import uuid
from collections.abc import AsyncIterator, Awaitable, Sequence
from dataclasses import dataclass, field
from functools import cache
from types import TracebackType
from typing import Any, Self, TypeVar

import aioboto3
import aiohttp
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from slipway_common.errors import InvalidInput, SlipwayError, Unavailable
from slipway_common.storage.buffers import Account, BufferPool
from slipway_common.storage.port import (
    ObjectLost,
    ObjectMissing,
    ObjectTooLarge,
    StorageFull,
    WriterState,
    checked_key,
)

T = TypeVar("T")

_TAIL = ".tail-"
MAX_PARTS = 10_000  # S3's own limit, also for part numbers
_DELETE_BATCH = 1_000  # S3's limit for one DeleteObjects
_LEAST_GRANT_BYTES = 64 * 1024
_MOST_GRANT_BYTES = 1024 * 1024
_READ_CHUNK_BYTES = 256 * 1024
_SMALL_RANGE_BYTES = 64 * 1024

_MISSING = frozenset({"NoSuchKey", "NoSuchUpload", "404", "NotFound"})
_FULL = frozenset({"XMinioStorageFull", "InsufficientStorage", "QuotaExceeded", "507"})
_LOST = frozenset({"InvalidPart", "InvalidPartOrder"})


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Config:
    """Where the bucket is and how it is used. Sizes in bytes, times in seconds."""

    bucket: str
    endpoint_url: str | None = None
    public_endpoint_url: str | None = None
    region: str = "us-east-1"
    access_key: str | None = field(default=None, repr=False)
    secret_key: str | None = field(default=None, repr=False)
    prefix: str = ""
    path_style: bool = True
    part_size_bytes: int = 16 * 1024 * 1024
    pool_bytes: int = 128 * 1024 * 1024
    connect_timeout_s: float = 5.0
    read_timeout_s: float = 30.0
    call_timeout_s: float = 120.0
    attempts: int = 3
    max_connections: int = 64


class _BeyondEnd(InvalidInput):
    """The service refuses a range that begins behind the end; the port answers an empty one."""


class S3Store:
    """An object store in a bucket."""

    def __init__(self, config: S3Config) -> None:
        self.config = config
        self.pool = BufferPool(config.pool_bytes, config.part_size_bytes)
        self._stack = contextlib.AsyncExitStack()
        self._opening = asyncio.Lock()
        self._clients: dict[str | None, Any] = {}

    async def open_writer(self, key: str, *, state: WriterState | None = None) -> S3Writer:
        """Begin or go on; nothing is sent yet. Two writers are told apart by their ETags when they finish."""
        return S3Writer(self, self._name(key), state)

    async def create(self, key: str, content: bytes) -> bool:
        """Answer False: not every service can put an object only where there is none."""
        return False

    async def open_reader(self, key: str, *, start: int = 0, length: int | None = None) -> S3Reader:
        """GET the range; up to 64 KiB are read at once."""
        name = self._name(key)
        if length == 0:
            return await self._nothing(name, start)
        ranged = bool(start) or length is not None
        end = "" if length is None else start + length - 1
        try:
            answer = await self.call(
                "get_object", {"Key": name} | ({"Range": f"bytes={start}-{end}"} if ranged else {})
            )
        except _BeyondEnd:
            return await self._nothing(name, start)
        got: int = answer["ContentLength"]
        size = int(answer["ContentRange"].rpartition("/")[2]) if "ContentRange" in answer else got
        reader = S3Reader(answer["Body"], self.config, size_bytes=size, start=start, length_bytes=got)
        if got != max(0, size - start) and got != length:
            await reader.close()
            raise Unavailable("the object store answered another range", key=key)
        if got <= _SMALL_RANGE_BYTES:
            await reader.read_now()
        return reader

    async def _nothing(self, name: str, start: int) -> S3Reader:
        size = await self.size_of_name(name)
        if size is None:
            raise ObjectMissing("no such object", name=name)
        return S3Reader(None, self.config, size_bytes=size, start=start, length_bytes=0)

    async def read_all(self, key: str, *, max_bytes: int) -> bytes:
        """GET a whole object."""
        async with await self.open_reader(key) as reader:
            if reader.size_bytes > max_bytes:
                raise ObjectTooLarge("the object is larger than was asked for", max_bytes=max_bytes)
            return b"".join([chunk async for chunk in reader])

    async def delete(self, keys: Sequence[str]) -> None:
        """Delete in batches of 1,000."""
        await self.delete_names([self._name(key) for key in keys])

    async def abandon(self, key: str, state: WriterState | None) -> None:
        """Abort every multipart upload under the key, known or left by a crash, and delete object and tails."""
        name = self._name(key)
        uploads = await self.call("list_multipart_uploads", {"Prefix": name})
        ids = {upload["UploadId"] for upload in uploads.get("Uploads", ()) if upload["Key"] == name}
        if state is not None and state.upload_id is not None:
            ids.add(state.upload_id)
        for upload_id in ids:
            with contextlib.suppress(ObjectMissing):
                await self.call("abort_multipart_upload", {"Key": name, "UploadId": upload_id})
        await self.delete_names([name, *await self.tails_of(name)])

    async def size(self, key: str) -> int | None:
        """HEAD the object."""
        return await self.size_of_name(self._name(key))

    async def presigned_url(self, key: str, *, expires_s: int, content_type: str | None = None) -> str | None:
        """Sign a GET, for the public endpoint when there is one."""
        client = await self._client(self.config.public_endpoint_url or self.config.endpoint_url)
        parameters = {"Bucket": self.config.bucket, "Key": self._name(key)}
        if content_type is not None:
            parameters["ResponseContentType"] = content_type
        url: str = await client.generate_presigned_url("get_object", Params=parameters, ExpiresIn=expires_s)
        return url

    async def check(self) -> None:
        """HEAD the bucket."""
        try:
            await self.call("head_bucket", {}, timeout_s=min(5.0, self.config.call_timeout_s))
        except SlipwayError as exc:
            raise Unavailable("the bucket cannot be reached", bucket=self.config.bucket) from exc

    async def close(self) -> None:
        """Close the connections."""
        self._clients.clear()
        await self._stack.aclose()

    async def call(self, operation: str, parameters: dict[str, Any], *, timeout_s: float | None = None) -> Any:
        """Call one operation on the bucket; every error comes out as one of the port's."""
        client = await self._client(self.config.endpoint_url)
        method = getattr(client, operation)
        return await _mapped(method(Bucket=self.config.bucket, **parameters), timeout_s or self.config.call_timeout_s)

    async def size_of_name(self, name: str) -> int | None:
        """HEAD a full object name."""
        try:
            answer = await self.call("head_object", {"Key": name})
        except ObjectMissing:
            return None
        size: int = answer["ContentLength"]
        return size

    async def tails_of(self, name: str) -> list[str]:
        """Answer the names of the tail objects that uploads to this name have left."""
        answer = await self.call("list_objects_v2", {"Prefix": name + _TAIL})
        return [entry["Key"] for entry in answer.get("Contents", ())]

    async def delete_names(self, names: Sequence[str]) -> None:
        """Delete full object names."""
        for at in range(0, len(names), _DELETE_BATCH):
            batch = [{"Key": name} for name in names[at : at + _DELETE_BATCH]]
            answer = await self.call("delete_objects", {"Delete": {"Objects": batch, "Quiet": True}})
            errors = [entry for entry in answer.get("Errors", ()) if entry.get("Code") not in _MISSING]
            if errors:
                raise Unavailable("objects could not be deleted", count=len(errors), reason=errors[0].get("Code"))

    def _name(self, key: str) -> str:
        return self.config.prefix + checked_key(key)

    async def _client(self, endpoint_url: str | None) -> Any:
        async with self._opening:
            if endpoint_url not in self._clients:
                config = self.config
                client = _session().client(
                    "s3",
                    endpoint_url=endpoint_url,
                    region_name=config.region,
                    aws_access_key_id=config.access_key,
                    aws_secret_access_key=config.secret_key,
                    config=_boto_config(config),
                )
                self._clients[endpoint_url] = await self._stack.enter_async_context(client)
        return self._clients[endpoint_url]


class S3Writer:
    """Gathers one part at a time. Its buffer grows with what comes, within the store's pool."""

    def __init__(self, store: S3Store, name: str, state: WriterState | None) -> None:
        self._store = store
        self._name = name
        self._part_size = (state and state.part_size_bytes) or store.config.part_size_bytes
        self._upload_id = state.upload_id if state else None
        self._parts = list(state.parts) if state else []
        self._offset_bytes = state.offset_bytes if state else 0
        self._tail_key = state.tail_key if state else None
        self._tail_covers_bytes = self._offset_bytes
        self._tail_waits = self._tail_key is not None
        # Named by the state we began with as no longer needed; and by states that this writer has replaced.
        self._deletable_keys = state.stale_keys if state else ()
        self._stale_keys: list[str] = []
        self._resumed = state is not None
        self._next_number: int | None = None if self._upload_id else 1
        self._buffer = io.BytesIO()
        self._buffered = 0
        self._granted = 0
        self._account = Account()
        self._closed = False
        self._failure: SlipwayError | None = None

    @property
    def offset_bytes(self) -> int:
        """Length of the object so far, durable or not."""
        return self._offset_bytes

    @property
    def room_bytes(self) -> int:
        """What is granted and not yet filled."""
        return self._granted - self._buffered

    def write(self, chunk: memoryview | bytes) -> None:
        """Append to the buffer."""
        self._check_usable()
        if len(chunk) > self.room_bytes:
            raise RuntimeError("more bytes than there is room for: await flush() first")
        self._buffer.write(chunk)
        self._buffered += len(chunk)
        self._offset_bytes += len(chunk)

    async def flush(self) -> None:
        """Send the part when it is full, and wait for buffer space."""
        async with self._guarded():
            await self._load_tail()
            if self._buffered == self._part_size:
                await self._send_part()
            if self.room_bytes == 0:
                await self._grow(min(max(_LEAST_GRANT_BYTES, self._buffered), _MOST_GRANT_BYTES))

    async def commit(self) -> WriterState:
        """Send what is buffered: a whole part as such, a shorter one as the tail object."""
        async with self._guarded():
            if self._buffered == self._part_size:
                await self._send_part()
            elif self._buffered and not self._tail_waits:
                await self._store_tail()
            deletable, self._deletable_keys = self._deletable_keys, ()
            await self._delete_quietly(deletable)
        return WriterState(
            offset_bytes=self._offset_bytes,
            upload_id=self._upload_id,
            parts=tuple(self._parts),
            part_size_bytes=self._part_size,
            tail_key=self._tail_key,
            stale_keys=tuple(self._stale_keys),
        )

    async def finish(self) -> None:
        """PutObject, or the last part and CompleteMultipartUpload; then the tails go."""
        async with self._guarded():
            try:
                await self._load_tail()
                if self._upload_id is None:
                    await self._put(self._name)
                else:
                    if self._buffered:
                        await self._send_part()
                    await self._complete()
            except ObjectMissing as exc:
                # Upload or tail are gone: an earlier attempt may have finished without hearing of it.
                if await self._store.size_of_name(self._name) != self._offset_bytes:
                    raise ObjectLost("the upload is gone from the object store", name=self._name) from exc
            if self._resumed or self._tail_key or self._stale_keys:
                with contextlib.suppress(Unavailable):  # `abandon` and reaping find them as well
                    await self._store.delete_names(await self._store.tails_of(self._name))
        await self.close()

    async def abort(self) -> None:
        """Close, and delete object, tails and multipart uploads of this key."""
        await self.close()
        state = WriterState(offset_bytes=0, upload_id=self._upload_id)
        await self._store.abandon(self._name.removeprefix(self._store.config.prefix), state)

    async def close(self) -> None:
        """Give the buffer back."""
        self._closed = True
        self._empty()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    @contextlib.asynccontextmanager
    async def _guarded(self) -> AsyncIterator[None]:
        """A call that fails half-way leaves the writer broken: nobody knows what the service has."""
        self._check_usable()
        try:
            yield
        except SlipwayError as exc:
            self._failure = exc
            raise
        except asyncio.CancelledError:
            self._failure = Unavailable("the upload was interrupted")
            raise

    def _check_usable(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._closed:
            raise RuntimeError("the writer is closed")

    async def _grow(self, wanted_bytes: int) -> None:
        wanted_bytes = min(wanted_bytes, self._part_size - self._granted)
        if wanted_bytes > 0:
            await self._store.pool.grant(self._account, wanted_bytes)
            self._granted += wanted_bytes

    def _empty(self) -> None:
        self._buffer = io.BytesIO()
        self._buffered = self._granted = 0
        self._store.pool.release(self._account)

    async def _load_tail(self) -> None:
        """Bring the committed tail back into the buffer, so that the part can be filled."""
        if not self._tail_waits or self._tail_key is None:
            return
        length = self._offset_bytes - len(self._parts) * self._part_size
        await self._grow(length)
        answer = await self._store.call("get_object", {"Key": self._tail_key})
        if answer["ContentLength"] != length:
            answer["Body"].close()
            raise ObjectLost("the tail of the upload has another length", name=self._tail_key)
        reader = S3Reader(answer["Body"], self._store.config, size_bytes=length, start=0, length_bytes=length)
        async with reader:
            async for chunk in reader:
                self._buffer.write(chunk)
        self._buffered = length
        self._tail_waits = False

    async def _store_tail(self) -> None:
        if self._tail_covers_bytes == self._offset_bytes:
            return
        tail_key = f"{self._name}{_TAIL}{uuid.uuid4().hex}"
        await self._put(tail_key)
        self._drop_tail()
        self._tail_key, self._tail_covers_bytes = tail_key, self._offset_bytes

    def _drop_tail(self) -> None:
        """The tail is part of something else now; a stored state may still name it."""
        if self._tail_key is not None:
            self._stale_keys.append(self._tail_key)
        self._tail_key, self._tail_covers_bytes = None, 0

    async def _delete_quietly(self, names: Sequence[str]) -> None:
        """Delete what no state names any more; when that fails, `abandon` and `finish` find it by its name."""
        if names:
            with contextlib.suppress(Unavailable):
                await self._store.delete_names(names)

    async def _put(self, name: str) -> None:
        await self._store.call("put_object", {"Key": name, **await self._body()})

    async def _send_part(self) -> None:
        if self._upload_id is None:
            answer = await self._store.call("create_multipart_upload", {"Key": self._name})
            self._upload_id = answer["UploadId"]
        number = await self._take_number(self._upload_id)
        answer = await self._store.call(
            "upload_part",
            {"Key": self._name, "UploadId": self._upload_id, "PartNumber": number, **await self._body()},
        )
        self._parts.append((number, answer["ETag"]))
        self._drop_tail()
        self._empty()

    async def _take_number(self, upload_id: str) -> int:
        """Answer a part number that neither this process nor one before has used. Raises ObjectTooLarge."""
        if self._next_number is None:
            marker = self._parts[-1][0] if self._parts else 0
            answer = await self._store.call(
                "list_parts", {"Key": self._name, "UploadId": upload_id, "PartNumberMarker": marker}
            )
            self._next_number = max((part["PartNumber"] for part in answer.get("Parts", ())), default=marker) + 1
        number = self._next_number
        if number > MAX_PARTS:
            raise ObjectTooLarge("more parts than the object store takes", max_bytes=MAX_PARTS * self._part_size)
        self._next_number += 1
        return number

    async def _complete(self) -> None:
        parts = [{"PartNumber": number, "ETag": etag} for number, etag in self._parts]
        await self._store.call(
            "complete_multipart_upload",
            {"Key": self._name, "UploadId": self._upload_id, "MultipartUpload": {"Parts": parts}},
        )
        if await self._store.size_of_name(self._name) != self._offset_bytes:
            raise ObjectLost("the object store has completed another object", name=self._name)

    async def _body(self) -> dict[str, Any]:
        def digest() -> str:
            with self._buffer.getbuffer() as content:
                return base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()

        content_md5 = await asyncio.to_thread(digest)
        self._buffer.seek(0)
        return {"Body": self._buffer, "ContentLength": self._buffered, "ContentMD5": content_md5}


class S3Reader:
    """Streams one range."""

    def __init__(self, body: Any, config: S3Config, *, size_bytes: int, start: int, length_bytes: int) -> None:
        self._body = body
        self._config = config
        self._content: bytes | None = None if body is not None else b""
        self.size_bytes = size_bytes
        self.start = start
        self.length_bytes = length_bytes

    def local_file(self) -> int | None:
        """Answer None: the bytes are elsewhere."""
        return None

    def in_memory(self) -> bytes | None:
        """Answer the range when it was small."""
        return self._content

    async def read_now(self) -> None:
        """Read the whole range into memory."""
        self._content = b"".join([chunk async for chunk in self])
        await self.close()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._content is not None:
            if self._content:
                yield self._content
            return
        left = self.length_bytes
        while left > 0:
            chunk: bytes = await _mapped(self._body.read(min(_READ_CHUNK_BYTES, left)), self._config.read_timeout_s)
            if not chunk:
                raise Unavailable("the object store ended the object early", missing_bytes=left)
            left -= len(chunk)
            yield chunk

    async def close(self) -> None:
        """Let the connection go."""
        body, self._body = self._body, None
        if body is not None:
            body.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


@cache
def _session() -> Any:
    """One for the process: it keeps the parsed description of the S3 API, which takes long to load."""
    return aioboto3.Session()


def _boto_config(config: S3Config) -> Config:
    return Config(
        signature_version="s3v4",
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        connect_timeout=config.connect_timeout_s,
        read_timeout=config.read_timeout_s,
        retries={"total_max_attempts": config.attempts, "mode": "standard"},
        max_pool_connections=config.max_connections,
        # Content-MD5 guards the body; hashing it a second time for the signature would block the event loop.
        s3={"addressing_style": "path" if config.path_style else "auto", "payload_signing_enabled": False},
    )


async def _mapped(call: Awaitable[T], timeout_s: float) -> T:
    try:
        async with asyncio.timeout(timeout_s):
            return await call
    except ClientError as exc:
        raise _error_for(exc) from exc
    except (BotoCoreError, aiohttp.ClientError, TimeoutError, OSError) as exc:
        raise Unavailable("the object store does not answer", reason=type(exc).__name__) from exc


def _error_for(exc: ClientError) -> SlipwayError:
    error = exc.response.get("Error", {})
    code = str(error.get("Code", ""))
    facts = {"operation": exc.operation_name, "code": code}
    if code in _MISSING:
        return ObjectMissing("no such object or upload", **facts)
    if code in ("InvalidRange", "416"):
        return _BeyondEnd("the range begins behind the object's end", **facts)
    if code in _FULL:
        return StorageFull("the object store is full", **facts)
    if code in _LOST:
        return ObjectLost("parts of the upload are not what was sent", **facts)
    if code == "EntityTooLarge":
        return ObjectTooLarge("more bytes than the object store takes", **facts)
    return Unavailable("the object store refused", **facts)
