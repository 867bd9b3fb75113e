"""What commands ask the person at the terminal, or read from standard input. A secret is never an argument: `ps` shows those."""

from __future__ import annotations

import sys

import typer

from slipway_common.errors import InvalidInput


def is_interactive() -> bool:
    """Whether there is somebody to ask."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def ask(question: str, *, instead: str, hidden: bool = False, twice: bool = False) -> str:
    """An answer from the terminal; where there is none, InvalidInput with the options to give `instead`."""
    if not is_interactive():
        raise InvalidInput(f"there is no terminal to ask on: give {instead}")
    answer: str = typer.prompt(question, hide_input=hidden, confirmation_prompt=twice, err=True)
    return answer


def confirm(question: str, *, yes: bool) -> None:
    """Go on only if the answer is yes. `yes` is the option that says it in advance."""
    if yes:
        return
    if not is_interactive():
        raise InvalidInput("there is no terminal to confirm on: give --yes")
    typer.confirm(question, abort=True, err=True)


def read_secret(what: str) -> str:
    """One line from standard input, without its end. Spaces count, as some passwords have them."""
    line = sys.stdin.readline().rstrip("\r\n")
    if not line:
        raise InvalidInput(f"standard input is empty, and should hold the {what}")
    return line
