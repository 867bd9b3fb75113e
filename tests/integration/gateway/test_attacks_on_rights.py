"""Attacks on rights: content of others that shows through, rights that outlive their reason, names that are not what they say."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from joserfc import jwk, jwt

from slipway_common.oci.names import InvalidName, parse_repository_name
from slipway_common.security.master_key import load_master_key
from slipway_common.testing.images import Image, an_image, digest
from tests.integration.gateway.client import Answer, Client
from tests.integration.gateway.people import (
    add_namespace,
    add_repository,
    add_robot,
    add_token,
    add_user,
    fresh_name,
    grant,
)
from tests.integration.gateway.running import RunningGateway, run_sql
from tests.integration.gateway.test_repeats import Wire

MISSING = digest(b"nobody has this")


@dataclass(slots=True)
class Neighbours:
    """Two namespaces: in one there are secrets, in the other somebody who would like to have them."""

    admin: Client
    secret: str
    image: Image
    own: str
    attacker: Client

    @property
    def layer(self) -> str:
        return self.image.layer_digests[0]


@pytest.fixture
async def neighbours(client: Client) -> Neighbours:
    theirs, own = await add_namespace(client), await add_namespace(client)
    image = an_image(f"secret of {theirs}").with_layer(f"a layer of {theirs}".encode()).build()
    await client.push(f"{theirs}/secret", image, "latest")
    attacker = await add_user(client)
    await grant(client, f"user:{attacker.name}", "admin", f"namespace:{own}")
    await add_repository(attacker, f"{own}/mine")
    return Neighbours(client, f"{theirs}/secret", image, f"{own}/mine", attacker)


def told(answer: Answer, *names: str) -> tuple[int, list[tuple[str, str]], bytes]:
    """All that an answer tells, but for ids, the time, and what was asked for."""
    body = answer.body
    headers = []
    for name, value in answer.headers.items():
        if name.lower() not in ("date", "x-request-id"):
            headers.append((name, re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID", value)))
    for asked in names:
        body = body.replace(asked.encode(), b"ASKED")
        headers = [(name, value.replace(asked, "ASKED")) for name, value in headers]
    return answer.status, sorted(headers), re.sub(rb'"request_id":"[^"]*"', b"", body)


# A2: mounts


async def mount(client: Client, to: str, blob: str, source: str | None) -> Answer:
    return await client.start_upload(to, mount=blob, **({"from": source} if source is not None else {}))


async def test_mount_from_a_secret_is_answered_like_a_mount_of_nothing(neighbours: Neighbours) -> None:
    attacker, own, secret = neighbours.attacker, neighbours.own, neighbours.secret
    bearer = attacker.with_token(await attacker.get_token(f"repository:{own}:pull,push", f"repository:{secret}:pull"))
    for who in (attacker, bearer):
        nothing = told(await mount(who, own, MISSING, own))
        assert nothing[0] == 202
        for blob, source in (
            (neighbours.layer, secret), (neighbours.image.config_digest, secret), (MISSING, secret),
            (neighbours.layer, f"{secret}-no"), (neighbours.layer, own), (neighbours.layer, "Not/A/Name"), (neighbours.layer, ""),
        ):  # fmt: skip
            assert told(await mount(who, own, blob, source)) == nothing, (blob, source)
        assert (await who.head(f"/v2/{own}/blobs/{neighbours.layer}")).status == 404
    assert told(await mount(attacker, own, neighbours.layer, None)) == told(await mount(attacker, own, MISSING, None))


async def test_mount_without_a_source_searches_readable_repositories_only(neighbours: Neighbours) -> None:
    attacker, own = neighbours.attacker, neighbours.own
    assert (await mount(attacker, own, neighbours.layer, None)).status == 202
    await grant(neighbours.admin, f"user:{attacker.name}", "reader", neighbours.secret)
    pushes_only = await add_token(attacker, actions=["push"])
    elsewhere = await add_token(attacker, patterns=[own])
    bearer = attacker.with_token(await attacker.get_token(f"repository:{own}:pull,push"))
    for bounded in (pushes_only, elsewhere, bearer):
        assert (await mount(bounded, own, neighbours.layer, None)).status == 202, "readable, but not with this"
        assert (await attacker.head(f"/v2/{own}/blobs/{neighbours.layer}")).status == 404
    for bounded in (pushes_only, elsewhere):
        assert (await mount(bounded, own, neighbours.layer, neighbours.secret)).status == 202
    assert (await mount(attacker, own, neighbours.layer, None)).status == 201


async def test_mount_works_from_what_was_granted_and_not_any_more_once_that_is_taken(neighbours: Neighbours) -> None:
    attacker, own, secret = neighbours.attacker, neighbours.own, neighbours.secret
    await grant(neighbours.admin, f"user:{attacker.name}", "reader", secret)
    assert (await mount(attacker, own, neighbours.layer, secret)).status == 201
    await neighbours.admin.api("DELETE", f"/repositories/{secret}/-/grants/user:{attacker.name}")
    assert (await mount(attacker, own, neighbours.image.config_digest, secret)).status == 202


# A3, A4: what is stored once is not known to all


async def test_blob_that_only_others_have_is_not_there(neighbours: Neighbours) -> None:
    attacker, own = neighbours.attacker, neighbours.own
    for method in ("HEAD", "GET", "DELETE"):
        there, nowhere = [
            await attacker.request(method, f"/v2/{own}/blobs/{blob}") for blob in (neighbours.layer, MISSING)
        ]
        assert told(there, neighbours.layer) == told(nowhere, MISSING)
        assert there.status == 404


async def test_digest_of_others_does_not_stand_for_other_bytes(neighbours: Neighbours) -> None:
    attacker, own = neighbours.attacker, neighbours.own
    for content in (b"", b"other bytes"):
        whole = await attacker.start_upload(own, body=content, digest=neighbours.layer)
        assert (whole.status, whole.codes) == (400, ["DIGEST_INVALID"])
        parts = await attacker.finish(await attacker.open_upload(own), neighbours.layer, content)
        assert (parts.status, parts.codes) == (400, ["DIGEST_INVALID"])
    assert (await attacker.head(f"/v2/{own}/blobs/{neighbours.layer}")).status == 404
    assert await neighbours.attacker.push_blob(own, neighbours.image.blobs[neighbours.layer]) == neighbours.layer


async def test_manifest_that_names_content_of_others_is_refused_and_makes_none_of_it_readable(
    neighbours: Neighbours,
) -> None:
    attacker, own, image = neighbours.attacker, neighbours.own, neighbours.image
    refused = await attacker.put_manifest(own, "latest", image.manifest, image.media_type)
    assert refused.codes == ["MANIFEST_BLOB_UNKNOWN"]
    named = json.loads(image.manifest)
    named["layers"][0]["digest"] = MISSING
    other = await attacker.put_manifest(own, "latest", json.dumps(named).encode(), image.media_type)
    assert other.codes == ["MANIFEST_BLOB_UNKNOWN"]
    for blob in image.blobs:
        assert (await attacker.get_blob(own, blob)).status == 404
    assert await attacker.list_tags(own) == []


async def test_index_that_names_an_image_of_others_is_refused(neighbours: Neighbours) -> None:
    index = {
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [neighbours.image.describe()],
    }  # fmt: skip
    refused = await neighbours.attacker.put_manifest(
        neighbours.own, "latest", json.dumps(index).encode(), index["mediaType"]
    )
    assert refused.codes == ["MANIFEST_BLOB_UNKNOWN"]
    assert (await neighbours.attacker.get_manifest(neighbours.own, neighbours.image.digest)).status == 404


# A5: uploads of others


async def test_upload_is_known_to_who_opened_it_where_it_was_opened(neighbours: Neighbours) -> None:
    admin, own, owner = neighbours.admin, neighbours.own, neighbours.attacker
    namespace = own.partition("/")[0]
    other = await add_user(admin)
    await grant(owner, f"user:{other.name}", "writer", f"namespace:{namespace}")
    robot = await add_robot(owner, namespace, role="admin")
    await add_repository(owner, f"{namespace}/second")
    location = await owner.open_upload(own)
    await owner.patch(location, b"half")
    upload = location.rpartition("/")[2]
    here, second = f"/v2/{own}/blobs/uploads/{upload}", f"/v2/{namespace}/second/blobs/uploads/{upload}"
    token = owner.with_token(await owner.get_token(f"repository:{namespace}/second:pull,push"))
    attempts = [(other, here), (robot, here), (admin, here), (owner, second), (token, second), (other, second)]
    for who, path in attempts:
        unknown = path.replace(upload, "123e4567-e89b-12d3-a456-426614174000")
        for method in ("GET", "PATCH", "PUT", "DELETE"):
            query = f"?digest={digest(b'half')}" if method == "PUT" else ""
            body = b"x" if method == "PATCH" else b""
            answer = await who.request(method, path + query, body=body)
            assert (answer.status, answer.codes) == (404, ["BLOB_UPLOAD_UNKNOWN"]), f"{method} {path}"
            nothing = await who.request(method, unknown + query, body=body)
            assert told(answer, upload) == told(nothing, "123e4567-e89b-12d3-a456-426614174000")
    assert (await owner.get(here)).headers["Range"] == "0-3", "and nobody has spoilt it"
    assert (await owner.finish(location, digest(b"half"))).status == 201


async def test_upload_of_a_robot_is_none_of_its_makers_business(neighbours: Neighbours) -> None:
    namespace = neighbours.own.partition("/")[0]
    robots = [await add_robot(neighbours.attacker, namespace, role="writer") for _ in range(2)]
    location = await robots[0].open_upload(neighbours.own)
    for who in (neighbours.attacker, robots[1]):
        assert (await who.patch(location, b"x")).codes == ["BLOB_UPLOAD_UNKNOWN"]
    assert (await robots[0].patch(location, b"x")).status == 202


# A6: what was taken is gone at the next request, however well it was remembered


Take = Callable[[Client, str, Client, str], Awaitable[Answer]]


def removing(method: str, path: str, document: Any = None) -> Take:
    async def take(admin: Client, repository: str, user: Client, team: str) -> Answer:
        filled = path.format(
            repository=repository,
            namespace=repository.partition("/")[0],
            user=user.name,
            team=team,
            digest=IMAGE.digest,
        )
        return await admin.request(
            method, filled, body=json.dumps(document).encode() if document is not None else None,
            headers={"Content-Type": "application/json"},
        )  # fmt: skip

    return take


IMAGE = an_image("warm").with_layer(b"warm layer").build()
# How somebody has a right, how it is taken, and what the next request is answered.
GRANTED = {
    "on the repository": ("{repository}", "/api/v1/repositories/{repository}/-/grants/user:{user}"),
    "in the namespace": ("namespace:{namespace}", "/api/v1/namespaces/{namespace}/grants/user:{user}"),
    "by a pattern": ("pattern:{repository}*", "/api/v1/grants/user:{user}?pattern={repository}*"),
    "by their team": ("team", "/api/v1/repositories/{repository}/-/grants/team:{team}"),
}
TAKEN: dict[str, tuple[str, Take, int]] = {
    **{f"grant {how}": (how, removing("DELETE", path), 403) for how, (_on, path) in GRANTED.items()},
    "member of the team": ("by their team", removing("DELETE", "/api/v1/teams/{team}/members/{user}"), 403),
    "team": ("by their team", removing("DELETE", "/api/v1/teams/{team}"), 403),
    "account that is disabled": (
        "on the repository", removing("PATCH", "/api/v1/users/{user}", {"disabled": True}), 401,
    ),
    "account": ("on the repository", removing("DELETE", "/api/v1/users/{user}"), 401),
    "password": ("on the repository", removing("PATCH", "/api/v1/users/{user}", {"password": "another-password"}), 401),
    "repository": ("in the namespace", removing("DELETE", "/api/v1/repositories/{repository}"), 404),
    "repository that was granted": ("on the repository", removing("DELETE", "/api/v1/repositories/{repository}"), 403),
    "manifest": ("on the repository", removing("DELETE", "/v2/{repository}/manifests/{digest}"), 404),
}  # fmt: skip


@pytest.fixture
async def wire(client: Client) -> AsyncIterator[Wire]:
    address = urlsplit(client.url)
    opened = Wire(*await asyncio.open_connection(address.hostname, address.port))
    yield opened
    opened.close()


def request_bytes(client: Client, path: str, method: str = "GET") -> bytes:
    authorization = f"Authorization: {client.authorization}\r\n" if client.authorization else ""
    return f"{method} {path} HTTP/1.1\r\nHost: registry\r\n{authorization}\r\n".encode()


@pytest.mark.parametrize("what", TAKEN)
async def test_what_is_taken_is_refused_to_the_next_request_even_if_it_is_the_same_bytes_again(
    client: Client, wire: Wire, what: str
) -> None:
    how, take, refused = TAKEN[what]
    repository, team = f"{await add_namespace(client)}/warm", fresh_name("team")
    await client.push(repository, IMAGE, "latest")
    user = await add_user(client)
    await client.api("POST", "/teams", {"name": team})
    await client.api("PUT", f"/teams/{team}/members/{user.name}", {"role": "member"})
    on = GRANTED[how][0].format(repository=repository, namespace=repository.partition("/")[0])
    subject = f"team:{team}" if on == "team" else f"user:{user.name}"
    await grant(client, subject, "reader", repository if on == "team" else on)
    bearer = user.with_token(await user.get_token(f"repository:{repository}:pull"))
    paths = [f"/v2/{repository}/manifests/latest", f"/v2/{repository}/manifests/{IMAGE.digest}"]
    if what != "manifest":
        paths += [f"/v2/{repository}/blobs/{IMAGE.layer_digests[0]}", f"/v2/{repository}/tags/list"]
    requests = [
        request_bytes(who, path, method) for who in (user, bearer) for path in paths for method in ("GET", "HEAD")
        if not (method == "HEAD" and path.endswith("list"))
    ]  # fmt: skip
    for request in requests * 4:
        assert (await wire.ask(request))[0] == 200
    answer = await take(client, repository, user, team)
    assert answer.status in (200, 202, 204), str(answer)
    for request in requests:
        assert (await wire.ask(request))[0] == refused, request


async def test_repository_that_is_private_again_is_refused_to_the_same_bytes(client: Client, wire: Wire) -> None:
    repository = f"{await add_namespace(client)}/warm"
    await client.push(repository, IMAGE, "latest")
    await client.api("PATCH", f"/repositories/{repository}", {"visibility": "public"})
    nobody, stranger = client.anonymous(), await add_user(client)
    bearer = nobody.with_token(await nobody.get_token(f"repository:{repository}:pull"))
    asked = {
        request_bytes(who, f"/v2/{repository}/{path}"): refused
        for who, refused in ((nobody, 401), (bearer, 401), (stranger, 403))
        for path in ("manifests/latest", f"blobs/{IMAGE.config_digest}", "tags/list")
    }
    for _ in range(5):
        for request in list(asked) * 3:
            assert (await wire.ask(request))[0] == 200
        await client.api("PATCH", f"/repositories/{repository}", {"visibility": "private"})
        for request, refused in asked.items():
            assert (await wire.ask(request))[0] == refused
        await client.api("PATCH", f"/repositories/{repository}", {"visibility": "public"})


@pytest.mark.parametrize("how", ["revoked by its owner", "revoked by an administrator", "its time is over"])
async def test_access_token_that_is_gone_is_refused_to_the_same_bytes(
    client: Client, wire: Wire, how: str, shared_gateway: RunningGateway
) -> None:
    repository = f"{await add_namespace(client)}/warm"
    await client.push(repository, IMAGE, "latest")
    user = await add_user(client)
    await grant(client, f"user:{user.name}", "reader", repository)
    # Two seconds: enough to warm up, and soon over.
    token = await add_token(user, **({"expires_in_days": 2 / 86_400} if how == "its time is over" else {}))
    ends_at = time.time() + 2.0
    bearer = token.with_token(await token.get_token(f"repository:{repository}:pull"))
    requests = [request_bytes(who, f"/v2/{repository}/manifests/latest") for who in (token, bearer)]
    for request in requests * 4:
        assert (await wire.ask(request))[0] == 200
    [shown] = (await user.api("GET", "/account/tokens")).json()["tokens"]
    if how == "its time is over":
        await asyncio.sleep(ends_at - time.time() + 0.1)
    else:
        path = "/account/tokens" if how == "revoked by its owner" else f"/users/{user.name}/tokens"
        by = user if how == "revoked by its owner" else client
        assert (await by.api("DELETE", f"{path}/{shown['id']}")).status == 204
    for request in requests:
        assert (await wire.ask(request))[0] == 401


async def test_administrator_who_is_none_any_more_reads_no_private_repository(client: Client, wire: Wire) -> None:
    repository = f"{await add_namespace(client)}/warm"
    await client.push(repository, IMAGE, "latest")
    operator = await add_user(client, is_admin=True)
    request = request_bytes(operator, f"/v2/{repository}/manifests/latest")
    for _ in range(4):
        assert (await wire.ask(request))[0] == 200
    await client.api("PATCH", f"/users/{operator.name}", {"is_admin": False})
    assert (await wire.ask(request))[0] == 403


async def test_role_that_is_lowered_pushes_no_more(client: Client) -> None:
    repository = f"{await add_namespace(client)}/warm"
    await client.push(repository, IMAGE, "latest")
    user = await add_user(client)
    await grant(client, f"user:{user.name}", "writer", repository)
    bearer = user.with_token(await user.get_token(f"repository:{repository}:pull,push"))
    location = await bearer.open_upload(repository)
    await grant(client, f"user:{user.name}", "reader", repository)
    for who in (user, bearer):
        assert (await who.start_upload(repository)).status == 403
        assert (await who.patch(location, b"x")).status == 403
        assert (await who.put_manifest(repository, "x", IMAGE.manifest, IMAGE.media_type)).status == 403
        assert (await who.get_manifest(repository, "latest")).status == 200


# A8: a token that expired while a long push went on


@dataclass(frozen=True, slots=True)
class Clock:
    """Makes of a token the same one, as if it had expired already."""

    key: jwk.ECKey
    kid: str

    def expired(self, token: str, **changed: Any) -> str:
        claims = {**jwt.decode(token, self.key, algorithms=["ES256"]).claims, "exp": int(time.time()) - 60, **changed}
        return jwt.encode({"alg": "ES256", "typ": "JWT", "kid": self.kid}, claims, self.key, algorithms=["ES256"])


@pytest.fixture
async def clock(shared_gateway: RunningGateway, client: Client) -> Clock:
    await client.get_token()
    box = load_master_key(shared_gateway.folder / "master.key")
    [row] = await run_sql(
        shared_gateway.database_url, "SELECT kid, private_key FROM keys.signing_keys WHERE purpose = 'registry' LIMIT 1"
    )
    return Clock(jwk.ECKey.import_key(box.open(row["private_key"])), row["kid"])


@dataclass(slots=True)
class LongPush:
    admin: Client
    user: Client
    repository: str
    fresh: Client
    late: Client
    location: str


@pytest.fixture
async def long_push(client: Client, clock: Clock) -> LongPush:
    """An upload, and the token that opened it, which has expired since."""
    repository = f"{await add_namespace(client)}/big"
    await client.push(repository, IMAGE, "latest")
    user = await add_user(client)
    await grant(client, f"user:{user.name}", "admin", repository)
    token = await user.get_token(f"repository:{repository}:pull,push,delete")
    fresh = user.with_token(token)
    location = await fresh.open_upload(repository)
    return LongPush(client, user, repository, fresh, user.with_token(clock.expired(token)), location)


async def test_expired_token_sees_the_upload_through_that_it_opened(long_push: LongPush) -> None:
    assert (await long_push.late.patch(long_push.location, b"late")).status == 202
    assert (await long_push.late.get(long_push.location)).status == 204
    assert (await long_push.late.finish(long_push.location, digest(b"later"), b"r")).status == 201
    assert (await long_push.late.get(long_push.location)).status == 401, "it is over, and so is the token"


async def test_expired_token_is_good_for_nothing_else(long_push: LongPush) -> None:
    late, repository = long_push.late, long_push.repository
    other = (await long_push.user.open_upload(repository)).rpartition("/")[2]
    by_another_token = long_push.user.with_token(await long_push.user.get_token(f"repository:{repository}:pull,push"))
    another = (await by_another_token.open_upload(repository)).rpartition("/")[2]
    for method, path in (
        ("GET", "manifests/latest"), ("PUT", "manifests/latest"), ("POST", "blobs/uploads/"), ("GET", "tags/list"),
        ("GET", f"blobs/{IMAGE.config_digest}"), ("DELETE", "manifests/latest"),
        *((method, f"blobs/uploads/{upload}") for upload in (other, another) for method in ("GET", "PATCH", "PUT", "DELETE")),
    ):  # fmt: skip
        refused = await late.request(method, f"/v2/{repository}/{path}")
        assert refused.status == 401, f"{method} {path}"
        assert 'error="invalid_token"' in refused.challenge
    for path in ("/v2/", "/token", "/api/v1/account", f"/api/v1/repositories/{repository}"):
        assert (await late.get(path)).status == 401


async def test_expired_token_opens_the_same_upload_nowhere_else(long_push: LongPush, clock: Clock) -> None:
    namespace, upload = long_push.repository.partition("/")[0], long_push.location.rpartition("/")[2]
    await add_repository(long_push.admin, f"{namespace}/other")
    await grant(long_push.admin, f"user:{long_push.user.name}", "admin", f"{namespace}/other")
    assert (await long_push.late.patch(f"/v2/{namespace}/other/blobs/uploads/{upload}", b"x")).status in (401, 404)
    somebody = await add_user(long_push.admin)
    await grant(long_push.admin, f"user:{somebody.name}", "admin", long_push.repository)
    theirs = await somebody.get_token(f"repository:{long_push.repository}:pull,push")
    assert (await somebody.with_token(clock.expired(theirs)).patch(long_push.location, b"x")).status == 401


@pytest.mark.parametrize(
    ("method", "path", "document", "refused"),
    [
        ("DELETE", "/repositories/{repository}/-/grants/user:{user}", None, 403),
        ("PUT", "/repositories/{repository}/-/grants/user:{user}", {"role": "reader"}, 403),
        ("PATCH", "/users/{user}", {"disabled": True}, 401), ("PATCH", "/users/{user}", {"password": "another-password"}, 401),
        ("DELETE", "/users/{user}", None, 401), ("DELETE", "/repositories/{repository}", None, 401),
    ],
    ids=["grant taken", "role lowered", "disabled", "new password", "deleted", "repository deleted"],
)  # fmt: skip
async def test_expired_token_ends_with_the_right_to_push(
    long_push: LongPush, method: str, path: str, document: Any, refused: int
) -> None:
    assert (await long_push.late.patch(long_push.location, b"one")).status == 202
    filled = path.format(repository=long_push.repository, user=long_push.user.name)
    assert (await long_push.admin.api(method, filled, document)).status in (200, 204)
    for _ in range(2):
        answer = await long_push.late.patch(long_push.location, b"two")
        assert answer.status in ({refused, 403} if "DELETE /repositories" in f"{method} {path}" else {refused}), str(
            answer
        )


async def test_expired_token_does_not_go_on_for_days(long_push: LongPush, shared_gateway: RunningGateway) -> None:
    upload = long_push.location.rpartition("/")[2]
    assert (await long_push.late.patch(long_push.location, b"one")).status == 202
    await run_sql(
        shared_gateway.database_url,
        "UPDATE gateway.uploads SET created_at = created_at - interval '25 hours' WHERE id = $1::text::uuid",
        upload,
    )
    assert (await long_push.late.patch(long_push.location, b"two")).status == 401
    assert (await long_push.fresh.patch(long_push.location, b"two")).status == 202, "with a good one it does"


async def test_token_that_expired_long_ago_or_never_covered_a_push_finishes_nothing(
    long_push: LongPush, clock: Clock
) -> None:
    token = (long_push.fresh.authorization or "").partition(" ")[2]
    scope = [{"type": "repository", "name": long_push.repository, "actions": ["pull"]}]
    for changed in (
        {"exp": int(time.time()) - 25 * 3600},
        {"access": []},
        {"access": scope},
        {"jti": "another"},
        {"jti": None},
    ):
        late = long_push.user.with_token(clock.expired(token, **changed))
        assert (await late.patch(long_push.location, b"x")).status == 401, changed


# A9: lists and explanations show what the caller may read


async def test_lists_show_readable_names_only(neighbours: Neighbours) -> None:
    attacker, theirs = neighbours.attacker, neighbours.secret.partition("/")[0]
    bearer = attacker.with_token(await attacker.get_token("registry:catalog:*"))
    bounded = await add_token(attacker, patterns=["elsewhere/**"])
    pushes_only = await add_token(attacker, actions=["push"])
    for who in (attacker, bounded, pushes_only):
        for query in (
            "",
            f"namespace={theirs}",
            "q=secret",
            "visibility=private",
            f"last={neighbours.secret[:-1]}",
            "kind=package",
        ):
            for path in ("/repositories", "/namespaces"):
                answer = await who.api("GET", f"{path}?n=1000&{query}")
                assert answer.status == 200
                assert theirs not in answer.body.decode(), (path, query)
        assert theirs not in (await who.get("/v2/_catalog?n=1000")).body.decode()
    assert theirs not in (await bearer.get("/v2/_catalog?n=1000")).body.decode()
    assert neighbours.own in (await bearer.get("/v2/_catalog?n=1000")).body.decode()
    own = neighbours.own.partition("/")[0]
    for who in (bounded, pushes_only):
        for path in ("/v2/_catalog?n=1000", "/api/v1/repositories?n=1000", "/api/v1/namespaces?n=1000"):
            assert own not in (await who.get(path)).body.decode(), "hers, but not with this"


async def test_audit_is_told_to_administrators_of_what_it_is_about(neighbours: Neighbours) -> None:
    attacker, secret = neighbours.attacker, neighbours.secret
    assert (await attacker.api("GET", "/audit")).status == 403
    assert (await attacker.api("GET", f"/audit?repository={neighbours.own}")).status == 403
    there = await attacker.api("GET", f"/repositories/{secret}/-/audit")
    missing = await attacker.api("GET", f"/repositories/{secret}-missing/-/audit")
    assert told(there) == told(missing)
    assert there.status == 403
    mine = await attacker.api("GET", f"/repositories/{neighbours.own}/-/audit", n="1000")
    assert mine.status == 200
    assert secret not in mine.body.decode()
    reader = await add_user(neighbours.admin)
    await grant(attacker, f"user:{reader.name}", "maintainer", neighbours.own)
    assert (await reader.api("GET", f"/repositories/{neighbours.own}/-/audit")).status == 403


async def test_explanation_does_not_tell_whether_a_repository_exists(neighbours: Neighbours) -> None:
    attacker, secret = neighbours.attacker, neighbours.secret
    me = f"user:{attacker.name}"
    for action in ("pull", "push", "delete", "maintain", "admin"):
        there, missing = [
            (await attacker.api("GET", "/authz/explain", principal=me, action=action, repository=name)).json()
            for name in (secret, f"{secret}-missing")
        ]
        assert there == missing
        assert there["allowed"] is False
    for principal in ("anonymous", "user:admin", "user:nobody-of-that-name", "robot:acme+ci"):
        there, missing = [
            await attacker.api("GET", "/authz/explain", principal=principal, action="pull", repository=name)
            for name in (secret, f"{secret}-missing")
        ]
        assert told(there) == told(missing)
        assert there.status == 403


async def test_explanation_is_told_to_who_may_know(neighbours: Neighbours) -> None:
    attacker = neighbours.attacker
    own = neighbours.own.partition("/")[0]
    explained = await attacker.api(
        "GET", "/authz/explain", principal="anonymous", action="pull", repository=f"{own}/missing"
    )
    assert "there is no repository of that name" in " ".join(explained.json()["because"])
    explained = await neighbours.admin.api(
        "GET", "/authz/explain", principal=f"user:{attacker.name}", action="push", repository=neighbours.own
    )
    assert explained.json()["allowed"] is True
    assert {one["on"] for one in explained.json()["grants"]} == {"namespace", "repository"}


async def test_scopes_of_a_token_do_not_tell_what_exists(neighbours: Neighbours) -> None:
    attacker, secret = neighbours.attacker, neighbours.secret
    lengths = set()
    for name in (secret, secret[:-1] + "x"):
        token = await attacker.get_token(f"repository:{name}:pull,push,delete")
        lengths.add(len(token.split(".")[1]))
    assert len(lengths) == 1


async def test_name_that_is_taken_is_told_to_who_could_have_it_only(neighbours: Neighbours) -> None:
    attacker, secret = neighbours.attacker, neighbours.secret
    there, missing = [
        await attacker.api("POST", "/repositories", {"name": name}) for name in (secret, f"{secret}-missing")
    ]
    assert told(there) == told(missing)
    moved = [
        await attacker.api("PATCH", f"/repositories/{neighbours.own}", {"name": name})
        for name in (secret, f"{secret}-missing")
    ]
    assert told(moved[0]) == told(moved[1])
    assert (there.status, moved[0].status) == (403, 403)


# Names


async def test_right_on_a_repository_gives_none_on_the_name_that_it_left(client: Client) -> None:
    space = await add_namespace(client)
    await client.push(f"{space}/tool", IMAGE, "latest")
    helper = await add_user(client)
    await grant(client, f"user:{helper.name}", "admin", f"{space}/tool")
    await client.api("PATCH", f"/repositories/{space}/tool", {"name": f"{space}/retired"})
    # Whoever could make a repository of the old name would be pulled from by all who still use it.
    assert (await helper.api("POST", "/repositories", {"name": f"{space}/tool"})).status == 403
    own = await add_namespace(client)
    await grant(client, f"user:{helper.name}", "admin", f"namespace:{own}")
    await add_repository(helper, f"{own}/trap")
    assert (await helper.api("PATCH", f"/repositories/{own}/trap", {"name": f"{space}/tool"})).status == 403
    assert (await client.get_manifest(f"{space}/tool", "latest")).status == 200
    assert (await helper.api("PATCH", f"/repositories/{space}/retired", {"name": f"{space}/tool"})).status == 403


async def test_nobody_makes_themselves_an_administrator(neighbours: Neighbours) -> None:
    attacker = neighbours.attacker
    assert (await attacker.api("PATCH", "/account", {"is_admin": True})).status == 400
    assert (await attacker.api("PATCH", f"/users/{attacker.name}", {"is_admin": True})).status == 403
    assert (await attacker.api("POST", "/users", {"name": fresh_name(), "is_admin": True})).status == 403
    assert (await attacker.api("PUT", f"/grants/user:{attacker.name}?pattern=**", {"role": "admin"})).status == 403
    assert (await attacker.api("GET", "/account")).json()["is_admin"] is False


PIECES = [
    "acme", "open", "secret", "..", ".", "", "-", "_catalog", "manifests", "blobs", "uploads", "tags", "list", "referrers",
    "latest", "grants", "events", "api", "v1", "v2", "SECRET", "secret.", "sec;ret", "..;", "\\", "a" * 300,
    "%2e%2e", "%2E", "%2f", "%252f", "%00", "%0a", "%5c", "%61cme", "%73ecret", "s%65cret", "secret%20", "secret%3f",
    "open%23", "secret%00", "%c0%ae%c0%ae", "%ef%bc%8f",
]  # fmt: skip
PIECE = st.sampled_from(PIECES)
RAW_PATHS = st.lists(
    st.tuples(st.sampled_from(["/", "/", "/", "//", "%2f", "%2F", "/./", "/../"]), PIECE), max_size=6
).map(lambda pairs: "".join(separator + piece for separator, piece in pairs))


@dataclass(slots=True)
class World:
    """One repository that a reader may read, one that they may not, and both names are told apart by what is in them."""

    port: int
    space: str
    reader: str
    admin: str


@pytest.fixture
async def world(client: Client, shared_gateway: RunningGateway) -> World:
    space = await add_namespace(client)
    for name in ("open", "secret"):
        await client.push(f"{space}/{name}", an_image(f"{name} of {space}").build(), f"tag-of-{name}")
        await client.push(f"{space}/{name}", an_image(f"{name} of {space}").build(), "latest")
    reader = await add_user(client)
    await grant(client, f"user:{reader.name}", "admin", f"{space}/open")
    return World(shared_gateway.port, space, reader.authorization or "", client.authorization or "")


def ask(world: World, method: str, path: str, authorization: str | None) -> tuple[int, dict[str, str], bytes]:
    """Send a path as it is, which no client library would."""
    connection = http.client.HTTPConnection("127.0.0.1", world.port, timeout=10)
    try:
        connection.putrequest(method, path, skip_accept_encoding=True)
        if authorization is not None:
            connection.putheader("Authorization", authorization)
        connection.putheader("Content-Length", "0")
        connection.endheaders()
        response = connection.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return response.status, headers, response.read()
    finally:
        connection.close()


SPEED = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@SPEED
@given(
    tail=RAW_PATHS,
    prefix=st.sampled_from(["/v2/{space}", "/v2/{space}/open", "/v2/{space}/open/", "/api/v1/repositories/{space}",
                            "/api/v1/repositories/{space}/open"]),
    method=st.sampled_from(["GET", "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]),
    end=st.sampled_from(["", "/tags/list", "/manifests/latest", "/blobs/uploads/", "/-/events", "/-/grants",
                         "/secret/tags/list"]),
)  # fmt: skip
def test_no_path_leads_to_a_repository_that_the_caller_has_no_right_on(
    world: World, tail: str, prefix: str, method: str, end: str
) -> None:
    path = prefix.replace("{space}", world.space) + tail.replace("acme", world.space) + end
    status, headers, body = ask(world, method, path, world.reader)
    assert status < 500, (method, path, status, body)
    # A name that the caller may do everything with is open's; nobody is told of the other, nor sent there.
    assert b"tag-of-secret" not in body
    assert f"{world.space}/secret/" not in headers.get("location", "")
    assert f'{world.space}/secret"' not in body.decode("utf-8", "replace") or status >= 400
    tags = ask(world, "GET", f"/v2/{world.space}/secret/tags/list", world.admin)
    assert json.loads(tags[2])["tags"] == ["latest", "tag-of-secret"]


@SPEED
@given(
    tail=RAW_PATHS,
    end=st.sampled_from(
        ["/blobs/uploads/", "/blobs/uploads", "/tags/list", "/manifests/no-such", "/referrers/" + MISSING]
    ),
)
def test_name_that_is_authorised_is_the_name_that_is_handled(world: World, tail: str, end: str) -> None:
    path = f"/v2/{world.space}" + tail.replace("acme", world.space) + end
    method = "POST" if "uploads" in end else "GET"
    status, headers, _ = ask(world, method, path, None)
    assert status in (400, 401, 404, 405), (path, status)
    handled_status, handled, body = ask(world, method, path, world.admin)
    if status != 401:
        assert handled_status == status, "what is no name for some is none for others"
        return
    challenged = re.search(r'scope="repository:([^:"]*):', headers["www-authenticate"])
    assert challenged is not None
    name = parse_repository_name(challenged[1])
    if "location" in handled:
        assert handled["location"].startswith(f"/v2/{name}/blobs/uploads/")
    elif handled_status == 404 and method == "GET":
        told_name = json.loads(body)["errors"][0].get("detail") or {}
        assert told_name.get("name", name) == name
    elif handled_status == 200 and end == "/tags/list":
        assert json.loads(body)["name"] == name


@SPEED
@given(tail=RAW_PATHS)
def test_repository_that_is_shown_has_the_name_that_was_asked_for(world: World, tail: str) -> None:
    written = world.space + tail.replace("acme", world.space)
    status, _, body = ask(world, "GET", f"/api/v1/repositories/{written}", world.admin)
    assert status < 500
    document = json.loads(body)
    if status == 200 and "name" in document:
        assert document["name"] == parse_repository_name(unquote(written))
        return
    try:
        name = parse_repository_name(unquote(written))
    except InvalidName:
        assert status in (200, 400, 404, 405)
    else:
        assert status == 404 or "%2" in written.lower(), name


async def test_path_that_is_none_and_method_that_is_none_are_told_as_problems(client: Client) -> None:
    for method, path, status, allowed in (
        ("GET", "/nothing", 404, None), ("POST", "/nothing", 404, None), ("GET", "/%0a", 404, None),
        ("PUT", "/api/v1/%0A/x", 404, None),
        ("DELETE", "/api/v1/repositories", 405, "GET, POST"), ("POST", "/api/v1/account", 405, "GET, PATCH"),
        ("PUT", "/token", 405, "GET, POST"), ("PUT", "/api/v1/users/bob", 405, "DELETE, GET, PATCH"),
    ):  # fmt: skip
        answer = await client.request(method, path)
        assert (answer.status, answer.headers.get("Allow")) == (status, allowed), f"{method} {path}"
        assert answer.headers["Content-Type"] == "application/problem+json"
