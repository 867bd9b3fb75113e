"""Secrets that programs log in with: how they look, and how they are kept.

`slipway_pat_` + 43 characters of base62 (256 bits) + 6 of their CRC-32: a name that scanners of source code can search for, and
a checksum that tells a mistyped one from an unknown one without asking anybody. They are random, so a SHA-256 keeps them.
"""

from __future__ import annotations

import hashlib
import zlib
from enum import StrEnum

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
SECRET_BYTES = 32
_BODY_LENGTH, _CHECK_LENGTH = 43, 6
_PREFIX = "slipway_"


class CredentialKind(StrEnum):
    """What a secret is for. The values are what the database keeps."""

    TOKEN = "token"  # noqa: S105
    ROBOT = "robot"
    REFRESH = "refresh"


_WORDS = {CredentialKind.TOKEN: "pat", CredentialKind.ROBOT: "robot", CredentialKind.REFRESH: "refresh"}
_KINDS = {word: kind for kind, word in _WORDS.items()}


def make_secret(kind: CredentialKind, random: bytes) -> str:
    """The secret of 32 random bytes."""
    body = _base62(int.from_bytes(random[:SECRET_BYTES], "big"), _BODY_LENGTH)
    return f"{_PREFIX}{_WORDS[kind]}_{body}{_checksum(body)}"


def kind_of(text: str) -> CredentialKind | None:
    """Which kind of secret this is; None for what is none of ours, or mistyped."""
    prefix, _, rest = text.rpartition("_")
    kind = _KINDS.get(prefix.removeprefix(_PREFIX)) if prefix.startswith(_PREFIX) else None
    body, check = rest[:_BODY_LENGTH], rest[_BODY_LENGTH:]
    whole = kind is not None and rest.isascii() and rest.isalnum() and len(check) == _CHECK_LENGTH
    return kind if whole and _checksum(body) == check else None


def looks_like_secret(text: str) -> bool:
    """Whether a password is meant as one of ours, right or not."""
    return text.startswith(_PREFIX)


def hash_secret(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def hint_of(text: str) -> str:
    """The last characters, by which its owner knows it again."""
    return text[-4:]


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), _CHECK_LENGTH)


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
