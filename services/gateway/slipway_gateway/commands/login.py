"""`slipway login`, `logout` and `whoami`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from typing import Annotated

import typer

from slipway_common.client.api import Api, Document, basic, bearer
from slipway_common.client.calls import call, call_as, stored_profiles
from slipway_common.client.exits import ApiError
from slipway_common.client.output import print_facts, say
from slipway_common.client.profiles import NotLoggedIn, Profile, is_local
from slipway_common.client.prompts import ask, read_secret
from slipway_common.errors import InvalidInput, Unavailable
from slipway_gateway.commands.options import Json, PasswordStdin

Address = Annotated[
    str | None,
    typer.Argument(
        metavar="URL",
        help="The registry, such as https://registry.example.com. Unset: the current one, or this machine's.",
    ),
]
# A token's name is shown in lists: long host names are cut.
_NAME_LENGTH = 64


def login(
    url: Address = None,
    username: Annotated[
        str | None, typer.Option("--username", "-u", help="Who you are; asked for if not given.")
    ] = None,
    password_stdin: PasswordStdin = False,
    token_stdin: Annotated[
        bool, typer.Option("--token-stdin", help="Read an access token or a robot's secret from standard input.")
    ] = False,
    web: Annotated[
        bool, typer.Option("--web", help="Log in with your browser, at your organisation's provider.")
    ] = False,
) -> None:
    """Log in to a registry, so that the commands below can manage it.

    An access token of your own is made there and kept here; your password is not.

    Where you are logged in already, that registry becomes the current one.

    Jobs of a CI system set SLIPWAY_URL and SLIPWAY_TOKEN instead.

    Example: slipway login https://registry.example.com --username alice
    """
    if password_stdin + token_stdin + web > 1 or (username and (token_stdin or web)):
        raise InvalidInput("give one of --password-stdin, --token-stdin and --web, and --username with a password only")
    address = stored_profiles().url(url)
    before = stored_profiles().load().registries.get(address)
    if before and not (username or password_stdin or token_stdin or web) and _holds(before):
        profile = before
    else:
        profile = _new_login(address, username, password_stdin, token_stdin, web)
    stored_profiles().save(profile)
    say(f"{profile.name} is logged in at {address}")
    if before and before.token != profile.token:
        _revoke_quietly(before)
    if os.environ.get("SLIPWAY_TOKEN"):
        say("SLIPWAY_TOKEN is set, and counts instead of this login")


def _new_login(address: str, username: str | None, password_stdin: bool, token_stdin: bool, web: bool) -> Profile:
    if token_stdin:
        token = read_secret("token").strip()
    elif web:
        from slipway_gateway.commands.browser import log_in_by_browser

        token = asyncio.run(log_in_by_browser(address, _token_name()))
    else:
        token = _make_token(address, username, password_stdin)
    account = call_as(address, bearer(token), lambda api: api.get("/account"))
    return Profile(address, token, account["name"] or "", ours=not token_stdin)


def _make_token(address: str, username: str | None, password_stdin: bool) -> str:
    """An access token, had for a password, which is sent once and not kept."""
    if not is_local(address) and address.startswith("http://"):
        say(f"{address} is not HTTPS: whoever is between can read your password")
    name = username or ask("Username", instead="--username and --password-stdin, or --token-stdin")
    if ":" in name:
        raise InvalidInput("a user's name has no colon")
    password = read_secret("password") if password_stdin else ask("Password", instead="--password-stdin", hidden=True)
    body = {"name": _token_name()}
    made = call_as(address, basic(name, password), lambda api: api.post("/account/tokens", body))
    return str(made["token"])


def _token_name() -> str:
    return f"slipway on {socket.gethostname()}"[:_NAME_LENGTH]


def _holds(profile: Profile) -> bool:
    """Whether the registry still takes a login that is stored here."""
    try:
        call_as(profile.url, bearer(profile.token), lambda api: api.get("/account"))
    except ApiError as exc:
        if exc.status == 401:
            return False
        raise
    return True


def _revoke_quietly(profile: Profile) -> None:
    """End the login that a new one replaces; if that fails, it is in the list of tokens still."""
    with contextlib.suppress(ApiError, Unavailable):
        _revoke(profile)


def _revoke(profile: Profile) -> None:
    if profile.ours:
        call_as(profile.url, bearer(profile.token), lambda api: api.delete("/account/tokens/current"))


def logout(
    url: Address = None,
    force: Annotated[
        bool, typer.Option("--force", help="Forget the login even if the registry cannot be told.")
    ] = False,
) -> None:
    """Log out: the token is revoked there, and forgotten here. (One that was given by --token-stdin is forgotten only.)

    Example: slipway logout
    """
    address = stored_profiles().url(url)
    profile = stored_profiles().load().registries.get(address)
    if profile is None:
        raise NotLoggedIn(f"you are not logged in at {address}")
    try:
        _revoke(profile)
    except ApiError as exc:
        if exc.status not in (401, 404) and not force:
            raise
    except Unavailable:
        if not force:
            raise
    stored_profiles().forget(address)
    say(f"{profile.name} is logged out at {address}")


def whoami(as_json: Json = False) -> None:
    """Say who you are, and where.

    Example: slipway whoami
    """
    profile = stored_profiles().current()

    async def work(api: Api) -> Document:
        return {"registry": profile.url, **await api.get("/account")}

    print_facts(call(work), as_json=as_json)
    others = [url for url in stored_profiles().load().registries if url != profile.url]
    if others and not as_json:
        say(f"You are also logged in at {', '.join(others)}: slipway login URL goes there.")
