"""Schema changes: Alembic, raw SQL, one version table in each schema.

A version module holds `revision`, `down_revision` and `SQL` (any number of statements). Migrations only go forward, and each
must be survivable for the version of Slipway still running: expand first, contract in a later release.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool
from sqlalchemy.util import await_only

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

# Any number that all Slipway processes share: it keeps two of them from migrating at once.
_MIGRATION_LOCK = 7_305_519_204_117_031


async def upgrade(dsn: str, *, package: str, schema: str) -> None:
    """Bring `schema` to the newest version found in `package`'s versions folder.

    Safe to run from any number of processes at once; one transaction, so a failure leaves the schema as it was.
    """
    engine = create_async_engine(_sqlalchemy_url(), poolclass=NullPool, connect_args={"dsn": dsn})
    try:
        async with engine.begin() as connection:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
            await connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {schema}"))
            await connection.run_sync(_upgrade, package, schema)
    finally:
        await engine.dispose()


def _sqlalchemy_url() -> str:
    # asyncpg gets the DSN itself (connect_args): SQLAlchemy's own parser does not know every form of it.
    return "postgresql+asyncpg://"


def _upgrade(connection: Connection, package: str, schema: str) -> None:
    script = _script_directory(package)
    context = MigrationContext.configure(
        connection, opts={"version_table": "schema_version", "version_table_schema": schema}
    )
    context._ensure_version_table()
    current = context.get_current_revision()
    known = {revision.revision for revision in script.walk_revisions()}
    if current is not None and current not in known:
        return  # a newer Slipway has been here; its migrations are made to be survived
    for revision in reversed(list(script.iterate_revisions("head", current or "base"))):
        _run_script(connection, revision.module.SQL)
        context.stamp(script, revision.revision)


def _run_script(connection: Connection, sql: str) -> None:
    # A prepared statement holds one command only; asyncpg's own execute() takes a whole script.
    driver = connection.connection.driver_connection
    if driver is None:
        raise RuntimeError("the database connection was lost during a migration")
    await_only(driver.execute(sql))


def _script_directory(package: str) -> ScriptDirectory:
    folder = Path(str(resources.files(package)))
    return ScriptDirectory(str(folder), version_locations=[str(folder / "versions")])
