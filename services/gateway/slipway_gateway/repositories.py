"""Making, changing, renaming and deleting repositories."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from slipway_common.errors import Conflict, Denied, InvalidInput, NotFound, PreconditionFailed
from slipway_common.events.catalogue import (
    GrantGiven,
    NamespaceCreated,
    RepositoryCreated,
    RepositoryDeleted,
    RepositoryRenamed,
    RepositoryUpdated,
    RepositoryVisibilityChanged,
)
from slipway_common.events.event import Origin, namespace_stream, repository_stream
from slipway_common.oci.names import RepositoryName, namespace_of
from slipway_gateway.changes import Change, Changes
from slipway_gateway.domain.access import AccessRules, Account, Action, Role
from slipway_gateway.domain.labels import check_description, check_labels
from slipway_gateway.store.access import Standing
from slipway_gateway.store.grants import GrantStore, Object, SubjectRow
from slipway_gateway.store.namespaces import Namespace, NamespaceStore
from slipway_gateway.store.repositories import NewRepository, Repository, RepositoryDetails, RepositoryStore


class NotCreatedByPush(NotFound):
    """The repository does not exist, and a push may not make it."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What whoever creates a repository says of it; None: as the namespace or the registry has it."""

    visibility: str | None = None
    kind: str = "package"
    description: str = ""
    labels: Mapping[str, str] | None = None


class Repositories:
    def __init__(
        self,
        store: RepositoryStore,
        namespaces: NamespaceStore,
        grants: GrantStore,
        changes: Changes,
        rules: AccessRules,
        *,
        default_visibility: str,
        alias_life: timedelta,
    ) -> None:
        self._store = store
        self._namespaces = namespaces
        self._grants = grants
        self._changes = changes
        self._rules = rules
        self._default_visibility = default_visibility
        self._alias_life = alias_life

    async def create_by_push(self, name: RepositoryName, standing: Standing, origin: Origin) -> Repository:
        """The repository of a first push, made as the namespace wants it. That the caller may push here was decided before."""

        async def work(change: Change) -> Repository:
            namespace = await self._namespace(change, name, standing.account)
            if not namespace.create_on_push and not self._rules.is_operator(standing.account):
                raise NotCreatedByPush(
                    "no such repository, and in this namespace a push does not make one: create it first", name=name
                )
            made = await self._create(change, namespace, name, Wish(), standing.account)
            if made is None:
                found = await self._store.find_by_name(change.connection, name)
                if found is None:
                    raise Conflict("the repository was made and deleted at the same time", name=name)
                return found
            return Repository(made.id, made.name, made.visibility)

        return await self._changes.make(origin, work)

    async def create(
        self, name: RepositoryName, wish: Wish, account: Account | None, origin: Origin
    ) -> RepositoryDetails:
        """Make a repository. That the caller may has been decided before. Raises Conflict if there is one."""
        check_description(wish.description)
        check_labels(wish.labels or {})

        async def work(change: Change) -> RepositoryDetails:
            namespace = await self._namespace(change, name, account)
            made = await self._create(change, namespace, name, wish, account)
            if made is None:
                raise Conflict("there is a repository of that name already", name=name)
            return made

        return await self._changes.make(origin, work)

    async def _namespace(self, change: Change, name: RepositoryName, account: Account | None) -> Namespace:
        """The namespace of a new name, with its rules held still. Administrators make one by naming it."""
        wanted = namespace_of(name)
        operator = self._rules.is_operator(account)
        if not wanted and not operator:
            raise NotCreatedByPush(
                "names without a namespace are made by administrators: write namespace/name", name=name
            )
        found = await self._namespaces.share(change.connection, wanted)
        if found is not None:
            return found
        if not operator:
            raise NotCreatedByPush("no such namespace: it has to be created first", namespace=wanted)
        made = await self._namespaces.insert(change.connection, wanted, actor=change.origin.actor)
        if made is None:  # somebody else was first
            found = await self._namespaces.share(change.connection, wanted)
            if found is None:
                raise Conflict("the namespace was made and deleted at the same time", namespace=wanted)
            return found
        change.tell(namespace_stream(made.id), NamespaceCreated(namespace=wanted), subject=wanted or "_")
        return made

    async def _create(
        self, change: Change, namespace: Namespace, name: RepositoryName, wish: Wish, account: Account | None
    ) -> RepositoryDetails | None:
        visibility = wish.visibility or self._first_visibility(namespace)
        _check_visibility(namespace, visibility)
        new = NewRepository(name, visibility, wish.kind, wish.description, wish.labels)
        made = await self._store.insert(change.connection, namespace.id, new, actor=change.origin.actor)
        if made is None:
            return None
        stream = repository_stream(made.id)
        created = RepositoryCreated(repository=made.ref, visibility=visibility, kind=made.kind)
        change.tell(stream, created, subject=name)
        # Whoever makes a repository owns it; a robot does not, it has what it was given.
        if account is not None and not account.is_admin and not account.is_robot:
            subject = SubjectRow.user(account.id)
            await self._grants.put(
                change.connection, subject, Object.repository(made.id), Role.ADMIN, actor=change.origin.actor
            )
            given = GrantGiven(subject=f"user:{account.name}", on=f"repository:{name}", role=Role.ADMIN.word)
            change.tell(stream, given, subject=name)
        return made

    def _first_visibility(self, namespace: Namespace) -> str:
        wanted = namespace.default_visibility or self._default_visibility
        return wanted if namespace.public_allowed else "private"

    async def update(
        self,
        repository: Repository,
        values: Mapping[str, Any],
        *,
        version: int | None,
        standing_at_target: Standing | None,
        origin: Origin,
    ) -> RepositoryDetails:
        """Set visibility, kind, description, labels, or name. Raises PreconditionFailed if the version is another one.

        `standing_at_target` is where the caller stands at the new name, if there is one.
        """
        check_description(values.get("description", ""))
        check_labels(values.get("labels") or {})

        async def work(change: Change) -> RepositoryDetails:
            namespace = await self._namespaces.share(
                change.connection, namespace_of(values.get("name", repository.name))
            )
            before = await self._store.lock(change.connection, repository.id)
            if before is None:
                raise NotFound("no such repository", name=repository.name)
            if before.name != repository.name:
                # What was decided, and the namespace that is held still, are those of the name that it had.
                raise Conflict("the repository was renamed meanwhile: look again", name=repository.name)
            if namespace is None:
                raise InvalidInput("there is no such namespace: create it first", name=values["name"])
            changed = {key: value for key, value in values.items() if value != getattr(before, key)}
            _check_visibility(namespace, changed.get("visibility", before.visibility))
            if not changed and version in (None, before.version):
                return before
            after = await self._store.update(
                change.connection, repository.id, version=version, values={**changed, "namespace_id": namespace.id}
            )
            if after is None:
                raise PreconditionFailed("the repository was changed meanwhile: look again", version=before.version)
            await self._tell_update(change, before, after, changed)
            return after

        if "name" in values and standing_at_target is not None:
            self._check_target(standing_at_target, repository)
        return await self._changes.make(origin, work)

    def _check_target(self, target: Standing, repository: Repository) -> None:
        """Whoever moves a repository must be able to make one there."""
        if Action.PUSH not in self._rules.rights(target.account, target.place):
            raise Denied("this needs the right to create repositories in the namespace it is moved to")
        if not namespace_of(target.place.name) and not self._rules.is_operator(target.account):
            raise Denied("names without a namespace are given by administrators: write namespace/name")
        if target.repository is not None and target.repository.id != repository.id:
            raise Conflict("there is a repository of that name already", name=target.place.name)

    async def _tell_update(
        self, change: Change, before: RepositoryDetails, after: RepositoryDetails, changed: Mapping[str, Any]
    ) -> None:
        stream = repository_stream(after.id)
        if "name" in changed:
            await self._store.drop_alias(change.connection, after.name)
            until = None
            if self._alias_life:
                await self._store.add_alias(change.connection, before.name, after.id, life=self._alias_life)
                until = (datetime.now(UTC) + self._alias_life).isoformat(timespec="seconds")
            renamed = RepositoryRenamed(repository=after.ref, before=before.name, alias_until=until)
            change.tell(stream, renamed, subject=after.name)
        if "visibility" in changed:
            opened = RepositoryVisibilityChanged(
                repository=after.ref, visibility=after.visibility, before=before.visibility
            )
            change.tell(stream, opened, subject=after.name)
        if rest := sorted(set(changed) - {"name", "visibility"}):
            change.tell(stream, RepositoryUpdated(repository=after.ref, changed=rest), subject=after.name)

    async def delete(self, repository: Repository, *, version: int | None, origin: Origin) -> None:
        """Delete a repository with all that is in it. Raises PreconditionFailed if the version is another one."""

        async def work(change: Change) -> None:
            before = await self._store.lock(change.connection, repository.id)
            if before is None:
                raise NotFound("no such repository", name=repository.name)
            if version not in (None, before.version):
                raise PreconditionFailed("the repository was changed meanwhile: look again", version=before.version)
            await self._store.delete(change.connection, repository.id)
            change.tell(repository_stream(before.id), RepositoryDeleted(repository=before.ref), subject=before.name)

        await self._changes.make(origin, work)


def _check_visibility(namespace: Namespace, visibility: str) -> None:
    if visibility == "public" and not namespace.public_allowed:
        raise InvalidInput("repositories of this namespace may not be public", namespace=namespace.name)
