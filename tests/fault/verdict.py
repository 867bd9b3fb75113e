"""What must hold once faults have stopped: nothing acknowledged lost, nothing visible dangling, no event missing."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tests.fault.load import MOVING_TAG, Push, PushLog
from tests.parts.images import OCI_MANIFEST, sha256_digest

IMAGE_PUSHED = "slipway.image.pushed.v1"
_PARALLEL = 8
_METADATA_TIMEOUT_S = 60.0


@dataclass(slots=True)
class Verdict:
    """Counts of what was checked, and every violation found."""

    tags_read: int = 0
    blobs_read: int = 0
    events_read: int = 0
    images_listed: int = 0
    lost: list[str] = field(default_factory=list)
    dangling: list[str] = field(default_factory=list)
    events_wrong: list[str] = field(default_factory=list)
    metadata_wrong: list[str] = field(default_factory=list)

    def violations(self) -> list[str]:
        return [*self.lost, *self.dangling, *self.events_wrong, *self.metadata_wrong]

    def __str__(self) -> str:
        return (
            f"read {self.tags_read} tags, {self.blobs_read} blobs, {self.events_read} events, "
            f"{self.images_listed} images in metadata: {len(self.lost)} lost, {len(self.dangling)} dangling, "
            f"{len(self.events_wrong)} events missing or out of order, {len(self.metadata_wrong)} wrong in metadata"
        )


async def judge(log: PushLog, *, url: str, headers: Mapping[str, str]) -> Verdict:
    """Read everything back and compare it with the log of the pushers."""
    verdict = Verdict()
    by_repository: dict[str, list[Push]] = defaultdict(list)
    for push in log.pushes:
        by_repository[push.repository].append(push)
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(base_url=url, headers=headers, timeout=timeout) as session:
        known_blobs: set[tuple[str, str]] = set()
        for repository, pushes in by_repository.items():
            events = await _read_events(session, repository)
            verdict.events_read += len(events)
            _check_events(verdict, repository, pushes, events)
            tags = await _read_tags(session, repository)
            expected = _expected_tags(pushes, events)
            verdict.lost += [f"{repository}:{tag} is gone" for tag in expected.keys() - tags.keys()]
            verdict.lost += [
                f"{repository}:{tag} is {tags[tag]}, acknowledged was {digest}"
                for tag, digest in expected.items()
                if tag in tags and tags[tag] != digest
            ]
            by_digest = {push.digest: push for push in pushes}
            digests = set(tags.values()) | {push.digest for push in pushes if push.outcome == "ok"}
            await _check_content(session, verdict, repository, digests, by_digest, known_blobs)
            verdict.tags_read += len(tags)
            await _check_metadata(session, verdict, repository, tags)
    return verdict


async def _read_events(session: aiohttp.ClientSession, repository: str) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    while True:
        after = events[-1]["seq"] if events else 0
        page = (await _get_json(session, f"/api/v1/repositories/{repository}/-/events?after={after}"))["events"]
        if not page:
            return events
        events += page


def _check_events(verdict: Verdict, repository: str, pushes: list[Push], events: list[dict[str, Any]]) -> None:
    """Every acknowledged push has exactly one event, every other at most one; seq is gapless and in real-time order."""
    wrong = verdict.events_wrong
    seqs = [event["seq"] for event in events]
    if seqs != list(range(1, len(seqs) + 1)):
        wrong.append(f"{repository}: seq is not 1..{len(seqs)}")
    found: dict[str, list[int]] = defaultdict(list)
    for event in events:
        if event["type"] == IMAGE_PUSHED:
            for tag in event["data"]["tags"]:
                found[f"{tag} {event['data']['digest']}"].append(event["seq"])
    for push in pushes:
        # Each attempt has bytes of its own, so tag and digest name one attempt.
        times = len(found.pop(f"{push.tag} {push.digest}", []))
        allowed = {"ok": (1,), "unknown": (0, 1), "refused": (0,)}[push.outcome]
        if times not in allowed:
            wrong.append(f"{repository}:{push.tag} ({push.outcome}) has {times} events")
    wrong += [f"{repository}: an event for {what}, which nobody pushed" for what in found]
    _check_real_time_order(wrong, repository, pushes, events)


def _check_real_time_order(wrong: list[str], repository: str, pushes: list[Push], events: list[dict[str, Any]]) -> None:
    """A push that was answered before another was sent must come before it in the log."""
    by_what = {f"{push.tag} {push.digest}": push for push in pushes if push.outcome == "ok"}
    latest_sent = float("-inf")
    for event in events:
        if event["type"] != IMAGE_PUSHED:
            continue
        push = by_what.get(f"{event['data']['tags'][0]} {event['data']['digest']}")
        if push is None:
            continue
        if push.answered_at < latest_sent:
            wrong.append(f"{repository}:{push.tag} is out of order at seq {event['seq']}")
        latest_sent = max(latest_sent, push.sent_at)


def _expected_tags(pushes: Iterable[Push], events: list[dict[str, Any]]) -> dict[str, str]:
    """Each acknowledged tag with its digest; of the moving tag what its last event says."""
    expected = {push.tag: push.digest for push in pushes if push.outcome == "ok" and push.tag != MOVING_TAG}
    for event in events:
        if event["type"] == IMAGE_PUSHED and MOVING_TAG in event["data"]["tags"]:
            expected[MOVING_TAG] = event["data"]["digest"]
    return expected


async def _read_tags(session: aiohttp.ClientSession, repository: str) -> dict[str, str]:
    """Every tag of the repository with the digest it names."""
    names: list[str] = []
    path: str | None = f"/v2/{repository}/tags/list?n=500"
    while path is not None:
        async with session.get(path) as response:
            if response.status == 404:
                return {}
            response.raise_for_status()
            names += (await response.json())["tags"]
            following = response.links.get("next")
        path = str(following["url"].relative()) if following else None
    limit = asyncio.Semaphore(_PARALLEL)

    async def resolve(tag: str) -> tuple[str, str]:
        async with (
            limit,
            session.head(f"/v2/{repository}/manifests/{tag}", headers={"Accept": OCI_MANIFEST}) as response,
        ):
            return tag, response.headers.get("Docker-Content-Digest", f"status {response.status}")

    return dict(await asyncio.gather(*(resolve(tag) for tag in names)))


async def _check_content(
    session: aiohttp.ClientSession,
    verdict: Verdict,
    repository: str,
    digests: Iterable[str],
    by_digest: dict[str, Push],
    known_blobs: set[tuple[str, str]],
) -> None:
    """Read every visible manifest and each of its blobs, and compare every byte."""
    limit = asyncio.Semaphore(_PARALLEL)

    async def check_manifest(digest: str) -> None:
        async with limit:
            status, content = await _get(session, f"/v2/{repository}/manifests/{digest}")
        push = by_digest.get(digest)
        if status != 200 or sha256_digest(content) != digest:
            verdict.lost.append(f"{repository}@{digest}: manifest {status}, {len(content)} bytes")
            return
        if push is not None and content != push.manifest:
            verdict.lost.append(f"{repository}@{digest}: manifest differs from what was pushed")
        manifest = json.loads(content)
        for descriptor in (manifest["config"], *manifest["layers"]):
            await check_blob(digest, descriptor["digest"])

    async def check_blob(manifest: str, digest: str) -> None:
        if (repository, digest) in known_blobs:
            return
        known_blobs.add((repository, digest))
        async with limit:
            status, content = await _get(session, f"/v2/{repository}/blobs/{digest}")
        verdict.blobs_read += 1
        if status != 200 or sha256_digest(content) != digest:
            verdict.dangling.append(f"{repository}@{manifest}: blob {digest} is {status}, {len(content)} bytes")

    await asyncio.gather(*(check_manifest(digest) for digest in digests))


async def _check_metadata(
    session: aiohttp.ClientSession, verdict: Verdict, repository: str, tags: dict[str, str]
) -> None:
    """metadata shows every tag with its digest, at the latest some time after the last push."""
    deadline = asyncio.get_running_loop().time() + _METADATA_TIMEOUT_S
    while True:
        images = await _read_images(session, repository)
        shown = {tag: image["digest"] for image in images for tag in image["tags"]}
        if shown == tags or asyncio.get_running_loop().time() > deadline:
            break
        await asyncio.sleep(0.5)
    verdict.images_listed += len(images)
    for tag in tags.keys() | shown.keys():
        if shown.get(tag) != tags.get(tag):
            verdict.metadata_wrong.append(f"{repository}:{tag}: metadata {shown.get(tag)}, registry {tags.get(tag)}")


async def _read_images(session: aiohttp.ClientSession, repository: str) -> list[dict[str, Any]]:
    images: list[dict[str, Any]] = []
    path = f"/api/v1/repositories/{repository}/-/images?n=100"
    page = await _get_json(session, path)
    images += page["images"]
    while page["next"] is not None:
        page = await _get_json(session, f"{path}&last={page['next']}")
        images += page["images"]
    return images


async def _get_json(session: aiohttp.ClientSession, path: str) -> dict[str, Any]:
    async with session.get(path) as response:
        assert response.status == 200, f"GET {path}: {response.status} {(await response.text())[:300]}"
        return dict(await response.json())


async def _get(session: aiohttp.ClientSession, path: str) -> tuple[int, bytes]:
    async with session.get(path, headers={"Accept": OCI_MANIFEST}) as response:
        return response.status, await response.read()
