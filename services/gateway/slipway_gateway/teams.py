"""Teams: made, changed, deleted; who comes in and who goes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from slipway_common.errors import Conflict, InvalidInput, NotFound, PreconditionFailed
from slipway_common.events.catalogue import TeamCreated, TeamDeleted, TeamMemberAdded, TeamMemberRemoved, TeamUpdated
from slipway_common.events.event import SYSTEM_STREAM, Origin
from slipway_gateway.changes import Change, Changes
from slipway_gateway.domain.labels import check_description, check_line
from slipway_gateway.store.teams import Team, TeamMember, TeamRole, TeamStore

MAX_GROUPS = 100


class Teams:
    def __init__(self, store: TeamStore, changes: Changes) -> None:
        self._store = store
        self._changes = changes

    async def create(self, name: str, values: Mapping[str, Any], origin: Origin) -> Team:
        """Make a team without members. Raises Conflict if there is one."""
        wanted = _checked(values)

        async def work(change: Change) -> Team:
            made = await self._store.insert(
                change.connection,
                name,
                description=wanted.get("description", ""),
                external_groups=wanted.get("external_groups", []),
                actor=origin.actor,
            )
            if made is None:
                raise Conflict("there is a team of that name already", team=name)
            change.tell(SYSTEM_STREAM, TeamCreated(team=name), subject=_subject(name))
            return made

        return await self._changes.make(origin, work)

    async def update(self, name: str, values: Mapping[str, Any], *, version: int | None, origin: Origin) -> Team:
        """Set what is in `values`. Raises PreconditionFailed if the version is another one."""
        wanted = _checked(values)

        async def work(change: Change) -> Team:
            before = await self._lock(change, name)
            changed = {key: value for key, value in wanted.items() if value != getattr(before, key)}
            if not changed and version in (None, before.version):
                return before
            after = await self._store.update(change.connection, before.id, version=version, values=changed)
            if after is None:
                raise PreconditionFailed("the team was changed meanwhile: look again", version=before.version)
            change.tell(SYSTEM_STREAM, TeamUpdated(team=name, changed=sorted(changed)), subject=_subject(name))
            if "external_groups" in changed:
                await self._end_group_memberships(change, before, after)
            return after

        return await self._changes.make(origin, work)

    async def _end_group_memberships(self, change: Change, before: Team, after: Team) -> None:
        """Where none of the groups is left that could have put members there, those members go at once.

        Which of several groups it was is not known: what has become of one of them shows at each member's next login.
        """
        if set(before.external_groups) & set(after.external_groups):
            return
        for account in await self._store.delete_group_members(change.connection, after.id):
            _tell_removed(change, after.name, account)

    async def delete(self, name: str, *, version: int | None, origin: Origin) -> None:
        """Delete a team, with its grants. Its members stay users."""

        async def work(change: Change) -> None:
            before = await self._lock(change, name)
            if version not in (None, before.version):
                raise PreconditionFailed("the team was changed meanwhile: look again", version=before.version)
            await self._store.delete(change.connection, before.id)
            change.tell(SYSTEM_STREAM, TeamDeleted(team=name), subject=_subject(name))

        await self._changes.make(origin, work)

    async def add_member(self, name: str, account: str, role: TeamRole, origin: Origin) -> TeamMember:
        """Put a user into a team, or give them another role there. Raises NotFound for nobody of that name."""

        async def work(change: Change) -> TeamMember:
            team = await self._lock(change, name)
            user_id = await self._store.find_user(change.connection, account)
            if user_id is None:
                raise NotFound(f"there is no user named {account}", account=account)
            member, is_new = await self._store.put_member(change.connection, team.id, user_id, role, actor=origin.actor)
            if is_new:
                _tell_added(change, name, account, role)
            return member

        return await self._changes.make(origin, work)

    async def remove_member(self, name: str, account: str, origin: Origin) -> None:
        """Take a user out of a team. Whom the provider's groups put there comes back at the next login."""

        async def work(change: Change) -> None:
            team = await self._lock(change, name)
            if not await self._store.delete_member(change.connection, team.id, account):
                raise NotFound(f"{account} is not in the team", team=name, account=account)
            _tell_removed(change, name, account)

        await self._changes.make(origin, work)

    async def sync_groups(self, change: Change, principal_id: int, groups: Iterable[str]) -> None:
        """Let a user's memberships follow the groups that the provider names at a login.

        Those that a person made stay as they are.
        """
        # No team has a group that the database could not keep.
        wanted = sorted({group for group in groups if group.isprintable()})
        followed = await self._store.follow_groups(change.connection, principal_id, wanted, actor=change.origin.actor)
        if followed is None:
            return
        for team in followed.left:
            _tell_removed(change, team, followed.account)
        for team in followed.joined:
            _tell_added(change, team, followed.account, "member")

    async def _lock(self, change: Change, name: str) -> Team:
        found = await self._store.lock(change.connection, name)
        if found is None:
            raise NotFound("no such team", team=name)
        return found


def _tell_added(change: Change, team: str, account: str, role: TeamRole) -> None:
    change.tell(SYSTEM_STREAM, TeamMemberAdded(team=team, account=account, role=role), subject=_subject(team))


def _tell_removed(change: Change, team: str, account: str) -> None:
    change.tell(SYSTEM_STREAM, TeamMemberRemoved(team=team, account=account), subject=_subject(team))


def _subject(name: str) -> str:
    return f"team:{name}"


def _checked(values: Mapping[str, Any]) -> dict[str, Any]:
    """`values`, with each group once and in order. Raises InvalidInput."""
    check_description(values.get("description", ""))
    checked = dict(values)
    if "external_groups" in values:
        checked["external_groups"] = _checked_groups(values["external_groups"])
    return checked


def _checked_groups(groups: Sequence[str]) -> list[str]:
    if len(groups) > MAX_GROUPS:
        raise InvalidInput(f"a team follows at most {MAX_GROUPS} groups")
    for group in groups:
        check_line("a group's name", group)
        if not group:
            raise InvalidInput("a group's name is not empty")
    return sorted(set(groups))
