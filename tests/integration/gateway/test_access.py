"""Who may do what: every endpoint, every kind of caller; tokens as they are asked for, and as they are forged."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
from joserfc import jwk, jwt

from slipway_common.launcher.parts import runtime_folder
from slipway_common.testing.images import an_image
from slipway_common.web.peers import internal_socket
from slipway_gateway.api.paths import parse_path
from slipway_gateway.app import registry_endpoints
from tests.integration.gateway.client import Answer, Client, basic, open_client
from tests.integration.gateway.conftest import OTHER_PASSWORD
from tests.integration.gateway.running import (
    RunningGateway,
    add_principal,
    add_public_repository,
    run_sql,
    running_gateway,
)

DIGEST = "sha256:" + "0" * 64
UPLOAD = "123e4567-e89b-12d3-a456-426614174000"
# Every endpoint that names a repository: method, path, and the action it takes.
ENDPOINTS = [
    ("GET", "manifests/latest", "pull"),
    ("HEAD", "manifests/latest", "pull"),
    ("PUT", "manifests/latest", "push"),
    ("DELETE", "manifests/latest", "delete"),
    ("GET", f"blobs/{DIGEST}", "pull"),
    ("HEAD", f"blobs/{DIGEST}", "pull"),
    ("DELETE", f"blobs/{DIGEST}", "delete"),
    ("POST", "blobs/uploads/", "push"),
    ("GET", f"blobs/uploads/{UPLOAD}", "push"),
    ("PATCH", f"blobs/uploads/{UPLOAD}", "push"),
    ("PUT", f"blobs/uploads/{UPLOAD}", "push"),
    ("DELETE", f"blobs/uploads/{UPLOAD}", "push"),
    ("GET", "tags/list", "pull"),
    ("GET", f"referrers/{DIGEST}", "pull"),
]
endpoints = pytest.mark.parametrize(("method", "path", "action"), ENDPOINTS, ids=lambda value: str(value)[:22])


def test_every_endpoint_of_the_registry_is_in_the_matrix() -> None:
    class Anything:
        def __getattr__(self, _name: str) -> Anything:
            return self

    declared = {
        (kind, method, str(endpoint.action))
        for (kind, method), endpoint in registry_endpoints(Anything(), Anything()).items()  # type: ignore[arg-type]
        if endpoint.action is not None
    }
    listed = {
        (target.kind, method, action) for method, path, action in ENDPOINTS if (target := parse_path(f"/v2/a/{path}"))
    }
    assert listed == declared


async def test_internal_address_answers_services_only(
    client: Client, private: str, shared_gateway: RunningGateway
) -> None:
    user = await client.get_token(f"repository:{private}:pull,push,delete")
    tokens = {"none": None, "a user's": f"Bearer {user}", "a password": client.authorization, "garbage": "Bearer a.b.c"}
    socket = internal_socket(runtime_folder(shared_gateway.folder / "one"), "gateway")
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(socket))) as session:
        for path in (
            "repositories",
            "repositories/1/snapshot",
            f"repositories/1/manifests/{DIGEST}",
            f"repositories/1/blobs/{DIGEST}",
        ):
            for why, authorization in tokens.items():
                headers = {"Authorization": authorization} if authorization else {}
                async with session.get(f"http://x/internal/v1/{path}", headers=headers) as answer:
                    assert answer.status == 401, (path, why)
    assert (await client.get("/internal/v1/repositories")).status == 404


@pytest.fixture
async def private(client: Client, repository: str) -> str:
    """A private repository with an image in it."""
    await client.push(repository, an_image("private").build(), "latest")
    return repository


@pytest.fixture
async def public(shared_gateway: RunningGateway, client: Client, repository: str) -> str:
    """A public repository with an image in it."""
    name = f"{repository}-public"
    await add_public_repository(shared_gateway.database_url, name)
    await client.push(name, an_image("public").build(), "latest")
    return name


@endpoints
async def test_nobody_is_asked_to_log_in_whether_or_not_the_repository_exists(
    client: Client, private: str, method: str, path: str, action: str
) -> None:
    there = await client.anonymous().request(method, f"/v2/{private}/{path}")
    missing = await client.anonymous().request(method, f"/v2/{private}-missing/{path}")
    assert there.status == missing.status == 401
    assert there.body == missing.body
    assert there.challenge.replace(private, "x") == missing.challenge.replace(f"{private}-missing", "x")
    assert f'scope="repository:{private}:pull' in there.challenge
    assert "error=" not in there.challenge
    if action != "pull":
        assert action in there.challenge or action == "push"


@endpoints
async def test_somebody_without_a_right_is_denied_whether_or_not_the_repository_exists(
    eve: Client, private: str, method: str, path: str, action: str
) -> None:
    there = await eve.request(method, f"/v2/{private}/{path}")
    missing = await eve.request(method, f"/v2/{private}-missing/{path}")
    assert there.status == missing.status == 403
    assert there.body == missing.body
    if method != "HEAD":
        assert there.codes == ["DENIED"]


@endpoints
async def test_bad_token_is_called_invalid(client: Client, private: str, method: str, path: str, action: str) -> None:
    for token in ("garbage", "a.b.c", ""):
        answer = await client.with_token(token).request(method, f"/v2/{private}/{path}")
        assert answer.status == 401
        assert 'error="invalid_token"' in answer.challenge


@endpoints
async def test_wrong_password_is_refused_on_every_endpoint(
    guesser: Client, private: str, method: str, path: str, action: str
) -> None:
    for name in ("admin", "nobody-of-that-name"):
        answer = await guesser.with_basic(name, "wrong").request(method, f"/v2/{private}/{path}")
        assert answer.status == 401


@endpoints
async def test_token_of_another_repository_lacks_scope(
    client: Client, private: str, method: str, path: str, action: str
) -> None:
    token = await client.get_token("repository:acme/another:pull,push,delete")
    answer = await client.with_token(token).request(method, f"/v2/{private}/{path}")
    assert answer.status == 401
    assert 'error="insufficient_scope"' in answer.challenge


@endpoints
async def test_pull_token_pulls_and_does_nothing_else(
    client: Client, private: str, method: str, path: str, action: str
) -> None:
    token = await client.get_token(f"repository:{private}:pull")
    answer = await client.with_token(token).request(method, f"/v2/{private}/{path}")
    asks_for_progress = (method, path.split("/")[-2]) == ("GET", "uploads")
    if action == "pull" or asks_for_progress:
        assert answer.status in (200, 404)
    else:
        assert answer.status == 401
        assert 'error="insufficient_scope"' in answer.challenge
        wanted = "pull,push,delete" if method == "DELETE" else "pull,push"
        assert f'scope="repository:{private}:{wanted}"' in answer.challenge


@endpoints
async def test_public_repository_is_read_by_all_and_written_by_nobody_else(
    client: Client, eve: Client, public: str, method: str, path: str, action: str
) -> None:
    anonymous = await client.anonymous().request(method, f"/v2/{public}/{path}")
    somebody = await eve.request(method, f"/v2/{public}/{path}")
    if action == "pull":
        assert anonymous.status in (200, 404)
        assert somebody.status == anonymous.status
    else:
        assert (anonymous.status, somebody.status) == (401, 403)


async def test_missing_is_told_only_to_who_could_read_it(client: Client, eve: Client) -> None:
    path = "/v2/acme/nothing-here/manifests/latest"
    assert (await client.get(path)).codes == ["NAME_UNKNOWN"]
    assert (await eve.get(path)).codes == ["DENIED"]
    assert (await client.anonymous().get(path)).codes == ["UNAUTHORIZED"]


async def test_ping_challenges_until_somebody_is_known(client: Client, eve: Client) -> None:
    refused = await client.anonymous().get("/v2/")
    assert refused.status == 401
    assert refused.challenge == f'Bearer realm="{client.url}/token",service="slipway"'
    for caller in (client, eve, client.with_token(await client.get_token())):
        answer = await caller.get("/v2/")
        assert (answer.status, answer.json()) == (200, {})
        assert answer.headers["Docker-Distribution-Api-Version"] == "registry/2.0"
    nobody = client.with_token(await client.anonymous().get_token())
    assert (await nobody.get("/v2/")).status == 401


async def test_catalogue_shows_no_private_names_to_others(
    client: Client, eve: Client, private: str, public: str
) -> None:
    assert private in (await client.get("/v2/_catalog")).json()["repositories"]
    for path, key in (("/v2/_catalog", "repositories"), ("/api/v1/repositories?n=1000", "repositories")):
        listed = json.dumps((await eve.get(path)).json()[key])
        assert private + '"' not in listed
        assert public in listed


@pytest.mark.parametrize("path", ["/v2/", "/v2/_catalog", "/api/v1/repositories", "/api/v1/account", "/metrics"])
async def test_what_names_no_repository_needs_a_login(client: Client, path: str) -> None:
    assert (await client.anonymous().get(path)).status == 401
    assert (await client.with_token("garbage").get(path)).status == 401
    assert (await client.get(path)).status == 200


async def test_events_of_a_private_repository_are_nobodys_business(client: Client, eve: Client, private: str) -> None:
    path = f"/api/v1/repositories/{private}/-/events"
    assert (await client.anonymous().get(path)).status == 401
    assert (await eve.get(path)).status == 403
    assert (await eve.get(path.replace(private, "acme/nothing-here"))).status == 403
    assert (await client.get(path.replace(private, "acme/nothing-here"))).status == 404


async def test_metrics_are_for_administrators(eve: Client, client: Client) -> None:
    assert (await eve.get("/metrics")).status == 403
    assert b"slipway_registry_requests" in (await client.get("/metrics")).body


# The token protocol


@pytest.fixture
async def token_parts(client: Client) -> dict[str, Any]:
    return claims_of(await client.get_token("repository:acme/x:pull,push"))


def claims_of(token: str) -> dict[str, Any]:
    payload = token.split(".")[1]
    return dict(json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))))


async def test_token_covers_what_was_asked_and_its_owner_may_do(client: Client, eve: Client, public: str) -> None:
    asked = [f"repository:{public}:pull,push,delete", "repository:acme/new:push"]
    mine = claims_of(await client.get_token(*asked))
    granted = {entry["name"]: entry["actions"] for entry in mine["access"]}
    assert granted == {public: ["delete", "pull", "push"], "acme/new": ["pull", "push"]}
    hers = claims_of(await eve.get_token(*asked))
    assert {entry["name"]: entry["actions"] for entry in hers["access"]} == {public: ["pull"]}
    nobodys = claims_of(await client.anonymous().get_token(*asked))
    assert {entry["name"]: entry["actions"] for entry in nobodys["access"]} == {public: ["pull"]}
    assert nobodys["sub"] == ""


async def test_anonymous_token_pulls_what_is_public_and_is_asked_to_log_in_for_the_rest(
    client: Client, private: str, public: str
) -> None:
    token = await client.anonymous().get_token(f"repository:{public}:pull", f"repository:{private}:pull")
    nobody = client.with_token(token)
    assert (await nobody.get_manifest(public, "latest")).status == 200
    refused = await nobody.get_manifest(private, "latest")
    assert refused.status == 401
    push = await nobody.start_upload(public)
    assert push.status == 401


@pytest.mark.parametrize(
    "scope",
    [
        "", "repository", "repository:", "repository::", "repository:acme/x", "repository:ACME:pull", "registry:catalog",
        "registry:catalog:pull", "registry:*:*",
        "repository:acme/x:fly", "repository:acme/x:pull,,push", "repository(plugin):acme/x:pull", "a:b:c:d:e", "%00",
        "repository:acme/x:" + "pull," * 500, "repository:../etc:pull", "repository:acme/x:*",
    ],
)  # fmt: skip
async def test_odd_scopes_grant_no_more_than_they_name(eve: Client, scope: str) -> None:
    answer = await eve.get(f"/token?service=slipway&scope={scope}")
    assert answer.status == 200
    assert claims_of(answer.json()["token"])["access"] == []


async def test_catalogue_is_read_by_tokens_that_were_asked_for_it(client: Client) -> None:
    without = client.with_token(await client.get_token("repository:acme/x:pull"))
    refused = await without.get("/v2/_catalog")
    assert refused.status == 401
    assert 'scope="registry:catalog:*",error="insufficient_scope"' in refused.challenge
    assert (await client.with_token(await client.get_token("registry:catalog:*")).get("/v2/_catalog")).status == 200
    nobody = client.with_token(await client.anonymous().get_token("registry:catalog:*"))
    assert (await nobody.get("/v2/_catalog")).status == 401


async def test_several_scopes_in_one_parameter_and_in_several(client: Client) -> None:
    token = await client.get_token("repository:a/a:pull%20repository:b/b:pull", "repository:c/c:pull")
    assert {entry["name"] for entry in claims_of(token)["access"]} == {"a/a", "b/b", "c/c"}


async def test_token_answer_has_what_every_client_looks_for(client: Client) -> None:
    document = (await client.get("/token?service=slipway")).json()
    assert document["token"] == document["access_token"]
    assert document["expires_in"] == 300
    assert document["issued_at"].endswith("Z")


async def test_token_is_had_by_the_oauth2_form(client: Client, private: str) -> None:
    form = (
        f"grant_type=password&service=slipway&client_id=x&username=bob&password={OTHER_PASSWORD.replace(chr(39), '%27')}"
        f"&scope=repository:{private}:pull"
    )
    answer = await client.anonymous().request(
        "POST", "/token", body=form.encode(), headers={"Content-Type": "application/x-www-form-urlencoded"}
    )
    assert answer.status == 200
    assert (await client.with_token(answer.json()["access_token"]).get_manifest(private, "latest")).status == 200


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("application/x-www-form-urlencoded", b"", 400),
        ("application/x-www-form-urlencoded", b"grant_type=refresh_token&refresh_token=x", 401),
        ("application/x-www-form-urlencoded", b"grant_type=password", 401),
        ("application/x-www-form-urlencoded", b"grant_type=password&username=%00&password=%00", 401),
        ("application/x-www-form-urlencoded", b"grant_type=password&username=%ff&password=%ed%a0%80", 401),
        ("application/x-www-form-urlencoded; charset=nonsense", b"grant_type=password", 401),
        ("application/x-www-form-urlencoded; charset=utf-16", b"\xff", 400),
        ("application/x-www-form-urlencoded", b"\xff\xfe", 400),
        ("application/x-www-form-urlencoded", b"grant_type=password&password=" + b"x" * 70_000, 400),
        ("multipart/form-data", b"x", 400),
        ("multipart/form-data; boundary=x", b"garbage", 400),
        ("multipart/form-data; boundary=x", b"--x\r\nbroken", 400),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="grant_type"\r\n\r\na\r\n',
            400,
        ),
        ("application/json", b"{", 400),
        ("text/plain", b"grant_type=password", 400),
    ],
    ids=str,
)
async def test_odd_forms_are_refused(client: Client, content_type: str, body: bytes, status: int) -> None:
    answer = await client.anonymous().request("POST", "/token", body=body, headers={"Content-Type": content_type})
    assert answer.status == status, str(answer)


async def test_endless_form_is_refused(client: Client) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield b"a=" + b"x" * 65_536

    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = await client.anonymous().request("POST", "/token", body=endless(), headers=headers)
    assert answer.status in (400, 413)


async def test_token_is_not_had_for_a_wrong_password_another_service_or_a_token(
    client: Client, guesser: Client
) -> None:
    assert (await guesser.with_basic("admin", "wrong").get("/token")).status == 401
    assert (await client.get("/token?service=another")).status == 400
    assert (await client.with_token(await client.get_token()).get("/token")).status == 401


@pytest.mark.parametrize(
    "header",
    ["Basic", "Basic ", "Basic !!!", "Basic YQ==", "Basic /w==", "Basic " + "A" * 9000, "Digest x", "x", "Bearer",
     "Bearer ", "bearer garbage", "Bearer a b", "Bearer " + "." * 5000, "Bearer \u00e4", "Negotiate " + "x" * 100,
     basic("admin", "x" * 8000), basic("a\0b", "x"), basic("", ""), "Bearer " + "W10." * 3 + "x", "Bearer bnVsbA.e30.x"],
    ids=lambda header: header[:24],
)  # fmt: skip
async def test_odd_authorization_is_401_everywhere(guesser: Client, header: str) -> None:
    for path in ("/v2/", "/v2/acme/x/tags/list", "/token", "/api/v1/account"):
        answer = await guesser.request("GET", path, headers={"Authorization": header})
        assert answer.status == 401, str(answer)


# Forged tokens


@dataclass(frozen=True)
class Mint:
    """Makes tokens with the registry's own key, or without it."""

    key: jwk.ECKey
    kid: str
    claims: dict[str, Any]

    def make(self, *, header: dict[str, Any] | None = None, key: Any = None, **claims: Any) -> str:
        merged = {**self.claims, **claims}
        merged = {name: value for name, value in merged.items() if value is not ...}
        full = {"alg": "ES256", "typ": "JWT", "kid": self.kid, **(header or {})}
        full = {name: value for name, value in full.items() if value is not ...}
        allowed = ["ES256", "HS256", "RS256", "none"]
        registry_key = key or self.key
        return jwt.encode(full, merged, registry_key, algorithms=allowed)


@pytest.fixture
async def mint(shared_gateway: RunningGateway, client: Client, private: str) -> Mint:
    from slipway_common.security.master_key import load_master_key

    box = load_master_key(shared_gateway.folder / "master.key")
    rows = await run_sql(
        shared_gateway.database_url, "SELECT kid, private_key FROM keys.signing_keys WHERE purpose = 'registry'"
    )
    claims = claims_of(await client.get_token(f"repository:{private}:pull"))
    key = jwk.ECKey.import_key(box.open(rows[0]["private_key"]))
    return Mint(key, rows[0]["kid"], claims)


async def test_token_minted_like_the_registrys_own_is_good(client: Client, private: str, mint: Mint) -> None:
    assert (await client.with_token(mint.make()).get_manifest(private, "latest")).status == 200


def part(document: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()


async def test_forged_tokens_are_invalid(client: Client, private: str, mint: Mint) -> None:
    now = int(time.time())
    public_pem = mint.key.as_pem(private=False)
    other = jwk.ECKey.generate_key("P-256", auto_kid=True)
    rsa = jwk.RSAKey.generate_key(2048, auto_kid=True)
    hmac_key = jwk.OctKey.import_key(base64.urlsafe_b64encode(public_pem).decode())
    body = part(mint.claims)
    forged = {
        "no algorithm": f"{part({'alg': 'none', 'typ': 'JWT', 'kid': mint.kid})}.{body}.",
        "no algorithm, capitals": f"{part({'alg': 'nOnE', 'typ': 'JWT', 'kid': mint.kid})}.{body}.",
        "signature cut off": mint.make().rpartition(".")[0] + ".",
        "hmac with the public key": mint.make(header={"alg": "HS256"}, key=hmac_key),
        "rsa": mint.make(header={"alg": "RS256", "kid": mint.kid}, key=rsa),
        "another key under our id": mint.make(key=other),
        "another key under its own id": mint.make(header={"kid": other.thumbprint()}, key=other),
        "key in the header": mint.make(
            header={"jwk": other.as_dict(private=False), "kid": other.thumbprint()}, key=other
        ),
        "key in the header under our id": mint.make(header={"jwk": other.as_dict(private=False)}, key=other),
        "key elsewhere": mint.make(header={"jku": f"{client.url}/token/keys", "kid": other.thumbprint()}, key=other),
        "certificate elsewhere": mint.make(header={"x5u": "https://localhost/x"}, key=other),
        "id that is a path": mint.make(header={"kid": "../../../dev/null"}, key=other),
        "id that is SQL": mint.make(header={"kid": "' OR 1=1 --"}, key=other),
        "id that is NUL": mint.make(header={"kid": "\0"}, key=other),
        "id that is a number": f"{part({'alg': 'ES256', 'typ': 'JWT', 'kid': 7})}.{body}.AAAA",
        "id that is a list": f"{part({'alg': 'ES256', 'typ': 'JWT', 'kid': ['x']})}.{body}.AAAA",
        "no id": mint.make(header={"kid": ...}),
        "another audience": mint.make(aud="another"),
        "no audience": mint.make(aud=...),
        "another issuer": mint.make(iss="another"),
        "no issuer": mint.make(iss=...),
        "expired": mint.make(exp=now - 60),
        "no end": mint.make(exp=...),
        "end that is text": mint.make(exp="tomorrow"),
        "end that is null": mint.make(exp=None),
        "not yet": mint.make(nbf=now + 600),
        "no beginning": mint.make(nbf=...),
        "another type": mint.make(header={"typ": "slipway-internal+jwt"}),
        "empty parts": "e30.e30.e30",
        "claims that are a list": f"{mint.make().partition('.')[0]}.{part([])}.{mint.make().rpartition('.')[2]}",
        "deep header": f"{base64.urlsafe_b64encode(b'[' * 8000).decode()}.{body}.AAAA",
        "header that is a list": f"{part([])}.{body}.AAAA",
        "header that is null": f"{part(None)}.{body}.AAAA",
        "padding": mint.make() + "==",
        "account that is a number": mint.make(sub=7),
        "account that is gone": mint.make(sub="nobody-of-that-name"),
    }
    for why, token in forged.items():
        answer = await client.with_token(token).get_manifest(private, "latest")
        assert answer.status == 401, why
        assert 'error="invalid_token"' in answer.challenge, why


@pytest.mark.parametrize(
    "access",
    [
        None, [], {}, "x", [None], [[]], [{"type": "repository"}], [{"type": "registry", "name": "{name}", "actions": ["pull"]}],
        [{"type": "repository", "name": "{name}", "actions": "pull"}],
        [{"type": "repository", "name": "{name}", "actions": [["pull"]]}],
        [{"type": "repository", "name": ["{name}"], "actions": ["pull"]}],
        [{"type": "repository", "name": "*", "actions": ["*"]}],
    ],
    ids=str,
)  # fmt: skip
async def test_access_claim_of_another_form_grants_nothing(
    client: Client, private: str, mint: Mint, access: Any
) -> None:
    filled = json.loads(json.dumps(access).replace("{name}", private))
    answer = await client.with_token(mint.make(access=filled)).get_manifest(private, "latest")
    assert answer.status == 401
    assert 'error="insufficient_scope"' in answer.challenge


async def test_internal_token_is_no_token_for_the_registry(
    client: Client, private: str, mint: Mint, shared_gateway: RunningGateway
) -> None:
    from slipway_common.security.master_key import load_master_key

    box = load_master_key(shared_gateway.folder / "master.key")
    rows = await run_sql(
        shared_gateway.database_url, "SELECT kid, private_key FROM keys.signing_keys WHERE purpose = 'internal'"
    )
    internal = jwk.ECKey.import_key(box.open(rows[0]["private_key"]))
    token = mint.make(key=internal, header={"kid": rows[0]["kid"]})
    assert (await client.with_token(token).get_manifest(private, "latest")).status == 401


async def test_public_keys_verify_tokens_and_hold_no_secret(client: Client) -> None:
    document = (await client.anonymous().get("/token/keys")).json()
    assert document["keys"]
    assert all(key["kty"] == "EC" and "d" not in key for key in document["keys"])
    keys = jwk.KeySet.import_key_set(document)
    assert jwt.decode(await client.get_token(), keys, algorithms=["ES256"]).claims["iss"] == "slipway"


# The `anonymous` setting


async def push_as_admin(gateway: RunningGateway) -> None:
    async with open_client(gateway.url) as client:
        await client.push("acme/app", an_image().build(), "latest")


async def test_anonymous_pull_lets_all_read_and_nobody_write(database_url: str) -> None:
    async with running_gateway(database_url, anonymous="pull") as gateway, open_client(gateway.url) as client:
        await push_as_admin(gateway)
        nobody = client.anonymous()
        assert (await nobody.get("/v2/")).status == 401
        assert (await nobody.get_manifest("acme/app", "latest")).status == 200
        assert (await nobody.get_manifest("acme/missing", "latest")).status == 404
        assert (await nobody.start_upload("acme/app")).status == 401
        assert (await nobody.delete("/v2/acme/app/manifests/latest")).status == 401
        token = client.with_token(await nobody.get_token("repository:acme/app:pull,push"))
        assert (await token.get_manifest("acme/app", "latest")).status == 200
        assert (await token.start_upload("acme/app")).status == 401


async def test_anonymous_everything_turns_login_off(database_url: str) -> None:
    async with running_gateway(database_url, anonymous="everything") as gateway, open_client(gateway.url) as client:
        nobody = client.anonymous()
        assert (await nobody.get("/v2/")).status == 200
        await nobody.push("acme/app", an_image().build(), "latest")
        assert (await nobody.get_manifest("acme/app", "latest")).status == 200
        assert (await nobody.get("/v2/_catalog")).json() == {"repositories": ["acme/app"]}
        assert (await nobody.delete("/v2/acme/app/manifests/latest")).status == 202
        bad = await client.with_token("garbage").get_manifest("acme/app", "latest")
        assert bad.status == 401


# Accounts that change


async def test_token_does_not_outlive_its_account(database_url: str) -> None:
    async with running_gateway(database_url, cache="off") as gateway, open_client(gateway.url) as client:
        await add_principal(database_url, "temp", password="p", is_admin=True)
        temp = client.with_basic("temp", "p")
        await temp.open_upload("acme/app")
        token = client.with_token(await temp.get_token("repository:acme/app:pull"))
        assert (await token.list_tags("acme/app")) == []
        await run_sql(database_url, "UPDATE gateway.principals SET disabled_at = now() WHERE name = 'temp'")
        assert (await token.get("/v2/acme/app/tags/list")).status == 401
        assert (await temp.get("/v2/acme/app/tags/list")).status == 401


async def test_changed_password_ends_the_old_one(database_url: str) -> None:
    async with running_gateway(database_url, cache="off") as gateway, open_client(gateway.url) as client:
        await add_principal(database_url, "temp", password="old")
        temp = client.with_basic("temp", "old")
        assert (await temp.get("/v2/")).status == 200
        await run_sql(
            database_url,
            "UPDATE gateway.principals SET password_hash = a.password_hash,"
            " credential_version = principals.credential_version + 1"
            " FROM gateway.principals a WHERE principals.name = 'temp' AND a.name = 'admin'",
        )
        assert (await temp.get("/v2/")).status == 401


async def test_guessing_many_passwords_at_once_is_bounded(guesser: Client) -> None:
    async def guess(number: int) -> Answer:
        return await guesser.with_basic("eve", f"guess {number}").get("/v2/")

    answers = await asyncio.gather(*(guess(number) for number in range(20)))
    assert {answer.status for answer in answers} <= {401, 503, 429}
