"""Which builds of a CI system a robot trusts: rules on the claims of their tokens.

A rule has a pattern for each of some claims: `{"repository": "acme/web", "ref": "refs/heads/*"}`. Every claim must be there, and
its whole value must fit its pattern, in which `*` stands for any run of characters, and everything else for itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slipway_common.errors import InvalidInput
from slipway_common.outgoing.targets import OutgoingRefused, parse_target_url

MAX_CLAIMS = 20
MAX_LENGTH = 500

# Of every token these are checked anyway, and none of them tells one workload from another.
_CHECKED_ANYWAY = frozenset({"iss", "aud", "exp", "nbf", "iat", "jti"})
# Issuers that all the world's projects share, and the claims that say whose a workload is.
_SHARED: Mapping[str, frozenset[str]] = {
    "https://token.actions.githubusercontent.com": frozenset({
        "sub", "repository", "repository_id", "repository_owner", "repository_owner_id", "workflow_ref", "enterprise",
        "enterprise_id",
    }),
    "https://gitlab.com": frozenset({"sub", "project_path", "project_id", "namespace_path", "namespace_id"}),
    "https://accounts.google.com": frozenset({"sub", "email"}),
}  # fmt: skip


class InvalidTrust(InvalidInput):
    """Not a rule by which workloads can be trusted."""


def claims_match(rule: Mapping[str, str], claims: Mapping[str, Any]) -> bool:
    """Whether the claims fulfil every line of the rule. An empty rule is fulfilled by nothing."""
    return bool(rule) and all(_fits(pattern, find_claim(claims, name)) for name, pattern in rule.items())


def find_claim(claims: Mapping[str, Any], name: str) -> Any:
    """The claim of that name, or the one at the end of that path: `kubernetes.io.namespace`; None if there is none.

    A name with dots in it goes before a path, a longer one before a shorter one; the first that is there decides.
    """
    if name in claims:
        return claims[name]
    end = name.rfind(".")
    while end > 0:
        if (head := name[:end]) in claims:
            inner = claims[head]
            return find_claim(inner, name[end + 1 :]) if isinstance(inner, Mapping) else None
        end = name.rfind(".", 0, end)
    return None


def matches_glob(pattern: str, text: str) -> bool:
    """Whether the whole text fits the pattern. Takes time in proportion to the text, whatever the pattern."""
    first, *rest = pattern.split("*")
    if not rest:
        return text == pattern
    *middle, last = rest
    at, end = len(first), len(text) - len(last)
    if at > end or not text.startswith(first) or not text.endswith(last):
        return False
    # Taking each piece where it comes first leaves the most room for those after it.
    for piece in middle:
        found = text.find(piece, at, end)
        if found < 0:
            return False
        at = found + len(piece)
    return True


def validate_rule(issuer: str, audience: str, claims: Mapping[str, str]) -> None:
    """Raise InvalidTrust unless this can be a rule, and one that does not let everybody in."""
    _check_issuer(issuer)
    _check_text("audience", audience)
    if not 0 < len(claims) <= MAX_CLAIMS:
        raise InvalidTrust(f"a trust rule has 1 to {MAX_CLAIMS} claims")
    for name, pattern in claims.items():
        _check_text("a claim's name", name)
        _check_text(f"the pattern of {name}", pattern)
        if name in _CHECKED_ANYWAY:
            raise InvalidTrust(f"{name} is checked of every token: leave it out of the claims", claim=name)
    if not any(pattern.strip("*") for pattern in claims.values()):
        raise InvalidTrust("a rule of nothing but * would let in every workload that the issuer knows")
    owners = _SHARED.get(issuer)
    if owners is not None and not any(_names_owner(claims[name]) for name in owners & claims.keys()):
        raise InvalidTrust(
            f"everybody's workloads have tokens of {issuer}: say whose are meant by one of {', '.join(sorted(owners))}, "
            "without * before the end of the owner's name",
            issuer=issuer,
        )


def _fits(pattern: str, value: object) -> bool:
    """Whether a claim's value fits, or one of its values if it is a list."""
    values = value if isinstance(value, list) else [value]
    return any((text := _text_of(one)) is not None and matches_glob(pattern, text) for one in values)


def _text_of(value: object) -> str | None:
    """A claim's value as JSON writes it; None for what has no single way to be written."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int):
        return str(value)
    return None


def _check_issuer(issuer: str) -> None:
    _check_text("issuer", issuer)
    try:
        url = parse_target_url(issuer)
    except OutgoingRefused as exc:
        raise InvalidTrust("an issuer is written like https://host or https://host/path", issuer=issuer) from exc
    if "?" in issuer:
        raise InvalidTrust("an issuer's address has no query", issuer=str(url))


def _check_text(what: str, text: str) -> None:
    if not 0 < len(text) <= MAX_LENGTH or not text.isprintable():
        raise InvalidTrust(f"{what} must have 1 to {MAX_LENGTH} printable characters")


def _names_owner(pattern: str) -> bool:
    """Whether a pattern holds one owner fast: `acme/*` and `repo:acme/*` do, `acme*` is the beginning of other names too."""
    fixed, star, _ = pattern.partition("*")
    return bool(fixed) and (not star or "/" in fixed)
