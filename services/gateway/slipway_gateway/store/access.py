"""What decides who may do what: whoever asks, what is at a name, and what was granted there; in one query."""

from __future__ import annotations

from dataclasses import dataclass, field

import asyncpg

from slipway_common.database.pool import Database, database_errors
from slipway_common.database.queries import load_queries
from slipway_common.oci.names import RepositoryName, namespace_of
from slipway_gateway.domain.access import Account, Action, Bounds, Identity, Place, Role
from slipway_gateway.domain.patterns import parse_pattern
from slipway_gateway.store.repositories import Repository

_sql = load_queries("slipway_gateway")


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the caller stands at a repository's name, at this moment.

    account     None for those who did not log in
    repository  None if there is none of that name
    place       what decides on the rights there
    basis       where this is remembered: as long as that is what is remembered of rights, it holds; None: nowhere
    """

    account: Account | None
    repository: Repository | None
    place: Place
    basis: object | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class NamespaceStanding:
    """The same for a namespace. `id` is None if there is none of that name."""

    id: int | None
    name: str
    role: Role | None


@dataclass(frozen=True, slots=True)
class ExplainedGrant:
    """One grant that reaches a principal at a name. `on` is `repository`, `namespace` or the pattern."""

    role: Role
    on: str
    team: str | None


class AccessStore:
    def __init__(self, database: Database) -> None:
        self._pool = database.pool

    async def find_standing(self, identity: Identity, name: RepositoryName, *, former_names: bool) -> Standing:
        """Where `identity` stands at `name`; without an account if it does not hold any more.

        `former_names`: a repository is found by a name that it had before, too.
        """
        with database_errors():
            [row] = await self._pool.fetch(_sql.find_standing, *_who(identity), name, namespace_of(name), former_names)
        found = row["repository_id"] is not None
        return Standing(
            account=_account(row, identity) if row["principal_id"] is not None else None,
            repository=Repository(row["repository_id"], row["repository"], row["visibility"]) if found else None,
            place=Place(
                name=name,
                visibility=row["visibility"],
                role=_role(row["role"]),
                own_name=row["repository"],
            ),
        )

    async def find_account(self, identity: Identity) -> Account | None:
        """Whoever is logged in, as of now; None if the login does not hold any more."""
        with database_errors():
            row = await self._pool.fetchrow(_sql.find_account, *_who(identity))
        return _account(row, identity) if row else None

    async def find_namespace_standing(self, account: Account | None, namespace: str) -> NamespaceStanding:
        with database_errors():
            row = await self._pool.fetchrow(_sql.find_namespace_standing, account.id if account else None, namespace)
        return NamespaceStanding(row["namespace_id"] if row else None, namespace, _role(row["role"]) if row else None)

    async def explain(
        self, principal_id: int, *, repository_id: int | None, namespace_id: int | None, name: str
    ) -> list[ExplainedGrant]:
        """Every grant that reaches the principal at `name`, the highest first."""
        with database_errors():
            rows = await self._pool.fetch(_sql.explain_grants, principal_id, repository_id, namespace_id, name)
        return [ExplainedGrant(Role(row["role"]), _object(row), row["team"]) for row in rows]


def _who(identity: Identity) -> tuple[int | None, int | None, int | None]:
    return identity.principal_id, identity.credential_version, identity.credential_id


def _account(row: asyncpg.Record, identity: Identity) -> Account | None:
    """None where the credential was taken back, or the name belongs to somebody else by now."""
    if row["principal"] != identity.name or row["credential_id"] != identity.credential_id:
        return None
    return Account(
        id=row["principal_id"],
        name=row["principal"],
        kind=row["kind"],
        is_admin=row["is_admin"],
        bounds=read_bounds(row["actions"], row["patterns"]),
    )


def read_bounds(actions: list[str] | None, patterns: list[str] | None) -> Bounds:
    return Bounds(
        actions=frozenset(map(Action, actions)) if actions is not None else None,
        patterns=tuple(map(parse_pattern, patterns)) if patterns is not None else None,
    )


def _role(rank: int | None) -> Role | None:
    return Role(rank) if rank is not None else None


def _object(row: asyncpg.Record) -> str:
    if row["pattern"] is not None:
        return str(row["pattern"])
    return "repository" if row["repository_id"] is not None else "namespace"
