"""`slipway explain`: why somebody may do something, or not."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from slipway_common.client.calls import call
from slipway_common.client.output import Columns, print_json, print_table
from slipway_common.client.text import printable
from slipway_gateway.commands.options import Json, parse_subject
from slipway_gateway.domain.access import Action

COLUMNS: Final[Columns] = {"role": "role", "on": "on", "through team": "team"}


def explain(
    subject: Annotated[
        str,
        typer.Argument(metavar="SUBJECT", help="user:alice, robot:acme+ci, or anonymous: without a login."),
    ],
    action: Annotated[Action, typer.Argument(metavar="ACTION", help="What they want to do.")],
    repository: Annotated[
        str, typer.Argument(metavar="REPOSITORY", help="Where, such as acme/web; it need not be there.")
    ],
    as_json: Json = False,
) -> None:
    """Explain why somebody may or may not do something in a repository; the exit code is 0 if they may, 1 if not.

    Example: slipway explain user:alice push acme/web
    """
    query = {
        "principal": subject if subject == "anonymous" else parse_subject(subject),
        "action": action,
        "repository": repository,
    }
    found = call(lambda api: api.get("/authz/explain", query))
    if as_json:
        print_json(found)
    else:
        typer.echo("allowed" if found["allowed"] else "not allowed")
        for reason in found.get("because") or ():
            typer.echo(f"  {printable(str(reason))}")
        print_table("grants", found.get("grants") or [], COLUMNS)
    raise typer.Exit(0 if found["allowed"] else 1)
