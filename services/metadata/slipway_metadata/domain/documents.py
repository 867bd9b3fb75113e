"""Reading JSON that anybody may have written: take what is sound, say what is not, never fail."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

from slipway_common.oci.digests import Digest, InvalidDigest, parse_digest

MAX_NAME_LENGTH = 255  # of what is a word by nature: media types, platforms, ports
_MAX_PROBLEMS = 20
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
# PostgreSQL stores no NUL, and UTF-8 has no lone surrogates; Go's JSON reader replaces the latter in the same way.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
# RFC 3339, section 5.6. Python's own parser takes many other forms, which mean something else to other readers.
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d{1,18})?(?:[Zz]|[+-]\d\d:\d\d)")
# What Go writes for "never set".
_UNSET = datetime(1, 1, 1, tzinfo=UTC)


class Problems:
    """What was found wrong in what a user pushed, as sentences; each once, and no more than 20."""

    def __init__(self) -> None:
        self._sentences: dict[str, None] = {}

    def add(self, sentence: str) -> None:
        if len(self._sentences) < _MAX_PROBLEMS:
            self._sentences[sentence] = None

    def text(self) -> str | None:
        return "; ".join(self._sentences) or None


def clean_text(text: str) -> str:
    """Replace the characters that the database cannot store."""
    return _UNSTORABLE.sub(_REPLACEMENT, text)


def clean_name(text: str) -> str:
    """A storable text, cut at 255 characters."""
    return clean_text(text[:MAX_NAME_LENGTH])


def clean_map(values: Mapping[str, str]) -> dict[str, str]:
    return {clean_text(key): clean_text(value) for key, value in values.items()}


def parse_timestamp(text: str) -> datetime | None:
    """Read RFC 3339 into UTC (to the microsecond). None where it is none, or Go's way to say "never set"."""
    if not _RFC3339.fullmatch(text):
        return None
    try:
        value = datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return None if value == _UNSET else value


def _parse_integer(text: str) -> int | float:
    # int() refuses thousands of digits by raising; as a float such a number is simply not a size.
    return int(text) if len(text) < 20 else float(text)


def parse_json(data: bytes) -> Any:
    """Read `data` as leniently as Go does. Raises ValueError for what is no JSON at all, or nested too deeply."""
    try:
        return orjson.loads(data)
    except ValueError:
        pass
    try:
        return json.loads(data.decode("utf-8", "replace"), parse_int=_parse_integer)
    except RecursionError as exc:
        raise ValueError("nested too deeply") from exc


class Document:
    """One JSON object; every wrong value is reported to `problems` and read as absent.

    Absent and null are the same, as they are for Go. No text of the document ever gets into a problem.
    """

    def __init__(self, fields: Mapping[str, Any], name: str, problems: Problems) -> None:
        self._fields = fields
        self._name = name
        self._problems = problems

    @classmethod
    def parse(cls, data: bytes, name: str, problems: Problems) -> Document:
        try:
            value = parse_json(data)
        except ValueError:
            problems.add(f"the {name} is not JSON that can be read")
            return cls({}, name, problems)
        if not isinstance(value, dict):
            problems.add(f"the {name} is not a JSON object")
            return cls({}, name, problems)
        return cls(value, name, problems)

    def text(self, key: str) -> str | None:
        value = self._fields.get(key)
        if value is None or isinstance(value, str):
            return self._clean(key, value) if value else None
        self._wrong(key, "is not a text")
        return None

    def word(self, key: str) -> str | None:
        """A text of at most 255 characters."""
        value = self.text(key)
        if value is not None and len(value) > MAX_NAME_LENGTH:
            self._wrong(key, f"is longer than {MAX_NAME_LENGTH} characters")
            return None
        return value

    def flag(self, key: str) -> bool:
        value = self._fields.get(key)
        if value is None or isinstance(value, bool):
            return bool(value)
        self._wrong(key, "is neither true nor false")
        return False

    def timestamp(self, key: str) -> datetime | None:
        text = self.text(key)
        if text is None or text.startswith("0001-01-01T00:00:00"):
            return None
        value = parse_timestamp(text)
        if value is None:
            self._wrong(key, "is not a time")
        return value

    def texts(self, key: str) -> list[str]:
        return [self._clean(key, value) for value in self._list(key) if self._is(value, str, key, "a list of texts")]

    def digests(self, key: str) -> list[Digest | None]:
        """The digests of a list; None stands where one is wrong, so that the others keep their places."""
        return [self._digest(key, value) for value in self._list(key)]

    def objects(self, key: str) -> list[Document]:
        """The objects of a list; an empty one stands where one is wrong, so that the others keep their places."""
        found = []
        for value in self._list(key):
            fields = value if self._is(value, dict, key, "a list of objects") else {}
            found.append(Document(fields, f"{self._name}'s {key}", self._problems))
        return found

    def part(self, key: str) -> Document:
        value = self._fields.get(key)
        if value is not None and not isinstance(value, dict):
            self._wrong(key, "is not an object")
            value = None
        return Document(value or {}, f"{self._name}'s {key}", self._problems)

    def text_map(self, key: str) -> dict[str, str]:
        found = {}
        for name, value in self.part(key)._fields.items():
            if self._is(value, str, key, "a map of texts"):
                found[self._clean(key, name)] = self._clean(key, value)
        return found

    def keys(self, key: str) -> list[str]:
        """The keys of an object that serves as a set (ports, volumes), sorted."""
        return sorted(self._clean(key, name) for name in self.part(key)._fields)

    def _list(self, key: str) -> list[Any]:
        value = self._fields.get(key)
        if value is None or isinstance(value, list):
            return value or []
        self._wrong(key, "is not a list")
        return []

    def _digest(self, key: str, value: object) -> Digest | None:
        try:
            return parse_digest(value if isinstance(value, str) else "")
        except InvalidDigest:
            self._wrong(key, "is not a list of digests")
            return None

    def _is(self, value: object, kind: type, key: str, what: str) -> bool:
        if isinstance(value, kind):
            return True
        self._wrong(key, f"is not {what}")
        return False

    def _clean(self, key: str, value: str) -> str:
        cleaned = clean_text(value)
        if cleaned != value:
            self._wrong(key, "has characters that cannot be stored")
        return cleaned

    def _wrong(self, key: str, what: str) -> None:
        self._problems.add(f"the {self._name}'s {key} {what}")
