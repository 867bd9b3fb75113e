"""`slipway grant`: who may do what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

import typer

from slipway_common.client.api import Api, Document, path_to, repository_path
from slipway_common.client.calls import call
from slipway_common.client.output import Columns, print_rows, say
from slipway_common.errors import InvalidInput
from slipway_common.launcher.commands import new_group
from slipway_gateway.commands.options import Json, parse_subject
from slipway_gateway.domain.access import RoleName

Subject = Annotated[
    str,
    typer.Argument(
        metavar="SUBJECT",
        help="user:alice, robot:acme+ci or team:platform; a bare name is a user's, or with + a robot's.",
    ),
]
On = Annotated[
    str, typer.Argument(metavar="ON", help="acme/web (a repository), namespace:acme, or 'pattern:acme/web-*'.")
]
COLUMNS: Final[Columns] = {
    "subject": "subject",
    "role": "role",
    "on": "on",
    "granted": "granted_at",
    "by": "granted_by",
}


def build() -> typer.Typer:
    """The group."""
    app = new_group(
        "Who may do what: roles on repositories, namespaces and patterns.\n\n"
        "reader pulls; writer pushes as well; maintainer also manages tags and settings; admin does everything, and grants."
    )
    app.command("list")(list_grants)
    app.command()(add)
    app.command()(remove)
    return app


@dataclass(frozen=True, slots=True)
class Target:
    """What a role is given on: the path of its grants, and a pattern where that is what counts."""

    grants: str
    pattern: str | None = None

    def of(self, subject: str) -> str:
        """The path of one subject's grant."""
        return self.grants + path_to(subject)

    def includes(self, grant: Document) -> bool:
        return self.pattern is None or grant["on"] == f"pattern:{self.pattern}"


def parse_on(text: str) -> Target:
    """Raise InvalidInput unless `text` is a repository, `namespace:…` or `pattern:…`.

    A pattern that can only match names of one namespace belongs to it, any other to the registry.
    """
    kind, colon, name = text.partition(":")
    if not colon:
        return Target(repository_path(text, "grants"))
    if kind == "repository":
        return Target(repository_path(name, "grants"))
    if kind == "namespace":
        return Target(path_to("namespaces", name, "grants"))
    if kind == "pattern" and name:
        namespace, slash, _ = name.partition("/")
        inside = slash and "*" not in namespace
        return Target(path_to("namespaces", namespace, "grants") if inside else "/grants", name)
    raise InvalidInput(f"{text!r}: write acme/web, namespace:acme or pattern:acme/web-*")


def list_grants(
    on: Annotated[
        str | None,
        typer.Argument(
            metavar="ON", help="acme/web, namespace:acme or a pattern; none: patterns of the whole registry."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the grants on a repository, a namespace or a pattern.

    Example: slipway grant list acme/web
    """
    target = parse_on(on) if on else Target("/grants")

    async def work(api: Api) -> list[Document]:
        return [grant async for grant in api.pages(target.grants) if target.includes(grant)]

    print_rows(call(work), COLUMNS, as_json=as_json)


def add(
    subject: Subject,
    role: Annotated[RoleName, typer.Argument(metavar="ROLE", help="What they may do there.")],
    on: On,
) -> None:
    """Give somebody a role, in place of any they had there.

    Example: slipway grant add team:platform maintainer namespace:acme
    """
    who, target = parse_subject(subject), parse_on(on)
    call(lambda api: api.put(target.of(who), {"role": role}, {"pattern": target.pattern}))
    say(f"{who} is {role} on {on}")


def remove(subject: Subject, on: On) -> None:
    """Take somebody's role away; what they have by other grants stays.

    Example: slipway grant remove user:alice 'pattern:acme/web-*'
    """
    who, target = parse_subject(subject), parse_on(on)
    call(lambda api: api.delete(target.of(who), {"pattern": target.pattern}))
    say(f"{who} has no role on {on} any more")
