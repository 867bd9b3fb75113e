"""What the index tells of an image, and the cursor that leads through a list of them."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from slipway_common.errors import InvalidInput
from slipway_common.oci.digests import Digest, parse_digest
from slipway_common.oci.manifests import Platform
from slipway_metadata.domain.config import ConfigFacts, HistoryEntry
from slipway_metadata.domain.image import EMPTY_TAR, ChildKind, Kind, Layer

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_UNSPECIFIED = "unknown"  # what BuildKit writes as platform of what is for none


@dataclass(frozen=True, slots=True)
class StoredChild:
    """An entry of an index, with what is known of the child itself. `size_bytes` is its whole tree."""

    position: int
    digest: Digest
    media_type: str
    kind: ChildKind
    size_bytes: int
    artifact_type: str | None
    image_id: Digest | None
    os: str | None
    architecture: str | None
    variant: str | None
    attests: Digest | None

    @property
    def platform(self) -> Platform | None:
        return find_platform(self.os, self.architecture, self.variant)


@dataclass(frozen=True, slots=True)
class StoredImage:
    """One manifest or index of a repository. `tags` are the latest set; `more_tags`: there are others.

    `config` and `annotations` are there only where they were asked for.
    """

    digest: Digest
    kind: Kind
    media_type: str
    artifact_type: str | None
    subject: Digest | None
    image_id: Digest | None
    platform: Platform | None
    created_at: datetime | None
    pushed_at: datetime
    pushed_by: str | None
    size_bytes: int
    tags: list[str]
    more_tags: bool
    layers: list[Layer]
    history: list[HistoryEntry]
    children: list[StoredChild]
    config: ConfigFacts | None
    annotations: dict[str, str]
    problem: str | None

    @property
    def platforms(self) -> list[Platform]:
        """What it runs on: an image's own platform, or those of an index's children, each once, in order."""
        own = [self.platform] if self.platform else []
        children = [child.platform for child in self.children if child.kind in ("image", "index") and child.platform]
        return list(dict.fromkeys(own + children))


def find_platform(os: str | None, architecture: str | None, variant: str | None) -> Platform | None:
    """The platform that three columns hold; None where they name none."""
    if os in (None, "", _UNSPECIFIED) and architecture in (None, "", _UNSPECIFIED):
        return None
    return Platform(os or "", architecture or "", variant or None)


def is_empty_layer(layer: Layer) -> bool:
    """Whether a layer's content is a tar without entries."""
    return EMPTY_TAR in (layer.digest, layer.diff_id)


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last image of a page; images pushed later, or at the same time with a greater digest, come before it."""

    pushed_at: datetime
    digest: str

    @classmethod
    def start(cls) -> Cursor:
        return cls(datetime(9999, 12, 31, tzinfo=UTC), "")

    def encode(self) -> str:
        text = f"{(self.pushed_at - _EPOCH) // _MICROSECOND}/{self.digest}"
        return base64.urlsafe_b64encode(text.encode("ascii")).decode("ascii").rstrip("=")

    @classmethod
    def decode(cls, text: str) -> Cursor:
        """Raise InvalidInput unless `text` is what encode() made."""
        try:
            plain = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode("ascii")
            moment, _, digest = plain.partition("/")
            return cls(_EPOCH + int(moment) * _MICROSECOND, parse_digest(digest))
        except (ValueError, OverflowError, binascii.Error, InvalidInput) as exc:
            raise InvalidInput("last is not a cursor of this list: take it from `next` of the page before") from exc
