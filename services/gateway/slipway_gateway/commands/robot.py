"""`slipway robot`: logins for programs, their secrets, and the CI systems whose own tokens they trust."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from slipway_common.client.api import Api, Document, path_to
from slipway_common.client.calls import call
from slipway_common.client.output import Columns, print_facts, print_json, print_rows, print_secret, print_table, say
from slipway_common.client.prompts import confirm
from slipway_common.errors import InvalidInput
from slipway_common.launcher.commands import new_group
from slipway_gateway.commands.options import (
    Actions,
    Days,
    Description,
    Json,
    Patterns,
    Yes,
    check_said,
    find_id,
    given,
    parse_pairs,
    print_done,
)
from slipway_gateway.domain.access import RoleName

Robot = Annotated[str, typer.Argument(metavar="ROBOT", help="The robot, written NAMESPACE+NAME, such as acme+ci.")]
COLUMNS: Final[Columns] = {
    "name": "name",
    "disabled": "disabled",
    "created": "created_at",
    "description": "description",
}
SECRETS: Final[Columns] = {
    "id": "id",
    "name": "name",
    "ends with": "hint",
    "created": "created_at",
    "expires": "expires_at",
    "last used": "last_used_at",
}
TRUSTS: Final[Columns] = {
    "id": "id",
    "name": "name",
    "issuer": "issuer",
    "audience": "audience",
    "claims": "claims",
    "life (s)": "life_s",
}
_DEFAULT_LIFE_S: Final = 900


def build() -> typer.Typer:
    """The group."""
    app = new_group("Robots: logins for programs, that belong to a namespace.")
    app.command("list")(list_robots)
    app.command()(show)
    app.command()(create)
    app.command()(edit)
    app.command()(delete)
    secret = new_group("A robot's secrets: two at a time, so that one can take the other's place without a pause.")
    secret.command("add")(add_secret)
    secret.command("remove")(remove_secret)
    app.add_typer(secret, name="secret")
    trust = new_group("Login without a secret: by the tokens that a CI system gives its jobs (OpenID Connect).")
    trust.command("list")(list_trusts)
    trust.command("add")(add_trust)
    trust.command("remove")(remove_trust)
    app.add_typer(trust, name="trust")
    return app


def list_robots(
    namespace: Annotated[str, typer.Argument(metavar="NAMESPACE", help="The namespace, such as acme.")],
    as_json: Json = False,
) -> None:
    """List the robots of a namespace.

    Example: slipway robot list acme
    """
    print_rows(call(lambda api: api.all(path_to("namespaces", namespace, "robots"))), COLUMNS, as_json=as_json)


def show(name: Robot, as_json: Json = False) -> None:
    """Show a robot and its secrets, of which only the end is known.

    Example: slipway robot show acme+ci
    """
    robot = call(lambda api: api.get(path_to("robots", name)))
    if as_json:
        print_json(robot)
        return
    secrets = robot.pop("secrets", [])
    print_facts(robot, as_json=False)
    print_table("secrets", secrets, SECRETS)


def create(
    name: Robot,
    role: Annotated[RoleName | None, typer.Option("--role", help="What it may do, on the repositories named.")] = None,
    repository: Annotated[
        list[str] | None,
        typer.Option(
            "--repository", metavar="NAME", help="Where it has the role; may be repeated. Unset: the namespace."
        ),
    ] = None,
    description: Description = None,
    expires_in_days: Days = None,
    action: Actions = None,
    pattern: Patterns = None,
    as_json: Json = False,
) -> None:
    """Make a robot. Its secret is printed, once.

    Example: slipway robot create acme+ci --role writer --repository acme/web > secret
    """
    namespace, own_name = _parse(name)
    body = given(
        name=own_name,
        description=description,
        expires_in_days=expires_in_days,
        actions=action,
        patterns=pattern,
        role=role,
        repositories=repository,
    )
    made = call(lambda api: api.post(path_to("namespaces", namespace, "robots"), body))
    _print_secret(name, made, as_json=as_json)


def edit(
    name: Robot,
    description: Description = None,
    disable: Annotated[
        bool | None, typer.Option("--disable/--enable", help="Whether all its logins are refused.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Change what is said; the rest stays as it is. Its rights are changed by slipway grant.

    Example: slipway robot edit acme+ci --disable
    """
    body = check_said(given(description=description, disabled=disable))
    changed = call(lambda api: api.patch(path_to("robots", name), body))
    print_done(f"{name} is changed", changed, as_json=as_json)


def delete(name: Robot, yes: Yes = False) -> None:
    """Delete a robot with its secrets and grants.

    Example: slipway robot delete acme+ci --yes
    """
    confirm(f"Delete the robot {name} with its secrets and grants?", yes=yes)
    call(lambda api: api.delete(path_to("robots", name)))
    say(f"{name} is deleted")


def add_secret(
    name: Robot, expires_in_days: Days = None, action: Actions = None, pattern: Patterns = None, as_json: Json = False
) -> None:
    """Make a second secret, and print it once. Remove the first when nothing uses it any more.

    Example: slipway robot secret add acme+ci --expires-in-days 90 > secret
    """
    body = given(expires_in_days=expires_in_days, actions=action, patterns=pattern)
    made = call(lambda api: api.post(path_to("robots", name, "secrets"), body))
    _print_secret(name, made, as_json=as_json)


def remove_secret(
    name: Robot, secret: Annotated[str, typer.Argument(metavar="ID", help="As robot show lists it.")]
) -> None:
    """Revoke one of a robot's secrets, at once.

    Example: slipway robot secret remove acme+ci 17
    """
    call(lambda api: api.delete(path_to("robots", name, "secrets", secret)))
    say(f"secret {secret} of {name} is revoked")


def list_trusts(name: Robot, as_json: Json = False) -> None:
    """List whose tokens stand for a robot.

    Example: slipway robot trust list acme+ci
    """
    print_rows(call(lambda api: api.all(path_to("robots", name, "trusts"))), TRUSTS, as_json=as_json)


def add_trust(
    name: Robot,
    trust: Annotated[str, typer.Argument(metavar="NAME", help="What to call it, such as github.")],
    issuer: Annotated[str, typer.Option("--issuer", help="The `iss` of the tokens: whose keys sign them.")],
    claim: Annotated[
        list[str],
        typer.Option(
            "--claim", metavar="KEY=GLOB", help="What a token must say; may be repeated. * stands for anything."
        ),
    ],
    audience: Annotated[str, typer.Option("--audience", help="The `aud` of the tokens.")] = "slipway",
    life: Annotated[
        int, typer.Option("--life", min=60, max=43_200, help="Seconds for which a login is good.")
    ] = _DEFAULT_LIFE_S,
    as_json: Json = False,
) -> None:
    """Let the tokens of a CI system stand for a robot, so that no secret has to be kept there.

    Example: slipway robot trust add acme+ci github --issuer https://token.actions.githubusercontent.com
    --claim repository=acme/web --claim ref=refs/heads/main
    """
    body = {"name": trust, "issuer": issuer, "audience": audience, "claims": parse_pairs(claim), "life_s": life}
    made = call(lambda api: api.post(path_to("robots", name, "trusts"), body))
    print_done(f"tokens of {issuer} stand for {name} now", made, as_json=as_json)


def remove_trust(
    name: Robot, trust: Annotated[str, typer.Argument(metavar="TRUST", help="Its name, or its id.")]
) -> None:
    """Trust those tokens no longer.

    Example: slipway robot trust remove acme+ci github
    """

    async def work(api: Api) -> None:
        path = path_to("robots", name, "trusts")
        await api.delete(path + path_to(await find_id(api, path, trust)))

    call(work)
    say(f"{name} does not trust {trust} any more")


def _parse(name: str) -> tuple[str, str]:
    namespace, plus, own_name = name.partition("+")
    if not (namespace and plus and own_name):
        raise InvalidInput(f"{name!r}: a robot is written NAMESPACE+NAME, such as acme+ci")
    return namespace, own_name


def _print_secret(name: str, made: Document, *, as_json: bool) -> None:
    if as_json:
        print_json(made)
        return
    print_secret(
        made["secret"],
        f"The secret of {name}; it is shown once. docker login --username {name} --password-stdin takes it:",
    )
