"""What a run of events comes to: which manifests to read, which tags to set, what to forget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from slipway_common.events.catalogue import (
    ImagePushed,
    ManifestDeleted,
    ManifestPushed,
    RepositoryCreated,
    RepositoryDeleted,
    RepositoryRef,
    RepositoryRenamed,
    TagDeleted,
)
from slipway_common.events.event import Event


@dataclass(frozen=True, slots=True)
class Push:
    at: datetime
    by: str | None


@dataclass(frozen=True, slots=True)
class TagTarget:
    digest: str
    updated_at: datetime


@dataclass(slots=True)
class Changes:
    """The net effect of events of one repository: first what goes (`deleted_*`), then what comes.

    gone             the repository was deleted, and all of this with it
    pushed           manifest digests to describe, with their last push
    deleted          manifests that were deleted, whether or not they were pushed again after; their tags go with them
    tags             tags to set
    deleted_tags     tags to take away
    cut_tags         digests whose event had room for some of its tags only: the rest must be asked for
    """

    repository: RepositoryRef | None = None
    gone: bool = False
    pushed: dict[str, Push] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)
    tags: dict[str, TagTarget] = field(default_factory=dict)
    deleted_tags: set[str] = field(default_factory=set)
    cut_tags: dict[str, datetime] = field(default_factory=dict)


def fold(events: Sequence[Event]) -> Changes:
    """Sum up events of one stream, given in order. Types that mean nothing to the index are passed over.

    Raises pydantic's ValidationError for a payload that breaks its own type's form.
    """
    changes = Changes()
    for event in events:
        if (step := _STEPS.get(event.type)) is not None:
            step(changes, event)
    return changes


def _created(changes: Changes, event: Event) -> None:
    changes.repository = RepositoryCreated.model_validate(event.data).repository


def _renamed(changes: Changes, event: Event) -> None:
    changes.repository = RepositoryRenamed.model_validate(event.data).repository


def _repository_deleted(changes: Changes, event: Event) -> None:
    changes.repository = RepositoryDeleted.model_validate(event.data).repository
    changes.gone = True
    changes.pushed.clear()
    changes.cut_tags.clear()


def _manifest_pushed(changes: Changes, event: Event) -> None:
    payload = ManifestPushed.model_validate(event.data)
    changes.repository = payload.repository
    changes.pushed[payload.digest] = Push(event.time, event.actor)


def _image_pushed(changes: Changes, event: Event) -> None:
    payload = ImagePushed.model_validate(event.data)
    changes.repository = payload.repository
    for tag in payload.tags:
        changes.tags[tag] = TagTarget(payload.digest, event.time)
        changes.deleted_tags.discard(tag)
    # Tags are the last that is cut to make an event fit.
    if payload.truncated and not payload.platforms and not payload.replaced:
        changes.cut_tags[payload.digest] = event.time


def _tag_deleted(changes: Changes, event: Event) -> None:
    payload = TagDeleted.model_validate(event.data)
    changes.repository = payload.repository
    changes.tags.pop(payload.tag, None)
    changes.deleted_tags.add(payload.tag)


def _manifest_deleted(changes: Changes, event: Event) -> None:
    payload = ManifestDeleted.model_validate(event.data)
    changes.repository = payload.repository
    changes.pushed.pop(payload.digest, None)
    changes.cut_tags.pop(payload.digest, None)
    changes.deleted.add(payload.digest)
    gone = {tag for tag, target in changes.tags.items() if target.digest == payload.digest}
    for tag in gone:
        del changes.tags[tag]
    # In the index these may still name what they named before these events: they go by name, not by digest.
    changes.deleted_tags |= gone


_STEPS: dict[str, Callable[[Changes, Event], Any]] = {
    RepositoryCreated.TYPE: _created,
    RepositoryRenamed.TYPE: _renamed,
    RepositoryDeleted.TYPE: _repository_deleted,
    ManifestPushed.TYPE: _manifest_pushed,
    ImagePushed.TYPE: _image_pushed,
    TagDeleted.TYPE: _tag_deleted,
    ManifestDeleted.TYPE: _manifest_deleted,
}
