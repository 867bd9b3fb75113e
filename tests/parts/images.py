"""Small images, indexes and artifacts for tests, and OCI image layouts of them that real clients copy from."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"


def sha256_digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def describe(content: bytes, media_type: str, **more: Any) -> dict[str, Any]:
    """The descriptor of `content`."""
    return {"mediaType": media_type, "digest": sha256_digest(content), "size": len(content), **more}


@dataclass(frozen=True, slots=True)
class Image:
    """One manifest (or index) with its blobs and, for an index, its children."""

    manifest: bytes
    media_type: str
    blobs: Mapping[str, bytes] = field(default_factory=dict)
    children: tuple[Image, ...] = ()

    @property
    def digest(self) -> str:
        return sha256_digest(self.manifest)

    @property
    def config_digest(self) -> str:
        return str(json.loads(self.manifest)["config"]["digest"])

    def describe(self, **more: Any) -> dict[str, Any]:
        return describe(self.manifest, self.media_type, **more)


def make_layer(files: Mapping[str, bytes]) -> tuple[bytes, str]:
    """A gzipped layer with these files; returns it with its diff id."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            tar.addfile(entry, io.BytesIO(content))
    return gzip.compress(buffer.getvalue(), mtime=0), sha256_digest(buffer.getvalue())


def make_image(
    text: str, *, layers: int = 1, architecture: str = "amd64", variant: str | None = None, os: str = "linux"
) -> Image:
    """A FROM scratch image whose bytes depend on `text` and the platform."""
    made = [make_layer({f"hello-{n}": f"{text} {architecture} {n}\n".encode()}) for n in range(layers)]
    platform = {"os": os, "architecture": architecture, **({"variant": variant} if variant else {})}
    config = json.dumps(
        {
            "created": "2026-01-02T03:04:05Z",
            **platform,
            "config": {"Labels": {"test.text": text}},
            "rootfs": {"type": "layers", "diff_ids": [diff_id for _, diff_id in made]},
        }
    ).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": describe(config, OCI_CONFIG),
        "layers": [describe(layer, OCI_LAYER) for layer, _ in made],
    }
    blobs = {sha256_digest(content): content for content in (config, *(layer for layer, _ in made))}
    return Image(json.dumps(manifest).encode(), OCI_MANIFEST, blobs)


def make_index(text: str, platforms: Sequence[tuple[str, str | None]] = (("amd64", None), ("arm64", "v8"))) -> Image:
    """An index with an image for each (architecture, variant)."""
    children = tuple(make_image(text, architecture=name, variant=variant) for name, variant in platforms)
    entries = [
        child.describe(platform={"os": "linux", "architecture": name, **({"variant": variant} if variant else {})})
        for child, (name, variant) in zip(children, platforms, strict=True)
    ]
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
    return Image(json.dumps(index).encode(), OCI_INDEX, {}, children)


def make_artifact(
    artifact_type: str, content: bytes, *, subject: Image | None = None, annotations: Mapping[str, str] | None = None
) -> Image:
    """An artifact of one blob, about `subject` if there is one."""
    manifest: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": artifact_type,
        "config": describe(b"{}", OCI_EMPTY),
        "layers": [describe(content, "application/octet-stream")],
        "annotations": dict(annotations or {}),
    }
    if subject is not None:
        manifest["subject"] = subject.describe()
    blobs = {sha256_digest(b"{}"): b"{}", sha256_digest(content): content}
    return Image(json.dumps(manifest).encode(), OCI_MANIFEST, blobs)


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
    for digest, content in contents.items():
        algorithm, _, encoded = digest.partition(":")
        path = folder / "blobs" / algorithm / encoded
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    for child in image.children:
        _write_blobs(folder, child)
