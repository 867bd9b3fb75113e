"""What commands print: data on stdout, for people as tables or for programs as JSON; everything else on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from slipway_common.client.api import Document
from slipway_common.client.text import printable

# Title of a column, and the field it shows or a function that makes the cell.
Columns = Mapping[str, str | Callable[[Document], object]]
# Where output goes to a program, a row is a line, however long.
_UNBOUNDED_WIDTH = 100_000


def say(message: str) -> None:
    """Tell whoever sits at the terminal something that is not data."""
    typer.echo(printable(message, lines=True), err=True)


def print_secret(secret: str, note: str) -> None:
    """A secret that is shown once: alone on stdout, so that it can go into a file or a pipe; `note` says what it is."""
    say(note)
    typer.echo(secret)


def print_json(document: Any) -> None:
    """One JSON document."""
    typer.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2))


def print_rows(rows: Sequence[Document], columns: Columns, *, as_json: bool) -> None:
    """A list: a table of `columns`, or the whole of it as one JSON array."""
    if as_json:
        print_json(rows)
    elif rows:
        _print_table(rows, columns)
    else:
        say("none")


def print_facts(document: Document, *, as_json: bool) -> None:
    """One thing: a line for each of its fields, or the whole of it as one JSON object."""
    if as_json:
        print_json(document)
        return
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in document.items():
        table.add_row(Text(name.removesuffix("_at").replace("_", " ")), Text(show(name, value)))
    _console().print(table)


def print_table(title: str, rows: Sequence[Document], columns: Columns) -> None:
    """A list that belongs to what was printed before it."""
    if rows:
        typer.echo(f"\n{title}:")
        _print_table(rows, columns)


def show(name: str, value: object) -> str:
    """A field as people read it; `at` and those that end in `_at` are times."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{printable(str(key))}={show('', each)}" for key, each in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(show("", each) for each in value)
    return short_time(str(value)) if name == "at" or name.endswith("_at") else printable(str(value))


def short_time(text: str) -> str:
    """An RFC 3339 time as a clock on the wall here would show it."""
    try:
        return f"{datetime.fromisoformat(text).astimezone():%Y-%m-%d %H:%M}"
    except ValueError:
        return printable(text)


def _print_table(rows: Sequence[Document], columns: Columns) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for title in columns:
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(row, source)) for source in columns.values()))
    _console().print(table)


def _cell(row: Document, source: str | Callable[[Document], object]) -> str:
    return show(source, row.get(source)) if isinstance(source, str) else show("", source(row))


def _console() -> Console:
    return Console(highlight=False, width=None if sys.stdout.isatty() else _UNBOUNDED_WIDTH)
