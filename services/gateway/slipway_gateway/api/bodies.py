"""Request bodies that fit in memory: manifests, forms, documents for other services."""

from __future__ import annotations

from urllib.parse import parse_qsl

from aiohttp import web

from slipway_common.errors import InvalidInput
from slipway_gateway.api.transfer import RateLimits, receive_body

_FORM = "application/x-www-form-urlencoded"
_MAX_FORM_BYTES = 64 * 1024


async def read_body(request: web.BaseRequest, *, max_bytes: int, rate: RateLimits | None = None) -> bytes:
    """The whole body. Raises BodyTooLarge as soon as it is, BodyCutOff when it ends early or comes too slowly."""
    body = bytearray()
    await receive_body(request, body.extend, room=lambda: max_bytes + 1, flush=_nothing, max_bytes=max_bytes, rate=rate)
    return bytes(body)


async def read_form(request: web.BaseRequest) -> list[tuple[str, str]]:
    """The fields of a URL-encoded form. Raises InvalidInput for any other body."""
    if request.content_type != _FORM:
        raise InvalidInput(f"send a form, with Content-Type {_FORM}")
    body = await read_body(request, max_bytes=_MAX_FORM_BYTES)
    try:
        return parse_qsl(body.decode("utf-8"), keep_blank_values=True, max_num_fields=200)
    except ValueError as exc:
        raise InvalidInput("the form cannot be read") from exc


async def _nothing() -> None:
    return None
