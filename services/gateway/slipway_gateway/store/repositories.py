"""Rows of namespaces and repositories, and the lists of names."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import asyncpg

from slipway_common.database.pool import Database, database_errors
from slipway_common.database.queries import load_queries
from slipway_common.events.catalogue import RepositoryCreated, RepositoryRef
from slipway_common.events.event import NewEvent, repository_stream
from slipway_common.events.log import EventLog
from slipway_common.oci.names import RepositoryName, namespace_of

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
class ListedRepository:
    id: int
    name: RepositoryName
    visibility: str
    created_at: datetime


class RepositoryStore:
    def __init__(self, database: Database, log: EventLog) -> None:
        self._pool = database.pool
        self._log = log

    async def find(self, name: RepositoryName) -> Repository | None:
        with database_errors():
            row = await self._pool.fetchrow(_sql.find_repository, name)
        return Repository(**row) if row else None

    async def find_by_id(self, repository_id: int) -> Repository | None:
        with database_errors():
            row = await self._pool.fetchrow(_sql.find_repository_by_id, repository_id)
        return Repository(**row) if row else None

    async def ensure(self, name: RepositoryName, *, visibility: str, actor: str | None, request_id: str) -> Repository:
        """The repository of that name, created if need be; whoever creates it also writes the event."""
        with database_errors():
            while (found := await self.find(name)) is None:
                await self._create(name, visibility=visibility, actor=actor, request_id=request_id)
        return found

    async def _create(self, name: RepositoryName, *, visibility: str, actor: str | None, request_id: str) -> None:
        namespace = namespace_of(name)
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(_sql.ensure_namespace, namespace)
            row = await connection.fetchrow(_sql.insert_repository, namespace, name, visibility, actor)
            if row is None:
                return  # somebody else was first
            repository = Repository(**row)
            event = NewEvent.of(RepositoryCreated(repository=repository.ref, visibility=visibility), subject=name)
            await self._log.append(
                connection, repository_stream(repository.id), [event], actor=actor, request_id=request_id
            )

    async def list_by_name(self, *, after: str, limit: int, all_of_them: bool) -> list[ListedRepository]:
        """Repositories by name, in byte order; only public ones unless `all_of_them`."""
        with database_errors():
            rows = await self._pool.fetch(_sql.list_repositories, after, limit, all_of_them)
        return [ListedRepository(**row) for row in rows]

    async def list_by_id(self, *, after: int, limit: int) -> list[asyncpg.Record]:
        with database_errors():
            return await self._pool.fetch(_sql.list_repositories_by_id, after, limit)

    async def list_tags(self, repository_id: int, *, after: str, limit: int) -> list[str]:
        """Tags in byte order, above `after`."""
        with database_errors():
            return [row["name"] for row in await self._pool.fetch(_sql.list_tags, repository_id, after, limit)]
