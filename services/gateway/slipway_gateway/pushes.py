"""The push transaction: a manifest, its edges, its tags and the events that tell of it, all or nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import orjson
from prometheus_client import Counter

from slipway_common.database.pool import RETRYABLE_ERRORS, Connection
from slipway_common.errors import InvalidInput, NotFound, Unavailable
from slipway_common.events.catalogue import ImagePushed, ManifestPushed, PlatformImage, ReferrerAttached
from slipway_common.events.event import NewEvent, repository_stream
from slipway_common.events.log import EventLog
from slipway_common.oci import media_types
from slipway_common.oci.digests import Digest, InvalidDigest, algorithm_of, digest_of
from slipway_common.oci.manifests import InvalidManifest, Manifest, Platform, parse_manifest
from slipway_common.oci.names import Tag, is_digest
from slipway_gateway.cache import ExactCache, manifest_key, tags_key
from slipway_gateway.reads import Reads
from slipway_gateway.store.manifests import Child, ManifestStore, NewManifest, PushFacts
from slipway_gateway.store.repositories import Repository

_pushed = Counter("slipway_manifests_pushed", "Manifests put", ["kind"])
_TRIES = 5
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
        actor: str | None,
        request_id: str,
    ) -> Pushed:
        """Check and store a manifest under `reference` and `extra_tags`.

        Raises InvalidManifest, InvalidDigest, ContentUnknown, RepositoryGone. When it returns, all of it is durable.
        """
        digest = _digest(reference, body)
        tags = tuple(dict.fromkeys((*([] if is_digest(reference) else [Tag(reference)]), *extra_tags)))
        manifest = parse_manifest(body, content_type)
        platform = await self._platform(repository, manifest)
        draft = NewManifest(
            digest=digest, manifest=manifest, body=body, tree_size_bytes=0, platform=platform,
            blob_edges=(), child_edges=(), tags=tags, actor=actor,
        )  # fmt: skip
        # Seen through even if the client leaves: a cancelled COMMIT would leave its outcome unknown.
        await asyncio.shield(self._commit(repository, draft, request_id))
        _pushed.labels("index" if manifest.is_index else "manifest").inc()
        return Pushed(digest, manifest.subject.digest if manifest.subject else None)

    async def _commit(self, repository: Repository, draft: NewManifest, request_id: str) -> None:
        keys: list[Hashable] = [manifest_key(repository.id, tag) for tag in draft.tags]
        if draft.tags:
            keys.append(tags_key(repository.id))
        with self._cache.changing(*keys):
            for attempt in range(_TRIES):
                try:
                    await self._transaction(repository, draft, request_id)
                    break
                except RETRYABLE_ERRORS as exc:
                    if attempt == _TRIES - 1:
                        raise Unavailable("others change the same content at the same time") from exc
        self._announce(repository_stream(repository.id))

    async def _transaction(self, repository: Repository, draft: NewManifest, request_id: str) -> None:
        manifest = draft.manifest
        wanted = sorted(manifest.required_blobs())
        children = sorted({child.digest for child in manifest.children})
        async with self._store.transaction() as connection:
            # A child of an index may be a manifest, or (as in caches of builders) a blob.
            facts = await self._store.lock_and_read(
                connection, repository.id, blobs=sorted({*wanted, *children}), children=children
            )
            if facts is None:
                raise RepositoryGone("the repository was deleted", name=repository.name)
            new = _complete(draft, facts, wanted, children)
            before = await self._store.write(connection, repository.id, new)
            events = _events(repository, new, facts, before)
            await self._append(connection, repository, events, new.actor, request_id)

    async def _append(
        self,
        connection: Connection,
        repository: Repository,
        events: list[NewEvent],
        actor: str | None,
        request_id: str,
    ) -> None:
        stream = repository_stream(repository.id)
        await self._log.append(connection, stream, events, actor=actor, request_id=request_id)

    async def _platform(self, repository: Repository, manifest: Manifest) -> Platform | None:
        """What an image's config says it runs on; None where it does not say so plainly."""
        config = manifest.config
        if config is None or manifest.image_id is None or config.size_bytes > _MAX_CONFIG_BYTES:
            return None
        content = await self._reads.small_blob(repository.id, config.digest, max_bytes=_MAX_CONFIG_BYTES)
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


def _complete(
    draft: NewManifest, facts: PushFacts, wanted: Sequence[Digest], children: Sequence[Digest]
) -> NewManifest:
    """Check the draft against what the repository has, and add what follows from it."""
    missing = [digest for digest in wanted if digest not in facts.blob_sizes]
    missing += [digest for digest in children if digest not in facts.children and digest not in facts.blob_sizes]
    if missing:
        raise ContentUnknown(missing)
    _check_sizes(draft.manifest, facts)
    blob_children = [digest for digest in children if digest not in facts.children]
    return NewManifest(
        digest=draft.digest,
        manifest=draft.manifest,
        body=draft.body,
        tree_size_bytes=_tree_size(draft, facts),
        platform=draft.platform,
        blob_edges=sorted({*wanted, *blob_children}),
        child_edges=[digest for digest in children if digest in facts.children],
        tags=draft.tags,
        actor=draft.actor,
    )


def _check_sizes(manifest: Manifest, facts: PushFacts) -> None:
    for descriptor in (*([manifest.config] if manifest.config else []), *manifest.layers, *manifest.children):
        child = facts.children.get(descriptor.digest)
        actual = child.size_bytes if child else facts.blob_sizes.get(descriptor.digest)
        if actual is not None and actual != descriptor.size_bytes:
            raise InvalidManifest(
                f"{descriptor.digest} is {actual} bytes long, but the manifest says {descriptor.size_bytes}"
            )


def _tree_size(draft: NewManifest, facts: PushFacts) -> int:
    """The bytes of a manifest and all it names, each digest once."""
    manifest = draft.manifest
    sizes = {descriptor.digest: descriptor.size_bytes for descriptor in (*manifest.layers, *manifest.children)}
    if manifest.config:
        sizes[manifest.config.digest] = manifest.config.size_bytes
    for child in facts.children.values():
        sizes[child.digest] = child.tree_size_bytes
    # Sizes of content that lies elsewhere are claims; together they must still fit the column.
    return min(len(draft.body) + sum(sizes.values()), 2**63 - 1)


def _events(
    repository: Repository, new: NewManifest, facts: PushFacts, before: dict[Tag, Digest | None]
) -> list[NewEvent]:
    """What a manifest PUT tells: the manifest, the image if tags were set, the attachment if there is a subject."""
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
            platforms=_platforms(new, facts),
            replaced={tag: old for tag, old in before.items() if old is not None and old != new.digest},
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


def _platforms(new: NewManifest, facts: PushFacts) -> list[PlatformImage]:
    manifest = new.manifest
    if not manifest.is_index:
        return (
            [_platform_image(new.platform, new.digest, manifest.image_id, new.tree_size_bytes)] if new.platform else []
        )
    found = []
    for descriptor in manifest.children:
        child: Child | None = facts.children.get(descriptor.digest)
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
