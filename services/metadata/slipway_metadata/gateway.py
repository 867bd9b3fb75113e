"""The gateway's content API, as this service uses it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import TypeVar

import aiohttp
import orjson
from pydantic import Base64Bytes, BaseModel, ValidationError
from yarl import URL

from slipway_common.errors import SlipwayError, Unavailable

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# Worth another try without anybody's help: the gateway is starting, busy, or its keys have just rotated.
_TRY_AGAIN = frozenset({401, 403, 408, 425, 429})
_PAGE = 500

Model = TypeVar("Model", bound=BaseModel)


class UnexpectedAnswer(SlipwayError):
    """The gateway's answer is outside what both sides agreed on; trying again will not help."""


class TooLarge(SlipwayError):
    """The content has more bytes than the caller wants to read."""


@dataclass(frozen=True, slots=True)
class Content:
    media_type: str
    data: bytes


class SmallManifest(BaseModel):
    """A manifest's bytes, and its config's where the gateway had them at hand."""

    digest: str
    media_type: str
    body: Base64Bytes
    config_digest: str | None = None
    config: Base64Bytes | None = None


class Contents(BaseModel):
    manifests: list[SmallManifest]


class Repository(BaseModel):
    id: int
    name: str


class RepositoryPage(BaseModel):
    repositories: list[Repository]
    next: int | None


class SnapshotTag(BaseModel):
    name: str
    digest: str
    updated_at: datetime


class SnapshotManifest(BaseModel):
    digest: str
    pushed_at: datetime
    pushed_by: str | None = None


class SnapshotPage(BaseModel):
    """Some of a repository's manifests; its tags, and the `seq` from which all counts, are on the first page."""

    repository: Repository
    seq: int
    tags: list[SnapshotTag] = []
    manifests: list[SnapshotManifest]
    next: str | None


class GatewayClient:
    """Reads content and snapshots. What is not there (any more) is None: a fact, not an error.

    `token` makes a service token for the gateway. `storage_session` follows redirects to object storage, which must be
    reached over TCP even where `session` speaks to a Unix socket; the token is not sent there.
    Every method raises Unavailable when trying again later may help, UnexpectedAnswer when not.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        base_url: str,
        token: Callable[[], Awaitable[str]],
        *,
        storage_session: aiohttp.ClientSession | None = None,
        timeout_s: float = 30.0,
    ) -> None:
        self._session = session
        self._base_url = base_url.rstrip("/") + "/internal/v1/repositories"
        self._token = token
        self._storage_session = storage_session or session
        self._timeout_s = timeout_s

    async def get_manifest(self, repository_id: int, digest: str) -> Content | None:
        """Read a manifest's exact bytes and media type."""
        async with self._get(f"/{repository_id}/manifests/{digest}") as response:
            if response.status == HTTPStatus.NOT_FOUND:
                return None
            return Content(response.content_type, await response.read())

    async def get_blob(self, repository_id: int, digest: str, *, max_bytes: int) -> bytes | None:
        """Read a blob. Raises TooLarge as soon as it is seen to have more than `max_bytes`."""
        async with self._get(f"/{repository_id}/blobs/{digest}") as response:
            if response.status == HTTPStatus.NOT_FOUND:
                return None
            data = bytearray()
            async for chunk in response.content.iter_any():
                data += chunk
                if len(data) > max_bytes:
                    raise TooLarge("the blob is too large to read", limit=max_bytes)
            return bytes(data)

    async def get_small_manifests(self, repository_id: int, digests: Sequence[str]) -> list[SmallManifest]:
        """Read many manifests at once, as far as they are there and small; the others can be had one by one."""
        path = f"/{repository_id}/contents"
        body = orjson.dumps({"manifests": list(digests)})
        async with self._call("POST", path, body=body) as response:
            if response.status == HTTPStatus.NOT_FOUND:
                return []
            try:
                return Contents.model_validate_json(await response.read()).manifests
            except ValidationError as exc:
                raise UnexpectedAnswer(f"the gateway's answer at {path} is not a list of contents") from exc

    async def get_snapshot_page(self, repository_id: int, *, after: str | None = None) -> SnapshotPage | None:
        """Read one page of a repository's snapshot: the first, or the one after a page's `next`."""
        return await self._get_page(f"/{repository_id}/snapshot", SnapshotPage, after)

    async def list_repositories(self) -> AsyncIterator[Repository]:
        """Yield every repository there is, page by page."""
        page = await self._get_page("", RepositoryPage, None)
        while page is not None:
            for repository in page.repositories:
                yield repository
            page = None if page.next is None else await self._get_page("", RepositoryPage, str(page.next))

    async def _get_page(self, path: str, model: type[Model], after: str | None) -> Model | None:
        query = {"n": str(_PAGE)} if after is None else {"n": str(_PAGE), "after": after}
        async with self._get(path, query) as response:
            if response.status == HTTPStatus.NOT_FOUND:
                return None
            try:
                return model.model_validate_json(await response.read())
            except ValidationError as exc:
                raise UnexpectedAnswer(f"the gateway's answer at {path} is not a {model.__name__}") from exc

    def _get(
        self, path: str, query: dict[str, str] | None = None
    ) -> contextlib.AbstractAsyncContextManager[aiohttp.ClientResponse]:
        return self._call("GET", path, query=query)

    @contextlib.asynccontextmanager
    async def _call(
        self, method: str, path: str, *, query: dict[str, str] | None = None, body: bytes | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        headers = {"Authorization": f"Bearer {await self._token()}"}
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                self._session.request(
                    method, self._base_url + path, params=query, headers=headers, data=body, allow_redirects=False
                ) as response,
            ):
                if response.status in _REDIRECTS:
                    location = response.url.join(URL(response.headers.get("Location", "")))
                    async with self._storage_session.get(location) as stored:
                        yield _checked(stored, path)
                else:
                    yield _checked(response, path)
        except (aiohttp.ClientError, TimeoutError, OSError) as exc:
            raise Unavailable(f"the gateway cannot be read from: {exc!r}") from exc


def _checked(response: aiohttp.ClientResponse, path: str) -> aiohttp.ClientResponse:
    if response.status in (HTTPStatus.OK, HTTPStatus.NOT_FOUND):
        return response
    if response.status >= HTTPStatus.INTERNAL_SERVER_ERROR or response.status in _TRY_AGAIN:
        raise Unavailable(f"the gateway answered {response.status} at {path}")
    raise UnexpectedAnswer(f"the gateway answered {response.status} at {path}")
