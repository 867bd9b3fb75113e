"""What an image, an index or an artifact is, told from its manifest's and its config's bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from slipway_common.errors import InvalidInput
from slipway_common.oci import media_types
from slipway_common.oci.digests import Digest, InvalidDigest, parse_digest
from slipway_common.oci.manifests import Descriptor, Manifest, Platform, parse_manifest
from slipway_metadata.domain.config import ConfigFacts, HistoryEntry, ImageConfig, read_config
from slipway_metadata.domain.documents import Problems, clean_map, clean_name, parse_timestamp

Kind = Literal["image", "index", "artifact"]
ChildKind = Literal["image", "index", "artifact", "attestation", "blob"]

# Layers that make up a file system; anything else in a manifest with an image config is some tool's own content
# (cosign's signatures, BuildKit's attestations).
_IMAGE_LAYERS = ("application/vnd.oci.image.layer.", "application/vnd.docker.image.rootfs.")
# BuildKit: docs/attestations/attestation-storage.md. How an index says that a child is about another child.
_REFERENCE_TYPE = "vnd.docker.reference.type"
_REFERENCE_DIGEST = "vnd.docker.reference.digest"
_ATTESTATION = "attestation-manifest"
_CREATED = "org.opencontainers.image.created"  # image-spec: annotations.md
# SHA-256 of a tar without entries: 1,024 zero bytes.
EMPTY_TAR = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer, at its place in the manifest; `diff_id` is its uncompressed content's digest, as the config says."""

    position: int
    digest: Digest
    size_bytes: int
    media_type: str
    diff_id: Digest | None


@dataclass(frozen=True, slots=True)
class Child:
    """One entry of an index. `attests` is the digest of the child that an attestation is about."""

    position: int
    digest: Digest
    size_bytes: int
    media_type: str
    kind: ChildKind
    artifact_type: str | None
    platform: Platform | None
    annotations: dict[str, str]
    attests: Digest | None


@dataclass(frozen=True, slots=True)
class ImageDescription:
    """All that the index keeps of one manifest, whoever pushed it and when.

    `document_bytes` is the length of manifest and config, and so a bound for the length of what is told of them.
    `problem` says in words what was unsound; everything else here is what is left.
    """

    kind: Kind
    media_type: str
    manifest_bytes: int
    document_bytes: int
    image_id: Digest | None = None
    platform: Platform | None = None
    artifact_type: str | None = None
    subject: Digest | None = None
    created_at: datetime | None = None
    config_digest: Digest | None = None
    config_bytes: int = 0
    config: ConfigFacts | None = None
    annotations: dict[str, str] | None = None
    layers: tuple[Layer, ...] = ()
    history: tuple[HistoryEntry, ...] = ()
    children: tuple[Child, ...] = ()
    problem: str | None = None


def read_manifest(data: bytes, media_type: str) -> Manifest | None:
    """Parse a manifest that the gateway has accepted. None if it would not be accepted (by this version) now."""
    try:
        return parse_manifest(data, media_type)
    except InvalidInput:
        return None


def find_image_config(manifest: Manifest | None) -> Descriptor | None:
    """The config that must be read to describe `manifest`; None for an index and for artifacts."""
    if manifest is None or manifest.config is None or not _is_image(manifest):
        return None
    return manifest.config


def describe(
    manifest: Manifest | None,
    *,
    media_type: str,
    manifest_bytes: int,
    config: bytes | None = None,
    unread: str | None = None,
) -> ImageDescription:
    """Describe `manifest`, which has `manifest_bytes` bytes.

    `config` holds the bytes of the config that find_image_config asked for; where they could not be had, `unread` says
    why. Never raises for what the bytes hold.
    """
    problems = Problems()
    if unread is not None:
        problems.add(unread)
    if manifest is None:
        problems.add("the manifest cannot be read")
        kind: Kind = "index" if media_type in media_types.INDEXES else "artifact"
        bare = ImageDescription(kind, clean_name(media_type), manifest_bytes, manifest_bytes)
        return replace(bare, problem=problems.text())
    describe_kind = _describe_index if manifest.is_index else _describe_layers
    described = describe_kind(manifest, manifest_bytes)
    if find_image_config(manifest) is not None:
        described = _add_config(described, config, problems)
    return replace(described, problem=problems.text())


def _is_image(manifest: Manifest) -> bool:
    if manifest.image_id is None:
        return False
    return not manifest.layers or any(layer.media_type.startswith(_IMAGE_LAYERS) for layer in manifest.layers)


def _describe_index(manifest: Manifest, size_bytes: int) -> ImageDescription:
    return replace(
        _describe_common(manifest, "index", size_bytes),
        artifact_type=_name(manifest.artifact_type),
        children=tuple(_describe_child(position, child) for position, child in enumerate(manifest.children)),
    )


def _describe_layers(manifest: Manifest, size_bytes: int) -> ImageDescription:
    is_image = _is_image(manifest)
    config = manifest.config
    return replace(
        _describe_common(manifest, "image" if is_image else "artifact", size_bytes),
        artifact_type=_name(manifest.artifact_type if is_image else _artifact_type(manifest)),
        image_id=manifest.image_id if is_image else None,
        config_digest=config.digest if config else None,
        config_bytes=config.size_bytes if config else 0,
        layers=tuple(
            Layer(position, layer.digest, layer.size_bytes, clean_name(layer.media_type), diff_id=None)
            for position, layer in enumerate(manifest.layers)
        ),
    )


def _describe_common(manifest: Manifest, kind: Kind, size_bytes: int) -> ImageDescription:
    return ImageDescription(
        kind=kind,
        media_type=clean_name(manifest.media_type),
        manifest_bytes=size_bytes,
        document_bytes=size_bytes,
        subject=manifest.subject.digest if manifest.subject else None,
        created_at=parse_timestamp(manifest.annotations.get(_CREATED, "")),
        annotations=clean_map(manifest.annotations),
    )


def _artifact_type(manifest: Manifest) -> str | None:
    """An artifact's type as its maker meant it: with a borrowed image config, what its layers hold says more."""
    if manifest.artifact_type or manifest.image_id is None:
        return manifest.effective_artifact_type
    return manifest.layers[0].media_type


def _describe_child(position: int, child: Descriptor) -> Child:
    annotations = child.annotations or {}
    is_attestation = annotations.get(_REFERENCE_TYPE) == _ATTESTATION
    return Child(
        position=position,
        digest=child.digest,
        size_bytes=child.size_bytes,
        media_type=clean_name(child.media_type),
        kind="attestation" if is_attestation else _child_kind(child),
        artifact_type=_name(child.artifact_type),
        platform=_clean_platform(child.platform),
        annotations=clean_map(annotations),
        attests=_find_digest(annotations.get(_REFERENCE_DIGEST)) if is_attestation else None,
    )


def _child_kind(child: Descriptor) -> ChildKind:
    """Judge by the index alone; the child's own manifest, once indexed, tells an image from an artifact for certain."""
    if child.media_type in media_types.INDEXES:
        return "index"
    if child.media_type not in media_types.MANIFESTS:
        return "blob"  # BuildKit's cache indexes name blobs
    return "artifact" if child.artifact_type else "image"


def _clean_platform(platform: Platform | None) -> Platform | None:
    if platform is None or not (platform.os or platform.architecture):
        return None
    return Platform(clean_name(platform.os), clean_name(platform.architecture), _name(platform.variant))


def _find_digest(text: str | None) -> Digest | None:
    try:
        return parse_digest(text or "")
    except InvalidDigest:
        return None


def _name(text: str | None) -> str | None:
    return clean_name(text) if text else None


def _add_config(image: ImageDescription, data: bytes | None, problems: Problems) -> ImageDescription:
    if data is None:
        return image
    config = read_config(data, problems)
    return replace(
        image,
        document_bytes=image.manifest_bytes + len(data),
        platform=_clean_platform(Platform(config.os or "", config.architecture or "", config.variant)),
        created_at=config.created_at or image.created_at,
        config=config.facts,
        layers=_match_diff_ids(image.layers, config.diff_ids, problems),
        history=_match_history(config, len(image.layers), problems),
    )


def _match_diff_ids(
    layers: Sequence[Layer], diff_ids: Sequence[Digest | None], problems: Problems
) -> tuple[Layer, ...]:
    """Give each layer its diff ID, both being in the same order (image-spec: config.md); with another number, none."""
    if len(diff_ids) != len(layers):
        problems.add(f"the config has {len(diff_ids)} diff IDs for {len(layers)} layers")
        return tuple(layers)
    return tuple(replace(layer, diff_id=diff_id) for layer, diff_id in zip(layers, diff_ids, strict=True))


def _match_history(config: ImageConfig, layer_count: int, problems: Problems) -> tuple[HistoryEntry, ...]:
    """Say which layer each step made: those not empty made one each, in order. With another number, none is said."""
    made = sum(not entry.empty for entry in config.history)
    if not config.history:
        return ()
    if made != layer_count:
        problems.add(f"the config's history tells of {made} layers, the manifest has {layer_count}")
        return tuple(config.history)
    positions = iter(range(layer_count))
    return tuple(entry if entry.empty else replace(entry, layer=next(positions)) for entry in config.history)
