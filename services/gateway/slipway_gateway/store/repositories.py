"""Rows of repositories and of the names they had, and the lists of names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import orjson

from slipway_common.database.pool import Connection, Database, database_errors
from slipway_common.database.queries import load_queries
from slipway_common.events.catalogue import RepositoryRef
from slipway_common.oci.names import RepositoryName, namespace_of
from slipway_gateway.domain.access import AccessRules, Account, Action

_sql = load_queries("slipway_gateway")


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository that exists."""

    id: int
    name: RepositoryName
    visibility: str

    @property
    def ref(self) -> RepositoryRef:
        """How events name it."""
        return RepositoryRef(id=self.id, name=self.name, namespace=namespace_of(self.name))


@dataclass(frozen=True, slots=True)
class RepositoryDetails:
    """A repository with all that its owner may set."""

    id: int
    name: RepositoryName
    visibility: str
    kind: str
    description: str
    labels: Mapping[str, str]
    version: int
    created_at: datetime
    created_by: str | None
    updated_at: datetime

    @property
    def ref(self) -> RepositoryRef:
        return RepositoryRef(id=self.id, name=self.name, namespace=namespace_of(self.name))


@dataclass(frozen=True, slots=True)
class NewRepository:
    name: RepositoryName
    visibility: str
    kind: str = "package"
    description: str = ""
    labels: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Readable:
    """Which repositories somebody may read: all, or public ones and those of a principal's grants; `within` bounds the latter."""

    everything: bool
    principal_id: int | None
    within: Sequence[str] | None


@dataclass(frozen=True, slots=True)
class RepositoryFilter:
    namespace: str | None = None
    visibility: str | None = None
    kind: str | None = None
    contains: str | None = None


NO_FILTER = RepositoryFilter()


def readable_by(rules: AccessRules, account: Account | None) -> Readable:
    """Whom a list is for. A credential that pulls nowhere sees what everybody sees."""
    if account is None or not account.bounds.include(Action.PULL):
        return Readable(rules.may_read_all(None), None, None)
    everything = account.is_admin or rules.may_read_all(account)
    return Readable(everything, account.id, account.bounds.regexes if rules.anonymous == "nothing" else None)


class RepositoryStore:
    def __init__(self, database: Database) -> None:
        self._pool = database.pool

    async def find_by_id(self, repository_id: int) -> Repository | None:
        with database_errors():
            row = await self._pool.fetchrow(_sql.find_repository_by_id, repository_id)
        return Repository(**row) if row else None

    async def find_details(self, repository_id: int) -> RepositoryDetails | None:
        with database_errors():
            row = await self._pool.fetchrow(_sql.find_repository_details, repository_id)
        return _details(row) if row else None

    async def find_last_of_name(self, name: str) -> int | None:
        """The id of the repository of that name, or of the last one that was deleted under it."""
        with database_errors():
            found: int | None = await self._pool.fetchval(_sql.find_last_of_name, name)
        return found

    async def find_by_name(self, connection: Connection, name: str) -> Repository | None:
        row = await connection.fetchrow(_sql.find_repository_by_name, name)
        return Repository(**row) if row else None

    async def insert(
        self, connection: Connection, namespace_id: int, new: NewRepository, *, actor: str | None
    ) -> RepositoryDetails | None:
        """None if there is one of that name already. The name leads nowhere else any more."""
        row = await connection.fetchrow(
            _sql.insert_repository, namespace_id, new.name, new.visibility, new.kind, new.description,
            orjson.dumps(dict(new.labels or {})).decode(), actor,
        )  # fmt: skip
        if row is None:
            return None
        await connection.execute(_sql.delete_alias, new.name)
        return _details(row)

    async def lock(self, connection: Connection, repository_id: int) -> RepositoryDetails | None:
        """Lock a repository against everybody who writes in it, until the transaction ends."""
        await connection.fetchval(_sql.lock_repository, repository_id)
        row = await connection.fetchrow(_sql.find_repository_details, repository_id)
        return _details(row) if row else None

    async def update(
        self, connection: Connection, repository_id: int, *, version: int | None, values: Mapping[str, Any]
    ) -> RepositoryDetails | None:
        """Set what is in `values`; None if the version is another one."""
        labels = values.get("labels")
        row = await connection.fetchrow(
            _sql.update_repository, repository_id, version, values.get("name"), values.get("namespace_id"),
            values.get("visibility"), values.get("kind"), values.get("description"),
            orjson.dumps(labels).decode() if labels is not None else None,
        )  # fmt: skip
        return _details(row) if row else None

    async def add_alias(self, connection: Connection, name: str, repository_id: int, *, life: timedelta) -> None:
        """Let a former name lead to the repository for a while."""
        await connection.execute(_sql.upsert_alias, name, repository_id, life)

    async def drop_alias(self, connection: Connection, name: str) -> None:
        await connection.execute(_sql.delete_alias, name)

    async def delete(self, connection: Connection, repository_id: int) -> None:
        await connection.execute(_sql.delete_aliases_of, repository_id)
        await connection.execute(_sql.trash_repository, repository_id)

    async def list_by_name(
        self, readable: Readable, *, after: str, limit: int, wanted: RepositoryFilter = NO_FILTER
    ) -> list[RepositoryDetails]:
        """Repositories that somebody may read, by name, in byte order."""
        arguments = (
            after, limit, readable.principal_id, readable.within,
            wanted.namespace, wanted.visibility, wanted.kind, wanted.contains,
        )  # fmt: skip
        statement = _sql.list_all_repositories if readable.everything else _sql.list_repositories
        with database_errors():
            rows = await self._pool.fetch(statement, *arguments)
        return [_details(row) for row in rows]

    async def list_by_id(self, *, after: int, limit: int) -> list[asyncpg.Record]:
        with database_errors():
            return await self._pool.fetch(_sql.list_repositories_by_id, after, limit)

    async def list_tags(self, repository_id: int, *, after: str, limit: int) -> list[str]:
        """Tags in byte order, above `after`."""
        with database_errors():
            return [row["name"] for row in await self._pool.fetch(_sql.list_tags, repository_id, after, limit)]

    async def trim_aliases(self) -> None:
        """Forget former names whose time is over."""
        with database_errors():
            await self._pool.execute(_sql.trim_aliases)


def _details(row: asyncpg.Record) -> RepositoryDetails:
    return RepositoryDetails(**{**row, "labels": orjson.loads(row["labels"])})
