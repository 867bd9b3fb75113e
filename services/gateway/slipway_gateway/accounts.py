"""Users: made, changed, disabled, deleted; by administrators, and by themselves."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from slipway_common.errors import Conflict, InvalidInput, NotFound, PreconditionFailed
from slipway_common.events.catalogue import AccountCreated, AccountDeleted, AccountUpdated
from slipway_common.events.event import SYSTEM_STREAM, Origin
from slipway_gateway.changes import Change, Changes
from slipway_gateway.domain.labels import check_line
from slipway_gateway.passwords import Passwords
from slipway_gateway.store.accounts import AccountStore, User


class Accounts:
    def __init__(self, store: AccountStore, passwords: Passwords, changes: Changes) -> None:
        self._store = store
        self._passwords = passwords
        self._changes = changes

    async def create(
        self, name: str, *, password: str | None, values: Mapping[str, Any], origin: Origin
    ) -> tuple[User, str | None]:
        """Make a user; with the password if it was generated. Raises Conflict, WeakPassword."""
        _check(values)
        chosen = password if password is not None else secrets.token_urlsafe(18)
        hashed = await self._passwords.hash_new(chosen)

        async def work(change: Change) -> User:
            made = await self._store.insert(
                change.connection, name, password_hash=hashed, values=values, actor=origin.actor
            )
            if made is None:
                raise Conflict("there is an account of that name already", account=name)
            change.tell(SYSTEM_STREAM, AccountCreated(account=name, is_admin=made.is_admin), subject=f"user:{name}")
            return made

        return await self._changes.make(origin, work), chosen if password is None else None

    async def update(
        self, name: str, values: Mapping[str, Any], *, password: str | None, version: int | None, origin: Origin
    ) -> User:
        """Set what is in `values`, and the password. Raises PreconditionFailed if the version is another one.

        A new password ends every login with the old one; a disabled account has none at all.
        """
        _check(values)
        hashed = await self._passwords.hash_new(password) if password is not None else None

        async def work(change: Change) -> User:
            before = await self._lock(change, name)
            changed = {key: value for key, value in values.items() if value != getattr(before, key)}
            if hashed is not None:
                changed["password_hash"] = hashed
            if not changed and version in (None, before.version):
                return before
            if changed.get("is_admin") is False or changed.get("disabled") is True:
                await self._keep_an_admin(change, before)
            after = await self._store.update(change.connection, before.id, version=version, values=changed)
            if after is None:
                raise PreconditionFailed("the account was changed meanwhile: look again", version=before.version)
            told = sorted("password" if key == "password_hash" else key for key in changed)
            change.tell(SYSTEM_STREAM, AccountUpdated(account=name, changed=told), subject=f"user:{name}")
            return after

        return await self._changes.make(origin, work)

    async def delete(self, name: str, *, version: int | None, origin: Origin) -> None:
        """Delete a user, with tokens, grants and memberships."""

        async def work(change: Change) -> None:
            before = await self._lock(change, name)
            if version not in (None, before.version):
                raise PreconditionFailed("the account was changed meanwhile: look again", version=before.version)
            if name == origin.actor:
                raise InvalidInput("nobody deletes the account that they use")
            await self._keep_an_admin(change, before)
            await self._store.delete(change.connection, before.id)
            change.tell(SYSTEM_STREAM, AccountDeleted(account=name), subject=f"user:{name}")

        await self._changes.make(origin, work)

    async def _lock(self, change: Change, name: str) -> User:
        found = await self._store.lock(change.connection, name)
        if found is None:
            raise NotFound("no such user", account=name)
        return found

    async def _keep_an_admin(self, change: Change, leaving: User) -> None:
        """The last administrator stays one: else nobody could make another."""
        if leaving.is_admin and not await self._store.has_other_admin(change.connection, leaving.id):
            raise Conflict("this is the last administrator: make another one first", account=leaving.name)


def _check(values: Mapping[str, Any]) -> None:
    for key in ("display_name", "email"):
        check_line(key, values.get(key) or "")
