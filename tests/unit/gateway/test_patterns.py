"""Patterns of repository names: what they match, and that nothing makes matching slow."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from slipway_gateway.domain.patterns import InvalidPattern, covers_namespace, is_within, parse_pattern

# Few letters, so that patterns and names meet.
components = st.from_regex(r"[ab]{1,3}(?:[._-][ab]{1,3}){0,2}", fullmatch=True)
names = st.lists(components, min_size=1, max_size=4).map("/".join)
texts = st.text(alphabet="ab0._-/", max_size=12)
patterns = (
    st.lists(st.sampled_from(["a", "b", "ab", ".", "-", "/", "a/", "/b", "*", "**"]), min_size=1, max_size=8)
    .map("".join)
    .filter(lambda text: "***" not in text and text[0] != "/" and text[-1] != "/")
)


def naive(pattern: str, name: str) -> bool:
    """The definition, word for word: a star is nothing, or one more character and the star again."""
    if not pattern:
        return not name
    star = "**" if pattern.startswith("**") else "*" if pattern.startswith("*") else ""
    if not star:
        return bool(name) and name[0] == pattern[0] and naive(pattern[1:], name[1:])
    more = bool(name) and (star == "**" or name[0] != "/")
    return naive(pattern[len(star) :], name) or (more and naive(pattern, name[1:]))


@given(pattern=patterns, name=names | texts)
@example(pattern="*", name="")
@example(pattern="a*", name="a/")
@example(pattern="**a*b", name="a/ab")
@example(pattern="**a", name="aba")
def test_a_pattern_matches_what_its_definition_says(pattern: str, name: str) -> None:
    assert parse_pattern(pattern).matches(name) == naive(pattern, name)


@given(pattern=patterns, name=names | texts)
def test_the_databases_regular_expression_says_the_same(pattern: str, name: str) -> None:
    parsed = parse_pattern(pattern)
    assert parsed.matches(name) == (re.search(parsed.regex, name) is not None)


@pytest.mark.parametrize(("pattern", "matching", "others"), [
    ("acme/web", ["acme/web"], ["acme/web2", "xacme/web", "acme/web/x", "acme", "acme/we", ""]),
    ("acme/*", ["acme/web", "acme/a.b-c_d"], ["acme/a/b", "acme", "other/web", "acme2/web"]),
    ("acme/**", ["acme/web", "acme/a/b/c"], ["acme", "acme2/web", "x/acme/web"]),
    ("acme/web-*", ["acme/web-1", "acme/web-"], ["acme/web", "acme/web-1/x"]),
    ("**/base", ["acme/base", "a/b/base"], ["base", "acme/base2", "acme/xbase"]),
    ("**", ["a", "a/b/c"], []),
    ("*", ["a", "a.b"], ["a/b"]),
    ("*/*", ["a/b"], ["a", "a/b/c"]),
    ("a.b/c", ["a.b/c"], ["axb/c", "a/b/c"]),
    ("**/x/**", ["a/x/b", "a/b/x/c/d"], ["x/b", "a/x"]),
])  # fmt: skip
def test_patterns_that_people_write(pattern: str, matching: list[str], others: list[str]) -> None:
    parsed = parse_pattern(pattern)
    assert [name for name in matching if not parsed.matches(name)] == []
    assert [name for name in others if parsed.matches(name)] == []


@given(pattern=patterns, name=names, more=st.text(alphabet="ab/\n\x00é", min_size=1, max_size=3))
def test_both_ends_are_anchored(pattern: str, name: str, more: str) -> None:
    literal = parse_pattern(name)
    assert literal.matches(name)
    assert not literal.matches(name + more)
    assert not literal.matches(more + name)


@given(pattern=patterns, name=names)
def test_every_match_begins_with_the_prefix(pattern: str, name: str) -> None:
    parsed = parse_pattern(pattern)
    assert not parsed.matches(name) or name.startswith(parsed.prefix)
    assert pattern.startswith(parsed.prefix)
    assert "*" not in parsed.prefix


@pytest.mark.parametrize("pattern", ["**a" * 8 + "b", "*a" * 8 + "b", "a**" * 8, "**a*a**a*a**a*a**b"])
def test_no_name_takes_long_to_match(pattern: str) -> None:
    """A matcher that goes back and tries again would take years: a request, and everybody's with it."""
    parsed = parse_pattern(pattern)
    started = time.perf_counter()
    for length in range(205, 255):
        parsed.matches("a" * length)
        parsed.matches("a/" * (length // 2) + "c")
    assert time.perf_counter() - started < 1


# What is a pattern.


@given(st.text(alphabet="ab0._-/*", max_size=10) | st.text(max_size=6))
def test_a_pattern_is_a_name_with_stars(text: str) -> None:
    good = re.fullmatch(r"[a-z0-9._*-][a-z0-9._/*-]*", text) and not text.endswith("/") and "***" not in text
    if good:
        assert parse_pattern(text).text == text
    else:
        with pytest.raises(InvalidPattern):
            parse_pattern(text)


@pytest.mark.parametrize("text", [
    "", "/", "/acme", "acme/", "acme/***", "acme/****", "Acme/*", "acme /x", "acme/[ab]", "acme/?", "acme/x\n", "acme/+", "(a|b)",
    "^a$", "a\\b", "a{2}", "é", "\x00", "a:b", "a" * 256, "*/" * 9 + "a",
])  # fmt: skip
def test_what_is_no_pattern_is_refused(text: str) -> None:
    with pytest.raises(InvalidPattern) as refused:
        parse_pattern(text)
    assert len(str(refused.value.facts["pattern"])) <= 255


def test_a_pattern_has_up_to_255_characters_and_eight_stars() -> None:
    assert parse_pattern("a" * 255).matches("a" * 255)
    assert parse_pattern("/".join(["*"] * 8)).matches("a/b/c/d/e/f/g/h")
    with pytest.raises(InvalidPattern):
        parse_pattern("/".join(["*"] * 9))


# Namespaces.


@pytest.mark.parametrize(("pattern", "within"), [
    ("acme/**", True), ("acme/*", True), ("acme/web", True), ("acme/web-*", True), ("acme/**/x", True),
    ("**", False), ("*", False), ("acme", False), ("acme**", False), ("acme*/x", False), ("acme2/x", False), ("*/acme/x", False),
    ("acm*/web", False), ("**/acme/x", False), ("ac/me", False),
])  # fmt: skip
def test_a_pattern_is_within_a_namespace_if_it_begins_with_it(pattern: str, within: bool) -> None:
    assert is_within(parse_pattern(pattern), "acme") is within


@given(pattern=patterns, name=names)
def test_a_pattern_within_a_namespace_matches_nothing_outside(pattern: str, name: str) -> None:
    parsed = parse_pattern(pattern)
    if is_within(parsed, "a") and parsed.matches(name):
        assert name.startswith("a/")


@given(pattern=patterns, name=names, namespace=st.sampled_from(["a", "b", "ab", ""]))
def test_a_pattern_that_covers_a_namespace_matches_all_of_it(pattern: str, name: str, namespace: str) -> None:
    parsed = parse_pattern(pattern)
    if covers_namespace(parsed, namespace):
        assert parsed.matches(f"{namespace}/{name}" if namespace else name.replace("/", "-"))


@pytest.mark.parametrize(("pattern", "namespace", "covered"), [
    ("**", "acme", True), ("acme/**", "acme", True), ("**", "", True), ("*", "", True),
    ("acme/*", "acme", False), ("acme", "acme", False), ("*/**", "acme", False), ("acme2/**", "acme", False),
    ("*", "acme", False), ("acme/**/x", "acme", False), ("acme/**", "acme2", False), ("acme/**", "", False), ("a", "", False),
])  # fmt: skip
def test_namespaces_that_patterns_cover(pattern: str, namespace: str, covered: bool) -> None:
    assert covers_namespace(parse_pattern(pattern), namespace) is covered
