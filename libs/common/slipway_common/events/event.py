"""What an event is, and its form on the wire (CloudEvents 1.0, structured JSON)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar
from uuid import UUID

import orjson
from cloudevents.core.exceptions import CloudEventValidationError
from cloudevents.core.v1.event import CloudEvent

from slipway_common.errors import InvalidInput

if TYPE_CHECKING:
    from slipway_common.events.catalogue import Payload

CONTENT_TYPE: Final = "application/cloudevents+json; charset=UTF-8"
# CloudEvents 1.0, "Size Limits": consumers should accept, and so producers may rely on, 64 KiB.
MAX_ENVELOPE_BYTES: Final = 64 * 1024

SYSTEM_STREAM: Final = "system"

T = TypeVar("T", str, int)


_STREAM: Final = re.compile(r"[a-z]+(/[0-9]+)?")
_MAX_STREAM_CHARS: Final = 200


def is_stream(name: str) -> bool:
    return len(name) <= _MAX_STREAM_CHARS and _STREAM.fullmatch(name) is not None


def repository_stream(repository_id: int) -> str:
    return f"repository/{repository_id}"


def namespace_stream(namespace_id: int) -> str:
    return f"namespace/{namespace_id}"


class BadEnvelope(InvalidInput):
    """These bytes are not an event of Slipway."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Whose doing something is: who, by which request, from which address; where known."""

    actor: str | None
    request_id: str | None
    address: str | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """A fact of the past, as it stands in the log.

    `seq` counts the events of one `stream` from 1 without gaps, in the order of their commits. `epoch` tells histories
    apart: it is raised when a database is restored. `actor` is who did it, `request_id` the request it was done by and
    `address` where that came from, where known; the address stays in the log and is not carried further.
    """

    id: UUID
    type: str
    source: str
    time: datetime
    subject: str | None
    stream: str
    seq: int
    epoch: int
    actor: str | None
    request_id: str | None
    data: dict[str, Any]
    address: str | None = None


@dataclass(frozen=True, slots=True)
class NewEvent:
    """A fact about to be written; the log adds its id, time, place and author."""

    type: str
    subject: str | None
    data: Payload

    @classmethod
    def of(cls, data: Payload, *, subject: str | None = None) -> NewEvent:
        """Name the event after its payload's own type."""
        return cls(type=data.TYPE, subject=subject, data=data)


def to_cloudevent_json(event: Event) -> bytes:
    """Render `event` as one structured CloudEvent; absent attributes are left out.

    Raises ValueError when an attribute breaks the CloudEvents rules.
    """
    attributes = _attributes(event)
    try:
        CloudEvent(attributes, event.data)
    except CloudEventValidationError as exc:
        raise ValueError(f"event {event.stream}#{event.seq} is not a CloudEvent: {exc}") from exc
    return orjson.dumps({**attributes, "data": event.data}, option=orjson.OPT_UTC_Z)


def _attributes(event: Event) -> dict[str, Any]:
    attributes = {
        "specversion": "1.0",
        "id": str(event.id),
        "source": event.source,
        "type": event.type,
        "time": event.time.astimezone(UTC),
        "datacontenttype": "application/json",
        "subject": event.subject,
        "stream": event.stream,
        "seq": event.seq,
        "epoch": event.epoch,
        "actor": event.actor,
        "requestid": event.request_id,
    }
    return {name: value for name, value in attributes.items() if value is not None}


def parse_cloudevent_json(body: bytes) -> Event:
    """Read one structured CloudEvent. Raises BadEnvelope unless it is a whole and valid event of Slipway."""
    try:
        attributes = orjson.loads(body)
        # CloudEvent would make up what is missing of these.
        if not {"specversion", "id", "time"} <= attributes.keys():
            raise ValueError("required attributes are missing")
        data = attributes.pop("data")
        attributes["time"] = datetime.fromisoformat(attributes["time"])
        CloudEvent(attributes, data)
        return _event(attributes, data)
    except (ValueError, KeyError, TypeError, AttributeError, CloudEventValidationError) as exc:
        raise BadEnvelope(f"not an event envelope: {exc!r}"[:500]) from exc


def _event(attributes: dict[str, Any], data: object) -> Event:
    if attributes["specversion"] != "1.0" or not isinstance(data, dict):
        raise ValueError("specversion 1.0 and an object as data are needed")
    if not is_stream(_typed(attributes, "stream", str)):
        raise ValueError("no stream has that name")
    return Event(
        id=UUID(attributes["id"]),
        type=attributes["type"],
        source=attributes["source"],
        time=attributes["time"],
        subject=attributes.get("subject"),
        stream=attributes["stream"],
        seq=_typed(attributes, "seq", int),
        epoch=_typed(attributes, "epoch", int),
        actor=attributes.get("actor"),
        request_id=attributes.get("requestid"),
        data=data,
    )


def _typed(attributes: dict[str, Any], name: str, kind: type[T]) -> T:
    value = attributes[name]
    if type(value) is not kind:
        raise TypeError(f"attribute {name} must be {kind.__name__}")
    return value
