"""What a path names is what is authorised, and what is handled."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from slipway_common.oci.names import InvalidName, parse_repository_name
from slipway_gateway.api.paths import Kind, Target, parse_path

DIGEST = "sha256:" + "0" * 64
UPLOAD = "123e4567-e89b-12d3-a456-426614174000"
# Words of the protocol are names like any others.
component = st.one_of(
    st.from_regex(r"[a-z0-9]{1,6}([._-][a-z0-9]{1,4}){0,2}", fullmatch=True),
    st.sampled_from(["blobs", "manifests", "uploads", "tags", "list", "referrers", "v2", "latest"]),
)
name = st.lists(component, min_size=1, max_size=5).map("/".join)
reference = st.one_of(
    st.just(DIGEST), st.just("latest"), st.sampled_from(["list", "uploads", "tags", "blobs", "_catalog"])
)
shape = st.sampled_from(["manifests/{}", "blobs/{}", "referrers/{}", "blobs/uploads/{}", "blobs/uploads/", "tags/list"])


def test_every_path_of_the_protocol_is_read() -> None:
    paths = {
        "/v2/": (Kind.BASE, "", ""),
        "/v2": (Kind.BASE, "", ""),
        "/v2/_catalog": (Kind.CATALOG, "", ""),
        "/v2/a/b/tags/list": (Kind.TAGS, "a/b", ""),
        f"/v2/a/b/blobs/{DIGEST}": (Kind.BLOB, "a/b", DIGEST),
        "/v2/a/b/blobs/uploads/": (Kind.UPLOADS, "a/b", ""),
        "/v2/a/b/blobs/uploads": (Kind.UPLOADS, "a/b", ""),
        f"/v2/a/b/blobs/uploads/{UPLOAD}": (Kind.UPLOAD, "a/b", UPLOAD),
        "/v2/a/b/manifests/latest": (Kind.MANIFEST, "a/b", "latest"),
        f"/v2/a/b/referrers/{DIGEST}": (Kind.REFERRERS, "a/b", DIGEST),
    }
    for path, (kind, name, reference) in paths.items():
        assert parse_path(path) == Target(kind, name, reference), path


@pytest.mark.parametrize(
    ("path", "kind", "name"),
    [
        (f"/v2/a/blobs/blobs/{DIGEST}", Kind.BLOB, "a/blobs"),
        ("/v2/a/manifests/manifests/x", Kind.MANIFEST, "a/manifests"),
        ("/v2/manifests/manifests/manifests", Kind.MANIFEST, "manifests"),
        ("/v2/a/blobs/uploads/manifests/x", Kind.MANIFEST, "a/blobs/uploads"),
        ("/v2/a/tags/list/tags/list", Kind.TAGS, "a/tags/list"),
        ("/v2/a/manifests/tags/list", Kind.TAGS, "a/manifests"),
        (f"/v2/a/blobs/uploads/{UPLOAD}/blobs/uploads/", Kind.UPLOADS, f"a/blobs/uploads/{UPLOAD}"),
        (f"/v2/blobs/uploads/blobs/{DIGEST}", Kind.BLOB, "blobs/uploads"),
    ],
)
def test_names_may_hold_words_of_the_protocol(path: str, kind: Kind, name: str) -> None:
    target = parse_path(path)
    assert target is not None
    assert (target.kind, target.name) == (kind, name)


@pytest.mark.parametrize(
    "path",
    [
        "/v2/x",
        "/v2/a/b",
        "/v2x",
        "/v2x/a/manifests/b",
        "/v2//",
        "/v2/a/tags",
        "/v2/a/tags/list/",
        "/v2/a/tags/lists",
        "/v2/_catalog/",
        "/v2/a/blobs/uploads/x/y",
        "/v1/a/manifests/b",
        "",
        "/",
        "/v2/uploads/x",
        "/v2/blobs/uploads/x",
    ],
)
def test_what_is_no_path_of_the_protocol_is_none(path: str) -> None:
    assert parse_path(path) is None


@pytest.mark.parametrize(
    "bad",
    [
        "..",
        "a/..",
        "a/../b",
        "%2e%2e",
        "a/%2e%2e/b",
        "a//b",
        "a/",
        "/a",
        "A",
        "a%00",
        "%00",
        "a%2f%2fb",
        "%252f",
        "a%252fb",
        "a%25",
        "a b",
        "a%20b",
        "a:b",
        "a@b",
        "-a",
        "a-",
        ".a",
        "a___b",
        "a..b",
        "%ff",
        "%ed%a0%80",
        "\u0430",
        "%D0%B0",
        "\u212a",
        "\u017f",
        "x" * 256,
        "a%0d%0ab",
        "a;b",
        "*",
        "a\\b",
        "_catalog",
        "a%",
        "%zz",
        "a\x00",
    ],
)
def test_name_outside_the_grammar_is_refused_on_every_endpoint(bad: str) -> None:
    for path in ("manifests/latest", f"blobs/{DIGEST}", "blobs/uploads/", f"blobs/uploads/{UPLOAD}", "tags/list"):
        with pytest.raises(InvalidName):
            parse_path(f"/v2/{bad}/{path}")


@given(name, shape, reference)
def test_name_that_was_put_in_comes_out(name: str, shape: str, reference: str) -> None:
    """However a name is made up, and however it is escaped, it is the name that is authorised and handled."""
    tail = shape.format(reference)
    target = parse_path(f"/v2/{name}/{tail}")
    assert target is not None
    # `blobs/uploads` and `tags/list` at the end of the path are the endpoint, never a reference.
    assume(tail not in ("manifests/uploads", "blobs/list"))
    expected = {"blobs/uploads": name, "blobs/uploads/": name}.get(tail, name)
    assert target.name == expected
    assert parse_repository_name(target.name) == target.name
    assert parse_path(f"/v2/{quote(name, safe='')}/{tail}") == target


@given(st.text(max_size=60))
def test_any_path_is_read_refused_or_none(path: str) -> None:
    try:
        target = parse_path("/v2/" + path)
    except InvalidName:
        return
    if target is not None and target.name:
        assert parse_repository_name(target.name) == target.name


@given(st.text(alphabet="ab/%.2eEfF0-_:", max_size=40))
def test_no_escaping_smuggles_a_name(path: str) -> None:
    try:
        target = parse_path(f"/v2/{path}/manifests/x")
    except InvalidName:
        return
    assert target is None or "%" not in target.name
    assert target is None or ".." not in target.name
