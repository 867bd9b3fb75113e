"""Users log in at a real Keycloak: by browser for a cookie, by the command line for an access token; groups become teams."""

from __future__ import annotations

import base64
import hashlib
import itertools
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from yarl import URL

from slipway_common.testing.images import an_image
from tests.integration.gateway.client import Answer, Client, open_client
from tests.integration.gateway.people import add_namespace, add_repository, add_user, grant
from tests.integration.gateway.running import RunningGateway, running_gateway
from tests.parts.keycloak import KeycloakServer, Realm, log_in

PASSWORD = "alice's password"
SECRET = "the client's secret"
_numbers = itertools.count(1)


@dataclass(slots=True)
class World:
    """A gateway whose users log in at a realm of its own."""

    gateway: RunningGateway
    realm: Realm
    admin: Client

    async def leave(self, **query: str) -> tuple[str, str]:
        """Begin a login in a new browser; where the provider's form is, and the cookie."""
        answer = await self.admin.anonymous().get("/login/oidc", **query)
        assert answer.status == 303, str(answer)
        cookie = answer.headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Lax" in cookie
        return answer.headers["Location"], cookie.partition(";")[0]

    async def come_back(self, query: dict[str, str], cookie: str) -> Answer:
        return await self.admin.anonymous().request(
            "GET", "/login/oidc/callback", headers={"Cookie": cookie}, **{key: query[key] for key in ("code", "state")}
        )

    async def log_in(self, name: str) -> Answer:
        """Log in with a browser, whole."""
        address, cookie = await self.leave()
        return await self.come_back(dict(await log_in(address, name, PASSWORD)), cookie)

    def browser(self, landed: Answer) -> dict[str, str]:
        """What the browser sends with its next request."""
        cookies = [text.partition(";")[0] for text in landed.headers.getall("Set-Cookie")]
        [login] = [cookie for cookie in cookies if cookie.startswith("slipway_login=")]
        return {"Cookie": login}


@pytest.fixture
async def world(keycloak: KeycloakServer, database_url: str) -> AsyncIterator[World]:
    realm = keycloak.create_realm(f"login-{next(_numbers)}")
    for group in ("platform", "web"):
        realm.create_group(group)
    realm.create_user("alice", PASSWORD, groups=["platform"], email="alice@acme.example")
    settings = {"oidc_issuer": realm.issuer, "oidc_client_id": "slipway", "oidc_client_secret": SECRET}
    async with running_gateway(database_url, **settings) as gateway, open_client(gateway.url) as admin:
        realm.create_client("slipway", redirect_uris=[f"{gateway.url}/login/oidc/callback"], secret=SECRET)
        yield World(gateway, realm, admin)


async def test_first_login_makes_an_account_with_the_teams_of_its_groups(world: World) -> None:
    space = await add_namespace(world.admin)
    await add_repository(world.admin, f"{space}/app")
    await world.admin.push(f"{space}/app", an_image().build(), "1")
    await world.admin.api("POST", "/teams", {"name": "platform", "external_groups": ["platform"]})
    await grant(world.admin, "team:platform", "reader", f"{space}/app")
    landed = await world.log_in("alice")
    assert (landed.status, landed.headers["Content-Type"].partition(";")[0]) == (200, "text/html")
    assert b"You are logged in" in landed.body
    assert "default-src 'none'" in landed.headers["Content-Security-Policy"]
    anonymous, cookie = world.admin.anonymous(), world.browser(landed)
    account = (await anonymous.api("GET", "/account", headers=cookie)).json()
    assert account["name"] == "alice"
    assert account["email"] == "alice@acme.example"
    assert account["teams"] == ["platform"]
    shown = await anonymous.api("GET", f"/repositories/{space}/app", headers=cookie)
    assert shown.json()["actions"] == ["pull"]
    user = (await world.admin.api("GET", "/users/alice")).json()
    assert (user["has_password"], user["is_admin"]) == (False, False)
    assert (await world.admin.with_basic("alice", "").get("/v2/")).status == 401


async def test_same_person_is_the_same_account_and_loses_the_teams_of_groups_that_were_left(world: World) -> None:
    await world.admin.api("POST", "/teams", {"name": "platform", "external_groups": ["platform"]})
    await world.log_in("alice")
    await world.admin.api("PATCH", "/teams/platform", {"external_groups": ["web"]})
    landed = await world.log_in("alice")
    account = (await world.admin.anonymous().api("GET", "/account", headers=world.browser(landed))).json()
    assert (account["name"], account["teams"]) == ("alice", [])


async def test_account_that_is_there_is_never_taken_over_by_its_name(world: World) -> None:
    await add_user(world.admin, "alice")
    landed = await world.log_in("alice")
    account = (await world.admin.anonymous().api("GET", "/account", headers=world.browser(landed))).json()
    assert account["name"] == "alice-2"


async def test_login_that_another_browser_began_is_refused_and_used_up(world: World) -> None:
    address, cookie = await world.leave()
    _, other = await world.leave()
    query = dict(await log_in(address, "alice", PASSWORD))
    refused = await world.come_back(query, other)
    assert refused.status == 403
    assert b"not begun in this browser" in refused.body
    assert (await world.come_back(query, cookie)).status == 403
    assert (await world.admin.api("GET", "/users/alice")).status == 404


async def test_code_is_used_once(world: World) -> None:
    address, cookie = await world.leave()
    query = dict(await log_in(address, "alice", PASSWORD))
    assert (await world.come_back(query, cookie)).status == 200
    assert (await world.come_back(query, cookie)).status == 403


async def test_what_the_provider_says_is_shown_as_text(world: World) -> None:
    answer = await world.admin.anonymous().get("/login/oidc/callback", error="<script>alert(1)</script>")
    assert answer.status == 403
    assert b"<script>" not in answer.body


async def test_command_line_gets_a_token_that_lives_on(world: World) -> None:
    verifier = secrets.token_urlsafe(48)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    address, cookie = await world.leave(cli="4711", state="a-state-of-the-command-line", challenge=challenge)
    landed = await world.come_back(dict(await log_in(address, "alice", PASSWORD)), cookie)
    back = URL(landed.headers["Location"])
    assert (landed.status, back.host, back.port) == (303, "127.0.0.1", 4711)
    assert back.query["state"] == "a-state-of-the-command-line"
    assert all("slipway_login=" not in cookie for cookie in landed.headers.getall("Set-Cookie"))
    body = {"code": back.query["code"], "verifier": verifier}
    nobody = world.admin.anonymous()
    wrong = await nobody.api("POST", "/account/tokens/exchange", {**body, "verifier": "x" * 43})
    assert wrong.status == 401
    assert (await nobody.api("POST", "/account/tokens/exchange", body)).status == 401, "a guess uses the code up"
    address, cookie = await world.leave(cli="4711", state="a-state-of-the-command-line", challenge=challenge)
    landed = await world.come_back(dict(await log_in(address, "alice", PASSWORD)), cookie)
    body["code"] = URL(landed.headers["Location"]).query["code"]
    made = await nobody.api("POST", "/account/tokens/exchange", body)
    assert made.status == 201
    alice = world.admin.with_basic("alice", made.json()["token"])
    assert (await alice.get("/v2/")).status == 200
    assert (await alice.api("GET", "/account")).json()["name"] == "alice"
    await world.admin.api("PATCH", "/users/alice", {"disabled": True})
    assert (await alice.get("/v2/")).status == 401


async def test_disabled_account_cannot_come_in_by_the_provider(world: World) -> None:
    landed = await world.log_in("alice")
    await world.admin.api("PATCH", "/users/alice", {"disabled": True})
    gone = await world.admin.anonymous().api("GET", "/account", headers=world.browser(landed))
    assert gone.status == 401
    assert (await world.log_in("alice")).status == 403


async def test_without_a_provider_there_is_nothing_to_log_in_at(client: Client) -> None:
    answer = await client.anonymous().get("/login/oidc")
    assert answer.status == 404
    assert "oidc_issuer" in answer.json()["detail"]


async def test_provider_that_is_away_is_said_so(database_url: str) -> None:
    settings = {"oidc_issuer": "http://127.0.0.1:9", "oidc_client_id": "slipway"}
    async with running_gateway(database_url, **settings) as gateway, open_client(gateway.url) as client:
        answer = await client.anonymous().get("/login/oidc")
        assert answer.status == 503
        assert int(answer.headers["Retry-After"]) >= 1
