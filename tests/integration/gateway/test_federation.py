"""Logins by a real Keycloak, and what a provider or an attacker may send instead; builds with tokens of their CI system."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import itertools
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from joserfc.jwk import ECKey, OKPKey, RSAKey
from yarl import URL

from slipway_common.errors import Misconfigured, SlipwayError, Unauthenticated, Unavailable
from slipway_common.outgoing.addresses import parse_allowance
from slipway_common.outgoing.guard import GuardedSession, OutgoingRules, open_guarded_session
from slipway_gateway.federation import documents
from slipway_gateway.federation import issuer as issuers
from slipway_gateway.federation.documents import MAX_BYTES, DirectRequests
from slipway_gateway.federation.issuer import Issuer, UnknownKey, UnusableIssuer
from slipway_gateway.federation.provider import (
    ExternalLogin,
    LoginAttempt,
    OpenIdProvider,
    ProviderSettings,
    challenge_of,
    new_login_attempt,
)
from slipway_gateway.federation.tokens import RefusedToken, verify_token
from slipway_gateway.federation.workloads import WorkloadTokens
from tests.integration.gateway.issuer import CODE, FakeIssuer, published, signing_input, write_token
from tests.parts.keycloak import KeycloakServer, Realm, log_in
from tests.parts.process import free_port

REDIRECT_URI = "http://127.0.0.1:5000/login/oidc/callback"
CLIENT, CONFIDENTIAL, OTHER = "slipway", "slipway-confidential", "another-client"
SECRET = "a secret: with + and / in it"
PASSWORD = "alice's password"
AUDIENCE = "slipway-of-the-tests"
YESTERDAY, TOMORROW = int(time.time()) - 86_400, int(time.time()) + 86_400


@dataclass(frozen=True, slots=True)
class Trust:
    """A rule as the gateway keeps it, with a name to know it by."""

    issuer: str
    claims: Mapping[str, str]
    audience: str = AUDIENCE
    name: str = ""


@pytest.fixture(scope="module")
def realm(keycloak: KeycloakServer) -> Realm:
    """Alice is in two groups; there are clients of each kind, and a program with a service account."""
    made = keycloak.create_realm("acme")
    for group in ("platform", "web", "others"):
        made.create_group(group)
    made.create_user("alice", PASSWORD, groups=["platform", "web"], email="alice@acme.example")
    made.create_client(CLIENT, redirect_uris=[REDIRECT_URI])
    made.create_client(CONFIDENTIAL, redirect_uris=[REDIRECT_URI], secret=SECRET)
    made.create_client(OTHER, redirect_uris=[REDIRECT_URI])
    made.create_client("builder", secret=SECRET, service_account=True, audience=AUDIENCE)
    return made


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as opened:
        yield opened


@pytest.fixture
async def fake() -> AsyncIterator[FakeIssuer]:
    issuer = await FakeIssuer().start()
    yield issuer
    await issuer.close()


@pytest.fixture
async def guarded() -> AsyncIterator[GuardedSession]:
    """Requests by an operator's rules who has opened loopback."""
    async with open_guarded_session(OutgoingRules(parse_allowance(["127.0.0.0/8"]))) as opened:
        yield opened


async def come_back(provider: OpenIdProvider, attempt: LoginAttempt) -> str:
    """Log in as Alice with a browser; return the code it brings back."""
    query = await log_in(await provider.authorization_url(REDIRECT_URI, attempt), "alice", PASSWORD)
    assert query["state"] == attempt.state
    return query["code"]


def provider_of(session: aiohttp.ClientSession, issuer: str, **settings: Any) -> OpenIdProvider:
    return OpenIdProvider(session, ProviderSettings(**{"issuer": issuer, "client_id": CLIENT, **settings}))


# With Keycloak


@pytest.mark.parametrize(("client_id", "secret"), [(CLIENT, None), (CONFIDENTIAL, SECRET)])
async def test_a_login_at_keycloak_tells_who_it_is_and_the_groups(
    realm: Realm, session: aiohttp.ClientSession, client_id: str, secret: str | None
) -> None:
    provider = provider_of(session, realm.issuer, client_id=client_id, client_secret=secret)
    attempt = new_login_attempt()
    login = await provider.exchange_code(await come_back(provider, attempt), attempt, REDIRECT_URI)
    assert login.subject
    assert login == ExternalLogin(
        issuer=realm.issuer,
        subject=login.subject,
        preferred_username="alice",
        name="Alice Example",
        email="alice@acme.example",
        email_verified=True,
        groups=login.groups,
    )
    assert sorted(login.groups) == ["platform", "web"]


async def test_a_login_of_another_attempt_is_refused(realm: Realm, session: aiohttp.ClientSession) -> None:
    provider, attempt = provider_of(session, realm.issuer), new_login_attempt()
    code = await come_back(provider, attempt)
    with pytest.raises(RefusedToken, match="not the answer to this login"):
        await provider.exchange_code(code, replace(attempt, nonce=new_login_attempt().nonce), REDIRECT_URI)


async def test_a_code_that_was_stolen_is_worth_nothing_without_the_verifier(
    realm: Realm, session: aiohttp.ClientSession
) -> None:
    provider, attempt = provider_of(session, realm.issuer), new_login_attempt()
    code = await come_back(provider, attempt)
    with pytest.raises(RefusedToken, match="start again"):
        await provider.exchange_code(code, replace(attempt, verifier=new_login_attempt().verifier), REDIRECT_URI)


async def test_a_code_counts_once(realm: Realm, session: aiohttp.ClientSession) -> None:
    provider, attempt = provider_of(session, realm.issuer), new_login_attempt()
    code = await come_back(provider, attempt)
    await provider.exchange_code(code, attempt, REDIRECT_URI)
    with pytest.raises(RefusedToken, match="start again"):
        await provider.exchange_code(code, attempt, REDIRECT_URI)


async def test_a_code_for_another_client_is_refused(realm: Realm, session: aiohttp.ClientSession) -> None:
    attempt = new_login_attempt()
    code = await come_back(provider_of(session, realm.issuer, client_id=OTHER), attempt)
    with pytest.raises(RefusedToken, match="start again"):
        await provider_of(session, realm.issuer).exchange_code(code, attempt, REDIRECT_URI)


async def test_a_token_for_another_client_is_refused(realm: Realm, session: aiohttp.ClientSession) -> None:
    attempt = new_login_attempt()
    form = {
        "grant_type": "authorization_code",
        "client_id": OTHER,
        "code": await come_back(provider_of(session, realm.issuer, client_id=OTHER), attempt),
        "code_verifier": attempt.verifier,
        "redirect_uri": REDIRECT_URI,
    }
    async with session.post(realm.token_url, data=form) as response:
        token = (await response.json())["id_token"]
    issuer = Issuer(DirectRequests(session), realm.issuer)
    assert (await verify_token(token, issuer, [OTHER])).claims["preferred_username"] == "alice"
    with pytest.raises(RefusedToken, match="meant for somebody else"):
        await verify_token(token, issuer, [CLIENT])


async def test_a_wrong_secret_is_for_the_operator_to_mend(realm: Realm, session: aiohttp.ClientSession) -> None:
    provider = provider_of(session, realm.issuer, client_id=CONFIDENTIAL, client_secret="not the secret")
    attempt = new_login_attempt()
    with pytest.raises(Misconfigured, match="client id"):
        await provider.exchange_code(await come_back(provider, attempt), attempt, REDIRECT_URI)


async def test_an_issuer_must_be_written_as_it_writes_itself(realm: Realm, session: aiohttp.ClientSession) -> None:
    for written in (f"{realm.issuer}/", realm.issuer.replace("127.0.0.1", "localhost")):
        with pytest.raises(UnusableIssuer, match="another issuer"):
            await provider_of(session, written).authorization_url(REDIRECT_URI, new_login_attempt())


async def test_a_program_logs_in_with_its_service_account(realm: Realm, guarded: GuardedSession) -> None:
    workloads = WorkloadTokens(guarded)
    token = realm.service_account_token("builder", SECRET)
    trusts = [
        Trust(realm.issuer, {"azp": "another-builder"}, name="another"),
        Trust(realm.issuer, {"azp": "builder", "preferred_username": "service-account-*"}, name="right"),
    ]
    workload = await workloads.verify(token, trusts)
    assert workload.trust.name == "right"
    assert workload.claims["azp"] == "builder"
    with pytest.raises(RefusedToken, match="no trust rule lets"):
        await workloads.verify(token, trusts[:1])
    with pytest.raises(RefusedToken, match="meant for somebody else"):
        await workloads.verify(token, [replace(trusts[1], audience="another registry")])


async def test_an_issuer_in_a_network_that_is_not_open_is_not_asked(realm: Realm) -> None:
    async with open_guarded_session(OutgoingRules(parse_allowance([]))) as closed:
        with pytest.raises(RefusedToken, match="loopback"):
            await WorkloadTokens(closed).verify(
                realm.service_account_token("builder", SECRET), [Trust(realm.issuer, {"azp": "builder"})]
            )


# With an issuer that does what it is told


async def redeem(
    session: aiohttp.ClientSession, fake: FakeIssuer, id_token: object = None, *, nonce: str = "n", **settings: Any
) -> ExternalLogin:
    """Exchange a code for `id_token`, or for whatever tokens the issuer has."""
    if id_token is not None:
        fake.tokens = {"id_token": id_token, "access_token": "the-access-token", "token_type": "Bearer"}
    provider = provider_of(session, fake.url, **settings)
    return await provider.exchange_code(CODE, replace(new_login_attempt(), nonce=nonce), REDIRECT_URI)


def id_claims(fake: FakeIssuer, **changes: Any) -> dict[str, Any]:
    return fake.claims(**{"aud": CLIENT, "nonce": "n", **changes})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"exp": YESTERDAY}, "expired"),
        ({"exp": None}, "lacks exp"),
        ({"exp": "tomorrow"}, "no valid exp"),
        ({"iat": None}, "lacks iat"),
        ({"iat": TOMORROW}, "from the future"),
        ({"nbf": TOMORROW}, "not valid yet"),
        ({"iss": "https://evil.example.com"}, "another issuer"),
        ({"iss": None}, "lacks iss"),
        ({"aud": OTHER}, "somebody else"),
        ({"aud": []}, "somebody else"),
        ({"aud": None}, "lacks aud"),
        ({"aud": {CLIENT: 1}}, "somebody else"),
        ({"aud": CLIENT, "azp": OTHER}, "made for another client"),
        ({"aud": [CLIENT, OTHER], "azp": OTHER}, "made for another client"),
        ({"aud": [CLIENT, OTHER]}, "several clients"),
        ({"nonce": None}, "not the answer"),
        ({"nonce": ["n"]}, "not the answer"),
        ({"nonce": "ñ"}, "not the answer"),
        ({"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"}, "belong together"),
        ({"at_hash": 1}, "belong together"),
        ({"sub": None}, "lacks sub"),
        ({"sub": ""}, "no valid sub"),
        ({"sub": 1}, "no valid sub"),
        ({"sub": "x" * 256}, "too long"),
    ],
)
async def test_an_id_token_that_does_not_hold_is_refused(
    fake: FakeIssuer, session: aiohttp.ClientSession, changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(RefusedToken, match=says):
        await redeem(session, fake, fake.sign(id_claims(fake, **changes)))


async def test_an_id_token_that_holds_is_taken_with_only_what_is_in_it(
    fake: FakeIssuer, session: aiohttp.ClientSession
) -> None:
    claims = id_claims(fake, aud=[CLIENT, OTHER], azp=CLIENT, email="a@b.example", email_verified="true", name=7)
    login = await redeem(session, fake, fake.sign(claims))
    assert login == ExternalLogin(fake.url, "somebody", None, None, "a@b.example", email_verified=False, groups=())


@pytest.mark.parametrize(
    ("value", "groups"),
    [
        (["b", "a", "b"], ("b", "a")),
        ("only", ("only",)),
        (["good", "", "x" * 256, 5, None, ["nested"]], ("good",)),
        ({"a": 1}, ()),
        (None, ()),
    ],
)
async def test_groups_come_from_the_claim_that_the_operator_names(
    fake: FakeIssuer, session: aiohttp.ClientSession, value: object, groups: tuple[str, ...]
) -> None:
    token = fake.sign(id_claims(fake, groups=["no"], realm_access={"roles": value}))
    assert (await redeem(session, fake, token, groups_claim="realm_access.roles")).groups == groups


@pytest.mark.parametrize(
    ("algorithm", "key"),
    [
        ("RS256", RSAKey.generate_key(2048, auto_kid=True)),
        ("PS256", RSAKey.generate_key(2048, auto_kid=True)),
        ("ES256", ECKey.generate_key("P-256", auto_kid=True)),
        ("Ed25519", OKPKey.generate_key("Ed25519", auto_kid=True)),
    ],
)
async def test_each_algorithm_with_a_public_key_is_taken_with_its_access_token(
    fake: FakeIssuer, session: aiohttp.ClientSession, algorithm: str, key: Any
) -> None:
    fake.replace_key(key)
    digest = hashlib.new("sha512" if algorithm == "Ed25519" else "sha256", b"the-access-token").digest()
    at_hash = base64.urlsafe_b64encode(digest[: len(digest) // 2]).decode().rstrip("=")
    token = fake.sign(id_claims(fake, at_hash=at_hash), algorithm=algorithm)
    assert (await redeem(session, fake, token)).subject == "somebody"


@pytest.mark.filterwarnings("error::joserfc.errors.SecurityWarning")
async def test_ed25519_is_taken_by_its_old_name_too(fake: FakeIssuer, session: aiohttp.ClientSession) -> None:
    key = OKPKey.generate_key("Ed25519", auto_kid=True)
    fake.replace_key(key)
    header, claims = {"alg": "EdDSA", "kid": key.kid}, id_claims(fake)
    assert isinstance(key.private_key, Ed25519PrivateKey)
    signature = key.private_key.sign(signing_input(header, claims).encode())
    assert (await redeem(session, fake, write_token(header, claims, signature))).subject == "somebody"


@pytest.mark.parametrize("algorithm", ["none", "None", "", "RS384", "ES512", "HS512", "dir", None, 5, ["ES256"]])
async def test_a_token_signed_in_another_way_is_refused(
    fake: FakeIssuer, session: aiohttp.ClientSession, algorithm: object
) -> None:
    header = {"alg": algorithm, "kid": fake.key.kid}
    with pytest.raises(RefusedToken, match="not signed in one of the ways"):
        await redeem(session, fake, write_token(header, id_claims(fake)))


@pytest.mark.parametrize("public", ["pem", "der", "x"])
async def test_a_public_key_is_no_secret_to_sign_with(
    fake: FakeIssuer, session: aiohttp.ClientSession, public: str
) -> None:
    assert isinstance(fake.key, ECKey)
    secret = {"pem": fake.key.as_pem(), "der": fake.key.as_der(), "x": str(published(fake.key)["x"]).encode()}[public]
    header, claims = {"alg": "HS256", "kid": fake.key.kid}, id_claims(fake)
    signature = hmac.digest(secret, signing_input(header, claims).encode(), "sha256")
    with pytest.raises(RefusedToken, match="not signed in one of the ways"):
        await redeem(session, fake, write_token(header, claims, signature))


async def test_a_key_in_the_token_is_not_believed(fake: FakeIssuer, session: aiohttp.ClientSession) -> None:
    own = ECKey.generate_key("P-256", auto_kid=True)
    claims = id_claims(fake)
    hints: dict[str, Any] = {"jwk": published(own), "jku": f"{fake.url}/evil", "kid": fake.key.kid}
    with pytest.raises(RefusedToken, match="does not hold"):
        await redeem(session, fake, fake.sign(claims, key=own, **hints))
    with pytest.raises(UnknownKey):
        await redeem(session, fake, fake.sign(claims, key=own))
    with pytest.raises(RefusedToken, match="not understood"):
        await redeem(session, fake, fake.sign(claims, crit=["kid"]))


async def test_a_key_of_another_type_does_not_check_a_signature(
    fake: FakeIssuer, session: aiohttp.ClientSession
) -> None:
    claims = id_claims(fake)
    with pytest.raises(UnknownKey):
        await redeem(session, fake, write_token({"alg": "RS256", "kid": fake.key.kid}, claims, b"x" * 256))


async def test_a_signature_cut_short_or_changed_is_refused(fake: FakeIssuer, session: aiohttp.ClientSession) -> None:
    head, body, signature = fake.sign(id_claims(fake)).split(".")
    other = fake.sign(id_claims(fake, sub="root")).split(".")[1]
    for token in (f"{head}.{body}.", f"{head}.{body}.{signature[:-4]}", f"{head}.{other}.{signature}"):
        with pytest.raises(RefusedToken, match="does not hold"):
            await redeem(session, fake, token)


@pytest.mark.parametrize("token", [None, 5, "", "a.b", "a.b.c", "ä.ö.ü", ["x"]])
async def test_something_else_than_an_id_token_is_refused(
    fake: FakeIssuer, session: aiohttp.ClientSession, token: object
) -> None:
    fake.tokens = {"id_token": token}
    with pytest.raises(RefusedToken):
        await redeem(session, fake)


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (400, {"error": "invalid_grant"}, RefusedToken),
        (400, {"error": ["x"]}, RefusedToken),
        (400, {"error": "unauthorized_client"}, Misconfigured),
        (401, {"error": "invalid_client"}, Misconfigured),
        (429, {}, Unavailable),
        (503, {}, Unavailable),
        (302, {}, Unavailable),
    ],
)
async def test_what_the_token_endpoint_refuses_is_told_by_whose_fault_it_is(
    fake: FakeIssuer, session: aiohttp.ClientSession, status: int, body: dict[str, Any], error: type[SlipwayError]
) -> None:
    fake.tokens, fake.token_status = body, status
    with pytest.raises(SlipwayError) as caught:
        await redeem(session, fake)
    assert type(caught.value) is error


@pytest.mark.parametrize(
    ("methods", "basic", "posted"),
    [
        (None, True, False),
        (["private_key_jwt", "client_secret_post", "client_secret_basic"], True, False),
        (["client_secret_post"], False, True),
    ],
)
async def test_the_secret_is_given_as_the_provider_takes_it(
    fake: FakeIssuer, session: aiohttp.ClientSession, methods: list[str] | None, basic: bool, posted: bool
) -> None:
    if methods is not None:
        fake.discovery["token_endpoint_auth_methods_supported"] = methods
    await redeem(session, fake, fake.sign(id_claims(fake)), client_secret=SECRET)
    expected = base64.b64encode(f"{CLIENT}:a+secret%3A+with+%2B+and+%2F+in+it".encode()).decode()
    assert fake.authorizations == [f"Basic {expected}" if basic else None]
    assert fake.forms[0].get("client_secret") == (SECRET if posted else None)


async def test_a_secret_that_cannot_be_given_safely_is_not_given(
    fake: FakeIssuer, session: aiohttp.ClientSession
) -> None:
    fake.discovery["token_endpoint_auth_methods_supported"] = ["private_key_jwt"]
    with pytest.raises(UnusableIssuer):
        await redeem(session, fake, client_secret=SECRET)
    assert not fake.forms


async def test_the_browser_is_sent_with_everything_the_answer_is_checked_by(
    fake: FakeIssuer, session: aiohttp.ClientSession
) -> None:
    fake.discovery["authorization_endpoint"] += "?tenant=a%26b"
    attempt = new_login_attempt()
    redirect_uri = "https://registry.example.com/login/oidc/callback?x=1&y=a+b"
    url = URL(await provider_of(session, fake.url).authorization_url(redirect_uri, attempt))
    assert str(url).startswith(f"{fake.url}/authorize?tenant=a%26b&")
    assert dict(url.query) == {
        "tenant": "a&b",
        "response_type": "code",
        "client_id": CLIENT,
        "redirect_uri": redirect_uri,
        "scope": "openid profile email",
        "state": attempt.state,
        "nonce": attempt.nonce,
        "code_challenge": attempt.challenge,
        "code_challenge_method": "S256",
    }


def test_no_two_attempts_share_anything() -> None:
    attempts = [new_login_attempt() for _ in range(100)]
    for secret in ("state", "nonce", "verifier", "challenge"):
        assert len({getattr(attempt, secret) for attempt in attempts}) == 100
    assert all(43 <= len(attempt.verifier) <= 128 for attempt in attempts)


def test_the_challenge_is_the_one_of_the_specification() -> None:
    """The example of RFC 7636, appendix B."""
    challenge = challenge_of("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")
    assert challenge == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


# Keys that come and go, issuers that are away


async def test_a_flood_of_unknown_keys_does_not_become_one_of_requests(
    fake: FakeIssuer, session: aiohttp.ClientSession
) -> None:
    requests = DirectRequests(session)
    issuer = Issuer(requests, fake.url)
    await issuer.published()
    strangers = [fake.sign(id_claims(fake), kid=f"unknown-{number}") for number in range(200)]
    for token in strangers:
        with pytest.raises(UnknownKey):
            await verify_token(token, issuer, [CLIENT])
    assert fake.asked == {"discovery": 1, "keys": 1}
    again = Issuer(requests, fake.url, unknown_key_pause_s=0.5)
    began = time.monotonic()
    for token in itertools.cycle(strangers):
        with pytest.raises(UnknownKey):
            await verify_token(token, again, [CLIENT])
        if time.monotonic() - began > 1.8:
            break
    assert 3 <= fake.asked["keys"] <= 1 + 4  # one at first, and one each half second


async def test_a_new_key_counts_as_soon_as_it_is_seen(fake: FakeIssuer, session: aiohttp.ClientSession) -> None:
    issuer = Issuer(DirectRequests(session), fake.url, unknown_key_pause_s=0)
    old = fake.sign(id_claims(fake))
    await verify_token(old, issuer, [CLIENT])
    fake.replace_key(RSAKey.generate_key(2048, auto_kid=True))
    await verify_token(fake.sign(id_claims(fake), algorithm="RS256"), issuer, [CLIENT])
    with pytest.raises(UnknownKey):
        await verify_token(old, issuer, [CLIENT])


async def test_a_provider_that_is_away_makes_a_login_wait(fake: FakeIssuer, session: aiohttp.ClientSession) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(Unavailable, match="cannot be reached"):
        await provider_of(session, nowhere).authorization_url(REDIRECT_URI, new_login_attempt())
    provider = provider_of(session, fake.url)
    await provider.authorization_url(REDIRECT_URI, new_login_attempt())
    await fake.close()
    with pytest.raises(Unavailable, match="cannot be reached"):
        await provider.exchange_code(CODE, new_login_attempt(), REDIRECT_URI)


async def test_keys_outlive_a_short_outage_and_not_a_long_one(
    fake: FakeIssuer, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    issuer = Issuer(DirectRequests(session), fake.url)
    token = fake.sign(id_claims(fake))
    await verify_token(token, issuer, [CLIENT])
    await fake.close()
    monkeypatch.setattr(issuers, "_REFRESH_AFTER_S", 0.0)
    await verify_token(token, issuer, [CLIENT])
    monkeypatch.setattr(issuers, "_FORGET_AFTER_S", 0.0)
    for _ in range(2):
        with pytest.raises(Unavailable):
            await verify_token(token, issuer, [CLIENT])
    monkeypatch.setattr(issuers, "_FAILURE_PAUSE_S", 0.0)
    await fake.start()
    await verify_token(token, issuer, [CLIENT])


async def test_who_does_not_answer_is_not_waited_for(
    session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def say_nothing(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(30)
        writer.close()

    monkeypatch.setattr(documents, "TIMEOUT_S", 0.3)
    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    try:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        began = time.monotonic()
        with pytest.raises(Unavailable, match="in time"):
            await provider_of(session, url).authorization_url(REDIRECT_URI, new_login_attempt())
        assert time.monotonic() - began < 5
    finally:
        server.close()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ({"body": b"x" * (MAX_BYTES + 1)}, Unavailable),
        ({"body": b"<html>under repair</html>"}, Unavailable),
        ({"body": b"[]"}, Unavailable),
        ({"body": b"{}"}, UnusableIssuer),
        ({"status": 404}, Unavailable),
        ({"status": 500, "body": b"{}"}, Unavailable),
        ({"status": 302, "headers": {"Location": "/elsewhere"}}, Unavailable),
    ],
)
async def test_a_discovery_document_that_is_none_is_not_used(
    session: aiohttp.ClientSession, answer: dict[str, Any], error: type[SlipwayError]
) -> None:
    asked = []

    async def handle(request: web.BaseRequest) -> web.Response:
        asked.append(request.path)
        return web.Response(**answer)

    server = web.Server(handle)
    runner = web.ServerRunner(server)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        with pytest.raises(SlipwayError) as caught:
            await provider_of(session, f"http://127.0.0.1:{port}").authorization_url(REDIRECT_URI, new_login_attempt())
        assert type(caught.value) is error
        assert asked == ["/.well-known/openid-configuration"]
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("jwks_uri", None),
        ("jwks_uri", "http://127.0.0.1:1/keys"),
        ("jwks_uri", "http://localhost/keys"),
        ("jwks_uri", "https://user:password@keys.example.com/"),
        ("jwks_uri", "file:///etc/passwd"),
        ("jwks_uri", 5),
        ("token_endpoint", "http://169.254.169.254/token"),
        ("authorization_endpoint", "javascript:alert(1)"),
    ],
)
async def test_an_issuer_cannot_send_us_or_the_browser_anywhere(
    fake: FakeIssuer, session: aiohttp.ClientSession, name: str, value: object
) -> None:
    fake.discovery[name] = value
    with pytest.raises(UnusableIssuer):
        await provider_of(session, fake.url).authorization_url(REDIRECT_URI, new_login_attempt())
    assert not fake.asked["keys"]


# Builds


async def test_a_build_is_let_in_by_the_rule_that_its_token_fulfils(fake: FakeIssuer, guarded: GuardedSession) -> None:
    token = fake.sign(
        fake.claims(
            aud=["elsewhere", AUDIENCE],
            sub="repo:acme/web:ref:refs/heads/main",
            repository="acme/web",
            ref="refs/heads/main",
        )
    )
    main = {"repository": "acme/web", "ref": "refs/heads/main"}
    trusts = [
        Trust("https://another.example.com", main, name="another issuer"),
        Trust(fake.url, main, audience="another registry", name="another audience"),
        Trust(fake.url, {"repository": "acme/web", "ref": "refs/tags/*"}, name="tags"),
        Trust(fake.url, main, name="main"),
        Trust(fake.url, {"sub": "repo:acme/*"}, name="later"),
    ]
    workload = await WorkloadTokens(guarded).verify(token, trusts)
    assert workload.trust.name == "main"
    assert workload.claims["sub"] == "repo:acme/web:ref:refs/heads/main"


async def test_a_pod_is_let_in_by_its_namespace(fake: FakeIssuer, guarded: GuardedSession) -> None:
    fake.replace_key(RSAKey.generate_key(2048, auto_kid=True))
    claims = fake.claims(
        aud=[AUDIENCE],
        sub="system:serviceaccount:builds:builder",
        nbf=int(time.time()),
        **{"kubernetes.io": {"namespace": "builds", "serviceaccount": {"name": "builder"}}},
    )
    token = fake.sign(claims, algorithm="RS256")
    workloads = WorkloadTokens(guarded)
    rule = {"kubernetes.io.namespace": "builds", "kubernetes.io.serviceaccount.name": "build*"}
    assert await workloads.verify(token, [Trust(fake.url, rule)])
    with pytest.raises(RefusedToken, match="no trust rule lets"):
        await workloads.verify(token, [Trust(fake.url, {"kubernetes.io.namespace": "build"})])


async def test_an_issuer_that_no_rule_names_is_not_asked(fake: FakeIssuer, guarded: GuardedSession) -> None:
    for issuer in (fake.url, f"{fake.url}/", None, 5):
        token = fake.sign(fake.claims(aud=AUDIENCE, iss=issuer))
        with pytest.raises(RefusedToken):
            await WorkloadTokens(guarded).verify(token, [Trust("https://ci.example.com", {"sub": "*"})])
    assert not fake.asked


async def test_a_rule_does_not_let_one_issuer_speak_for_another(guarded: GuardedSession) -> None:
    good, evil = await FakeIssuer().start(), await FakeIssuer().start()
    try:
        trusts = [Trust(good.url, {"sub": "somebody"}), Trust(evil.url, {"sub": "nobody"})]
        forged = evil.sign(evil.claims(aud=AUDIENCE, iss=good.url))
        with pytest.raises(UnknownKey):
            await WorkloadTokens(guarded).verify(forged, trusts)
        evil.discovery["issuer"] = good.url
        with pytest.raises(RefusedToken, match="another issuer"):
            await WorkloadTokens(guarded).verify(evil.sign(evil.claims(aud=AUDIENCE)), trusts)
    finally:
        await good.close()
        await evil.close()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"exp": YESTERDAY}, "expired"),
        ({"exp": None}, "lacks exp"),
        ({"nbf": TOMORROW}, "not valid yet"),
        ({"iat": TOMORROW}, "from the future"),
        ({"aud": "another registry"}, "somebody else"),
        ({"aud": None}, "lacks aud"),
        ({"sub": "another"}, "no trust rule lets"),
    ],
)
async def test_a_builds_token_that_does_not_hold_is_refused(
    fake: FakeIssuer, guarded: GuardedSession, changes: dict[str, Any], says: str
) -> None:
    token = fake.sign(fake.claims(**{"aud": AUDIENCE, **changes}))
    with pytest.raises(RefusedToken, match=says):
        await WorkloadTokens(guarded).verify(token, [Trust(fake.url, {"sub": "somebody"})])


async def test_a_build_waits_while_its_issuer_is_away(fake: FakeIssuer, guarded: GuardedSession) -> None:
    token = fake.sign(fake.claims(aud=AUDIENCE))
    await fake.close()
    with pytest.raises(Unavailable):
        await WorkloadTokens(guarded).verify(token, [Trust(fake.url, {"sub": "somebody"})])


async def test_only_so_many_issuers_are_remembered(guarded: GuardedSession) -> None:
    workloads = WorkloadTokens(guarded, max_issuers=2)
    fakes = [await FakeIssuer().start() for _ in range(3)]
    try:
        for number in (0, 1, 1, 0, 2, 0, 1):
            fake = fakes[number]
            await workloads.verify(fake.sign(fake.claims(aud=AUDIENCE)), [Trust(fake.url, {"sub": "somebody"})])
        assert [fake.asked["keys"] for fake in fakes] == [1, 2, 1]
    finally:
        for fake in fakes:
            await fake.close()


def test_every_refusal_is_one_of_who_are_you() -> None:
    assert issubclass(RefusedToken, Unauthenticated)
    assert issubclass(UnknownKey, Unauthenticated)
