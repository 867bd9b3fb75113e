"""What was refused: gathered, bounded, written down once."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_common.errors import Unavailable
from slipway_common.events.event import Origin
from slipway_gateway.refusals import Refusals
from slipway_gateway.store.audit import Refusal

EVE = Origin("eve", "request-1", "192.0.2.7")


class Rows:
    """The store of refusals."""

    def __init__(self) -> None:
        self.rows: list[Refusal] = []
        self.inserts = 0
        self.away = False

    async def insert(self, refusals: Sequence[Refusal]) -> None:
        if self.away:
            raise Unavailable("the database is not reachable")
        self.inserts += 1
        self.rows.extend(refusals)


def make() -> tuple[Rows, Refusals]:
    rows = Rows()
    return rows, Refusals(rows)  # type: ignore[arg-type]


def note(refusals: Refusals, number: int = 0, *, action: str = "push", origin: Origin = EVE) -> None:
    refusals.note(origin, action=action, target=f"acme/app{number}", reason="denied")


async def test_refusals_of_one_kind_are_one_row_with_their_number() -> None:
    rows, refusals = make()
    for _ in range(5):
        note(refusals)
    await refusals.flush()
    (row,) = rows.rows
    assert (row.actor, row.address, row.action, row.target, row.reason) == (
        "eve", "192.0.2.7", "push", "acme/app0", "denied",
    )  # fmt: skip
    assert (row.count, row.request_id) == (5, "request-1")
    assert row.first_at <= row.last_at
    assert row.first_at.tzinfo is not None


async def test_refusals_of_different_kinds_are_kept_apart() -> None:
    rows, refusals = make()
    note(refusals)
    note(refusals, 1)
    note(refusals, action="pull")
    note(refusals, origin=Origin("bob", "r", "192.0.2.7"))
    note(refusals, origin=Origin("eve", "r", "192.0.2.8"))
    refusals.note(EVE, action="push", target="acme/app0", reason="another one")
    await refusals.flush()
    assert [row.count for row in rows.rows] == [1] * 6


async def test_what_was_written_is_not_written_again() -> None:
    rows, refusals = make()
    note(refusals)
    assert await refusals.flush() is False
    assert await refusals.flush() is False
    note(refusals)
    await refusals.flush()
    assert [row.count for row in rows.rows] == [1, 1]
    assert rows.inserts == 2


async def test_nothing_refused_is_nothing_written() -> None:
    rows, refusals = make()
    await refusals.flush()
    assert rows.inserts == 0


async def test_flood_becomes_a_bounded_number_of_rows_and_none_is_lost() -> None:
    rows, refusals = make()
    for number in range(5000):
        note(refusals, number)
        note(refusals, number, action="pull")
    await refusals.flush()
    assert len(rows.rows) == 1000 + 2
    assert sum(row.count for row in rows.rows) == 10_000
    several = [row for row in rows.rows if row.target == "(several)"]
    assert {row.action: row.count for row in several} == {"push": 4500, "pull": 4500}


async def test_what_is_known_already_is_counted_in_a_flood_too() -> None:
    rows, refusals = make()
    for number in range(2000):
        note(refusals, number)
    note(refusals, 3)
    await refusals.flush()
    assert {row.target: row.count for row in rows.rows}["acme/app3"] == 2


async def test_next_gathering_begins_empty() -> None:
    rows, refusals = make()
    for number in range(2000):
        note(refusals, number)
    await refusals.flush()
    rows.rows.clear()
    note(refusals, 1999)
    await refusals.flush()
    assert [row.target for row in rows.rows] == ["acme/app1999"]


async def test_refusals_outlive_an_outage_of_the_database() -> None:
    rows, refusals = make()
    note(refusals)
    rows.away = True
    for _ in range(3):
        with pytest.raises(Unavailable):
            await refusals.flush()
        note(refusals)
    note(refusals, 1)
    rows.away = False
    await refusals.flush()
    assert {row.target: row.count for row in rows.rows} == {"acme/app0": 4, "acme/app1": 1}


async def test_outage_keeps_no_more_than_one_gathering_and_counts_the_rest() -> None:
    rows, refusals = make()
    rows.away = True
    for part in range(5):
        for number in range(700):
            note(refusals, part * 700 + number)
        with pytest.raises(Unavailable):
            await refusals.flush()
    rows.away = False
    await refusals.flush()
    assert len(rows.rows) == 1000 + 1
    assert sum(row.count for row in rows.rows) == 3500


async def test_what_is_refused_while_others_are_written_is_not_lost() -> None:
    rows, refusals = make()
    insert = rows.insert

    async def insert_slowly(batch: Sequence[Refusal]) -> None:
        note(refusals)
        await insert(batch)

    rows.insert = insert_slowly  # type: ignore[method-assign]
    note(refusals)
    rows.away = True
    with pytest.raises(Unavailable):
        await refusals.flush()
    rows.away, rows.insert = False, insert  # type: ignore[method-assign]
    await refusals.flush()
    assert [row.count for row in rows.rows] == [2]


@pytest.mark.parametrize("text", ["a\x00b", "\ud800", "x\udfff", "\x00", "é🚢", "x" * 10_000, "\ud83d" * 300])
async def test_whatever_is_refused_can_be_written_down(text: str) -> None:
    rows, refusals = make()
    refusals.note(Origin(text, text, text), action="login", target=text, reason=text)
    await refusals.flush()
    (row,) = rows.rows
    for value in (row.actor, row.address, row.target, row.reason, row.request_id):
        assert "\x00" not in value
        assert len(value) <= 255
        value.encode()


@given(st.text(st.characters(exclude_categories=[]), max_size=300))
def test_no_text_is_beyond_it(text: str) -> None:
    _, refusals = make()
    refusals.note(Origin(text, text, text), action="login", target=text, reason=text)
    for key in refusals._gathered:
        for part in key:
            part.encode()
            assert "\x00" not in part
            assert len(part) <= 255


async def test_what_is_not_known_is_left_empty() -> None:
    rows, refusals = make()
    refusals.note(Origin(None, None, None), action="login", target="", reason="")
    await refusals.flush()
    (row,) = rows.rows
    assert (row.actor, row.address, row.target, row.reason, row.request_id) == ("",) * 5
