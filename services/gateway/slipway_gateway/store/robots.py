"""Rows of robots, of their secrets as they are shown, and of the CI systems whose tokens stand for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg
import orjson

from slipway_common.database.pool import Connection, Database, database_errors
from slipway_common.database.queries import load_queries
from slipway_gateway.store.credentials import CredentialRow
from slipway_gateway.store.repositories import Repository

_sql = load_queries("slipway_gateway")

_MAX_SECRETS_SHOWN = 100


@dataclass(frozen=True, slots=True)
class Robot:
    """A login for programs. `name` is the full one, `acme+ci`."""

    id: int
    name: str
    namespace_id: int
    description: str
    disabled: bool
    version: int
    created_at: datetime
    created_by: str | None


@dataclass(frozen=True, slots=True)
class NewTrust:
    """Whose tokens shall stand for a robot: an issuer's, for an audience, with claims that fit their patterns."""

    name: str
    issuer: str
    audience: str
    claims: Mapping[str, str]
    life_s: int


@dataclass(frozen=True, slots=True)
class RobotTrust:
    """The same as it stands, with the robot that it is for."""

    id: int
    robot_id: int
    robot: str
    name: str
    issuer: str
    audience: str
    claims: Mapping[str, str]
    life_s: int
    created_at: datetime
    created_by: str | None


class RobotStore:
    def __init__(self, database: Database) -> None:
        self._pool = database.pool

    async def find(self, name: str) -> Robot | None:
        with database_errors():
            row = await self._pool.fetchrow(_sql.find_robot, name)
        return Robot(**row) if row else None

    async def list_by_name(self, namespace_id: int, *, after: str, limit: int) -> list[Robot]:
        """Robots of a namespace."""
        with database_errors():
            rows = await self._pool.fetch(_sql.list_robots, namespace_id, after, limit)
        return [Robot(**row) for row in rows]

    async def list_secrets(self, robot_id: int) -> list[CredentialRow]:
        """What the robot logs in with: what people made, and then what CI systems hold at this moment."""
        with database_errors():
            rows = await self._pool.fetch(_sql.list_robot_secrets, robot_id, _MAX_SECRETS_SHOWN)
        return [CredentialRow(**row) for row in rows]

    async def hold_namespace(self, connection: Connection, name: str) -> int | None:
        """The id of a namespace, which stays until the transaction ends."""
        found: int | None = await connection.fetchval(_sql.hold_namespace, name)
        return found

    async def hold_repositories(
        self, connection: Connection, namespace_id: int, names: Sequence[str]
    ) -> list[Repository]:
        """Those of `names` that are repositories of the namespace, and will be until the transaction ends."""
        rows = await connection.fetch(_sql.hold_repositories, namespace_id, names)
        return [Repository(**row) for row in rows]

    async def lock(self, connection: Connection, name: str) -> Robot | None:
        row = await connection.fetchrow(_sql.lock_robot, name)
        return Robot(**row) if row else None

    async def insert(
        self, connection: Connection, name: str, *, namespace_id: int, description: str, actor: str | None
    ) -> Robot | None:
        """None if there is one of that name already."""
        row = await connection.fetchrow(_sql.insert_robot, name, namespace_id, description, actor)
        return Robot(**row) if row else None

    async def update(
        self, connection: Connection, robot_id: int, *, version: int | None, values: Mapping[str, Any]
    ) -> Robot | None:
        """Set what is in `values`; None if the version is another one."""
        row = await connection.fetchrow(
            _sql.update_robot, robot_id, version, values.get("description"), values.get("disabled")
        )
        return Robot(**row) if row else None

    async def delete(self, connection: Connection, robot_id: int) -> None:
        """With its secrets, grants and trusts."""
        await connection.execute(_sql.delete_robot, robot_id)

    async def list_trusts(self, robot_id: int, *, limit: int) -> list[RobotTrust]:
        return await self._list_trusts(_sql.list_trusts, robot_id, limit)

    async def list_trusts_of_living(self, robot: str, *, limit: int) -> list[RobotTrust]:
        """Those of a robot that may log in; none for any other name."""
        return await self._list_trusts(_sql.list_trusts_of_living_robot, robot, limit)

    async def list_trusts_in_issuer(self, issuer: str, *, limit: int) -> list[RobotTrust]:
        """Those of every robot that may log in, in tokens of that issuer."""
        return await self._list_trusts(_sql.list_trusts_in_issuer, issuer, limit)

    async def _list_trusts(self, statement: str, *arguments: object) -> list[RobotTrust]:
        with database_errors():
            rows = await self._pool.fetch(statement, *arguments)
        return [_trust(row) for row in rows]

    async def find_trust(self, connection: Connection, robot_id: int, trust_id: int) -> RobotTrust | None:
        row = await connection.fetchrow(_sql.find_trust, robot_id, trust_id)
        return _trust(row) if row else None

    async def count_trusts(self, connection: Connection, robot_id: int) -> int:
        return int(await connection.fetchval(_sql.count_trusts, robot_id))

    async def insert_trust(
        self, connection: Connection, robot_id: int, new: NewTrust, *, actor: str | None
    ) -> RobotTrust | None:
        """None if the robot has one of that name already."""
        made = await connection.fetchval(
            _sql.insert_trust, robot_id, new.name, new.issuer, new.audience,
            orjson.dumps(dict(new.claims)).decode(), new.life_s, actor,
        )  # fmt: skip
        return await self.find_trust(connection, robot_id, made) if made is not None else None

    async def delete_trust(self, connection: Connection, trust: RobotTrust) -> None:
        """With the secrets that were had for it."""
        await connection.execute(_sql.delete_trust, trust.id)
        await connection.execute(_sql.delete_secrets_of_trust, trust.robot_id, trust.name)


def _trust(row: asyncpg.Record) -> RobotTrust:
    return RobotTrust(**{**row, "claims": orjson.loads(row["claims"])})
