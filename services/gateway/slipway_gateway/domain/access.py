"""Who may do what: the one place that decides.

A request is allowed by what the token's scope covers, and what the principal may do now, and what the credential is bounded to.
Each of the three can only take away.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, IntEnum, StrEnum
from math import inf
from typing import Literal

from slipway_common.oci.names import RepositoryName
from slipway_gateway.domain.patterns import NamePattern, covers_namespace

Anonymous = Literal["nothing", "pull", "everything"]


class Action(StrEnum):
    """What can be done in a repository. The first three are the words of registry tokens."""

    PULL = "pull"
    PUSH = "push"
    DELETE = "delete"
    MAINTAIN = "maintain"
    ADMIN = "admin"


class Role(IntEnum):
    """What a grant gives; each includes those before it."""

    READER = 1
    WRITER = 2
    MAINTAINER = 3
    ADMIN = 4

    @property
    def word(self) -> str:
        return self.name.lower()


RoleName = Literal["reader", "writer", "maintainer", "admin"]

_NONE: frozenset[Action] = frozenset()
_PULL = frozenset({Action.PULL})
_ALL = frozenset(Action)
# What a registry token can speak of; the management of a repository takes another credential.
TOKEN_ACTIONS = frozenset({Action.PULL, Action.PUSH, Action.DELETE})
ROLE_ACTIONS: Mapping[Role, frozenset[Action]] = {
    Role.READER: _PULL,
    Role.WRITER: frozenset({Action.PULL, Action.PUSH}),
    Role.MAINTAINER: frozenset({Action.PULL, Action.PUSH, Action.MAINTAIN}),
    Role.ADMIN: _ALL,
}


def parse_role(text: RoleName) -> Role:
    return Role[text.upper()]


def actions_of(role: Role | None) -> frozenset[Action]:
    return ROLE_ACTIONS[role] if role is not None else _NONE


class Decision(Enum):
    ALLOW = "allow"
    LOGIN = "login"  # 401: nobody has said who they are
    SCOPE = "scope"  # 401: the token does not cover this
    DENY = "deny"  # 403: known, and without the right


# name -> actions that a token covers there
Scope = Mapping[str, frozenset[str]]


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a credential is good for at most; None: whatever its owner may do, or wherever."""

    actions: frozenset[Action] | None = None
    patterns: tuple[NamePattern, ...] | None = None

    @property
    def unlimited(self) -> bool:
        return self.actions is None and self.patterns is None

    def include(self, action: Action) -> bool:
        """Whether the credential may do this anywhere."""
        return self.actions is None or action in self.actions

    @property
    def regexes(self) -> list[str] | None:
        """The patterns as the database compares them."""
        return None if self.patterns is None else [pattern.regex for pattern in self.patterns]

    def allow(self, action: Action, name: str) -> bool:
        return self.include(action) and (
            self.patterns is None or any(pattern.matches(name) for pattern in self.patterns)
        )

    def allow_namespace(self, action: Action, namespace: str) -> bool:
        """Whether the credential may do this in all that a namespace can hold."""
        return self.include(action) and (
            self.patterns is None or any(covers_namespace(pattern, namespace) for pattern in self.patterns)
        )


UNBOUNDED = Bounds()


@dataclass(frozen=True, slots=True)
class Identity:
    """Who asks, by which credential, as far as the credential itself says.

    name, principal_id  None for those who did not log in
    credential_id       the access token or robot secret that was used, or that a bearer token was issued for
    credential_version  the version of the password that was used, likewise
    scope               what a bearer token covers; None for every other credential
    token_id            a bearer token's own id
    expires_at          when the credential ends, in Unix seconds
    """

    name: str | None
    principal_id: int | None = None
    credential_id: int | None = None
    credential_version: int | None = None
    scope: Scope | None = None
    token_id: str | None = None
    expires_at: float = inf

    @property
    def known(self) -> bool:
        return self.name is not None

    @property
    def actor(self) -> str:
        """How rows and events name whoever acts."""
        return self.name or "anonymous"


ANONYMOUS = Identity(name=None)


@dataclass(frozen=True, slots=True)
class Account:
    """Whoever is logged in, as of now, and what the credential is bounded to."""

    id: int
    name: str
    kind: str
    is_admin: bool
    bounds: Bounds = UNBOUNDED

    @property
    def is_robot(self) -> bool:
        return self.kind == "robot"


@dataclass(frozen=True, slots=True)
class Place:
    """What a repository's name stands for, and what the caller was granted there.

    visibility   None if there is no such repository
    role         the highest that any grant gives: on the repository, its namespace, or a pattern of its name
    own_name     the repository's name, where it is asked for by one that it had before
    """

    name: RepositoryName
    visibility: str | None
    role: Role | None
    own_name: RepositoryName | None = None


@dataclass(frozen=True, slots=True)
class AccessRules:
    """What the registry as a whole allows."""

    anonymous: Anonymous = "nothing"

    def rights(self, account: Account | None, place: Place) -> frozenset[Action]:
        """What the caller may do now in a repository, or could if it existed.

        Who could read or create it if it existed has that right on its name already: such a caller is told 404, others are not.
        """
        if self.anonymous == "everything":
            return _ALL
        open_to_all = _PULL if place.visibility == "public" or self.anonymous == "pull" else _NONE
        if account is None:
            return open_to_all
        granted = _ALL if account.is_admin else actions_of(place.role)
        if not account.bounds.unlimited:
            granted = frozenset(one for one in granted if account.bounds.allow(one, place.own_name or place.name))
        return granted | open_to_all

    def decide(
        self,
        account: Account | None,
        scope: Scope | None,
        action: Action,
        place: Place,
        *,
        at_least: Action | None = None,
    ) -> Decision:
        """Default deny: ALLOW only if the rights and the token's scope both say so.

        `at_least` is what a token must cover where that is less than the right.
        """
        if action in self.rights(account, place):
            return Decision.ALLOW if covers(scope, place.name, at_least or action) else Decision.SCOPE
        return Decision.DENY if account is not None else Decision.LOGIN

    def decide_namespace(self, account: Account | None, action: Action, namespace: str, role: Role | None) -> Decision:
        """The same for a namespace as a whole."""
        if self.anonymous == "everything":
            return Decision.ALLOW
        if account is None:
            return Decision.LOGIN
        granted = _ALL if account.is_admin else actions_of(role)
        allowed = action in granted and account.bounds.allow_namespace(action, namespace)
        return Decision.ALLOW if allowed else Decision.DENY

    def is_operator(self, account: Account | None) -> bool:
        """Whether the caller may manage the registry itself: an administrator, with a credential that nothing bounds."""
        return self.anonymous == "everything" or (account is not None and account.is_admin and account.bounds.unlimited)

    def may_read_all(self, account: Account | None) -> bool:
        """Whether every repository is readable, so that lists need no filter."""
        return self.anonymous != "nothing" or self.is_operator(account)

    def login_needed(self, account: Account | None) -> bool:
        """Whether `GET /v2/` must challenge: always without an identity, unless login is off altogether."""
        return account is None and self.anonymous != "everything"


def covers(scope: Scope | None, name: str, action: Action) -> bool:
    """Whether a token's scope includes an action; push includes pull, `*` includes everything that tokens speak of."""
    if scope is None:
        return True
    granted = scope.get(name, frozenset())
    return (
        action in granted
        or ("*" in granted and action in TOKEN_ACTIONS)
        or (action is Action.PULL and Action.PUSH in granted)
    )


def covers_word(scope: Scope | None, word: str) -> bool:
    """Whether a token's scope includes something that is no repository."""
    return scope is None or "*" in scope.get(word, frozenset())


def highest(roles: Iterable[int | None]) -> Role | None:
    found = [role for role in roles if role is not None]
    return Role(max(found)) if found else None
