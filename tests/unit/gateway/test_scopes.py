"""Scopes as clients write them: what is understood counts, the rest grants nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_gateway.domain.scopes import MAX_SCOPES, parse_scope, parse_scopes, render_scope


@pytest.mark.parametrize(
    ("text", "name", "actions"),
    [
        ("repository:acme/app:pull", "acme/app", {"pull"}),
        ("repository:acme/app:pull,push", "acme/app", {"pull", "push"}),
        ("repository:app:delete,*", "app", {"delete", "*"}),
        ("repository(plugin):acme/app:pull", "acme/app", {"pull"}),
        ("repository:acme/app:", "acme/app", set()),
        ("repository:acme/app:pull,fly,,PULL", "acme/app", {"pull"}),
    ],
)
def test_scope_is_read(text: str, name: str, actions: set[str]) -> None:
    scope = parse_scope(text)
    assert scope is not None
    assert (scope.name, scope.actions) == (name, actions)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "::",
        "repository",
        "repository:",
        "repository::pull",
        "registry:catalog:*",
        "Repository:a:pull",
        "repository:A:pull",
        "repository:../a:pull",
        "repository:a//b:pull",
        "repository:a b:pull",
        "repository:host:5000/a:pull",
        "repository:*:pull",
        "repository:a\x00:pull",
        "repository:" + "a" * 300 + ":pull",
    ],
)
def test_scope_that_is_not_understood_is_left_out(text: str) -> None:
    assert parse_scope(text) is None


def test_several_scopes_come_in_one_parameter_or_in_several() -> None:
    found = parse_scopes(["repository:a:pull repository:b:push", "", "  repository:c:pull  "])
    assert [scope.name for scope in found] == ["a", "b", "c"]


def test_number_of_scopes_is_bounded() -> None:
    assert len(parse_scopes(["repository:a:pull " * 10_000])) == MAX_SCOPES


@given(st.text(max_size=80))
def test_any_text_is_a_scope_or_none(text: str) -> None:
    scope = parse_scope(text)
    assert scope is None or scope.actions <= {"pull", "push", "delete", "*"}


def test_rendered_scope_is_read_back() -> None:
    scope = parse_scope(render_scope("acme/app", ("pull", "push")))
    assert scope is not None
    assert (scope.name, scope.actions) == ("acme/app", {"pull", "push"})
