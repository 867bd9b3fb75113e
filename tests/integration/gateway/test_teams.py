"""Teams: who manages them, and what their members may do, from the moment they are in until the moment they are out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from slipway_common.database.pool import Database, open_database
from slipway_common.events.event import Origin
from slipway_common.events.log import EventLog
from slipway_common.launcher.serving import migrate
from slipway_common.testing.images import an_image
from slipway_gateway.cache import ExactCache
from slipway_gateway.changes import Changes
from slipway_gateway.store.teams import TeamStore
from slipway_gateway.teams import Teams
from tests.integration.gateway.client import Client
from tests.integration.gateway.managing import do, get, make_namespace, make_user, new_name, send, told
from tests.integration.gateway.running import add_principal, run_sql, services


@pytest.fixture
async def team(client: Client) -> str:
    name = new_name("team")
    await do(client, "POST", "/teams", {"name": name})
    return name


@pytest.fixture
async def user(client: Client) -> tuple[str, Client]:
    return await make_user(client)


@pytest.fixture
async def private(client: Client) -> str:
    """A private repository with an image in it."""
    name = f"{await make_namespace(client)}/app"
    await client.push(name, an_image().build(), "latest")
    return name


async def names_in(client: Client, team: str) -> list[str]:
    return [member["name"] for member in (await get(client, f"/teams/{team}/members"))["members"]]


async def test_team_is_made_changed_and_deleted(client: Client) -> None:
    name = new_name("team")
    body = {"name": name, "description": "Those who keep it up", "external_groups": ["b", "a", "b"]}
    made = await send(client, "POST", "/teams", body)
    assert (made.status, made.headers["ETag"], made.headers["Location"]) == (201, '"1"', f"/api/v1/teams/{name}")
    assert made.json()["external_groups"] == ["a", "b"]
    assert made.json()["created_by"] == "admin"
    assert (await send(client, "POST", "/teams", body)).status == 409

    changed = await send(client, "PATCH", f"/teams/{name}", {"description": "x"}, headers={"If-Match": '"1"'})
    assert (changed.status, changed.headers["ETag"]) == (200, '"2"')
    assert changed.json()["external_groups"] == ["a", "b"], "what is not said stays"
    for method, patch in (("PATCH", {"description": "y"}), ("DELETE", None)):
        assert (await send(client, method, f"/teams/{name}", patch, headers={"If-Match": '"1"'})).status == 412
    assert (await send(client, "PATCH", f"/teams/{name}", {"description": "x"})).headers["ETag"] == '"2"'

    assert (await send(client, "DELETE", f"/teams/{name}", headers={"If-Match": '"2"'})).status == 204
    assert (await send(client, "GET", f"/teams/{name}")).status == 404
    assert (await send(client, "DELETE", f"/teams/{name}")).status == 404


async def test_what_is_no_team_is_refused(client: Client, team: str) -> None:
    for body in (
        {"name": "Not A Name"},
        {"name": new_name("team"), "unknown": 1},
        {"name": new_name("team"), "external_groups": [""]},
        {"name": new_name("team"), "external_groups": ["a\nb"]},
        {"name": new_name("team"), "external_groups": [str(number) for number in range(101)]},
        {"name": new_name("team"), "description": "\x00"},
    ):
        assert (await send(client, "POST", "/teams", body)).status == 400, body
    assert (await send(client, "GET", "/teams/Not%20A%20Name")).status == 404
    assert (await send(client, "PUT", f"/teams/{team}/members/nobody-of-that-name", {})).status == 404
    assert (await send(client, "PUT", f"/teams/{team}/members/Not%20A%20Name", {})).status == 404
    assert (await send(client, "DELETE", f"/teams/{team}/members/admin")).status == 404


async def test_repeated_creation_gets_the_same_answer(client: Client) -> None:
    name = new_name("team")
    key = {"Idempotency-Key": f"make-{name}"}
    first = await send(client, "POST", "/teams", {"name": name}, headers=key)
    again = await send(client, "POST", "/teams", {"name": name}, headers=key)
    assert (first.status, again.status) == (201, 201)
    assert again.json() == first.json()
    assert again.headers["Idempotent-Replay"] == "true"


async def test_teams_and_members_are_listed_in_pages(client: Client, team: str) -> None:
    members = sorted([(await make_user(client))[0] for _ in range(3)])
    for member in members:
        await do(client, "PUT", f"/teams/{team}/members/{member}", {})
    first = await get(client, f"/teams/{team}/members?n=2")
    rest = await get(client, f"/teams/{team}/members?n=2&last={first['next']}")
    assert [one["name"] for one in first["members"] + rest["members"]] == members
    assert rest["next"] is None

    seen: list[str] = []
    last = ""
    while last is not None:
        page = await get(client, f"/teams?n=1&last={last}")
        seen += [one["name"] for one in page["teams"]]
        last = page["next"]
    assert team in seen
    assert seen == sorted(seen)


async def test_team_gives_and_takes_rights_at_once(
    client: Client, team: str, user: tuple[str, Client], private: str
) -> None:
    name, login = user
    path = f"/v2/{private}/manifests/latest"
    await do(client, "PUT", f"/repositories/{private}/-/grants/team:{team}", {"role": "reader"})
    assert (await login.get(path)).status in (403, 404)
    for _ in range(2):
        await do(client, "PUT", f"/teams/{team}/members/{name}", {})
        token = login.with_token(await login.get_token(f"repository:{private}:pull"))
        assert [(await one.get(path)).status for one in (login, token)] == [200, 200]
        await do(client, "DELETE", f"/teams/{team}/members/{name}")
        assert (await login.get(path)).status in (403, 404)
        assert (await token.get(path)).status in (401, 403, 404), "a token is worth what its owner's rights are now"

    await do(client, "PUT", f"/teams/{team}/members/{name}", {})
    assert (await login.get(path)).status == 200
    await do(client, "DELETE", f"/teams/{team}")
    assert (await login.get(path)).status in (403, 404)


async def test_maintainer_manages_members_and_nothing_else(client: Client, team: str, user: tuple[str, Client]) -> None:
    name, maintainer = user
    other, _ = await make_user(client)
    await do(client, "PUT", f"/teams/{team}/members/{name}", {"role": "maintainer"})

    put = await send(maintainer, "PUT", f"/teams/{team}/members/{other}", {"role": "maintainer"})
    assert put.json() | {"added_at": None} == {
        "name": other, "role": "maintainer", "source": "manual", "added_at": None, "added_by": name,
    }  # fmt: skip
    assert (await send(maintainer, "PUT", f"/teams/{team}/members/{other}", {})).json()["role"] == "member"
    assert (await send(maintainer, "PATCH", f"/teams/{team}", {"description": "ours"})).status == 200
    for method, path, body in (
        ("PATCH", f"/teams/{team}", {"external_groups": ["everybody"]}),
        ("PATCH", f"/teams/{team}", {"description": "x", "external_groups": []}),
        ("DELETE", f"/teams/{team}", None),
        ("POST", "/teams", {"name": new_name("team")}),
    ):
        assert (await send(maintainer, method, path, body)).status == 403, (method, path)
    assert (await get(client, f"/teams/{team}"))["external_groups"] == []
    assert (await send(maintainer, "DELETE", f"/teams/{team}/members/{other}")).status == 204
    assert await names_in(maintainer, team) == [name]


async def test_maintainer_of_one_team_is_nobody_in_another(client: Client, team: str, user: tuple[str, Client]) -> None:
    name, maintainer = user
    own = new_name("team")
    await do(client, "POST", "/teams", {"name": own})
    await do(client, "PUT", f"/teams/{own}/members/{name}", {"role": "maintainer"})
    assert (await send(maintainer, "PUT", f"/teams/{team}/members/{name}", {})).status == 403
    assert (await send(maintainer, "GET", f"/teams/{team}/members")).status == 403
    assert (await send(maintainer, "PATCH", f"/teams/{team}", {"description": "x"})).status == 403


async def test_member_sees_who_is_there_and_others_do_not(
    client: Client, eve: Client, team: str, user: tuple[str, Client]
) -> None:
    name, member = user
    await do(client, "PUT", f"/teams/{team}/members/{name}", {})
    assert await names_in(member, team) == [name]
    assert (await send(eve, "GET", f"/teams/{team}/members")).status == 403
    assert (await send(client.anonymous(), "GET", f"/teams/{team}/members")).status == 401
    for method, path, body in (
        ("PUT", f"/teams/{team}/members/{name}", {"role": "maintainer"}),
        ("DELETE", f"/teams/{team}/members/{name}", None),
        ("PATCH", f"/teams/{team}", {"description": "x"}),
    ):
        assert (await send(member, method, path, body)).status == 403
        assert (await send(eve, method, path, body)).status == 403
    assert (await get(eve, f"/teams/{team}"))["name"] == team


async def test_credential_with_bounds_manages_no_team(client: Client, team: str, user: tuple[str, Client]) -> None:
    name, maintainer = user
    await do(client, "PUT", f"/teams/{team}/members/{name}", {"role": "maintainer"})
    for login in (maintainer, client):
        free = (await do(login, "POST", "/account/tokens", {"name": "free"}))["token"]
        assert (await send(login.with_token(free), "PATCH", f"/teams/{team}", {"description": "x"})).status == 200
        for bounds in ({"actions": ["admin"]}, {"patterns": ["**"]}):
            bounded = (await do(login, "POST", "/account/tokens", {"name": "bounded", **bounds}))["token"]
            for method, path, body in (
                ("PATCH", f"/teams/{team}", {"description": "y"}),
                ("PUT", f"/teams/{team}/members/{name}", {}),
                ("DELETE", f"/teams/{team}/members/{name}", None),
                ("GET", f"/teams/{team}/members", None),
            ):
                assert (await send(login.with_token(bounded), method, path, body)).status == 403


async def test_robot_is_no_member(client: Client, team: str) -> None:
    namespace = await make_namespace(client)
    await do(client, "POST", f"/namespaces/{namespace}/robots", {"name": "ci"})
    assert (await send(client, "PUT", f"/teams/{team}/members/{namespace}%2Bci", {})).status == 404


async def test_changes_of_teams_are_told(client: Client) -> None:
    operator, login = await make_user(client, is_admin=True)
    name, user = new_name("team"), (await make_user(client))[0]
    await do(login, "POST", "/teams", {"name": name})
    await do(login, "PUT", f"/teams/{name}/members/{user}", {})
    await do(login, "PUT", f"/teams/{name}/members/{user}", {})
    await do(login, "PUT", f"/teams/{name}/members/{user}", {"role": "maintainer"})
    await do(login, "DELETE", f"/teams/{name}/members/{user}")
    await do(login, "PATCH", f"/teams/{name}", {"description": "x", "external_groups": []})
    await do(login, "DELETE", f"/teams/{name}")
    assert await told(client, actor=operator) == [
        ("team.created", {"team": name}),
        ("team.member-added", {"team": name, "account": user, "role": "member"}),
        ("team.member-added", {"team": name, "account": user, "role": "maintainer"}),
        ("team.member-removed", {"team": name, "account": user}),
        ("team.updated", {"team": name, "changed": ["description"]}),
        ("team.deleted", {"team": name}),
    ]


class Groups:
    """Teams without a gateway: logins at a provider are what changes them."""

    def __init__(self, database: Database, url: str) -> None:
        self._url = url
        self.changes = Changes(database, ExactCache(), EventLog("slipway/gateway"), lambda stream: None)
        self.store = TeamStore(database)
        self.teams = Teams(self.store, self.changes)

    async def log_in(self, name: str, *groups: str) -> None:
        [row] = await run_sql(self._url, "SELECT id FROM gateway.principals WHERE name = $1", name)
        origin = Origin(name, None)
        await self.changes.make(origin, lambda change: self.teams.sync_groups(change, row["id"], groups))

    async def make(self, name: str, *groups: str) -> None:
        await self.teams.create(name, {"external_groups": list(groups)}, Origin("admin", None))

    async def members(self, name: str) -> list[tuple[str, str]]:
        found: Any = await self.store.find(name)
        return [(one.name, one.source) for one in await self.store.list_members(found.id, after="", limit=100)]

    async def told(self) -> list[tuple[str, str | None]]:
        rows = await run_sql(self._url, "SELECT type, subject FROM log.events WHERE stream = 'system' ORDER BY seq")
        return [(row["type"].split(".")[2], row["subject"]) for row in rows]


@pytest.fixture
async def groups(database_url: str) -> AsyncIterator[Groups]:
    """Alice and Bert, and no team yet."""
    await migrate(database_url, [services()["gateway"]])
    for name in ("alice", "bert"):
        await add_principal(database_url, name, password="x")
    async with open_database(database_url, pool_size=4) as database:
        yield Groups(database, database_url)


async def test_groups_of_a_provider_make_members_and_take_them_out(groups: Groups) -> None:
    await groups.make("web", "sso-web", "sso-all")
    await groups.make("ops", "sso-ops")
    await groups.log_in("alice", "sso-web", "sso-unknown", "\x00", "\ud800")
    assert (await groups.members("web"), await groups.members("ops")) == ([("alice", "oidc")], [])
    await groups.log_in("alice", "sso-ops", "sso-all")
    assert (await groups.members("web"), await groups.members("ops")) == ([("alice", "oidc")], [("alice", "oidc")])
    await groups.log_in("alice", "sso-ops")
    assert (await groups.members("web"), await groups.members("ops")) == ([], [("alice", "oidc")])
    await groups.log_in("alice")
    assert (await groups.members("web"), await groups.members("ops")) == ([], [])
    assert await groups.told() == [
        ("created", "team:web"),
        ("created", "team:ops"),
        ("member-added", "team:web"),
        ("member-added", "team:ops"),
        ("member-removed", "team:web"),
        ("member-removed", "team:ops"),
    ]


async def test_what_a_person_decided_no_provider_undoes(groups: Groups) -> None:
    admin = Origin("admin", None)
    await groups.make("web", "sso-web")
    await groups.teams.add_member("web", "alice", "maintainer", admin)
    await groups.log_in("alice", "sso-web")
    await groups.log_in("alice")
    assert await groups.members("web") == [("alice", "manual")]

    await groups.log_in("bert", "sso-web")
    await groups.teams.add_member("web", "bert", "member", admin)
    await groups.log_in("bert")
    assert await groups.members("web") == [("alice", "manual"), ("bert", "manual")]


async def test_members_of_a_group_go_with_the_last_group_that_could_have_made_them(groups: Groups) -> None:
    admin = Origin("admin", None)
    await groups.make("web", "a", "b")
    await groups.teams.add_member("web", "bert", "member", admin)
    await groups.log_in("alice", "a")
    await groups.teams.update("web", {"description": "x"}, version=None, origin=admin)
    await groups.teams.update("web", {"external_groups": ["b", "c"]}, version=None, origin=admin)
    assert await groups.members("web") == [("alice", "oidc"), ("bert", "manual")], "it may have been b"
    await groups.teams.update("web", {"external_groups": ["d"]}, version=None, origin=admin)
    assert await groups.members("web") == [("bert", "manual")]
    assert (await groups.told())[-1] == ("member-removed", "team:web")
