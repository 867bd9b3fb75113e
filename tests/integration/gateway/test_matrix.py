"""Who may do what, all of it: every route and method of every service, every kind of caller, every visibility.

The rows come from the routers themselves; what each caller is answered comes from a table of roles. A route that the table has no
word for fails the test, so that nothing is added without somebody thinking of who may use it.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from slipway_common.testing.images import an_image
from slipway_gateway.api.paths import parse_path
from slipway_gateway.app import registry_endpoints
from tests.integration.gateway.client import Answer, Client, open_client
from tests.integration.gateway.people import add_namespace, add_repository, add_robot, add_token, add_user, grant
from tests.integration.gateway.running import RunningGateway, services

DIGEST = "sha256:" + "0" * 64
UPLOAD = "123e4567-e89b-12d3-a456-426614174000"
ROLES = {
    "reader": {"pull"},
    "writer": {"pull", "push"},
    "maintainer": {"pull", "push", "maintain"},
    "admin": {"pull", "push", "maintain", "delete", "admin"},
}
ALL = ROLES["admin"]
# What each caller may do in a private repository of the namespace; in a public one everybody may pull as well.
CALLERS: dict[str, set[str]] = {
    "nobody": set(),
    "stranger": set(),
    **ROLES,
    "reader by namespace": ROLES["reader"],
    "writer by pattern": ROLES["writer"],
    "maintainer by team": ROLES["maintainer"],
    "admin of the namespace": ALL,
    "admin with a pull token": {"pull"},
    "admin with a token for elsewhere": set(),
    "robot that pushes": {"pull", "push"},
    "administrator": ALL,
    "administrator with a pull token": {"pull"},
}
NAMESPACE_ADMINS = {"admin of the namespace", "administrator"}
NAMESPACE_READERS = NAMESPACE_ADMINS | {
    "reader by namespace", "administrator with a pull token", "robot that pushes",
}  # fmt: skip
OPERATORS = {"administrator"}
# Those whose credential is bounded may not manage accounts.
BOUNDED = {
    "admin with a pull token",
    "admin with a token for elsewhere",
    "robot that pushes",
    "administrator with a pull token",
}
# Routes that take a login and then decide by what is asked for: what they answer is tested where they are (test_management.py).
DECIDED_IN_THE_HANDLER = {
    ("POST", "/api/v1/repositories"),
    ("POST", "/api/v1/namespaces"),
    ("GET", "/api/v1/authz/explain"),
    ("PATCH", "/api/v1/teams/{team}"),
    ("GET", "/api/v1/teams/{team}"),
    ("GET", "/api/v1/teams/{team}/members"),
    ("PUT", "/api/v1/teams/{team}/members/{user}"),
    ("DELETE", "/api/v1/teams/{team}/members/{user}"),
}


@dataclass(slots=True)
class World:
    """A namespace with one repository of each visibility, and everybody who could want something from them."""

    admin: Client
    namespace: str
    callers: dict[str, Client] = field(default_factory=dict)
    repositories: dict[str, str] = field(default_factory=dict)


@pytest.fixture
async def world(shared_gateway: RunningGateway) -> AsyncIterator[World]:
    async with open_client(shared_gateway.url) as admin:
        made = World(admin, await add_namespace(admin))
        for visibility in ("private", "public"):
            name = f"{made.namespace}/{visibility}"
            await add_repository(admin, name, visibility=visibility)
            await admin.push(name, an_image(f"matrix {name}").build(), "latest")
            made.repositories[visibility] = name
        made.repositories["missing"] = f"{made.namespace}/missing"
        await add_callers(made)
        yield made


async def add_callers(made: World) -> None:
    admin, space = made.admin, made.namespace
    existing = [made.repositories["private"], made.repositories["public"]]
    made.callers = {"nobody": admin.anonymous(), "stranger": await add_user(admin), "administrator": admin}
    for role in ROLES:
        made.callers[role] = await add_user(admin)
        for repository in existing:
            await grant(admin, f"user:{made.callers[role].name}", role, repository)
    by_namespace, by_pattern, owner, member = [await add_user(admin) for _ in range(4)]
    await grant(admin, f"user:{by_namespace.name}", "reader", f"namespace:{space}")
    await grant(admin, f"user:{by_pattern.name}", "writer", f"pattern:{space}/*")
    await grant(admin, f"user:{owner.name}", "admin", f"namespace:{space}")
    team = f"team-of-{space}"
    assert (await admin.api("POST", "/teams", {"name": team})).status == 201
    assert (await admin.api("PUT", f"/teams/{team}/members/{member.name}", {"role": "member"})).status < 300
    for repository in existing:
        await grant(admin, f"team:{team}", "maintainer", repository)
    operator = await add_user(admin, is_admin=True)
    made.callers |= {
        "reader by namespace": by_namespace,
        "writer by pattern": by_pattern,
        "admin of the namespace": owner,
        "maintainer by team": member,
        "admin with a pull token": await add_token(made.callers["admin"], actions=["pull"]),
        "admin with a token for elsewhere": await add_token(made.callers["admin"], patterns=["elsewhere/**"]),
        "robot that pushes": await add_robot(admin, space, role="admin", actions=["pull", "push"]),
        "administrator with a pull token": await add_token(operator, actions=["pull"]),
    }
    assert set(made.callers) == set(CALLERS)


def rights(caller: str, visibility: str) -> set[str]:
    """What the table says that the caller may do."""
    if visibility == "missing" and caller in (*ROLES, "maintainer by team", "admin with a pull token"):
        return set()  # their rights were given on repositories that exist
    return CALLERS[caller] | ({"pull"} if visibility == "public" else set())


def check(answer: Answer, *, allowed: bool, caller: str, why: str) -> None:
    if allowed:
        assert answer.status not in (401, 403), f"{why}: {caller} may, but {answer}"
    else:
        assert answer.status == (401 if caller == "nobody" else 403), f"{why}: {caller} may not, but {answer}"


# The registry protocol.

REGISTRY_PATHS = [
    "manifests/latest", f"blobs/{DIGEST}", "blobs/uploads/", f"blobs/uploads/{UPLOAD}", "tags/list", f"referrers/{DIGEST}",
]  # fmt: skip


class Anything:
    def __getattr__(self, _name: str) -> Anything:
        return self


def registry_rows() -> list[tuple[str, str, str]]:
    """(method, path below the name, action) of every endpoint that names a repository; each kind has a path here."""
    endpoints = registry_endpoints(Anything(), Anything())  # type: ignore[arg-type]
    paths = {target.kind: path for path in REGISTRY_PATHS if (target := parse_path(f"/v2/a/{path}"))}
    return [
        (method, paths[kind], str(endpoint.action))
        for (kind, method), endpoint in endpoints.items()
        if endpoint.action is not None
    ]


async def test_registry_answers_every_caller_as_the_table_says(world: World) -> None:
    rows = registry_rows()
    assert len(rows) == 14
    for (method, path, action), visibility, caller in itertools.product(
        rows, ("private", "public", "missing"), CALLERS
    ):
        if method == "DELETE" and action == "delete":
            continue  # below, where something may go
        answer = await world.callers[caller].request(method, f"/v2/{world.repositories[visibility]}/{path}")
        allowed = action in rights(caller, visibility)
        check(answer, allowed=allowed, caller=caller, why=f"{method} {path} of {visibility}")


async def test_deletion_is_for_those_who_may_delete(world: World) -> None:
    for visibility, caller, path in itertools.product(
        ("private", "public", "missing"), CALLERS, ("manifests/no-such-tag", f"blobs/{DIGEST}")
    ):
        answer = await world.callers[caller].delete(f"/v2/{world.repositories[visibility]}/{path}")
        allowed = "delete" in rights(caller, visibility)
        check(answer, allowed=allowed, caller=caller, why=f"DELETE {path} of {visibility}")


async def test_bearer_tokens_give_the_same_rights_as_the_login_they_were_had_by(world: World) -> None:
    for visibility, caller in itertools.product(("private", "public", "missing"), CALLERS):
        name = world.repositories[visibility]
        client = world.callers[caller]
        token = client.with_token(await client.get_token(f"repository:{name}:pull,push,delete"))
        may = rights(caller, visibility)
        for method, path, action in (
            ("GET", "manifests/latest", "pull"), ("POST", "blobs/uploads/", "push"), ("DELETE", "manifests/no-tag", "delete"),
        ):  # fmt: skip
            if visibility == "missing" and method == "POST":
                continue  # it would be missing no longer
            answer = await token.request(method, f"/v2/{name}/{path}")
            check(answer, allowed=action in may, caller=caller, why=f"{method} {path} of {visibility} by token")


# The management API.


def management_rows(kind: str) -> list[tuple[str, str, str, str]]:
    """(service, method, path, word) of every route whose access begins with `kind`."""
    return [
        (service.name, route.method, route.path, route.access.partition(":")[2])
        for service in services().values()
        for route in service.routes
        if route.access.partition(":")[0] == kind
    ]


def filled(path: str, world: World, repository: str = "") -> str:
    return (
        path.replace("{name}", repository)
        .replace("{namespace}", world.namespace)
        .replace("{robot}", f"{world.namespace}+no-such-robot")
        .replace("{subject}", "user:no-such-user")
        .replace("{user}", "no-such-user")
        .replace("{team}", "no-such-team")
        .replace("{reference}", "latest")
        .replace("{id}", "999999")
    )


async def ask(client: Client, method: str, path: str) -> Answer:
    """Send what changes nothing even where it is allowed: a document that no route takes."""
    if method == "DELETE":
        return await client.request(method, path, headers={"If-Match": '"999999"'})
    if method in ("POST", "PUT", "PATCH"):
        return await client.request(
            method, path, body=b'{"no-such-field": 1}', headers={"Content-Type": "application/json"}
        )
    return await client.request(method, path)


async def test_every_repository_route_answers_every_caller_as_the_table_says(world: World) -> None:
    rows = management_rows("repository")
    assert rows
    for (service, method, path, action), visibility, caller in itertools.product(
        rows, ("private", "public", "missing"), CALLERS
    ):
        allowed = action in rights(caller, visibility)
        if service != "gateway" and allowed:
            continue  # not running here; the gateway decides before it asks
        answer = await ask(world.callers[caller], method, filled(path, world, world.repositories[visibility]))
        check(answer, allowed=allowed, caller=caller, why=f"{method} {path} of {visibility}")


async def test_every_namespace_and_robot_route_is_for_its_admins(world: World) -> None:
    rows = [*management_rows("namespace"), *management_rows("robot")]
    assert rows
    for (_service, method, path, word), caller in itertools.product(rows, CALLERS):
        answer = await ask(world.callers[caller], method, filled(path, world))
        allowed = caller in (NAMESPACE_READERS if word == "pull" else NAMESPACE_ADMINS)
        check(answer, allowed=allowed, caller=caller, why=f"{method} {path}")


async def test_every_system_route_is_for_administrators_without_bounds(world: World) -> None:
    rows = management_rows("system")
    assert rows
    for (_service, method, path, _word), caller in itertools.product(rows, CALLERS):
        answer = await ask(world.callers[caller], method, filled(path, world))
        check(answer, allowed=caller in OPERATORS, caller=caller, why=f"{method} {path}")


async def test_every_account_route_is_for_users_whose_credential_nothing_bounds(world: World) -> None:
    rows = management_rows("account")
    assert rows
    for (_service, method, path, _word), caller in itertools.product(rows, CALLERS):
        answer = await ask(world.callers[caller], method, filled(path, world))
        check(answer, allowed=caller != "nobody" and caller not in BOUNDED, caller=caller, why=f"{method} {path}")


async def test_every_login_route_takes_a_login_and_no_registry_token(world: World) -> None:
    rows = [row for row in management_rows("login") if (row[1], row[2]) not in DECIDED_IN_THE_HANDLER]
    registry_token = await world.admin.get_token(f"repository:{world.repositories['private']}:pull")
    for _service, method, path, _word in rows:
        if (method, path) == ("DELETE", "/api/v1/login-session"):
            continue  # logging out is nothing that somebody may not do
        for caller, client in world.callers.items():
            answer = await ask(client, method, filled(path, world))
            check(answer, allowed=caller != "nobody", caller=caller, why=f"{method} {path}")
        assert (await ask(world.admin.with_token(registry_token), method, filled(path, world))).status == 401


async def test_what_decides_by_itself_takes_a_login_at_least(world: World) -> None:
    declared = {(method, path) for _service, method, path, _word in management_rows("login")}
    assert declared >= DECIDED_IN_THE_HANDLER
    for method, path in DECIDED_IN_THE_HANDLER:
        assert (await ask(world.admin.anonymous(), method, filled(path, world))).status == 401
        stranger = await ask(world.callers["stranger"], method, filled(path, world))
        assert stranger.status in (400, 403, 404), f"{method} {path}: {stranger}"


def test_no_access_is_without_a_test() -> None:
    kinds = {route.access.partition(":")[0] for service in services().values() for route in service.routes}
    assert kinds == {"public", "login", "account", "repository", "namespace", "robot", "system"}


async def test_denials_say_the_same_of_what_is_there_and_what_is_not(world: World) -> None:
    stranger = world.callers["stranger"]
    for service, method, path, _action in management_rows("repository"):
        there = await ask(stranger, method, filled(path, world, world.repositories["private"]))
        missing = await ask(stranger, method, filled(path, world, world.repositories["missing"]))
        hidden = (there.status, _without_request_id(there), service)
        assert hidden == (missing.status, _without_request_id(missing), service), path


def _without_request_id(answer: Answer) -> dict[str, object]:
    return {key: value for key, value in answer.json().items() if key != "request_id"}
