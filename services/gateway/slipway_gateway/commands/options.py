"""What the commands share: options and arguments, and how their values are written."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Final, Literal

import typer

from slipway_common.client.api import Api, Document
from slipway_common.client.output import print_json, say
from slipway_common.errors import InvalidInput, NotFound
from slipway_gateway.domain.access import Action

Json = Annotated[bool, typer.Option("--json", help="As one JSON document, for programs.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask whether you are sure.")]
PasswordStdin = Annotated[bool, typer.Option("--password-stdin", help="Read the password from standard input.")]
Description = Annotated[str | None, typer.Option("--description", help="What it is for.")]
Labels = Annotated[list[str] | None, typer.Option("--label", metavar="KEY=VALUE", help="A label; may be repeated.")]
Days = Annotated[int | None, typer.Option("--expires-in-days", min=1, help="For how long it is good; unset: for ever.")]
Actions = Annotated[
    list[Action] | None,
    typer.Option("--action", help="What it is good for at most; may be repeated. Unset: all its owner may do."),
]
Patterns = Annotated[
    list[str] | None,
    typer.Option(
        "--pattern",
        metavar="PATTERN",
        help="Repositories it is good for, such as 'acme/web-*' or 'acme/**'; may be repeated. Unset: all.",
    ),
]
VisibilityName = Literal["private", "public"]

_SUBJECTS: Final = ("user", "robot", "team")


def given(**fields: Any) -> Document:
    """The fields that were said, for the body of a request."""
    return {name: value for name, value in fields.items() if value is not None}


def check_said(fields: Document) -> Document:
    """`fields`, for a command that is for nothing but changing them. Raises InvalidInput if nothing was said."""
    if not fields:
        raise InvalidInput("say what to change: --help shows what there is")
    return fields


def parse_pairs(texts: Iterable[str] | None) -> dict[str, str] | None:
    """`KEY=VALUE` of a repeated option, None if it was not given. Raises InvalidInput."""
    if texts is None:
        return None
    pairs = [text.partition("=") for text in texts]
    for key, equals, _ in pairs:
        if not key or not equals:
            raise InvalidInput(f"{key!r}: write KEY=VALUE")
    return {key: value for key, _, value in pairs}


def parse_subject(text: str) -> str:
    """`user:alice`, `robot:acme+ci`, `team:platform`; a bare name is a user's, or with a plus a robot's. Raises InvalidInput."""
    kind, colon, name = text.rpartition(":")
    if not colon:
        kind = "robot" if "+" in name else "user"
    if kind not in _SUBJECTS or not name:
        raise InvalidInput(f"{text!r}: write user:NAME, robot:NAMESPACE+NAME or team:NAME")
    return f"{kind}:{name}"


async def find_id(api: Api, path: str, wanted: str) -> str:
    """The id of an entry of the list at `path`, which is named by its id or its name. Raises NotFound, or InvalidInput."""
    entries = await api.all(path)
    if any(str(entry["id"]) == wanted for entry in entries):
        return wanted
    ids = [str(entry["id"]) for entry in entries if entry.get("name") == wanted]
    if not ids:
        raise NotFound(f"there is none with the id or name {wanted}")
    if len(ids) > 1:
        raise InvalidInput(f"{wanted} is the name of several: give one of the ids {', '.join(ids)}")
    return ids[0]


def print_done(message: str, document: Document, *, as_json: bool) -> None:
    """What a change made: a message for people, the document for programs."""
    say(message)
    if as_json:
        print_json(document)
