"""Pushers that note what was acknowledged, for tests that break things meanwhile.

In the manner of Jepsen: every attempt ends as `ok` (the registry answered 2xx), `refused` (4xx: it said no) or
`unknown` (an error, a 5xx or silence: the push may or may not have happened). Only `ok` binds the registry.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import aiohttp

from tests.parts.images import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, describe, sha256_digest

Outcome = Literal["ok", "refused", "unknown"]
MOVING_TAG = "latest"
_REQUEST_TIMEOUT = aiohttp.ClientTimeout(total=20)
_PAUSE_AFTER_FAILURE_S = 0.1
# Layers that are rows of the database, and layers that are objects, of one write and of several.
_LAYER_BYTES = ((1, 8 * 1024), (16 * 1024, 100 * 1024))


@dataclass(frozen=True, slots=True)
class Push:
    """One attempt to push one image: what it was, when its manifest was sent and answered, how it ended."""

    repository: str
    tag: str
    digest: str
    blobs: Mapping[str, bytes]
    manifest: bytes
    sent_at: float
    answered_at: float
    outcome: Outcome
    answer: str = ""


@dataclass(slots=True)
class PushLog:
    """Every attempt of every pusher whose manifest was sent."""

    pushes: list[Push] = field(default_factory=list)
    failed_before_manifest: list[str] = field(default_factory=list)
    refused_blobs: list[str] = field(default_factory=list)

    def acknowledged(self) -> list[Push]:
        return [push for push in self.pushes if push.outcome == "ok"]

    def count(self, outcome: Outcome) -> int:
        return sum(push.outcome == outcome for push in self.pushes)


class Unanswered(Exception):
    """A request failed, or was answered with 5xx."""


class Refused(Exception):
    """A request was answered with 4xx."""


class Pusher:
    """One client that pushes one small image after the other until it is told to stop.

    Each has a repository of its own and pushes to a shared one as well; part of the layers are common to all, so that
    deduplication, mounts and races for one digest happen too.
    """

    def __init__(
        self,
        name: str,
        log: PushLog,
        *,
        url: str,
        login: Mapping[str, str],
        shared_repository: str,
        seed: int,
        pause_s: float,
    ) -> None:
        self._log = log
        self._url = url
        self._login = dict(login)
        self._token = ""
        self._repositories = (f"kill/{name}", shared_repository)
        self._name = name
        self._random = random.Random(seed)
        self._pause_s = pause_s
        self._common = (b"a layer that everybody has " * 100, b"another one, an object " * 1000)

    async def run(self, stop: asyncio.Event) -> None:
        number = 0
        async with aiohttp.ClientSession(timeout=_REQUEST_TIMEOUT) as session:
            while not stop.is_set():
                number += 1
                repository = self._repositories[number % 3 == 0]
                try:
                    await self._push(session, repository, number)
                    await asyncio.sleep(self._pause_s)
                except Unanswered as exc:
                    self._log.failed_before_manifest.append(str(exc))
                    await asyncio.sleep(_PAUSE_AFTER_FAILURE_S)
                except Refused as exc:
                    self._log.refused_blobs.append(str(exc))

    async def _push(self, session: aiohttp.ClientSession, repository: str, number: int) -> None:
        size = self._random.randint(*self._random.choice(_LAYER_BYTES))
        layers = [self._random.randbytes(size), self._random.choice(self._common)]
        config = json.dumps({"os": "linux", "architecture": "amd64", "test": [self._name, number]}).encode()
        for blob in (config, *layers):
            await self._push_blob(session, repository, blob)
        manifest = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": describe(config, OCI_CONFIG),
            "layers": [describe(layer, OCI_LAYER) for layer in layers],
        }
        # Every fourth push moves a tag; all others have a tag that no other attempt uses.
        tag = MOVING_TAG if number % 4 == 0 else f"{self._name}-{number}"
        await self._put_manifest(
            session, repository, tag, json.dumps(manifest).encode(), {sha256_digest(b): b for b in (config, *layers)}
        )

    async def _push_blob(self, session: aiohttp.ClientSession, repository: str, blob: bytes) -> None:
        """Push one blob as clients do: ask for it, then by one of the ways of the specification."""
        digest = sha256_digest(blob)
        status, _ = await self._request(session, "HEAD", f"/v2/{repository}/blobs/{digest}", accept=(200, 404))
        if status == 200:
            return
        uploads = f"/v2/{repository}/blobs/uploads/"
        way = self._random.choice(("post", "put", "patch", "patches", "mount"))
        if way == "post":
            status, location = await self._request(session, "POST", f"{uploads}?digest={digest}", body=blob)
            if status == 201:
                return
        elif way == "mount":
            status, location = await self._request(
                session, "POST", f"{uploads}?mount={digest}&from={self._repositories[1]}"
            )
            if status == 201:
                return
        else:
            _, location = await self._request(session, "POST", uploads)
        if way in ("patch", "patches"):
            half = len(blob) // 2 if way == "patches" else len(blob)
            for piece in filter(None, (blob[:half], blob[half:])):
                _, location = await self._request(session, "PATCH", location, body=piece)
            blob = b""
        joint = "&" if "?" in location else "?"
        await self._request(session, "PUT", f"{location}{joint}digest={digest}", body=blob)

    async def _put_manifest(
        self, session: aiohttp.ClientSession, repository: str, tag: str, manifest: bytes, blobs: Mapping[str, bytes]
    ) -> None:
        sent_at = time.monotonic()
        outcome: Outcome = "ok"
        answer = ""
        try:
            await self._request(
                session, "PUT", f"/v2/{repository}/manifests/{tag}", body=manifest, content_type=OCI_MANIFEST
            )
        except Unanswered as exc:
            outcome, answer = "unknown", str(exc)
        except Refused as exc:
            outcome, answer = "refused", str(exc)
        self._log.pushes.append(
            Push(repository, tag, sha256_digest(manifest), blobs, manifest, sent_at, time.monotonic(), outcome, answer)
        )
        if outcome == "unknown":
            await asyncio.sleep(_PAUSE_AFTER_FAILURE_S)

    async def _request(
        self,
        session: aiohttp.ClientSession,
        method: str,
        path: str,
        *,
        body: bytes = b"",
        content_type: str = "application/octet-stream",
        accept: tuple[int, ...] = (200, 201, 202),
    ) -> tuple[int, str]:
        """Return status and Location. Raise Unanswered or Refused for anything but `accept`."""
        url = path if path.startswith("http") else self._url + path
        try:
            for attempt in ("with the token at hand", "with a new one"):
                headers = {"Authorization": f"Bearer {self._token}"}
                if body:
                    headers["Content-Type"] = content_type
                async with session.request(method, url, data=body or None, headers=headers) as response:
                    status, location = response.status, response.headers.get("Location", "")
                    text = await response.text(errors="replace")
                if status != 401 or attempt == "with a new one":
                    break
                await self._fetch_token(session)
        except (aiohttp.ClientError, OSError, TimeoutError) as exc:
            raise Unanswered(f"{method} {path}: {exc!r}") from exc
        if status in accept:
            return status, location
        raise (Unanswered if status >= 500 else Refused)(f"{method} {path}: {status} {text[:300]}")

    async def _fetch_token(self, session: aiohttp.ClientSession) -> None:
        """Log in as clients do: the password once for a token, which also outlives the server's restarts."""
        scopes = [("scope", f"repository:{name}:pull,push") for name in self._repositories]
        async with session.get(f"{self._url}/token", params=scopes, headers=self._login) as response:
            if response.status == 200:
                self._token = (await response.json())["token"]
