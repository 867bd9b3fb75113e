"""Secrets of programs: what they look like, and what tells a mistyped one."""

from __future__ import annotations

import re
import secrets
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_gateway.domain.secrets import (
    SECRET_BYTES,
    CredentialKind,
    hash_secret,
    hint_of,
    kind_of,
    looks_like_secret,
    make_secret,
)

DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
WORDS = {CredentialKind.TOKEN: "pat", CredentialKind.ROBOT: "robot", CredentialKind.REFRESH: "refresh"}
kinds = st.sampled_from(CredentialKind)
randoms = st.binary(min_size=SECRET_BYTES, max_size=SECRET_BYTES)


def number_of(text: str) -> int:
    number = 0
    for digit in text:
        number = number * 62 + DIGITS.index(digit)
    return number


@given(kinds, randoms)
def test_a_secret_has_the_form_that_scanners_look_for(kind: CredentialKind, random: bytes) -> None:
    secret = make_secret(kind, random)
    assert re.fullmatch(rf"slipway_{WORDS[kind]}_[0-9A-Za-z]{{43}}[0-9A-Za-z]{{6}}", secret)
    assert kind_of(secret) is kind
    assert looks_like_secret(secret)


@given(kinds, randoms)
def test_all_of_the_random_bytes_are_in_a_secret_and_its_end_is_their_checksum(
    kind: CredentialKind, random: bytes
) -> None:
    body, check = make_secret(kind, random)[-49:-6], make_secret(kind, random)[-6:]
    assert number_of(body).to_bytes(SECRET_BYTES, "big") == random
    assert number_of(check) == zlib.crc32(body.encode())


def test_extremes_fill_their_places() -> None:
    assert make_secret(CredentialKind.TOKEN, bytes(32))[12:55] == "0" * 43
    assert kind_of(make_secret(CredentialKind.TOKEN, b"\xff" * 32)) is CredentialKind.TOKEN


@given(kinds, randoms, st.integers(0, 48), st.sampled_from(DIGITS))
def test_one_wrong_character_is_told_without_asking_anybody(
    kind: CredentialKind, random: bytes, position: int, letter: str
) -> None:
    secret = make_secret(kind, random)
    start = len(secret) - 49
    wrong = secret[: start + position] + letter + secret[start + position + 1 :]
    assert (kind_of(wrong) is None) == (wrong != secret)


@given(kinds, randoms, st.integers(0, 47))
def test_two_characters_in_the_wrong_order_are_told(kind: CredentialKind, random: bytes, position: int) -> None:
    secret = make_secret(kind, random)
    at = len(secret) - 49 + position
    wrong = secret[:at] + secret[at + 1] + secret[at] + secret[at + 2 :]
    assert (kind_of(wrong) is None) == (wrong != secret)


GOOD = make_secret(CredentialKind.TOKEN, b"0123456789abcdef0123456789abcdef")


@pytest.mark.parametrize("text", [
    "", "slipway_", "slipway_pat_", "slipway_pat", "pat_" + GOOD[12:], GOOD[12:], GOOD + "0", GOOD[:-1], " " + GOOD, GOOD + "\n",
    GOOD.replace("pat", "PAT"), GOOD.replace("pat", "admin"), GOOD.replace("pat", ""), GOOD.replace("slipway", "Slipway"),
    GOOD.replace("slipway_", ""), "slipway_" + GOOD, GOOD.replace("pat_", "pat__"), "slipway_pat_" + "٣" * 49,
    "slipway_pat_" + "\udcff" * 49, "slipway_pat_" + "\x00" * 49, "x" * 100_000, "slipway_pat_" + "a" * 100_000,
])  # fmt: skip
def test_what_is_none_of_ours_has_no_kind(text: str) -> None:
    assert kind_of(GOOD) is CredentialKind.TOKEN
    assert kind_of(text) is None


@given(st.text(max_size=80))
def test_whatever_comes_as_a_password_can_be_looked_at(text: str) -> None:
    assert kind_of(text) is None
    assert kind_of(f"slipway_pat_{text}") is None
    assert looks_like_secret(f"slipway_{text}")
    assert len(hash_secret(text)) == 32


def test_kinds_do_not_pass_for_one_another() -> None:
    random = secrets.token_bytes(SECRET_BYTES)
    made = {kind: make_secret(kind, random) for kind in CredentialKind}
    assert {kind: kind_of(secret) for kind, secret in made.items()} == {kind: kind for kind in CredentialKind}
    assert len({hash_secret(secret) for secret in made.values()}) == len(CredentialKind)


def test_ten_thousand_secrets_are_ten_thousand() -> None:
    made = [make_secret(CredentialKind.TOKEN, secrets.token_bytes(SECRET_BYTES)) for _ in range(10_000)]
    assert len(set(made)) == 10_000
    assert len({hash_secret(secret) for secret in made}) == 10_000
    assert all(kind_of(secret) is CredentialKind.TOKEN for secret in made)


def test_hint_is_the_end_and_gives_nothing_else_away() -> None:
    assert hint_of(GOOD) == GOOD[-4:]
    # Of the checksum, not of the random part.
    assert len(hint_of(GOOD)) < 6
