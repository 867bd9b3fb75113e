"""Manifests and configs as tests need them, sound and unsound."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from slipway_metadata.domain.image import ImageDescription, describe, find_image_config, read_manifest
from tests.parts.images import OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, Image, sha256_digest
from tests.parts.images import describe as descriptor


def make_document_image(
    config: bytes, contents: Sequence[bytes] = (b"one", b"two"), *, layer_type: str = OCI_LAYER, **more: Any
) -> Image:
    """An image whose config is `config`, whatever that may be; `more` goes into the manifest."""
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor(config, OCI_CONFIG),
        "layers": [descriptor(layer, layer_type) for layer in contents],
        **more,
    }
    blobs = {sha256_digest(content): content for content in (config, *contents)}
    return Image(json.dumps(manifest).encode(), manifest["mediaType"], blobs)


def make_attested_index(image: Image, attestation: Image) -> Image:
    """What BuildKit pushes: an image and an attestation about it."""
    entries = [
        image.describe(platform={"os": "linux", "architecture": "amd64"}),
        attestation.describe(
            platform={"os": "unknown", "architecture": "unknown"},
            annotations={
                "vnd.docker.reference.digest": image.digest,
                "vnd.docker.reference.type": "attestation-manifest",
            },
        ),
    ]
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
    return Image(json.dumps(index).encode(), OCI_INDEX, {}, (image, attestation))


def make_attestation() -> Image:
    """An in-toto statement in the shape of an image, as BuildKit stores it."""
    config = json.dumps({"os": "unknown", "architecture": "unknown", "rootfs": {"type": "layers", "diff_ids": []}})
    statement = b'{"_type":"https://in-toto.io/Statement/v0.1"}'
    return make_document_image(config.encode(), (statement,), layer_type="application/vnd.in-toto+json")


def describe_image(image: Image, *, config: bytes | None = None) -> ImageDescription:
    """Describe `image` as the index does, with its own config unless another is given."""
    manifest = read_manifest(image.manifest, image.media_type)
    wanted = find_image_config(manifest)
    if config is None and wanted is not None:
        config = image.blobs[wanted.digest]
    return describe(manifest, media_type=image.media_type, manifest_bytes=len(image.manifest), config=config)
