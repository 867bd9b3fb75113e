"""Those who guess passwords wait longer each time; those who ask too often are told when to come again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_common.errors import TooMany
from slipway_gateway.throttle import LoginThrottle, RequestRates, _seconds_until, network_of

# Who counts as one sender.


@pytest.mark.parametrize(("address", "network"), [
    ("192.0.2.7", "192.0.2.7"),
    ("::ffff:192.0.2.7", "192.0.2.7"),
    ("::FFFF:C000:207", "192.0.2.7"),
    ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
    ("2001:db8:1:2::", "2001:db8:1:2::"),
    ("2001:0DB8:0001:0002:ffff:ffff:ffff:ffff", "2001:db8:1:2::"),
    ("2001:db8:1:3::1", "2001:db8:1:3::"),
    ("::1", "::"),
    ("fe80::1%eth0", "fe80::"),
    ("", ""),
    ("not an address", "not an address"),
    ("192.0.2.7:80", "192.0.2.7:80"),
])  # fmt: skip
def test_one_sender_is_an_ipv4_address_or_an_ipv6_subscriber(address: str, network: str) -> None:
    assert network_of(address) == network


@given(st.ip_addresses(v=6))
def test_all_64_bits_that_a_subscriber_chooses_are_one_sender(address: object) -> None:
    network = network_of(str(address))
    assert network_of(network) == network


@given(st.ip_addresses(v=4))
def test_ipv4_is_one_sender_over_either_kind_of_socket(address: object) -> None:
    assert network_of(f"::ffff:{address}") == network_of(str(address)) == str(address)


@given(st.text())
def test_whatever_the_address_there_is_a_sender(text: str) -> None:
    assert isinstance(network_of(text), str)


# Requests.


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("slipway_gateway.throttle.time.monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def taken(rates: RequestRates, sender: str, *, at_most: int = 10_000) -> int:
    """How many requests are let through one after the other, until one is not."""
    for number in range(at_most):
        try:
            rates.take(sender, "192.0.2.1")
        except TooMany:
            return number
    return at_most


def test_without_a_rate_nothing_is_counted(clock: Clock) -> None:
    rates = RequestRates(per_second=0)
    assert not rates.limited
    assert taken(rates, "alice", at_most=5000) == 5000


def test_burst_of_ten_seconds_worth_is_let_through_at_once(clock: Clock) -> None:
    rates = RequestRates(per_second=5)
    assert rates.limited
    assert taken(rates, "alice") == 50
    clock.now += 1
    assert taken(rates, "alice") == 5
    clock.now += 0.1
    assert taken(rates, "alice") == 0
    clock.now += 0.1
    assert taken(rates, "alice") == 1


def test_rest_fills_a_bucket_no_further_than_its_burst(clock: Clock) -> None:
    rates = RequestRates(per_second=5)
    taken(rates, "alice")
    clock.now += 100_000
    assert taken(rates, "alice") == 50


def test_senders_do_not_take_from_each_other(clock: Clock) -> None:
    rates = RequestRates(per_second=1)
    assert taken(rates, "alice") == 10
    assert taken(rates, "192.0.2.7") == 10
    assert taken(rates, "alice") == 0


def test_refused_requests_cost_nothing(clock: Clock) -> None:
    """Whoever keeps asking is let through as often as whoever waits."""
    rates = RequestRates(per_second=1)
    taken(rates, "alice")
    let_through = 0
    for _ in range(100):
        clock.now += 0.125
        let_through += taken(rates, "alice")
    assert let_through == 12


def test_rate_below_one_still_lets_one_through(clock: Clock) -> None:
    rates = RequestRates(per_second=0.01)
    assert taken(rates, "alice") == 1
    clock.now += 99
    assert taken(rates, "alice") == 0
    clock.now += 1.001
    assert taken(rates, "alice") == 1


@given(rate=st.floats(0.01, 1000), pauses=st.lists(st.floats(0, 3), max_size=5))
def test_who_waits_as_long_as_told_is_let_through(rate: float, pauses: list[float]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        clock, rates = Clock(patch), RequestRates(per_second=rate)
        for pause in pauses:
            taken(rates, "alice")
            clock.now += pause
        taken(rates, "alice", at_most=20_000)
        with pytest.raises(TooMany) as refused:
            rates.take("alice", "192.0.2.1")
        assert refused.value.retry_after_s >= 1
        clock.now += refused.value.retry_after_s + 1e-6
        rates.take("alice", "192.0.2.1")


def test_senders_beyond_what_is_kept_are_forgotten_not_added(clock: Clock) -> None:
    rates = RequestRates(per_second=1)
    for number in range(60_000):
        rates.take(str(number), "192.0.2.1")
    assert len(rates._buckets) == 50_000


# Logins.


@dataclass
class Failures:
    """The store of counts, as sql/throttle.sql describes it, by a clock of its own."""

    now: float = 0.0
    failures: dict[str, int] = field(default_factory=dict)
    since: dict[str, float] = field(default_factory=dict)
    blocked: dict[str, float] = field(default_factory=dict)

    async def blocked_until(self, keys: list[str]) -> datetime | None:
        assert all(len(key.encode()) <= 1000 and "\x00" not in key for key in keys)
        ends = [self.blocked[key] for key in keys if self.blocked.get(key, 0) > self.now]
        return datetime.now(UTC) + timedelta(seconds=max(ends) - self.now) if ends else None

    async def count(
        self, key: str, *, window: timedelta, forgiven: int, first_block: timedelta, longest_block: timedelta
    ) -> None:
        if self.since.get(key, float("-inf")) < self.now - window.total_seconds():
            self.failures[key], self.since[key] = 0, self.now
        self.failures[key] += 1
        beyond = self.failures[key] - forgiven
        if beyond >= 0:
            self.blocked[key] = self.now + min(longest_block, first_block * 2 ** min(beyond, 12)).total_seconds()

    async def forget(self, key: str) -> None:
        for table in (self.failures, self.since, self.blocked):
            table.pop(key, None)


async def guess(throttle: LoginThrottle, name: str, address: str) -> int:
    """Try a wrong password; how many seconds to wait if it is not even looked at, else 0."""
    try:
        await throttle.check(name, address)
    except TooMany as refused:
        return refused.retry_after_s
    await throttle.failed(name, address)
    return 0


async def guesses_until_blocked(throttle: LoginThrottle, of: Callable[[int], tuple[str, str]]) -> int:
    for number in range(1000):
        if await guess(throttle, *of(number)):
            return number
    return 1000


async def test_few_mistakes_are_forgiven_and_then_each_waits_twice_as_long() -> None:
    store = Failures()
    throttle = LoginThrottle(store)  # type: ignore[arg-type]
    assert await guesses_until_blocked(throttle, lambda _: ("alice", "192.0.2.7")) == 10
    waits = []
    for _ in range(5):
        waits.append(await guess(throttle, "alice", "192.0.2.7"))
        store.now += waits[-1]
        assert await guess(throttle, "alice", "192.0.2.7") == 0
    assert waits == [5, 10, 20, 40, 80]


async def test_no_block_is_longer_than_a_quarter_of_an_hour() -> None:
    store = Failures()
    throttle = LoginThrottle(store)  # type: ignore[arg-type]
    for _ in range(100):
        store.now += await guess(throttle, "alice", "192.0.2.7")
        assert await guess(throttle, "alice", "192.0.2.7") <= 900


async def test_address_that_tries_many_names_is_blocked_for_all_of_them() -> None:
    throttle = LoginThrottle(Failures())  # type: ignore[arg-type]
    assert await guesses_until_blocked(throttle, lambda number: (f"user{number}", "192.0.2.7")) == 50
    with pytest.raises(TooMany):
        await throttle.check("somebody-else", "192.0.2.7")
    await throttle.check("somebody-else", "192.0.2.8")


async def test_account_that_many_addresses_try_is_blocked_in_the_end() -> None:
    throttle = LoginThrottle(Failures())  # type: ignore[arg-type]
    assert await guesses_until_blocked(throttle, lambda number: ("alice", f"192.0.2.{number}")) == 200
    with pytest.raises(TooMany):
        await throttle.check("alice", "198.51.100.1")
    await throttle.check("bob", "198.51.100.1")


async def test_stranger_does_not_lock_the_owner_out_from_one_place() -> None:
    store = Failures()
    throttle = LoginThrottle(store)  # type: ignore[arg-type]
    for _ in range(49):
        store.now += await guess(throttle, "alice", "192.0.2.7")
    await throttle.check("alice", "198.51.100.1")


async def test_addresses_of_one_ipv6_subscriber_are_one() -> None:
    throttle = LoginThrottle(Failures())  # type: ignore[arg-type]
    assert await guesses_until_blocked(throttle, lambda number: ("alice", f"2001:db8::{number:x}")) == 10
    await throttle.check("alice", "2001:db8:0:1::1")


async def test_right_password_forgets_the_mistakes_of_that_account_from_that_address() -> None:
    throttle = LoginThrottle(Failures())  # type: ignore[arg-type]
    for _ in range(9):
        await guess(throttle, "alice", "::ffff:192.0.2.7")
    await throttle.succeeded("alice", "192.0.2.7")
    assert await guesses_until_blocked(throttle, lambda _: ("alice", "192.0.2.7")) == 10


async def test_right_password_to_ones_own_account_does_not_clear_the_address() -> None:
    """Else somebody with an account could guess at those of others for ever."""
    throttle = LoginThrottle(Failures())  # type: ignore[arg-type]
    for number in range(50):
        await guess(throttle, f"user{number}", "192.0.2.7")
        await throttle.succeeded("mallory", "192.0.2.7")
    with pytest.raises(TooMany):
        await throttle.check("alice", "192.0.2.7")


@given(st.text(max_size=300), st.text(max_size=60))
def test_keys_of_any_name_are_short_and_can_be_kept(name: str, address: str) -> None:
    store = Failures()
    throttle = LoginThrottle(store)  # type: ignore[arg-type]
    asyncio.run(throttle.check(name, address))
    asyncio.run(throttle.failed(name, address))
    assert len(store.failures) == 3
    for key in store.failures:
        key.encode()


def test_wait_is_told_in_whole_seconds_and_never_too_short() -> None:
    now = datetime.now(UTC)
    assert _seconds_until(now - timedelta(seconds=5)) == 1
    assert _seconds_until(now + timedelta(seconds=4.4)) == 5
    assert _seconds_until(now + timedelta(seconds=900)) == 900


def test_somebody_who_is_named_like_an_address_has_a_bucket_of_their_own() -> None:
    rates = RequestRates(per_second=0.1)
    rates.take("192.0.2.1", "198.51.100.7")
    rates.take(None, "192.0.2.1")
    rates.take(None, "198.51.100.7")
