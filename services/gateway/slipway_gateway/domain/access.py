"""Who may do what: the one place that decides.

A request is allowed by what the token's scope covers, and what the principal may do now, and what the registry allows to
those who did not log in. Each of the three can only take away.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from math import inf
from typing import Literal

from slipway_common.oci.names import RepositoryName

Anonymous = Literal["nothing", "pull", "everything"]


class Action(StrEnum):
    """What can be done in a repository. The values are the words of registry tokens."""

    PULL = "pull"
    PUSH = "push"
    DELETE = "delete"


class Decision(Enum):
    ALLOW = "allow"
    LOGIN = "login"  # 401: nobody has said who they are
    SCOPE = "scope"  # 401: the token does not cover this
    DENY = "deny"  # 403: known, and without the right


# name -> actions that a token covers there
Scope = Mapping[str, frozenset[str]]


@dataclass(frozen=True, slots=True)
class Identity:
    """Who asks, by which credential.

    name        None for those who did not log in
    scope       what a bearer token covers; None for a password, which covers whatever its owner may do
    expires_at  when the credential ends, in Unix seconds
    """

    name: str | None
    is_admin: bool = False
    scope: Scope | None = None
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
class AccessRules:
    """What the registry as a whole allows."""

    anonymous: Anonymous = "nothing"

    def rights(self, identity: Identity, visibility: str | None) -> frozenset[Action]:
        """What `identity` may do now in a repository; `visibility` is None for one that does not exist.

        Who could read or create it if it existed has that right on its name already: such a caller is told 404, others are not.
        """
        if identity.is_admin or self.anonymous == "everything":
            return _ALL
        if visibility == "public" or self.anonymous == "pull":
            return _PULL
        return _NONE

    def decide(
        self,
        identity: Identity,
        action: Action,
        name: RepositoryName,
        visibility: str | None,
        *,
        scope: Action | None = None,
    ) -> Decision:
        """Default deny: ALLOW only if the rights and the token's scope both say so.

        `scope` is what a token must cover where that is less than the right.
        """
        if action in self.rights(identity, visibility):
            return Decision.ALLOW if covers(identity.scope, name, scope or action) else Decision.SCOPE
        return Decision.DENY if identity.known else Decision.LOGIN

    def may_push(self, identity: Identity, name: RepositoryName, visibility: str | None) -> bool:
        """Whether this very credential can push here: then what it is told about content holds for the length of a lease."""
        return self.decide(identity, Action.PUSH, name, visibility) is Decision.ALLOW

    def may_read_all(self, identity: Identity) -> bool:
        """Whether every repository is readable, so that lists need no filter."""
        return identity.is_admin or self.anonymous != "nothing"

    def login_needed(self, identity: Identity) -> bool:
        """Whether `GET /v2/` must challenge: always without an identity, unless login is off altogether."""
        return not identity.known and self.anonymous != "everything"


_ALL = frozenset(Action)
_PULL = frozenset({Action.PULL})
_NONE: frozenset[Action] = frozenset()


def covers(scope: Scope | None, name: str, action: Action) -> bool:
    """Whether a token's scope includes an action; push includes pull, `*` includes everything."""
    if scope is None:
        return True
    granted = scope.get(name, frozenset())
    return action in granted or "*" in granted or (action is Action.PULL and Action.PUSH in granted)
