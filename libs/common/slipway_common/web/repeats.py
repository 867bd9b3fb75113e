"""Answering a request that was answered before, byte for byte, without taking it apart again.

Clients that poll, and clusters that pull, send the same bytes over and over: same path, same headers, same token. Where every
answer comes from memory, most of the cost is parsing those bytes and building the response anew. A connection that gets
exactly the bytes of an earlier request, and only those, is given that request's answer, provided that everything the answer
rested on still holds: the token has not expired, and account, repository and content are the very objects they were.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from aiohttp import web
from prometheus_client import Counter

from slipway_common.web.connection import PatientConnection
from slipway_common.web.heads import Head

_repeated = Counter("slipway_repeated_answers", "Requests answered from the memory of an identical one")

_MAX_REQUEST_BYTES = 4096
_MAX_ANSWER_BYTES = 128 * 1024
_METHODS = (b"GET ", b"HEAD ")
_COUNT_EVERY = 256
_MAX_SEEN = 50_000


class Answer:
    """A complete response but for its date, and a function that tells whether it still holds."""

    __slots__ = ("_body", "_head", "_holds", "_second", "_whole", "expires_at", "size_bytes")

    def __init__(self, head: Head, body: bytes, *, holds: Callable[[], bool], expires_at: float) -> None:
        self._head = head
        self._body = body
        self._holds = holds
        self.expires_at = expires_at
        self.size_bytes = head.size_bytes + len(body) + 64
        self._second = 0
        self._whole = b""

    def render(self, now: float) -> bytes | None:
        """The bytes to send; None if the answer no longer holds. `now` in Unix seconds."""
        if now >= self.expires_at or not self._holds():
            return None
        second = int(now)
        if second != self._second:
            self._whole = self._head.render(now) + self._body
            self._second = second
        return self._whole


class RepeatedAnswers:
    """Answers by the bytes of their request; the oldest go when there are too many."""

    def __init__(self, *, max_bytes: int) -> None:
        self._answers: OrderedDict[bytes, Answer] = OrderedDict()
        self._max_bytes = max_bytes
        self._used_bytes = 0
        self._uncounted = 0
        self._seen: set[int] = set()

    def find(self, request: bytes) -> bytes | None:
        """What to send back for `request`, None if that has to be found out anew."""
        answer = self._answers.get(request)
        if answer is None:
            return None
        rendered = answer.render(time.time())
        if rendered is None:
            self._forget(request)
            return None
        self._uncounted += 1
        if self._uncounted == _COUNT_EVERY:
            _repeated.inc(_COUNT_EVERY)
            self._uncounted = 0
        return rendered

    def has_seen(self, request: bytes) -> bool:
        """Whether `request` came before: only then is its answer worth keeping, as most requests come once."""
        mark = hash(request)
        if mark in self._seen:
            return True
        if len(self._seen) >= _MAX_SEEN:
            self._seen.clear()
        self._seen.add(mark)
        return False

    def remember(self, request: bytes, answer: Answer) -> None:
        if answer.size_bytes > _MAX_ANSWER_BYTES:
            return
        self._forget(request)
        self._answers[request] = answer
        self._used_bytes += len(request) + answer.size_bytes
        while self._used_bytes > self._max_bytes:
            self._forget(next(iter(self._answers)))

    def _forget(self, request: bytes) -> None:
        answer = self._answers.pop(request, None)
        if answer is not None:
            self._used_bytes -= len(request) + answer.size_bytes


class RepeatingConnection(PatientConnection):
    """A connection with a look at the bytes before they are parsed.

    It only acts between requests, on a connection where every piece of data so far was one whole request without a body:
    then aiohttp's parser is known to be at the start of a request, and stays there.
    """

    __slots__ = ("_answers", "_in_step", "_request_bytes")

    def __init__(self, answers: RepeatedAnswers, manager: web.Server, **options: object) -> None:
        super().__init__(manager, **options)
        self._answers = answers
        self._in_step = True
        self._request_bytes: bytes | None = None

    def data_received(self, data: bytes) -> None:
        if self._in_step:
            idle = self._waiter is not None and not self._messages
            if idle and self._repeat(data):
                return
            self._in_step = is_single_request(data)
            # With another request under way it is not known whose answer comes next.
            self._request_bytes = data if idle and self._in_step else None
        super().data_received(data)

    def _repeat(self, data: bytes) -> bool:
        answer = self._answers.find(data)
        transport = self.transport
        if answer is None or transport is None or self._force_close or self._close or self.draining:
            return False
        if transport.get_write_buffer_size():
            return False  # a client that does not read its answers gets the slow way, which waits for it
        self.head_complete()
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        transport.write(answer)
        return True

    def wants_answer(self) -> bool:
        """Whether the answer to the present request is worth remembering: it came before, and may come again."""
        request = self._request_bytes
        return (
            request is not None
            and len(request) <= _MAX_REQUEST_BYTES
            and self._answers.has_seen(request)
            and keeps_alive(request)
        )

    def remember(self, answer: Answer) -> None:
        """Give `answer` to whoever sends the bytes of the present request again; only if `wants_answer`."""
        if self._request_bytes is not None:
            self._answers.remember(self._request_bytes, answer)


def is_single_request(data: bytes) -> bool:
    """Whether `data` is one whole request without a body, as far as can be told without parsing it."""
    return data.startswith(_METHODS) and data.endswith(b"\r\n\r\n") and data.find(b"\r\n\r\n") == len(data) - 4


def keeps_alive(request: bytes) -> bool:
    """Whether the connection goes on after `request`, with nothing following its head."""
    lowered = request.lower()
    return (
        lowered.partition(b"\r\n")[0].endswith(b" http/1.1")
        and b"\r\nconnection:" not in lowered
        and b"\r\nexpect:" not in lowered
        and b"\r\nupgrade:" not in lowered
        and b"\r\ncontent-length:" not in lowered
        and b"\r\ntransfer-encoding:" not in lowered
    )
