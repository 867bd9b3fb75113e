"""The judge itself: a checker that finds nothing wrong in a wrong history proves nothing."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fault.load import Outcome, Push
from tests.fault.verdict import IMAGE_PUSHED, Verdict, _check_events


def push(tag: str, *, sent_at: float, outcome: Outcome = "ok") -> Push:
    return Push("acme/app", tag, f"sha256:{tag}", {}, b"{}", sent_at, sent_at + 1, outcome)


def event(seq: int, tag: str) -> dict[str, Any]:
    return {"seq": seq, "type": IMAGE_PUSHED, "data": {"tags": [tag], "digest": f"sha256:{tag}"}}


PUSHES = [push("a", sent_at=0), push("b", sent_at=10), push("c", sent_at=20, outcome="unknown")]


@pytest.mark.parametrize(
    "events",
    [
        [event(1, "a"), event(2, "b")],
        [event(1, "a"), event(2, "b"), event(3, "c")],
        [event(1, "a"), {"seq": 2, "type": "slipway.tag.deleted.v1", "data": {}}, event(3, "b")],
    ],
)
def test_right_history_is_accepted(events: list[dict[str, Any]]) -> None:
    verdict = Verdict()
    _check_events(verdict, "acme/app", PUSHES, events)
    assert verdict.violations() == []


@pytest.mark.parametrize(
    ("events", "complaint"),
    [
        ([event(1, "a")], "acme/app:b (ok) has 0 events"),
        ([event(1, "a"), event(2, "b"), event(3, "b")], "acme/app:b (ok) has 2 events"),
        ([event(1, "a"), event(3, "b")], "seq is not 1..2"),
        ([event(1, "b"), event(2, "a")], "acme/app:a is out of order at seq 2"),
        ([event(1, "a"), event(2, "b"), event(3, "x")], "which nobody pushed"),
    ],
)
def test_wrong_history_is_found(events: list[dict[str, Any]], complaint: str) -> None:
    verdict = Verdict()
    _check_events(verdict, "acme/app", PUSHES, events)
    assert any(complaint in violation for violation in verdict.violations())
