"""Manifests are read strictly: what two readers could take in two ways is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from slipway_common.errors import InvalidInput
from slipway_common.oci import media_types as types
from slipway_common.oci.digests import digest_of
from slipway_common.oci.manifests import MAX_DESCRIPTORS, InvalidManifest, Manifest, parse_manifest

LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def descriptor(media_type: str = LAYER, content: bytes = b"x", **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(content), "size": len(content), **more}


def image(**more: Any) -> dict[str, Any]:
    config = descriptor(types.OCI_CONFIG, b"config")
    return {"schemaVersion": 2, "mediaType": types.OCI_MANIFEST, "config": config, "layers": [descriptor()], **more}


def index(**more: Any) -> dict[str, Any]:
    children = [descriptor(types.OCI_MANIFEST, b"child")]
    return {"schemaVersion": 2, "mediaType": types.OCI_INDEX, "manifests": children, **more}


def parse(document: Any, content_type: str | None = None) -> Manifest:
    return parse_manifest(json.dumps(document).encode(), content_type)


def assert_refused(body: bytes | dict[str, Any], content_type: str | None = None) -> None:
    with pytest.raises(InvalidManifest) as refused:
        parse_manifest(body if isinstance(body, bytes) else json.dumps(body).encode(), content_type)
    assert refused.value.message


def test_image_is_read() -> None:
    manifest = parse(image(annotations={"a": "b"}, subject=descriptor(types.OCI_MANIFEST, b"subject")))
    assert not manifest.is_index
    assert manifest.image_id == digest_of(b"config")
    assert manifest.required_blobs() == {digest_of(b"config"), digest_of(b"x")}
    assert manifest.subject is not None
    assert manifest.annotations == {"a": "b"}


def test_index_is_read() -> None:
    platform = {"os": "linux", "architecture": "arm64", "variant": "v8"}
    manifest = parse(index(manifests=[descriptor(types.OCI_MANIFEST, b"child", platform=platform)]))
    assert manifest.is_index
    assert manifest.required_blobs() == frozenset()
    child = manifest.children[0].platform
    assert child is not None
    assert (child.os, child.architecture, child.variant) == ("linux", "arm64", "v8")


# What JSON readers do not agree on.

TEXT = json.dumps(image())


@pytest.mark.parametrize("key", ["layers", "config", "schemaVersion", "mediaType", "unknown"])
def test_key_that_stands_twice_is_refused(key: str) -> None:
    document = image(unknown=1)
    again = json.dumps({key: document[key]})[1:-1]
    assert_refused(f"{json.dumps(document)[:-1]},{again}}}".encode())


def test_key_that_stands_twice_deep_inside_is_refused() -> None:
    size = json.dumps(image()).replace('"size":', '"size": 1, "size":', 1)
    unknown = json.dumps(image(unknown=[{"a": 1}])).replace('"a": 1', '"a": 1, "a": 2')
    escaped = json.dumps(image()).replace('"layers":', '"layers": [], "\\u006cayers":', 1)
    for text in (size, unknown, escaped):
        assert_refused(text.encode())


@pytest.mark.parametrize("key", [
    "LAYERS", "Layers", "layerſ", "Config", "schemaversion", "mediatype", "Manifests", "SUBJECT", "ſubject", "artifacttype",
    "Annotations", "annotationſ",
])  # fmt: skip
def test_key_in_other_capitals_is_refused(key: str) -> None:
    assert_refused(image(**{key: []}))
    assert_refused(index(**{key: []}))


@pytest.mark.parametrize(
    "key", ["Digest", "DIGEST", "ſize", "Size", "mediatype", "URLs", "urlſ", "Platform", "Data", "Annotations"]
)
def test_key_of_a_descriptor_in_other_capitals_is_refused(key: str) -> None:
    for document in (
        image(config=descriptor(types.OCI_CONFIG, **{key: 1})),
        image(layers=[descriptor(**{key: 1})]),
        image(subject=descriptor(**{key: 1})),
        index(manifests=[descriptor(**{key: 1})]),
    ):
        assert_refused(document)


@pytest.mark.parametrize("key", ["OS", "oſ", "Architecture", "VARIANT", "os.Version"])
def test_key_of_a_platform_in_other_capitals_is_refused(key: str) -> None:
    assert_refused(index(manifests=[descriptor(types.OCI_MANIFEST, platform={"os": "linux", key: "windows"})]))


def test_letters_that_fold_into_none_of_the_known_keys_are_unknown_keys_like_others() -> None:
    assert parse(image(K=1, ſ=2, layersx=3, ﬀ=4)) == parse(image())


@pytest.mark.parametrize("body", [
    b"", b" ", b"null", b"[]", b'"x"', b"1", b"{", b"{}x", b"\xff\xfe", b"\xef\xbb\xbf" + TEXT.encode(), TEXT.encode("utf-16"),
    TEXT.encode("utf-32"), b"[" * 100_000, b'{"a":' * 100_000, b"[" * 100_000 + b"]" * 100_000,
    b'{"x":' + b"[" * 990 + b"]" * 990 + b"}",
])  # fmt: skip
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    assert_refused(body, types.OCI_MANIFEST)


@pytest.mark.parametrize("value", [
    "9" * 5000, "-" + "9" * 5000, "NaN", "Infinity", "-Infinity", "1e400", "-1e400", "01", "+1", ".5", "1.", "0x10", "'x'",
    '"\\ud800"', '"\\udc00\\ud800"', '"\\x"', '"\x01"', "undefined", "/**/1", "1,", "True",
])  # fmt: skip
def test_value_that_readers_differ_on_is_refused_even_where_nobody_looks(value: str) -> None:
    assert_refused(f'{TEXT[:-1]},"unknown":{value}}}'.encode("utf-8", "surrogatepass"))


def test_byte_sequences_that_are_no_text_are_refused() -> None:
    for text in (b"\xff", b"\xed\xa0\x80", b"\xc0\x80", b"\xf5\x80\x80\x80"):
        assert_refused(TEXT[:-1].encode() + b',"unknown":"' + text + b'"}')


def test_annotations_may_hold_any_text() -> None:
    annotations = {"nul": "a\u0000b", "": "", "emoji": "🚢", "\u0000": "x", "ANNOTATIONS": "y", "layerſ": "z"}
    assert parse(image(annotations=annotations)).annotations == annotations


@pytest.mark.parametrize("annotations", [[], "x", 1, {"a": 1}, {"a": None}, {"a": {}}, {"a": ["b"]}, False])
def test_annotations_that_are_no_texts_are_refused(annotations: Any) -> None:
    assert_refused(image(annotations=annotations))
    assert_refused(image(layers=[descriptor(annotations=annotations)]))


# Which of the two kinds it is (CVE-2021-41190).


@pytest.mark.parametrize("more", [
    {"manifests": []}, {"manifests": None}, {"manifests": [descriptor(types.OCI_MANIFEST)]},
])  # fmt: skip
def test_image_with_manifests_is_refused(more: dict[str, Any]) -> None:
    assert_refused(image(**more))


@pytest.mark.parametrize("more", [{"layers": []}, {"layers": None}, {"config": None}, {"config": descriptor()}])
def test_index_with_layers_or_config_is_refused(more: dict[str, Any]) -> None:
    assert_refused(index(**more))


@pytest.mark.parametrize(
    "content_type", [types.OCI_INDEX, types.DOCKER_MANIFEST, types.OCI_MANIFEST.upper(), "text/plain", ""]
)
def test_content_type_that_contradicts_the_manifest_is_refused(content_type: str) -> None:
    assert_refused(image(), content_type)


def test_content_type_says_what_a_manifest_without_media_type_is() -> None:
    document = {key: value for key, value in image().items() if key != "mediaType"}
    assert parse(document, types.DOCKER_MANIFEST).media_type == types.DOCKER_MANIFEST
    assert_refused(document)
    assert_refused(document, types.OCI_INDEX)
    assert_refused(document, "application/json")


@pytest.mark.parametrize("own", [1, [], {}, True, "", "text/plain", types.OCI_CONFIG])
def test_media_type_that_is_none_of_a_manifest_is_refused(own: Any) -> None:
    assert_refused(image(mediaType=own))


@pytest.mark.parametrize("media_type", types.DOCKER_SCHEMA1)
def test_docker_schema_1_is_refused_by_name(media_type: str) -> None:
    for document in ({"schemaVersion": 1, "name": "a"}, image(mediaType=media_type)):
        with pytest.raises(InvalidManifest, match="schema 1"):
            parse(document, media_type)


@pytest.mark.parametrize("version", [None, 1, 3, 2.0, "2", True, [2]])
def test_schema_version_that_is_not_2_is_refused(version: Any) -> None:
    assert_refused(image(schemaVersion=version))


# Descriptors.


@pytest.mark.parametrize("size", [None, -1, -(2**63), 2**63, 2**64, 10**400, 1.0, 1.5, True, False, "1", [1], {}])
def test_size_that_is_no_number_of_bytes_is_refused(size: Any) -> None:
    assert_refused(image(layers=[descriptor(size=size)]))
    assert_refused(image(subject=descriptor(size=size)))
    assert_refused(index(manifests=[descriptor(size=size)]))


@pytest.mark.parametrize("size", [0, 2**63 - 1])
def test_size_may_be_anything_that_the_database_can_hold(size: int) -> None:
    assert parse(image(layers=[descriptor(size=size)])).layers[0].size_bytes == size


@pytest.mark.parametrize("value", [None, {}, [], "x", 1, [1], [None], [[]], ["x"], [{}]])
def test_list_of_descriptors_must_be_one(value: Any) -> None:
    if value != []:
        assert_refused(image(layers=value))
        assert_refused(index(manifests=value))
    if value is not None:
        assert_refused(image(subject=value))
    assert_refused(image(config=value))


@pytest.mark.parametrize(
    "digest", [None, 1, [], "", "sha256:abc", "md5:" + "a" * 32, "sha256:" + "A" * 64, "sha256:" + "a" * 64 + "\n"]
)
def test_digest_that_is_none_is_refused(digest: Any) -> None:
    assert_refused(image(layers=[descriptor(digest=digest)]))


@pytest.mark.parametrize("media_type", [None, "", 1, [], "a\nb", "a\x00b", "a\x1b[31m", "a\x7f", "a\x85"])
def test_media_type_of_a_descriptor_has_no_control_characters(media_type: Any) -> None:
    assert_refused(image(layers=[descriptor(mediaType=media_type)]))


@pytest.mark.parametrize("text", [1, [], {}, "a\nb", "a\x00b", "a\x9b"])
def test_texts_have_no_control_characters(text: Any) -> None:
    assert_refused(image(artifactType=text))
    assert_refused(index(artifactType=text))
    assert_refused(index(manifests=[descriptor(platform={"os": text, "architecture": "amd64"})]))
    assert_refused(index(manifests=[descriptor(artifactType=text)]))


def test_number_of_descriptors_is_bounded() -> None:
    many = [descriptor()] * MAX_DESCRIPTORS
    assert len(parse(image(layers=many)).layers) == MAX_DESCRIPTORS
    assert_refused(image(layers=[*many, descriptor()]))
    assert_refused(index(manifests=[*many, descriptor()]))


def test_platform_must_be_an_object() -> None:
    for platform in ([], "linux", 1, False):
        assert_refused(index(manifests=[descriptor(platform=platform)]))


@pytest.mark.parametrize("media_type", [
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
])  # fmt: skip
def test_layers_that_lie_elsewhere_are_not_required(media_type: str) -> None:
    manifest = parse(image(layers=[descriptor(media_type, b"foreign"), descriptor()]))
    assert manifest.required_blobs() == {digest_of(b"config"), digest_of(b"x")}


# Artifacts.


def test_artifact_type_is_the_configs_media_type_where_nothing_else_is_said() -> None:
    config = descriptor("application/vnd.example.config")
    assert parse(image(config=config)).effective_artifact_type == "application/vnd.example.config"
    assert parse(image(config=config, artifactType="")).effective_artifact_type == "application/vnd.example.config"
    assert parse(image(config=config, artifactType="a/b")).effective_artifact_type == "a/b"
    assert parse(index()).effective_artifact_type is None
    assert parse(index(artifactType="a/b")).effective_artifact_type == "a/b"


def test_artifact_has_no_image_id() -> None:
    assert parse(image(config=descriptor(types.EMPTY, b"{}"), artifactType="a/b")).image_id is None


def test_artifact_may_have_no_layers() -> None:
    assert parse(image(layers=[])).layers == ()


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_KEYS = st.sampled_from(["config", "layers", "manifests", "subject", "annotations", "artifactType", "mediaType", "x"])


@given(st.dictionaries(_KEYS, _JSON, max_size=4), st.sampled_from([None, types.OCI_MANIFEST, types.OCI_INDEX]))
@example({"config": {"mediaType": "a", "digest": "sha256:", "size": 0}}, None)
def test_whatever_comes_is_read_or_refused_in_words(changes: dict[str, Any], content_type: str | None) -> None:
    for document in (image(), index()):
        try:
            message = parse({**document, **changes}, content_type).media_type
        except InvalidInput as refusal:
            message = refusal.message
        assert message


@given(st.binary(max_size=200))
def test_whatever_bytes_come_are_refused_in_words(body: bytes) -> None:
    with pytest.raises(InvalidInput):
        parse_manifest(body, types.OCI_MANIFEST)


@pytest.mark.parametrize("length", [256, 70_000])
def test_media_type_longer_than_any_is_refused(length: int) -> None:
    long = "application/" + "x" * (length - len("application/"))
    config = {"mediaType": long, "digest": "sha256:" + "a" * 64, "size": 2}
    document = {"schemaVersion": 2, "mediaType": types.OCI_MANIFEST, "config": config, "layers": []}
    with pytest.raises(InvalidManifest):
        parse_manifest(json.dumps(document).encode(), types.OCI_MANIFEST)
    ordinary = {**document, "config": {**config, "mediaType": types.OCI_CONFIG}, "artifactType": long}
    with pytest.raises(InvalidManifest):
        parse_manifest(json.dumps(ordinary).encode(), types.OCI_MANIFEST)
