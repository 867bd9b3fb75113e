from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway_common.oci.manifests import Platform
from slipway_metadata.domain.image import EMPTY_TAR
from tests.parts.images import OCI_MANIFEST, Image, make_artifact, make_image, make_index, sha256_digest
from tests.parts.images import describe as descriptor
from tests.unit.metadata.documents import (
    describe_image,
    make_attestation,
    make_attested_index,
    make_document_image,
)

DIFF_IDS = ["sha256:" + "a" * 64, "sha256:" + "b" * 64]

# As `docker build` writes it: two layers, and three steps that made none.
DOCKER_CONFIG: dict[str, Any] = {
    "architecture": "arm64",
    "variant": "v8",
    "os": "linux",
    "author": "Ann <ann@example.com>",
    "created": "2024-05-06T07:08:09.123456789Z",
    "config": {
        "User": "1000:1000",
        "ExposedPorts": {"8080/tcp": {}, "53/udp": {}},
        "Env": ["PATH=/usr/bin", "LANG=C.UTF-8"],
        "Entrypoint": ["/entry.sh"],
        "Cmd": ["serve", "--all"],
        "WorkingDir": "/srv",
        "Labels": {"org.opencontainers.image.title": "hello"},
        "OnBuild": None,
    },
    "rootfs": {"type": "layers", "diff_ids": DIFF_IDS},
    "history": [
        {"created": "2024-05-06T07:08:00Z", "created_by": "ADD rootfs.tar / # buildkit", "comment": "debuerreotype"},
        {"created": "2024-05-06T07:08:01Z", "created_by": "ENV LANG=C.UTF-8", "empty_layer": True},
        {"created": "2024-05-06T07:08:02Z", "created_by": "RUN make", "author": "Ann"},
        {"created_by": "USER 1000:1000", "empty_layer": True},
        {"created_by": 'CMD ["serve"]', "empty_layer": True},
    ],
}


def _config(**changes: Any) -> bytes:
    return json.dumps({**DOCKER_CONFIG, **changes}).encode()


def test_facts_of_a_docker_config_are_read() -> None:
    image = make_document_image(_config())
    described = describe_image(image)
    assert described.problem is None
    assert described.kind == "image"
    assert described.image_id == image.config_digest
    assert described.platform == Platform("linux", "arm64", "v8")
    assert described.created_at == datetime(2024, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)
    assert described.config is not None
    assert described.config.env == ["PATH=/usr/bin", "LANG=C.UTF-8"]
    assert described.config.entrypoint == ["/entry.sh"]
    assert described.config.cmd == ["serve", "--all"]
    assert described.config.labels == {"org.opencontainers.image.title": "hello"}
    assert described.config.exposed_ports == ["53/udp", "8080/tcp"]
    assert (described.config.user, described.config.working_dir) == ("1000:1000", "/srv")
    assert described.config.author == "Ann <ann@example.com>"


def test_steps_and_diff_ids_are_matched_to_layers_past_empty_steps() -> None:
    described = describe_image(make_document_image(_config()))
    assert [layer.diff_id for layer in described.layers] == DIFF_IDS
    assert [entry.layer for entry in described.history] == [0, None, 1, None, None]
    assert [entry.empty for entry in described.history] == [False, True, False, True, True]


def test_config_without_history_is_no_problem() -> None:
    described = describe_image(make_document_image(_config(history=None)))
    assert described.problem is None
    assert described.history == ()
    assert [layer.diff_id for layer in described.layers] == DIFF_IDS


def test_image_without_layers_is_an_image() -> None:
    config = _config(rootfs={"type": "layers", "diff_ids": []}, history=[])
    described = describe_image(make_document_image(config, ()))
    assert (described.kind, described.layers, described.problem) == ("image", (), None)


def test_docker_schema_2_manifest_is_an_image() -> None:
    config = _config()
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": descriptor(config, "application/vnd.docker.container.image.v1+json"),
        "layers": [
            descriptor(layer, "application/vnd.docker.image.rootfs.diff.tar.gzip") for layer in (b"one", b"two")
        ],
    }
    image = Image(json.dumps(manifest).encode(), manifest["mediaType"], {sha256_digest(config): config})  # type: ignore[arg-type]
    described = describe_image(image)
    assert (described.kind, described.image_id, described.problem) == ("image", sha256_digest(config), None)


def test_children_of_an_index_keep_their_platforms() -> None:
    index = make_index("hello")
    described = describe_image(index)
    assert described.kind == "index"
    assert described.image_id is None
    assert [child.digest for child in described.children] == [child.digest for child in index.children]
    assert [child.platform for child in described.children] == [
        Platform("linux", "amd64"),
        Platform("linux", "arm64", "v8"),
    ]


def test_attestation_in_an_index_is_named_as_such() -> None:
    image, attestation = make_image("hello"), make_attestation()
    described = describe_image(make_attested_index(image, attestation))
    assert [child.kind for child in described.children] == ["image", "attestation"]
    assert [child.attests for child in described.children] == [None, image.digest]


def test_attestation_manifest_is_an_artifact_though_its_config_is_an_image_config() -> None:
    described = describe_image(make_attestation())
    assert (described.kind, described.artifact_type) == ("artifact", "application/vnd.in-toto+json")
    assert described.image_id is None


def test_blob_in_an_index_is_told_from_a_manifest() -> None:
    index = {
        "schemaVersion": 2,
        "manifests": [descriptor(b"layer", "application/vnd.oci.image.layer.v1.tar+gzip")],
    }
    image = Image(json.dumps(index).encode(), "application/vnd.oci.image.index.v1+json")
    assert [child.kind for child in describe_image(image).children] == ["blob"]


@pytest.mark.parametrize(
    ("config_type", "layer_type", "artifact_type", "expected"),
    [
        (
            "application/vnd.cncf.helm.config.v1+json",
            "application/vnd.cncf.helm.chart.content.v1.tar+gzip",
            None,
            "application/vnd.cncf.helm.config.v1+json",
        ),
        ("application/vnd.wasm.config.v0+json", "application/wasm", None, "application/vnd.wasm.config.v0+json"),
        (
            "application/vnd.oci.image.config.v1+json",
            "application/vnd.dev.cosign.simplesigning.v1+json",
            None,
            "application/vnd.dev.cosign.simplesigning.v1+json",
        ),
        (
            "application/vnd.oci.empty.v1+json",
            "application/spdx+json",
            "application/spdx+json",
            "application/spdx+json",
        ),
    ],
    ids=["helm", "wasm", "cosign", "sbom"],
)
def test_artifact_shows_its_type(config_type: str, layer_type: str, artifact_type: str | None, expected: str) -> None:
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor(b"{}", config_type),
        "layers": [descriptor(b"content", layer_type)],
        **({"artifactType": artifact_type} if artifact_type else {}),
    }
    described = describe_image(Image(json.dumps(manifest).encode(), OCI_MANIFEST))
    assert (described.kind, described.artifact_type) == ("artifact", expected)
    assert (described.image_id, described.config, described.problem) == (None, None, None)


def test_referrer_keeps_its_subject_and_annotations() -> None:
    subject = make_image("hello")
    annotations = {"org.opencontainers.image.created": "2024-01-01T00:00:00Z"}
    described = describe_image(
        make_artifact("application/spdx+json", b"sbom", subject=subject, annotations=annotations)
    )
    assert described.subject == subject.digest
    assert described.annotations == annotations
    assert described.created_at == datetime(2024, 1, 1, tzinfo=UTC)


HOSTILE = {
    "nothing": b"",
    "not JSON": b"\x1f\x8b\x08\x00not json",
    "a list": b"[]",
    "null": b"null",
    "a number": b"12",
    "deep list": b"[" * 100_000,
    "deep object": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "long number": b'{"a":' + b"1" * 5000 + b"}",
    "NaN": b'{"os":"linux","a":NaN}',
    "UTF-16": '{"os":"linux"}'.encode("utf-16"),
    "wrong types": _config(os=1, architecture=[], created=5, author={}, config=[], rootfs="x", history={}),
    "wrong inner types": _config(
        config={"Env": "A=B", "Cmd": [1, None], "Labels": {"a": 1}, "ExposedPorts": [], "User": 0},
        rootfs={"diff_ids": [1, "sha256:short"]},
        history=[1, {"created": "yesterday", "empty_layer": "no", "created_by": 3}],
    ),
    "long platform": _config(os="x" * 100_000),
    "far times": _config(created="9999-12-31T23:59:59-12:00"),
}


@pytest.mark.parametrize("config", HOSTILE.values(), ids=HOSTILE.keys())
def test_unsound_config_leaves_an_image_with_a_problem(config: bytes) -> None:
    image = make_document_image(config)
    described = describe_image(image)
    assert described.kind == "image"
    assert described.image_id == image.config_digest
    assert [layer.digest for layer in described.layers] == [sha256_digest(b"one"), sha256_digest(b"two")]
    assert described.problem


def test_sound_parts_of_an_unsound_config_are_kept() -> None:
    described = describe_image(make_document_image(_config(created="yesterday", config={"Env": ["A=B", 1]})))
    assert described.platform == Platform("linux", "arm64", "v8")
    assert described.config is not None
    assert described.config.env == ["A=B"]
    assert described.problem == "the config's created is not a time; the config's config's Env is not a list of texts"


def test_characters_that_cannot_be_stored_are_replaced() -> None:
    config = json.dumps({**DOCKER_CONFIG, "config": {"Labels": {"a\x00": "b\ud800c"}}}).encode()
    described = describe_image(make_document_image(config))
    assert described.config is not None
    assert described.config.labels == {"a\ufffd": "b\ufffdc"}
    assert described.platform == Platform("linux", "arm64", "v8")
    assert "characters that cannot be stored" in (described.problem or "")


def test_diff_ids_of_another_number_are_not_matched() -> None:
    described = describe_image(make_document_image(_config(rootfs={"diff_ids": DIFF_IDS[:1]})))
    assert [layer.diff_id for layer in described.layers] == [None, None]
    assert "1 diff IDs for 2 layers" in (described.problem or "")


@pytest.mark.parametrize("steps", [1, 3])
def test_history_of_another_length_is_shown_but_not_matched(steps: int) -> None:
    described = describe_image(make_document_image(_config(history=[{"created_by": "RUN"}] * steps)))
    assert [entry.layer for entry in described.history] == [None] * steps
    assert f"tells of {steps} layers, the manifest has 2" in (described.problem or "")


def test_go_zero_time_means_no_time() -> None:
    described = describe_image(make_document_image(_config(created="0001-01-01T00:00:00Z")))
    assert (described.created_at, described.problem) == (None, None)


def test_manifest_that_cannot_be_read_is_kept_with_a_problem() -> None:
    described = describe_image(Image(b"{}", OCI_MANIFEST))
    assert (described.kind, described.problem) == ("artifact", "the manifest cannot be read")


def test_empty_tar_is_the_digest_of_1024_zero_bytes() -> None:
    assert sha256_digest(bytes(1024)) == EMPTY_TAR


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
_ODD_CONFIG = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("os", "architecture", "variant", "created", "author"), _JSON),
        "config": _JSON | st.dictionaries(st.sampled_from(["Env", "Cmd", "Labels", "User", "ExposedPorts"]), _JSON),
        "rootfs": _JSON | st.fixed_dictionaries({"diff_ids": _JSON}),
        "history": _JSON | st.lists(st.dictionaries(st.sampled_from(["created", "created_by", "empty_layer"]), _JSON)),
    },
)


@settings(max_examples=200, deadline=None)
@given(_ODD_CONFIG.map(lambda config: json.dumps(config).encode()) | st.binary(max_size=200))
def test_any_config_gives_a_description_that_can_be_stored(config: bytes) -> None:
    described = describe_image(make_document_image(config))
    text = orjson.dumps(described).decode("utf-8")
    assert "\\u0000" not in text
    assert len(described.layers) == 2
