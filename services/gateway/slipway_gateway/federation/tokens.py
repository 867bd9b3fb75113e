"""Tokens that others have signed: what is checked of each, whatever it is for.

The issuer is chosen by whoever calls, the key by the issuer's own publication, the algorithm from a short list of those with a
public key. The header only says which of these.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import orjson
from joserfc.errors import ClaimError, ExpiredTokenError, JoseError, MissingClaimError
from joserfc.jws import CompactSignature, JWSRegistry, extract_compact, validate_compact
from joserfc.jwt import JWTClaimsRegistry

from slipway_common.errors import Unauthenticated
from slipway_gateway.federation.issuer import Issuer
from slipway_gateway.federation.keys import ALGORITHMS

_LEEWAY_S = 30  # clocks of different houses
# Headers that change how the rest is read (RFC 7515, section 4.1.11; RFC 7797). No issuer of such tokens needs them.
_EXTENSIONS = frozenset({"crit", "b64"})
_TROUBLES = {
    "iss": "the token is from another issuer",
    "aud": "the token is meant for somebody else",
    "nbf": "the token is not valid yet",
    "iat": "the token is from the future",
}


class RefusedToken(Unauthenticated):
    """A token that does not hold."""


class _Registry(JWSRegistry):
    """joserfc's, for header parameters that it does not know, and for the name that Ed25519 had before RFC 9864."""

    max_header_length = 1024  # with a certificate's thumbprints; no chain of certificates

    def get_alg(self, name: str) -> Any:
        return super().get_alg("Ed25519" if name == "EdDSA" else name)


_registry = _Registry(algorithms=sorted(ALGORITHMS), strict_check_header=False)


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    """The claims of a token that holds, and the algorithm of its signature."""

    claims: dict[str, Any]
    algorithm: str


def unverified_issuer(token: str) -> str:
    """Whom the token says it is from: good for choosing among issuers known already, and for nothing else."""
    issuer = _claims_of(_extract(token)).get("iss")
    if not isinstance(issuer, str):
        raise RefusedToken("the token does not say who issued it")
    return issuer


async def verify_token(token: str, issuer: Issuer, audiences: Collection[str]) -> VerifiedToken:
    """Check signature, issuer, times, and that it is for one of `audiences`.

    Raises RefusedToken, UnknownKey, and what the issuer's `published` raises.
    """
    signed = _extract(token)
    header = signed.headers()
    algorithm, kid = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise RefusedToken(f"the token is not signed in one of the ways {', '.join(sorted(ALGORITHMS))}")
    if not isinstance(kid, str | None) or header.keys() & _EXTENSIONS:
        raise RefusedToken("the token is signed in a way that is not understood here")
    public = await issuer.find_key(kid, algorithm)
    try:
        holds = validate_compact(signed, public.key, registry=_registry)
    except (JoseError, ValueError, TypeError) as exc:
        raise RefusedToken("the token's signature cannot be checked") from exc
    if not holds:
        raise RefusedToken("the token's signature does not hold")
    claims = _claims_of(signed)
    _check_claims(claims, issuer.url, audiences)
    return VerifiedToken(claims, algorithm)


def audiences_of(claims: dict[str, Any]) -> frozenset[str]:
    """Whom a verified token is for: the claim is a string or a list of them (RFC 7519, section 4.1.3)."""
    audience = claims["aud"]
    return frozenset([audience] if isinstance(audience, str) else audience)


def _extract(token: str) -> CompactSignature:
    try:
        signed = extract_compact(token.encode("ascii"), registry=_registry)
    except (JoseError, ValueError, TypeError, RecursionError) as exc:
        raise RefusedToken("the token is malformed") from exc
    if not isinstance(signed.protected, dict):
        raise RefusedToken("the token is malformed")
    return signed


def _claims_of(signed: CompactSignature) -> dict[str, Any]:
    try:
        claims = orjson.loads(signed.payload or b"")
    except orjson.JSONDecodeError as exc:
        raise RefusedToken("the token is malformed") from exc
    if not isinstance(claims, dict):
        raise RefusedToken("the token is malformed")
    return claims


def _check_claims(claims: dict[str, Any], issuer: str, audiences: Collection[str]) -> None:
    registry = JWTClaimsRegistry(
        leeway=_LEEWAY_S,
        iss={"essential": True, "value": issuer},
        aud={"essential": True, "values": sorted(audiences)},
        sub={"essential": True},
        exp={"essential": True},
        iat={"essential": True},
    )
    try:
        registry.validate(claims)
    except ExpiredTokenError as exc:
        raise RefusedToken("the token has expired") from exc
    except MissingClaimError as exc:
        raise RefusedToken(f"the token lacks {exc.claim.replace(',', ', ')}") from exc
    except ClaimError as exc:
        raise RefusedToken(_TROUBLES.get(exc.claim, f"the token has no valid {exc.claim}")) from exc
