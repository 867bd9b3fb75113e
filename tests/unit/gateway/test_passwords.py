"""Passwords that somebody chooses."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from slipway_gateway.passwords import MAX_PASSWORD_BYTES, Passwords, WeakPassword


class Hasher:
    def hash(self, password: str) -> str:
        return f"hash of {password}"


@pytest.fixture
def passwords() -> Iterator[Passwords]:
    made = Passwords()
    made._hasher = Hasher()  # type: ignore[assignment]
    yield made
    made.close()


@pytest.mark.parametrize(
    "password", ["12345678", "        ", "pässwörd", "🚢" * 8, "x" * MAX_PASSWORD_BYTES, "my slipway_pat_"]
)
async def test_eight_characters_of_any_kind_are_enough(passwords: Passwords, password: str) -> None:
    assert await passwords.hash_new(password) == f"hash of {password}"


@pytest.mark.parametrize("password", ["", "1234567", "🚢" * 7, "x" * (MAX_PASSWORD_BYTES + 1), "ä" * 600])
async def test_shorter_ones_and_ones_that_no_login_looks_at_are_refused(passwords: Passwords, password: str) -> None:
    with pytest.raises(WeakPassword):
        await passwords.hash_new(password)


@pytest.mark.parametrize("password", ["slipway_", "slipway_pat_x", "slipway_rocks!"])
async def test_password_that_a_login_would_take_for_an_access_token_is_refused(
    passwords: Passwords, password: str
) -> None:
    with pytest.raises(WeakPassword):
        await passwords.hash_new(password)
