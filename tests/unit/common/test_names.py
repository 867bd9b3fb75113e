"""Repository names, tags and references: what the specification's grammar takes, and nothing else."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_common.oci.digests import InvalidDigest
from slipway_common.oci.names import (
    InvalidName,
    InvalidTag,
    RepositoryName,
    is_digest,
    namespace_of,
    parse_reference,
    parse_repository_name,
    parse_tag,
)

# As distribution-spec v1.1.1 prints them.
SPEC_NAME = re.compile(r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*")
SPEC_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
DIGEST = "sha256:" + "a" * 64


@given(st.text(alphabet="ab0._-/", max_size=12) | st.text(max_size=8))
def test_names_are_those_of_the_specification(text: str) -> None:
    if SPEC_NAME.fullmatch(text):
        assert parse_repository_name(text) == text
    else:
        with pytest.raises(InvalidName):
            parse_repository_name(text)


@given(st.text(alphabet="aZ0._-", max_size=131) | st.text(max_size=8))
def test_tags_are_those_of_the_specification(text: str) -> None:
    if SPEC_TAG.fullmatch(text):
        assert parse_tag(text) == text
    else:
        with pytest.raises(InvalidTag):
            parse_tag(text)


@pytest.mark.parametrize("name", [
    "", "/", "a/", "/a", "a//b", ".", "..", "a/../b", "../a", "a/./b", "A", "aB", "a b", "a\n", "a\x00", "a%2fb", "a..b", "a___b",
    "a_.b", "-a", "a-", "a/-b", "a:b", "a@b", "é", "a/é", "ａ", "١", "a\u202eb", "\udcff", "a\\b", "~a", "a+b",
])  # fmt: skip
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidName):
        parse_repository_name(name)


@pytest.mark.parametrize(
    "name", ["a", "0", "a.b", "a_b", "a__b", "a---b", "a/b/c/d", "blobs/uploads/manifests", "a" * 255]
)
def test_name_is_taken_as_it_is(name: str) -> None:
    assert parse_repository_name(name) == name


def test_name_of_256_characters_is_refused() -> None:
    with pytest.raises(InvalidName):
        parse_repository_name("a" * 256)


def test_error_repeats_no_more_than_a_name_could_have() -> None:
    with pytest.raises(InvalidName) as refused:
        parse_repository_name("A" * 100_000)
    assert len(str(refused.value.facts["name"])) <= 255


@pytest.mark.parametrize("text", ["a-" * 127 + "!", "a" * 254 + "!", "-" * 255, "a/" * 127 + "!", "a_" * 127 + "-"])
def test_name_made_to_keep_a_matcher_busy_is_refused_at_once(text: str) -> None:
    started = time.perf_counter()
    with pytest.raises(InvalidName):
        parse_repository_name(text)
    assert time.perf_counter() - started < 0.5


@pytest.mark.parametrize("tag", ["", ".a", "-a", "a" * 129, "a/b", "a b", "a\n", "é", "a\x00", "v1+2", "a%41"])
def test_what_is_no_tag_is_refused(tag: str) -> None:
    with pytest.raises(InvalidTag):
        parse_tag(tag)


def test_reference_with_a_colon_is_a_digest_and_any_other_a_tag() -> None:
    assert is_digest(parse_reference(DIGEST))
    assert not is_digest(parse_reference("latest"))
    with pytest.raises(InvalidDigest):
        parse_reference("latest:1")
    with pytest.raises(InvalidTag):
        parse_reference("../latest")


@pytest.mark.parametrize(("name", "namespace"), [("a", ""), ("a/b", "a"), ("a/b/c", "a")])
def test_namespace_is_the_first_component_of_several(name: str, namespace: str) -> None:
    assert namespace_of(RepositoryName(name)) == namespace
