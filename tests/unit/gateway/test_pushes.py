"""What a push makes of a manifest: the blobs it needs, its size, its platforms, the events that tell of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_common.events.catalogue import ImagePushed, ManifestPushed, Payload, ReferrerAttached
from slipway_common.oci import media_types as types
from slipway_common.oci.digests import Digest, InvalidDigest, digest_of
from slipway_common.oci.manifests import InvalidManifest, Manifest, Platform, parse_manifest
from slipway_common.oci.names import RepositoryName, Tag
from slipway_gateway.pushes import (
    ContentUnknown,
    RepositoryGone,
    _digest,
    _events,
    _needed_blobs,
    _platforms,
    _read_platform,
    _refused,
    _tree_size,
)
from slipway_gateway.store.manifests import Child, NewManifest, Refusal
from slipway_gateway.store.repositories import Repository

LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
FOREIGN = "application/vnd.oci.image.layer.nondistributable.v1.tar"
REPOSITORY = Repository(7, RepositoryName("acme/hello"), "private")
BODY = b"x" * 100


def descriptor(name: str, size: int, media_type: str = LAYER, **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(name.encode()), "size": size, **more}


def image(*layers: dict[str, Any], config_type: str = types.OCI_CONFIG, **more: Any) -> Manifest:
    config = descriptor("config", 10, config_type)
    return parse(types.OCI_MANIFEST, config=config, layers=list(layers), **more)


def index(*children: dict[str, Any], **more: Any) -> Manifest:
    return parse(types.OCI_INDEX, manifests=list(children), **more)


def parse(media_type: str, **fields: Any) -> Manifest:
    return parse_manifest(json.dumps({"schemaVersion": 2, "mediaType": media_type, **fields}).encode(), media_type)


def child(name: str, *, size: int = 5, tree: int = 50, platform: Platform | None = None) -> Child:
    return Child(digest_of(name.encode()), digest_of(b"id of " + name.encode()), size, tree, platform)


def known(*children: Child) -> dict[Digest, Child]:
    return {one.digest: one for one in children}


def new(
    manifest: Manifest, *tags: str, platform: Platform | None = None, children: dict[Digest, Child] | None = None
) -> NewManifest:
    return NewManifest(
        digest=digest_of(BODY), manifest=manifest, body=BODY, tree_size_bytes=_tree_size(manifest, BODY, children or {}),
        platform=platform, blobs=(), children=(), tags=[Tag(tag) for tag in tags],
    )  # fmt: skip


# Needs.


def test_image_needs_its_config_and_the_layers_that_lie_here() -> None:
    manifest = image(descriptor("a", 1), descriptor("f", 2, FOREIGN), descriptor("b", 3))
    assert dict(_needed_blobs(manifest, {})) == {digest_of(b"a"): 1, digest_of(b"b"): 3, digest_of(b"config"): 10}


def test_layer_that_is_named_with_two_sizes_is_checked_against_both() -> None:
    manifest = image(descriptor("a", 1), descriptor("a", 2))
    assert [size for digest, size in _needed_blobs(manifest, {}) if digest == digest_of(b"a")] == [1, 2]


def test_index_needs_as_blobs_what_is_no_manifest_here() -> None:
    manifest = index(
        descriptor("a", 1, types.OCI_MANIFEST), descriptor("cache", 2), descriptor("missing", 3, types.OCI_MANIFEST)
    )
    assert dict(_needed_blobs(manifest, known(child("a")))) == {digest_of(b"cache"): 2, digest_of(b"missing"): 3}


def test_foreign_layer_of_an_index_is_needed_all_the_same() -> None:
    """Only layers of an image may lie elsewhere; an index names what it has."""
    assert dict(_needed_blobs(index(descriptor("f", 2, FOREIGN)), {})) == {digest_of(b"f"): 2}


# Sizes.


def test_tree_counts_each_digest_once() -> None:
    assert _tree_size(image(descriptor("a", 1), descriptor("a", 1), descriptor("config", 10)), BODY, {}) == 100 + 1 + 10


def test_tree_of_an_index_has_the_trees_of_its_children() -> None:
    manifest = index(
        descriptor("a", 5, types.OCI_MANIFEST), descriptor("a", 5, types.OCI_MANIFEST), descriptor("cache", 7)
    )
    assert _tree_size(manifest, BODY, known(child("a", tree=50))) == 100 + 50 + 7


@given(st.lists(st.integers(0, 2**63 - 1), max_size=5))
def test_tree_size_fits_the_database_whatever_is_claimed(sizes: list[int]) -> None:
    manifest = image(*(descriptor(str(number), size, FOREIGN) for number, size in enumerate(sizes)))
    assert _tree_size(manifest, BODY, {}) == min(100 + 10 + sum(sizes), 2**63 - 1)


# Platforms.


def test_platform_is_read_from_a_config() -> None:
    assert _read_platform(b'{"os":"linux","architecture":"arm","variant":"v7","x":[]}') == Platform(
        "linux", "arm", "v7"
    )
    assert _read_platform(b'{"os":"linux","architecture":"amd64"}') == Platform("linux", "amd64", None)


@pytest.mark.parametrize("content", [
    b"", b"{", b"[]", b"null", b"1", b'"linux"', b"\xff", b"{}", b'{"os":"linux"}', b'{"architecture":"amd64"}',
    b'{"os":"","architecture":"a"}',
    b'{"os":1,"architecture":"a"}', b'{"os":["linux"],"architecture":"a"}', b'{"os":null,"architecture":null}',
    b'{"os":"a\\nb","architecture":"a"}',
    b'{"os":"\\u0000","architecture":"a"}', b'{"os":"\\u001b[31m","architecture":"a"}', b'{"os":"\\u202e","architecture":"a"}',
    b'{"os":"\\ud800","architecture":"a"}', b'{"os":"linux","architecture":"' + b"a" * 65 + b'"}', b"[" * 100_000, b'{"os":NaN}',
    b'{"os":' + b"9" * 5000 + b"}", b'{"a":' * 5000,
])  # fmt: skip
def test_config_that_does_not_say_plainly_has_no_platform(content: bytes) -> None:
    assert _read_platform(content) is None


@pytest.mark.parametrize("variant", ["1", '""', '"a\\u0000"', "null", "[]", f'"{"v" * 65}"'])
def test_variant_that_is_not_plain_is_left_out(variant: str) -> None:
    content = f'{{"os":"linux","architecture":"arm","variant":{variant}}}'.encode()
    assert _read_platform(content) == Platform("linux", "arm", None)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_config_of_some_platform_or_none(content: bytes) -> None:
    assert _read_platform(content) is None


def test_image_is_of_its_own_platform() -> None:
    manifest = image(descriptor("a", 1))
    (found,) = _platforms(new(manifest, platform=Platform("linux", "arm", "v7")), {})
    assert (found.os, found.architecture, found.variant) == ("linux", "arm", "v7")
    assert (found.digest, found.image_id, found.size_bytes) == (digest_of(BODY), digest_of(b"config"), 111)
    assert _platforms(new(manifest), {}) == []


def test_index_is_of_its_childrens_platforms() -> None:
    linux, named = Platform("linux", "amd64"), {"os": "windows", "architecture": "arm64"}
    children = known(
        child("own", platform=linux),
        child("named", platform=linux),
        child("attestation", platform=linux),
        child("none"),
        child("empty"),
    )
    manifest = index(
        descriptor("own", 5, types.OCI_MANIFEST),
        descriptor("named", 5, types.OCI_MANIFEST, platform=named),
        descriptor("attestation", 5, types.OCI_MANIFEST, platform={"os": "unknown", "architecture": "unknown"}),
        descriptor("none", 5, types.OCI_MANIFEST),
        descriptor("empty", 5, types.OCI_MANIFEST, platform={}),
        descriptor("blob", 5, platform=named),
    )
    found = _platforms(new(manifest, children=children), children)
    assert [(one.os, one.digest, one.size_bytes) for one in found] == [
        ("linux", digest_of(b"own"), 50), ("windows", digest_of(b"named"), 50),
    ]  # fmt: skip


# Events.


def told(manifest: Manifest, *tags: str) -> list[Payload]:
    return [event.data for event in _events(REPOSITORY, new(manifest, *tags), {})]


def test_manifest_without_tag_is_one_event() -> None:
    (event,) = _events(REPOSITORY, new(image()), {})
    assert isinstance(event.data, ManifestPushed)
    assert (event.type, event.subject) == ("slipway.manifest.pushed.v1", f"acme/hello@{digest_of(BODY)}")
    assert (event.data.digest, event.data.image_id, event.data.size_bytes) == (
        digest_of(BODY),
        digest_of(b"config"),
        100,
    )
    assert event.data.artifact_type is None


def test_all_tags_of_a_request_are_one_event_and_it_comes_last() -> None:
    manifest, pushed = told(image(descriptor("a", 1)), "1", "latest")
    assert isinstance(manifest, ManifestPushed)
    assert isinstance(pushed, ImagePushed)
    assert (pushed.tags, pushed.size_bytes) == (["1", "latest"], 111)
    assert (pushed.repository.id, pushed.repository.name, pushed.repository.namespace) == (7, "acme/hello", "acme")


def test_manifest_about_another_tells_of_the_attachment_before_the_image() -> None:
    subject = descriptor("subject", 1, types.OCI_MANIFEST)
    manifest = image(subject=subject, artifactType="application/vnd.example.signature")
    pushed, attached, tagged = told(manifest, "sig")
    assert isinstance(pushed, ManifestPushed)
    assert isinstance(attached, ReferrerAttached)
    assert isinstance(tagged, ImagePushed)
    assert (pushed.subject, attached.subject) == (digest_of(b"subject"),) * 2
    assert attached.artifact_type == "application/vnd.example.signature"


def test_artifact_is_named_by_its_type_and_has_no_image_id() -> None:
    (pushed,) = told(image(config_type="application/vnd.cncf.helm.config.v1+json"))
    assert isinstance(pushed, ManifestPushed)
    assert (pushed.artifact_type, pushed.image_id) == ("application/vnd.cncf.helm.config.v1+json", None)


# Refusals.


def test_digest_of_the_path_must_be_the_bodys() -> None:
    for algorithm in ("sha256", "sha512"):
        assert _digest(digest_of(BODY, algorithm), BODY) == digest_of(BODY, algorithm)
        with pytest.raises(InvalidDigest):
            _digest(digest_of(b"other", algorithm), BODY)
    assert _digest(Tag("latest"), BODY) == digest_of(BODY)


def test_refusal_says_what_is_amiss() -> None:
    manifest = image(descriptor("a", 1))
    missing = [digest_of(b"a")]
    assert isinstance(_refused(REPOSITORY, manifest, Refusal(True, [], {})), RepositoryGone)
    unknown = _refused(REPOSITORY, manifest, Refusal(False, missing, {digest_of(b"config"): 3}))
    assert isinstance(unknown, ContentUnknown)
    assert unknown.missing == missing
    wrong = _refused(REPOSITORY, manifest, Refusal(False, [], {digest_of(b"a"): 9}))
    assert isinstance(wrong, InvalidManifest)
    assert wrong.message == f"{digest_of(b'a')} is 9 bytes long, but the manifest says 1"


def test_refusal_names_the_size_that_is_wrong_of_two() -> None:
    wrong = _refused(
        REPOSITORY, image(descriptor("a", 9), descriptor("a", 2)), Refusal(False, [], {digest_of(b"a"): 9})
    )
    assert isinstance(wrong, InvalidManifest)
    assert wrong.message.endswith("says 2")
