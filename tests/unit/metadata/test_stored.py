from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_common.errors import InvalidInput
from slipway_metadata.domain.stored import Cursor, find_platform

DIGEST = "sha256:" + "a" * 64


@given(st.datetimes(timezones=st.just(UTC)))
def test_cursor_survives_its_text(moment: datetime) -> None:
    assert Cursor.decode(Cursor(moment, DIGEST).encode()) == Cursor(moment, DIGEST)


@given(st.text(max_size=50))
def test_text_that_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        Cursor.decode(text)


def test_cursor_beyond_the_calendar_is_refused() -> None:
    with pytest.raises(InvalidInput):
        Cursor.decode("OTk5OTk5OTk5OTk5OTk5OTk5OTk5L3NoYTI1Njph")


@pytest.mark.parametrize("unnamed", [(None, None), ("", ""), ("unknown", "unknown")])
def test_unnamed_platform_is_none(unnamed: tuple[str | None, str | None]) -> None:
    assert find_platform(*unnamed, None) is None
