"""Errors of the management API: one document for each, and no secrets in what nobody foresaw."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import asyncpg
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict
from pydantic import BaseModel, ValidationError

from slipway_common import errors
from slipway_common.web.problems import problem_middleware, render_problem


class TryLater(errors.Unavailable):
    retry_after_s = 60


def read(response: web.StreamResponse) -> dict[str, Any]:
    assert isinstance(response, web.Response)
    assert response.content_type == "application/problem+json"
    assert isinstance(response.body, bytes)
    document: dict[str, Any] = json.loads(response.body)
    assert document["status"] == response.status
    assert document["title"]
    return document


@pytest.mark.parametrize(("exc", "status"), [
    (errors.InvalidInput("why"), 400), (errors.NotFound("why"), 404), (errors.Conflict("why"), 409),
    (errors.Unauthenticated("why"), 401), (errors.Denied("why"), 403), (errors.Unavailable("why"), 503),
])  # fmt: skip
def test_error_of_ours_has_its_status_and_says_why(exc: errors.SlipwayError, status: int) -> None:
    document = read(render_problem(exc, "id"))
    assert (document["status"], document["detail"], document["request_id"]) == (status, "why", "id")


@pytest.mark.parametrize("exc", [
    ConnectionRefusedError("10.0.0.1"), TimeoutError(), asyncpg.TooManyConnectionsError("x"),
    asyncpg.InterfaceError("pool is closed"),
])  # fmt: skip
def test_lost_connection_is_503_without_its_address(exc: Exception) -> None:
    response = render_problem(exc, "id")
    assert read(response)["status"] == 503
    assert response.headers["Retry-After"] == "2"
    assert "detail" not in read(response)


def test_error_says_itself_when_to_try_again() -> None:
    assert render_problem(TryLater("full"), "id").headers["Retry-After"] == "60"


def test_login_is_asked_for_by_basic() -> None:
    challenge = render_problem(errors.Unauthenticated("who?"), "id").headers["WWW-Authenticate"]
    assert challenge.startswith('Basic realm="')


def test_what_nobody_foresaw_tells_nothing_but_the_request_id() -> None:
    response = render_problem(KeyError("hunter2"), "an-id")
    assert read(response)["status"] == 500
    assert "hunter2" not in response.text
    assert "an-id" in response.text


def test_wrong_fields_are_told_each_without_their_values() -> None:
    class Query(BaseModel):
        n: int
        password: int

    with pytest.raises(ValidationError) as wrong:
        Query.model_validate({"n": "many", "password": "hunter2"})
    response = render_problem(wrong.value, "id")
    document = read(response)
    assert document["status"] == 400
    assert [error["field"] for error in document["errors"]] == ["n", "password"]
    assert "hunter2" not in response.text


def request(**headers: str) -> web.Request:
    return make_mocked_request(
        "GET", "/api/v1/x", headers=CIMultiDict({name.replace("_", "-"): v for name, v in headers.items()})
    )


async def answer(error: Exception | None = None, **headers: str) -> web.StreamResponse:
    async def handle(_request: web.Request) -> web.StreamResponse:
        if error is not None:
            raise error
        return web.Response(text="fine")

    return await problem_middleware(request(**headers), handle)


async def test_every_answer_has_a_request_id_and_is_never_guessed_at() -> None:
    for response in (await answer(), await answer(ValueError())):
        assert len(response.headers["X-Request-Id"]) == 16
        assert response.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("given", ["a b", "", "x" * 65, "<script>", "a\u00e9"])
async def test_request_id_that_is_not_plain_is_replaced(given: str) -> None:
    response = await answer(X_Request_Id=given)
    assert response.headers["X-Request-Id"] != given
    assert (await answer(X_Request_Id="trace-1/2")).headers["X-Request-Id"] == "trace-1/2"


async def test_wrong_method_is_told_which_are_right() -> None:
    response = await answer(web.HTTPMethodNotAllowed("PUT", ["POST", "GET"]))
    assert read(response)["status"] == 405
    assert response.headers["Allow"] == "GET, POST"


async def test_cancellation_is_no_error_to_be_answered() -> None:
    async def handle(_request: web.Request) -> web.StreamResponse:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await problem_middleware(request(), handle)
