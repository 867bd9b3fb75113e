"""Logins of browsers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from slipway_common.security.signing import InvalidToken
from slipway_gateway.domain.access import Identity
from slipway_gateway.sessions import COOKIE, SECURE_COOKIE, LoginSessions, cookie_of
from slipway_gateway.store.sessions import LoginSession


class Rows:
    """The store of sessions: by hash."""

    def __init__(self) -> None:
        self.rows: dict[bytes, LoginSession] = {}
        self.facts: list[dict[str, Any]] = []
        self.touched = 0

    async def insert(self, hash_: bytes, principal_id: int, **facts: Any) -> None:
        self.rows[hash_] = LoginSession(principal_id, "alice", 3, datetime.now(UTC))
        self.facts.append(facts)

    async def find(self, hash_: bytes, *, idle: timedelta) -> LoginSession | None:
        return self.rows.get(hash_)

    async def touch(self, hash_: bytes) -> None:
        self.touched += 1

    async def delete(self, hash_: bytes) -> None:
        self.rows.pop(hash_, None)


@pytest.fixture
def rows() -> Rows:
    return Rows()


@pytest.fixture
def sessions(rows: Rows) -> LoginSessions:
    return LoginSessions(rows)  # type: ignore[arg-type]


async def open_one(sessions: LoginSessions, user_agent: str = "Firefox") -> str:
    return (await sessions.open(1, address="192.0.2.7", user_agent=user_agent)).value


async def test_session_is_whose_cookie_it_is(sessions: LoginSessions) -> None:
    value = await open_one(sessions)
    assert await sessions.identify(value) == Identity("alice", principal_id=1, credential_version=3)


async def test_cookie_itself_is_kept_nowhere(sessions: LoginSessions, rows: Rows) -> None:
    value = await open_one(sessions)
    assert len(value) >= 43
    assert value.encode() not in b"".join(rows.rows)
    assert value not in str(rows.facts)


async def test_no_two_sessions_are_the_same(sessions: LoginSessions) -> None:
    assert len({await open_one(sessions) for _ in range(100)}) == 100


@pytest.mark.parametrize("value", ["", "x", "\x00", "é", "\udcff", "x" * 10_000])
async def test_cookie_of_no_session_is_refused(sessions: LoginSessions, value: str) -> None:
    await open_one(sessions)
    with pytest.raises(InvalidToken):
        await sessions.identify(value)


async def test_closed_session_is_over(sessions: LoginSessions) -> None:
    value, other = await open_one(sessions), await open_one(sessions)
    await sessions.close(value)
    with pytest.raises(InvalidToken):
        await sessions.identify(value)
    assert (await sessions.identify(other)).name == "alice"


async def test_use_is_noted_now_and_then(sessions: LoginSessions, rows: Rows) -> None:
    value = await open_one(sessions)
    await sessions.identify(value)
    assert rows.touched == 0
    ((hash_, row),) = rows.rows.items()
    rows.rows[hash_] = LoginSession(
        row.principal_id, row.name, row.credential_version, datetime.now(UTC) - timedelta(minutes=6)
    )
    await sessions.identify(value)
    assert rows.touched == 1


@pytest.mark.parametrize("user_agent", [
    "", "Firefox\x00", "x" * 10_000,
    "M\udcffzilla",
])  # fmt: skip
async def test_whatever_a_browser_calls_itself_can_be_kept(
    sessions: LoginSessions, rows: Rows, user_agent: str
) -> None:
    await open_one(sessions, user_agent)
    kept = rows.facts[0]["user_agent"]
    assert "\x00" not in kept
    assert len(kept) <= 200
    kept.encode()


def test_over_https_only_the_cookie_that_nobody_else_can_have_set_counts() -> None:
    both = {COOKIE: "a", SECURE_COOKIE: "b"}
    assert SECURE_COOKIE.startswith("__Host-")
    assert cookie_of(both, secure=True) == "b"
    assert cookie_of({COOKIE: "a"}, secure=True) is None
    assert cookie_of(both, secure=False) == "a"
    assert cookie_of({SECURE_COOKIE: "b"}, secure=False) is None
    assert cookie_of({"other": "a"}, secure=False) is None
