"""Text from a server, made fit for a terminal."""

from __future__ import annotations


def printable(text: str, *, lines: bool = False) -> str:
    """`text` without what a terminal would obey: whoever can set a description must not be able to move somebody's cursor.

    `lines` says whether it may be of several lines; else they are joined.
    """
    if not lines:
        text = " ".join(text.split())
    return "".join(one if one.isprintable() or (lines and one == "\n") else "\N{REPLACEMENT CHARACTER}" for one in text)
