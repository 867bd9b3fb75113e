"""`slipway namespace`."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import typer

from slipway_common.client.api import Document, path_to
from slipway_common.client.calls import call
from slipway_common.client.output import Columns, print_facts, print_rows, say
from slipway_common.client.prompts import confirm
from slipway_common.launcher.commands import new_group
from slipway_gateway.commands.options import Description, Json, Yes, check_said, given, print_done

Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="The namespace, such as acme; _ is the one of repositories without a slash in their name."
    ),
]
CreateOnPush = Annotated[
    bool | None,
    typer.Option("--create-on-push/--no-create-on-push", help="Whether a first push makes a repository in it."),
]
# `inherit` is what people say for null.
DefaultVisibility = Annotated[
    Literal["private", "public", "inherit"] | None,
    typer.Option("--default-visibility", help="Of repositories made in it; inherit: as the registry's settings say."),
]
PublicAllowed = Annotated[
    bool | None,
    typer.Option("--allow-public/--forbid-public", help="Whether repositories in it may be public."),
]
COLUMNS: Final[Columns] = {
    "name": "name",
    "create on push": "create_on_push",
    "default visibility": "default_visibility",
    "public allowed": "public_allowed",
    "description": "description",
}


def build() -> typer.Typer:
    """The group."""
    app = new_group("Namespaces, and the rules for what is in them.")
    app.command("list")(list_namespaces)
    app.command()(show)
    app.command()(create)
    app.command()(edit)
    app.command()(delete)
    return app


def list_namespaces(as_json: Json = False) -> None:
    """List the namespaces that you may see.

    Example: slipway namespace list
    """
    print_rows(call(lambda api: api.all("/namespaces")), COLUMNS, as_json=as_json)


def show(name: Name, as_json: Json = False) -> None:
    """Show one namespace and its rules.

    Example: slipway namespace show acme
    """
    print_facts(call(lambda api: api.get(path_to("namespaces", name))), as_json=as_json)


def create(
    name: Name,
    description: Description = None,
    create_on_push: CreateOnPush = None,
    default_visibility: DefaultVisibility = None,
    allow_public: PublicAllowed = None,
    as_json: Json = False,
) -> None:
    """Make a namespace.

    Example: slipway namespace create acme --no-create-on-push --forbid-public
    """
    rules = _rules(description, create_on_push, default_visibility, allow_public)
    made = call(lambda api: api.post("/namespaces", {"name": name, **rules}))
    print_done(f"{name} is there", made, as_json=as_json)


def edit(
    name: Name,
    description: Description = None,
    create_on_push: CreateOnPush = None,
    default_visibility: DefaultVisibility = None,
    allow_public: PublicAllowed = None,
    as_json: Json = False,
) -> None:
    """Change what is said; the rest stays as it is.

    Example: slipway namespace edit acme --default-visibility public
    """
    rules = _rules(description, create_on_push, default_visibility, allow_public)
    check_said(rules)
    changed = call(lambda api: api.patch(path_to("namespaces", name), rules))
    print_done(f"{name} is changed", changed, as_json=as_json)


def delete(name: Name, yes: Yes = False) -> None:
    """Delete a namespace, once it has no repositories any more.

    Example: slipway namespace delete acme
    """
    confirm(f"Delete the namespace {name}, its robots and grants?", yes=yes)
    call(lambda api: api.delete(path_to("namespaces", name)))
    say(f"{name} is deleted")


def _rules(
    description: str | None, create_on_push: bool | None, default_visibility: str | None, allow_public: bool | None
) -> Document:
    rules = given(description=description, create_on_push=create_on_push, public_allowed=allow_public)
    if default_visibility is not None:
        rules["default_visibility"] = None if default_visibility == "inherit" else default_visibility
    return rules
