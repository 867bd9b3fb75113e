"""Rows of namespaces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from slipway_common.database.pool import Connection, Database, database_errors
from slipway_common.database.queries import load_queries
from slipway_gateway.store.repositories import Readable

_sql = load_queries("slipway_gateway")


@dataclass(frozen=True, slots=True)
class Namespace:
    """The root namespace has the empty name.

    create_on_push      whether a first push makes a repository
    default_visibility  of repositories that do not say; None: as the registry's setting
    public_allowed      whether any repository in it may be public
    """

    id: int
    name: str
    description: str
    create_on_push: bool
    default_visibility: str | None
    public_allowed: bool
    version: int
    created_by: str | None


class NamespaceStore:
    def __init__(self, database: Database) -> None:
        self._pool = database.pool

    async def find(self, name: str) -> Namespace | None:
        with database_errors():
            row = await self._pool.fetchrow(_sql.find_namespace, name)
        return Namespace(**row) if row else None

    async def list_by_name(self, readable: Readable, *, after: str, limit: int) -> list[Namespace]:
        """Namespaces that somebody was granted anything in, by name; all for those who may read everything.

        A credential with bounds sees those with a repository within them.
        """
        with database_errors():
            rows = await (
                self._pool.fetch(_sql.list_all_namespaces, after, limit, readable.within)
                if readable.everything
                else self._pool.fetch(_sql.list_namespaces, after, limit, readable.within, readable.principal_id)
            )
        return [Namespace(**row) for row in rows]

    async def lock(self, connection: Connection, name: str) -> Namespace | None:
        """Lock a namespace against changes of its rules, until the transaction ends."""
        row = await connection.fetchrow(_sql.lock_namespace, name)
        return Namespace(**row) if row else None

    async def share(self, connection: Connection, name: str) -> Namespace | None:
        """The namespace with its rules, which stay as they are until the transaction ends."""
        row = await connection.fetchrow(_sql.share_namespace, name)
        return Namespace(**row) if row else None

    async def insert(self, connection: Connection, name: str, *, actor: str | None) -> Namespace | None:
        """None if there is one of that name already."""
        row = await connection.fetchrow(_sql.insert_namespace, name, actor)
        return Namespace(**row) if row else None

    async def update(
        self, connection: Connection, name: str, *, version: int | None, values: Mapping[str, Any]
    ) -> Namespace | None:
        """Set what is in `values`; None if the version is another one."""
        row = await connection.fetchrow(
            _sql.update_namespace, name, version, values.get("description"), values.get("create_on_push"),
            "default_visibility" in values, values.get("default_visibility"), values.get("public_allowed"),
        )  # fmt: skip
        return Namespace(**row) if row else None

    async def count_repositories(self, connection: Connection, namespace_id: int, *, public_only: bool = False) -> int:
        return int(await connection.fetchval(_sql.count_in_namespace, namespace_id, public_only))

    async def delete(self, connection: Connection, namespace: Namespace) -> None:
        """Take a namespace away, with its robots and grants: whoever makes one of that name begins with none.

        Repositories that were deleted in it keep its row, under a name that nobody can ask for.
        """
        await connection.execute(_sql.delete_robots_of, namespace.id)
        await connection.execute(_sql.delete_grants_on_namespace, namespace.id, f"{namespace.name}/")
        if await connection.fetchval(_sql.delete_namespace, namespace.id) is None:
            await connection.execute(_sql.bury_namespace, namespace.id)
