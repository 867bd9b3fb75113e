"""Repositories, namespaces, grants and users, managed end to end: what is changed holds from the next request on."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import quote

import asyncpg
import pytest

from slipway_common.testing.images import an_artifact, an_image, digest
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
from tests.integration.gateway.running import RunningGateway, run_sql, services

IMAGE = an_image("console").build()


@pytest.fixture
async def acme(client: Client) -> str:
    """A namespace of the test's own."""
    return await add_namespace(client)


@pytest.fixture
async def owner(client: Client, acme: str) -> Client:
    """A writer in the namespace: what they create there is theirs."""
    made = await add_user(client)
    await grant(client, f"user:{made.name}", "writer", f"namespace:{acme}")
    return made


@pytest.fixture
async def colleague(client: Client) -> Client:
    """Somebody with an account and no rights."""
    return await add_user(client)


def hidden(answer: Answer) -> tuple[int, Any, set[tuple[str, str]]]:
    """What an answer tells, without what differs between any two."""
    document = answer.json()
    document.pop("request_id", None)
    headers = {(name, value) for name, value in answer.headers.items() if name.lower() not in ("date", "x-request-id")}
    return answer.status, document, headers


async def pulls(client: Client, repository: str) -> int:
    return (await client.get_manifest(repository, "latest")).status


# What the registry is for: somebody makes a repository, and decides who gets at it.


async def test_owner_creates_a_private_repository_and_owns_it(client: Client, owner: Client, acme: str) -> None:
    wish = {"name": f"{acme}/console-web", "kind": "application", "description": "# Console", "labels": {"team": "web"}}
    made = await owner.api("POST", "/repositories", wish)
    assert (made.status, made.headers["Location"]) == (201, f"/api/v1/repositories/{acme}/console-web")
    shown = (await owner.api("GET", f"/repositories/{acme}/console-web")).json()
    assert {key: shown[key] for key in wish} == wish
    assert (shown["visibility"], shown["namespace"], shown["created_by"]) == ("private", acme, owner.name)
    assert shown["actions"] == ["admin", "delete", "maintain", "pull", "push"]
    await owner.push(f"{acme}/console-web", IMAGE, "latest")
    assert (await client.anonymous().get_manifest(f"{acme}/console-web", "latest")).status == 401


async def test_first_push_creates_a_private_repository_that_its_pusher_owns(
    client: Client, owner: Client, acme: str
) -> None:
    await owner.push(f"{acme}/console-web", IMAGE, "latest")
    shown = (await owner.api("GET", f"/repositories/{acme}/console-web")).json()
    assert (shown["visibility"], shown["created_by"], "admin" in shown["actions"]) == ("private", owner.name, True)
    [given] = (await owner.api("GET", f"/repositories/{acme}/console-web/-/grants")).json()["grants"]
    assert (given["subject"], given["role"]) == (f"user:{owner.name}", "admin")
    assert await pulls(client.anonymous(), f"{acme}/console-web") == 401


async def test_robot_that_pushes_first_gets_no_more_than_it_had(client: Client, acme: str) -> None:
    robot = await add_robot(client, acme, role="writer")
    await robot.push(f"{acme}/by-a-robot", IMAGE, "latest")
    assert (await client.api("GET", f"/repositories/{acme}/by-a-robot/-/grants")).json()["grants"] == []
    assert (await robot.delete(f"/v2/{acme}/by-a-robot/manifests/latest")).status == 403


async def test_private_repository_looks_to_a_colleague_like_one_that_does_not_exist(
    owner: Client, colleague: Client, acme: str
) -> None:
    await owner.push(f"{acme}/console-web", IMAGE, "latest")
    missing = f"{acme}/console-x11"
    assert await pulls(colleague.anonymous(), f"{acme}/console-web") == 401
    for path in ("/v2/{}/manifests/latest", "/v2/{}/tags/list", "/api/v1/repositories/{}"):
        there = await colleague.get(path.format(f"{acme}/console-web"))
        nothing = await colleague.get(path.format(missing))
        assert there.status == 403
        assert hidden(there) == hidden(nothing)
    assert (await colleague.get_manifest(f"{acme}/console-web", "latest")).codes == ["DENIED"]


async def test_granted_pull_works_at_the_next_request(owner: Client, colleague: Client, acme: str) -> None:
    repository = f"{acme}/console-web"
    await owner.push(repository, IMAGE, "latest")
    assert await pulls(colleague, repository) == 403
    given = await owner.api("PUT", f"/repositories/{repository}/-/grants/user:{colleague.name}", {"role": "reader"})
    assert given.json()["before"] is None
    assert await pulls(colleague, repository) == 200
    assert (await colleague.start_upload(repository)).status == 403
    await grant(owner, f"user:{colleague.name}", "writer", repository)
    assert (await colleague.start_upload(repository)).status == 202
    taken = await owner.api("DELETE", f"/repositories/{repository}/-/grants/user:{colleague.name}")
    assert taken.status == 204
    assert await pulls(colleague, repository) == 403


async def test_published_repository_is_pulled_by_all_until_it_is_private_again(
    client: Client, owner: Client, acme: str
) -> None:
    repository, nobody = f"{acme}/console-web", client.anonymous()
    await owner.push(repository, IMAGE, "latest")
    assert await pulls(nobody, repository) == 401
    await owner.api("PATCH", f"/repositories/{repository}", {"visibility": "public"})
    token = nobody.with_token(await nobody.get_token(f"repository:{repository}:pull"))
    assert (await pulls(nobody, repository), await pulls(token, repository)) == (200, 200)
    await owner.api("PATCH", f"/repositories/{repository}", {"visibility": "private"})
    assert (await pulls(nobody, repository), await pulls(token, repository)) == (401, 401)


async def test_robot_with_a_bounded_secret_pushes_where_it_was_made_for_until_its_time_is_over(
    client: Client, owner: Client, acme: str
) -> None:
    for name in ("console-web", "console-api"):
        await owner.push(f"{acme}/{name}", IMAGE, "latest")
    bounds = {"actions": ["pull", "push"], "patterns": [f"{acme}/*-web"], "expires_in_days": 3 / 86_400}
    robot, ends_at = await add_robot(client, acme, role="admin", **bounds), time.monotonic() + 3
    inside, outside = f"{acme}/console-web", f"{acme}/console-api"
    bearer = robot.with_token(await robot.get_token(f"repository:{inside}:*", f"repository:{outside}:*"))
    for who in (robot, bearer):
        await who.push(inside, an_image("built").build(), "built")
        assert await pulls(who, outside) == 403
        assert (await who.start_upload(outside)).status == 403
        assert (await who.delete(f"/v2/{inside}/manifests/latest")).status == 403
    assert (await robot.api("PATCH", f"/repositories/{inside}", {"visibility": "public"})).status == 403
    await asyncio.sleep(ends_at - time.monotonic() + 0.1)
    assert [await pulls(who, inside) for who in (robot, bearer)] == [401, 401]


async def test_maintainer_describes_a_repository_but_neither_publishes_nor_renames_it(
    client: Client, owner: Client, colleague: Client, acme: str
) -> None:
    repository = f"{acme}/console-web"
    await add_repository(owner, repository)
    await grant(owner, f"user:{colleague.name}", "maintainer", repository)
    assert (await colleague.api("PATCH", f"/repositories/{repository}", {"description": "mine"})).status == 200
    for more in ({"visibility": "public"}, {"name": f"{acme}/mine"}, {"description": "x", "visibility": "private"}):
        assert (await colleague.api("PATCH", f"/repositories/{repository}", more)).status == 403


async def test_changes_of_a_repository_are_told_in_its_events(owner: Client, colleague: Client, acme: str) -> None:
    repository = f"{acme}/console-web"
    await add_repository(owner, repository)
    await grant(owner, f"user:{colleague.name}", "reader", repository)
    await owner.api("PATCH", f"/repositories/{repository}", {"visibility": "public", "description": "open"})
    await owner.api("PATCH", f"/repositories/{repository}", {"visibility": "public", "description": "open"})
    await owner.api("DELETE", f"/repositories/{repository}/-/grants/user:{colleague.name}")
    told = [event["type"].removeprefix("slipway.") for event in await owner.list_events(repository)]
    assert told == [
        "repository.created.v1", "grant.given.v1", "grant.given.v1", "repository.visibility-changed.v1",
        "repository.updated.v1", "grant.taken.v1",
    ]  # fmt: skip


# Namespaces


async def test_namespace_that_takes_no_first_push_says_what_to_do(client: Client, owner: Client, acme: str) -> None:
    assert (await client.api("PATCH", f"/namespaces/{acme}", {"create_on_push": False})).status == 200
    refused = await owner.start_upload(f"{acme}/console-web")
    assert (refused.status, refused.codes) == (404, ["NAME_UNKNOWN"])
    assert "create it first" in refused.message
    await add_repository(owner, f"{acme}/console-web")
    await owner.push(f"{acme}/console-web", IMAGE, "latest")


async def test_namespace_decides_how_visible_a_first_push_is(client: Client, owner: Client, acme: str) -> None:
    await client.api("PATCH", f"/namespaces/{acme}", {"default_visibility": "public"})
    await owner.push(f"{acme}/open", IMAGE, "latest")
    assert await pulls(client.anonymous(), f"{acme}/open") == 200
    assert (await add_repository(owner, f"{acme}/said", visibility="private"))["visibility"] == "private"
    await client.api("PATCH", f"/namespaces/{acme}", {"default_visibility": None})
    assert (await add_repository(owner, f"{acme}/as-the-registry"))["visibility"] == "private"


async def test_nothing_becomes_public_where_that_is_not_allowed(client: Client, owner: Client, acme: str) -> None:
    rules = {"public_allowed": False, "default_visibility": "public"}
    assert (await client.api("PATCH", f"/namespaces/{acme}", rules)).status == 200
    assert (await add_repository(owner, f"{acme}/quiet"))["visibility"] == "private"
    asked = await owner.api("POST", "/repositories", {"name": f"{acme}/loud", "visibility": "public"})
    published = await owner.api("PATCH", f"/repositories/{acme}/quiet", {"visibility": "public"})
    assert (asked.status, published.status) == (400, 400)
    assert "may not be public" in published.json()["detail"]
    elsewhere = await add_namespace(client)
    await add_repository(client, f"{elsewhere}/open", visibility="public")
    moved = await client.api("PATCH", f"/repositories/{elsewhere}/open", {"name": f"{acme}/open"})
    assert moved.status == 400
    together = {"name": f"{acme}/open", "visibility": "private"}
    assert (await client.api("PATCH", f"/repositories/{elsewhere}/open", together)).status == 200


async def test_public_repositories_are_not_forbidden_while_there_are_any(
    client: Client, owner: Client, acme: str
) -> None:
    await add_repository(owner, f"{acme}/open", visibility="public")
    refused = await client.api("PATCH", f"/namespaces/{acme}", {"public_allowed": False})
    assert refused.status == 409
    assert "make them private first" in refused.json()["detail"]
    await owner.api("PATCH", f"/repositories/{acme}/open", {"visibility": "private"})
    assert (await client.api("PATCH", f"/namespaces/{acme}", {"public_allowed": False})).status == 200


async def test_only_an_empty_namespace_is_deleted(client: Client, owner: Client, acme: str) -> None:
    await owner.push(f"{acme}/console-web", IMAGE, "latest")
    refused = await client.api("DELETE", f"/namespaces/{acme}")
    assert refused.status == 409
    assert "1 repositories in it" in refused.json()["detail"]
    assert (await owner.api("DELETE", f"/repositories/{acme}/console-web")).status == 204
    assert (await client.api("DELETE", f"/namespaces/{acme}")).status == 204
    assert (await client.api("GET", f"/namespaces/{acme}")).status == 404
    assert (await owner.start_upload(f"{acme}/console-web")).status == 403


@pytest.mark.parametrize("left_behind", [True, False], ids=["after deleted repositories", "never used"])
async def test_new_namespace_of_an_old_name_has_nothing_of_the_old_one(
    client: Client, owner: Client, acme: str, left_behind: bool
) -> None:
    by_pattern = await add_user(client)
    robot = await add_robot(client, acme, role="writer")
    inside = f"/namespaces/{acme}/grants/user:{by_pattern.name}?pattern={acme}/web-*"
    assert (await client.api("PUT", inside, {"role": "writer"})).status == 200
    if left_behind:
        await owner.push(f"{acme}/web-1", IMAGE, "latest")
        await client.api("DELETE", f"/repositories/{acme}/web-1")
    assert (await client.api("DELETE", f"/namespaces/{acme}")).status == 204
    await add_namespace(client, acme)
    assert (await client.api("GET", f"/namespaces/{acme}/grants")).json()["grants"] == []
    assert (await client.api("GET", f"/namespaces/{acme}/robots")).json()["robots"] == []
    for before in (owner, by_pattern):
        assert (await before.start_upload(f"{acme}/web-1")).status == 403
    assert (await robot.start_upload(f"{acme}/web-1")).status == 401
    await client.push(f"{acme}/web-1", an_image("new").build(), "new")
    assert await client.list_tags(f"{acme}/web-1") == ["new"]


async def test_admin_of_a_namespace_gives_rights_there_and_nowhere_else(
    client: Client, colleague: Client, acme: str
) -> None:
    lead = await add_user(client)
    await grant(client, f"user:{lead.name}", "admin", f"namespace:{acme}")
    path = f"/namespaces/{acme}/grants/user:{colleague.name}"
    assert (await lead.api("PUT", path, {"role": "reader"})).status == 200
    assert (await lead.api("PUT", f"{path}?pattern={acme}/web-*", {"role": "writer"})).status == 200
    for wide in ("**", "*/web", f"{acme}-2/*", f"{acme}*", "*"):
        assert (await lead.api("PUT", f"{path}?pattern={quote(wide)}", {"role": "reader"})).status == 400, wide
    assert (await lead.api("PUT", f"/grants/user:{colleague.name}?pattern={acme}/*", {"role": "reader"})).status == 403
    assert (await colleague.start_upload(f"{acme}/web-1")).status == 202
    assert (await colleague.start_upload(f"{acme}/other")).status == 403


async def test_only_administrators_create_namespaces_and_names_without_one(
    client: Client, owner: Client, acme: str
) -> None:
    await grant(client, f"user:{owner.name}", "admin", "pattern:**")
    new = fresh_name("unheard-of")
    assert (await owner.api("POST", "/namespaces", {"name": new})).status == 403
    for name in (f"{new}/web", new):
        assert (await owner.start_upload(name)).status == 404
        assert (await owner.api("POST", "/repositories", {"name": name})).status == 404
    await add_repository(owner, f"{acme}/web")
    assert (await owner.api("PATCH", f"/repositories/{acme}/web", {"name": f"{new}/web"})).status == 400
    assert (await owner.api("PATCH", f"/repositories/{acme}/web", {"name": new})).status in (400, 403)
    for name in (f"{new}/web", new):
        await client.push(name, IMAGE, "latest")


async def test_bounded_token_of_an_administrator_creates_no_namespace(client: Client) -> None:
    operator = await add_user(client, is_admin=True)
    bounded = await add_token(operator, actions=["pull", "push"])
    new = fresh_name("unheard-of")
    assert (await bounded.api("POST", "/namespaces", {"name": new})).status == 403
    assert (await bounded.start_upload(f"{new}/web")).status == 404


async def test_namespaces_are_shown_to_those_who_have_rights_in_them(
    client: Client, owner: Client, colleague: Client, acme: str
) -> None:
    await add_repository(owner, f"{acme}/web")

    async def names(who: Client) -> list[str]:
        return [one["name"] for one in (await who.api("GET", "/namespaces?n=1000")).json()["namespaces"]]

    assert await names(owner) == [acme]
    assert await names(colleague) == []
    assert acme in await names(client)
    assert (await colleague.api("GET", f"/namespaces/{acme}")).status == 403
    await grant(owner, f"user:{colleague.name}", "reader", f"{acme}/web")
    assert await names(colleague) == [acme]
    assert (await colleague.api("GET", f"/namespaces/{acme}")).status == 403
    assert (await owner.api("GET", f"/namespaces/{acme}")).json()["name"] == acme
    assert (await owner.api("PATCH", f"/namespaces/{acme}", {"create_on_push": False})).status == 403


# Renaming and moving


async def rename(client: Client, before: str, after: str) -> Answer:
    return await client.api("PATCH", f"/repositories/{before}", {"name": after})


async def test_former_name_is_pulled_from_and_pushed_to(owner: Client, acme: str) -> None:
    old, new = f"{acme}/console-web", f"{acme}/console"
    await owner.push(old, IMAGE, "latest")
    assert (await rename(owner, old, new)).json()["name"] == new
    for name in (old, new):
        assert await pulls(owner, name) == 200
        assert (await owner.get_blob(name, IMAGE.config_digest)).status == 200
        assert (await owner.get(f"/v2/{name}/tags/list")).json() == {"name": name, "tags": ["latest"]}
    await owner.push(old, an_image("by the former name").build(), "later")
    assert await owner.list_tags(new) == ["later", "latest"]
    bearer = owner.with_token(await owner.get_token(f"repository:{old}:pull,push"))
    await bearer.push(old, an_image("by the former name with a token").build(), "token")
    assert (await owner.api("GET", f"/repositories/{old}")).json()["name"] == new


async def test_locations_use_the_name_that_was_asked_for(owner: Client, acme: str) -> None:
    old, new = f"{acme}/console-web", f"{acme}/console"
    await owner.push(old, IMAGE, "latest")
    await rename(owner, old, new)
    for name in (old, new):
        content = f"layer for {name}".encode()
        location = await owner.open_upload(name)
        assert location.startswith(f"/v2/{name}/blobs/uploads/")
        assert (await owner.patch(location, content)).location.startswith(f"/v2/{name}/blobs/uploads/")
        finished = await owner.finish(location, digest(content))
        assert finished.location == f"/v2/{name}/blobs/{digest(content)}"
        mounted = await owner.start_upload(name, mount=digest(content), **{"from": old})
        assert (mounted.status, mounted.location) == (201, f"/v2/{name}/blobs/{digest(content)}")
        put = await owner.put_manifest(name, "again", IMAGE.manifest, IMAGE.media_type)
        assert put.location == f"/v2/{name}/manifests/again"
        page = await owner.get(f"/v2/{name}/tags/list", n="1")
        assert page.headers["Link"].startswith(f"</v2/{name}/tags/list?")


async def test_what_is_in_a_repository_moves_with_it(
    client: Client, owner: Client, colleague: Client, acme: str
) -> None:
    other = await add_namespace(client)
    await grant(client, f"user:{owner.name}", "writer", f"namespace:{other}")
    old, new = f"{acme}/console-web", f"{other}/console"
    await owner.push(old, IMAGE, "latest")
    signature = an_artifact("application/vnd.example.signature").with_layer(b"signed").about(IMAGE).build()
    await owner.push(old, signature)
    await grant(owner, f"user:{colleague.name}", "reader", old)
    before = (await owner.api("GET", f"/repositories/{old}")).json()
    events = [event["id"] for event in await owner.list_events(old)]
    location = await owner.open_upload(old)

    assert (await rename(owner, old, new)).status == 200
    after = (await owner.api("GET", f"/repositories/{new}")).json()
    assert (after["id"], after["created_at"], after["namespace"]) == (before["id"], before["created_at"], other)
    assert await owner.list_tags(new) == ["latest"]
    assert [one["digest"] for one in await owner.list_referrers(new, IMAGE.digest)] == [signature.digest]
    assert [event["id"] for event in await owner.list_events(new)][: len(events)] == events
    assert await pulls(colleague, new) == 200
    assert (await owner.finish(location, digest(b"late"), b"late")).status == 201, "an upload that was under way"
    assert [
        row["name"] for row in (await owner.api("GET", "/repositories", namespace=other)).json()["repositories"]
    ] == [new]
    assert (await client.api("DELETE", f"/namespaces/{acme}")).status == 204, "nothing is left in the old one"
    assert await pulls(owner, old) == 200


async def test_former_name_that_is_given_to_a_new_repository_leads_there(owner: Client, acme: str) -> None:
    old, new = f"{acme}/console-web", f"{acme}/console"
    await owner.push(old, IMAGE, "latest")
    await rename(owner, old, new)
    fresh = await add_repository(owner, old)
    assert fresh["id"] != (await owner.api("GET", f"/repositories/{new}")).json()["id"]
    assert await pulls(owner, old) == 404
    assert await pulls(owner, new) == 200
    await owner.push(old, an_image("another").build(), "other")
    assert await owner.list_tags(new) == ["latest"]


async def test_former_name_is_free_for_another_repository_to_be_renamed_to(owner: Client, acme: str) -> None:
    first, second, away = f"{acme}/one", f"{acme}/two", f"{acme}/away"
    ids = [(await add_repository(owner, name))["id"] for name in (first, second)]
    await rename(owner, first, away)
    assert (await rename(owner, second, first)).status == 200
    found = [(await owner.api("GET", f"/repositories/{name}")).json()["id"] for name in (away, first, second)]
    assert found == [ids[0], ids[1], ids[1]]


async def test_former_name_is_looked_up_but_not_managed_by(owner: Client, colleague: Client, acme: str) -> None:
    old, new = f"{acme}/console-web", f"{acme}/console"
    await add_repository(owner, old)
    await rename(owner, old, new)
    for method, path, document in (
        ("PATCH", "", {"description": "x"}), ("DELETE", "", None),
        ("PUT", f"/-/grants/user:{colleague.name}", {"role": "reader"}),
    ):  # fmt: skip
        refused = await owner.api(method, f"/repositories/{old}{path}", document)
        assert refused.status == 409
        assert "another name now" in refused.json()["detail"]
        assert (await colleague.api(method, f"/repositories/{old}{path}", document)).status == 403
    assert (await owner.api("GET", f"/repositories/{old}")).json()["name"] == new


async def test_repository_is_renamed_again_and_back(owner: Client, acme: str) -> None:
    names = [f"{acme}/one", f"{acme}/two", f"{acme}/three"]
    made = (await add_repository(owner, names[0]))["id"]
    for before, after in (*itertools.pairwise(names), (names[2], names[0])):
        assert (await rename(owner, before, after)).status == 200
    for name in names:
        shown = (await owner.api("GET", f"/repositories/{name}")).json()
        assert (shown["id"], shown["name"]) == (made, names[0])


async def test_former_name_leads_nowhere_once_its_time_is_over(
    owner: Client, acme: str, shared_gateway: RunningGateway
) -> None:
    old, new = f"{acme}/console-web", f"{acme}/console"
    await owner.push(old, IMAGE, "latest")
    await rename(owner, old, new)
    bearer = owner.with_token(await owner.get_token(f"repository:{old}:pull"))
    assert (await pulls(owner, old), await pulls(bearer, old)) == (200, 200)
    await run_sql(
        shared_gateway.database_url, "UPDATE gateway.repository_aliases SET expires_at = now() WHERE name = $1", old
    )
    assert (await pulls(owner, old), await pulls(bearer, old), await pulls(owner, new)) == (404, 404, 200)


async def test_rename_takes_the_role_admin_and_the_right_to_create_there(
    client: Client, owner: Client, colleague: Client, acme: str
) -> None:
    elsewhere = await add_namespace(client)
    await add_repository(owner, f"{acme}/web")
    await grant(owner, f"user:{colleague.name}", "maintainer", f"{acme}/web")
    assert (await rename(colleague, f"{acme}/web", f"{acme}/mine")).status == 403
    refused = await rename(owner, f"{acme}/web", f"{elsewhere}/web")
    assert refused.status == 403
    assert "right to create repositories" in refused.json()["detail"]
    await grant(client, f"user:{owner.name}", "reader", f"namespace:{elsewhere}")
    assert (await rename(owner, f"{acme}/web", f"{elsewhere}/web")).status == 403
    await grant(client, f"user:{owner.name}", "writer", f"namespace:{elsewhere}")
    assert (await rename(owner, f"{acme}/web", f"{elsewhere}/web")).status == 200


async def test_repository_that_moved_away_comes_back_with_the_right_to_create_there_only(
    client: Client, owner: Client, acme: str
) -> None:
    elsewhere = await add_namespace(client)
    await grant(client, f"user:{owner.name}", "writer", f"namespace:{elsewhere}")
    await add_repository(owner, f"{acme}/web")
    await rename(owner, f"{acme}/web", f"{elsewhere}/web")
    assert (await client.api("DELETE", f"/namespaces/{acme}/grants/user:{owner.name}")).status == 204
    assert (await rename(owner, f"{elsewhere}/web", f"{acme}/web")).status == 403


async def test_bounded_token_moves_no_repository_out_of_its_bounds(client: Client, owner: Client, acme: str) -> None:
    elsewhere = await add_namespace(client)
    await grant(client, f"user:{owner.name}", "writer", f"namespace:{elsewhere}")
    await add_repository(owner, f"{acme}/web")
    bounded = await add_token(owner, patterns=[f"{acme}/**"])
    assert (await rename(bounded, f"{acme}/web", f"{elsewhere}/web")).status == 403
    assert (await rename(bounded, f"{acme}/web", f"{acme}/console")).status == 200


async def test_rename_to_what_is_no_name_or_is_taken_changes_nothing(owner: Client, acme: str) -> None:
    await add_repository(owner, f"{acme}/web")
    await add_repository(owner, f"{acme}/taken")
    for wrong in ("Acme/Web", f"{acme}/", f"{acme}/../web", "", "x" * 300, f"{acme}/web\x00", f"{acme}/-/grants"):
        assert (await rename(owner, f"{acme}/web", wrong)).status == 400, wrong
    assert (await rename(owner, f"{acme}/web", f"{acme}/taken")).status == 409
    assert (await owner.api("GET", f"/repositories/{acme}/web")).headers["ETag"] == '"1"'


async def test_change_that_meets_a_move_leaves_name_and_namespace_together(
    client: Client, acme: str, shared_gateway: RunningGateway
) -> None:
    other = await add_namespace(client)
    names = [f"{acme}/web", f"{other}/web"]
    repository = (await add_repository(client, names[0]))["id"]
    for round_ in range(20):
        before, after = names if round_ % 2 == 0 else reversed(names)
        answers = await asyncio.gather(
            rename(client, before, after),
            *(client.api("PATCH", f"/repositories/{before}", {"description": f"{round_} {one}"}) for one in range(4)),
        )
        assert {answer.status for answer in answers} <= {200, 409}
        [row] = await run_sql(
            shared_gateway.database_url,
            "SELECT r.name, n.name AS namespace FROM gateway.repositories r JOIN gateway.namespaces n ON n.id = r.namespace_id"
            " WHERE r.id = $1",
            repository,
        )
        assert (row["name"], row["namespace"]) == (after, after.partition("/")[0])


# Deleting


async def test_deleted_repository_is_gone_for_all_and_its_name_is_free(
    client: Client, owner: Client, colleague: Client, acme: str
) -> None:
    repository = f"{acme}/console-web"
    await owner.push(repository, IMAGE, "latest")
    await owner.api("PATCH", f"/repositories/{repository}", {"visibility": "public"})
    await grant(owner, f"user:{colleague.name}", "writer", repository)
    token = owner.with_token(await owner.get_token(f"repository:{repository}:pull,push"))
    nobody = client.anonymous()
    assert [await pulls(who, repository) for who in (client, owner, colleague, token, nobody)] == [200] * 5
    location = await token.open_upload(repository)
    assert (await owner.api("DELETE", f"/repositories/{repository}")).status == 204
    assert [await pulls(who, repository) for who in (client, owner, colleague, token, nobody)] == [
        404, 404, 403, 404, 401,
    ]  # fmt: skip
    assert (await token.patch(location, b"more")).status == 404
    assert (await client.api("GET", f"/repositories/{repository}")).status == 404
    assert (await client.api("DELETE", f"/repositories/{repository}")).status == 404

    await add_repository(client, repository)
    assert await pulls(client, repository) == 404, "nothing of the old one is in the new one"
    assert [await pulls(who, repository) for who in (colleague, nobody)] == [403, 401]
    assert (await client.get_blob(repository, IMAGE.config_digest)).status == 404
    assert (await owner.api("DELETE", f"/repositories/{repository}")).status == 403, "the new one is somebody else's"
    assert (await token.patch(location, b"more")).status == 404


async def test_former_names_of_a_deleted_repository_lead_nowhere(owner: Client, acme: str) -> None:
    await add_repository(owner, f"{acme}/one")
    await rename(owner, f"{acme}/one", f"{acme}/two")
    assert (await owner.api("DELETE", f"/repositories/{acme}/two")).status == 204
    for name in ("one", "two"):
        assert (await owner.api("GET", f"/repositories/{acme}/{name}")).status == 404


# Versions, unknown fields, repeated requests


async def test_change_meant_for_another_version_is_refused(client: Client, owner: Client, acme: str) -> None:
    await add_repository(owner, f"{acme}/web")
    user = await add_user(client)
    for path, change in (
        (f"/repositories/{acme}/web", {"description": "x"}),
        (f"/namespaces/{acme}", {"description": "x"}),
        (f"/users/{user.name}", {"display_name": "x"}),
    ):
        seen = (await client.api("GET", path)).headers["ETag"]
        changed = await client.api("PATCH", path, change, headers={"If-Match": seen})
        assert changed.status == 200
        assert changed.headers["ETag"] == (await client.api("GET", path)).headers["ETag"] != seen
        for document in (change, {"description": "y"} if "display_name" not in change else {"display_name": "y"}):
            assert (await client.api("PATCH", path, document, headers={"If-Match": seen})).status == 412, path
        assert (await client.api("DELETE", path, headers={"If-Match": seen})).status == 412
        for nonsense in ("1", '"x"', '"1", "2"', '"99999999999"', "W/", ""):
            assert (await client.api("PATCH", path, change, headers={"If-Match": nonsense})).status == 400, nonsense
        same = await client.api("PATCH", path, change, headers={"If-Match": "*"})
        assert same.headers["ETag"] == changed.headers["ETag"], "nothing was changed"


async def test_of_two_changes_at_once_one_is_refused(owner: Client, acme: str) -> None:
    await add_repository(owner, f"{acme}/web")
    path, headers = f"/repositories/{acme}/web", {"If-Match": '"1"'}
    answers = await asyncio.gather(
        *(owner.api("PATCH", path, {"description": f"by {number}"}, headers=headers) for number in range(8))
    )
    assert sorted(answer.status for answer in answers) == [200, *[412] * 7]


def routes_with_a_body() -> list[tuple[str, str]]:
    found = [(route.method, route.path) for route in services()["gateway"].routes if route.body is not None]
    assert len(found) > 15
    return found


def filled(path: str, namespace: str) -> str:
    return (
        path.removeprefix("/api/v1")
        .replace("{name}", f"{namespace}/web")
        .replace("{namespace}", namespace)
        .replace("{robot}", f"{namespace}+robot")
        .replace("{subject}", "user:admin")
        .replace("{user}", "bob")
        .replace("{team}", f"team-of-{namespace}")
    )


@pytest.fixture
async def furnished(client: Client) -> str:
    """A namespace with one thing of every kind that a path can name."""
    namespace = await add_namespace(client)
    await add_repository(client, f"{namespace}/web")
    await add_robot(client, namespace, "robot")
    assert (await client.api("POST", "/teams", {"name": f"team-of-{namespace}"})).status == 201
    return namespace


# For each field of a body something that is taken, so that what is wrong is the one thing that the test put there.
GOOD: dict[str, Any] = {
    "role": "reader", "password": "a-password-of-ours", "current_password": "x", "visibility": "private", "kind": "package",
    "default_visibility": "private", "is_admin": False, "disabled": False, "create_on_push": True, "public_allowed": True,
    "labels": {"a": "b"}, "actions": ["pull"], "external_groups": ["a"], "expires_in_days": 1, "life_s": 900,
    "claims": {"repository": "acme/web"}, "issuer": "https://issuer.example", "verifier": "x" * 43, "code": "x",
}  # fmt: skip


def document_for(path: str, fields: dict[str, Any], namespace: str) -> dict[str, Any]:
    """A body that is good as it stands, but for a name that is taken."""
    own = {**GOOD, "name": f"{namespace}/web" if "repositories" in path else "admin", "patterns": [f"{namespace}/web"]}
    own |= {"repositories": [f"{namespace}/web"]}
    if path.endswith(("/account", "/members/{user}")):
        own |= {"role": "member", "password": None, "current_password": None}
    return {name: own.get(name, "text") for name in fields}


async def test_field_that_is_unknown_is_a_mistake_everywhere(client: Client, furnished: str) -> None:
    for method, path in routes_with_a_body():
        for body in (b'{"no_such_field": 1}', b"[]", b"null", b"1", b'"x"', b"", b"{", b"NaN", b"[" * 100_000, b"\xff"):
            answer = await client.request(
                method, f"/api/v1{filled(path, furnished)}", body=body, headers={"Content-Type": "application/json"}
            )
            assert answer.status == 400, f"{method} {path} {body[:20]!r}: {answer}"
            assert answer.headers["Content-Type"] == "application/problem+json"
        for content_type in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
            answer = await client.request(
                method, f"/api/v1{filled(path, furnished)}", body=b"{}", headers={"Content-Type": content_type}
            )
            assert answer.status == 400, f"{method} {path} {content_type}: {answer}"


HOSTILE = {"NUL": "a\x00b", "half a character": "a\ud800b", "100 kB": "x" * 100_000}


@pytest.mark.parametrize("why", HOSTILE)
async def test_hostile_text_is_refused_in_every_field(client: Client, furnished: str, why: str) -> None:
    text = HOSTILE[why]
    for route in services()["gateway"].routes:
        if route.body is None:
            continue
        fields = dict(route.body.model_fields)
        good = document_for(route.path, fields, furnished)
        for name in fields:
            if name == "current_password":
                continue  # a password is compared, whatever it is
            wrongs: list[Any] = [text]
            if isinstance(good[name], list):
                wrongs.append([text])
            if isinstance(good[name], dict):
                wrongs += [{text: "x"}, {"x": text}]
            for wrong in wrongs:
                document = {key: value for key, value in {**good, name: wrong}.items() if value is not None}
                path = filled(route.path, furnished)
                answer = await client.api(route.method, path, document)
                assert 400 <= answer.status < 500, f"{route.method} {route.path} {name}: {answer}"
    assert (await client.api("GET", f"/repositories/{furnished}/web")).headers["ETag"] == '"1"'


HOSTILE_IN_A_PATH = [
    "%00",
    "a%00b",
    "%ED%A0%80",
    "%FF",
    "\xff",
    "%C0%AE",
    "%2e%2e%2f",
    "x" * 3000,
    "%E2%80%AE",
    "%",
    "%zz",
    "💥",
]


@pytest.mark.parametrize("text", HOSTILE_IN_A_PATH, ids=lambda text: ascii(text[:12]))
async def test_hostile_text_is_refused_in_every_path_and_query(client: Client, furnished: str, text: str) -> None:
    written = text if text.isascii() else text.encode().decode("latin-1") if text != "\xff" else text
    asked: list[tuple[str, str]] = []
    for route in services()["gateway"].routes:
        names = [part[1:-1] for part in route.path.split("/") if part.startswith("{")]
        body = route.body is not None
        for name in names:
            path = filled(route.path.replace(f"{{{name}}}", written), furnished).replace("{id}", "1")
            asked.append((route.method, f"/api/v1{path}"))
        for name in route.query.model_fields if route.query is not None else ():
            path = filled(route.path, furnished).replace("{id}", "1")
            asked.append((route.method, f"/api/v1{path}?{name}={written}" + ("&body" if body else "")))
    received = await raw_statuses(client, asked)
    for (method, path), status in zip(asked, received, strict=True):
        # A search for odd text finds nothing, which is an answer.
        assert 400 <= status < 500 or (method == "GET" and status == 200 and "?" in path), (
            f"{method} {path[:200]}: {status}"
        )


async def raw_statuses(client: Client, asked: list[tuple[str, str]]) -> list[int]:
    """Send what no client library would: bytes as they are, one request after the other."""
    host, _, port = client.url.removeprefix("http://").partition(":")
    statuses = []
    for method, path in asked:
        reader, writer = await asyncio.open_connection(host, int(port))
        body = b'{"no_such_field": 1}'
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {client.authorization}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        writer.write(head.encode("latin-1") + body)
        async with asyncio.timeout(10):
            line = await reader.readline()
        writer.close()
        statuses.append(int(line.split()[1]))
    return statuses


async def test_repeated_creation_gets_the_same_answer_and_the_same_secret(
    client: Client, owner: Client, acme: str
) -> None:
    wishes: list[tuple[Client, str, dict[str, Any], str | None]] = [
        (owner, "/repositories", {"name": f"{acme}/web"}, None),
        (owner, "/account/tokens", {"name": "for a build"}, "token"),
        (client, "/namespaces", {"name": fresh_name("space")}, None),
        (client, "/users", {"name": fresh_name()}, "password"),
        (client, f"/namespaces/{acme}/robots", {"name": "ci"}, "secret"),
    ]
    for who, path, document, secret in wishes:
        headers = {"Idempotency-Key": fresh_name("key")}
        first, second = [await who.api("POST", path, document, headers=headers) for _ in range(2)]
        assert (first.status, second.status) == (201, 201), f"{first} {second}"
        assert first.body == second.body
        assert first.headers.get("Location") == second.headers.get("Location")
        assert (first.headers.get("Idempotent-Replay"), second.headers["Idempotent-Replay"]) == (None, "true")
        assert secret is None or len(first.json()[secret]) > 20
        other = await who.api("POST", path, {**document, "description": "x"}, headers=headers)
        assert other.status == 400, f"another body: {other}"


async def test_key_that_was_used_for_another_path_or_body_is_refused(owner: Client, acme: str) -> None:
    headers = {"Idempotency-Key": fresh_name("key")}
    assert (await owner.api("POST", "/repositories", {"name": f"{acme}/one"}, headers=headers)).status == 201
    for path, document in (("/repositories", {"name": f"{acme}/two"}), ("/account/tokens", {"name": f"{acme}/one"})):
        refused = await owner.api("POST", path, document, headers=headers)
        assert refused.status == 400
        assert "another request" in refused.json()["detail"]
    assert (await owner.api("GET", f"/repositories/{acme}/two")).status == 404


async def test_key_belongs_to_whoever_used_it(client: Client, owner: Client, acme: str) -> None:
    headers = {"Idempotency-Key": fresh_name("key")}
    tokens = [
        (await who.api("POST", "/account/tokens", {"name": "for a build"}, headers=headers)).json()["token"]
        for who in (client, owner)
    ]
    assert tokens[0] != tokens[1]


async def test_request_that_failed_may_be_sent_again_with_its_key(client: Client, owner: Client, acme: str) -> None:
    headers = {"Idempotency-Key": fresh_name("key")}
    wish = {"name": f"{acme}/web", "visibility": "public"}
    await client.api("PATCH", f"/namespaces/{acme}", {"public_allowed": False})
    assert (await owner.api("POST", "/repositories", wish, headers=headers)).status == 400
    await client.api("PATCH", f"/namespaces/{acme}", {"public_allowed": True})
    assert (await owner.api("POST", "/repositories", wish, headers=headers)).status == 201


async def test_same_key_at_the_same_time_creates_once(client: Client, shared_gateway: RunningGateway) -> None:
    headers, name = {"Idempotency-Key": fresh_name("key")}, fresh_name()

    async def create() -> Answer:
        return await client.api("POST", "/users", {"name": name}, headers=headers)

    connection = await asyncpg.connect(shared_gateway.database_url)
    try:
        # Somebody else has the name for a moment, so that the first request takes until they let it go.
        held = connection.transaction()
        await held.start()
        await connection.execute("INSERT INTO gateway.principals (kind, name) VALUES ('user', $1)", name)
        first = asyncio.create_task(create())
        async with asyncio.timeout(10):
            while not await connection.fetchval(
                "SELECT EXISTS (SELECT FROM gateway.idempotent_answers WHERE key = $1)", headers["Idempotency-Key"]
            ):
                await asyncio.sleep(0.01)
        refused = await create()
        assert (refused.status, "under way" in refused.json()["detail"]) == (409, True)
        await held.rollback()
    finally:
        await connection.close()
    made = await first
    assert (made.status, (await create()).body) == (201, made.body)


@pytest.mark.parametrize("key", ["", "x" * 129, "a b", "\xe4", "a\tb"])
async def test_key_that_is_none_is_refused(client: Client, key: str) -> None:
    answer = await client.api("POST", "/namespaces", {"name": fresh_name("space")}, headers={"Idempotency-Key": key})
    assert answer.status == 400


# Lists


async def pages(client: Client, path: str, key: str, *, n: int) -> list[Any]:
    """Everything that is listed, a page at a time."""
    found: list[Any] = []
    last = ""
    while True:
        answer = await client.api("GET", path, n=str(n), **({"last": last} if last else {}))
        assert answer.status == 200, str(answer)
        page = answer.json()[key]
        assert len(page) <= n
        found += page
        if answer.json()["next"] is None:
            return found
        assert len(page) == n
        last = answer.json()["next"]


async def test_pages_of_any_size_make_the_whole_list(client: Client, owner: Client, acme: str) -> None:
    names = sorted(f"{acme}/{word}" for word in ("a", "a-b", "a.b", "a/b", "b", "b/c/d"))
    for name in names:
        await add_repository(owner, name)
    people = [await add_user(client) for _ in range(3)]
    for one in people:
        await grant(owner, f"user:{one.name}", "reader", names[0])
        await grant(client, f"user:{one.name}", "reader", f"namespace:{acme}")
        await grant(client, f"user:{one.name}", "writer", f"pattern:{acme}/web-*")
    for n in (1, 2, 3, 1000):
        listed = await pages(owner, f"/repositories?namespace={acme}", "repositories", n=n)
        assert [one["name"] for one in listed] == names
        given = await pages(owner, f"/repositories/{names[0]}/-/grants", "grants", n=n)
        assert [one["subject"] for one in given] == [f"user:{one.name}" for one in (owner, *people)]
        inside = await pages(client, f"/namespaces/{acme}/grants", "grants", n=n)
        assert [one["on"] for one in inside] == [
            f"namespace:{acme}",
            *[f"namespace:{acme}", f"pattern:{acme}/web-*"] * 3,
        ]
    users = [one["name"] for one in await pages(client, "/users", "users", n=2)]
    assert users == sorted(users)
    assert {one.name for one in people} < set(users)
    spaces = [one["name"] for one in await pages(client, "/namespaces", "namespaces", n=3)]
    assert acme in spaces
    assert len(spaces) == len(set(spaces))


async def test_audit_log_of_a_repository_is_whole_in_pages_of_any_size_and_as_lines(owner: Client, acme: str) -> None:
    name = f"{acme}/web"
    await add_repository(owner, name)
    for number in range(7):
        await owner.api("PATCH", f"/repositories/{name}", {"description": f"{number}"})
    path = f"/repositories/{name}/-/audit"
    whole = (await owner.api("GET", path, n="1000", outcome="changed")).json()["entries"]
    assert [one["action"].split(".")[2] for one in whole] == ["updated"] * 7 + ["given", "created"]
    assert {(one["actor"], one["target"], one["address"]) for one in whole} == {(owner.name, name, "127.0.0.1")}
    for n in (1, 2, 5, 9):
        assert await pages(owner, f"{path}?outcome=changed", "entries", n=n) == whole
    lines = await owner.api("GET", path, outcome="changed", headers={"Accept": "application/x-ndjson"})
    assert [json.loads(line) for line in lines.body.splitlines()] == whole


ODD_MOMENTS = [
    "0001-01-01T00:00:00%2B14:00", "9999-12-31T23:59:59-14:00", "0001-01-01", "9999-12-31T23:59:59.999999Z",
    "2024-01-01T00:00:00", "1e400", "-1e20", "99999999999", "infinity", "nan", "now", "2024-13-01", "24:00", "%00", "x" * 3000,
]  # fmt: skip
ODD_PLACES = [
    "x", ",,", "2024-01-01T00:00:00,refusal,1", "0001-01-01T00:00:00%2B23:59,refusal,1", "9999-12-31T23:59:59-23:59,a,1",
    *(f"2024-01-01T00:00:00%2B00:00,{stream},{number}" for stream in ("refusal", "repository/1", "", "%F0%9F%92%A5")
      for number in ("-1", "0", "9223372036854775807", "9223372036854775808", "9" * 30, "-" + "9" * 30, "1_0", "x", "\u0661")),
]  # fmt: skip


async def test_odd_times_and_places_in_the_audit_log_are_harmless(client: Client) -> None:
    queries = [f"{name}={text}" for name in ("since", "until") for text in ODD_MOMENTS]
    for query in [*queries, *(f"last={text}" for text in ODD_PLACES)]:
        for outcome in ("", "&outcome=refused", "&outcome=changed"):
            answer = await client.api("GET", f"/audit?n=1&{query}{outcome}")
            assert answer.status in (200, 400), query


async def test_repositories_are_found_by_what_is_asked_of_them(owner: Client, client: Client, acme: str) -> None:
    other = await add_namespace(client)
    await grant(client, f"user:{owner.name}", "writer", f"namespace:{other}")
    await add_repository(owner, f"{acme}/web", kind="application", visibility="public")
    await add_repository(owner, f"{acme}/base", kind="package")
    await add_repository(owner, f"{other}/web-2", kind="package")

    async def found(**wanted: str) -> list[str]:
        listed = (await owner.api("GET", "/repositories", n="1000", **wanted)).json()["repositories"]
        return [one["name"] for one in listed if one["namespace"] in (acme, other)]

    assert await found(namespace=acme) == [f"{acme}/base", f"{acme}/web"]
    assert await found(q="web") == sorted([f"{acme}/web", f"{other}/web-2"])
    assert await found(q="%") == []
    assert await found(q="_") == []
    assert await found(visibility="public") == [f"{acme}/web"]
    assert await found(kind="package") == sorted([f"{acme}/base", f"{other}/web-2"])
    assert await found(kind="package", namespace=acme, q="as", visibility="private") == [f"{acme}/base"]
    assert await found(namespace="no-such-namespace") == []
    for wrong in ({"kind": "x"}, {"visibility": "x"}, {"n": "0"}, {"n": "1001"}, {"n": "x"}):
        assert (await owner.api("GET", "/repositories", **wrong)).status == 400


# Users


async def test_generated_password_is_shown_once(client: Client) -> None:
    name = fresh_name()
    made = await client.api("POST", "/users", {"name": name, "display_name": "Ada", "email": "ada@example.com"})
    assert (made.status, made.headers["Location"]) == (201, f"/api/v1/users/{name}")
    password = made.json()["password"]
    assert len(password) >= 20
    assert (await client.with_basic(name, password).get("/v2/")).status == 200
    shown = await client.api("GET", f"/users/{name}")
    assert "password" not in shown.json()
    assert password not in shown.body.decode() + (await client.api("GET", "/users?n=1000")).body.decode()
    assert shown.json()["last_login_at"] is not None
    chosen = await client.api("POST", "/users", {"name": fresh_name(), "password": PASSWORD})
    assert chosen.json()["password"] is None


@pytest.mark.parametrize("password", ["", "short", "x" * 1025, "slipway_pat_something"])
async def test_password_that_no_login_would_take_is_refused(client: Client, password: str) -> None:
    answer = await client.api("POST", "/users", {"name": fresh_name(), "password": password})
    assert answer.status == 400
    assert not password or password not in answer.body.decode()


async def test_name_that_is_taken_or_would_be_misread_is_refused(client: Client) -> None:
    taken = await add_user(client)
    assert (await client.api("POST", "/users", {"name": taken.name, "password": PASSWORD})).status == 409
    for wrong in ("anonymous", "system", "service", "", "A", "a+b", "a b", "-a", "a-", "a:b", "a/b", "x" * 65, "ä"):
        assert (await client.api("POST", "/users", {"name": wrong, "password": PASSWORD})).status == 400, wrong


async def cookie_of(client: Client, name: str, password: str = PASSWORD) -> dict[str, str]:
    """Log in as a browser does."""
    answer = await client.anonymous().api("POST", "/login-session", {"name": name, "password": password})
    assert answer.status == 204, str(answer)
    return {"Cookie": answer.headers["Set-Cookie"].partition(";")[0]}


async def refresh(client: Client, token: str) -> int:
    body = f"grant_type=refresh_token&service=slipway&refresh_token={token}".encode()
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    return (await client.anonymous().request("POST", "/token", body=body, headers=headers)).status


class Logins:
    """Every way in which somebody can be logged in."""

    def __init__(
        self, user: Client, token: Client, bearers: list[Client], cookie: dict[str, str], refresh: str
    ) -> None:
        self.user, self.token, self.bearers, self.cookie, self.refresh = user, token, bearers, cookie, refresh

    async def hold(self) -> dict[str, bool]:
        """Which of them do at this moment."""
        nobody = self.user.anonymous()
        return {
            "password": (await self.user.get("/v2/")).status == 200,
            "bearer by password": (await self.bearers[0].get("/v2/")).status == 200,
            "cookie": (await nobody.api("GET", "/login-session", headers=self.cookie)).status == 200,
            "refresh token": await refresh(nobody, self.refresh) == 200,
            "access token": (await self.token.get("/v2/")).status == 200,
            "bearer by access token": (await self.bearers[1].get("/v2/")).status == 200,
        }


BY_PASSWORD = {"password", "bearer by password", "cookie", "refresh token"}


async def all_logins(user: Client) -> Logins:
    token = await add_token(user)
    bearers = [user.with_token(await who.get_token()) for who in (user, token)]
    offline = (await user.get("/token?service=slipway&offline_token=true")).json()["refresh_token"]
    return Logins(user, token, bearers, await cookie_of(user, user.name), offline)


def holding(held: dict[str, bool]) -> set[str]:
    return {login for login, holds in held.items() if holds}


async def test_new_password_ends_every_login_with_the_old_one_at_once(client: Client) -> None:
    user = await add_user(client)
    logins = await all_logins(user)
    assert all((await logins.hold()).values())
    assert (await client.api("PATCH", f"/users/{user.name}", {"password": "another-password"})).status == 200
    assert holding(await logins.hold()) == {"access token", "bearer by access token"}
    assert (await user.with_basic(user.name, "another-password").get("/v2/")).status == 200


async def test_own_password_is_changed_by_who_knows_the_present_one(client: Client) -> None:
    user = await add_user(client)
    logins = await all_logins(user)
    for wrong in ({}, {"current_password": "wrong"}, {"current_password": ""}):
        assert (await user.api("PATCH", "/account", {"password": "another-password", **wrong})).status == 403
    assert all((await logins.hold()).values())
    right = {"password": "another-password", "current_password": PASSWORD}
    # By the access token, so that the answer can show the account: the password's own login ends with it.
    assert (await logins.token.api("PATCH", "/account", right)).status == 200
    assert holding(await logins.hold()) == {"access token", "bearer by access token"}


async def test_own_password_is_changed_by_the_password_itself(client: Client) -> None:
    user = await add_user(client)
    right = {"password": "another-password", "current_password": PASSWORD, "display_name": "Ada"}
    changed = await user.api("PATCH", "/account", right)
    assert (changed.status, changed.json()["display_name"]) == (200, "Ada")
    assert (await user.get("/v2/")).status == 401


async def test_disabled_account_has_no_login_at_all(client: Client) -> None:
    user = await add_user(client)
    logins = await all_logins(user)
    await client.api("PATCH", f"/users/{user.name}", {"disabled": True})
    assert holding(await logins.hold()) == set()
    await client.api("PATCH", f"/users/{user.name}", {"disabled": False})
    held = holding(await logins.hold())
    assert held == {"password", "access token", "bearer by access token"}, "what was a login stays ended"


async def test_deleted_account_leaves_its_name_and_none_of_its_rights(client: Client, acme: str) -> None:
    user = await add_user(client)
    await grant(client, f"user:{user.name}", "writer", f"namespace:{acme}")
    await add_repository(user, f"{acme}/web")
    logins = await all_logins(user)
    assert (await client.api("DELETE", f"/users/{user.name}")).status == 204
    assert holding(await logins.hold()) == set()
    assert (await client.api("GET", f"/users/{user.name}")).status == 404
    assert (await client.api("GET", f"/repositories/{acme}/web/-/grants")).json()["grants"] == []
    again = await add_user(client, user.name)
    assert holding(await logins.hold()) == {"password"}, "the new one has the same password, and nothing else"
    assert (await again.get(f"/v2/{acme}/web/tags/list")).status == 403
    assert (await again.api("GET", "/account/tokens")).json()["tokens"] == []


async def test_nobody_deletes_the_account_that_they_use(client: Client) -> None:
    operator = await add_user(client, is_admin=True)
    assert (await operator.api("DELETE", f"/users/{operator.name}")).status == 400
    assert (await operator.get("/v2/")).status == 200


async def test_right_of_an_administrator_ends_with_the_next_request(client: Client) -> None:
    operator = await add_user(client, is_admin=True)
    assert (await operator.api("GET", "/users")).status == 200
    assert (await client.api("PATCH", f"/users/{operator.name}", {"is_admin": False})).status == 200
    assert (await operator.api("GET", "/users")).status == 403
    assert (await operator.api("GET", "/users/admin")).status == 403


# A gateway of these tests' own: other settings, and nobody else who is an administrator.


@pytest.fixture(scope="module")
def own_gateway(postgres_server: str) -> Iterator[RunningGateway]:
    """Every user may create namespaces here; former names are not kept."""
    with gateway_of_its_own(postgres_server, "own_gateway", namespace_creation="users", alias_days=0) as gateway:
        yield gateway


@pytest.fixture
async def own(own_gateway: RunningGateway) -> AsyncIterator[Client]:
    async with open_client(own_gateway.url) as opened:
        yield opened


async def test_user_who_may_create_namespaces_owns_what_they_create(own: Client) -> None:
    user, other = await add_user(own), await add_user(own)
    space = await add_namespace(user, public_allowed=False)
    await user.push(f"{space}/web", IMAGE, "latest")
    assert (await user.api("PATCH", f"/namespaces/{space}", {"public_allowed": True})).status == 200
    await grant(user, f"user:{other.name}", "reader", f"namespace:{space}")
    assert await pulls(other, f"{space}/web") == 200
    assert (await other.api("PATCH", f"/namespaces/{space}", {"public_allowed": False})).status == 403
    assert (await own.api("POST", "/namespaces", {"name": space})).status == 409
    assert (await user.start_upload(f"{fresh_name('unheard-of')}/web")).status == 403, "a push makes no namespace"
    assert (await user.start_upload(fresh_name("root-name"))).status == 403
    bounded = await add_token(user, actions=["pull", "push"])
    assert (await bounded.api("POST", "/namespaces", {"name": fresh_name("space")})).status == 403
    robot = await add_robot(user, space, role="admin")
    assert (await robot.api("POST", "/namespaces", {"name": fresh_name("space")})).status == 403


async def test_former_name_leads_nowhere_where_none_are_kept(own: Client) -> None:
    space = await add_namespace(own)
    await own.push(f"{space}/one", IMAGE, "latest")
    await rename(own, f"{space}/one", f"{space}/two")
    assert (await pulls(own, f"{space}/one"), await pulls(own, f"{space}/two")) == (404, 200)


async def test_last_administrator_stays_one(own: Client) -> None:
    token = await add_token(named_admin(own))
    for change in ({"is_admin": False}, {"disabled": True}):
        refused = await token.api("PATCH", "/users/admin", change)
        assert refused.status == 409
        assert "last administrator" in refused.json()["detail"]
    second = await add_user(own, is_admin=True)
    await own.api("PATCH", f"/users/{second.name}", {"disabled": True})
    assert (await own.api("PATCH", "/users/admin", {"is_admin": False})).status == 409, "the other one is disabled"
    await own.api("PATCH", f"/users/{second.name}", {"disabled": False})
    assert (await second.api("PATCH", "/users/admin", {"is_admin": False})).status == 200
    assert (await second.api("PATCH", f"/users/{second.name}", {"is_admin": False})).status == 409
    assert (await second.api("PATCH", "/users/admin", {"is_admin": True})).status == 200
    assert (await own.api("PATCH", f"/users/{second.name}", {"is_admin": False})).status == 200


async def test_of_two_administrators_who_dismiss_each_other_one_stays(own: Client) -> None:
    for _ in range(5):
        second = await add_user(own, is_admin=True)
        answers = await asyncio.gather(
            own.api("PATCH", f"/users/{second.name}", {"is_admin": False}),
            second.api("PATCH", "/users/admin", {"is_admin": False}),
        )
        assert sorted(answer.status for answer in answers)[0] == 200
        left = [one for one in (own, second) if (await one.api("GET", "/users")).status == 200]
        assert len(left) == 1
        assert (await left[0].api("PATCH", "/users/admin", {"is_admin": True})).status == 200
        await own.api("PATCH", f"/users/{second.name}", {"is_admin": False})


def named_admin(client: Client) -> Client:
    client.name = "admin"
    return client
