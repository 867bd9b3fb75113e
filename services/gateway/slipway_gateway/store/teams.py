"""Rows of teams, and of who is in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from slipway_common.database.pool import Connection, Database, database_errors
from slipway_common.database.queries import load_queries

_sql = load_queries("slipway_gateway")

TeamRole = Literal["member", "maintainer"]


@dataclass(frozen=True, slots=True)
class Team:
    """`external_groups` are those of the OpenID provider whose users are members."""

    id: int
    name: str
    description: str
    external_groups: list[str]
    version: int
    created_at: datetime
    created_by: str | None


@dataclass(frozen=True, slots=True)
class TeamMember:
    """A user in a team. `source` is who put the user there: `manual` a person, `oidc` the provider's groups."""

    name: str
    role: TeamRole
    source: Literal["manual", "oidc"]
    added_at: datetime
    added_by: str | None


@dataclass(frozen=True, slots=True)
class GroupChanges:
    """Which teams a user came into and out of, by the provider's groups."""

    account: str
    joined: list[str]
    left: list[str]


class TeamStore:
    def __init__(self, database: Database) -> None:
        self._pool = database.pool

    async def find(self, name: str) -> Team | None:
        with database_errors():
            row = await self._pool.fetchrow(_sql.find_team, name)
        return Team(**row) if row else None

    async def find_role(self, team_id: int, principal_id: int) -> TeamRole | None:
        """The role of a member; None for who is none."""
        with database_errors():
            found: TeamRole | None = await self._pool.fetchval(_sql.find_team_role, team_id, principal_id)
        return found

    async def list_by_name(self, *, after: str, limit: int) -> list[Team]:
        with database_errors():
            rows = await self._pool.fetch(_sql.list_teams, after, limit)
        return [Team(**row) for row in rows]

    async def list_members(self, team_id: int, *, after: str, limit: int) -> list[TeamMember]:
        """Members by name."""
        with database_errors():
            rows = await self._pool.fetch(_sql.list_team_members, team_id, after, limit)
        return [TeamMember(**row) for row in rows]

    async def lock(self, connection: Connection, name: str) -> Team | None:
        row = await connection.fetchrow(_sql.lock_team, name)
        return Team(**row) if row else None

    async def insert(
        self, connection: Connection, name: str, *, description: str, external_groups: Sequence[str], actor: str | None
    ) -> Team | None:
        """None if there is one of that name already."""
        row = await connection.fetchrow(_sql.insert_team, name, description, external_groups, actor)
        return Team(**row) if row else None

    async def update(
        self, connection: Connection, team_id: int, *, version: int | None, values: Mapping[str, Any]
    ) -> Team | None:
        """Set what is in `values`; None if the version is another one."""
        row = await connection.fetchrow(
            _sql.update_team, team_id, version, values.get("description"), values.get("external_groups")
        )
        return Team(**row) if row else None

    async def delete(self, connection: Connection, team_id: int) -> None:
        await connection.execute(_sql.delete_team, team_id)

    async def find_user(self, connection: Connection, name: str) -> int | None:
        """The id of a user, who stays until the transaction ends."""
        found: int | None = await connection.fetchval(_sql.find_team_candidate, name)
        return found

    async def put_member(
        self, connection: Connection, team_id: int, user_id: int, role: TeamRole, *, actor: str | None
    ) -> tuple[TeamMember, bool]:
        """Give a user a role in a team; with whether that is new."""
        changed = await connection.fetchval(_sql.put_team_member, team_id, user_id, role, actor) is not None
        [row] = await connection.fetch(_sql.find_team_member, team_id, user_id)
        return TeamMember(**row), changed

    async def delete_member(self, connection: Connection, team_id: int, name: str) -> bool:
        """False if the user was no member."""
        return await connection.fetchval(_sql.delete_team_member, team_id, name) is not None

    async def delete_group_members(self, connection: Connection, team_id: int) -> list[str]:
        """Take out whomever the provider's groups put there; their names."""
        return sorted(row["name"] for row in await connection.fetch(_sql.delete_group_members, team_id))

    async def follow_groups(
        self, connection: Connection, user_id: int, groups: Sequence[str], *, actor: str | None
    ) -> GroupChanges | None:
        """Put a user into the teams of `groups`, and out of those that other groups led to; None if there is no such user."""
        account: str | None = await connection.fetchval(_sql.lock_group_member, user_id)
        if account is None:
            return None
        left = await connection.fetch(_sql.leave_teams_of_groups, user_id, groups)
        joined = await connection.fetch(_sql.join_teams_of_groups, user_id, groups, actor)
        return GroupChanges(account, sorted(row["name"] for row in joined), sorted(row["name"] for row in left))
