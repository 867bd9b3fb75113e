"""Which published keys are taken, and for which signatures; and that no token or key, however written, breaks the reader."""

from __future__ import annotations

import base64
import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from slipway_gateway.federation.keys import find_key, read_keys
from slipway_gateway.federation.tokens import RefusedToken, unverified_issuer

EC = ECKey.generate_key("P-256").as_dict(private=False)
RSA = RSAKey.generate_key(2048).as_dict(private=False)
ED25519 = OKPKey.generate_key("Ed25519").as_dict(private=False)

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["RSA", "EC", "OKP", "P-256"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["alg", "crit", "b64", "kid", "kty", "n", "e", "crv", "x", "y", "use", "key_ops", "keys"]),
            inner,
            max_size=6,
        )
    ),
    max_leaves=10,
)


def algorithms_of(key: dict[str, Any]) -> set[str]:
    return {algorithm for public in read_keys({"keys": [key]}) for algorithm in public.algorithms}


@pytest.mark.parametrize(
    ("key", "algorithms"),
    [
        (EC, {"ES256"}),
        (RSA, {"RS256", "PS256"}),
        ({**RSA, "alg": "PS256"}, {"PS256"}),
        (ED25519, {"EdDSA", "Ed25519"}),
        ({**ED25519, "alg": "EdDSA"}, {"EdDSA", "Ed25519"}),
        ({**EC, "use": "sig", "key_ops": ["verify"]}, {"ES256"}),
        ({**EC, "use": "enc"}, set()),
        ({**EC, "key_ops": ["sign"]}, set()),
        ({**EC, "alg": "RS256"}, set()),
        ({**RSA, "alg": "HS256"}, set()),
        ({**RSA, "alg": ["RS256"]}, set()),
        ({**RSA, "n": RSA["n"] * 5}, set()),
        ({**RSA, "n": "A" * 2000 + str(RSA["n"])}, set()),
        ({**EC, "x": EC["y"], "y": EC["x"]}, set()),
        (ECKey.generate_key("P-384").as_dict(private=False), set()),
        (OKPKey.generate_key("X25519").as_dict(private=False), set()),
        (OctKey.generate_key(256).as_dict(), set()),
    ],
)
def test_a_key_is_for_the_signatures_of_its_type_and_no_others(key: dict[str, Any], algorithms: set[str]) -> None:
    assert algorithms_of(key) == algorithms


@pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning")
def test_a_key_that_can_be_broken_is_passed_over() -> None:
    assert algorithms_of(RSAKey.generate_key(1024).as_dict(private=False)) == set()


def test_a_private_key_that_was_published_by_mistake_is_taken_for_a_public_one() -> None:
    (public,) = read_keys({"keys": [ECKey.generate_key("P-256").as_dict(private=True)]})
    assert not public.key.is_private


def test_an_unusable_key_does_not_take_the_others_with_it() -> None:
    assert [key.kid for key in read_keys({"keys": [{"kty": "ML-DSA"}, "x", {**EC, "kid": "good"}]})] == ["good"]


def test_a_token_without_key_id_is_checked_only_where_there_is_no_choice() -> None:
    one = read_keys({"keys": [{**EC, "kid": "1"}, {**RSA, "kid": "2"}]})
    two = read_keys({"keys": [{**EC, "kid": "1"}, {**ECKey.generate_key("P-256").as_dict(private=False), "kid": "2"}]})
    assert find_key(one, None, "ES256") is one[0]
    assert find_key(two, None, "ES256") is None
    assert find_key(two, "2", "ES256") is two[1]
    assert find_key(one, "1", "RS256") is None


@given(document=values, key=values)
def test_any_document_is_read(document: Any, key: Any) -> None:
    read_keys(document if isinstance(document, dict) else {"keys": document})
    read_keys({"keys": [key, {**(key if isinstance(key, dict) else {}), "kty": "RSA"}]})


@given(header=values, claims=values)
def test_any_token_is_read_or_refused(header: Any, claims: Any) -> None:
    with contextlib.suppress(RefusedToken):
        assert isinstance(unverified_issuer(write(header, claims)), str)


@pytest.mark.parametrize(
    "token", ["", ".", "..", "...", "a.b.c", "ä.b.c", "e30.e30.", "[" * 100_000, "." + "x" * 200_000]
)
def test_what_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(RefusedToken):
        unverified_issuer(token)


def write(header: Any, claims: Any) -> str:
    head, body = (
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in (header, claims)
    )
    return f"{head}.{body}.c2ln"
