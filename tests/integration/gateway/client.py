"""A small typed client of the registry protocol, which checks of every answer what holds of all of them."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self

import aiohttp
from multidict import CIMultiDictProxy
from yarl import URL

from slipway_common.testing.images import Image, digest
from tests.integration.gateway.running import ADMIN, PASSWORD

Body = bytes | AsyncIterable[bytes] | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, whole."""

    method: str
    path: str
    status: int
    headers: CIMultiDictProxy[str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def codes(self) -> list[str]:
        """The codes of the specification's error envelope."""
        return [error["code"] for error in self.json()["errors"]]

    @property
    def message(self) -> str:
        return str(self.json()["errors"][0]["message"])

    @property
    def digest(self) -> str:
        return self.headers["Docker-Content-Digest"]

    @property
    def location(self) -> str:
        location = self.headers["Location"]
        assert location.startswith("/v2/"), "a location is a path, so that no proxy can get it wrong"
        return location

    @property
    def challenge(self) -> str:
        return self.headers["WWW-Authenticate"]

    def check(self) -> Self:
        """What holds of every answer of the registry protocol."""
        assert self.status < 500 or self.status == 503, f"{self}"
        if self.status == 503 and self.path != "/readyz":
            assert int(self.headers["Retry-After"]) >= 1
        # An export is sent as it is read: nobody knows how long it will be.
        if self.status != 204 and self.headers.get("Content-Type") != "application/x-ndjson":
            assert "Content-Length" in self.headers, f"no Content-Length: {self}"
            if self.method != "HEAD":
                assert int(self.headers["Content-Length"]) == len(self.body)
        if self.status >= 400 and self.method != "HEAD" and self.path.startswith("/v2"):
            assert self.headers["Content-Type"].startswith("application/json"), f"{self}"
            assert all(error["code"] and error["message"] for error in self.json()["errors"])
        if self.status == 401:
            assert self.headers["WWW-Authenticate"]
        return self

    def __str__(self) -> str:
        return f"{self.method} {self.path} -> {self.status} {dict(self.headers)} {self.body[:400]!r}"


class Client:
    """Requests with one kind of login, or none."""

    def __init__(self, session: aiohttp.ClientSession, url: str, authorization: str | None) -> None:
        self._session = session
        self.url = url
        self.authorization = authorization
        self.name = ""
        self.address: str | None = None

    def with_basic(self, name: str, password: str) -> Client:
        return self._with(basic(name, password))

    def _with(self, authorization: str) -> Client:
        made = Client(self._session, self.url, authorization)
        made.address = self.address
        return made

    def with_token(self, token: str) -> Client:
        return self._with(f"Bearer {token}")

    def anonymous(self) -> Client:
        return Client(self._session, self.url, None)

    def coming_from(self, address: str) -> Client:
        """The same login, from another address, as a proxy in front would tell; so that one test's guesses slow down no other."""
        made = Client(self._session, self.url, self.authorization)
        made.address = address
        return made

    def at(self, url: str) -> Client:
        """The same login at another gateway."""
        return Client(self._session, url, self.authorization)

    async def request(
        self, method: str, path: str, *, body: Body = None, headers: Mapping[str, str] | None = None, **query: str
    ) -> Answer:
        """`path` is sent as it stands; `query` is added to it."""
        url = URL(self.url + path, encoded=True)
        if query:
            url = url.update_query({name.replace("_", "-"): value for name, value in query.items()})
        sent = dict(headers or {})
        if self.authorization is not None:
            sent.setdefault("Authorization", self.authorization)
        if self.address is not None:
            sent.setdefault("X-Forwarded-For", self.address)
        async with self._session.request(method, url, data=body, headers=sent, allow_redirects=False) as response:
            content = await response.read()
            return Answer(method, path, response.status, response.headers, content).check()

    async def get(self, path: str, *, headers: Mapping[str, str] | None = None, **query: str) -> Answer:
        return await self.request("GET", path, headers=headers, **query)

    async def api(
        self, method: str, path: str, document: Any = None, *, headers: Mapping[str, str] | None = None, **query: str
    ) -> Answer:
        """A request of the management API; `path` without `/api/v1`."""
        body = json.dumps(document).encode() if document is not None else None
        sent = {"Content-Type": "application/json", **(headers or {})} if body is not None else headers
        return await self.request(method, f"/api/v1{path}", body=body, headers=sent, **query)

    async def head(self, path: str) -> Answer:
        return await self.request("HEAD", path)

    async def delete(self, path: str) -> Answer:
        return await self.request("DELETE", path)

    async def start_upload(self, repository: str, *, body: Body = None, **query: str) -> Answer:
        return await self.request("POST", f"/v2/{repository}/blobs/uploads/", body=body, **query)

    async def open_upload(self, repository: str, **query: str) -> str:
        """The location of a new session."""
        answer = await self.start_upload(repository, **query)
        assert answer.status == 202, str(answer)
        return answer.location

    async def patch(self, location: str, body: Body, *, content_range: str | None = None) -> Answer:
        headers = {"Content-Type": "application/octet-stream"}
        if content_range is not None:
            headers["Content-Range"] = content_range
        return await self.request("PATCH", location, body=body, headers=headers)

    async def finish(
        self, location: str, blob_digest: str, body: Body = b"", *, content_range: str | None = None
    ) -> Answer:
        headers = {"Content-Range": content_range} if content_range is not None else {}
        return await self.request("PUT", location, body=body, headers=headers, digest=blob_digest)

    async def push_blob(self, repository: str, content: bytes, algorithm: str = "sha256") -> str:
        """Upload in the plainest way; the digest."""
        name = digest(content, algorithm)
        answer = await self.finish(await self.open_upload(repository), name, content)
        assert answer.status == 201, str(answer)
        return name

    async def put_manifest(
        self, repository: str, reference: str, content: bytes, media_type: str | None, **query: str
    ) -> Answer:
        headers = {"Content-Type": media_type} if media_type is not None else {}
        return await self.request(
            "PUT", f"/v2/{repository}/manifests/{reference}", body=content, headers=headers, **query
        )

    async def push_content(self, repository: str, image: Image) -> None:
        """Everything below the manifest."""
        for name, content in image.blobs.items():
            assert name == await self.push_blob(repository, content, name.partition(":")[0])
        for child in image.children:
            await self.push(repository, child, child.digest)

    async def push(self, repository: str, image: Image, reference: str | None = None) -> Answer:
        """Blobs, children, manifest."""
        await self.push_content(repository, image)
        answer = await self.put_manifest(repository, reference or image.digest, image.manifest, image.media_type)
        assert answer.status == 201, str(answer)
        return answer

    async def get_manifest(self, repository: str, reference: str) -> Answer:
        return await self.get(f"/v2/{repository}/manifests/{reference}")

    async def get_blob(self, repository: str, name: str, *, headers: Mapping[str, str] | None = None) -> Answer:
        return await self.get(f"/v2/{repository}/blobs/{name}", headers=headers)

    async def list_tags(self, repository: str, **query: str) -> list[str]:
        return list((await self.get(f"/v2/{repository}/tags/list", **query)).json()["tags"])

    async def list_referrers(self, repository: str, subject: str, **query: str) -> list[dict[str, Any]]:
        return list((await self.get(f"/v2/{repository}/referrers/{subject}", **query)).json()["manifests"])

    async def list_events(self, repository: str) -> list[dict[str, Any]]:
        """Every event of a repository, as the management API shows them."""
        answer = await self.get(f"/api/v1/repositories/{repository}/-/events", n="1000")
        assert answer.status == 200, str(answer)
        return list(answer.json()["events"])

    async def get_token(self, *scopes: str) -> str:
        """A bearer token for these scopes, by the token protocol."""
        query = "&".join(f"scope={scope}" for scope in scopes)
        answer = await self.get(f"/token?service=slipway&{query}")
        assert answer.status == 200, str(answer)
        return str(answer.json()["token"])


def basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


@asynccontextmanager
async def open_client(
    url: str, authorization: str | None = None, *, local_address: str | None = None
) -> AsyncIterator[Client]:
    """A client that is logged in as the administrator unless something else is said."""
    local = (local_address, 0) if local_address is not None else None
    connector = aiohttp.TCPConnector(limit=64, local_addr=local)
    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False) as session:
        yield Client(session, url, authorization or basic(ADMIN, PASSWORD))
