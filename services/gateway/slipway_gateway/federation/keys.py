"""Public keys as issuers publish them (RFC 7517), and which signatures each may be used to check.

What a key can verify follows from its type alone. A token's header chooses among that, so there is no key with which a secret's
algorithm, or none, could be meant.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey

_RSA = frozenset({"RS256", "PS256"})
_EC = frozenset({"ES256"})
_ED25519 = frozenset({"EdDSA", "Ed25519"})  # the same by its old and its new name (RFC 9864)
ALGORITHMS = _RSA | _EC | _ED25519

# Below, a signature can be forged; above, checking one takes long enough to be an attack.
_RSA_BITS = range(2048, 8193)
_MAX_NUMBER_LENGTH = 1366  # 8192 bits in base64url
_MAX_KEYS = 100


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key, its id if it has one, and the algorithms it may check."""

    kid: str | None
    algorithms: frozenset[str]
    key: RSAKey | ECKey | OKPKey


def read_keys(document: Mapping[str, Any]) -> tuple[PublicKey, ...]:
    """The keys of a JWKS document that signatures can be checked with. Others are passed over (RFC 7517, section 5)."""
    listed = document.get("keys")
    if not isinstance(listed, list):
        return ()
    keys = (_read_key(entry) for entry in listed[:_MAX_KEYS] if isinstance(entry, dict))
    return tuple(key for key in keys if key is not None)


def find_key(keys: Iterable[PublicKey], kid: str | None, algorithm: str) -> PublicKey | None:
    """The key that a token's header means. A token without a key id is checked only where there is no choice."""
    fitting = [key for key in keys if algorithm in key.algorithms and (kid is None or key.kid == kid)]
    if not fitting or (kid is None and len(fitting) > 1):
        return None
    return fitting[0]


def _read_key(entry: Mapping[str, Any]) -> PublicKey | None:
    kid, operations = entry.get("kid"), entry.get("key_ops", ["verify"])
    if entry.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        return None
    if kid is not None and not isinstance(kid, str):
        return None
    try:
        found = _import(entry)
    except (JoseError, ValueError, TypeError, KeyError):
        return None
    if found is None:
        return None
    key, able = found
    algorithms = frozenset(one for one in able if _allows(entry.get("alg"), one))
    return PublicKey(kid, algorithms, key) if algorithms else None


def _allows(stated: object, algorithm: str) -> bool:
    """Whether a key that states its algorithm, or none, is meant for this one."""
    return stated is None or stated == algorithm or (algorithm in _ED25519 and stated in list(_ED25519))


def _import(entry: Mapping[str, Any]) -> tuple[RSAKey | ECKey | OKPKey, frozenset[str]] | None:
    """Import the public numbers and nothing else; None for a kind of key that is not used here."""
    match entry.get("kty"), entry.get("crv"):
        case "RSA", _:
            rsa = RSAKey.import_key(_pick(entry, "n", "e"))
            return (rsa, _RSA) if rsa.public_key.key_size in _RSA_BITS else None
        case "EC", "P-256":
            return ECKey.import_key(_pick(entry, "crv", "x", "y")), _EC
        case "OKP", "Ed25519":
            return OKPKey.import_key(_pick(entry, "crv", "x")), _ED25519
    return None


def _pick(entry: Mapping[str, Any], *names: str) -> dict[str, str | list[str]]:
    if any(len(entry[name]) > _MAX_NUMBER_LENGTH for name in names):
        raise ValueError("a number that no key has")
    return {name: entry[name] for name in ("kty", *names)}
