"""Robots: logins for programs that belong to a namespace, and their secrets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from slipway_common.errors import Conflict, Denied, InvalidInput, NotFound, PreconditionFailed
from slipway_common.events.catalogue import GrantGiven, RobotCreated, RobotDeleted, RobotUpdated
from slipway_common.events.event import Origin, namespace_stream
from slipway_common.oci.names import RepositoryName
from slipway_gateway.changes import Change, Changes
from slipway_gateway.credentials import CredentialBounds, Credentials, Owner
from slipway_gateway.domain.access import UNBOUNDED, Account, Bounds, Role, actions_of
from slipway_gateway.domain.labels import check_description
from slipway_gateway.domain.patterns import NamePattern, parse_pattern
from slipway_gateway.domain.principals import robot_name
from slipway_gateway.domain.secrets import CredentialKind
from slipway_gateway.grants import GrantTarget, on_namespace, on_repository
from slipway_gateway.store.access import NamespaceStanding
from slipway_gateway.store.credentials import CredentialRow
from slipway_gateway.store.grants import GrantStore, SubjectRow
from slipway_gateway.store.robots import Robot, RobotStore


@dataclass(frozen=True, slots=True)
class RobotWish:
    """What whoever makes a robot says of it.

    role          None: no grant is made
    repositories  where it has the role; None: in the whole namespace
    bounds        of its first secret
    """

    description: str = ""
    role: Role | None = None
    repositories: Sequence[RepositoryName] | None = None
    bounds: CredentialBounds = field(default_factory=CredentialBounds)


@dataclass(frozen=True, slots=True)
class NewRobot:
    """A robot with its first secret, which nobody can see again."""

    robot: Robot
    credential: CredentialRow
    secret: str


def owner_of(robot: Robot) -> Owner:
    """As whom credentials know it."""
    return Owner(robot.id, robot.name, "robot", robot.namespace_id)


class Robots:
    def __init__(self, store: RobotStore, credentials: Credentials, grants: GrantStore, changes: Changes) -> None:
        self._store = store
        self._credentials = credentials
        self._grants = grants
        self._changes = changes

    async def create(
        self, namespace: NamespaceStanding, name: str, wish: RobotWish, *, account: Account | None, origin: Origin
    ) -> NewRobot:
        """Make `<namespace>+<name>`, with a secret. That the caller manages the namespace has been decided before.

        Raises Conflict if there is one, NotFound for a repository that is not in the namespace, Denied for more than the caller's
        credential is good for.
        """
        _check_wish(wish, _bounds_of(account))
        bounds = narrowed(wish.bounds, _bounds_of(account))

        async def work(change: Change) -> NewRobot:
            made = await self._insert(change, namespace, name, wish.description)
            if wish.role is not None:
                for target in await self._targets(change, made, namespace.name, wish.repositories):
                    await self._give(change, made, target, wish.role)
            credential, secret = await self._credentials.create_in(
                change, owner_of(made), CredentialKind.ROBOT, "", bounds
            )
            return NewRobot(made, credential, secret)

        return await self._changes.make(origin, work)

    async def _insert(self, change: Change, namespace: NamespaceStanding, name: str, description: str) -> Robot:
        if not namespace.name:
            raise InvalidInput("robots belong to a namespace with a name: the root namespace has none")
        held = await self._store.hold_namespace(change.connection, namespace.name)
        if held is None or held != namespace.id:
            raise NotFound("no such namespace", namespace=namespace.name)
        full_name = robot_name(namespace.name, name)
        made = await self._store.insert(
            change.connection, full_name, namespace_id=held, description=description, actor=change.origin.actor
        )
        if made is None:
            raise Conflict("there is a robot of that name already", robot=full_name)
        _tell(change, made, RobotCreated(robot=full_name))
        return made

    async def _targets(
        self, change: Change, robot: Robot, namespace: str, repositories: Sequence[RepositoryName] | None
    ) -> list[GrantTarget]:
        """What the robot shall have its role on."""
        if repositories is None:
            return [on_namespace(robot.namespace_id, namespace, None)]
        found = await self._store.hold_repositories(change.connection, robot.namespace_id, repositories)
        missing = sorted(set(repositories) - {repository.name for repository in found})
        if missing:
            raise NotFound(f"there is no repository {missing[0]} in the namespace", repositories=missing)
        return [on_repository(repository) for repository in found]

    async def _give(self, change: Change, robot: Robot, target: GrantTarget, role: Role) -> None:
        subject = SubjectRow.user(robot.id)
        await self._grants.put(change.connection, subject, target.object, role, actor=change.origin.actor)
        given = GrantGiven(subject=str(owner_of(robot)), on=target.text, role=role.word)
        change.tell(target.stream, given, subject=target.subject)

    async def update(self, name: str, values: Mapping[str, Any], *, version: int | None, origin: Origin) -> Robot:
        """Set what is in `values`. Raises PreconditionFailed if the version is another one.

        While it is disabled, none of its secrets is good for anything.
        """
        check_description(values.get("description", ""))

        async def work(change: Change) -> Robot:
            before = await self._lock(change, name)
            changed = {key: value for key, value in values.items() if value != getattr(before, key)}
            if not changed and version in (None, before.version):
                return before
            after = await self._store.update(change.connection, before.id, version=version, values=changed)
            if after is None:
                raise PreconditionFailed("the robot was changed meanwhile: look again", version=before.version)
            _tell(change, after, RobotUpdated(robot=name, changed=sorted(changed)))
            return after

        return await self._changes.make(origin, work)

    async def delete(self, name: str, *, version: int | None, origin: Origin) -> None:
        """Delete a robot, with its secrets, grants and trusts."""

        async def work(change: Change) -> None:
            before = await self._lock(change, name)
            if version not in (None, before.version):
                raise PreconditionFailed("the robot was changed meanwhile: look again", version=before.version)
            await self._store.delete(change.connection, before.id)
            _tell(change, before, RobotDeleted(robot=name))

        await self._changes.make(origin, work)

    async def add_secret(
        self, name: str, wanted: CredentialBounds, *, account: Account | None, origin: Origin
    ) -> tuple[CredentialRow, str]:
        """Make another secret. Raises Conflict while there are two, Denied for more than the caller's credential is good for."""
        bounds = narrowed(wanted, _bounds_of(account))

        async def work(change: Change) -> tuple[CredentialRow, str]:
            robot = await self._lock(change, name)
            return await self._credentials.create_in(change, owner_of(robot), CredentialKind.ROBOT, "", bounds)

        return await self._changes.make(origin, work)

    async def revoke_secret(self, robot: Robot, secret_id: int, origin: Origin) -> None:
        """Take a secret back: it is worth nothing from now on. Raises NotFound."""
        await self._credentials.revoke(owner_of(robot), secret_id, origin)

    async def _lock(self, change: Change, name: str) -> Robot:
        found = await self._store.lock(change.connection, name)
        if found is None:
            raise NotFound("no such robot", robot=name)
        return found


def narrowed(wanted: CredentialBounds, own: Bounds) -> CredentialBounds:
    """The bounds of a secret that is made by a credential with bounds of its own: those, where no others are wanted.

    Raises Denied for wider ones.
    """
    if own.actions is not None:
        actions = wanted.actions if wanted.actions is not None else sorted(own.actions)
        if not own.actions.issuperset(actions):
            raise Denied("a secret cannot be good for more actions than the credential that makes it")
        wanted = replace(wanted, actions=actions)
    if own.patterns is not None:
        patterns = wanted.patterns if wanted.patterns is not None else [pattern.text for pattern in own.patterns]
        for text in patterns:
            if not any(_includes(pattern, parse_pattern(text)) for pattern in own.patterns):
                raise Denied("a secret cannot be good for more repositories than the credential that makes it")
        wanted = replace(wanted, patterns=patterns)
    return wanted


def _includes(wide: NamePattern, narrow: NamePattern) -> bool:
    """Whether it is plain to see that whatever `narrow` matches, `wide` matches too."""
    is_subtree = wide.text == wide.prefix + "**"
    return wide.text == narrow.text or (is_subtree and narrow.prefix.startswith(wide.prefix))


def _check_wish(wish: RobotWish, own: Bounds) -> None:
    check_description(wish.description)
    if wish.repositories is not None and wish.role is None:
        raise InvalidInput("say which role the robot shall have on these repositories")
    if own.actions is not None and not actions_of(wish.role) <= own.actions:
        raise Denied("a robot cannot have a role that goes beyond the credential that makes it")


def _bounds_of(account: Account | None) -> Bounds:
    """None: login is off, and everybody may do everything."""
    return account.bounds if account is not None else UNBOUNDED


def _tell(change: Change, robot: Robot, payload: RobotCreated | RobotUpdated | RobotDeleted) -> None:
    change.tell(namespace_stream(robot.namespace_id), payload, subject=str(owner_of(robot)))
