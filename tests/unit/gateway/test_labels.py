"""What people write about repositories, and how much of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_common.errors import InvalidInput
from slipway_gateway.domain.labels import (
    MAX_DESCRIPTION_CHARS,
    MAX_LABELS,
    check_description,
    check_labels,
    check_line,
)


def is_refused(check: object, *arguments: object, **more: object) -> bool:
    try:
        check(*arguments, **more)  # type: ignore[operator]
    except InvalidInput:
        return True
    return False


@pytest.mark.parametrize("text", ["", "Web frontend", "two\nlines\tand a tab", "é🚢", "x" * MAX_DESCRIPTION_CHARS])
def test_descriptions_are_any_text(text: str) -> None:
    check_description(text)


@pytest.mark.parametrize("text", ["x" * (MAX_DESCRIPTION_CHARS + 1), "\x00", "a\x00b", "\ud800", "x\udfff"])
def test_descriptions_that_no_database_keeps_are_refused(text: str) -> None:
    assert is_refused(check_description, text)


@given(st.text(st.characters(exclude_categories=[]), max_size=30))
def test_whatever_is_accepted_can_be_kept(text: str) -> None:
    keepable = "\x00" not in text and text.encode("utf-8", "ignore").decode() == text
    assert is_refused(check_description, text) == (not keepable)
    assert is_refused(check_labels, {"key": text}) == (not keepable)


@pytest.mark.parametrize("key", [
    "a", "team", "Team", "0", "org.opencontainers.image.source", "example.com/cost-centre", "a_b", "a" * 128,
])  # fmt: skip
def test_keys_of_labels_are_words(key: str) -> None:
    check_labels({key: ""})


@pytest.mark.parametrize("key", [
    "", ".a", "a.", "-a", "a-", "/a", "a/", "a b", "a\n", "é", "a:b", "a=b", "a" * 129, "\x00", "*", "_a",
])  # fmt: skip
def test_keys_that_are_no_words_are_refused(key: str) -> None:
    assert is_refused(check_labels, {"good": "x", key: "x"})


def test_values_of_labels_are_short() -> None:
    check_labels({"a": "x" * 256, "b": ""})
    assert is_refused(check_labels, {"a": "x" * 257})


def test_there_are_so_many_labels_and_no_more() -> None:
    check_labels({})
    check_labels({f"key{number}": "x" for number in range(MAX_LABELS)})
    assert is_refused(check_labels, {f"key{number}": "x" for number in range(MAX_LABELS + 1)})


@pytest.mark.parametrize("text", ["", "Alice", "alice@example.com", "Ålice 🚢", "x" * 255])
def test_a_line_is_one_line(text: str) -> None:
    check_line("display_name", text)


@pytest.mark.parametrize("text", ["a\nb", "a\rb", "\x00", "\x1b[31m", "a\tb", "\ud800", "\u202e", "\u2028", "x" * 256])
def test_a_line_that_is_none_is_refused_by_its_name(text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        check_line("display_name", text)
    assert refused.value.message.startswith("display_name is one line")


def test_a_line_may_be_bounded_otherwise() -> None:
    assert is_refused(check_line, "name", "x" * 65, max_chars=64)
    check_line("name", "x" * 64, max_chars=64)
