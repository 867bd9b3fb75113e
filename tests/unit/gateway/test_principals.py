"""Names of users, teams, robots and namespaces, and how a grant names whom it is for."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_gateway.domain.principals import (
    ROOT_NAMESPACE,
    InvalidPrincipal,
    Subject,
    SubjectKind,
    parse_account_name,
    parse_namespace,
    parse_robot_name,
    parse_subject,
    robot_name,
)

RESERVED = ("anonymous", "system", "service")
account_names = st.from_regex(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?", fullmatch=True).filter(
    lambda name: name not in RESERVED
)
namespaces = st.from_regex(r"[a-z0-9]{1,8}(?:[.-][a-z0-9]{1,8})?", fullmatch=True)


@given(account_names)
def test_names_within_the_grammar_are_taken_as_they_are(name: str) -> None:
    assert parse_account_name(name) == name


@given(st.text(alphabet="aZ0._-+:/ ", max_size=8) | st.text(max_size=5))
def test_names_outside_the_grammar_are_refused(text: str) -> None:
    if re.fullmatch(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?", text):
        assert parse_account_name(text) == text
    else:
        with pytest.raises(InvalidPrincipal):
            parse_account_name(text)


@pytest.mark.parametrize("text", [
    "", "-a", "a-", ".a", "a.", "_a", "A", "a b", "a\n", "é", "٣", "a+b", "a:b", "a/b", "a@b", "a\x00", "a" * 65, *RESERVED,
])  # fmt: skip
def test_what_is_no_account_is_refused_and_told_shortened(text: str) -> None:
    with pytest.raises(InvalidPrincipal) as refused:
        parse_account_name(text)
    assert refused.value.facts["name"] == text[:64]


def test_name_of_somebody_has_up_to_64_characters() -> None:
    assert parse_account_name("a") == "a"
    assert parse_account_name("a" * 64) == "a" * 64


def test_words_that_logs_use_for_nobody_are_no_names() -> None:
    for word in RESERVED:
        with pytest.raises(InvalidPrincipal):
            parse_account_name(word)
        with pytest.raises(InvalidPrincipal):
            parse_subject(f"team:{word}")


# Robots.


@given(namespace=namespaces, name=account_names)
def test_a_robots_name_says_whose_it_is(namespace: str, name: str) -> None:
    assert parse_robot_name(robot_name(namespace, name)) == (namespace, name)


@pytest.mark.parametrize("text", [
    "", "+", "ci", "acme+", "+ci", "acme+ci+x", "acme/web+ci", "acme ci", "Acme+ci", "acme+Ci", "_+ci", "acme+ci\n", "acme++ci",
    "acme+system",
])  # fmt: skip
def test_what_is_no_robot_is_refused(text: str) -> None:
    with pytest.raises(InvalidPrincipal):
        parse_robot_name(text)


@given(st.text(max_size=12))
def test_no_name_is_both_a_users_and_a_robots(text: str) -> None:
    taken = 0
    for parse in (parse_account_name, parse_robot_name):
        try:
            parse(text)
        except InvalidPrincipal:
            continue
        taken += 1
    assert taken <= 1


# Namespaces.


@pytest.mark.parametrize("text", ["acme", "a", "a-b", "a--b", "a__b", "a.b", "0"])
def test_a_namespace_is_one_component_of_a_name(text: str) -> None:
    assert parse_namespace(text) == text


@pytest.mark.parametrize("text", [
    "", ROOT_NAMESPACE, "a/b", "a/", "/a", "A", "a..b", "-a", "a+b", "a:b", "a" * 256, "a\n", "*", "..",
])  # fmt: skip
def test_what_is_no_namespace_is_refused(text: str) -> None:
    with pytest.raises(InvalidPrincipal):
        parse_namespace(text)


# Subjects.


@given(account_names, namespaces)
def test_a_subject_is_read_as_it_is_written(name: str, namespace: str) -> None:
    for subject in (
        Subject(SubjectKind.USER, name), Subject(SubjectKind.TEAM, name), Subject(SubjectKind.ROBOT, f"{namespace}+{name}"),
    ):  # fmt: skip
        assert parse_subject(str(subject)) == subject


@pytest.mark.parametrize("text", [
    "", "alice", ":", "user", "user:", ":alice", "User:alice", "group:x", "user:alice:x", "user: alice", "robot:ci",
    "user:acme+ci", "team:acme+ci", "robot:acme+", "user:*", "user:Alice", " user:alice", "user:alice\n", "x" * 1000,
])  # fmt: skip
def test_what_is_no_subject_is_refused(text: str) -> None:
    with pytest.raises(InvalidPrincipal) as refused:
        parse_subject(text)
    assert all(len(str(fact)) <= 255 for fact in refused.value.facts.values())
