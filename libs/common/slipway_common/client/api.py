"""The management API as calls: paths below `/api/v1`, JSON in and out, refusals as ApiError."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import aiohttp
import orjson
from aiohttp.helpers import get_env_proxy_for_url
from yarl import URL

from slipway_common import __version__
from slipway_common.client.exits import ApiError
from slipway_common.client.profiles import is_local
from slipway_common.errors import InvalidInput, Unavailable

Document = dict[str, Any]
Parameters = Mapping[str, str | int | None]

_ROOT: Final = "/api/v1"
_TIMEOUT: Final = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=60)
# For how long in all a call waits while the server asks for patience. Beyond that whoever called should know.
MAX_PATIENCE_S: Final = 30.0
_LEAST_PAUSE_S: Final = 0.2
# After a connection that was lost nobody knows whether the request was carried out. These may be sent again all the same: a POST
# has its Idempotency-Key. A DELETE would find nothing, a PATCH a newer version.
_REPEATABLE: Final = frozenset({"GET", "PUT", "POST"})
_NDJSON: Final = "application/x-ndjson"


class Unreachable(Unavailable):
    """No answer, or none of Slipway's."""


class _Lost(Unreachable):
    """The connection was there, and went away."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful answer. `version` is its ETag, for a change that depends on what was read."""

    document: Any
    version: str | None


def bearer(token: str) -> str:
    """The Authorization header of a token."""
    if not token.isascii() or not token.isprintable() or " " in token:
        raise InvalidInput("this is not a token: tokens are slipway_pat_… or slipway_robot_…, without spaces")
    return f"Bearer {token}"


def basic(name: str, password: str) -> str:
    """The Authorization header of a name and a password (RFC 7617)."""
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def path_to(*parts: str) -> str:
    """`path_to("users", "alice", "tokens")`: each part is one component of the path, whatever it holds. Raises InvalidInput."""
    for part in parts:
        _check_component(part, part)
    return "".join("/" + quote(part, safe="") for part in parts)


def repository_path(name: str, *parts: str) -> str:
    """The path of a repository, whose name may have slashes, or of what is below it. Raises InvalidInput.

    A name that has a component which no repository's has would lead to something else, and is refused.
    """
    for component in name.split("/"):
        if component == "-":
            raise InvalidInput(f"{name!r} is not a repository's name")
        _check_component(component, name)
    below = path_to("-", *parts) if parts else ""
    return "/repositories/" + quote(name, safe="/") + below


def _check_component(component: str, name: str) -> None:
    if component in ("", ".", ".."):
        raise InvalidInput(f"{name!r} is not a name")


class Api:
    """Calls to one registry, with one login, over one session."""

    def __init__(
        self, session: aiohttp.ClientSession, url: str, authorization: str | None, say: Callable[[str], None]
    ) -> None:
        self._session = session
        self.url = url
        self._authorization = authorization
        self._say = say

    async def get(self, path: str, query: Parameters | None = None) -> Document:
        return (await self.read(path, query)).document  # type: ignore[no-any-return]

    async def read(self, path: str, query: Parameters | None = None) -> Answer:
        """The same with its version."""
        return await self._call("GET", path, query=query)

    async def post(self, path: str, body: Document) -> Document:
        """Create something; sent again after a failure, it is created once (`Idempotency-Key`)."""
        answer = await self._call("POST", path, body=body, headers={"Idempotency-Key": str(uuid.uuid4())})
        return answer.document or {}

    async def put(self, path: str, body: Document, query: Parameters | None = None) -> Document:
        return (await self._call("PUT", path, query=query, body=body)).document or {}

    async def patch(self, path: str, body: Document, version: str | None = None) -> Document:
        """Change what `body` names; only while `version` is the present one, if given (412 otherwise)."""
        return (await self._call("PATCH", path, body=body, headers=_only_if(version))).document or {}

    async def delete(self, path: str, query: Parameters | None = None, *, version: str | None = None) -> None:
        await self._call("DELETE", path, query=query, headers=_only_if(version))

    async def edit(self, path: str, change: Callable[[Document], Document]) -> Document:
        """PATCH with what `change` makes of the present state; once more if somebody else was faster."""
        for last in (False, True):
            found = await self.read(path)
            try:
                return await self.patch(path, change(found.document), found.version)
            except ApiError as exc:
                if exc.status != 412 or last:
                    raise
        raise AssertionError("unreachable")

    async def pages(self, path: str, query: Parameters | None = None) -> AsyncIterator[Document]:
        """Every entry of a list, page by page."""
        last: str | None = None
        while True:
            page = await self.get(path, {**(query or {}), "last": last})
            for entry in _entries(page):
                yield entry
            following = page.get("next") if isinstance(page, dict) else None
            if following is None or str(following) == last:
                return
            last = str(following)

    async def all(self, path: str, query: Parameters | None = None) -> list[Document]:
        return [entry async for entry in self.pages(path, query)]

    async def export(self, path: str, query: Parameters | None = None) -> AsyncIterator[bytes]:
        """The answer as JSON lines, in pieces as they come."""
        async with self._request("GET", path, query, None, {"Accept": _NDJSON}) as response:
            if response.status != 200:
                raise await _refusal(self.url, response)
            async for piece in response.content.iter_any():
                yield piece

    async def _call(
        self,
        method: str,
        path: str,
        *,
        query: Parameters | None = None,
        body: Document | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One call, repeated while the server asks for patience (429, 503 with Retry-After) or the connection is lost."""
        give_up_at = time.monotonic() + MAX_PATIENCE_S
        lost = method not in _REPEATABLE
        while True:
            try:
                async with self._request(method, path, query, body, headers or {}) as response:
                    if response.status < 300:
                        return await _answer(self.url, response)
                    pause_s, refusal = _retry_after(response), await _refusal(self.url, response)
            except _Lost:
                if lost:
                    raise
                lost = True
                continue
            if pause_s is None or time.monotonic() + pause_s > give_up_at:
                raise refusal
            self._say(f"{refusal.title}; trying again in {pause_s:.0f} s")
            await asyncio.sleep(pause_s)

    @contextlib.asynccontextmanager
    async def _request(
        self, method: str, path: str, query: Parameters | None, body: Document | None, headers: Mapping[str, str]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        known = {name: value for name, value in (query or {}).items() if value is not None}
        sent = {**headers}
        if body is not None:
            sent["Content-Type"] = "application/json"
        if self._authorization is not None:
            sent["Authorization"] = self._authorization
        with _clear_errors(self.url):
            async with self._session.request(
                method,
                URL(self.url + _ROOT + path, encoded=True).update_query(known),
                data=orjson.dumps(body) if body is not None else None,
                headers=sent,
                allow_redirects=False,  # what is sent is secret: it goes where the user said, and nowhere else
            ) as response:
                if 300 <= response.status < 400:
                    leads_to = response.headers.get("Location", "another address")
                    raise Unreachable(f"{self.url} sends its callers to {leads_to}: log in there")
                yield response


@contextlib.asynccontextmanager
async def open_api(url: str, authorization: str | None, say: Callable[[str], None]) -> AsyncIterator[Api]:
    """The API of the registry at `url`; `say` is told when a call has to wait.

    Proxies are those of the environment, but for this machine. (aiohttp's own way would read ~/.netrc as well.)
    """
    proxy, proxy_auth = None, None
    if not is_local(url):
        with contextlib.suppress(LookupError):
            proxy, proxy_auth = get_env_proxy_for_url(URL(url))
    async with aiohttp.ClientSession(
        headers={"User-Agent": f"slipway/{__version__}", "Accept": "application/json"},
        timeout=_TIMEOUT,
        cookie_jar=aiohttp.DummyCookieJar(),
        proxy=proxy,
        proxy_auth=proxy_auth,
    ) as session:
        yield Api(session, url, authorization, say)


async def _answer(url: str, response: aiohttp.ClientResponse) -> Answer:
    raw = await response.read()
    if not raw:
        return Answer(None, None)
    try:
        return Answer(orjson.loads(raw), response.headers.get("ETag"))
    except orjson.JSONDecodeError as exc:
        raise Unreachable(f"what answers at {url} is not Slipway: is that its address?") from exc


async def _refusal(url: str, response: aiohttp.ClientResponse) -> ApiError:
    """The error that an answer stands for."""
    try:
        document = orjson.loads(await response.read())
        title, detail = str(document["title"]), str(document.get("detail") or "")
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return ApiError(
            response.status,
            f"{response.status} {response.reason or ''}".strip(),
            f"the answer is not Slipway's: is {url} the registry's address?",
        )
    return ApiError(response.status, title, detail, str(document.get("request_id") or ""))


def _only_if(version: str | None) -> dict[str, str]:
    return {"If-Match": version} if version else {}


def _retry_after(response: aiohttp.ClientResponse) -> float | None:
    """For how long the server asks to wait; None if trying again would not help."""
    if response.status not in (429, 503):
        return None
    text = response.headers.get("Retry-After", "")
    return max(_LEAST_PAUSE_S, float(text)) if text.isdecimal() else None


def _entries(page: Any) -> list[Document]:
    """The entries of a page: its one list."""
    if isinstance(page, list):
        return page
    return next((value for value in page.values() if isinstance(value, list)), [])


@contextlib.contextmanager
def _clear_errors(url: str) -> Iterator[None]:
    """aiohttp's errors as sentences that say what to do."""
    try:
        yield
    except aiohttp.ClientConnectorCertificateError as exc:
        raise Unreachable(
            f"{url} shows a certificate that is not trusted ({exc.certificate_error}). "
            "If it is of an authority of your own, name that one's file in SSL_CERT_FILE."
        ) from exc
    except aiohttp.ClientConnectorSSLError as exc:
        raise Unreachable(f"{url} does not speak TLS as it should ({exc.os_error}): is it http?") from exc
    except aiohttp.ClientConnectorDNSError as exc:
        raise Unreachable(f"{url}: there is no host of that name: is the address right?") from exc
    except aiohttp.ClientConnectorError as exc:
        reason = os.strerror(exc.errno) if exc.errno else "no connection"
        raise Unreachable(f"{url}: {reason}. Is Slipway running there?") from exc
    except TimeoutError as exc:
        raise Unreachable(f"{url} does not answer: try again, or look at its log") from exc
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError, aiohttp.ClientPayloadError) as exc:
        raise _Lost(f"the connection to {url} was lost: try again (and see whether it is http or https)") from exc
    except aiohttp.ClientError as exc:
        raise Unreachable(f"what answers at {url} does not speak HTTP: is that the registry's address?") from exc
