"""What handlers of the management API share: bodies, versions, pages, answers that are given once."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

import orjson
from aiohttp import web
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from slipway_common.errors import InvalidInput
from slipway_gateway.api.bodies import read_body
from slipway_gateway.api.gatekeeper import ACCOUNT
from slipway_gateway.idempotency import Given, IdempotentAnswers

M = TypeVar("M", bound=BaseModel)
_MAX_BODY_BYTES = 256 * 1024
_VERSION = re.compile(r'(?:W/)?"([0-9]{1,9})"')
_KEY = re.compile(r"[\x21-\x7e]{1,128}")
IDEMPOTENCY = web.AppKey("idempotency", IdempotentAnswers)
_CONTENT = web.RequestKey("content", bytes)


def _in_utc(moment: datetime) -> datetime:
    """The same moment in UTC, which a time without a zone is in. Raises ValueError outside of what a calendar has."""
    try:
        return moment.astimezone(UTC) if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    except OverflowError as exc:
        raise ValueError("outside of the years 1 to 9999") from exc


# A time that somebody asks for.
Moment = Annotated[datetime, AfterValidator(_in_utc)]


class Body(BaseModel):
    """A request's JSON document: what it does not know is a mistake, not something to pass over."""

    model_config = ConfigDict(extra="forbid", str_max_length=20_000)


class PageQuery(BaseModel):
    n: int = Field(100, ge=1, le=1000, description="Entries in a page.")
    last: str = Field("", pattern=r"^[^\x00]*$", max_length=512, description="The `next` of the page before.")

    def after_number(self) -> int:
        """`last` where entries are told apart by number. Raises InvalidInput."""
        if self.last and not re.fullmatch("[0-9]{1,18}", self.last):
            raise InvalidInput("last must be the `next` of the page before")
        return int(self.last or 0)


async def read_json(request: web.Request, model: type[M]) -> M:
    """The request's body. Raises InvalidInput or pydantic's ValidationError, which say what is wrong."""
    if request.content_type not in ("application/json", "application/merge-patch+json"):
        raise InvalidInput("send JSON, with Content-Type application/json")
    content = request[_CONTENT] = await read_body(request, max_bytes=_MAX_BODY_BYTES)
    try:
        document = orjson.loads(content)
    except ValueError as exc:
        raise InvalidInput(f"the body is not JSON: {exc}") from exc
    return model.model_validate(document)


def given(body: BaseModel) -> dict[str, Any]:
    """What a PATCH says, without what it leaves alone."""
    return body.model_dump(exclude_unset=True)


def wanted_version(request: web.Request) -> int | None:
    """The version that a change is meant for (If-Match); None: whichever there is. Raises InvalidInput."""
    text = request.headers.get("If-Match")
    if text is None or text.strip() == "*":
        return None
    match = _VERSION.fullmatch(text.strip())
    if match is None:
        raise InvalidInput("If-Match must be the ETag of the resource")
    return int(match[1])


def answer(
    model: BaseModel, *, status: int = 200, version: int | None = None, location: str | None = None
) -> web.Response:
    headers = {"Cache-Control": "no-store"}
    if version is not None:
        headers["ETag"] = f'"{version}"'
    if location is not None:
        headers["Location"] = location
    return web.Response(
        status=status, body=model.model_dump_json().encode(), content_type="application/json", headers=headers
    )


def nothing() -> web.Response:
    return web.Response(status=204)


async def once(request: web.Request, make: Callable[[], Awaitable[web.Response]]) -> web.Response:
    """Create something; whoever sends the same request again with the same Idempotency-Key gets the same answer.

    What was sent is known from `read_json`. Raises InvalidInput for a key that was used for another request, Conflict while that
    one is under way.
    """
    key, account = request.headers.get("Idempotency-Key"), request.get(ACCOUNT)
    if key is None or account is None:
        return await make()
    if not _KEY.fullmatch(key):
        raise InvalidInput("an Idempotency-Key is up to 128 printable characters")
    answers = request.app[IDEMPOTENCY]
    wish = b"\n".join((request.method.encode(), request.raw_path.encode(), request.get(_CONTENT, b"")))
    known = await answers.begin(account.id, key, wish)
    if known is not None:
        return _again(known)
    try:
        response = await make()
    except BaseException:
        await answers.forget(account.id, key)
        raise
    kept = {name: response.headers[name] for name in ("ETag", "Location") if name in response.headers}
    body = response.body
    await answers.keep(account.id, key, Given(response.status, kept, body if isinstance(body, bytes) else b""))
    return response


def _again(known: Given) -> web.Response:
    headers: Mapping[str, str] = {**known.headers, "Cache-Control": "no-store", "Idempotent-Replay": "true"}
    return web.Response(status=known.status, body=known.body, content_type="application/json", headers=headers)
