"""Content digests (image-spec: Descriptors), for the two registered algorithms."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, NewType

from slipway_common.errors import InvalidInput

if TYPE_CHECKING:
    from hashlib import _Hash

Digest = NewType("Digest", str)

ALGORITHMS = {"sha256": 64, "sha512": 128}  # name -> hex characters
_HEX = re.compile(r"[0-9a-f]+")


class InvalidDigest(InvalidInput):
    """Not a digest, of an algorithm we do not know, or not the digest of these bytes."""


def parse_digest(text: str) -> Digest:
    """Raise InvalidDigest unless `text` is `sha256:` + 64 or `sha512:` + 128 lower-case hexadecimal characters."""
    algorithm, colon, encoded = text.partition(":")
    length = ALGORITHMS.get(algorithm)
    if not colon or length is None:
        raise InvalidDigest("a digest is sha256:… or sha512:…", digest=text[:160])
    if len(encoded) != length or not _HEX.fullmatch(encoded):
        raise InvalidDigest(f"{algorithm} is followed by {length} lower-case hexadecimal characters", digest=text[:160])
    return Digest(text)


def parse_algorithm(text: str) -> str:
    """Raise InvalidDigest unless `text` names an algorithm we can compute."""
    if text not in ALGORITHMS:
        raise InvalidDigest("the digest algorithm is one of sha256, sha512", algorithm=text[:40])
    return text


def algorithm_of(digest: Digest) -> str:
    return digest.partition(":")[0]


def new_hash(algorithm: str) -> _Hash:
    return hashlib.new(algorithm, usedforsecurity=True)


def digest_of(content: bytes, algorithm: str = "sha256") -> Digest:
    return Digest(f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}")
