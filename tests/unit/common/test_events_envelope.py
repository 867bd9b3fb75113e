"""The event on the wire: CloudEvents 1.0, at most 64 KiB, nothing believed that is not whole."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import orjson
import pytest
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given
from hypothesis import strategies as st

from slipway_common.events.event import (
    BadEnvelope,
    Event,
    is_stream,
    namespace_stream,
    parse_cloudevent_json,
    repository_stream,
    to_cloudevent_json,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)


def an_event(**changes: Any) -> Event:
    facts: dict[str, Any] = {
        "id": UUID(int=7),
        "type": "slipway.tag.deleted.v1",
        "source": "slipway/gateway",
        "time": datetime(2026, 11, 24, 3, 0, 0, 123456, tzinfo=UTC),
        "subject": "acme/hello:1",
        "stream": "repository/1",
        "seq": 3,
        "epoch": 2,
        "actor": "ann",
        "request_id": "r-1",
        "data": {"tag": "1"},
    }
    return Event(**{**facts, **changes})


def envelope(**changes: Any) -> bytes:
    """A good envelope with some attributes changed; None takes one away."""
    attributes = {**orjson.loads(to_cloudevent_json(an_event())), **changes}
    return orjson.dumps({name: value for name, value in attributes.items() if value is not None})


@given(
    seq=st.integers(1, 2**31 - 1),
    epoch=st.integers(1, 2**31 - 1),
    time=st.datetimes(timezones=st.just(UTC)),
    subject=st.none() | TEXT,
    actor=st.none() | TEXT,
    request_id=st.none() | TEXT,
    data=st.dictionaries(TEXT, st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT),
)
def test_an_event_comes_back_from_the_wire_as_it_was(**facts: Any) -> None:
    event = an_event(**facts)
    assert parse_cloudevent_json(to_cloudevent_json(event)) == event


def test_another_cloudevents_reader_understands_the_envelope() -> None:
    read = JSONFormat().read(CloudEvent, to_cloudevent_json(an_event()))
    assert read.get_attributes()["requestid"] == "r-1"
    assert read.get_attributes()["seq"] == 3
    assert read.get_time() == an_event().time
    assert read.get_data() == {"tag": "1"}


def test_absent_attributes_are_left_out() -> None:
    body = orjson.loads(to_cloudevent_json(an_event(subject=None, actor=None, request_id=None)))
    assert {"subject", "actor", "requestid"}.isdisjoint(body)


def test_address_of_a_caller_stays_in_the_log() -> None:
    body = to_cloudevent_json(an_event(address="192.0.2.7"))
    assert b"192.0.2.7" not in body
    assert "address" not in orjson.loads(body)
    assert parse_cloudevent_json(envelope(address="192.0.2.7")).address is None


def test_times_are_sent_in_utc() -> None:
    local = datetime(2026, 11, 24, 5, 0, tzinfo=timezone(timedelta(hours=2)))
    assert orjson.loads(to_cloudevent_json(an_event(time=local)))["time"] == "2026-11-24T03:00:00Z"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"42",
        b'"text"',
        b"{",
        b"\xff",
        b"[" * 100_000,
        envelope(specversion="0.3"),
        envelope(specversion=None),
        envelope(id="not-a-uuid"),
        envelope(id=7),
        envelope(id=None),
        envelope(time=None),
        envelope(type=None),
        envelope(type=""),
        envelope(source=None),
        envelope(time="yesterday"),
        envelope(time="2026-11-24T03:00:00"),
        envelope(time=1),
        envelope(stream=None),
        envelope(stream=5),
        envelope(stream="repository/1\x00"),
        envelope(stream="x" * 300),
        envelope(seq="3"),
        envelope(seq=True),
        envelope(seq=1.5),
        envelope(seq=None),
        envelope(epoch="1"),
        envelope(subject=5),
        envelope(data=None),
        envelope(data=[]),
        envelope(data="text"),
        envelope(UPPER="x"),
    ],
)
def test_what_is_not_a_whole_event_is_refused(body: bytes) -> None:
    with pytest.raises(BadEnvelope):
        parse_cloudevent_json(body)


def test_attributes_of_a_later_version_are_ignored() -> None:
    assert parse_cloudevent_json(envelope(later="x", data={"tag": "1", "new": 1})).data == {"tag": "1", "new": 1}


def test_stream_names() -> None:
    assert (repository_stream(17), namespace_stream(3)) == ("repository/17", "namespace/3")
    assert all(is_stream(name) for name in (repository_stream(17), namespace_stream(3), "system"))
    assert not any(is_stream(name) for name in ("", "repository/", "repository/x", "a/1/2", "a b", "a/1\n", "A/1"))
