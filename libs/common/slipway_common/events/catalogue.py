"""What can happen: the payload of every event, by type.

Types name a fact in the past tense and end in a version. Within a version fields are only ever added, and readers
ignore those they do not know; a change that breaks readers is a new version, sent beside the old one for as long as
that is read.
"""

from __future__ import annotations

from typing import ClassVar, Final, Self

from pydantic import BaseModel, ConfigDict, Field


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Payload(_Part):
    """The data of one type of event."""

    TYPE: ClassVar[str]

    def shortened(self) -> Self | None:
        """Return a shorter form of the same fact that says it was cut, or None when nothing may be left out."""
        return None


class RepositoryRef(_Part):
    id: int = Field(description="Never used again, not even after the repository is gone.")
    name: str = Field(description="Full name at the time of the event, such as `acme/tools/hello`.")
    namespace: str = Field(
        description="First component of the name at the time of the event; empty for the root namespace."
    )


class PlatformImage(_Part):
    """One image of an index."""

    os: str
    architecture: str
    variant: str | None = None
    digest: str = Field(description="Digest of this platform's manifest.")
    image_id: str | None = Field(None, description="Digest of its config.")
    size_bytes: int = Field(description="Manifest, config and layers together.")


class RepositoryCreated(Payload):
    """A repository came to be, by hand or by the first push to its name."""

    TYPE: ClassVar[str] = "slipway.repository.created.v1"

    repository: RepositoryRef
    visibility: str = Field(description="`public`, `internal` or `private`.")


class ManifestPushed(Payload):
    """A manifest or index was put: one event for each, children of an index included."""

    TYPE: ClassVar[str] = "slipway.manifest.pushed.v1"

    repository: RepositoryRef
    digest: str
    media_type: str
    artifact_type: str | None = None
    image_id: str | None = Field(None, description="Digest of the image's config.")
    size_bytes: int = Field(description="Size of the manifest's own bytes.")
    subject: str | None = Field(None, description="Digest of the manifest that this one is about.")


class ImagePushed(Payload):
    """Tags were set: one event for each request that sets tags, whether or not they moved."""

    TYPE: ClassVar[str] = "slipway.image.pushed.v1"

    repository: RepositoryRef
    tags: list[str]
    digest: str = Field(description="What the tags now name: a manifest or an index.")
    media_type: str
    artifact_type: str | None = None
    image_id: str | None = Field(None, description="Digest of the image's config; none for an index.")
    size_bytes: int = Field(description="The whole tree: manifests, configs and layers, each digest once.")
    platforms: list[PlatformImage] = Field(default_factory=list)
    replaced: dict[str, str] = Field(
        default_factory=dict, description="Tags that named another digest before, with that digest."
    )
    truncated: bool = Field(False, description="Lists were cut to fit the envelope; ask for the rest by digest.")

    def shortened(self) -> Self | None:
        """Halve platforms until none is left, then what was replaced, then the tags but one."""
        if self.platforms:
            return self._cut(platforms=self.platforms[: len(self.platforms) // 2])
        if self.replaced:
            return self._cut(replaced=dict(list(self.replaced.items())[: len(self.replaced) // 2]))
        if len(self.tags) > 1:
            return self._cut(tags=self.tags[: len(self.tags) // 2])
        return None

    def _cut(self, **lists: object) -> Self:
        return self.model_copy(update={**lists, "truncated": True})


class ReferrerAttached(Payload):
    """A manifest with a subject was put: a signature, an attestation, a bill of materials."""

    TYPE: ClassVar[str] = "slipway.referrer.attached.v1"

    repository: RepositoryRef
    subject: str = Field(description="Digest of what it is about; that manifest may not be here (yet).")
    digest: str
    media_type: str
    artifact_type: str | None = None
    size_bytes: int = Field(description="Size of the manifest's own bytes.")


class TagDeleted(Payload):
    """A tag was taken away; the manifest it named is still there."""

    TYPE: ClassVar[str] = "slipway.tag.deleted.v1"

    repository: RepositoryRef
    tag: str
    digest: str = Field(description="What the tag named.")


class ManifestDeleted(Payload):
    """A manifest was deleted, and with it every tag that named it."""

    TYPE: ClassVar[str] = "slipway.manifest.deleted.v1"

    repository: RepositoryRef
    digest: str
    tags: list[str] = Field(default_factory=list, description="Tags that went with it.")
    truncated: bool = Field(False, description="The list of tags was cut: whatever tag still names the digest is gone.")

    def shortened(self) -> Self | None:
        if not self.tags:
            return None
        return self.model_copy(update={"tags": self.tags[: len(self.tags) // 2], "truncated": True})


PAYLOADS: Final[tuple[type[Payload], ...]] = (
    RepositoryCreated,
    ManifestPushed,
    ImagePushed,
    ReferrerAttached,
    TagDeleted,
    ManifestDeleted,
)
