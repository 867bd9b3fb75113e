"""`slipway accounts`: what an administrator does with the database at hand, without being logged in."""

from __future__ import annotations

import asyncio
import secrets
from typing import Annotated

import typer

from slipway_common.errors import NotFound
from slipway_common.launcher.commands import Connect, new_group
from slipway_gateway.cache import ExactCache
from slipway_gateway.passwords import Passwords
from slipway_gateway.store.principals import set_password


def build(connect: Connect) -> typer.Typer:
    """The commands, on the database that `connect` reaches."""
    app = new_group("Set passwords with the database at hand, without a login.")

    @app.command("set-password")
    def set_password_(
        name: Annotated[str, typer.Argument(help="The account, for instance admin.")],
        stdin: Annotated[bool, typer.Option("--stdin", help="Read the password from standard input.")] = False,
    ) -> None:
        """Give an account a new password; every login with the old one ends. Without --stdin one is generated and printed."""
        password = input() if stdin else secrets.token_urlsafe(18)
        asyncio.run(_set_password(connect, name, password))
        if not stdin:
            typer.echo(password)

    return app


async def _set_password(connect: Connect, name: str, password: str) -> None:
    passwords = Passwords()
    try:
        hashed = await passwords.hash_new(password)
    finally:
        passwords.close()
    async with connect() as pool, pool.acquire() as connection, connection.transaction():
        # A gateway that answers from memory lets go of its answers before this transaction may go on.
        await ExactCache().guard(connection)
        if not await set_password(connection, name, hashed):
            raise NotFound(f"there is no account named {name}")
