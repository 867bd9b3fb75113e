"""The image builders that all tests share; they live with the common parts."""

from __future__ import annotations

from slipway_common.testing.images import (
    OCI_CONFIG,
    OCI_EMPTY,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    Image,
    describe,
    make_artifact,
    make_image,
    make_index,
    make_layer,
    sha256_digest,
    write_layout,
)

__all__ = [
    "OCI_CONFIG",
    "OCI_EMPTY",
    "OCI_INDEX",
    "OCI_LAYER",
    "OCI_MANIFEST",
    "Image",
    "describe",
    "make_artifact",
    "make_image",
    "make_index",
    "make_layer",
    "sha256_digest",
    "write_layout",
]
