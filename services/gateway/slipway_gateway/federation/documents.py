"""Small JSON documents from other people's servers: bounded in size and time, without redirects."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import aiohttp
import orjson
from yarl import URL

from slipway_common.errors import Unavailable
from slipway_common.outgoing.guard import read_capped

# The largest key sets in use have some twenty KiB, an ID token with hundreds of groups as much.
MAX_BYTES = 256 * 1024
TIMEOUT_S = 10.0
_HEADERS = {"Accept": "application/json", "Accept-Encoding": "identity"}


class Requests(Protocol):
    """Makes one request and follows no redirect. Raises Unavailable when the other side is away.

    A `GuardedSession` is one, for addresses that users have named; `DirectRequests` is another, for the operator's own.
    """

    def request(
        self,
        method: str,
        url: URL | str,
        *,
        headers: Mapping[str, str] | None = None,
        data: bytes | Mapping[str, str] | None = None,
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """A mapping is sent as a form."""
        ...


class DirectRequests:
    """Requests to wherever the operator has said, behind the firewall too."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    @contextlib.asynccontextmanager
    async def request(
        self,
        method: str,
        url: URL | str,
        *,
        headers: Mapping[str, str] | None = None,
        data: bytes | Mapping[str, str] | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        host = URL(url).raw_host
        try:
            response = await self._session.request(method, url, headers=headers, data=data, allow_redirects=False)
        except (aiohttp.ClientError, TimeoutError) as exc:
            raise Unavailable(f"{host} cannot be reached", host=host, cause=type(exc).__name__) from exc
        async with response:
            yield response


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, and the JSON object that came with it, if one did."""

    status: int
    document: dict[str, Any] | None


async def send(
    requests: Requests,
    method: str,
    url: URL,
    *,
    headers: Mapping[str, str] | None = None,
    form: Mapping[str, str] | None = None,
) -> Answer:
    """Make a request and read its answer whole. Raises Unavailable."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            async with requests.request(method, url, headers={**_HEADERS, **(headers or {})}, data=form) as response:
                return Answer(response.status, _parse(await read_capped(response, MAX_BYTES)))
    except TimeoutError as exc:
        raise Unavailable(f"{url.raw_host} did not answer in time", host=url.raw_host) from exc


async def get_document(requests: Requests, url: URL) -> dict[str, Any]:
    """The JSON object at an address. Raises Unavailable when there is anything else."""
    answer = await send(requests, "GET", url)
    if answer.status != 200:
        raise Unavailable(f"{url.raw_host} answered {answer.status} for {url.raw_path}", host=url.raw_host)
    if answer.document is None:
        raise Unavailable(f"{url.raw_host} sent something that is no JSON object for {url.raw_path}", host=url.raw_host)
    return answer.document


def _parse(body: bytes) -> dict[str, Any] | None:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return document if isinstance(document, dict) else None
