"""Patterns of names mean the same in PostgreSQL, where grants are compared, as in Python, where bounds are."""

from __future__ import annotations

import time

import asyncpg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slipway_gateway.domain.patterns import parse_pattern

PAIRS = 5000
# Few letters, so that patterns and names meet; and every character that a name or pattern can have.
components = st.from_regex(r"[ab]{1,3}(?:(?:\.|_|__|-{1,2})[ab0]{1,2}){0,2}", fullmatch=True)
names = st.lists(components, min_size=1, max_size=4).map("/".join)
other_texts = st.text(alphabet="ab0._-/", max_size=12)
pieces = st.sampled_from(["a", "b", "ab", "0", ".", "_", "-", "--", "/", "a/", "/b", "*", "**", "acme/", "z9"])
patterns = (
    st.lists(pieces, min_size=1, max_size=9)
    .map("".join)
    .filter(lambda text: "***" not in text and text[0] != "/" and text[-1] != "/" and text.count("*") <= 8)
)


@st.composite
def pairs_that_may_meet(draw: st.DrawFn) -> tuple[str, str]:
    """A name and a pattern made of it, by putting stars in place of some of its parts."""
    name = draw(names)
    first, last = sorted((draw(st.integers(0, len(name))), draw(st.integers(0, len(name)))))
    pattern = name[:first] + draw(st.sampled_from(["*", "**"])) + name[last:]
    if draw(st.booleans()):
        pattern = pattern.replace(draw(st.sampled_from("ab./-_")), draw(st.sampled_from(["a", ".", "-", "b"])), 1)
    usable = pattern[0] != "/" and pattern[-1] != "/"
    return (pattern, name) if usable else ("**", name)


def made_pairs() -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []

    @settings(max_examples=PAIRS, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(pairs_that_may_meet() | st.tuples(patterns, names | other_texts))
    def collect(pair: tuple[str, str]) -> None:
        found.append(pair)

    collect()
    return list(dict.fromkeys(found))


async def test_postgres_and_python_agree_on_every_name(database_url: str) -> None:
    pairs = made_pairs()
    parsed = [parse_pattern(pattern) for pattern, _ in pairs]
    connection = await asyncpg.connect(database_url)
    try:
        rows = await connection.fetch(
            'SELECT name ~ (regex COLLATE "C") AS matches, starts_with(name, prefix) AS begins '
            "FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS t (name, regex, prefix, n) ORDER BY n",
            [name for _, name in pairs],
            [pattern.regex for pattern in parsed],
            [pattern.prefix for pattern in parsed],
        )
    finally:
        await connection.close()
    in_python = [pattern.matches(name) for pattern, (_, name) in zip(parsed, pairs, strict=True)]
    differing = [pair for pair, row, mine in zip(pairs, rows, in_python, strict=True) if row["matches"] != mine]
    assert differing == []
    assert all(row["begins"] for row in rows if row["matches"])
    assert len(pairs) > PAIRS // 2
    assert sum(in_python) > len(pairs) // 10, "enough of them meet"
    assert sum(in_python) < len(pairs) - len(pairs) // 10, "and enough do not"


async def test_no_pattern_makes_postgres_slow(database_url: str) -> None:
    """Grants are compared within the transaction of each request."""
    name = "a" * 255
    connection = await asyncpg.connect(database_url)
    try:
        for text in ("**a" * 8 + "b", "*a" * 8 + "b", "**a*a**a*a**a*a**b", "a**" * 8 + "b"):
            started = time.perf_counter()
            assert not await connection.fetchval("SELECT $1::text ~ $2", name, parse_pattern(text).regex, timeout=20)
            assert time.perf_counter() - started < 1, text
    finally:
        await connection.close()
