"""From a path under /v2/ to what it names.

Read from the right, because names have any depth and may hold words of the protocol: what is authorised is what is handled.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from urllib.parse import unquote

from slipway_common.oci.names import InvalidName, RepositoryName, parse_repository_name


class Kind(Enum):
    """What kind of thing a path names."""

    BASE = "base"
    CATALOG = "catalog"
    TAGS = "tags"
    MANIFEST = "manifest"
    BLOB = "blob"
    UPLOADS = "uploads"
    UPLOAD = "upload"
    REFERRERS = "referrers"


@dataclass(frozen=True, slots=True)
class Target:
    """A parsed path; `reference` is the last component, not parsed yet."""

    kind: Kind
    name: RepositoryName
    reference: str


_NO_NAME = RepositoryName("")
_BY_WORD = {"manifests": Kind.MANIFEST, "blobs": Kind.BLOB, "referrers": Kind.REFERRERS}


def parse_path(raw_path: str) -> Target | None:
    """Read the raw path of a request, without its query; None if the protocol has no such path.

    Raises InvalidName. Percent-encoding is undone once; a name that has some left is no name.
    """
    path = raw_path[4:] if raw_path.startswith("/v2/") else ""
    if "%" in path:
        path = _unquote(path)
    if not path:
        return Target(Kind.BASE, _NO_NAME, "") if raw_path in ("/v2/", "/v2") else None
    if path == "_catalog":
        return Target(Kind.CATALOG, _NO_NAME, "")
    head, _, reference = path.rpartition("/")
    name, _, word = head.rpartition("/")
    if word == "uploads" and name.endswith("/blobs"):
        kind = Kind.UPLOAD if reference else Kind.UPLOADS
        return Target(kind, parse_repository_name(name.removesuffix("/blobs")), reference)
    if reference == "uploads" and word == "blobs":
        return Target(Kind.UPLOADS, parse_repository_name(name), "")
    if word == "tags" and reference == "list":
        return Target(Kind.TAGS, parse_repository_name(name), "")
    kind_or_none = _BY_WORD.get(word)
    return Target(kind_or_none, parse_repository_name(name), reference) if kind_or_none is not None else None


def _unquote(path: str) -> str:
    try:
        return unquote(path, errors="strict")
    except UnicodeDecodeError as exc:
        raise InvalidName("the path is not valid UTF-8") from exc
