"""SQL statements by name."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from slipway_common.database.queries import Queries, load_queries


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """An importable package of this test's own, named as its folder; answers its sql folder."""
    name = f"queries_of_{request.node.name}"
    folder = tmp_path / name
    (folder / "sql").mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, name, raising=False)
    return folder / "sql"


def load(package: Path) -> Queries:
    return load_queries(package.parent.name)


def test_statements_of_all_files_are_found_by_name(package: Path) -> None:
    (package / "a.sql").write_text(
        "-- of what it is\n\n-- name: one\nSELECT 1;\n\n-- name: two_2  \n-- why\nSELECT\n  2\n"
    )
    (package / "b.sql").write_text("-- name: three\nSELECT 3")
    (package / "notes.txt").write_text("-- name: four\nSELECT 4")
    queries = load(package)
    assert (queries.one, queries.two_2, queries.three) == ("SELECT 1", "-- why\nSELECT\n  2", "SELECT 3")
    with pytest.raises(AttributeError, match="four"):
        _ = queries.four


def test_name_that_is_defined_twice_is_refused(package: Path) -> None:
    (package / "a.sql").write_text("-- name: one\nSELECT 1")
    (package / "b.sql").write_text("-- name: one\nSELECT 2")
    with pytest.raises(ValueError, match=r"'one' of .* twice"):
        load(package)


def test_name_inside_a_line_begins_no_statement(package: Path) -> None:
    (package / "a.sql").write_text("-- name: one\nSELECT 'x' -- name: two\n  -- name: three\nFROM y")
    assert load(package).one == "SELECT 'x' -- name: two\n  -- name: three\nFROM y"


@pytest.mark.parametrize(
    "name", ["slipway_common.security", "slipway_common.events", "slipway_gateway", "slipway_metadata"]
)
def test_statement_of_a_service_is_one_statement(name: str) -> None:
    """A name written in another form would silently become part of the statement above it."""
    for statement in load_queries(name)._statements.values():
        assert statement
        assert "-- name" not in statement
