"""Reading a manifest strictly: what we take it to mean is what every other reader takes it to mean.

JSON readers differ: one takes `"LAYERS"` for layers, one keeps the first of two equal keys, another the last. A registry
that misses an edge later deletes a layer in use, so whatever could be read in two ways is refused. The bytes themselves are
never rewritten.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import orjson

from slipway_common.errors import InvalidInput
from slipway_common.oci import media_types
from slipway_common.oci.digests import Digest, InvalidDigest, parse_digest

MAX_MANIFEST_BYTES = 4 * 1024 * 1024  # what the specification asks registries to accept at least
MAX_DESCRIPTORS = 20_000  # more than fit usefully in 4 MiB; bounds one transaction
MAX_MEDIA_TYPE_LENGTH = 255  # RFC 6838, 4.2: two names of at most 127 characters
_MAX_SIZE = 2**63 - 1
_MAX_TEXT_LENGTH = 255  # RFC 6838, 4.2: two names of at most 127 characters and a slash
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

_TOP_KEYS = frozenset({
    "schemaVersion", "mediaType", "artifactType", "config", "layers", "manifests", "subject", "annotations",
})  # fmt: skip
_DESCRIPTOR_KEYS = frozenset({
    "mediaType", "digest", "size", "urls", "annotations", "data", "platform", "artifactType",
})  # fmt: skip
_PLATFORM_KEYS = frozenset({"architecture", "os", "os.version", "os.features", "variant", "features"})


class InvalidManifest(InvalidInput):
    """Not a manifest that every client would read in the same way."""


@dataclass(frozen=True, slots=True)
class Platform:
    os: str
    architecture: str
    variant: str | None = None


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What one manifest says of another piece of content."""

    media_type: str
    digest: Digest
    size_bytes: int
    platform: Platform | None = None
    artifact_type: str | None = None
    annotations: dict[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """A parsed image manifest or index. `layers` and `config` are set for the former, `children` for the latter."""

    media_type: str
    config: Descriptor | None
    layers: tuple[Descriptor, ...]
    children: tuple[Descriptor, ...]
    subject: Descriptor | None
    artifact_type: str | None
    annotations: dict[str, str]

    @property
    def is_index(self) -> bool:
        return self.media_type in media_types.INDEXES

    @property
    def image_id(self) -> Digest | None:
        """The config's digest, if the config is an image's (not an artifact's)."""
        if self.config is not None and self.config.media_type in media_types.IMAGE_CONFIGS:
            return self.config.digest
        return None

    @property
    def effective_artifact_type(self) -> str | None:
        """What the referrers list shows: artifactType, else the config's media type (distribution-spec: Listing Referrers)."""
        if self.artifact_type:
            return self.artifact_type
        return self.config.media_type if self.config is not None else None

    def required_blobs(self) -> frozenset[Digest]:
        """The blobs that must be in the repository: config and layers, without those that may lie elsewhere."""
        blobs = [layer.digest for layer in self.layers if not media_types.is_non_distributable(layer.media_type)]
        if self.config is not None:
            blobs.append(self.config.digest)
        return frozenset(blobs)


def parse_manifest(body: bytes, content_type: str | None) -> Manifest:
    """Parse and check `body`.

    Raises InvalidManifest (or InvalidDigest) with a sentence for its author. `content_type` is the request's, without
    parameters; where the manifest names its own media type, both must agree (CVE-2021-41190).
    """
    document = _load(body)
    _check_keys(document, _TOP_KEYS, "the manifest")
    media_type = _media_type(document, content_type)
    version = document.get("schemaVersion")
    if version != 2 or type(version) is not int:  # 2.0 is a number that other readers do not take for a version
        raise InvalidManifest("schemaVersion must be 2")
    return _index(document, media_type) if media_type in media_types.INDEXES else _image(document, media_type)


def _media_type(document: dict[str, Any], content_type: str | None) -> str:
    own = document.get("mediaType")
    if own is not None and not isinstance(own, str):
        raise InvalidManifest("mediaType must be a string")
    if own is not None and content_type is not None and own != content_type:
        raise InvalidManifest(f"mediaType is {own!r}, but the request's Content-Type is {content_type!r}")
    media_type = content_type or own
    if media_type is None:
        raise InvalidManifest("neither a Content-Type nor a mediaType says what this manifest is")
    if media_type in media_types.DOCKER_SCHEMA1:
        raise InvalidManifest("Docker schema 1 manifests are no longer supported; push with a current client")
    if media_type not in media_types.MANIFESTS and media_type not in media_types.INDEXES:
        raise InvalidManifest(f"{media_type!r} is not the media type of a manifest that this registry knows")
    return media_type


def _image(document: dict[str, Any], media_type: str) -> Manifest:
    if "manifests" in document:
        raise InvalidManifest("an image manifest must not have manifests")
    config = _descriptor(document.get("config"), "config")
    return Manifest(
        media_type=media_type,
        config=config,
        layers=_descriptors(document.get("layers"), "layers"),
        children=(),
        subject=_subject(document),
        artifact_type=_text(document, "artifactType"),
        annotations=_annotations(document.get("annotations"), "annotations"),
    )


def _index(document: dict[str, Any], media_type: str) -> Manifest:
    if "layers" in document or "config" in document:
        raise InvalidManifest("an index must have neither layers nor config")
    return Manifest(
        media_type=media_type,
        config=None,
        layers=(),
        children=_descriptors(document.get("manifests"), "manifests"),
        subject=_subject(document),
        artifact_type=_text(document, "artifactType"),
        annotations=_annotations(document.get("annotations"), "annotations"),
    )


def _subject(document: dict[str, Any]) -> Descriptor | None:
    subject = document.get("subject")
    return None if subject is None else _descriptor(subject, "subject")


def _descriptors(value: object, where: str) -> tuple[Descriptor, ...]:
    if not isinstance(value, list):
        raise InvalidManifest(f"{where} must be a list")
    if len(value) > MAX_DESCRIPTORS:
        raise InvalidManifest(f"{where} has more than {MAX_DESCRIPTORS} entries")
    return tuple(_descriptor(entry, f"{where}[{position}]") for position, entry in enumerate(value))


def _descriptor(value: object, where: str) -> Descriptor:
    if not isinstance(value, dict):
        raise InvalidManifest(f"{where} must be a descriptor: an object with mediaType, digest and size")
    _check_keys(value, _DESCRIPTOR_KEYS, where)
    media_type, digest, size = value.get("mediaType"), value.get("digest"), value.get("size")
    if not isinstance(media_type, str) or not media_type or not _is_plain(media_type):
        raise InvalidManifest(f"{where}.mediaType must be a media type")
    if not isinstance(digest, str):
        raise InvalidManifest(f"{where}.digest must be a digest")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= _MAX_SIZE:
        raise InvalidManifest(f"{where}.size must be a number of bytes")
    return Descriptor(
        media_type=media_type,
        digest=_digest(digest, where),
        size_bytes=size,
        platform=_platform(value.get("platform"), where),
        artifact_type=_text(value, "artifactType"),
        annotations=_annotations(value.get("annotations"), f"{where}.annotations"),
    )


def _digest(text: str, where: str) -> Digest:
    try:
        return parse_digest(text)
    except InvalidDigest as exc:
        raise InvalidManifest(f"{where}.digest: {exc.message}", digest=text[:160]) from exc


def _platform(value: object, where: str) -> Platform | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise InvalidManifest(f"{where}.platform must be an object")
    _check_keys(value, _PLATFORM_KEYS, f"{where}.platform")
    return Platform(
        os=_text(value, "os") or "",
        architecture=_text(value, "architecture") or "",
        variant=_text(value, "variant"),
    )


def _text(value: dict[str, Any], key: str) -> str | None:
    text = value.get(key)
    if text is not None and (not isinstance(text, str) or not _is_plain(text)):
        raise InvalidManifest(f"{key} must be a string of at most 255 characters, none of them a control character")
    return text or None


def _is_plain(text: str) -> bool:
    """Whether it is no longer than a media type, without what headers, databases and terminals stumble over, NUL first of all."""
    return len(text) <= _MAX_TEXT_LENGTH and _CONTROL.search(text) is None


def _annotations(value: object, where: str) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise InvalidManifest(f"{where} must map strings to strings")
    return value


def _load(body: bytes) -> dict[str, Any]:
    """Parse JSON, refusing what readers disagree on: equal keys, NaN, lone surrogates, unbounded depth."""
    try:
        orjson.loads(body)  # strict on encoding, numbers and depth, which the standard library is not
        document = json.loads(body, object_pairs_hook=_unique_keys)
    except InvalidManifest:
        raise
    except (ValueError, RecursionError) as exc:
        raise InvalidManifest("the manifest is not valid JSON") from exc
    if not isinstance(document, dict):
        raise InvalidManifest("the manifest must be a JSON object")
    return document


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise InvalidManifest("an object of the manifest has the same key twice")
    return found


def _check_keys(value: dict[str, Any], known: frozenset[str], where: str) -> None:
    """Refuse a key that is a known one in other capitals: some readers would take it for the known one."""
    for key in value:
        if key not in known and key.casefold() in _FOLDED[known]:
            raise InvalidManifest(f"{where} has the key {key!r}, which differs from a known one in capitals only")


_FOLDED = {known: frozenset(key.casefold() for key in known) for known in (_TOP_KEYS, _DESCRIPTOR_KEYS, _PLATFORM_KEYS)}
