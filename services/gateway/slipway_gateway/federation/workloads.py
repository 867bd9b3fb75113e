"""Builds that log in with a token of their CI system, without a secret: GitHub Actions, GitLab, Kubernetes.

The caller brings the trust rules. Only an issuer that one of them names is ever asked for its keys.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from cachetools import LRUCache

from slipway_common.errors import InvalidInput, Misconfigured
from slipway_gateway.domain.trust import claims_match
from slipway_gateway.federation.documents import Requests
from slipway_gateway.federation.issuer import UNKNOWN_KEY_PAUSE_S, Issuer
from slipway_gateway.federation.tokens import RefusedToken, audiences_of, unverified_issuer, verify_token

_MAX_ISSUERS = 64


class Trust(Protocol):
    """Which workloads are let in: those with a token of this issuer, for this audience, with claims like these."""

    @property
    def issuer(self) -> str: ...
    @property
    def audience(self) -> str: ...
    @property
    def claims(self) -> Mapping[str, str]: ...


TrustT = TypeVar("TrustT", bound=Trust)


@dataclass(frozen=True, slots=True)
class Workload(Generic[TrustT]):
    """Who came, as its issuer says, and the rule that lets it in."""

    trust: TrustT
    claims: Mapping[str, Any]


class WorkloadTokens:
    """Verifies workloads' tokens, and knows the issuers it had to do with last.

    `requests` should be guarded: users name the issuers. The operator's networks then say which of them may be within.
    """

    def __init__(
        self,
        requests: Requests,
        *,
        max_issuers: int = _MAX_ISSUERS,
        unknown_key_pause_s: float = UNKNOWN_KEY_PAUSE_S,
    ) -> None:
        self._requests = requests
        self._unknown_key_pause_s = unknown_key_pause_s
        self._issuers: LRUCache[str, Issuer] = LRUCache(max_issuers)

    async def verify(self, token: str, trusts: Sequence[TrustT]) -> Workload[TrustT]:
        """Return the first rule that the token fulfils, with its claims.

        Raises RefusedToken or UnknownKey when it fulfils none, Unavailable when its issuer is away.
        """
        stated = unverified_issuer(token)
        candidates = [trust for trust in trusts if trust.issuer == stated]
        if not candidates:
            raise RefusedToken("no trust rule names the issuer of the token")
        try:
            verified = await verify_token(token, self._issuer(stated), {trust.audience for trust in candidates})
        except (InvalidInput, Misconfigured) as exc:
            raise RefusedToken(f"the token cannot be checked: {exc.message}") from exc
        audiences = audiences_of(verified.claims)
        for trust in candidates:
            if trust.audience in audiences and claims_match(trust.claims, verified.claims):
                return Workload(trust, verified.claims)
        raise RefusedToken("the token is valid, but no trust rule lets a workload with its claims in")

    def _issuer(self, url: str) -> Issuer:
        issuer = self._issuers.get(url)
        if issuer is None:
            issuer = self._issuers[url] = Issuer(self._requests, url, unknown_key_pause_s=self._unknown_key_pause_s)
        return issuer
