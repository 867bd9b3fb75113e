"""What the API answers, as its document describes it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from slipway_metadata.domain.stored import Cursor, StoredChild, StoredImage, is_empty_layer


class _Part(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class PlatformPart(_Part):
    os: str
    architecture: str
    variant: str | None = None


class LayerPart(_Part):
    """One layer of the manifest, from the base upwards."""

    position: int = Field(description="Place in the manifest, from 0.")
    digest: str
    size_bytes: int = Field(description="Size as stored and transferred, in bytes.")
    media_type: str
    diff_id: str | None = Field(description="Digest of the layer's uncompressed content, as the config says.")
    created_by: str | None = Field(description="What made the layer, as the config's history says.")
    created_at: datetime | None
    empty: bool = Field(description="The layer holds no files. Steps that made no layer at all are in `history`.")


class HistoryPart(_Part):
    """One step of the build."""

    created_at: datetime | None
    created_by: str | None
    author: str | None
    comment: str | None
    empty: bool = Field(description="The step made no layer.")
    layer: int | None = Field(description="Position of the layer that the step made.")


class ConfigPart(_Part):
    """How containers of the image run, unless told otherwise."""

    author: str | None
    env: list[str]
    entrypoint: list[str]
    cmd: list[str]
    labels: dict[str, str]
    working_dir: str | None
    user: str | None
    exposed_ports: list[str]


class ChildPart(_Part):
    """One entry of an index."""

    position: int
    digest: str
    kind: Literal["image", "index", "artifact", "attestation", "blob"]
    media_type: str
    artifact_type: str | None
    platform: PlatformPart | None
    image_id: str | None = Field(description="Digest of the image's config.")
    size_bytes: int = Field(description="The child with all it consists of, in bytes.")
    attests: str | None = Field(description="Of an attestation: digest of the child that it is about.")


class ChildDetail(ChildPart):
    layers: list[LayerPart] | None = Field(
        None,
        description="Null where the child is not indexed, or the answer would grow too long: ask for the child itself.",
    )


class _Image(_Part):
    digest: str = Field(description="Digest of the manifest or index.")
    image_id: str | None = Field(description="Digest of the image's config; none for an index or artifact.")
    kind: Literal["image", "index", "artifact"]
    tags: list[str] = Field(description="Tags that name it, the latest set first.")
    more_tags: bool = Field(description="There are more tags than are listed here.")
    media_type: str
    artifact_type: str | None
    subject: str | None = Field(description="Digest of the manifest that this one is about.")
    size_bytes: int = Field(description="The whole tree, in bytes: manifests, configs and layers, each digest once.")
    platforms: list[PlatformPart]
    created_at: datetime | None = Field(description="When it was built, as it says itself.")
    pushed_at: datetime = Field(description="When it was last pushed.")
    pushed_by: str | None
    layers: list[LayerPart] = Field(description="Empty for an index: its children have them.")
    problem: str | None = Field(description="What in its config or manifest is not sound, in words.")


class ImageSummary(_Image):
    """An image, index or artifact of a repository."""

    manifests: list[ChildPart] = Field(description="The children of an index.")

    @classmethod
    def of(cls, image: StoredImage) -> Self:
        return cls(**_facts(image), manifests=[ChildPart.model_validate(child) for child in image.children])


class ImageDetail(_Image):
    """An image, index or artifact with all that is known of it."""

    manifests: list[ChildDetail] = Field(description="The children of an index.")
    config: ConfigPart | None
    history: list[HistoryPart] = Field(description="Every step of the build, in order, those without a layer too.")
    annotations: dict[str, str]

    @classmethod
    def of(cls, image: StoredImage, children: Mapping[str, StoredImage]) -> Self:
        """Render one image with its `children`, by digest, where it is an index."""
        return cls(
            **_facts(image),
            manifests=[_child_detail(child, children.get(child.digest)) for child in image.children],
            config=None if image.config is None else ConfigPart.model_validate(image.config),
            history=[HistoryPart.model_validate(entry) for entry in image.history],
            annotations=image.annotations,
        )


class ImagePage(_Part):
    images: list[ImageSummary]
    next: str | None = Field(description="Cursor of the next page, for `last`; null at the end.")

    @classmethod
    def of(cls, images: list[StoredImage], following: Cursor | None) -> Self:
        return cls(images=[ImageSummary.of(image) for image in images], next=following.encode() if following else None)


class ImageQuery(BaseModel):
    """Which page of a list of images."""

    n: int = Field(50, ge=1, le=500, description="Images on the page, at most; 1 to 500.")
    last: str | None = Field(None, max_length=1000, description="`next` of the page before.")


def _facts(image: StoredImage) -> dict[str, object]:
    return {
        "digest": image.digest,
        "image_id": image.image_id,
        "kind": image.kind,
        "tags": image.tags,
        "more_tags": image.more_tags,
        "media_type": image.media_type,
        "artifact_type": image.artifact_type,
        "subject": image.subject,
        "size_bytes": image.size_bytes,
        "platforms": [PlatformPart.model_validate(platform) for platform in image.platforms],
        "created_at": image.created_at,
        "pushed_at": image.pushed_at,
        "pushed_by": image.pushed_by,
        "layers": _layers(image),
        "problem": image.problem,
    }


def _layers(image: StoredImage) -> list[LayerPart]:
    steps = {entry.layer: entry for entry in image.history if entry.layer is not None}
    parts = []
    for layer in image.layers:
        step = steps.get(layer.position)
        parts.append(
            LayerPart(
                position=layer.position,
                digest=layer.digest,
                size_bytes=layer.size_bytes,
                media_type=layer.media_type,
                diff_id=layer.diff_id,
                created_by=step.created_by if step else None,
                created_at=step.created_at if step else None,
                empty=is_empty_layer(layer),
            )
        )
    return parts


def _child_detail(child: StoredChild, image: StoredImage | None) -> ChildDetail:
    detail = ChildDetail.model_validate(child)
    return detail if image is None else detail.model_copy(update={"layers": _layers(image)})
