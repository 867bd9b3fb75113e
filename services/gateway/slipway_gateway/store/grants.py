"""Rows of grants: who was given which role, on what."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Self

import asyncpg

from slipway_common.database.pool import Connection, Database, database_errors
from slipway_common.database.queries import load_queries
from slipway_gateway.domain.access import Role
from slipway_gateway.domain.patterns import NamePattern
from slipway_gateway.domain.principals import Subject, SubjectKind

_sql = load_queries("slipway_gateway")


@dataclass(frozen=True, slots=True)
class SubjectRow:
    """Whom a grant is for, by id: a user or robot, or a team."""

    principal_id: int | None = None
    team_id: int | None = None

    @classmethod
    def user(cls, principal_id: int) -> Self:
        return cls(principal_id=principal_id)

    @classmethod
    def team(cls, team_id: int) -> Self:
        return cls(team_id=team_id)


@dataclass(frozen=True, slots=True)
class Object:
    """What a grant is on: a repository, a namespace, or all names of a pattern."""

    repository_id: int | None = None
    namespace_id: int | None = None
    pattern: NamePattern | None = None

    @classmethod
    def repository(cls, repository_id: int) -> Self:
        return cls(repository_id=repository_id)

    @classmethod
    def namespace(cls, namespace_id: int) -> Self:
        return cls(namespace_id=namespace_id)

    @classmethod
    def names(cls, pattern: NamePattern) -> Self:
        return cls(pattern=pattern)


@dataclass(frozen=True, slots=True)
class Grant:
    """A grant as it is shown. `on` is `repository:acme/web`, `namespace:acme` or `pattern:acme/web-*`."""

    id: int
    subject: Subject
    on: str
    role: Role
    granted_at: datetime
    granted_by: str | None


class GrantStore:
    def __init__(self, database: Database) -> None:
        self._pool = database.pool

    async def find_subject(self, connection: Connection, subject: Subject) -> SubjectRow | None:
        """The row of a user, robot or team that exists."""
        statement = _sql.find_team_subject if subject.kind is SubjectKind.TEAM else _sql.find_principal_subject
        found = await connection.fetchval(statement, subject.name, str(subject.kind))
        if found is None:
            return None
        return SubjectRow.team(found) if subject.kind is SubjectKind.TEAM else SubjectRow.user(found)

    async def put(
        self, connection: Connection, subject: SubjectRow, on: Object, role: Role, *, actor: str | None
    ) -> Role | None:
        """Give a role, in place of the one before; the one before."""
        before: int | None = await connection.fetchval(_sql.find_grant_role, *_row(subject, on))
        pattern = on.pattern
        await connection.execute(
            _sql.put_grant, *_row(subject, on), pattern.regex if pattern else None, pattern.prefix if pattern else None,
            int(role), actor,
        )  # fmt: skip
        return Role(before) if before is not None else None

    async def take(self, connection: Connection, subject: SubjectRow, on: Object) -> Role | None:
        """Take a role away; None if there was none."""
        before: int | None = await connection.fetchval(_sql.take_grant, *_row(subject, on))
        return Role(before) if before is not None else None

    async def list_on_repository(self, repository_id: int, *, after: int, limit: int) -> list[Grant]:
        return await self._list(_sql.list_grants_on_repository, repository_id, after, limit)

    async def list_on_namespace(self, namespace_id: int, namespace: str, *, after: int, limit: int) -> list[Grant]:
        """Grants on the namespace as a whole, and on patterns of its names."""
        return await self._list(_sql.list_grants_on_namespace, namespace_id, f"{namespace}/", after, limit)

    async def list_patterns(self, *, after: int, limit: int) -> list[Grant]:
        """Grants on patterns, of whatever namespaces."""
        return await self._list(_sql.list_pattern_grants, after, limit)

    async def list_of_subject(self, subject: SubjectRow, *, after: int, limit: int) -> list[Grant]:
        return await self._list(_sql.list_grants_of_subject, subject.principal_id, subject.team_id, after, limit)

    async def _list(self, statement: str, *arguments: object) -> list[Grant]:
        with database_errors():
            rows = await self._pool.fetch(statement, *arguments)
        return [_grant(row) for row in rows]


def _row(subject: SubjectRow, on: Object) -> tuple[object, ...]:
    pattern = on.pattern.text if on.pattern is not None else None
    return subject.principal_id, subject.team_id, on.repository_id, on.namespace_id, pattern


def _grant(row: asyncpg.Record) -> Grant:
    return Grant(
        id=row["id"],
        subject=Subject(SubjectKind(row["subject_kind"]), row["subject"]),
        on=f"{row['object_kind']}:{row['object']}",
        role=Role(row["role"]),
        granted_at=row["granted_at"],
        granted_by=row["granted_by"],
    )
