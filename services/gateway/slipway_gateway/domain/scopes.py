"""Scopes of the token protocol: `repository:<name>:pull,push` (distribution: Token Scope Documentation)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from slipway_common.oci.names import InvalidName, RepositoryName, parse_repository_name

_ACTIONS = frozenset({"pull", "push", "delete", "*"})
MAX_SCOPES = 100


@dataclass(frozen=True, slots=True)
class RequestedScope:
    """What a client asks a token for."""

    name: RepositoryName
    actions: frozenset[str]


def parse_scopes(parameters: Iterable[str]) -> list[RequestedScope]:
    """Read `scope` parameters, each of which may hold several, separated by spaces.

    What is not a repository, or not an action, is left out: a token then does not cover it. At most 100 count.
    """
    texts = [text for parameter in parameters for text in parameter.split()]
    found = (parse_scope(text) for text in texts[:MAX_SCOPES])
    return [scope for scope in found if scope is not None]


def parse_scope(text: str) -> RequestedScope | None:
    kind, _, rest = text.partition(":")
    name, _, actions = rest.rpartition(":")
    if kind.partition("(")[0] != "repository":
        return None
    try:
        return RequestedScope(parse_repository_name(name), _ACTIONS.intersection(actions.split(",")))
    except InvalidName:
        return None


def render_scope(name: str, actions: Iterable[str]) -> str:
    return f"repository:{name}:{','.join(actions)}"
