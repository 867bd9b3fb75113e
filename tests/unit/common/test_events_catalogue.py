"""The payloads: what is promised to those who read events."""

from __future__ import annotations

import json
import re

import pytest

from slipway_common.events.asyncapi import asyncapi_document
from slipway_common.events.catalogue import (
    PAYLOADS,
    ImagePushed,
    ManifestDeleted,
    Payload,
    PlatformImage,
    RepositoryRef,
    TagDeleted,
)
from slipway_common.events.event import MAX_ENVELOPE_BYTES, NewEvent
from slipway_common.events.log import EnvelopeTooLarge, _encode

REPOSITORY = RepositoryRef(id=1, name="acme/hello", namespace="acme")
DIGEST = "sha256:" + "a" * 64
ROOM = MAX_ENVELOPE_BYTES - 1000
# What an event can be about: each names the one whose story it is part of.
ABOUT = {"repository", "namespace", "account", "team", "robot", "subject", "owner"}


def pushed(*, platforms: int = 0, tags: int = 1, replaced: int = 0) -> ImagePushed:
    return ImagePushed(
        repository=REPOSITORY,
        tags=[f"v{number}-{'x' * 100}" for number in range(tags)],
        digest=DIGEST,
        media_type="application/vnd.oci.image.index.v1+json",
        size_bytes=1,
        platforms=[
            PlatformImage(os="linux", architecture="amd64", digest=DIGEST, image_id=DIGEST, size_bytes=1)
            for _ in range(platforms)
        ],
        replaced={f"v{number}": DIGEST for number in range(replaced)},
    )


def encoded(payload: Payload) -> dict[str, object]:
    body = _encode(NewEvent.of(payload), ROOM)
    assert len(body.encode()) <= ROOM
    return dict(json.loads(body))


def test_types_are_versioned_past_tense_and_unique() -> None:
    types = [payload.TYPE for payload in PAYLOADS]
    assert len(set(types)) == len(types)
    past = r"slipway\.[a-z]+\.(?:[a-z]+-)?(?:[a-z]+ed|given|taken)\.v[0-9]+"
    assert [name for name in types if not re.fullmatch(past, name)] == []


def test_every_payload_of_the_module_is_in_the_catalogue() -> None:
    assert set(PAYLOADS) == {one for one in Payload.__subclasses__() if one.__module__ == Payload.__module__}


@pytest.mark.parametrize("payload", PAYLOADS)
def test_every_payload_and_field_that_needs_it_is_explained(payload: type[Payload]) -> None:
    assert payload.__doc__
    assert ABOUT & set(payload.model_fields)


def test_every_event_of_a_repository_says_which_one_it_is() -> None:
    for payload in PAYLOADS:
        about_one = payload.TYPE.split(".")[1] in ("repository", "manifest", "image", "referrer", "tag")
        assert ("repository" in payload.model_fields) == about_one, payload


@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_event_carries_what_nobody_else_may_know(payload: type[Payload]) -> None:
    secrets = {"password", "password_hash", "secret", "token", "hash", "address", "email"}
    assert not secrets & set(payload.model_fields)


@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_payload_of_a_later_version_is_still_read(payload: type[Payload]) -> None:
    assert payload.model_config.get("extra") == "ignore"


def test_an_event_takes_its_type_from_its_payload() -> None:
    event = NewEvent.of(TagDeleted(repository=REPOSITORY, tag="1", digest=DIGEST), subject="acme/hello:1")
    assert (event.type, event.subject) == ("slipway.tag.deleted.v1", "acme/hello:1")


def test_a_payload_that_fits_is_not_cut() -> None:
    body = encoded(pushed(platforms=100, tags=5, replaced=5))
    assert (len(body["platforms"]), body["truncated"]) == (100, False)  # type: ignore[arg-type]


def test_platforms_are_cut_first() -> None:
    body = encoded(pushed(platforms=2000, tags=5, replaced=5))
    assert body["truncated"] is True
    assert 0 < len(body["platforms"]) < 2000  # type: ignore[arg-type]
    assert (len(body["tags"]), len(body["replaced"])) == (5, 5)  # type: ignore[arg-type]


def test_tags_are_cut_last_and_one_remains() -> None:
    body = encoded(pushed(platforms=2000, tags=2000, replaced=2000))
    assert body["truncated"] is True
    assert (body["platforms"], body["replaced"]) == ([], {})
    assert 0 < len(body["tags"]) < 2000  # type: ignore[arg-type]


def test_a_deleted_manifest_with_very_many_tags_is_cut() -> None:
    body = encoded(ManifestDeleted(repository=REPOSITORY, digest=DIGEST, tags=[f"tag-{n}" for n in range(20_000)]))
    assert body["truncated"] is True


def test_what_cannot_be_cut_is_refused() -> None:
    with pytest.raises(EnvelopeTooLarge):
        encoded(TagDeleted(repository=REPOSITORY, tag="x" * MAX_ENVELOPE_BYTES, digest=DIGEST))


def test_the_asyncapi_document_describes_every_event_and_has_no_loose_ends() -> None:
    document = asyncapi_document()
    assert document["asyncapi"] == "3.0.0"
    messages = document["components"]["messages"]
    assert {message["name"] for message in messages.values()} == {payload.TYPE for payload in PAYLOADS}
    for reference in re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(document)):
        place = document
        for step in reference.split("/"):
            place = place[step]
