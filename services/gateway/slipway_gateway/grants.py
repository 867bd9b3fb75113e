"""Giving roles, and taking them away."""

from __future__ import annotations

from dataclasses import dataclass

from slipway_common.errors import InvalidInput, NotFound
from slipway_common.events.catalogue import GrantGiven, GrantTaken
from slipway_common.events.event import SYSTEM_STREAM, Origin, namespace_stream, repository_stream
from slipway_gateway.changes import Change, Changes
from slipway_gateway.domain.access import Role
from slipway_gateway.domain.patterns import NamePattern, is_within
from slipway_gateway.domain.principals import Subject
from slipway_gateway.store.grants import GrantStore, Object, SubjectRow
from slipway_gateway.store.repositories import Repository


@dataclass(frozen=True, slots=True)
class GrantTarget:
    """What a role is on, how it is written, and the stream that is told."""

    object: Object
    text: str
    stream: str

    @property
    def subject(self) -> str:
        return self.text.partition(":")[2]


def on_repository(repository: Repository) -> GrantTarget:
    return GrantTarget(
        Object.repository(repository.id), f"repository:{repository.name}", repository_stream(repository.id)
    )


def on_namespace(namespace_id: int, namespace: str, pattern: NamePattern | None) -> GrantTarget:
    """On the namespace as a whole, or on those of its names that a pattern matches. Raises InvalidInput for a wider pattern."""
    if pattern is None:
        return GrantTarget(Object.namespace(namespace_id), f"namespace:{namespace}", namespace_stream(namespace_id))
    if not is_within(pattern, namespace):
        raise InvalidInput(f"the pattern must begin with {namespace}/", pattern=pattern.text)
    return GrantTarget(Object.names(pattern), f"pattern:{pattern.text}", namespace_stream(namespace_id))


def on_names(pattern: NamePattern) -> GrantTarget:
    return GrantTarget(Object.names(pattern), f"pattern:{pattern.text}", SYSTEM_STREAM)


class Grants:
    def __init__(self, store: GrantStore, changes: Changes) -> None:
        self._store = store
        self._changes = changes

    async def give(self, subject: Subject, target: GrantTarget, role: Role, origin: Origin) -> Role | None:
        """Give a role in place of the one before; the one before. Raises NotFound for nobody of that name."""

        async def work(change: Change) -> Role | None:
            row = await self._subject(change, subject)
            before = await self._store.put(change.connection, row, target.object, role, actor=origin.actor)
            if before is not role:
                given = GrantGiven(
                    subject=str(subject), on=target.text, role=role.word, before=before.word if before else None
                )
                change.tell(target.stream, given, subject=target.subject)
            return before

        return await self._changes.make(origin, work)

    async def take(self, subject: Subject, target: GrantTarget, origin: Origin) -> None:
        """Take a role away. Raises NotFound if there is none."""

        async def work(change: Change) -> None:
            row = await self._subject(change, subject)
            before = await self._store.take(change.connection, row, target.object)
            if before is None:
                raise NotFound("there is no such grant", subject=str(subject), on=target.text)
            taken = GrantTaken(subject=str(subject), on=target.text, role=before.word)
            change.tell(target.stream, taken, subject=target.subject)

        await self._changes.make(origin, work)

    async def _subject(self, change: Change, subject: Subject) -> SubjectRow:
        found = await self._store.find_subject(change.connection, subject)
        if found is None:
            raise NotFound(f"there is no {subject.kind} named {subject.name}", subject=str(subject))
        return found
