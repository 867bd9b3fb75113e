"""Patterns of repository names: `acme/web-*`, `acme/**`, `**/base`.

`*` stands for any run of characters within one component, `**` for any run with slashes in it; every other character stands for
itself. A pattern names whole names: it is anchored at both ends.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from slipway_common.errors import InvalidInput
from slipway_common.oci.names import MAX_NAME_LENGTH

# The characters of repository names (distribution-spec, Pulling manifests) and the star.
_PATTERN = re.compile(r"[a-z0-9._/*-]+")
# Nobody needs more.
_MAX_STARS = 8
_TOKEN = re.compile(r"\*\*|.")


class InvalidPattern(InvalidInput):
    """Not a pattern of repository names."""


@dataclass(frozen=True, slots=True)
class NamePattern:
    """A parsed pattern.

    regex    the same as a regular expression, for PostgreSQL. Python would try every way to share a name out among the stars
    prefix   what every matching name begins with, for a look-up by index
    """

    text: str
    regex: str
    prefix: str

    def matches(self, name: str) -> bool:
        return _matches(self.text, name)


@lru_cache(maxsize=16_384)
def _matches(pattern: str, name: str) -> bool:
    """Follow all ways to read the pattern at once: bit i of `reached` says that its first i tokens can stand for what was read.

    Whatever the stars, it takes one step for each character of the name.
    """
    length, places = _places(pattern)
    slashless, any_run = places.get("*", 0), places.get("**", 0)
    stars = slashless | any_run
    reached = 1 | (stars & 1) << 1
    for character in name:
        stays = reached & (any_run if character == "/" else stars)
        reached = stays | (reached & places.get(character, 0)) << 1
        reached |= (reached & stars) << 1  # a star may stand for nothing; no two of them are neighbours
    return bool(reached >> length & 1)


@lru_cache(maxsize=4096)
def _places(pattern: str) -> tuple[int, Mapping[str, int]]:
    """How many tokens the pattern has, and at which bits each of them stands."""
    tokens, places = _TOKEN.findall(pattern), dict[str, int]()
    for position, token in enumerate(tokens):
        places[token] = places.get(token, 0) | 1 << position
    return len(tokens), places


@lru_cache(maxsize=4096)
def parse_pattern(text: str) -> NamePattern:
    """Raise InvalidPattern unless `text` is a pattern of at most 255 characters and eight stars."""
    if len(text) > MAX_NAME_LENGTH or not _PATTERN.fullmatch(text) or text.startswith("/") or text.endswith("/"):
        raise InvalidPattern(
            "a pattern is written like a repository's name, with * for anything within a component and ** for anything at all",
            pattern=text[:MAX_NAME_LENGTH],
        )
    pieces = re.split(r"(\*+)", text)
    if any(len(stars) > 2 for stars in pieces[1::2]) or len(pieces[1::2]) > _MAX_STARS:
        raise InvalidPattern(f"a pattern has at most {_MAX_STARS} of * or **", pattern=text)
    return NamePattern(text=text, regex="^" + "".join(map(_regex_of, pieces)) + "$", prefix=pieces[0])


def _regex_of(piece: str) -> str:
    if piece == "**":
        return ".*"
    if piece == "*":
        return "[^/]*"
    return piece.replace(".", "[.]")


def is_within(pattern: NamePattern, namespace: str) -> bool:
    """Whether the pattern can only match names of that namespace."""
    return pattern.prefix.startswith(f"{namespace}/")


def covers_namespace(pattern: NamePattern, namespace: str) -> bool:
    """Whether the pattern plainly matches every name that the namespace can hold; the root's names have no slash."""
    return pattern.text in ("**", f"{namespace}/**" if namespace else "*")
