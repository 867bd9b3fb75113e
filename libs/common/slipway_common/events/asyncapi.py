"""Describe the events for those who consume them: an AsyncAPI 3.0 document made from the payload models."""

from __future__ import annotations

from typing import Any, Final

from pydantic.json_schema import models_json_schema

from slipway_common import __version__
from slipway_common.events.catalogue import PAYLOADS, Payload
from slipway_common.events.event import MAX_ENVELOPE_BYTES

_REF: Final = "#/components/schemas/{model}"
_ENVELOPE: Final[dict[str, Any]] = {
    "type": "object",
    "description": f"CloudEvents 1.0 attributes of every event; at most {MAX_ENVELOPE_BYTES} bytes with its data.",
    "required": ["specversion", "id", "source", "type", "time", "stream", "seq", "epoch", "data"],
    "properties": {
        "specversion": {"const": "1.0"},
        "id": {"type": "string", "format": "uuid"},
        "source": {"type": "string", "format": "uri-reference", "description": "The service that wrote the event."},
        "type": {"type": "string"},
        "time": {"type": "string", "format": "date-time"},
        "datacontenttype": {"const": "application/json"},
        "subject": {"type": "string", "description": "What it is about, for people to read."},
        "stream": {"type": "string", "description": "The ordered sequence that the event belongs to; the message key."},
        "seq": {"type": "integer", "minimum": 1, "description": "Place in the stream, without gaps."},
        "epoch": {"type": "integer", "minimum": 1, "description": "Raised when a database is restored."},
        "actor": {"type": "string", "description": "Who did it."},
        "requestid": {"type": "string", "description": "The request by which it was done."},
    },
}


def asyncapi_document(*, topic: str = "slipway.events") -> dict[str, Any]:
    """Return the document; `topic` is the Kafka topic that carries the events."""
    messages = {payload.__name__: _message(payload) for payload in PAYLOADS}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Slipway events",
            "version": __version__,
            "description": "What has happened in the registry: in order within a stream, at least once each.",
        },
        "defaultContentType": "application/cloudevents+json",
        "channels": {
            "events": {
                "address": topic,
                "description": "All events; the message key is the stream.",
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
            }
        },
        "operations": {"publish": {"action": "send", "channel": {"$ref": "#/channels/events"}}},
        "components": {"messages": messages, "schemas": {"Envelope": _ENVELOPE, **_schemas()}},
    }


def _message(payload: type[Payload]) -> dict[str, Any]:
    event_type = {
        "properties": {"type": {"const": payload.TYPE}, "data": {"$ref": _REF.format(model=payload.__name__)}}
    }
    return {
        "name": payload.TYPE,
        "summary": (payload.__doc__ or "").strip(),
        "contentType": "application/cloudevents+json",
        "payload": {"allOf": [{"$ref": _REF.format(model="Envelope")}, {"type": "object", **event_type}]},
    }


def _schemas() -> dict[str, Any]:
    _, schema = models_json_schema([(payload, "serialization") for payload in PAYLOADS], ref_template=_REF)
    return dict(schema["$defs"])
