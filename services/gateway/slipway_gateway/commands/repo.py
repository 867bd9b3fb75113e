"""`slipway repo`."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import typer

from slipway_common.client.api import Api, Document, repository_path
from slipway_common.client.calls import call
from slipway_common.client.output import Columns, print_facts, print_rows, say
from slipway_common.client.prompts import confirm
from slipway_common.errors import InvalidInput
from slipway_common.launcher.commands import new_group
from slipway_gateway.commands.options import (
    Description,
    Json,
    Labels,
    VisibilityName,
    Yes,
    check_said,
    given,
    parse_pairs,
    print_done,
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The repository, such as acme/web.")]
Kind = Annotated[
    Literal["package", "application"] | None, typer.Option("--kind", help="A software package, or an application.")
]
Visibility = Annotated[
    VisibilityName | None, typer.Option("--visibility", help="public: anyone pulls; private: only who was granted it.")
]
COLUMNS: Final[Columns] = {
    "name": "name",
    "visibility": "visibility",
    "kind": "kind",
    "updated": "updated_at",
    "description": "description",
}


def build() -> typer.Typer:
    """The group."""
    app = new_group("Repositories: make, describe, rename, publish, delete them.")
    app.command("list")(list_repositories)
    app.command()(show)
    app.command()(create)
    app.command()(edit)
    app.command()(rename)
    app.command()(delete)
    return app


def list_repositories(
    namespace: Annotated[str | None, typer.Option("--namespace", help="Only those in it; _ for those in none.")] = None,
    visibility: Annotated[VisibilityName | None, typer.Option("--visibility", help="Only those.")] = None,
    kind: Annotated[Literal["package", "application"] | None, typer.Option("--kind", help="Only those.")] = None,
    search: Annotated[str | None, typer.Option("--search", help="Only those with this in their name.")] = None,
    as_json: Json = False,
) -> None:
    """List the repositories that you may see.

    Example: slipway repo list --namespace acme --visibility public
    """
    query = {"namespace": namespace, "visibility": visibility, "kind": kind, "q": search}
    print_rows(call(lambda api: api.all("/repositories", query)), COLUMNS, as_json=as_json)


def show(name: Name, as_json: Json = False) -> None:
    """Show one repository.

    Example: slipway repo show acme/web
    """
    print_facts(call(lambda api: api.get(repository_path(name))), as_json=as_json)


def create(
    name: Name,
    visibility: Visibility = None,
    kind: Kind = None,
    description: Description = None,
    label: Labels = None,
    as_json: Json = False,
) -> None:
    """Make a repository. (A first push makes one, too, where its namespace allows that.)

    Example: slipway repo create acme/web --kind application --label tier=front
    """
    labels = parse_pairs(label)
    body = given(name=name, visibility=visibility, kind=kind, description=description, labels=labels)
    made = call(lambda api: api.post("/repositories", body))
    print_done(f"{name} is there", made, as_json=as_json)


def edit(
    name: Name,
    visibility: Visibility = None,
    kind: Kind = None,
    description: Description = None,
    label: Labels = None,
    remove_label: Annotated[
        list[str] | None, typer.Option("--remove-label", metavar="KEY", help="A label to drop; may be repeated.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Change what is said; the rest stays as it is. A change of visibility is in force at once.

    Example: slipway repo edit acme/web --visibility public --label tier=back
    """
    added = parse_pairs(label)
    labels: dict[str, str] | None = {} if added or remove_label else None
    body = check_said(given(visibility=visibility, kind=kind, description=description, labels=labels))

    def with_labels(present: Document) -> Document:
        kept = {key: value for key, value in present["labels"].items() if key not in (remove_label or ())}
        return {**body, "labels": {**kept, **(added or {})}}

    path = repository_path(name)
    changed = call(lambda api: api.patch(path, body) if labels is None else api.edit(path, with_labels))
    print_done(f"{name} is changed", changed, as_json=as_json)


def rename(
    name: Name,
    new_name: Annotated[
        str, typer.Argument(metavar="NEW_NAME", help="Its new name; another namespace moves it there.")
    ],
    as_json: Json = False,
) -> None:
    """Give a repository another name; its images and grants stay with it.

    Example: slipway repo rename acme/web acme/site
    """
    changed = call(lambda api: api.patch(repository_path(name), {"name": new_name}))
    print_done(f"{name} is {new_name} now", changed, as_json=as_json)


def delete(name: Name, yes: Yes = False) -> None:
    """Delete a repository with all its images.

    Example: slipway repo delete acme/old --yes
    """
    confirm(f"Delete the repository {name} with all its images?", yes=yes)

    async def work(api: Api) -> None:
        found = await api.read(repository_path(name))
        if found.document["name"] != name:  # a name from before leads to it still
            raise InvalidInput(f"{name} is {found.document['name']} now: delete it by that name")
        await api.delete(repository_path(name), version=found.version)

    call(work)
    say(f"{name} is deleted")
