"""Names of those who may be given rights: users, robots, teams."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from slipway_common.errors import InvalidInput
from slipway_common.oci.names import MAX_NAME_LENGTH, InvalidName, parse_repository_name

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
# Words that would be read as something else where a name is expected.
_RESERVED = frozenset({"anonymous", "system", "service"})
ROOT_NAMESPACE = "_"


class InvalidPrincipal(InvalidInput):
    """Not a name that a user, robot or team can have."""


class SubjectKind(StrEnum):
    USER = "user"
    ROBOT = "robot"
    TEAM = "team"


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom a grant is for, written `user:alice`, `robot:acme+ci`, `team:platform`."""

    kind: SubjectKind
    name: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"


def parse_account_name(text: str) -> str:
    """A user's or a team's name. Raises InvalidPrincipal."""
    if not _NAME.fullmatch(text) or text in _RESERVED:
        raise InvalidPrincipal(
            "a name is 1 to 64 lower-case letters, digits and . _ - between them, and none of "
            + ", ".join(sorted(_RESERVED)),
            name=text[:64],
        )
    return text


def parse_robot_name(text: str) -> tuple[str, str]:
    """A robot's full name, `<namespace>+<name>`: its two parts. Raises InvalidPrincipal."""
    namespace, plus, name = text.partition("+")
    if not plus:
        raise InvalidPrincipal("a robot's name is written <namespace>+<name>", name=text[:128])
    return parse_namespace(namespace), parse_account_name(name)


def robot_name(namespace: str, name: str) -> str:
    return f"{namespace}+{name}"


def parse_namespace(text: str) -> str:
    """A namespace's name: one component of a repository name. Raises InvalidPrincipal."""
    try:
        name = parse_repository_name(text)
    except InvalidName as exc:
        raise InvalidPrincipal(
            "a namespace is one component of a repository name", name=text[:MAX_NAME_LENGTH]
        ) from exc
    if "/" in name:
        raise InvalidPrincipal("a namespace is the first component of a name, without slashes", name=text)
    return name


def parse_subject(text: str) -> Subject:
    """Raise InvalidPrincipal unless `text` names a user, a robot or a team."""
    kind_text, colon, name = text.partition(":")
    if not colon or kind_text not in list(SubjectKind):
        raise InvalidPrincipal("write user:NAME, robot:NAMESPACE+NAME or team:NAME", subject=text[:128])
    kind = SubjectKind(kind_text)
    if kind is SubjectKind.ROBOT:
        return Subject(kind, robot_name(*parse_robot_name(name)))
    return Subject(kind, parse_account_name(name))
