"""Access tokens, refresh tokens and browsers' logins: what they are good for, and until when; and what guessing costs."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import pytest

from slipway_common.database.queries import load_queries
from slipway_common.testing.images import an_image
from slipway_gateway.credentials import MAX_REFRESH_TOKENS
from slipway_gateway.domain.secrets import CredentialKind, make_secret
from slipway_gateway.passwords import Passwords
from tests.integration.gateway.client import Answer, Client, open_client
from tests.integration.gateway.conftest import gateway_of_its_own
from tests.integration.gateway.people import (
    PASSWORD,
    add_namespace,
    add_repository,
    add_robot,
    add_token,
    add_user,
    fresh_name,
    grant,
)
from tests.integration.gateway.running import RunningGateway, run_sql, running_gateway

IMAGE = an_image("credentials").build()
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
# A little over a second and a half, in days.
SOON = 0.00002


@pytest.fixture
async def private(client: Client) -> str:
    """A private repository with an image in it."""
    name = f"{await add_namespace(client)}/web"
    await client.push(name, IMAGE, "latest")
    return name


@pytest.fixture
async def user(client: Client, private: str) -> Client:
    """Somebody who may do everything in the repository."""
    made = await add_user(client)
    await grant(client, f"user:{made.name}", "admin", private)
    return made


def secret_of(client: Client) -> str:
    """What a client logs in with."""
    return base64.b64decode((client.authorization or "").partition(" ")[2]).decode().partition(":")[2]


def claims_of(token: str) -> dict[str, Any]:
    payload = token.split(".")[1]
    return dict(json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))))


async def pulls(client: Client, repository: str) -> int:
    return (await client.get_manifest(repository, "latest")).status


# Access tokens


async def test_access_token_is_a_password_and_a_bearer_token(user: Client, private: str) -> None:
    token = await add_token(user)
    secret = secret_of(token)
    assert re.fullmatch(r"slipway_pat_[0-9A-Za-z]{49}", secret)
    for login in (token, user.with_token(secret)):
        assert (await login.api("GET", "/account")).json()["name"] == user.name
        assert await pulls(login, private) == 200
        assert (await login.start_upload(private)).status == 202
        assert (await login.api("PATCH", f"/repositories/{private}", {"description": "x"})).status == 200
        bearer = login.with_token(await login.get_token(f"repository:{private}:pull"))
        assert await pulls(bearer, private) == 200


async def test_secret_is_shown_once_and_known_again_by_its_end(user: Client) -> None:
    made = await user.api("POST", "/account/tokens", {"name": "laptop"})
    secret = made.json()["token"]
    listed = await user.api("GET", "/account/tokens")
    [shown] = listed.json()["tokens"]
    assert secret not in listed.body.decode()
    assert (shown["hint"], shown["name"], shown["id"]) == (secret[-4:], "laptop", made.json()["id"])
    assert made.headers["Cache-Control"] == "no-store"


async def test_secret_with_another_name_or_of_another_kind_is_no_login(user: Client, client: Client) -> None:
    secret = secret_of(await add_token(user))
    mistyped = secret[:-1] + ("a" if secret[-1] != "a" else "b")
    unknown = make_secret(CredentialKind.TOKEN, b"\x07" * 32)
    refresh = (await user.get("/token?offline_token=true")).json()["refresh_token"]
    for name, password in (
        ("admin", secret), (user.name.upper(), secret), ("", secret), (user.name, mistyped), (user.name, unknown),
        (user.name, refresh), (user.name, secret + "a"), (user.name, "slipway_pat_"), (user.name, "slipway_"),
    ):  # fmt: skip
        assert (await client.with_basic(name, password).get("/v2/")).status == 401, password
    for bearer in (mistyped, unknown, refresh, secret.upper(), f" {secret[1:]}"):
        assert (await client.with_token(bearer).get("/v2/")).status == 401, bearer


async def test_bounded_token_does_no_more_than_it_was_made_for(client: Client, user: Client, private: str) -> None:
    space = private.partition("/")[0]
    await add_repository(client, f"{space}/other")
    await grant(client, f"user:{user.name}", "admin", f"{space}/other")
    pull = await add_token(user, actions=["pull"])
    here = await add_token(user, patterns=[f"{space}/w*"])
    both = await add_token(user, actions=["pull"], patterns=[private])
    for login, path, expected in (
        (pull, private, (200, 403, 403, 403)), (pull, f"{space}/other", (404, 403, 403, 403)),
        (here, private, (200, 202, 404, 200)), (here, f"{space}/other", (403, 403, 403, 403)),
        (both, private, (200, 403, 403, 403)), (both, f"{space}/other", (403, 403, 403, 403)),
    ):  # fmt: skip
        bearer = login.with_token(await login.get_token(f"repository:{path}:pull,push,delete"))
        for one in (login, bearer):
            answers = [
                await one.get_manifest(path, "latest"),
                await one.start_upload(path),
                await one.delete(f"/v2/{path}/manifests/no-such-tag"),
            ]
            assert tuple(answer.status for answer in answers) == expected[:3], (one is bearer, path)
        assert (await login.api("PATCH", f"/repositories/{path}", {"description": "x"})).status == expected[3]
        assert (await bearer.api("PATCH", f"/repositories/{path}", {"description": "x"})).status in (401, 403)


async def test_bounded_token_makes_no_other_and_changes_no_account(user: Client, private: str) -> None:
    for bounds in ({"actions": ["pull", "push", "delete", "maintain", "admin"]}, {"patterns": ["**"]}):
        token = await add_token(user, **bounds)
        for method, path, document in (
            ("GET", "/account/tokens", None), ("POST", "/account/tokens", {"name": "x"}), ("DELETE", "/account/tokens/1", None),
            ("PATCH", "/account", {"email": "x@example.com"}),
        ):  # fmt: skip
            assert (await token.api(method, path, document)).status == 403
        assert (await token.api("GET", "/account")).status == 200


@pytest.mark.parametrize(
    "bounds",
    [
        {"actions": []}, {"actions": ["fly"]}, {"patterns": []}, {"patterns": ["Acme/*"]}, {"patterns": ["***"]},
        {"patterns": ["a" * 256]}, {"patterns": ["a"] * 101}, {"patterns": ["*" + "a*" * 8]}, {"expires_in_days": 0},
        {"expires_in_days": -1}, {"expires_in_days": 3651}, {"expires_in_days": "soon"}, {"name": ""}, {"name": "x" * 101},
        {"name": "a\nb"},
    ],
    ids=lambda bounds: str(bounds)[:40],
)  # fmt: skip
async def test_bounds_that_are_none_are_refused(user: Client, bounds: dict[str, Any]) -> None:
    assert (await user.api("POST", "/account/tokens", {"name": "x", **bounds})).status == 400


async def test_revoked_token_is_worth_nothing_at_once_nor_what_was_had_for_it(user: Client, private: str) -> None:
    token = await add_token(user)
    bearer = token.with_token(await token.get_token(f"repository:{private}:pull"))
    refresh = (await token.get("/token?offline_token=true")).json()["refresh_token"]
    refreshed = user.with_token((await by_refresh(user, refresh, f"repository:{private}:pull")).json()["token"])
    logins = [token, user.with_token(secret_of(token)), bearer, refreshed]
    for _ in range(2):
        assert [await pulls(login, private) for login in logins] == [200] * 4
    [shown] = (await user.api("GET", "/account/tokens")).json()["tokens"]
    assert (await user.api("DELETE", f"/account/tokens/{shown['id']}")).status == 204
    assert [await pulls(login, private) for login in logins] == [401] * 4
    assert (await by_refresh(user, refresh)).status == 401
    assert (await user.api("DELETE", f"/account/tokens/{shown['id']}")).status == 404


async def test_token_is_revoked_by_its_owner_by_an_administrator_and_by_itself(client: Client, user: Client) -> None:
    tokens = [await add_token(user) for _ in range(3)]
    ids = [shown["id"] for shown in (await user.api("GET", "/account/tokens")).json()["tokens"]]
    other = await add_user(client)
    for wrong in (str(ids[0]), "current", "x", "0", "9" * 30, "-1"):
        assert (await other.api("DELETE", f"/account/tokens/{wrong}")).status == 404
    seen = (await client.api("GET", f"/users/{user.name}/tokens")).json()["tokens"]
    assert [shown["id"] for shown in seen] == ids
    assert (await other.api("GET", f"/users/{user.name}/tokens")).status == 403
    assert (await client.api("DELETE", f"/users/{other.name}/tokens/{ids[0]}")).status == 404, "somebody else's"
    assert (await client.api("DELETE", f"/users/{user.name}/tokens/{ids[0]}")).status == 204
    assert (await tokens[1].api("DELETE", "/account/tokens/current")).status == 204
    assert [(await token.get("/v2/")).status for token in tokens] == [401, 401, 200]


async def test_token_ends_when_its_time_is_over(user: Client, private: str) -> None:
    token = await add_token(user, expires_in_days=SOON)
    answer = await token.get(f"/token?service=slipway&scope=repository:{private}:pull&offline_token=true")
    bearer, refresh = token.with_token(answer.json()["token"]), answer.json()["refresh_token"]
    assert 1 <= answer.json()["expires_in"] <= 2
    assert [await pulls(login, private) for login in (token, bearer)] == [200, 200]
    assert (await by_refresh(user, refresh)).status == 200
    await asyncio.sleep(2.1)
    assert [await pulls(login, private) for login in (token, bearer)] == [401, 401]
    assert (await by_refresh(user, refresh)).status == 401
    assert (await token.api("GET", "/account")).status == 401


async def test_only_so_many_tokens_are_had_at_once(client: Client) -> None:
    user = await add_user(client)
    answers = [await user.api("POST", "/account/tokens", {"name": f"{number}"}) for number in range(99)]
    assert {answer.status for answer in answers} == {201}
    together = await asyncio.gather(*(user.api("POST", "/account/tokens", {"name": "x"}) for _ in range(4)))
    assert sorted(answer.status for answer in together) == [201, 409, 409, 409]
    assert (await user.api("DELETE", f"/account/tokens/{answers[0].json()['id']}")).status == 204
    assert (await user.api("POST", "/account/tokens", {"name": "x"})).status == 201


async def test_use_of_a_token_is_written_down(database_url: str) -> None:
    async with (
        running_gateway(database_url, trusted_proxies=["127.0.0.0/8"]) as gateway,
        open_client(gateway.url) as admin,
    ):
        admin.name = "admin"
        used, idle = await add_token(admin), await add_token(admin)
        assert (await used.coming_from("198.51.100.7").get("/v2/")).status == 200
        assert idle.authorization is not None
    rows = await run_sql(
        database_url, "SELECT last_used_at, last_used_address FROM gateway.credentials WHERE kind = 'token' ORDER BY id"
    )
    assert [row["last_used_address"] for row in rows] == ["198.51.100.7", None]
    assert abs(rows[0]["last_used_at"].timestamp() - time.time()) < 60


async def test_no_secret_can_be_read_in_the_database(
    client: Client, user: Client, private: str, shared_gateway: RunningGateway
) -> None:
    headers = {"Idempotency-Key": fresh_name("key")}
    made = await user.api("POST", "/account/tokens", {"name": "x"}, headers=headers)
    robot = await add_robot(client, private.partition("/")[0], role="reader")
    offline = (await user.get(f"/token?scope=repository:{private}:pull&offline_token=true")).json()
    generated = await client.api("POST", "/users", {"name": fresh_name()}, headers=headers)
    cookie = await log_in(client, user.name)
    secrets = {
        "access token": made.json()["token"],
        "robot secret": secret_of(robot),
        "refresh token": offline["refresh_token"],
        "bearer token": offline["token"],
        "cookie": cookie["Cookie"].partition("=")[2],
        "password": PASSWORD,
        "generated password": generated.json()["password"],
    }
    assert all(len(secret) >= len(PASSWORD) for secret in secrets.values())
    tables = await run_sql(
        shared_gateway.database_url,
        "SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables WHERE schemaname IN ('gateway', 'log', 'keys')",
    )
    assert len(tables) > 25
    for table in tables:
        for why, secret in secrets.items():
            # Neither the beginning that all have, nor the hint at the end.
            middle = re.sub("^slipway_[a-z]+_", "", secret)[4:28]
            found = await run_sql(
                shared_gateway.database_url,
                f"SELECT FROM {table['name']} t WHERE strpos(t::text, $1) > 0 OR strpos(t::text, $2) > 0 LIMIT 1",
                middle,
                middle.encode().hex(),
            )
            assert not found, f"the {why} is in {table['name']}"


# Refresh tokens


async def by_refresh(client: Client, refresh: str, *scopes: str) -> Answer:
    body = f"grant_type=refresh_token&service=slipway&refresh_token={refresh}"
    body += "".join(f"&scope={scope}" for scope in scopes)
    return await client.anonymous().request("POST", "/token", body=body.encode(), headers=FORM)


async def test_client_that_asked_for_it_gets_a_refresh_token(user: Client, private: str) -> None:
    form = f"grant_type=password&service=slipway&client_id=docker&username={user.name}&password={PASSWORD}"
    posted = [
        await user.anonymous().request("POST", "/token", body=(form + more).encode(), headers=FORM)
        for more in ("&access_type=offline", "&access_type=online", "")
    ]
    got = [
        await user.get(f"/token?service=slipway{more}") for more in ("&offline_token=true", "&offline_token=false", "")
    ]
    for offline, *without in (posted, got):
        assert offline.json()["refresh_token"].startswith("slipway_refresh_")
        assert [("refresh_token" in answer.json()) for answer in without] == [False, False]
        assert offline.headers["Cache-Control"] == "no-store"
        answer = await by_refresh(user, offline.json()["refresh_token"], f"repository:{private}:pull,push")
        assert answer.json()["refresh_token"] == offline.json()["refresh_token"]
        assert await pulls(user.with_token(answer.json()["access_token"]), private) == 200
    assert "refresh_token" not in (await user.anonymous().get("/token?offline_token=true")).json()


async def test_refresh_token_of_a_bounded_token_stays_bounded(user: Client, private: str) -> None:
    bounded = await add_token(user, actions=["pull"], patterns=[private])
    refresh = (await bounded.get("/token?offline_token=true")).json()["refresh_token"]
    wish = [f"repository:{private}:pull,push,delete", f"repository:{private}-2:pull,push", "repository:acme/x:*"]
    answer = await by_refresh(user, refresh, *wish)
    assert claims_of(answer.json()["token"])["access"] == [{"type": "repository", "name": private, "actions": ["pull"]}]
    bearer = user.with_token(answer.json()["token"])
    assert await pulls(bearer, private) == 200
    assert (await bearer.start_upload(private)).status == 403


async def test_refresh_token_ends_with_what_it_was_had_for(client: Client, user: Client) -> None:
    # By a new password and by an account that is disabled: see test_management.py.
    token = await add_token(user)
    by_password = (await user.get("/token?offline_token=true")).json()["refresh_token"]
    by_token = (await token.get("/token?offline_token=true")).json()["refresh_token"]
    assert [(await by_refresh(user, one)).status for one in (by_password, by_token)] == [200, 200]
    assert (await token.api("DELETE", "/account/tokens/current")).status == 204
    assert [(await by_refresh(user, one)).status for one in (by_password, by_token)] == [200, 401]
    await client.api("PATCH", f"/users/{user.name}", {"password": "another-password"})
    assert (await by_refresh(user, by_password)).status == 401


async def test_refresh_token_is_no_access_token_nor_the_other_way_round(user: Client) -> None:
    refresh = (await user.get("/token?offline_token=true")).json()["refresh_token"]
    for path in ("/v2/", "/token", "/api/v1/account"):
        assert (await user.with_token(refresh).get(path)).status == 401
        assert (await user.with_basic(user.name, refresh).get(path)).status == 401
    assert (await by_refresh(user, secret_of(await add_token(user)))).status == 401
    assert (await by_refresh(user, "")).status == 401


async def test_registry_token_speaks_of_pulling_pushing_and_deleting_only(client: Client, private: str) -> None:
    answer = await client.get_token(f"repository:{private}:*", f"repository:{private}-2:admin,maintain,pull")
    assert {entry["name"]: entry["actions"] for entry in claims_of(answer)["access"]} == {
        private: ["delete", "pull", "push"], f"{private}-2": ["pull"],
    }  # fmt: skip
    bearer = client.with_token(answer)
    for method, path in (
        ("GET", "/users"), ("GET", "/account"), ("POST", "/repositories"), ("PATCH", f"/repositories/{private}"),
        ("DELETE", f"/repositories/{private}"), ("GET", f"/repositories/{private}/-/grants"), ("GET", "/grants"),
    ):  # fmt: skip
        assert (await bearer.api(method, path)).status == 401, path


# Logins of browsers


async def log_in(client: Client, name: str, password: str = PASSWORD) -> dict[str, str]:
    answer = await client.anonymous().api("POST", "/login-session", {"name": name, "password": password})
    assert answer.status == 204, str(answer)
    return {"Cookie": answer.headers["Set-Cookie"].partition(";")[0]}


def attributes(answer: Answer) -> tuple[str, dict[str, str]]:
    """Of the one cookie that is set: its name, and what browsers are told of it."""
    [header] = answer.headers.getall("Set-Cookie")
    first, *rest = header.split("; ")
    return first.partition("=")[0], {part.partition("=")[0].lower(): part.partition("=")[2] for part in rest}


async def test_cookie_is_kept_from_scripts_and_from_other_sites(client: Client, user: Client) -> None:
    answer = await client.anonymous().api("POST", "/login-session", {"name": user.name, "password": PASSWORD})
    name, said = attributes(answer)
    assert name == "slipway_login"
    assert said.items() >= {"httponly": "", "samesite": "Lax", "path": "/", "max-age": "604800"}.items()
    assert "domain" not in said
    assert "secure" not in said, "over plain HTTP no browser would send it back"


async def test_cookie_logs_in_to_the_management_api_and_to_nothing_else(user: Client, private: str) -> None:
    cookie, nobody = await log_in(user, user.name), user.anonymous()
    assert (await nobody.api("GET", "/login-session", headers=cookie)).json()["name"] == user.name
    assert (await nobody.api("GET", f"/repositories/{private}", headers=cookie)).status == 200
    for path in ("/v2/", f"/v2/{private}/manifests/latest", "/v2/_catalog"):
        assert (await nobody.get(path, headers=cookie)).status == 401
    token = (await nobody.get("/token?offline_token=true", headers=cookie)).json()
    assert (claims_of(token["token"])["sub"], "refresh_token" in token) == ("", False)


ELSEWHERE = {
    "nothing says where from": {},
    "another site": {"Origin": "https://attacker.example"},
    "a null origin": {"Origin": "null"},
    "our host on another port": {"Origin": "http://127.0.0.1:1"},
    "our host with another scheme": {"Origin": "https://{host}"},
    "our name in another's": {"Origin": "http://{host}.attacker.example"},
    "a page of another site": {"Sec-Fetch-Site": "cross-site", "Origin": "http://{host}"},
    "a page of a sister site": {"Sec-Fetch-Site": "same-site"},
    "no page at all": {"Sec-Fetch-Site": "none"},
    "nonsense": {"Sec-Fetch-Site": "same-origin, cross-site"},
}


@pytest.mark.parametrize("why", ELSEWHERE)
async def test_request_with_a_cookie_is_taken_from_our_own_pages_only(user: Client, private: str, why: str) -> None:
    cookie, nobody = await log_in(user, user.name), user.anonymous()
    host = user.url.removeprefix("http://")
    headers = {name: value.replace("{host}", host) for name, value in ELSEWHERE[why].items()}
    for method, path, document in (
        ("PATCH", f"/repositories/{private}", {"visibility": "public"}), ("POST", "/account/tokens", {"name": "x"}),
        ("DELETE", f"/repositories/{private}", None), ("PUT", f"/repositories/{private}/-/grants/user:eve", {"role": "admin"}),
        ("DELETE", "/login-session", None),
    ):  # fmt: skip
        refused = await nobody.api(method, path, document, headers={**cookie, **headers})
        assert refused.status == 403, f"{method} {path}: {refused}"
    assert (await user.api("GET", f"/repositories/{private}")).json()["visibility"] == "private"
    assert (await nobody.api("GET", "/account", headers={**cookie, **headers})).status == 200, "looking changes nothing"


async def test_our_own_page_changes_things_with_json(user: Client, private: str) -> None:
    cookie, nobody = await log_in(user, user.name), user.anonymous()
    for headers in ({"Origin": user.url}, {"Sec-Fetch-Site": "same-origin"}):
        assert (
            await nobody.api("PATCH", f"/repositories/{private}", {"description": "x"}, headers={**cookie, **headers})
        ).status == 200
        for content_type in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "text/json", ""):
            refused = await nobody.request(
                "PATCH", f"/api/v1/repositories/{private}", body=b'{"visibility": "public"}',
                headers={**cookie, **headers, "Content-Type": content_type},
            )  # fmt: skip
            assert refused.status == 403, content_type


async def test_no_other_site_may_read_an_answer(user: Client, private: str) -> None:
    cookie = await log_in(user, user.name)
    for client, headers in ((user, {}), (user.anonymous(), cookie)):
        for method in ("GET", "OPTIONS", "HEAD"):
            for path in ("/api/v1/account", f"/api/v1/repositories/{private}", f"/v2/{private}/tags/list", "/token"):
                asked = {"Origin": "https://attacker.example", "Access-Control-Request-Method": "PATCH", **headers}
                answer = await client.request(method, path, headers=asked)
                assert not [name for name in answer.headers if name.lower().startswith("access-control-")]


async def test_no_other_site_logs_a_browser_in(client: Client, user: Client) -> None:
    credentials = {"name": user.name, "password": PASSWORD}
    for headers in ({"Origin": "https://attacker.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}):
        answer = await client.anonymous().api("POST", "/login-session", credentials, headers=headers)
        assert (answer.status, "Set-Cookie" in answer.headers) == (403, False)
    ours = await client.anonymous().api("POST", "/login-session", credentials, headers={"Origin": client.url})
    assert ours.status == 204
    plain = await client.anonymous().request(
        "POST", "/api/v1/login-session", body=json.dumps(credentials).encode(), headers={"Content-Type": "text/plain"}
    )
    assert plain.status == 400


async def test_login_ends_when_its_user_logs_out(user: Client) -> None:
    cookie, nobody, ours = await log_in(user, user.name), user.anonymous(), {"Origin": user.url}
    other = await log_in(user, user.name)
    out = await nobody.api("DELETE", "/login-session", headers={**cookie, **ours})
    assert out.status == 204
    assert {header.partition("=")[0] for header in out.headers.getall("Set-Cookie")} == {
        "slipway_login", "__Host-slipway_login",
    }  # fmt: skip
    assert (await nobody.api("GET", "/account", headers=cookie)).status == 401
    assert (await nobody.api("GET", "/account", headers=other)).status == 200


async def test_login_that_has_ended_does_not_stand_in_the_way_of_the_next(user: Client) -> None:
    credentials, nobody = {"name": user.name, "password": PASSWORD}, user.anonymous()
    for stale in ("slipway_login=x", "slipway_login=", "slipway_login=\xff", "slipway_login=" + "x" * 5000):
        headers = {"Cookie": stale, "Origin": user.url, "Sec-Fetch-Site": "same-origin"}
        assert (await nobody.api("POST", "/login-session", credentials, headers=headers)).status == 204
        assert (await nobody.api("GET", "/openapi.json", headers=headers)).status == 200
        if stale != "slipway_login=":
            assert (await nobody.api("GET", "/account", headers=headers)).status == 401


@pytest.mark.parametrize("column", ["expires_at = now()", "last_seen_at = now() - interval '25 hours'"])
async def test_login_ends_by_itself(user: Client, shared_gateway: RunningGateway, column: str) -> None:
    cookie, nobody = await log_in(user, user.name), user.anonymous()
    assert (await nobody.api("GET", "/account", headers=cookie)).status == 200
    await run_sql(
        shared_gateway.database_url,
        f"UPDATE gateway.login_sessions s SET {column} FROM gateway.principals p WHERE p.id = principal_id AND p.name = $1",
        user.name,
    )
    assert (await nobody.api("GET", "/account", headers=cookie)).status == 401


async def test_authorization_goes_before_a_cookie(client: Client, user: Client) -> None:
    cookie = await log_in(user, user.name)
    assert (await client.api("GET", "/account", headers=cookie)).json()["name"] == "admin"
    assert (await client.with_token("garbage").api("GET", "/account", headers=cookie)).status == 401
    assert (await client.api("POST", "/account/tokens", {"name": "x"}, headers=cookie)).status == 201, (
        "no page is asked for"
    )


async def test_only_a_users_own_password_opens_a_login(client: Client, user: Client, private: str) -> None:
    robot = await add_robot(client, private.partition("/")[0], role="reader")
    token = await add_token(user)
    for name, password in (
        (user.name, secret_of(token)),
        (robot.name, secret_of(robot)),
        (user.name, ""),
        ("", PASSWORD),
    ):
        answer = await client.anonymous().api("POST", "/login-session", {"name": name, "password": password})
        assert (answer.status, "Set-Cookie" in answer.headers) == (401, False)


# Behind a proxy: several addresses, and HTTPS.


@pytest.fixture(scope="module")
def proxied(postgres_server: str) -> Iterator[RunningGateway]:
    settings = {"trusted_proxies": ["127.0.0.0/8"], "longest_token_days": 30}
    with gateway_of_its_own(postgres_server, "proxied_gateway", **settings) as gateway:
        yield gateway


@pytest.fixture
async def operator(proxied: RunningGateway) -> AsyncIterator[Client]:
    """The administrator of the gateway behind the proxy."""
    async with open_client(proxied.url) as opened:
        yield opened.coming_from("203.0.113.1")


async def test_cookie_over_https_is_for_https_and_this_host_alone(operator: Client) -> None:
    user, https = await add_user(operator), {"X-Forwarded-Proto": "https", "Host": "registry.example"}
    credentials, nobody = {"name": user.name, "password": PASSWORD}, operator.anonymous()
    answer = await nobody.api("POST", "/login-session", credentials, headers=https)
    name, said = attributes(answer)
    assert name == "__Host-slipway_login"
    assert said.items() >= {"secure": "", "httponly": "", "samesite": "Lax", "path": "/"}.items()
    assert "domain" not in said
    cookie = {"Cookie": answer.headers["Set-Cookie"].partition(";")[0]}
    ours = {**https, **cookie, "Origin": "https://registry.example"}
    assert (await nobody.api("POST", "/account/tokens", {"name": "x"}, headers=ours)).status == 201
    for origin in ("http://registry.example", "https://registry.example:444", "https://other.example"):
        refused = await nobody.api("POST", "/account/tokens", {"name": "x"}, headers={**ours, "Origin": origin})
        assert refused.status == 403
    # Whoever controls another host of the domain can set cookies for this one, but none with the prefix.
    tossed = {**https, "Cookie": cookie["Cookie"].removeprefix("__Host-")}
    assert (await nobody.api("GET", "/account", headers=tossed)).status == 401


async def test_strangers_do_not_say_what_the_scheme_is(client: Client, user: Client) -> None:
    answer = await client.anonymous().api(
        "POST", "/login-session", {"name": user.name, "password": PASSWORD}, headers={"X-Forwarded-Proto": "https"}
    )
    assert attributes(answer)[0] == "slipway_login"


async def test_no_token_lives_longer_than_the_registry_allows(operator: Client) -> None:
    user = await add_user(operator)
    assert (await user.api("POST", "/account/tokens", {"name": "x", "expires_in_days": 31})).status == 400
    made = await user.api("POST", "/account/tokens", {"name": "x"})
    assert made.json()["expires_at"] is not None


async def guess(client: Client, name: str, times: int, *, first: int = 0) -> list[int]:
    return [
        (await client.with_basic(name, f"guess {number}").get("/v2/")).status for number in range(first, first + times)
    ]


async def test_after_so_many_wrong_guesses_the_right_one_does_not_help_either(
    proxied: RunningGateway, operator: Client
) -> None:
    user = await add_user(operator)
    here, there = user.coming_from("198.51.100.1"), user.coming_from("198.51.100.2")
    assert await guess(here, user.name, 10) == [401] * 10
    form = f"grant_type=password&username={user.name}&password={PASSWORD}".encode()
    for _ in range(2):
        # The second time its owner has logged in elsewhere, and the password is known to be right: no guess may tell.
        for path in ("/v2/", "/token", "/api/v1/account"):
            blocked = await here.get(path)
            assert blocked.status == 429, path
            assert 1 <= int(blocked.headers["Retry-After"]) <= 5
        nobody = here.anonymous().coming_from("198.51.100.1")
        assert (await nobody.request("POST", "/token", body=form, headers=FORM)).status == 429
        credentials = {"name": user.name, "password": PASSWORD}
        assert (await nobody.api("POST", "/login-session", credentials)).status == 429
        assert (await there.get("/v2/")).status == 200, "the owner, elsewhere, is not locked out"
    await run_sql(proxied.database_url, "UPDATE gateway.login_failures SET blocked_until = now()")
    assert (await here.get("/v2/")).status == 200, "once the block is over"


async def test_who_is_logged_in_already_is_not_thrown_out_by_guesses(operator: Client) -> None:
    user = await add_user(operator)
    here = user.coming_from("198.51.100.11")
    assert (await here.get("/v2/")).status == 200
    token = (await add_token(user)).coming_from("198.51.100.11")
    assert await guess(here, user.name, 12) == [401] * 10 + [429] * 2
    assert (await here.get("/v2/")).status == 200
    assert (await token.get("/v2/")).status == 200, "no password, no guess"


async def test_block_holds_on_every_gateway_of_the_database(proxied: RunningGateway, operator: Client) -> None:
    user = await add_user(operator)
    here, there = user.coming_from("198.51.100.21"), user.coming_from("198.51.100.22")
    async with running_gateway(
        proxied.database_url, folder=proxied.folder, name="two", trusted_proxies=["127.0.0.0/8"]
    ) as two:
        assert await guess(here, user.name, 5) == [401] * 5
        assert await guess(here_at(here, two), user.name, 5, first=5) == [401] * 5
        assert (await here_at(here, two).get("/v2/")).status == 429
        assert (await here.get("/v2/")).status == 429
        assert (await here_at(there, two).get("/v2/")).status == 200


def here_at(client: Client, gateway: RunningGateway) -> Client:
    """The same login and address at another gateway."""
    moved = client.at(gateway.url)
    moved.address = client.address
    return moved


async def test_block_grows_with_each_further_guess(proxied: RunningGateway, operator: Client) -> None:
    user = await add_user(operator)
    here = user.coming_from("198.51.100.31")
    await guess(here, user.name, 10)
    waits = []
    for number in range(4):
        waits.append(int((await here.get("/v2/")).headers["Retry-After"]))
        await run_sql(
            proxied.database_url, "UPDATE gateway.login_failures SET blocked_until = now() WHERE key LIKE 'pair:%'"
        )
        assert await guess(here, user.name, 1, first=100 + number) == [401]
    assert waits == sorted(waits)
    assert waits[-1] > 4 * waits[0]


async def test_address_that_tries_many_accounts_is_slowed_down_for_all_of_them(operator: Client) -> None:
    user = await add_user(operator)
    here = user.coming_from("198.51.100.41")
    found = [(await here.with_basic(f"nobody-{number}", "guess").get("/v2/")).status for number in range(50)]
    assert set(found) == {401}
    assert (await here.get("/v2/")).status == 429
    assert (await user.coming_from("198.51.100.42").get("/v2/")).status == 200


async def test_addresses_of_one_ipv6_network_count_as_one(operator: Client) -> None:
    user = await add_user(operator)
    for number in range(10):
        assert await guess(user.coming_from(f"2001:db8:0:1::{number:x}"), user.name, 1, first=number) == [401]
    assert (await user.coming_from("2001:db8:0:1:ffff::1").get("/v2/")).status == 429
    assert (await user.coming_from("2001:db8:0:2::1").get("/v2/")).status == 200


async def test_account_that_is_guessed_from_everywhere_is_slowed_down_too(operator: Client) -> None:
    user = await add_user(operator)
    for number in range(200):
        address = f"192.0.2.{number}"
        assert (await user.with_basic(user.name, f"guess {number}").coming_from(address).get("/v2/")).status == 401
    assert (await user.coming_from("198.51.100.51").get("/v2/")).status == 429


async def test_address_in_a_header_counts_only_from_a_proxy(client: Client, guesser: Client) -> None:
    user = await add_user(client)
    pretending = [
        guesser.with_basic(user.name, f"guess {number}").coming_from(f"10.0.0.{number}") for number in range(11)
    ]
    assert [(await one.get("/v2/")).status for one in pretending] == [401] * 10 + [429]


async def test_unknown_name_costs_as_many_hashes_as_a_wrong_password(
    client: Client, guesser: Client, private: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, disabled = await add_user(client), await add_user(client)
    await client.api("PATCH", f"/users/{disabled.name}", {"disabled": True})
    robot = await add_robot(client, private.partition("/")[0], role="reader")
    await guesser.with_basic("nobody-of-that-name", "first").get("/v2/")
    hashes: Counter[str] = Counter()
    verify = Passwords._verify

    def counting(passwords: Passwords, stored: str, password: str) -> bool:
        hashes[password.partition("|")[0]] += 1
        return verify(passwords, stored, password)

    monkeypatch.setattr(Passwords, "_verify", counting)
    for name in ("nobody-of-that-name", known.name, disabled.name, robot.name, "Not A Name", "x" * 500):
        for path in ("/v2/", "/token", "/api/v1/account"):
            answer = await guesser.with_basic(name, f"{name}|{path}").get(path)
            assert answer.status == 401
            assert name not in answer.body.decode()
    assert set(hashes.values()) == {3}
    assert len(hashes) == 6
    hashes.clear()
    for name in ("nobody-of-that-name", known.name):
        assert (await guesser.with_basic(name, "x" * 2000).get("/v2/")).status == 401
    assert not hashes, "what cannot be a password is hashed for nobody"


# Limits on requests


@pytest.fixture(scope="module")
def limited(postgres_server: str) -> Iterator[RunningGateway]:
    """Thirty requests at once, three per second."""
    settings = {"requests_per_second": 3, "trusted_proxies": ["127.0.0.0/8"], "refresh_token_days": 0}
    with gateway_of_its_own(postgres_server, "limited_gateway", **settings) as gateway:
        yield gateway


@pytest.fixture
async def everybody(limited: RunningGateway) -> AsyncIterator[list[Client]]:
    """Three users; made behind the gateway's back, so that nothing of their allowance is spent."""
    from argon2 import PasswordHasher

    hasher = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    names = [fresh_name("limited") for _ in range(3)]
    for name in names:
        await run_sql(
            limited.database_url,
            "INSERT INTO gateway.principals (kind, name, password_hash) VALUES ('user', $1, $2)",
            name,
            hasher.hash(PASSWORD),
        )
    async with open_client(limited.url) as opened:
        yield [opened.with_basic(name, PASSWORD) for name in names]


async def test_sender_who_asks_too_often_is_told_when_to_come_back(everybody: list[Client]) -> None:
    eager, calm, _ = everybody
    statuses = [(await eager.get("/v2/")).status for _ in range(40)]
    assert statuses[:30] == [200] * 30
    assert statuses[-1] == 429
    for path in ("/v2/", "/v2/acme/x/manifests/latest", "/token", "/api/v1/account"):
        refused = await eager.get(path)
        assert (refused.status, int(refused.headers["Retry-After"])) == (429, 1), path
        assert (await calm.get(path)).status != 429
    assert (await eager.get("/v2/")).codes == ["TOOMANYREQUESTS"]
    elsewhere = eager.coming_from("198.51.100.1")
    assert (await elsewhere.get("/v2/")).status == 429, "a user counts, wherever they come from"
    await asyncio.sleep(1)
    assert (await eager.get("/v2/")).status == 200


async def test_who_is_not_logged_in_counts_by_address(everybody: list[Client]) -> None:
    nobody = everybody[0].anonymous()
    statuses = [(await nobody.coming_from("198.51.100.1").get("/v2/")).status for _ in range(40)]
    assert (statuses[0], statuses[-1]) == (401, 429)
    assert (await nobody.coming_from("198.51.100.2").get("/v2/")).status == 401


async def test_tokens_of_one_user_share_the_allowance(everybody: list[Client]) -> None:
    user = everybody[0]
    bearer = user.with_token(await user.get_token())
    statuses = [(await client.get("/v2/")).status for _ in range(20) for client in (user, bearer)]
    assert statuses[-2:] == [429, 429]


async def test_requests_that_repeat_byte_for_byte_are_counted(limited: RunningGateway, everybody: list[Client]) -> None:
    async with open_client(limited.url) as admin:
        await admin.push("acme/limited", IMAGE, "latest")
        await admin.api("PATCH", "/repositories/acme/limited", {"visibility": "public"})
    user = everybody[0]
    reader, writer = await asyncio.open_connection("127.0.0.1", limited.port)
    request = (
        f"GET /v2/acme/limited/manifests/latest HTTP/1.1\r\nHost: x\r\nAuthorization: {user.authorization}\r\n\r\n"
    ).encode()
    statuses = []
    for _ in range(40):
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(re.search(rb"(?i)content-length: ([0-9]+)", head)[1])  # type: ignore[index]
        await reader.readexactly(length)
        statuses.append(int(head.split()[1]))
    writer.close()
    assert (statuses[0], statuses[-1]) == (200, 429)


async def test_no_refresh_tokens_where_they_are_turned_off(everybody: list[Client]) -> None:
    assert "refresh_token" not in (await everybody[0].get("/token?offline_token=true")).json()


async def test_refresh_tokens_do_not_pile_up(database_url: str) -> None:
    """Each docker login makes one: those that were used last stay."""
    async with running_gateway(database_url) as gateway, open_client(gateway.url) as admin:
        for _ in range(MAX_REFRESH_TOKENS + 5):
            assert (await admin.get("/token?service=slipway&offline_token=true")).status == 200
        database = await asyncpg.connect(database_url)
        try:
            statement = load_queries("slipway_gateway").trim_refresh_tokens
            await database.execute(statement, MAX_REFRESH_TOKENS)
            left = await database.fetchval("SELECT count(*) FROM gateway.credentials WHERE kind = 'refresh'")
        finally:
            await database.close()
        assert left == MAX_REFRESH_TOKENS


async def test_who_may_only_pull_does_not_see_who_has_which_role(client: Client) -> None:
    space = await add_namespace(client)
    await add_repository(client, f"{space}/open", visibility="public")
    await grant(client, f"user:{(await add_user(client)).name}", "writer", f"{space}/open")
    path = f"/api/v1/repositories/{space}/open/-/events"
    shown = (await client.anonymous().get(path)).json()["events"]
    given = [event for event in shown if event["type"] == "slipway.grant.given.v1"]
    assert [(event["data"], event.get("actor")) for event in given] == [({}, None)]
    whole = (await client.get(path)).json()["events"]
    assert [event["seq"] for event in whole] == [event["seq"] for event in shown]
    assert any(event["data"].get("role") == "writer" for event in whole)
