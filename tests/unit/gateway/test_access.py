"""The one place that decides: rights, roles, bounds and scopes as a table."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from slipway_common.oci.names import RepositoryName
from slipway_gateway.domain.access import (
    ROLE_ACTIONS,
    TOKEN_ACTIONS,
    UNBOUNDED,
    AccessRules,
    Account,
    Action,
    Bounds,
    Decision,
    Identity,
    Place,
    Role,
    RoleName,
    Scope,
    actions_of,
    covers,
    covers_word,
    highest,
    parse_role,
)
from slipway_gateway.domain.patterns import parse_pattern

NAME = RepositoryName("acme/app")
ALLOW, LOGIN, SCOPE, DENY = Decision.ALLOW, Decision.LOGIN, Decision.SCOPE, Decision.DENY
PULL, PUSH, DELETE, MAINTAIN, ADMINISTER = Action.PULL, Action.PUSH, Action.DELETE, Action.MAINTAIN, Action.ADMIN
VISIBILITIES = ("private", "public", None)
ROLES = (None, *Role)

EVE = Account(1, "eve", "user", is_admin=False)
ROBOT = Account(2, "acme+ci", "robot", is_admin=False)
ADMIN = Account(3, "admin", "user", is_admin=True)


def at(visibility: str | None = "private", role: Role | None = None, name: str = NAME) -> Place:
    return Place(RepositoryName(name), visibility, role)


def scope(*actions: str, name: str = NAME) -> Scope:
    return {name: frozenset(actions)}


def bounded(account: Account, *patterns: str, actions: frozenset[Action] | None = None) -> Account:
    return replace(account, bounds=Bounds(actions, tuple(map(parse_pattern, patterns)) if patterns else None))


# Who asks, with a token for what; the decision on pull, push and delete in a private, a public, a missing repository.
TABLE = [
    (None, None, (LOGIN, LOGIN, LOGIN), (ALLOW, LOGIN, LOGIN), (LOGIN, LOGIN, LOGIN)),
    (None, scope(), (LOGIN, LOGIN, LOGIN), (SCOPE, LOGIN, LOGIN), (LOGIN, LOGIN, LOGIN)),
    (None, scope("pull"), (LOGIN, LOGIN, LOGIN), (ALLOW, LOGIN, LOGIN), (LOGIN, LOGIN, LOGIN)),
    (None, scope("*"), (LOGIN, LOGIN, LOGIN), (ALLOW, LOGIN, LOGIN), (LOGIN, LOGIN, LOGIN)),
    (EVE, None, (DENY, DENY, DENY), (ALLOW, DENY, DENY), (DENY, DENY, DENY)),
    (EVE, scope("*"), (DENY, DENY, DENY), (ALLOW, DENY, DENY), (DENY, DENY, DENY)),
    (EVE, scope(), (DENY, DENY, DENY), (SCOPE, DENY, DENY), (DENY, DENY, DENY)),
    (ADMIN, None, (ALLOW, ALLOW, ALLOW), (ALLOW, ALLOW, ALLOW), (ALLOW, ALLOW, ALLOW)),
    (ADMIN, scope(), (SCOPE, SCOPE, SCOPE), (SCOPE, SCOPE, SCOPE), (SCOPE, SCOPE, SCOPE)),
    (ADMIN, scope("pull"), (ALLOW, SCOPE, SCOPE), (ALLOW, SCOPE, SCOPE), (ALLOW, SCOPE, SCOPE)),
    (ADMIN, scope("push"), (ALLOW, ALLOW, SCOPE), (ALLOW, ALLOW, SCOPE), (ALLOW, ALLOW, SCOPE)),
    (ADMIN, scope("delete"), (SCOPE, SCOPE, ALLOW), (SCOPE, SCOPE, ALLOW), (SCOPE, SCOPE, ALLOW)),
    (ADMIN, scope("*"), (ALLOW, ALLOW, ALLOW), (ALLOW, ALLOW, ALLOW), (ALLOW, ALLOW, ALLOW)),
    (ADMIN, scope("*", name="acme/another"), (SCOPE, SCOPE, SCOPE), (SCOPE, SCOPE, SCOPE), (SCOPE, SCOPE, SCOPE)),
]


@pytest.mark.parametrize(("account", "covered", "private", "public", "missing"), TABLE)
def test_decisions_where_nothing_is_granted_or_open_to_strangers(
    account: Account | None,
    covered: Scope | None,
    private: tuple[Decision, ...],
    public: tuple[Decision, ...],
    missing: tuple[Decision, ...],
) -> None:
    rules = AccessRules(anonymous="nothing")
    for visibility, expected in zip(VISIBILITIES, (private, public, missing), strict=True):
        decided = tuple(rules.decide(account, covered, action, at(visibility)) for action in (PULL, PUSH, DELETE))
        assert decided == expected


@pytest.mark.parametrize("account", [EVE, ROBOT])
@pytest.mark.parametrize(("role", "allowed"), [
    (None, set()),
    (Role.READER, {PULL}),
    (Role.WRITER, {PULL, PUSH}),
    (Role.MAINTAINER, {PULL, PUSH, MAINTAIN}),
    (Role.ADMIN, {PULL, PUSH, DELETE, MAINTAIN, ADMINISTER}),
])  # fmt: skip
def test_role_gives_what_it_says_and_nothing_else(account: Account, role: Role | None, allowed: set[Action]) -> None:
    rules = AccessRules()
    for action, visibility in itertools.product(Action, VISIBILITIES):
        wanted = allowed | ({PULL} if visibility == "public" else set())
        assert (rules.decide(account, None, action, at(visibility, role)) is ALLOW) == (action in wanted)
        assert (action in rules.rights(account, at(visibility, role))) == (action in wanted)


def test_each_role_includes_the_ones_before_it() -> None:
    for lower, higher in itertools.pairwise(Role):
        assert ROLE_ACTIONS[lower] < ROLE_ACTIONS[higher]
    assert ROLE_ACTIONS[Role.ADMIN] == frozenset(Action)


# Every combination, against the rule as it is written: scope and (role and bounds, or open to all).

BOUNDS = (
    UNBOUNDED,
    Bounds(frozenset({PULL}), None),
    Bounds(frozenset({PUSH, DELETE}), None),
    Bounds(frozenset(), None),
    Bounds(None, (parse_pattern("acme/*"),)),
    Bounds(None, (parse_pattern("else/**"), parse_pattern("**/app"))),
    Bounds(None, (parse_pattern("acme/app2"), parse_pattern("acme"))),
    Bounds(None, ()),
    Bounds(frozenset({PULL, ADMINISTER}), (parse_pattern("**"),)),
)
MATCHING = {UNBOUNDED, *BOUNDS[1:6], BOUNDS[8]}
SCOPES = (None, {}, scope("pull"), scope("push"), scope("delete"), scope("*"), scope("*", name="acme/other"))
COVERED = [
    {*Action}, set(), {PULL}, {PULL, PUSH}, {DELETE}, {PULL, PUSH, DELETE}, set(),
]  # fmt: skip


@pytest.mark.parametrize(("covered", "in_scope"), list(zip(SCOPES, COVERED, strict=True)))
@pytest.mark.parametrize("account", [EVE, ROBOT, ADMIN])
def test_right_takes_role_and_bounds_and_scope_together(
    account: Account, covered: Scope | None, in_scope: set[Action]
) -> None:
    rules = AccessRules()
    for bounds, role, visibility, action in itertools.product(BOUNDS, ROLES, VISIBILITIES, Action):
        granted = account.is_admin or (role is not None and action in ROLE_ACTIONS[role])
        within = bounds in MATCHING and (bounds.actions is None or action in bounds.actions)
        has_right = (granted and within) or (visibility == "public" and action is PULL)
        expected = DENY if not has_right else ALLOW if action in in_scope else SCOPE
        decided = rules.decide(replace(account, bounds=bounds), covered, action, at(visibility, role))
        assert decided is expected, (bounds, role, visibility, action)


def test_taking_away_any_part_never_allows_more() -> None:
    """Allowed with less scope, tighter bounds, a lower role, without the account: then allowed with them."""
    rules = AccessRules()
    for account, role, visibility, action in itertools.product((EVE, ROBOT, ADMIN), ROLES, VISIBILITIES, Action):
        full = rules.decide(account, None, action, at(visibility, role))
        lesser = [
            *(rules.decide(account, covered, action, at(visibility, role)) for covered in SCOPES),
            *(rules.decide(replace(account, bounds=one), None, action, at(visibility, role)) for one in BOUNDS),
            *(rules.decide(account, None, action, at(visibility, low)) for low in ROLES if (low or 0) <= (role or 0)),
            rules.decide(replace(account, is_admin=False), None, action, at(visibility, role)),
            rules.decide(None, None, action, at(visibility, role)),
        ]
        assert full is ALLOW or ALLOW not in lesser


def test_nobody_has_a_right_that_was_never_given() -> None:
    """Default deny, for every action there is: also for those that are added one day."""
    for visibility, action in itertools.product(("private", None), Action):
        for account in (EVE, ROBOT, bounded(ADMIN, "other/**"), bounded(ADMIN, actions=frozenset())):
            assert AccessRules().decide(account, None, action, at(visibility)) is DENY
        assert AccessRules().decide(None, None, action, at(visibility)) is LOGIN


def test_same_is_said_of_private_and_missing_to_all() -> None:
    rules = AccessRules()
    for account, covered, bounds, role, action in itertools.product(
        (None, EVE, ROBOT, ADMIN), SCOPES, BOUNDS, ROLES, Action
    ):
        asking = replace(account, bounds=bounds) if account is not None else None
        private = rules.decide(asking, covered, action, at("private", role))
        assert private is rules.decide(asking, covered, action, at(None, role))


def test_visibility_that_nobody_knows_opens_nothing() -> None:
    for visibility in ("", "PUBLIC", "internal", "public "):
        assert AccessRules().decide(EVE, None, PULL, at(visibility)) is DENY


# Tokens.


def test_token_never_covers_more_than_it_says_even_where_all_is_open() -> None:
    rules = AccessRules(anonymous="everything")
    assert rules.decide(EVE, scope("pull"), PUSH, at()) is SCOPE


def test_registry_token_is_no_credential_for_management() -> None:
    for action in (MAINTAIN, ADMINISTER):
        assert AccessRules().decide(ADMIN, scope("*"), action, at()) is SCOPE
        assert AccessRules().decide(EVE, scope("*"), action, at(role=Role.ADMIN)) is SCOPE


def test_less_scope_may_do_where_the_right_is_there() -> None:
    """A pull token of somebody who may push can ask how far an upload has come."""
    rules = AccessRules()
    assert rules.decide(ADMIN, scope("pull"), PUSH, at(), at_least=PULL) is ALLOW
    assert rules.decide(EVE, scope("pull"), PUSH, at(role=Role.WRITER), at_least=PULL) is ALLOW
    assert rules.decide(EVE, scope("pull"), PUSH, at("public"), at_least=PULL) is DENY
    assert rules.decide(bounded(ADMIN, actions=frozenset({PULL})), None, PUSH, at(), at_least=PULL) is DENY


def test_push_covers_pull_and_neither_covers_delete() -> None:
    assert covers({NAME: frozenset({"push"})}, NAME, PULL)
    assert not covers({NAME: frozenset({"pull", "push"})}, NAME, DELETE)
    assert not covers({NAME: frozenset({"delete"})}, NAME, PULL)
    assert covers(None, NAME, DELETE)
    assert not covers({}, NAME, PULL)


def test_star_covers_what_tokens_speak_of() -> None:
    covered = {action for action in Action if covers({NAME: frozenset({"*"})}, NAME, action)}
    assert covered == TOKEN_ACTIONS == {PULL, PUSH, DELETE}


def test_names_are_compared_whole() -> None:
    everything = {"acme/app": frozenset({"*"})}
    for other in ("acme", "acme/app2", "acme/app/x", "Acme/app", "acme/app/", ""):
        assert not covers(everything, other, PULL)


def test_word_beside_repositories_is_covered_by_a_star_only() -> None:
    assert covers_word(None, "registry:catalog")
    assert covers_word({"registry:catalog": frozenset({"*"})}, "registry:catalog")
    assert not covers_word({"registry:catalog": frozenset({"pull", "push"})}, "registry:catalog")
    assert not covers_word({}, "registry:catalog")
    assert not covers_word({NAME: frozenset({"*"})}, "registry:catalog")


# Bounds.


def test_bounds_without_any_pattern_or_action_are_not_the_same_as_none() -> None:
    assert UNBOUNDED.unlimited
    assert UNBOUNDED.regexes is None
    assert all(UNBOUNDED.include(action) for action in Action)
    assert [action for action in Action if Bounds(frozenset({PUSH})).include(action)] == [PUSH]
    for closed in (Bounds(actions=frozenset()), Bounds(patterns=())):
        assert not closed.unlimited
        assert not any(closed.allow(action, NAME) or closed.allow_namespace(action, "acme") for action in Action)
    assert Bounds(patterns=()).regexes == []


def test_bounds_speak_of_the_name_that_was_asked_for() -> None:
    writer = bounded(EVE, "acme/web-*")
    for name, decision in (("acme/web-1", ALLOW), ("acme/api", DENY), ("acme/web-1/x", DENY), ("x/acme/web-1", DENY)):
        assert AccessRules().decide(writer, None, PUSH, at(role=Role.WRITER, name=name)) is decision


def test_bounds_of_a_credential_close_no_public_repository() -> None:
    """What everybody may pull, a credential may too: it is no less than a stranger."""
    outside = bounded(EVE, "other/**", actions=frozenset({PUSH}))
    assert AccessRules().decide(outside, None, PULL, at("public")) is ALLOW
    assert AccessRules().decide(outside, None, PUSH, at("public", Role.ADMIN)) is DENY


@pytest.mark.parametrize("account", [
    EVE, ROBOT, None, bounded(ADMIN, "**"), bounded(ADMIN, actions=frozenset(Action)), bounded(ADMIN, "acme/**"),
])  # fmt: skip
def test_only_an_administrator_without_bounds_is_an_operator(account: Account | None) -> None:
    assert AccessRules().is_operator(ADMIN)
    for anonymous in ("nothing", "pull"):
        assert not AccessRules(anonymous).is_operator(account)  # type: ignore[arg-type]


def test_administrator_within_bounds_administers_there_alone() -> None:
    within = bounded(ADMIN, "acme/**")
    assert AccessRules().decide(within, None, ADMINISTER, at()) is ALLOW
    assert AccessRules().decide(within, None, PULL, at(name="other/app")) is DENY


# Namespaces.


@pytest.mark.parametrize("account", [EVE, ROBOT])
def test_namespace_is_its_role_holders(account: Account) -> None:
    rules = AccessRules()
    for role, action in itertools.product(ROLES, Action):
        expected = ALLOW if action in actions_of(role) else DENY
        assert rules.decide_namespace(account, action, "acme", role) is expected


def test_namespace_is_every_administrators() -> None:
    assert all(AccessRules().decide_namespace(ADMIN, action, "acme", None) is ALLOW for action in Action)


@pytest.mark.parametrize("anonymous", ["nothing", "pull"])
def test_namespace_is_no_strangers_whatever_may_be_pulled(anonymous: str) -> None:
    rules = AccessRules(anonymous)  # type: ignore[arg-type]
    for role, action in itertools.product(ROLES, Action):
        assert rules.decide_namespace(None, action, "acme", role) is LOGIN


@pytest.mark.parametrize(("patterns", "expected"), [
    (["acme/**"], ALLOW), (["**"], ALLOW), (["other/**", "acme/**"], ALLOW),
    (["acme/*"], DENY), (["acme/web-**"], DENY), (["*/**"], DENY), (["acme"], DENY), (["acme2/**"], DENY),
    (["acm/**"], DENY), (["acme/a**", "acme/**b"], DENY),
])  # fmt: skip
def test_credential_manages_a_namespace_only_if_it_reaches_all_of_it(patterns: list[str], expected: Decision) -> None:
    for account in (bounded(ADMIN, *patterns), bounded(EVE, *patterns)):
        assert AccessRules().decide_namespace(account, ADMINISTER, "acme", Role.ADMIN) is expected


def test_credential_does_in_a_namespace_what_its_actions_allow() -> None:
    reading = bounded(ADMIN, actions=frozenset({PULL}))
    assert AccessRules().decide_namespace(reading, PULL, "acme", None) is ALLOW
    assert AccessRules().decide_namespace(reading, ADMINISTER, "acme", Role.ADMIN) is DENY


# What the registry as a whole allows.


def test_anonymous_pull_opens_reading_only() -> None:
    rules = AccessRules(anonymous="pull")
    for visibility in VISIBILITIES:
        assert rules.decide(None, None, PULL, at(visibility)) is ALLOW
        assert rules.decide(EVE, None, PULL, at(visibility)) is ALLOW
        assert rules.decide(None, None, PUSH, at(visibility)) is LOGIN
        assert rules.decide(EVE, None, DELETE, at(visibility)) is DENY
    assert rules.login_needed(None)


def test_anonymous_everything_opens_everything() -> None:
    rules = AccessRules(anonymous="everything")
    tight = bounded(EVE, "nothing/at-all", actions=frozenset())
    for account, action, visibility in itertools.product((None, EVE, ROBOT, ADMIN, tight), Action, VISIBILITIES):
        assert rules.decide(account, None, action, at(visibility)) is ALLOW
        assert rules.decide_namespace(account, action, "acme", None) is ALLOW
        assert rules.is_operator(account)
    assert not rules.login_needed(None)


def test_login_is_needed_by_those_who_did_not() -> None:
    assert AccessRules().login_needed(None)
    assert not AccessRules().login_needed(EVE)


def test_who_may_read_all_is_who_may_read_each() -> None:
    assert AccessRules().may_read_all(ADMIN)
    assert not AccessRules().may_read_all(EVE)
    assert not AccessRules().may_read_all(None)
    assert not AccessRules().may_read_all(bounded(ADMIN, "acme/**"))
    assert AccessRules(anonymous="pull").may_read_all(None)
    assert AccessRules(anonymous="everything").may_read_all(None)


# Roles and names.


def test_roles_are_written_as_words() -> None:
    words: list[RoleName] = ["reader", "writer", "maintainer", "admin"]
    assert [parse_role(word) for word in words] == list(Role)
    assert [role.word for role in Role] == words


def test_highest_of_many_grants_counts() -> None:
    assert highest([1, None, 3, 2]) is Role.MAINTAINER
    assert highest([None]) is None
    assert highest([]) is None


def test_stranger_is_written_anonymous() -> None:
    assert Identity(None).actor == "anonymous"
    assert not Identity(None).known
    assert Identity("eve", 1).actor == "eve"
    assert ROBOT.is_robot
    assert not EVE.is_robot
