"""Rules on the claims of a workload's token: what fits, what must not, and which rules are none."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_gateway.domain.trust import (
    MAX_CLAIMS,
    MAX_LENGTH,
    InvalidTrust,
    claims_match,
    find_claim,
    matches_glob,
    validate_rule,
)

ISSUER, AUDIENCE = "https://ci.example.com", "slipway"
GITHUB = "https://token.actions.githubusercontent.com"
GITHUB_CLAIMS = {
    "sub": "repo:acme/web:ref:refs/heads/main",
    "repository": "acme/web",
    "repository_owner_id": "123",
    "ref": "refs/heads/main",
    "ref_protected": "true",
}
KUBERNETES_CLAIMS = {
    "sub": "system:serviceaccount:builds:builder",
    "kubernetes.io": {"namespace": "builds", "serviceaccount": {"name": "builder", "uid": "1"}},
}
texts = st.text(alphabet="ab/*.\n[", max_size=8)
literals = st.text(alphabet=st.characters(exclude_characters="*"), max_size=20)


@given(pattern=texts, text=texts)
def test_a_glob_fits_what_the_same_regular_expression_fits(pattern: str, text: str) -> None:
    regex = "".join(".*" if character == "*" else re.escape(character) for character in pattern)
    assert matches_glob(pattern, text) == (re.fullmatch(regex, text, re.DOTALL) is not None)


@given(literal=literals, more=st.text(min_size=1, max_size=5))
def test_a_pattern_without_star_fits_itself_and_nothing_longer(literal: str, more: str) -> None:
    assert matches_glob(literal, literal)
    assert not matches_glob(literal, more + literal)
    assert not matches_glob(literal, literal + more)


@given(before=literals, after=literals, run=st.text(max_size=10))
def test_a_star_fits_any_run_between_the_two_anchors(before: str, after: str, run: str) -> None:
    assert matches_glob(f"{before}*{after}", before + run + after)


@given(before=literals.filter(bool), text=st.text(max_size=20))
def test_what_stands_before_a_star_is_how_the_text_begins(before: str, text: str) -> None:
    assert matches_glob(f"{before}*", text) == text.startswith(before)
    assert matches_glob(f"*{before}", text) == text.endswith(before)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("acme/web", "ACME/web"),
        ("acme.web", "acmexweb"),
        ("acme/web", "acme/web\n"),
        ("acme/?eb", "acme/web"),
        ("[a]cme", "acme"),
        ("aba*aba", "aba"),
        ("a*ab*b", "ab"),
        (".*", "anything"),
        ("", "anything"),
    ],
)
def test_nothing_but_the_star_has_a_meaning(pattern: str, text: str) -> None:
    assert not matches_glob(pattern, text)


def test_a_pattern_made_to_be_slow_is_not() -> None:
    began = time.perf_counter()
    assert not matches_glob("*a" * (MAX_LENGTH // 2 - 1) + "*b", "a" * 100_000)
    assert not matches_glob("*" + "a" * (MAX_LENGTH - 2) + "b*", "a" * 100_000)
    assert time.perf_counter() - began < 1.0


@pytest.mark.parametrize(
    ("rule", "claims"),
    [
        ({"sub": "repo:acme/web:ref:refs/heads/main"}, GITHUB_CLAIMS),
        ({"repository": "acme/*", "ref": "refs/heads/*"}, GITHUB_CLAIMS),
        ({"repository": "acme/web", "sub": "*"}, GITHUB_CLAIMS),
        ({"kubernetes.io.namespace": "builds"}, KUBERNETES_CLAIMS),
        ({"kubernetes.io.serviceaccount.name": "build*"}, KUBERNETES_CLAIMS),
        ({"groups": "ci"}, {"groups": ["people", "ci"]}),
        ({"protected": "true", "pipeline": "42"}, {"protected": True, "pipeline": 42}),
        ({"realm.roles": "push"}, {"realm": {"roles": ["pull", "push"]}}),
    ],
)
def test_a_rule_is_fulfilled_by_claims_that_fit_each_line(rule: dict[str, str], claims: dict[str, Any]) -> None:
    assert claims_match(rule, claims)


@pytest.mark.parametrize(
    ("rule", "claims"),
    [
        ({}, GITHUB_CLAIMS),
        ({"repository": "acme/web", "ref": "refs/tags/*"}, GITHUB_CLAIMS),
        ({"repository": "acme/web", "environment": "*"}, GITHUB_CLAIMS),
        ({"repository": "acme/web"}, {}),
        ({"kubernetes.io": "*"}, KUBERNETES_CLAIMS),
        ({"kubernetes.io.pod.name": "*"}, KUBERNETES_CLAIMS),
        ({"groups": "ci"}, {"groups": []}),
        ({"groups": "ci"}, {"groups": [["ci"], {"ci": "ci"}, None]}),
        ({"empty": "*"}, {"empty": None}),
        ({"share": "*"}, {"share": 0.5}),
        ({"flag": "True"}, {"flag": True}),
        ({"flag": "1"}, {"flag": True}),
    ],
)
def test_a_rule_is_not_fulfilled_by_less(rule: dict[str, str], claims: dict[str, Any]) -> None:
    assert not claims_match(rule, claims)


def test_a_claim_with_dots_in_its_name_goes_before_a_path() -> None:
    claims = {"a.b": "name", "a": {"b": "path", "c": "other"}}
    assert find_claim(claims, "a.b") == "name"
    assert find_claim(claims, "a.c") == "other"
    assert find_claim(claims, "a.b.c") is None
    assert find_claim({"a": {"b": 1}}, ".a.b") is None
    assert find_claim({"a": {"": 1}}, "a.") == 1


@given(names=st.lists(st.text(alphabet="a.", max_size=6), max_size=4), name=st.text(alphabet="a.", max_size=30))
def test_any_path_in_any_claims_has_an_answer(names: list[str], name: str) -> None:
    claims: Any = "end"
    for one in names:
        claims = {one: claims}
    find_claim(claims if isinstance(claims, dict) else {}, name)


@pytest.mark.parametrize(
    ("issuer", "claims"),
    [
        (ISSUER, {"sub": "builder"}),
        (ISSUER, {"kubernetes.io.namespace": "builds", "sub": "*"}),
        (ISSUER, {"project": "a*"}),
        (ISSUER, {f"claim{number}": "x" for number in range(MAX_CLAIMS)}),
        (GITHUB, {"sub": "repo:acme/web:ref:refs/heads/main"}),
        (GITHUB, {"sub": "repo:acme/*"}),
        (GITHUB, {"repository": "acme/*", "ref": "refs/heads/main"}),
        (GITHUB, {"repository_owner": "acme"}),
        ("https://gitlab.com", {"namespace_path": "acme", "ref_protected": "true"}),
        ("http://gitlab.internal:8080/path", {"project_path": "acme/web"}),
    ],
)
def test_a_rule_that_names_somebody_is_one(issuer: str, claims: dict[str, str]) -> None:
    validate_rule(issuer, AUDIENCE, claims)


@pytest.mark.parametrize(
    ("issuer", "audience", "claims", "says"),
    [
        (ISSUER, AUDIENCE, {}, "1 to 20 claims"),
        (ISSUER, AUDIENCE, {f"claim{number}": "x" for number in range(MAX_CLAIMS + 1)}, "1 to 20 claims"),
        (ISSUER, AUDIENCE, {"sub": "x" * (MAX_LENGTH + 1)}, "pattern of sub must have 1 to 500"),
        (ISSUER, AUDIENCE, {"x" * (MAX_LENGTH + 1): "x"}, "name must have 1 to 500"),
        (ISSUER, AUDIENCE, {"sub": ""}, "pattern of sub"),
        (ISSUER, AUDIENCE, {"": "x"}, "name must have"),
        (ISSUER, AUDIENCE, {"sub": "a\nb"}, "printable"),
        (ISSUER, AUDIENCE, {"sub": "*", "project": "**"}, "every workload"),
        (ISSUER, AUDIENCE, {"sub": "x", "aud": "slipway"}, "checked of every token"),
        (ISSUER, "", {"sub": "x"}, "audience must have"),
        ("ci.example.com", AUDIENCE, {"sub": "x"}, "written like"),
        ("https://user@ci.example.com", AUDIENCE, {"sub": "x"}, "written like"),
        ("https://ci.example.com?x=1", AUDIENCE, {"sub": "x"}, "no query"),
        (GITHUB, AUDIENCE, {"ref": "refs/heads/main"}, "everybody's"),
        (GITHUB, AUDIENCE, {"repository": "acme*"}, "everybody's"),
        (GITHUB, AUDIENCE, {"repository": "*/web"}, "everybody's"),
        (GITHUB, AUDIENCE, {"sub": "repo:*"}, "everybody's"),
        (GITHUB, AUDIENCE, {"repository_owner_id": "12*"}, "everybody's"),
        ("https://gitlab.com", AUDIENCE, {"ref_protected": "true"}, "everybody's"),
    ],
)
def test_a_rule_that_could_let_in_anybody_is_refused(
    issuer: str, audience: str, claims: dict[str, str], says: str
) -> None:
    with pytest.raises(InvalidTrust, match=says):
        validate_rule(issuer, audience, claims)
