"""Answers given again: only while they hold, only so many, only to a request that is wholly known."""

from __future__ import annotations

import time
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_common.web.heads import Head
from slipway_common.web.repeats import Answer, RepeatedAnswers, is_single_request, keeps_alive


def answer(body: bytes = b"hello", *, holds: bool = True, expires_at: float = inf) -> Answer:
    head = Head(200, {"Content-Length": str(len(body))})
    return Answer(head, body, holds=lambda: holds, expires_at=expires_at)


def request(*lines: str, first: str = "GET /v2/ HTTP/1.1") -> bytes:
    return "".join(f"{line}\r\n" for line in (first, "Host: a", *lines, "")).encode()


def test_answer_is_a_complete_response_with_the_present_date() -> None:
    made = answer()
    assert made.render(1_000_000_000.7) == (
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nDate: Sun, 09 Sep 2001 01:46:40 GMT\r\n\r\nhello"
    )
    assert b"01:46:41" in (made.render(1_000_000_001.0) or b"")
    assert b"01:46:40" in (made.render(1_000_000_000.0) or b"")


def test_answer_that_does_not_hold_any_more_is_not_given() -> None:
    state = {"holds": True}
    made = Answer(Head(200, {}), b"", holds=lambda: state["holds"], expires_at=inf)
    assert made.render(1.0)
    state["holds"] = False
    assert made.render(1.0) is None


def test_answer_ends_with_the_credential_it_was_given_to() -> None:
    made = answer(expires_at=100.0)
    assert made.render(99.9)
    assert made.render(100.0) is None


def test_only_the_same_bytes_get_the_answer() -> None:
    answers = RepeatedAnswers(max_bytes=10_000)
    answers.remember(request(), answer())
    assert answers.find(request())
    assert answers.find(request("Authorization: Bearer x")) is None
    assert answers.find(request().lower()) is None


def test_answer_that_ended_is_forgotten_with_its_bytes() -> None:
    answers = RepeatedAnswers(max_bytes=10_000)
    answers.remember(request(), answer(expires_at=time.time() - 1))
    assert answers.find(request()) is None
    assert answers._used_bytes == 0
    assert not answers._answers


@given(st.lists(st.tuples(st.binary(max_size=3), st.integers(0, 300), st.booleans()), max_size=60))
def test_answers_stay_within_their_bytes_and_are_counted_exactly(steps: list[tuple[bytes, int, bool]]) -> None:
    answers = RepeatedAnswers(max_bytes=1000)
    for key, size, remember in steps:
        if remember:
            answers.remember(key, answer(b"x" * size, expires_at=inf if size % 7 else 0.0))
        else:
            answers.find(key)
        assert answers._used_bytes == sum(len(known) + one.size_bytes for known, one in answers._answers.items())
        assert answers._used_bytes <= 1000


def test_answer_that_is_large_is_not_kept() -> None:
    answers = RepeatedAnswers(max_bytes=1 << 30)
    answers.remember(request(), answer(b"x" * (128 * 1024 + 1)))
    assert answers.find(request()) is None


def test_nothing_is_kept_without_room() -> None:
    answers = RepeatedAnswers(max_bytes=0)
    answers.remember(request(), answer())
    assert answers.find(request()) is None
    assert answers._used_bytes == 0


@pytest.mark.parametrize("data", [request(), request(first="HEAD / HTTP/1.1"), request("X: y")])
def test_whole_request_is_recognised(data: bytes) -> None:
    assert is_single_request(data)
    assert keeps_alive(data)


@pytest.mark.parametrize("data", [
    b"", b"GET ", b"\r\n\r\n", request()[:-1], request()[:-2], request() * 2, request() + b"x", b"\r\n" + request(),
    request(first="POST /v2/ HTTP/1.1"), request(first="get / HTTP/1.1"), request() + b"\r\n",
    request() + b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\n\n",
])  # fmt: skip
def test_anything_else_is_not_taken_for_one_request(data: bytes) -> None:
    assert not is_single_request(data)


@pytest.mark.parametrize("line", [
    "Content-Length: 5", "content-length:5", "CONTENT-LENGTH: 0", "Transfer-Encoding: chunked", "transfer-encoding:identity",
    "Connection: close", "connection:keep-alive", "Connection: Upgrade", "Expect: 100-continue", "UPGRADE: websocket",
])  # fmt: skip
def test_request_with_a_body_or_a_say_in_the_connection_is_not_remembered(line: str) -> None:
    assert not keeps_alive(request(line))
    assert not keeps_alive(request("X: y", line, "Z: z"))


@pytest.mark.parametrize("data", [
    request(first="GET / HTTP/1.0"),
    request(first="GET /"),
    request("X: HTTP/1.1", first="GET / HTTP/1.0"),
    request("User-Agent: a HTTP/1.1", first="GET / HTTP/1.0"),
    request(first="GET / HTTP/1.10"),
    request(first="GET / HTTP/2.0"),
])  # fmt: skip
def test_version_is_that_of_the_first_line(data: bytes) -> None:
    assert not keeps_alive(data)
