"""Digests: two algorithms, lower-case, whole."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_common.oci.digests import (
    ALGORITHMS,
    InvalidDigest,
    algorithm_of,
    digest_of,
    new_hash,
    parse_algorithm,
    parse_digest,
)

HEX = hashlib.sha256(b"").hexdigest()


@given(st.binary(max_size=100), st.sampled_from(sorted(ALGORITHMS)))
def test_digest_of_any_content_is_one(content: bytes, algorithm: str) -> None:
    digest = digest_of(content, algorithm)
    assert parse_digest(digest) == digest
    assert algorithm_of(digest) == algorithm
    hash_ = new_hash(algorithm)
    hash_.update(content)
    assert digest == f"{algorithm}:{hash_.hexdigest()}"


@pytest.mark.parametrize("text", [
    "", ":", "sha256", "sha256:", f"sha256:{HEX[1:]}", f"sha256:{HEX}0", f"sha256:{HEX.upper()}", f"SHA256:{HEX}",
    f"sha512:{HEX}",
    f"md5:{HEX[:32]}", f"sha384:{HEX}{HEX[:32]}", f"sha256:{HEX}\n", f" sha256:{HEX}", f"sha256:{HEX[:-1]}g", f"sha256 :{HEX}",
    f"sha256:{HEX[:-2]}..", "sha256:../../../../etc/passwd", f"sha256:sha256:{HEX}", f"sha256:{HEX[:-1]}\x00",
    "sha256:" + "٣" * 64,
    f"sha256+b64:{HEX}", f"sha256:{HEX[:-1]}\udcff", f"sha256%3a{HEX}",
])  # fmt: skip
def test_what_is_no_digest_is_refused(text: str) -> None:
    with pytest.raises(InvalidDigest):
        parse_digest(text)


@given(st.text(max_size=80))
def test_any_text_is_a_digest_as_it_is_or_refused(text: str) -> None:
    for candidate in (text, f"sha256:{text}", f"sha256:{HEX[:-1]}{text}"):
        try:
            parsed = parse_digest(candidate)
        except InvalidDigest:
            continue
        assert parsed == candidate
        assert len(candidate) == 71
        assert set(candidate[7:]) <= set("0123456789abcdef")


def test_error_repeats_little_of_what_came() -> None:
    with pytest.raises(InvalidDigest) as refused:
        parse_digest("x" * 1_000_000)
    assert len(str(refused.value.facts["digest"])) <= 160


@pytest.mark.parametrize("name", ["", "md5", "SHA256", "sha256 ", "sha3_256", "shake_128"])
def test_algorithm_that_is_not_offered_is_refused(name: str) -> None:
    with pytest.raises(InvalidDigest):
        parse_algorithm(name)
