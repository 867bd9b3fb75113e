"""SQL lives in `.sql` files beside the store that runs it; each statement has a name."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

_HEADER = re.compile(r"^-- name: ([a-z_][a-z0-9_]*)[ \t]*$", re.MULTILINE)


class Queries:
    """The named statements of one package, as attributes.

    Raises AttributeError for a name that no file defines, so that a typo is found by the first test that runs the line.
    """

    def __init__(self, statements: dict[str, str]) -> None:
        self._statements = statements

    def __getattr__(self, name: str) -> str:
        try:
            return self._statements[name]
        except KeyError:
            raise AttributeError(f"no SQL statement named {name!r}") from None


@cache
def load_queries(package: str) -> Queries:
    """Read every `-- name: x` statement of `package`'s sql/ folder."""
    statements: dict[str, str] = {}
    folder = resources.files(package) / "sql"
    for file in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if file.name.endswith(".sql"):
            for name, text in _parse(file.read_text("utf-8")):
                if name in statements:
                    raise ValueError(f"SQL statement {name!r} of {package} is defined twice")
                statements[name] = text
    return Queries(statements)


def _parse(text: str) -> list[tuple[str, str]]:
    pieces = _HEADER.split(text)[1:]
    return [(name, body.strip().rstrip(";")) for name, body in zip(pieces[::2], pieces[1::2], strict=True)]
