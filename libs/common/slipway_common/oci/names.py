"""Repository names, tags and references, as distribution-spec v1.1.1 writes their grammar.

A raw `str` stops at the edge: what carries one of these types has been through its parser.
"""

from __future__ import annotations

import re
from typing import NewType

from slipway_common.errors import InvalidInput
from slipway_common.oci.digests import Digest, parse_digest

RepositoryName = NewType("RepositoryName", str)
Tag = NewType("Tag", str)

# The specification leaves the length open; 255 is what clients enforce for host and name together.
MAX_NAME_LENGTH = 255
_NAME = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")


class InvalidName(InvalidInput):
    """A repository name outside the grammar."""


class InvalidTag(InvalidInput):
    """A tag outside the grammar."""


def parse_repository_name(text: str) -> RepositoryName:
    """Raise InvalidName unless `text` is a repository name of at most 255 characters (spec: Pulling manifests)."""
    if len(text) > MAX_NAME_LENGTH or not _NAME.fullmatch(text):
        raise InvalidName(
            "a repository name is lower-case letters and digits, separated by one of . _ __ or dashes, in components "
            "separated by /, and at most 255 characters long",
            name=text[:MAX_NAME_LENGTH],
        )
    return RepositoryName(text)


def parse_tag(text: str) -> Tag:
    """Raise InvalidTag unless `text` is a tag: at most 128 of letters, digits, _ . -, not starting with . or -."""
    if not _TAG.fullmatch(text):
        raise InvalidTag(
            "a tag is at most 128 letters, digits, underscores, dots and dashes, and starts with neither dot nor dash",
            tag=text[:128],
        )
    return Tag(text)


def parse_reference(text: str) -> Tag | Digest:
    """A manifest's reference: a digest if it has a colon (no tag has one), else a tag."""
    return parse_digest(text) if ":" in text else parse_tag(text)


def is_digest(reference: str) -> bool:
    """Tell the two kinds of a parsed reference apart."""
    return ":" in reference


def namespace_of(name: RepositoryName) -> str:
    """The first component of a name; names of one component live in the root namespace, written as the empty string."""
    return name.partition("/")[0] if "/" in name else ""
