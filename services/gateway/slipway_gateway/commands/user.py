"""`slipway user`: for administrators, but for one's own password."""

from __future__ import annotations

import secrets
from typing import Annotated, Final

import typer

from slipway_common.client.api import path_to
from slipway_common.client.calls import call
from slipway_common.client.output import Columns, print_facts, print_json, print_rows, print_secret, say
from slipway_common.client.prompts import ask, confirm, read_secret
from slipway_common.launcher.commands import new_group
from slipway_gateway.commands.options import Json, PasswordStdin, Yes, check_said, given, print_done

Name = Annotated[str, typer.Argument(metavar="USER", help="The user, such as alice.")]
DisplayName = Annotated[str | None, typer.Option("--display-name", help="How people call them.")]
Email = Annotated[str | None, typer.Option("--email", help="Where they are reached.")]
COLUMNS: Final[Columns] = {
    "name": "name",
    "display name": "display_name",
    "email": "email",
    "admin": "is_admin",
    "disabled": "disabled",
    "last login": "last_login_at",
}


def build() -> typer.Typer:
    """The group."""
    app = new_group("Users of the registry, for administrators.")
    app.command("list")(list_users)
    app.command()(show)
    app.command()(create)
    app.command()(edit)
    app.command()(set_password)
    app.command()(delete)
    return app


def list_users(as_json: Json = False) -> None:
    """List all users.

    Example: slipway user list
    """
    print_rows(call(lambda api: api.all("/users")), COLUMNS, as_json=as_json)


def show(name: Name, as_json: Json = False) -> None:
    """Show one user.

    Example: slipway user show alice
    """
    print_facts(call(lambda api: api.get(path_to("users", name))), as_json=as_json)


def create(
    name: Name,
    display_name: DisplayName = None,
    email: Email = None,
    admin: Annotated[bool, typer.Option("--admin", help="May do everything.")] = False,
    password_stdin: PasswordStdin = False,
    as_json: Json = False,
) -> None:
    """Make a user. Without --password-stdin a password is generated and printed, once.

    Example: slipway user create alice --email alice@example.com
    """
    password = read_secret("password") if password_stdin else None
    body = given(name=name, password=password, display_name=display_name, email=email, is_admin=admin or None)
    made = call(lambda api: api.post("/users", body))
    if as_json:
        print_json(made)
    elif made.get("password"):
        print_secret(made["password"], f"{name} is there. The password is shown once:")
    else:
        say(f"{name} is there")


def edit(
    name: Name,
    display_name: DisplayName = None,
    email: Email = None,
    admin: Annotated[bool | None, typer.Option("--admin/--no-admin", help="Whether they may do everything.")] = None,
    disable: Annotated[
        bool | None, typer.Option("--disable/--enable", help="Whether all their logins are refused.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Change what is said; the rest stays as it is.

    Example: slipway user edit alice --disable
    """
    body = check_said(given(display_name=display_name, email=email, is_admin=admin, disabled=disable))
    changed = call(lambda api: api.patch(path_to("users", name), body))
    print_done(f"{name} is changed", changed, as_json=as_json)


def set_password(
    name: Annotated[
        str | None, typer.Argument(metavar="USER", help="The user; nobody: yourself, with your present password.")
    ] = None,
    password_stdin: PasswordStdin = False,
) -> None:
    """Give a user a new password; logins with the old one end. Without --password-stdin one is generated and printed.

    Without a name it is your own, and you are asked for the present one and the new one.

    Then --password-stdin reads both, each a line.

    Example: slipway user set-password alice
    """
    if name is None:
        _set_own_password(password_stdin)
        return
    password = read_secret("new password") if password_stdin else secrets.token_urlsafe(18)
    call(lambda api: api.patch(path_to("users", name), {"password": password}))
    if password_stdin:
        say(f"{name} has a new password")
    else:
        print_secret(password, f"The new password of {name}; it is shown once:")


def _set_own_password(password_stdin: bool) -> None:
    if password_stdin:
        present, new = read_secret("present password"), read_secret("new password in its second line")
    else:
        present = ask("Present password", instead="--password-stdin", hidden=True)
        new = ask("New password", instead="--password-stdin", hidden=True, twice=True)
    call(lambda api: api.patch("/account", {"current_password": present, "password": new}))
    say("you have a new password")


def delete(name: Name, yes: Yes = False) -> None:
    """Delete a user, with all their tokens and grants. (To only lock somebody out: slipway user edit --disable.)

    Example: slipway user delete alice --yes
    """
    confirm(f"Delete the user {name} with all tokens and grants?", yes=yes)
    call(lambda api: api.delete(path_to("users", name)))
    say(f"{name} is deleted")
