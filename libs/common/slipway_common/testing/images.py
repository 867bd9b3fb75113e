"""Images, indexes and artifacts for tests: real bytes with true digests, built step by step.

    an_image("hello").for_platform("linux/arm64/v8").with_layer(b"…").build()
    an_index().of(one, another).annotated(team="blue").build()
    an_artifact("application/spdx+json").with_layer(b"{}").about(image).build()

A builder is immutable: each step answers a new one, so that a test may share the beginning of several.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from slipway_common.oci import media_types

OCI_MANIFEST = media_types.OCI_MANIFEST
OCI_INDEX = media_types.OCI_INDEX
OCI_CONFIG = media_types.OCI_CONFIG
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_EMPTY = media_types.EMPTY
DOCKER_MANIFEST = media_types.DOCKER_MANIFEST
DOCKER_LIST = media_types.DOCKER_LIST
DOCKER_CONFIG = media_types.DOCKER_CONFIG
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


def digest(content: bytes, algorithm: str = "sha256") -> str:
    """The digest of `content`, computed here and not by the code under test."""
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"


def sha256_digest(content: bytes) -> str:
    return digest(content)


def describe(content: bytes, media_type: str, *, algorithm: str = "sha256", **more: Any) -> dict[str, Any]:
    """The descriptor of `content`."""
    return {"mediaType": media_type, "digest": digest(content, algorithm), "size": len(content), **more}


@dataclass(frozen=True, slots=True)
class Image:
    """One manifest (or index) with its blobs by digest and, for an index, its children."""

    manifest: bytes
    media_type: str
    blobs: Mapping[str, bytes] = field(default_factory=dict)
    children: tuple[Image, ...] = ()
    algorithm: str = "sha256"

    @property
    def digest(self) -> str:
        return digest(self.manifest, self.algorithm)

    @property
    def document(self) -> dict[str, Any]:
        """The manifest as JSON, to change and push as something else."""
        return dict(json.loads(self.manifest))

    @property
    def config_digest(self) -> str:
        return str(self.document["config"]["digest"])

    @property
    def layer_digests(self) -> list[str]:
        return [str(layer["digest"]) for layer in self.document["layers"]]

    @property
    def tree_size_bytes(self) -> int:
        """The bytes of the manifest and all below it, each digest once."""
        sizes: dict[str, int] = {}
        self._collect_sizes(sizes)
        return sum(sizes.values())

    def _collect_sizes(self, sizes: dict[str, int]) -> None:
        sizes[self.digest] = len(self.manifest)
        sizes.update({name: len(content) for name, content in self.blobs.items()})
        for child in self.children:
            child._collect_sizes(sizes)

    def describe(self, **more: Any) -> dict[str, Any]:
        return describe(self.manifest, self.media_type, algorithm=self.algorithm, **more)


@dataclass(frozen=True, slots=True)
class _Layer:
    content: bytes
    media_type: str | None
    diff_id: str
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ImageBuilder:
    """An image manifest: an ordinary image, or an artifact in an image's form."""

    text: str = "hello"
    docker: bool = False
    layers: tuple[_Layer, ...] = ()
    os: str = "linux"
    architecture: str = "amd64"
    variant: str | None = None
    artifact_type: str | None = None
    subject: Image | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)
    config: tuple[bytes, str] | None = None
    algorithm: str = "sha256"
    manifest_algorithm: str = "sha256"

    def for_platform(self, platform: str) -> Self:
        """`linux/arm64/v8`, as everybody writes it."""
        os, architecture, *variant = platform.split("/")
        return replace(self, os=os, architecture=architecture, variant=variant[0] if variant else None)

    def as_docker(self) -> Self:
        """Docker's media types (schema 2)."""
        return replace(self, docker=True)

    def with_layer(self, content: bytes, media_type: str | None = None, **more: Any) -> Self:
        """These bytes as a layer, whatever they are; `more` goes into the descriptor."""
        return replace(self, layers=(*self.layers, _Layer(content, media_type, digest(content), more)))

    def with_files(self, files: Mapping[str, bytes]) -> Self:
        """A real gzipped tar of these files."""
        content, diff_id = make_layer(files)
        return replace(self, layers=(*self.layers, _Layer(content, None, diff_id)))

    def with_config(self, content: bytes, media_type: str) -> Self:
        """These bytes in place of the config that would be made."""
        return replace(self, config=(content, media_type))

    def about(self, subject: Image) -> Self:
        return replace(self, subject=subject)

    def annotated(self, annotations: Mapping[str, str] | None = None, /, **more: str) -> Self:
        return replace(self, annotations={**self.annotations, **(annotations or {}), **more})

    def hashed_by(self, algorithm: str) -> Self:
        """Digests of this algorithm for the manifest and all its blobs."""
        return replace(self, algorithm=algorithm, manifest_algorithm=algorithm)

    def build(self) -> Image:
        layers = self.layers or (_Layer(*_two(make_layer({"hello": f"{self.text} {self.platform}\n".encode()}))),)
        config, config_type = self.config or self._own_config(layers)
        layer_type = DOCKER_LAYER if self.docker else OCI_LAYER
        media_type = DOCKER_MANIFEST if self.docker else OCI_MANIFEST
        document: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": media_type,
            **({"artifactType": self.artifact_type} if self.artifact_type else {}),
            "config": describe(config, config_type, algorithm=self.algorithm),
            "layers": [
                describe(layer.content, layer.media_type or layer_type, algorithm=self.algorithm, **layer.more)
                for layer in layers
            ],
            **({"subject": self.subject.describe()} if self.subject else {}),
            **({"annotations": dict(self.annotations)} if self.annotations else {}),
        }
        contents = (config, *(layer.content for layer in layers))
        blobs = {digest(content, self.algorithm): content for content in contents}
        return Image(_render(document), media_type, blobs, algorithm=self.manifest_algorithm)

    @property
    def platform(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    def _own_config(self, layers: Sequence[_Layer]) -> tuple[bytes, str]:
        document = {
            "created": "2026-01-02T03:04:05Z",
            "os": self.os,
            "architecture": self.architecture,
            **({"variant": self.variant} if self.variant else {}),
            "config": {"Labels": {"test.text": self.text}},
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        }
        return _render(document), DOCKER_CONFIG if self.docker else OCI_CONFIG


@dataclass(frozen=True, slots=True)
class IndexBuilder:
    """An index (or Docker's manifest list)."""

    docker: bool = False
    children: tuple[tuple[Image, Mapping[str, Any]], ...] = ()
    subject: Image | None = None
    artifact_type: str | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)

    def of(self, *children: Image) -> Self:
        """Children whose platform, if they have one, is said by their config only."""
        return replace(self, children=(*self.children, *((child, {}) for child in children)))

    def with_child(self, child: Image, platform: str | None = None, **more: Any) -> Self:
        """A child, with its platform in the descriptor; `more` goes there too."""
        described = {"platform": _platform(platform), **more} if platform else more
        return replace(self, children=(*self.children, (child, described)))

    def as_docker(self) -> Self:
        return replace(self, docker=True)

    def about(self, subject: Image) -> Self:
        return replace(self, subject=subject)

    def annotated(self, annotations: Mapping[str, str] | None = None, /, **more: str) -> Self:
        return replace(self, annotations={**self.annotations, **(annotations or {}), **more})

    def build(self) -> Image:
        media_type = DOCKER_LIST if self.docker else OCI_INDEX
        document: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": media_type,
            **({"artifactType": self.artifact_type} if self.artifact_type else {}),
            "manifests": [child.describe(**more) for child, more in self.children],
            **({"subject": self.subject.describe()} if self.subject else {}),
            **({"annotations": dict(self.annotations)} if self.annotations else {}),
        }
        return Image(_render(document), media_type, {}, tuple(child for child, _ in self.children))


def an_image(text: str = "hello") -> ImageBuilder:
    """An image whose bytes depend on `text` and its platform."""
    return ImageBuilder(text)


def an_index() -> IndexBuilder:
    return IndexBuilder()


def an_artifact(artifact_type: str) -> ImageBuilder:
    """An artifact with the empty config, as the specification recommends."""
    return ImageBuilder(artifact_type=artifact_type, config=(b"{}", OCI_EMPTY))


def make_layer(files: Mapping[str, bytes]) -> tuple[bytes, str]:
    """A gzipped layer with these files; returns it with its diff id."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            tar.addfile(entry, io.BytesIO(content))
    return gzip.compress(buffer.getvalue(), mtime=0), digest(buffer.getvalue())


def make_image(
    text: str, *, layers: int = 1, architecture: str = "amd64", variant: str | None = None, os: str = "linux"
) -> Image:
    """A FROM scratch image whose bytes depend on `text` and the platform."""
    builder = an_image(text).for_platform("/".join(part for part in (os, architecture, variant) if part))
    for number in range(layers):
        builder = builder.with_files({f"hello-{number}": f"{text} {architecture} {number}\n".encode()})
    return builder.build()


def make_index(text: str, platforms: Sequence[tuple[str, str | None]] = (("amd64", None), ("arm64", "v8"))) -> Image:
    """An index with an image for each (architecture, variant)."""
    builder = an_index()
    for architecture, variant in platforms:
        child = make_image(text, architecture=architecture, variant=variant)
        builder = builder.with_child(child, "/".join(("linux", architecture, *([variant] if variant else []))))
    return builder.build()


def make_artifact(
    artifact_type: str, content: bytes, *, subject: Image | None = None, annotations: Mapping[str, str] | None = None
) -> Image:
    """An artifact of one blob, about `subject` if there is one."""
    builder = an_artifact(artifact_type).with_layer(content, "application/octet-stream").annotated(annotations)
    return (builder.about(subject) if subject is not None else builder).build()


def write_layout(folder: Path, images: Mapping[str, Image]) -> Path:
    """Write an OCI image layout with each image under its tag."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    for image in images.values():
        _write_blobs(folder, image)
    entries = [image.describe(annotations={"org.opencontainers.image.ref.name": tag}) for tag, image in images.items()]
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}))
    return folder


def _write_blobs(folder: Path, image: Image) -> None:
    contents = {image.digest: image.manifest, **image.blobs}
    for name, content in contents.items():
        algorithm, _, encoded = name.partition(":")
        path = folder / "blobs" / algorithm / encoded
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    for child in image.children:
        _write_blobs(folder, child)


def _platform(text: str) -> dict[str, str]:
    os, architecture, *variant = text.split("/")
    return {"os": os, "architecture": architecture, **({"variant": variant[0]} if variant else {})}


def _render(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document).encode()


def _two(layer: tuple[bytes, str]) -> tuple[bytes, None, str]:
    content, diff_id = layer
    return content, None, diff_id
