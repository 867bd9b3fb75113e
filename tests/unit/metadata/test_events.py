from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from pydantic import ValidationError

from slipway_common.events.catalogue import (
    ImagePushed,
    ManifestDeleted,
    ManifestPushed,
    Payload,
    RepositoryDeleted,
    RepositoryRef,
    RepositoryRenamed,
    TagDeleted,
)
from slipway_common.events.event import Event
from slipway_metadata.events import Push, TagTarget, fold

REPOSITORY = RepositoryRef(id=7, name="acme/hello", namespace="acme")
MEDIA_TYPE = "application/vnd.oci.image.manifest.v1+json"
START = datetime(2026, 1, 1, tzinfo=UTC)


def _at(seq: int) -> datetime:
    return START + timedelta(seconds=seq)


def _event(seq: int, event_type: str, data: dict[str, Any]) -> Event:
    return Event(uuid4(), event_type, "test", _at(seq), None, "repository/7", seq, 1, "ann", None, data)


def _events(*payloads: Payload) -> list[Event]:
    return [_event(seq, payload.TYPE, payload.model_dump(mode="json")) for seq, payload in enumerate(payloads, start=1)]


def _push(digest: str) -> ManifestPushed:
    return ManifestPushed(repository=REPOSITORY, digest=digest, media_type=MEDIA_TYPE, size_bytes=1)


def _tag(digest: str, *tags: str, **more: Any) -> ImagePushed:
    return ImagePushed(
        repository=REPOSITORY, digest=digest, tags=list(tags), media_type=MEDIA_TYPE, size_bytes=1, **more
    )


def _delete(digest: str) -> ManifestDeleted:
    return ManifestDeleted(repository=REPOSITORY, digest=digest)


def test_last_push_of_a_digest_counts() -> None:
    assert fold(_events(_push("x"), _push("y"), _push("x"))).pushed == {
        "x": Push(_at(3), "ann"),
        "y": Push(_at(2), "ann"),
    }


def test_moved_tag_names_the_last_digest() -> None:
    assert fold(_events(_tag("x", "1", "2"), _tag("y", "1"))).tags == {
        "1": TagTarget("y", _at(2)),
        "2": TagTarget("x", _at(1)),
    }


def test_deleted_tag_that_is_set_again_stays() -> None:
    changes = fold(_events(TagDeleted(repository=REPOSITORY, tag="1", digest="x"), _tag("x", "1")))
    assert (set(changes.tags), changes.deleted_tags) == ({"1"}, set())


def test_tags_set_before_their_manifest_is_deleted_go_too() -> None:
    changes = fold(_events(_push("x"), _tag("x", "1"), _delete("x")))
    assert (changes.pushed, changes.tags) == ({}, {})
    assert (changes.deleted, changes.deleted_tags) == ({"x"}, {"1"})


def test_manifest_pushed_again_after_its_deletion_loses_its_old_tags() -> None:
    changes = fold(_events(_delete("x"), _push("x")))
    assert (changes.deleted, set(changes.pushed)) == ({"x"}, {"x"})


def test_cut_tags_are_noticed() -> None:
    assert set(fold(_events(_tag("x", "1", truncated=True))).cut_tags) == {"x"}


def test_last_name_of_a_repository_counts() -> None:
    renamed = REPOSITORY.model_copy(update={"name": "other/hello", "namespace": "other"})
    changes = fold(_events(_push("x"), RepositoryRenamed(repository=renamed, before=REPOSITORY.name)))
    assert (changes.repository, set(changes.pushed), changes.gone) == (renamed, {"x"}, False)


def test_repository_that_is_deleted_leaves_nothing_to_describe() -> None:
    changes = fold(_events(_push("x"), _tag("x", "1", truncated=True), RepositoryDeleted(repository=REPOSITORY)))
    assert (changes.gone, changes.pushed, changes.cut_tags) == (True, {}, {})
    assert changes.repository == REPOSITORY


def test_unknown_events_are_passed_over() -> None:
    assert fold([_event(1, "slipway.repository.painted.v1", {"colour": "green"})]).repository is None


def test_payload_that_breaks_its_form_is_refused() -> None:
    with pytest.raises(ValidationError):
        fold([_event(1, ManifestPushed.TYPE, {"digest": 1})])
