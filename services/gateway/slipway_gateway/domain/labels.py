"""What people write about repositories: descriptions and labels, bounded."""

from __future__ import annotations

import re
from collections.abc import Mapping

from slipway_common.errors import InvalidInput

MAX_DESCRIPTION_CHARS = 20_000
MAX_LABELS = 64
_KEY = re.compile(r"[a-z0-9A-Z](?:[a-zA-Z0-9._/-]{0,126}[a-zA-Z0-9])?")
_MAX_VALUE_CHARS = 256


def check_description(text: str) -> None:
    """Raise InvalidInput unless the database can keep `text`, and people can read it."""
    if len(text) > MAX_DESCRIPTION_CHARS or not _is_plain(text):
        raise InvalidInput(f"a description has up to {MAX_DESCRIPTION_CHARS} characters, and no NUL among them")


def check_labels(labels: Mapping[str, str]) -> None:
    """Raise InvalidInput unless keys are words and values are short."""
    if len(labels) > MAX_LABELS:
        raise InvalidInput(f"at most {MAX_LABELS} labels can be set")
    for key, value in labels.items():
        if not _KEY.fullmatch(key):
            raise InvalidInput("a label's key is up to 128 letters, digits and . _ - / between them", key=key[:128])
        if len(value) > _MAX_VALUE_CHARS or not _is_plain(value):
            raise InvalidInput(f"a label's value has up to {_MAX_VALUE_CHARS} characters", key=key)


def _is_plain(text: str) -> bool:
    """Without what PostgreSQL takes in no text: NUL, and halves of characters."""
    return "\x00" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def check_line(what: str, text: str, *, max_chars: int = 255) -> None:
    """Raise InvalidInput unless `text` is one short line."""
    if len(text) > max_chars or not (text.isprintable() or not text):
        raise InvalidInput(f"{what} is one line of up to {max_chars} characters")
