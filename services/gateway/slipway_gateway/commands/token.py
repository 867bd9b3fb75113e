"""`slipway token`: access tokens of one's own, or for administrators of any user."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from slipway_common.client.api import Api, path_to
from slipway_common.client.calls import call
from slipway_common.client.output import Columns, print_json, print_rows, print_secret, say
from slipway_common.errors import InvalidInput
from slipway_common.launcher.commands import new_group
from slipway_gateway.commands.options import Actions, Days, Json, Patterns, find_id, given

User = Annotated[str | None, typer.Option("--user", help="Another user's, for administrators.")]
COLUMNS: Final[Columns] = {
    "id": "id",
    "name": "name",
    "ends with": "hint",
    "actions": lambda token: token.get("actions") or "all",
    "patterns": lambda token: token.get("patterns") or "all",
    "created": "created_at",
    "expires": "expires_at",
    "last used": "last_used_at",
}


def build() -> typer.Typer:
    """The group."""
    app = new_group("Access tokens: your logins for programs, without your password.")
    app.command("list")(list_tokens)
    app.command()(create)
    app.command()(revoke)
    return app


def list_tokens(user: User = None, as_json: Json = False) -> None:
    """List access tokens, of which only the end is known.

    Example: slipway token list
    """
    print_rows(call(lambda api: api.all(_path(user))), COLUMNS, as_json=as_json)


def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is for, such as laptop.")],
    expires_in_days: Days = None,
    action: Actions = None,
    pattern: Patterns = None,
    as_json: Json = False,
) -> None:
    """Make an access token and print it, once. It never does more than you may do.

    Example: slipway token create backup --action pull --pattern 'acme/**' --expires-in-days 90 > token
    """
    body = given(name=name, expires_in_days=expires_in_days, actions=action, patterns=pattern)
    made = call(lambda api: api.post("/account/tokens", body))
    if as_json:
        print_json(made)
    else:
        print_secret(made["token"], f"The token {name}; it is shown once. It takes the place of your password:")


def revoke(
    token: Annotated[str, typer.Argument(metavar="TOKEN", help="Its id, or its name. Never the token itself.")],
    user: User = None,
) -> None:
    """Revoke an access token; whoever uses it is refused from now on.

    Example: slipway token revoke laptop
    """

    if token.startswith("slipway_"):
        raise InvalidInput(
            "give the token's id or name: the token itself is a secret, and others see what is on a command line"
        )

    async def work(api: Api) -> None:
        await api.delete(_path(user) + path_to(await find_id(api, _path(user), token)))

    call(work)
    say(f"{token} is revoked")


def _path(user: str | None) -> str:
    return "/account/tokens" if user is None else path_to("users", user, "tokens")
