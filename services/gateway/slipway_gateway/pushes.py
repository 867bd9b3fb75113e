"""The push transaction: a manifest, its edges, its tags and the events that tell of it, all or nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from prometheus_client import Counter

from slipway_common.database.pool import RETRYABLE_ERRORS
from slipway_common.errors import InvalidInput, NotFound, Unavailable
from slipway_common.events.catalogue import ImagePushed, ManifestPushed, PlatformImage, ReferrerAttached
from slipway_common.events.event import NewEvent, Origin, repository_stream
from slipway_common.events.log import EventLog
from slipway_common.oci import media_types
from slipway_common.oci.digests import Digest, InvalidDigest, algorithm_of, digest_of
from slipway_common.oci.manifests import InvalidManifest, Manifest, Platform, parse_manifest
from slipway_common.oci.names import Tag, is_digest
from slipway_gateway.cache import ExactCache, manifest_key, tags_key
from slipway_gateway.reads import Reads
from slipway_gateway.store.manifests import Child, ManifestStore, NewManifest, Refusal
from slipway_gateway.store.repositories import Repository

_pushed = Counter("slipway_manifests_pushed", "Manifests put", ["kind"])
_TRIES = 5
# The most that one tag's name and former digest take in an event.
_REPLACED_BYTES = 128 + len("sha512:") + 128 + 8
_MAX_CONFIG_BYTES = 4 * 1024 * 1024


class ContentUnknown(InvalidInput):
    """The manifest names content that the repository does not have."""

    def __init__(self, missing: Sequence[Digest]) -> None:
        super().__init__("the manifest names content that is not in this repository", missing=list(missing))
        self.missing = missing


class RepositoryGone(NotFound):
    """The repository was deleted meanwhile."""


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a manifest PUT answers with."""

    digest: Digest
    subject: Digest | None


class Pushes:
    def __init__(
        self,
        store: ManifestStore,
        reads: Reads,
        cache: ExactCache,
        log: EventLog,
        announce: Callable[[str], None],
    ) -> None:
        self._store = store
        self._reads = reads
        self._cache = cache
        self._log = log
        self._announce = announce

    async def put(
        self,
        repository: Repository,
        reference: Tag | Digest,
        body: bytes,
        *,
        content_type: str | None,
        extra_tags: Sequence[Tag],
        origin: Origin,
    ) -> Pushed:
        """Check and store a manifest under `reference` and `extra_tags`.

        Raises InvalidManifest, InvalidDigest, ContentUnknown, RepositoryGone. When it returns, all of it is durable.
        """
        digest = _digest(reference, body)
        tags = tuple(dict.fromkeys((*([] if is_digest(reference) else [Tag(reference)]), *extra_tags)))
        manifest = parse_manifest(body, content_type)
        children = await self._children(repository, manifest)
        new = NewManifest(
            digest=digest,
            manifest=manifest,
            body=body,
            tree_size_bytes=_tree_size(manifest, body, children),
            platform=await self._platform(repository, manifest),
            blobs=_needed_blobs(manifest, children),
            children=[(child.digest, child.size_bytes) for child in manifest.children if child.digest in children],
            tags=tags,
            actor=origin.actor,
        )
        # Seen through even if the client leaves: a cancelled COMMIT would leave its outcome unknown.
        await asyncio.shield(self._commit(repository, new, children, origin))
        _pushed.labels("index" if manifest.is_index else "manifest").inc()
        return Pushed(digest, manifest.subject.digest if manifest.subject else None)

    async def _children(self, repository: Repository, manifest: Manifest) -> dict[Digest, Child]:
        """What is known of the manifests that an index names. Those that are none may be blobs, as in builders' caches."""
        digests = sorted({child.digest for child in manifest.children})
        return await self._store.read_children(repository.id, digests) if digests else {}

    async def _commit(
        self, repository: Repository, new: NewManifest, children: dict[Digest, Child], origin: Origin
    ) -> None:
        stream = repository_stream(repository.id)
        events = _events(repository, new, children)
        arguments = self._log.arguments(
            stream,
            events,
            origin,
            reserve_bytes=_REPLACED_BYTES * len(new.tags),
        )
        keys: list[Hashable] = [manifest_key(repository.id, tag) for tag in new.tags]
        if new.tags:
            keys.append(tags_key(repository.id))
        with self._cache.changing(*keys):
            refusal = await self._push(repository, new, arguments)
        if refusal is not None:
            raise _refused(repository, new.manifest, refusal)
        self._log.count(len(events))
        self._announce(stream)

    async def _push(self, repository: Repository, new: NewManifest, events: tuple[Any, ...]) -> Refusal | None:
        for _ in range(_TRIES):
            try:
                return await self._store.push(repository.id, new, events)
            except RETRYABLE_ERRORS as exc:
                failure = exc
        raise Unavailable("others change the same content at the same time") from failure

    async def _platform(self, repository: Repository, manifest: Manifest) -> Platform | None:
        """What an image's config says it runs on; None where it does not say so plainly."""
        config = manifest.config
        if config is None or manifest.image_id is None or config.size_bytes > _MAX_CONFIG_BYTES:
            return None
        # What is in memory needs no look at the repository: the push itself checks that the config is there.
        content = self._reads.remembered(config.digest) or await self._reads.small_blob(
            repository.id, config.digest, max_bytes=_MAX_CONFIG_BYTES
        )
        return _read_platform(content) if content is not None else None


def _digest(reference: Tag | Digest, body: bytes) -> Digest:
    if not is_digest(reference):
        return digest_of(body)
    digest = Digest(reference)
    if digest_of(body, algorithm_of(digest)) != digest:
        raise InvalidDigest("the manifest does not have this digest", digest=digest)
    return digest


def _read_platform(content: bytes) -> Platform | None:
    try:
        config = orjson.loads(content)
        os_, architecture, variant = config.get("os"), config.get("architecture"), config.get("variant")
    except (ValueError, AttributeError):
        return None
    if not _plain(os_) or not _plain(architecture):
        return None
    return Platform(os_, architecture, variant if _plain(variant) else None)


def _plain(text: object) -> bool:
    return isinstance(text, str) and 0 < len(text) <= 64 and text.isprintable()


def _needed_blobs(manifest: Manifest, children: Mapping[Digest, Child]) -> list[tuple[Digest, int]]:
    """The blobs that must be here, each with the size the manifest claims: config, layers, children that are no manifests."""
    named = [layer for layer in manifest.layers if not media_types.is_non_distributable(layer.media_type)]
    if manifest.config is not None:
        named.append(manifest.config)
    named += [child for child in manifest.children if child.digest not in children]
    return [(descriptor.digest, descriptor.size_bytes) for descriptor in named]


def _refused(repository: Repository, manifest: Manifest, refusal: Refusal) -> Exception:
    """The error that tells the client what is amiss."""
    if refusal.repository_gone:
        return RepositoryGone("the repository was deleted", name=repository.name)
    if refusal.missing:
        return ContentUnknown(refusal.missing)
    digest, actual = next(iter(refusal.actual_sizes.items()))
    descriptors = (*([manifest.config] if manifest.config else []), *manifest.layers, *manifest.children)
    claimed = [one.size_bytes for one in descriptors if one.digest == digest and one.size_bytes != actual]
    return InvalidManifest(f"{digest} is {actual} bytes long, but the manifest says {claimed[0] if claimed else '?'}")


def _tree_size(manifest: Manifest, body: bytes, children: Mapping[Digest, Child]) -> int:
    """The bytes of a manifest and all it names, each digest once."""
    sizes = {descriptor.digest: descriptor.size_bytes for descriptor in (*manifest.layers, *manifest.children)}
    if manifest.config:
        sizes[manifest.config.digest] = manifest.config.size_bytes
    for child in children.values():
        sizes[child.digest] = child.tree_size_bytes
    # Sizes of content that lies elsewhere are claims; together they must still fit the column.
    return min(len(body) + sum(sizes.values()), 2**63 - 1)


def _events(repository: Repository, new: NewManifest, children: Mapping[Digest, Child]) -> list[NewEvent]:
    """What a manifest PUT tells: the manifest, the attachment if there is a subject, last the image if tags were set."""
    manifest = new.manifest
    artifact_type = _artifact_type(manifest)
    events = [
        NewEvent.of(
            ManifestPushed(
                repository=repository.ref,
                digest=new.digest,
                media_type=manifest.media_type,
                artifact_type=artifact_type,
                image_id=manifest.image_id,
                size_bytes=len(new.body),
                subject=manifest.subject.digest if manifest.subject else None,
            ),
            subject=f"{repository.name}@{new.digest}",
        )
    ]
    if manifest.subject:
        attached = ReferrerAttached(
            repository=repository.ref,
            subject=manifest.subject.digest,
            digest=new.digest,
            media_type=manifest.media_type,
            artifact_type=artifact_type,
            size_bytes=len(new.body),
        )
        events.append(NewEvent.of(attached, subject=f"{repository.name}@{manifest.subject.digest}"))
    if new.tags:
        image = ImagePushed(
            repository=repository.ref,
            tags=list(new.tags),
            digest=new.digest,
            media_type=manifest.media_type,
            artifact_type=artifact_type,
            image_id=manifest.image_id,
            size_bytes=new.tree_size_bytes,
            platforms=_platforms(new, children),
        )
        events.append(NewEvent.of(image, subject=f"{repository.name}:{new.tags[0]}"))
    return events


def _artifact_type(manifest: Manifest) -> str | None:
    """The artifact type of what is not an ordinary image."""
    if manifest.artifact_type:
        return manifest.artifact_type
    if manifest.config is not None and manifest.config.media_type not in media_types.IMAGE_CONFIGS:
        return manifest.config.media_type
    return None


def _platforms(new: NewManifest, children: Mapping[Digest, Child]) -> list[PlatformImage]:
    manifest = new.manifest
    if not manifest.is_index:
        return (
            [_platform_image(new.platform, new.digest, manifest.image_id, new.tree_size_bytes)] if new.platform else []
        )
    found = []
    for descriptor in manifest.children:
        child = children.get(descriptor.digest)
        platform = descriptor.platform or (child.platform if child else None)
        # Builders mark what is attached to an image, and is none, with this platform.
        if child is not None and platform is not None and platform.os not in ("", "unknown"):
            found.append(_platform_image(platform, child.digest, child.image_id, child.tree_size_bytes))
    return found


def _platform_image(platform: Platform, digest: Digest, image_id: Digest | None, size_bytes: int) -> PlatformImage:
    return PlatformImage(
        os=platform.os,
        architecture=platform.architecture,
        variant=platform.variant,
        digest=digest,
        image_id=image_id,
        size_bytes=size_bytes,
    )
