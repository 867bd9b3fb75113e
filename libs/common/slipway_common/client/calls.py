"""How a command calls the API: as whoever is logged in, and to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from slipway_common.client.api import Api, bearer, open_api
from slipway_common.client.exits import ApiError
from slipway_common.client.output import say
from slipway_common.client.profiles import NotLoggedIn, Profile, Profiles, config_path

T = TypeVar("T")


def stored_profiles() -> Profiles:
    """The logins of the user who runs this."""
    return Profiles(config_path())


def call(work: Callable[[Api], Awaitable[T]]) -> T:
    """Run `work` with the current login. Raises NotLoggedIn if there is none, or if it does not hold any more."""
    profile = stored_profiles().current()
    try:
        return call_as(profile.url, bearer(profile.token), work)
    except ApiError as exc:
        if exc.status == 401:
            raise NotLoggedIn(f"{exc.message}. {_remedy(profile)}") from exc
        raise


def _remedy(profile: Profile) -> str:
    if profile.given:
        return f"SLIPWAY_TOKEN is not a token of {profile.url}, or not any more."
    return f"Your login at {profile.url} does not hold: slipway login {profile.url}"


def call_as(url: str, authorization: str | None, work: Callable[[Api], Awaitable[T]]) -> T:
    """Run `work` with another login than the stored one, or none."""

    async def main() -> T:
        async with open_api(url, authorization, say) as api:
            return await work(api)

    return asyncio.run(main())
