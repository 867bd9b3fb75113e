"""Making, changing and deleting namespaces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slipway_common.errors import Conflict, InvalidInput, NotFound, PreconditionFailed
from slipway_common.events.catalogue import GrantGiven, NamespaceCreated, NamespaceDeleted, NamespaceUpdated
from slipway_common.events.event import Origin, namespace_stream
from slipway_gateway.changes import Change, Changes
from slipway_gateway.domain.access import Account, Role
from slipway_gateway.domain.labels import check_description
from slipway_gateway.domain.principals import ROOT_NAMESPACE
from slipway_gateway.store.grants import GrantStore, Object, SubjectRow
from slipway_gateway.store.namespaces import Namespace, NamespaceStore


class Namespaces:
    def __init__(self, store: NamespaceStore, grants: GrantStore, changes: Changes) -> None:
        self._store = store
        self._grants = grants
        self._changes = changes

    async def create(self, name: str, values: Mapping[str, Any], account: Account | None, origin: Origin) -> Namespace:
        """Make a namespace; a user who is no administrator owns it then. Raises Conflict if there is one."""
        check_description(values.get("description", ""))

        async def work(change: Change) -> Namespace:
            made = await self._store.insert(change.connection, name, actor=origin.actor)
            if made is None:
                raise Conflict("there is a namespace of that name already", namespace=name)
            stream = namespace_stream(made.id)
            change.tell(stream, NamespaceCreated(namespace=name), subject=name)
            if account is not None and not account.is_admin and not account.is_robot:
                subject, on = SubjectRow.user(account.id), Object.namespace(made.id)
                await self._grants.put(change.connection, subject, on, Role.ADMIN, actor=origin.actor)
                given = GrantGiven(subject=f"user:{account.name}", on=f"namespace:{name}", role=Role.ADMIN.word)
                change.tell(stream, given, subject=name)
            return await self._store.update(change.connection, name, version=None, values=values) or made

        return await self._changes.make(origin, work)

    async def update(self, name: str, values: Mapping[str, Any], *, version: int | None, origin: Origin) -> Namespace:
        """Set what is in `values`. Raises PreconditionFailed if the version is another one."""
        check_description(values.get("description") or "")

        async def work(change: Change) -> Namespace:
            before = await self._lock(change, name)
            changed = {key: value for key, value in values.items() if value != getattr(before, key)}
            if changed.get("public_allowed") is False:
                public = await self._store.count_repositories(change.connection, before.id, public_only=True)
                if public:
                    raise Conflict(f"{public} of its repositories are public: make them private first", namespace=name)
            if not changed and version in (None, before.version):
                return before
            after = await self._store.update(change.connection, name, version=version, values=changed)
            if after is None:
                raise PreconditionFailed("the namespace was changed meanwhile: look again", version=before.version)
            updated = NamespaceUpdated(namespace=name, changed=sorted(changed))
            change.tell(namespace_stream(after.id), updated, subject=name or ROOT_NAMESPACE)
            return after

        return await self._changes.make(origin, work)

    async def delete(self, name: str, *, version: int | None, origin: Origin) -> None:
        """Delete an empty namespace, with its robots and grants."""

        async def work(change: Change) -> None:
            before = await self._lock(change, name)
            if version not in (None, before.version):
                raise PreconditionFailed("the namespace was changed meanwhile: look again", version=before.version)
            if not name:
                raise InvalidInput("the root namespace cannot be deleted")
            left = await self._store.count_repositories(change.connection, before.id)
            if left:
                raise Conflict(f"there are {left} repositories in it: move or delete them first", namespace=name)
            await self._store.delete(change.connection, before)
            change.tell(namespace_stream(before.id), NamespaceDeleted(namespace=name), subject=name)

        await self._changes.make(origin, work)

    async def _lock(self, change: Change, name: str) -> Namespace:
        found = await self._store.lock(change.connection, name)
        if found is None:
            raise NotFound("no such namespace", namespace=name or ROOT_NAMESPACE)
        return found
