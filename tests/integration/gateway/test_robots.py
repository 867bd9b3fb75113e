"""Robots: what they may do, their secrets, and builds that log in with a token of their CI system."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import pytest
from aiohttp import web

from slipway_common.testing.images import an_image
from slipway_gateway.workloads import EXCHANGE
from tests.integration.gateway.client import Answer, Client, open_client
from tests.integration.gateway.issuer import FakeIssuer
from tests.integration.gateway.managing import do, get, make_namespace, make_user, new_name, send, told
from tests.integration.gateway.running import RunningGateway, make_folder, run_sql

IMAGE = an_image("a robot's").build()


@pytest.fixture
async def namespace(client: Client) -> str:
    """A namespace with the repositories `app` and `other`, each with an image in it."""
    name = await make_namespace(client)
    for repository in ("app", "other"):
        await client.push(f"{name}/{repository}", IMAGE, "latest")
    return name


async def make_robot(client: Client, namespace: str, **wish: Any) -> tuple[str, Client]:
    """A robot with its first secret."""
    made = await do(client, "POST", f"/namespaces/{namespace}/robots", {"name": "ci", **wish})
    return made["name"], client.with_basic(made["name"], made["secret"])


async def may_pull(login: Client, repository: str) -> bool:
    return (await login.get(f"/v2/{repository}/manifests/latest")).status == 200


async def may_push(login: Client, repository: str) -> bool:
    return (await login.start_upload(repository)).status == 202


async def admin_of(client: Client, namespace: str) -> Client:
    """A user who may do everything in a namespace, and nothing elsewhere."""
    name, login = await make_user(client)
    await do(client, "PUT", f"/namespaces/{namespace}/grants/user:{name}", {"role": "admin"})
    return login


async def test_robot_is_made_changed_and_deleted(client: Client, namespace: str) -> None:
    path = f"/namespaces/{namespace}/robots"
    made = await send(client, "POST", path, {"name": "ci", "description": "Builds"})
    name = f"{namespace}+ci"
    assert (made.status, made.headers["ETag"], made.headers["Location"]) == (201, '"1"', f"/api/v1/robots/{name}")
    assert made.json()["secret"].startswith("slipway_robot_")
    assert (await send(client, "POST", path, {"name": "ci"})).status == 409

    shown = await get(client, f"/robots/{name}")
    assert (shown["name"], shown["description"], shown["disabled"]) == (name, "Builds", False)
    [secret] = shown["secrets"]
    assert made.json()["secret"].endswith(secret["hint"])
    assert made.json()["secret"] not in json.dumps(shown)
    assert await get(client, f"/robots/{namespace}%2Bci") == shown, "a plus may be written as one likes"
    assert (await send(client, "GET", f"/robots/{namespace}%252Bci")).status == 404

    stale = {"If-Match": '"7"'}
    assert (await send(client, "PATCH", f"/robots/{name}", {"description": "x"}, headers=stale)).status == 412
    assert (await send(client, "DELETE", f"/robots/{name}", headers=stale)).status == 412
    changed = await send(client, "PATCH", f"/robots/{name}", {"description": "x"}, headers={"If-Match": '"1"'})
    assert (changed.status, changed.headers["ETag"], changed.json()["description"]) == (200, '"2"', "x")
    assert [one["name"] for one in (await get(client, path))["robots"]] == [name]
    assert (await send(client, "DELETE", f"/robots/{name}")).status == 204
    assert (await send(client, "GET", f"/robots/{name}")).status == 404
    assert (await get(client, path))["robots"] == []


async def test_what_is_no_robot_is_refused(client: Client, namespace: str) -> None:
    path = f"/namespaces/{namespace}/robots"
    for body, status in (
        ({"name": f"{namespace}+ci"}, 400),
        ({"name": "ci", "unknown": 1}, 400),
        ({"name": "ci", "repositories": [f"{namespace}/app"]}, 400),
        ({"name": "ci", "role": "writer", "repositories": []}, 400),
        ({"name": "ci", "role": "owner"}, 400),
        ({"name": "ci", "expires_in_days": 0}, 400),
        ({"name": "ci", "patterns": ["/"]}, 400),
        ({"name": "ci", "description": "\x00"}, 400),
        ({"name": "ci", "role": "writer", "repositories": [f"{namespace}/none"]}, 404),
    ):
        assert (await send(client, "POST", path, body)).status == status, body
    assert (await get(client, path))["robots"] == [], "what fails leaves nothing behind"
    await client.push(new_name("without-namespace"), IMAGE)
    assert (await send(client, "POST", "/namespaces/_/robots", {"name": "ci"})).status == 400
    assert (await send(client, "POST", "/namespaces/no-such-namespace/robots", {"name": "ci"})).status == 404


async def test_robot_gets_no_role_outside_its_namespace(client: Client, namespace: str) -> None:
    elsewhere = f"{await make_namespace(client)}/app"
    await client.push(elsewhere, IMAGE, "latest")
    body = {"name": "ci", "role": "reader", "repositories": [f"{namespace}/app", elsewhere]}
    assert (await send(client, "POST", f"/namespaces/{namespace}/robots", body)).status == 404


async def test_robots_are_listed_in_pages(client: Client, namespace: str) -> None:
    for name in ("a", "b", "c"):
        await make_robot(client, namespace, name=name)
    first = await get(client, f"/namespaces/{namespace}/robots?n=2")
    rest = await get(client, f"/namespaces/{namespace}/robots?n=2&last={first['next'].replace('+', '%2B')}")
    assert [one["name"] for one in first["robots"]] == [f"{namespace}+a", f"{namespace}+b"]
    assert [one["name"] for one in rest["robots"]] == [f"{namespace}+c"]
    assert rest["next"] is None


async def test_repeated_creation_shows_the_same_secret(client: Client, namespace: str) -> None:
    path, key = f"/namespaces/{namespace}/robots", {"Idempotency-Key": f"robot-in-{namespace}"}
    first = await send(client, "POST", path, {"name": "ci"}, headers=key)
    again = await send(client, "POST", path, {"name": "ci"}, headers=key)
    assert (first.status, again.status, again.json()) == (201, 201, first.json())
    assert len((await get(client, f"/robots/{namespace}+ci"))["secrets"]) == 1


async def test_robot_pushes_only_where_it_was_granted(client: Client, namespace: str) -> None:
    _, nowhere = await make_robot(client, namespace, name="nowhere")
    _, somewhere = await make_robot(
        client, namespace, name="somewhere", role="writer", repositories=[f"{namespace}/app"]
    )
    _, everywhere = await make_robot(client, namespace, name="everywhere", role="writer")
    _, reader = await make_robot(client, namespace, name="reader", role="reader")
    app, other, new = f"{namespace}/app", f"{namespace}/other", f"{namespace}/new"
    assert [await may_push(nowhere, one) for one in (app, other, new)] == [False, False, False]
    assert [await may_push(somewhere, one) for one in (app, other, new)] == [True, False, False]
    assert [await may_push(everywhere, one) for one in (app, other, new)] == [True, True, True]
    assert [await may_push(reader, one) for one in (app, other)] == [False, False]
    assert [await may_pull(reader, one) for one in (app, other)] == [True, True]
    outside = f"{await make_namespace(client)}/app"
    await client.push(outside, IMAGE, "latest")
    assert not await may_pull(everywhere, outside)
    await somewhere.push(app, an_image("by the robot").build(), "built")


async def test_secret_is_good_within_its_bounds_only(client: Client, namespace: str) -> None:
    _, login = await make_robot(
        client, namespace, role="writer", actions=["pull"], patterns=[f"{namespace}/app", f"{namespace}/web-*"]
    )
    app, other = f"{namespace}/app", f"{namespace}/other"
    assert [await may_pull(login, one) for one in (app, other)] == [True, False]
    assert [await may_push(login, one) for one in (app, other)] == [False, False]
    token = login.with_token(await login.get_token(f"repository:{app}:pull,push", f"repository:{other}:pull"))
    assert [await may_pull(token, one) for one in (app, other)] == [True, False]
    assert not await may_push(token, app)


async def test_second_secret_takes_the_place_of_the_first(client: Client, namespace: str) -> None:
    name, first = await make_robot(client, namespace, role="reader")
    made = await do(client, "POST", f"/robots/{name}/secrets", {})
    second = client.with_basic(name, made["secret"])
    app = f"{namespace}/app"
    assert [await may_pull(one, app) for one in (first, second)] == [True, True]
    assert (await send(client, "POST", f"/robots/{name}/secrets", {})).status == 409, "two at a time"

    old = min(one["id"] for one in (await get(client, f"/robots/{name}"))["secrets"])
    bearer = first.with_token(await first.get_token(f"repository:{app}:pull"))
    assert await may_pull(bearer, app)
    await do(client, "DELETE", f"/robots/{name}/secrets/{old}")
    assert [await may_pull(one, app) for one in (first, bearer, second)] == [False, False, True], "at once"
    assert (await first.get(f"/v2/{app}/manifests/latest")).status == 401
    assert (await send(client, "DELETE", f"/robots/{name}/secrets/{old}")).status == 404
    assert (await send(client, "DELETE", f"/robots/{name}/secrets/x")).status == 404
    third = await do(client, "POST", f"/robots/{name}/secrets", {"actions": ["pull"], "expires_in_days": 1})
    assert third["actions"] == ["pull"]
    assert third["expires_at"] is not None


async def test_secret_of_another_robot_is_not_revoked_by_its_number(client: Client, namespace: str) -> None:
    name, login = await make_robot(client, namespace, name="one", role="reader")
    other, _ = await make_robot(client, namespace, name="other")
    [secret] = (await get(client, f"/robots/{name}"))["secrets"]
    assert (await send(client, "DELETE", f"/robots/{other}/secrets/{secret['id']}")).status == 404
    assert await may_pull(login, f"{namespace}/app")


async def test_secret_ends_when_its_time_is_over(client: Client, namespace: str) -> None:
    seconds = 1.5
    name, login = await make_robot(client, namespace, role="reader", expires_in_days=seconds / 86_400)
    bearer = login.with_token(await login.get_token(f"repository:{namespace}/app:pull"))
    assert [await may_pull(one, f"{namespace}/app") for one in (login, bearer)] == [True, True]
    await asyncio.sleep(seconds + 0.2)
    assert not await may_pull(login, f"{namespace}/app")
    for _ in range(2):  # one that is over takes no room
        await do(client, "POST", f"/robots/{name}/secrets", {})
    assert not await may_pull(login, f"{namespace}/app")


async def test_disabled_robot_is_refused_at_once(client: Client, namespace: str) -> None:
    name, login = await make_robot(client, namespace, role="reader")
    bearer = login.with_token(await login.get_token(f"repository:{namespace}/app:pull"))
    logins = (login, bearer)
    await do(client, "PATCH", f"/robots/{name}", {"disabled": True})
    assert [await may_pull(one, f"{namespace}/app") for one in logins] == [False, False]
    await do(client, "PATCH", f"/robots/{name}", {"disabled": False})
    assert [await may_pull(one, f"{namespace}/app") for one in logins] == [True, True]
    await do(client, "DELETE", f"/robots/{name}")
    assert [await may_pull(one, f"{namespace}/app") for one in logins] == [False, False]


async def test_robots_of_a_namespace_are_known_to_its_administrators_only(
    client: Client, eve: Client, namespace: str
) -> None:
    name, robot = await make_robot(client, namespace, role="writer")
    own, foreign = await admin_of(client, namespace), await admin_of(client, await make_namespace(client))
    for method, path in (
        ("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/secrets"), ("DELETE", "/secrets/1"),
        ("GET", "/trusts"), ("POST", "/trusts"), ("DELETE", "/trusts/1"),
    ):  # fmt: skip
        for there in (
            name,
            f"{namespace}+nobody",
            "no-such-namespace+ci",
            "no-robot",
            "a/../b".replace("/", "%2F"),
            "_+ci",
        ):
            for login in (eve, foreign, robot):
                refused = await send(login, method, f"/robots/{there}{path}")
                assert refused.status == 403, (method, path, there)
            assert (await send(client.anonymous(), method, f"/robots/{there}{path}")).status == 401
    assert (await send(own, "GET", f"/robots/{name}")).status == 200
    assert (await send(own, "GET", f"/robots/{namespace}+nobody")).status == 404
    assert (await send(own, "GET", "/robots/no-robot")).status == 403
    for unknown in (f"{namespace}+nobody", "no-such-namespace+ci", "no-robot", "_+ci"):
        assert (await send(client, "GET", f"/robots/{unknown}")).status == 404, "an operator is told"
    for login in (eve, foreign, robot):
        assert (await send(login, "GET", f"/namespaces/{namespace}/robots")).status == 403


async def test_credential_with_bounds_makes_no_secret_that_goes_beyond_them(client: Client, namespace: str) -> None:
    owner = await admin_of(client, namespace)
    path, elsewhere = f"/namespaces/{namespace}/robots", f"{await make_namespace(client)}/app"
    body = {"name": "t", "actions": ["admin", "pull"], "patterns": [f"{namespace}/**"]}
    bounded = owner.with_token((await do(owner, "POST", "/account/tokens", body))["token"])

    for wish in (
        {"name": "ci", "role": "writer"},
        {"name": "ci", "role": "reader", "actions": ["push"]},
        {"name": "ci", "role": "reader", "patterns": ["**"]},
        {"name": "ci", "role": "reader", "patterns": [elsewhere]},
    ):
        assert (await send(bounded, "POST", path, wish)).status == 403, wish
    made = await do(bounded, "POST", path, {"name": "ci", "role": "reader"})
    [secret] = (await get(owner, f"/robots/{made['name']}"))["secrets"]
    assert (secret["actions"], secret["patterns"]) == (["admin", "pull"], [f"{namespace}/**"])

    narrower = {"actions": ["pull"], "patterns": [f"{namespace}/web-*"]}
    added = await do(bounded, "POST", f"/robots/{made['name']}/secrets", narrower)
    assert {key: added[key] for key in narrower} == narrower
    trust = {"name": "x", "issuer": "https://ci.example.com", "claims": {"sub": "x"}}
    assert (await send(bounded, "POST", f"/robots/{made['name']}/trusts", trust)).status == 403
    assert (await send(owner, "POST", f"/robots/{made['name']}/trusts", trust)).status == 201


async def test_changes_of_robots_are_told(client: Client, namespace: str) -> None:
    operator, login = await make_user(client, is_admin=True)
    name, _ = await make_robot(login, namespace, role="writer", repositories=[f"{namespace}/app"])
    secret = await do(login, "POST", f"/robots/{name}/secrets", {})
    await do(login, "DELETE", f"/robots/{name}/secrets/{secret['id']}")
    await do(login, "PATCH", f"/robots/{name}", {"disabled": True, "description": ""})
    trust = await do(
        login, "POST", f"/robots/{name}/trusts",
        {"name": "ci", "issuer": "https://ci.example.com", "claims": {"sub": "x"}},
    )  # fmt: skip
    await do(login, "DELETE", f"/robots/{name}/trusts/{trust['id']}")
    await do(login, "DELETE", f"/robots/{name}")
    found = await told(client, actor=operator)
    assert sorted(kind for kind, _ in found) == sorted([
        "robot.created", "grant.given", "credential.created", "credential.created", "credential.revoked", "robot.updated",
        "trust.added", "trust.removed", "robot.deleted",
    ])  # fmt: skip
    assert ("robot.updated", {"robot": name, "changed": ["disabled"]}) in found
    [given] = [details for kind, details in found if kind == "grant.given"]
    assert (given["subject"], given["on"]) == (f"robot:{name}", f"repository:{namespace}/app")
    assert secret["secret"] not in json.dumps(found)


@dataclass(slots=True)
class Builds:
    """A registry that reaches issuers on loopback, and an issuer."""

    gateway: RunningGateway
    issuer: FakeIssuer
    client: Client

    async def exchange(self, token: str, robot: str = "", **more: str) -> Answer:
        form = {"grant_type": EXCHANGE, "subject_token": token, **({"robot": robot} if robot else {}), **more}
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return await self.client.anonymous().request("POST", "/token", body=urlencode(form).encode(), headers=headers)

    def token(self, repository: str = "acme/web", **claims: Any) -> str:
        return self.issuer.sign(self.issuer.claims(**{"aud": "slipway", "repository": repository, **claims}))

    async def trust(self, robot: str, **changes: Any) -> Any:
        body = {"name": "ci", "issuer": self.issuer.url, "claims": {"repository": "acme/web"}, **changes}
        return await do(self.client, "POST", f"/robots/{robot}/trusts", body)


@pytest.fixture
async def builds(database_url: str) -> AsyncIterator[Builds]:
    folder = make_folder()
    gateway = RunningGateway(database_url, folder, outgoing_networks=["127.0.0.0/8"])
    await asyncio.to_thread(gateway.start)
    issuer = await FakeIssuer().start()
    async with open_client(gateway.url) as client:
        yield Builds(gateway, issuer, client)
    await issuer.close()
    await asyncio.to_thread(gateway.stop)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def robot(builds: Builds) -> str:
    """`acme+ci`, which may push to `acme/web`, and trusts builds of acme/web."""
    await do(builds.client, "POST", "/namespaces", {"name": "acme"})
    await builds.client.push("acme/web", IMAGE, "latest")
    name, _ = await make_robot(builds.client, "acme", role="writer", repositories=["acme/web"])
    await builds.trust(name, life_s=600)
    return name


async def test_build_logs_in_with_its_own_token(builds: Builds, robot: str) -> None:
    for named in (robot, ""):
        answer = await builds.exchange(builds.token(), named)
        assert answer.status == 200, str(answer)
        issued = answer.json()
        assert (issued["username"], issued["expires_in"], issued["token_type"]) == (robot, 600, "Bearer")
        for login in (
            builds.client.with_basic(robot, issued["access_token"]),
            builds.client.with_token(issued["access_token"]),
        ):
            assert await may_push(login, "acme/web")
            assert not await may_push(login, "acme/other")
    shown = (await get(builds.client, f"/robots/{robot}"))["secrets"]
    assert [one["name"] for one in shown] == ["", "trust:ci", "trust:ci"]
    left_s = [row["s"] for row in await run_sql(
        builds.gateway.database_url,
        "SELECT extract(epoch FROM expires_at - clock_timestamp()) AS s FROM gateway.credentials WHERE name = 'trust:ci'",
    )]  # fmt: skip
    assert all(570 < one <= 600 for one in left_s)
    assert [kind for kind, _ in await told(builds.client, actor=robot)] == ["credential.created"] * 2


async def test_what_is_not_trusted_gets_one_and_the_same_answer(builds: Builds, robot: str) -> None:
    disabled, _ = await make_robot(builds.client, "acme", name="disabled")
    await builds.trust(disabled, claims={"repository": "acme/disabled"})
    await do(builds.client, "PATCH", f"/robots/{disabled}", {"disabled": True})
    bare, _ = await make_robot(builds.client, "acme", name="bare")
    good, now = builds.token(), int(time.time())
    refused = [
        await builds.exchange(*attempt)
        for attempt in (
            (builds.token("acme/other"), robot),
            (builds.token("acme/other"), ""),
            (builds.token("acme/disabled"), disabled),
            (builds.token("acme/disabled"), ""),
            (builds.token(aud="another"), robot),
            (builds.token(exp=now - 3600, iat=now - 7200), robot),
            (builds.token(iss="https://another.example.com"), robot),
            (builds.token(iss="https://another.example.com"), ""),
            (builds.token(iss="\x00"), ""),
            (builds.token(iss="\x00"), robot),
            (good, bare),
            (good, "acme+nobody"),
            (good, "nobody+ci"),
            (good, "admin"),
            (good, "acme+\x00"),
            (good[:-2] + "AA", robot),
            ("", robot),
            ("garbage", ""),
            ("a.b.c", robot),
        )
    ]
    assert {answer.status for answer in refused} == {401}
    assert len({answer.json()["detail"] for answer in refused}) == 1
    assert (await builds.exchange(good, robot)).status == 200


async def test_only_issuers_that_are_trusted_are_asked(builds: Builds, robot: str) -> None:
    stranger = await FakeIssuer().start()
    token = stranger.sign(stranger.claims(aud="slipway", repository="acme/web"))
    for named in (robot, "", "acme+nobody"):
        assert (await builds.exchange(token, named)).status == 401
    assert not stranger.asked
    await stranger.close()


async def test_robot_must_be_named_where_several_trust_the_token(builds: Builds, robot: str) -> None:
    other, _ = await make_robot(builds.client, "acme", name="other")
    await builds.trust(robot, name="same-robot", claims={"sub": "somebody"})
    assert (await builds.exchange(builds.token())).json()["username"] == robot
    await builds.trust(other, claims={"repository": "acme/*"})
    assert (await builds.exchange(builds.token())).status == 401
    assert (await builds.exchange(builds.token(), other)).json()["username"] == other
    assert (await builds.exchange(builds.token(), robot)).json()["username"] == robot
    assert (await builds.exchange(builds.token("acme/tool", sub="x"))).json()["username"] == other


async def test_login_of_a_build_ends_with_the_trust(builds: Builds, robot: str) -> None:
    login = builds.client.with_token((await builds.exchange(builds.token(), robot)).json()["access_token"])
    assert await may_pull(login, "acme/web")
    [trust] = (await get(builds.client, f"/robots/{robot}/trusts"))["trusts"]
    assert (trust["audience"], trust["claims"], trust["life_s"]) == ("slipway", {"repository": "acme/web"}, 600)
    await do(builds.client, "DELETE", f"/robots/{robot}/trusts/{trust['id']}")
    assert not await may_pull(login, "acme/web")
    assert (await builds.exchange(builds.token(), robot)).status == 401
    assert (await send(builds.client, "DELETE", f"/robots/{robot}/trusts/{trust['id']}")).status == 404
    assert (await get(builds.client, f"/robots/{robot}/trusts"))["trusts"] == []


class SlowIssuer(FakeIssuer):
    """Answers when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.was_asked, self.go_on = asyncio.Event(), asyncio.Event()

    async def _keys(self, request: web.Request) -> web.Response:
        self.was_asked.set()
        await self.go_on.wait()
        return await super()._keys(request)


@pytest.mark.parametrize("withdrawn", ["robot", "trust"])
async def test_what_is_withdrawn_while_the_issuer_is_asked_lets_nobody_in(
    builds: Builds, robot: str, withdrawn: str
) -> None:
    issuer = SlowIssuer()
    await issuer.start()
    trust = await builds.trust(robot, name="slow", issuer=issuer.url)
    token = issuer.sign(issuer.claims(aud="slipway", repository="acme/web"))
    under_way = asyncio.create_task(builds.exchange(token, robot))
    await asyncio.wait_for(issuer.was_asked.wait(), 10)
    if withdrawn == "robot":
        await do(builds.client, "PATCH", f"/robots/{robot}", {"disabled": True})
    else:
        await do(builds.client, "DELETE", f"/robots/{robot}/trusts/{trust['id']}")
    issuer.go_on.set()
    assert (await under_way).status == 401
    await issuer.close()


async def test_builds_do_not_take_the_place_of_secrets(builds: Builds, robot: str) -> None:
    await do(builds.client, "POST", f"/robots/{robot}/secrets", {})
    answers = [await builds.exchange(builds.token(), robot) for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 200]
    assert (await send(builds.client, "POST", f"/robots/{robot}/secrets", {})).status == 409


async def test_issuer_that_is_away_is_no_refusal(builds: Builds, robot: str) -> None:
    await builds.issuer.close()
    assert (await builds.exchange(builds.token(), robot)).status == 503


async def test_rules_that_let_everybody_in_are_refused(client: Client, namespace: str) -> None:
    name, _ = await make_robot(client, namespace)
    good = {"name": "ci", "issuer": "https://ci.example.com", "claims": {"sub": "x"}}
    for change, status in (
        ({"claims": {}}, 400),
        ({"claims": {"sub": "*"}}, 400),
        ({"claims": {"sub": 1}}, 400),
        ({"issuer": "ci.example.com"}, 400),
        ({"issuer": "https://token.actions.githubusercontent.com", "claims": {"ref": "refs/heads/main"}}, 400),
        ({"life_s": 59}, 400),
        ({"life_s": 43_201}, 400),
        ({"name": "Not A Name"}, 400),
        ({"audience": ""}, 400),
        ({}, 201),
        ({}, 409),
    ):
        assert (await send(client, "POST", f"/robots/{name}/trusts", {**good, **change})).status == status, change
    for number in range(19):
        await do(client, "POST", f"/robots/{name}/trusts", {**good, "name": f"ci-{number}"})
    assert (await send(client, "POST", f"/robots/{name}/trusts", {**good, "name": "one-more"})).status == 409
