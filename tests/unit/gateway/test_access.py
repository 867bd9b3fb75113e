"""The one place that decides: rights and scopes as a table."""

from __future__ import annotations

import itertools

import pytest

from slipway_common.oci.names import RepositoryName
from slipway_gateway.domain.access import ANONYMOUS, AccessRules, Action, Decision, Identity, covers

NAME = RepositoryName("acme/app")
ALLOW, LOGIN, SCOPE, DENY = Decision.ALLOW, Decision.LOGIN, Decision.SCOPE, Decision.DENY
PULL, PUSH, DELETE = Action.PULL, Action.PUSH, Action.DELETE

EVE = Identity("eve")
ADMIN = Identity("admin", is_admin=True)


def token(name: str | None, *actions: str, is_admin: bool = False, repository: str = NAME) -> Identity:
    return Identity(name, is_admin=is_admin, scope={repository: frozenset(actions)})


# caller, (private: pull push delete), (public: pull push delete), (missing: pull push delete)
TABLE = [
    (ANONYMOUS, (LOGIN, LOGIN, LOGIN), (ALLOW, LOGIN, LOGIN), (LOGIN, LOGIN, LOGIN)),
    (token(None), (LOGIN, LOGIN, LOGIN), (SCOPE, LOGIN, LOGIN), (LOGIN, LOGIN, LOGIN)),
    (token(None, "pull"), (LOGIN, LOGIN, LOGIN), (ALLOW, LOGIN, LOGIN), (LOGIN, LOGIN, LOGIN)),
    (token(None, "*"), (LOGIN, LOGIN, LOGIN), (ALLOW, LOGIN, LOGIN), (LOGIN, LOGIN, LOGIN)),
    (EVE, (DENY, DENY, DENY), (ALLOW, DENY, DENY), (DENY, DENY, DENY)),
    (token("eve", "*"), (DENY, DENY, DENY), (ALLOW, DENY, DENY), (DENY, DENY, DENY)),
    (token("eve"), (DENY, DENY, DENY), (SCOPE, DENY, DENY), (DENY, DENY, DENY)),
    (ADMIN, (ALLOW, ALLOW, ALLOW), (ALLOW, ALLOW, ALLOW), (ALLOW, ALLOW, ALLOW)),
    (token("admin", is_admin=True), (SCOPE, SCOPE, SCOPE), (SCOPE, SCOPE, SCOPE), (SCOPE, SCOPE, SCOPE)),
    (token("admin", "pull", is_admin=True), (ALLOW, SCOPE, SCOPE), (ALLOW, SCOPE, SCOPE), (ALLOW, SCOPE, SCOPE)),
    (token("admin", "push", is_admin=True), (ALLOW, ALLOW, SCOPE), (ALLOW, ALLOW, SCOPE), (ALLOW, ALLOW, SCOPE)),
    (token("admin", "delete", is_admin=True), (SCOPE, SCOPE, ALLOW), (SCOPE, SCOPE, ALLOW), (SCOPE, SCOPE, ALLOW)),
    (token("admin", "*", is_admin=True), (ALLOW, ALLOW, ALLOW), (ALLOW, ALLOW, ALLOW), (ALLOW, ALLOW, ALLOW)),
    (
        token("admin", "*", is_admin=True, repository="acme/another"),
        (SCOPE, SCOPE, SCOPE),
        (SCOPE, SCOPE, SCOPE),
        (SCOPE, SCOPE, SCOPE),
    ),
]


@pytest.mark.parametrize(("identity", "private", "public", "missing"), TABLE)
def test_decisions_where_nothing_is_open_to_strangers(
    identity: Identity, private: tuple[Decision, ...], public: tuple[Decision, ...], missing: tuple[Decision, ...]
) -> None:
    rules = AccessRules(anonymous="nothing")
    for visibility, expected in (("private", private), ("public", public), (None, missing)):
        assert tuple(rules.decide(identity, action, NAME, visibility) for action in (PULL, PUSH, DELETE)) == expected


def test_anonymous_pull_opens_reading_only() -> None:
    rules = AccessRules(anonymous="pull")
    for visibility in ("private", "public", None):
        assert rules.decide(ANONYMOUS, PULL, NAME, visibility) is ALLOW
        assert rules.decide(EVE, PULL, NAME, visibility) is ALLOW
        assert rules.decide(ANONYMOUS, PUSH, NAME, visibility) is LOGIN
        assert rules.decide(EVE, DELETE, NAME, visibility) is DENY
    assert rules.login_needed(ANONYMOUS)


def test_anonymous_everything_opens_everything() -> None:
    rules = AccessRules(anonymous="everything")
    for identity, action, visibility in itertools.product((ANONYMOUS, EVE, ADMIN), Action, ("private", "public", None)):
        assert rules.decide(identity, action, NAME, visibility) is ALLOW
    assert not rules.login_needed(ANONYMOUS)


def test_token_never_covers_more_than_it_says_even_where_all_is_open() -> None:
    rules = AccessRules(anonymous="everything")
    assert rules.decide(token("eve", "pull"), PUSH, NAME, "private") is SCOPE


def test_same_is_said_of_private_and_missing_to_all_but_those_who_could_read() -> None:
    for identity, action in itertools.product([row[0] for row in TABLE], Action):
        rules = AccessRules()
        assert rules.decide(identity, action, NAME, "private") is rules.decide(identity, action, NAME, None)


def test_taking_away_any_part_never_allows_more() -> None:
    """Allowed with less scope, without the account, or without rights means allowed with them."""
    rules = AccessRules()
    for actions, action, visibility in itertools.product(
        [(), ("pull",), ("push",), ("delete",), ("pull", "push")], Action, ("private", "public", None)
    ):
        full = rules.decide(ADMIN, action, NAME, visibility)
        for lesser in (token("admin", *actions, is_admin=True), token("eve", *actions), token(None, *actions)):
            if rules.decide(lesser, action, NAME, visibility) is ALLOW:
                assert full is ALLOW


def test_less_scope_may_do_where_the_right_is_there() -> None:
    """A pull token of somebody who may push can ask how far an upload has come."""
    rules = AccessRules()
    puller = token("admin", "pull", is_admin=True)
    assert rules.decide(puller, PUSH, NAME, "private", scope=PULL) is ALLOW
    assert rules.decide(token("eve", "pull"), PUSH, NAME, "public", scope=PULL) is DENY


def test_push_covers_pull_and_neither_covers_delete() -> None:
    assert covers({NAME: frozenset({"push"})}, NAME, PULL)
    assert not covers({NAME: frozenset({"pull", "push"})}, NAME, DELETE)
    assert not covers({NAME: frozenset({"delete"})}, NAME, PULL)
    assert covers(None, NAME, DELETE)
    assert not covers({}, NAME, PULL)


def test_names_are_compared_whole() -> None:
    scope = {"acme/app": frozenset({"*"})}
    for other in ("acme", "acme/app2", "acme/app/x", "Acme/app", "acme/app/", ""):
        assert not covers(scope, other, PULL)


def test_who_may_read_all_is_who_may_read_each() -> None:
    assert AccessRules().may_read_all(ADMIN)
    assert not AccessRules().may_read_all(EVE)
    assert AccessRules(anonymous="pull").may_read_all(ANONYMOUS)
