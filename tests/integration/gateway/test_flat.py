"""What a request reads in the database is what concerns its caller, however much of others there is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any

import asyncpg
import orjson
import pytest

from bench.installations import ASKING, NOWHERE, ON_NAMESPACE, ON_PATTERN, ON_REPOSITORY, TO_TEAM, seed
from bench.plan import Installation
from slipway_common.database.pool import open_database
from slipway_common.database.queries import load_queries
from slipway_common.launcher.serving import migrate
from slipway_common.oci.names import RepositoryName, namespace_of
from tests.integration.gateway.running import services

_sql = load_queries("slipway_gateway")
# Twenty times what any of the pages and look-ups below is made of.
SIZE = Installation(repositories=2_000, users=200, grants=20_000)
CROWD = 4_000
BLOB = f"sha256:{'a' * 64}"
_PAGE = 11
_LONG_GONE = "gone/app"

# A namespace granted to the caller with many repositories, as many public ones, a blob that all have, a name that often was.
_CROWD = f"""
INSERT INTO gateway.namespaces (name) VALUES ('crowd'), ('open'), ('gone');
INSERT INTO gateway.namespaces (name) SELECT 'empty-' || i FROM generate_series(1, {CROWD}) i;
INSERT INTO gateway.repositories (namespace_id, name, visibility)
SELECT n.id, n.name || '/app-' || i, CASE n.name WHEN 'open' THEN 'public' ELSE 'private' END
FROM gateway.namespaces n CROSS JOIN generate_series(1, {CROWD}) i WHERE n.name IN ('crowd', 'open');
INSERT INTO gateway.repositories (namespace_id, name, visibility, deleted_at)
SELECT n.id, '{_LONG_GONE}', 'private', CASE WHEN i > 0 THEN clock_timestamp() - i * interval '1 minute' END
FROM gateway.namespaces n CROSS JOIN generate_series(0, {CROWD}) i WHERE n.name = 'gone';
INSERT INTO gateway.grants (principal_id, namespace_id, role)
SELECT p.id, n.id, 1 FROM gateway.principals p, gateway.namespaces n WHERE p.name = '{ASKING}' AND n.name = 'crowd';
INSERT INTO gateway.grants (principal_id, pattern, pattern_regex, pattern_prefix, role)
SELECT p.id, 'crowd/app-*', '^crowd/app-[^/]*$', 'crowd/app-', 1 FROM gateway.principals p WHERE p.name = '{ASKING}';
INSERT INTO gateway.blobs (digest, size_bytes, storage_key) VALUES ('{BLOB}', 1, 'k');
INSERT INTO gateway.blobs (digest, size_bytes, storage_key)
SELECT 'sha256:' || md5(i::text) || md5(i::text), 1, 'k' || i FROM generate_series(1, {CROWD}) i;
INSERT INTO gateway.repository_blobs (repository_id, digest, lease_until)
SELECT r.id, '{BLOB}', clock_timestamp() FROM gateway.repositories r;
INSERT INTO gateway.repository_blobs (repository_id, digest, lease_until)
SELECT (SELECT min(r.id) FROM gateway.repositories r), b.digest, clock_timestamp()
FROM gateway.blobs b WHERE b.digest <> '{BLOB}';
"""

Argument = int | bool | str | timedelta | Sequence[str] | None


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """One as the gateway has them, to a database where there is much of others."""
    await migrate(database_url, [services()["gateway"]])
    own = await asyncpg.connect(database_url)
    await own.execute("INSERT INTO gateway.principals (kind, name) VALUES ('user', 'admin')")
    await seed(database_url, SIZE)
    await own.execute(_CROWD)
    await own.execute("VACUUM ANALYZE")
    await own.close()
    async with open_database(database_url, pool_size=1) as database, database.pool.acquire() as opened:
        yield opened  # type: ignore[misc]


async def rows_read(connection: asyncpg.Connection, statement: str, *arguments: Argument) -> int:
    """How many rows are looked at, by the plan that is made without knowing the arguments."""
    await connection.execute(f"PREPARE asked AS {statement}")
    given = ", ".join(map(literal, arguments))
    explained = await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE asked ({given})")
    await connection.execute("DEALLOCATE asked")
    return _rows_of(orjson.loads(explained)[0]["Plan"])


def _rows_of(node: dict[str, Any]) -> int:
    """The rows of tables that a plan's node, and those below it, took or passed over."""
    seen: float = 0
    if "Relation Name" in node:
        seen = node["Actual Rows"] + sum(count for name, count in node.items() if name.startswith("Rows Removed"))
    return int(seen * node["Actual Loops"]) + sum(map(_rows_of, node.get("Plans", [])))


def literal(argument: Argument) -> str:
    match argument:
        case None:
            return "NULL"
        case bool() | int():
            return str(argument).upper()
        case timedelta():
            return f"interval '{argument.total_seconds()} s'"
        case str():
            return f"'{argument}'"
    return f"ARRAY[{', '.join(map(literal, argument))}]::text[]"


async def test_what_others_have_costs_nothing(connection: asyncpg.Connection) -> None:
    """One test, as the database is dear to fill. Whoever goes through all of something sees more rows than are allowed here."""
    asking = await connection.fetchval("SELECT id FROM gateway.principals WHERE name = $1", ASKING)
    places = (
        ON_REPOSITORY,
        TO_TEAM,
        ON_NAMESPACE,
        ON_PATTERN,
        NOWHERE,
        "crowd/app-7",
        "open/app-7",
        "none/at-all",
        _LONG_GONE,
    )
    taken = {
        f"standing at {name}": await rows_read(
            connection, _sql.find_standing, asking, 1, None, name, namespace_of(RepositoryName(name)), True
        )
        for name in places
    }
    no_filter = (None, None, None, None)
    for after in ("", "crowd", "open", "space-0020"):
        taken[f"page after {after!r}"] = await rows_read(
            connection, _sql.list_repositories, after, _PAGE, asking, None, *no_filter
        )
        taken[f"page of all after {after!r}"] = await rows_read(
            connection, _sql.list_all_repositories, after, _PAGE, None, None, *no_filter
        )
    for namespace in ("crowd", "open", "space-0030", "no-such-namespace"):
        taken[f"page of {namespace}"] = await rows_read(
            connection, _sql.list_repositories, "", _PAGE, asking, None, namespace, None, None, None
        )
        taken[f"page of {namespace} for who reads all"] = await rows_read(
            connection, _sql.list_all_repositories, "", _PAGE, None, None, namespace, None, None, None
        )
    taken["namespaces"] = await rows_read(connection, _sql.list_namespaces, "", _PAGE, None, asking)
    taken["all namespaces"] = await rows_read(connection, _sql.list_all_namespaces, "", _PAGE, None)
    mount = (BLOB, asking, False, None)
    taken["mount from anywhere"] = await rows_read(connection, _sql.find_mountable, *mount, None)
    taken["mount from what a token covers"] = await rows_read(
        connection, _sql.find_mountable, *mount, [ON_REPOSITORY, "crowd/app-7"]
    )
    some = await connection.fetchval("SELECT id FROM gateway.repositories WHERE name = 'crowd/app-7'")
    taken["blob"] = await rows_read(connection, _sql.find_blob, some, BLOB)
    taken["lease"] = await rows_read(connection, _sql.renew_blob_lease, some, BLOB, timedelta(hours=1))
    taken["by name"] = await rows_read(connection, _sql.find_repository_by_name, _LONG_GONE)
    taken["last of a name"] = await rows_read(connection, _sql.find_last_of_name, _LONG_GONE)
    assert {what: rows for what, rows in taken.items() if rows > CROWD // 2} == {}
