"""Tokens: nothing in one decides how it is checked."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from typing import Any

import asyncpg
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey

from slipway_common.errors import Misconfigured
from slipway_common.security.master_key import SecretBox, load_master_key
from slipway_common.security.signing import InvalidToken, KeyRing

AUDIENCE, ISSUER = "slipway", "the registry"


@pytest.fixture
async def ring(pool: asyncpg.Pool, box: SecretBox) -> KeyRing:
    made = ring_on(pool, box)
    await made.load()
    return made


def ring_on(pool: asyncpg.Pool, box: SecretBox, *, purpose: str = "registry", token_type: str = "JWT") -> KeyRing:
    return KeyRing(pool, box, purpose=purpose, token_type=token_type)


async def verify(ring: KeyRing, token: str) -> dict[str, Any]:
    return await ring.verify(token, audience=AUDIENCE, issuer=ISSUER)


async def sign(ring: KeyRing, *, life_s: int = 60, **claims: Any) -> str:
    return await ring.sign({"aud": AUDIENCE, "iss": ISSUER, "sub": "alice", **claims}, life_s=life_s)


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    made = {"aud": AUDIENCE, "iss": ISSUER, "sub": "mallory", "iat": now, "nbf": now, "exp": now + 60, **changes}
    return {name: value for name, value in made.items() if value is not None}


def own_key(ring: KeyRing) -> ECKey:
    (key,) = ring._keys.values()
    return key


def signed_by_the_ring(ring: KeyRing, body: dict[str, Any], **header: Any) -> str:
    """A token with a signature that holds, whatever else it says."""
    kid = next(iter(ring._keys))
    return jwt.encode({"alg": "ES256", "typ": "JWT", "kid": kid, **header}, body, own_key(ring))


def b64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def forged(header: Any, body: Any, signature: bytes = b"") -> str:
    return f"{b64(json.dumps(header).encode())}.{b64(json.dumps(body).encode())}.{b64(signature)}"


async def assert_refused(ring: KeyRing, token: str) -> None:
    with pytest.raises(InvalidToken):
        await verify(ring, token)


async def test_token_of_our_own_is_accepted_with_its_claims(ring: KeyRing) -> None:
    found = await verify(ring, await sign(ring, extra=[1]))
    assert (found["sub"], found["extra"]) == ("alice", [1])
    assert found["exp"] - found["iat"] == 60


async def test_helper_of_these_tests_makes_tokens_that_hold(ring: KeyRing) -> None:
    """Else every refusal below would prove nothing."""
    assert (await verify(ring, signed_by_the_ring(ring, claims())))["sub"] == "mallory"


# Whose signature it is.


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "", "nOnE"])
async def test_unsigned_token_is_refused(ring: KeyRing, algorithm: str) -> None:
    kid = next(iter(ring._keys))
    for signature in (b"", b"x", bytes(64)):
        await assert_refused(ring, forged({"alg": algorithm, "typ": "JWT", "kid": kid}, claims(), signature))


@pytest.mark.parametrize("form", ["pem", "der", "jwk"])
async def test_token_signed_with_the_public_key_as_a_secret_is_refused(ring: KeyRing, form: str) -> None:
    kid, key = next(iter(ring._keys)), own_key(ring)
    secret = {
        "pem": key.as_pem(private=False), "der": key.as_der(private=False),
        "jwk": json.dumps(key.as_dict(private=False)).encode(),
    }[form]  # fmt: skip
    for algorithm, digest in (("HS256", hashlib.sha256), ("HS512", hashlib.sha512)):
        head = f"{b64(json.dumps({'alg': algorithm, 'typ': 'JWT', 'kid': kid}).encode())}.{b64(json.dumps(claims()).encode())}"
        await assert_refused(ring, f"{head}.{b64(hmac.digest(secret, head.encode(), digest))}")


async def test_key_that_a_token_brings_along_is_not_used(ring: KeyRing) -> None:
    own = ECKey.generate_key("P-256", auto_kid=True)
    public, kid = own.as_dict(private=False), next(iter(ring._keys))
    for header in (
        {"jwk": public}, {"jku": "https://attacker.example/keys"}, {"x5u": "https://attacker.example/cert"},
        {"jwk": public, "kid": kid},
        {"kid": own.thumbprint(), "jwk": public}, {"kid": kid}, {"jwk": public, "kid": None},
    ):  # fmt: skip
        header = {"alg": "ES256", "typ": "JWT", **header}
        head = f"{b64(json.dumps(header).encode())}.{b64(json.dumps(claims()).encode())}"
        signature = jwt.encode({"alg": "ES256"}, claims(), own).rpartition(".")[2]
        await assert_refused(ring, f"{head}.{signature}")
        if header.get("kid") is not None:
            await assert_refused(ring, jwt.encode({"alg": "ES256", "typ": "JWT", "kid": header["kid"]}, claims(), own))


@pytest.mark.parametrize("kid", [
    "", "../../../dev/null", "/dev/null", "' OR '1'='1", "x'; DROP TABLE keys.signing_keys; --", "%00", "\x00", None, 1, [],
    {}, True,
    "k" * 5000, "\ud800",
])  # fmt: skip
async def test_key_id_is_only_looked_up(ring: KeyRing, pool: asyncpg.Pool, kid: Any) -> None:
    ring._loaded_at = 0.0  # so that it looks for a new key as well
    await assert_refused(ring, forged({"alg": "ES256", "typ": "JWT", "kid": kid}, claims(), bytes(64)))
    await assert_refused(ring, forged({"alg": "ES256", "typ": "JWT"}, claims(), bytes(64)))
    assert await pool.fetchval("SELECT count(*) FROM keys.signing_keys") == 1


async def test_changed_token_is_refused(ring: KeyRing) -> None:
    header, body, signature = (await sign(ring)).split(".")
    changed = json.loads(base64.urlsafe_b64decode(body + "==")) | {"sub": "admin"}
    await assert_refused(ring, f"{header}.{b64(json.dumps(changed).encode())}.{signature}")
    await assert_refused(ring, f"{header}.{body}.{b64(bytes(64))}")
    await assert_refused(ring, f"{header}.{body}.")
    await assert_refused(ring, f"{header}.{body}")
    await assert_refused(ring, f"{header}.{body}.{signature}.{signature}")


@pytest.mark.parametrize("header", [
    [], None, 1, "x", {}, {"alg": "ES256", "crit": ["exp"]}, {"alg": "ES256", "b64": False, "crit": ["b64"]}, {"alg": 1},
    {"alg": []},
])  # fmt: skip
async def test_odd_header_is_refused(ring: KeyRing, header: Any) -> None:
    if isinstance(header, dict):
        header = {"kid": next(iter(ring._keys)), "typ": "JWT", **header}
    await assert_refused(ring, forged(header, claims(), bytes(64)))


@pytest.mark.parametrize(
    "token", ["", ".", "..", "a.b.c", "é.é.é", "\udcff", "a" * 100_000, ".".join("abcde"), "\x00", "a.b.c\n"]
)
async def test_what_is_no_token_is_refused(ring: KeyRing, token: str) -> None:
    await assert_refused(ring, token)


async def test_header_made_to_exhaust_a_parser_is_refused(ring: KeyRing) -> None:
    for content in (b"[" * 12_000, b'{"a":' * 2000, b'{"kid":' + b"9" * 5000 + b"}"):
        await assert_refused(ring, f"{b64(content)}.{b64(b'{}')}.{b64(bytes(64))}")


# What it is for, and when.


@pytest.mark.parametrize("changes", [
    {"aud": "other"}, {"aud": None}, {"aud": ""}, {"aud": []}, {"aud": ["other"]}, {"aud": "slipway2"}, {"aud": 1},
    {"iss": "other"}, {"iss": None}, {"iss": ""}, {"iss": 1}, {"iss": ["the registry"]},
    {"exp": None}, {"exp": 0}, {"exp": time.time() - 60}, {"exp": "tomorrow"}, {"exp": []}, {"exp": True},
    {"nbf": None}, {"nbf": time.time() + 3600}, {"nbf": "yesterday"}, {"nbf": []},
])  # fmt: skip
async def test_token_for_another_place_or_time_is_refused(ring: KeyRing, changes: dict[str, Any]) -> None:
    await assert_refused(ring, signed_by_the_ring(ring, claims(**changes)))


async def test_token_that_is_over_is_refused(ring: KeyRing) -> None:
    await assert_refused(ring, await sign(ring, life_s=-6))
    assert await verify(ring, await sign(ring, life_s=-1)), "clocks differ a little"


@pytest.mark.parametrize("token_type", ["other+jwt", "at+jwt", "", "jwt"])
async def test_token_of_another_type_is_refused(ring: KeyRing, token_type: str) -> None:
    await assert_refused(ring, signed_by_the_ring(ring, claims(), typ=token_type))


async def test_token_of_another_purpose_is_refused(ring: KeyRing, pool: asyncpg.Pool, box: SecretBox) -> None:
    other = ring_on(pool, box, purpose="internal")
    await other.load()
    ring._loaded_at = 0.0
    await assert_refused(ring, await sign(other))
    await assert_refused(other, await sign(ring))


# Keys come and go.


async def age(pool: asyncpg.Pool, days: int) -> None:
    await pool.execute("UPDATE keys.signing_keys SET created_at = created_at - make_interval(days => $1)", days)


async def test_old_key_still_verifies_after_a_new_one_signs(ring: KeyRing, pool: asyncpg.Pool) -> None:
    before = await sign(ring)
    await age(pool, 91)
    await ring.load()
    after = await sign(ring)
    assert len(ring.public_keys()["keys"]) == 2
    for token in (before, after):
        assert await verify(ring, token)


async def test_key_that_reached_its_end_verifies_nothing_any_more(ring: KeyRing, pool: asyncpg.Pool) -> None:
    before = await sign(ring)
    await age(pool, 101)
    await ring.load()
    await assert_refused(ring, before)


async def test_key_that_another_process_made_is_found(ring: KeyRing, pool: asyncpg.Pool, box: SecretBox) -> None:
    await age(pool, 91)
    other = ring_on(pool, box)
    token = await sign(other)
    ring._loaded_at = 0.0
    assert await verify(ring, token)


async def test_unknown_keys_do_not_make_the_database_busy(ring: KeyRing, monkeypatch: pytest.MonkeyPatch) -> None:
    loads = 0

    async def count() -> None:
        nonlocal loads
        loads += 1
        ring._loaded_at = time.monotonic()

    monkeypatch.setattr(ring, "load", count)
    ring._loaded_at = 0.0
    for number in range(50):
        await assert_refused(ring, forged({"alg": "ES256", "kid": f"k{number}"}, claims(), bytes(64)))
    assert loads == 1


async def test_many_that_start_at_once_make_one_key(pool: asyncpg.Pool, box: SecretBox) -> None:
    rings = [ring_on(pool, box) for _ in range(8)]
    await asyncio.gather(*(one.load() for one in rings))
    assert len({next(iter(one._keys)) for one in rings}) == 1
    token = await sign(rings[0])
    for one in rings:
        assert await verify(one, token)


async def test_private_keys_are_neither_shown_nor_stored_in_the_clear(ring: KeyRing, pool: asyncpg.Pool) -> None:
    (shown,) = ring.public_keys()["keys"]
    assert set(shown) == {"kty", "crv", "x", "y", "kid", "use", "alg"}
    stored = await pool.fetchval("SELECT private_key FROM keys.signing_keys")
    assert b"PRIVATE KEY" not in stored


async def test_other_master_key_is_told_to_the_operator(ring: KeyRing, pool: asyncpg.Pool, tmp_path: Any) -> None:
    with pytest.raises(Misconfigured, match="master key"):
        await ring_on(pool, load_master_key(tmp_path / "other.key")).load()
