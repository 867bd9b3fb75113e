"""Tokens between services: for one of them, for half a minute, for no more than they say."""

from __future__ import annotations

import time
from typing import Any

import asyncpg
import pytest

from slipway_common.security.master_key import SecretBox
from slipway_common.security.service_tokens import LIFE_S, ServiceClaims, ServiceTokens
from slipway_common.security.signing import InvalidToken, KeyRing


class Clock:
    def __init__(self) -> None:
        self.ahead_s = 0.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Moves the time that tokens see."""
    made, wall, monotonic = Clock(), time.time, time.monotonic
    monkeypatch.setattr(time, "time", lambda: wall() + made.ahead_s)
    monkeypatch.setattr(time, "monotonic", lambda: monotonic() + made.ahead_s)
    return made


@pytest.fixture
async def tokens(pool: asyncpg.Pool, box: SecretBox) -> ServiceTokens:
    made = ServiceTokens(pool, box)
    await made.load()
    return made


CLAIMS = ServiceClaims(sub="alice", repository_id=7, repository="acme/hello", action="pull", request_id="r")


async def test_service_learns_who_asks_for_what(tokens: ServiceTokens) -> None:
    token = await tokens.issue("metadata", CLAIMS)
    assert await tokens.verify(token, audience="metadata") == CLAIMS


async def test_token_for_one_service_is_none_for_another(tokens: ServiceTokens) -> None:
    token = await tokens.issue("metadata", CLAIMS)
    await tokens.verify(token, audience="metadata")
    with pytest.raises(InvalidToken):
        await tokens.verify(token, audience="gateway")


async def test_token_ends_although_it_is_remembered(tokens: ServiceTokens, clock: Clock) -> None:
    token = await tokens.issue("metadata", CLAIMS)
    await tokens.verify(token, audience="metadata")
    clock.ahead_s = LIFE_S - 1
    await tokens.verify(token, audience="metadata")
    clock.ahead_s = LIFE_S + 6
    with pytest.raises(InvalidToken):
        await tokens.verify(token, audience="metadata")


async def test_own_token_is_used_for_half_of_its_life(tokens: ServiceTokens, clock: Clock) -> None:
    first = await tokens.issue_own("gateway", "metadata")
    clock.ahead_s = LIFE_S / 2 - 1
    assert await tokens.issue_own("gateway", "metadata") == first
    clock.ahead_s = LIFE_S / 2 + 1
    second = await tokens.issue_own("gateway", "metadata")
    assert second != first
    assert (await tokens.verify(second, audience="gateway")).service == "metadata"


async def test_own_token_is_made_for_each_audience(tokens: ServiceTokens) -> None:
    assert await tokens.issue_own("gateway", "a") != await tokens.issue_own("metadata", "a")
    assert await tokens.issue_own("gateway", "a") != await tokens.issue_own("gateway", "b")


async def test_token_of_the_registry_opens_no_service(
    tokens: ServiceTokens, pool: asyncpg.Pool, box: SecretBox
) -> None:
    registry = KeyRing(pool, box, purpose="registry", token_type="slipway-internal+jwt")
    token = await registry.sign({"iss": "slipway", "aud": "metadata", "sub": "alice"}, life_s=30)
    tokens._ring._loaded_at = 0.0
    with pytest.raises(InvalidToken):
        await tokens.verify(token, audience="metadata")


@pytest.mark.parametrize("changes", [
    {"iss": "other"}, {"sub": None}, {"sub": 1}, {"repository_id": "seven"}, {"repository_id": 1.5}, {"action": ["pull"]},
    {"service": {}},
])  # fmt: skip
async def test_claims_of_another_form_are_refused(tokens: ServiceTokens, changes: dict[str, Any]) -> None:
    body = {"iss": "slipway", "aud": "metadata", "sub": "alice", **changes}
    token = await tokens._ring.sign({name: value for name, value in body.items() if value is not None}, life_s=30)
    with pytest.raises(InvalidToken):
        await tokens.verify(token, audience="metadata")


async def test_claim_that_is_not_made_is_none(tokens: ServiceTokens) -> None:
    found = await tokens.verify(await tokens.issue("metadata", ServiceClaims(sub="alice")), audience="metadata")
    assert (found.repository_id, found.action, found.service) == (None, None, None)
