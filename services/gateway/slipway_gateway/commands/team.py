"""`slipway team`."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import typer

from slipway_common.client.api import Api, Document, path_to
from slipway_common.client.calls import call
from slipway_common.client.output import Columns, print_facts, print_json, print_rows, print_table, say
from slipway_common.client.prompts import confirm
from slipway_common.errors import InvalidInput
from slipway_common.launcher.commands import new_group
from slipway_gateway.commands.options import Description, Json, Yes, check_said, given, print_done

Name = Annotated[str, typer.Argument(metavar="TEAM", help="The team, such as platform.")]
Member = Annotated[str, typer.Argument(metavar="USER", help="The user, such as alice.")]
Groups = Annotated[
    list[str] | None,
    typer.Option("--group", help="A group of the OpenID provider, whose users are members; may be repeated."),
]
COLUMNS: Final[Columns] = {"name": "name", "groups": "external_groups", "description": "description"}
MEMBERS: Final[Columns] = {"user": "name", "role": "role", "by": "source"}


def build() -> typer.Typer:
    """The group."""
    app = new_group("Teams: users who are given rights together.")
    app.command("list")(list_teams)
    app.command()(show)
    app.command()(create)
    app.command()(edit)
    app.command()(delete)
    member = new_group("Who is in a team.")
    member.command("add")(add_member)
    member.command("remove")(remove_member)
    app.add_typer(member, name="member")
    return app


def list_teams(as_json: Json = False) -> None:
    """List the teams.

    Example: slipway team list
    """
    print_rows(call(lambda api: api.all("/teams")), COLUMNS, as_json=as_json)


def show(name: Name, as_json: Json = False) -> None:
    """Show a team and its members.

    Example: slipway team show platform
    """

    async def work(api: Api) -> tuple[Document, list[Document]]:
        return await api.get(path_to("teams", name)), await api.all(path_to("teams", name, "members"))

    team, members = call(work)
    if as_json:
        print_json({**team, "members": members})
    else:
        print_facts(team, as_json=False)
        print_table("members", members, MEMBERS)


def create(name: Name, description: Description = None, group: Groups = None, as_json: Json = False) -> None:
    """Make a team.

    Example: slipway team create platform --group sso-platform-engineers
    """
    body = given(name=name, description=description, external_groups=group)
    made = call(lambda api: api.post("/teams", body))
    print_done(f"{name} is there", made, as_json=as_json)


def edit(
    name: Name,
    description: Description = None,
    group: Groups = None,
    no_groups: Annotated[bool, typer.Option("--no-groups", help="No group makes members any more.")] = False,
    as_json: Json = False,
) -> None:
    """Change what is said; the rest stays as it is. Groups replace those that were there.

    Example: slipway team edit platform --description "Those who keep it up"
    """
    if group and no_groups:
        raise InvalidInput("give --group or --no-groups, not both")
    body = check_said(given(description=description, external_groups=[] if no_groups else group))
    changed = call(lambda api: api.patch(path_to("teams", name), body))
    print_done(f"{name} is changed", changed, as_json=as_json)


def delete(name: Name, yes: Yes = False) -> None:
    """Delete a team with its grants; its members stay users.

    Example: slipway team delete platform --yes
    """
    confirm(f"Delete the team {name} with all its grants?", yes=yes)
    call(lambda api: api.delete(path_to("teams", name)))
    say(f"{name} is deleted")


def add_member(
    name: Name,
    user: Member,
    role: Annotated[
        Literal["member", "maintainer"], typer.Option("--role", help="A maintainer adds and removes members.")
    ] = "member",
) -> None:
    """Put a user into a team, or change their role in it.

    Example: slipway team member add platform alice --role maintainer
    """
    call(lambda api: api.put(path_to("teams", name, "members", user), {"role": role}))
    say(f"{user} is {role} of {name}")


def remove_member(name: Name, user: Member) -> None:
    """Take a user out of a team.

    Example: slipway team member remove platform alice
    """
    call(lambda api: api.delete(path_to("teams", name, "members", user)))
    say(f"{user} is not in {name} any more")
