"""Slowing down those who guess, and those who ask too often."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv6Address, ip_address, ip_network
from math import ceil

from cachetools import LRUCache
from prometheus_client import Counter

from slipway_common.errors import TooMany
from slipway_gateway.store.throttle import FailureStore

_blocked = Counter("slipway_logins_blocked", "Logins not even checked, because too many had failed")
_limited = Counter("slipway_requests_limited", "Requests refused because their sender sent too many")


@dataclass(frozen=True, slots=True)
class _Limit:
    """So many failures within the window are forgiven; then each next one blocks for twice as long, up to a bound."""

    prefix: str
    forgiven: int


_WINDOW = timedelta(minutes=15)
_FIRST_BLOCK = timedelta(seconds=5)
_LONGEST_BLOCK = timedelta(minutes=15)
# Somebody at one address with one account; an address with any accounts; an account from anywhere. The last is generous: whoever
# knows a name must not be able to lock its owner out for long.
_PAIR, _ADDRESS, _ACCOUNT = _Limit("pair", 10), _Limit("address", 50), _Limit("account", 200)


class LoginThrottle:
    """Counts failed logins in the database, so that it holds on whichever gateway they are tried."""

    def __init__(self, store: FailureStore) -> None:
        self._store = store

    async def check(self, name: str, address: str) -> None:
        """Raise TooMany while the account, the address, or the two together are blocked."""
        until = await self._store.blocked_until(list(_keys(name, address)))
        if until is not None:
            _blocked.inc()
            raise TooMany("too many failed logins: try again later", retry_after_s=_seconds_until(until))

    async def failed(self, name: str, address: str) -> None:
        """Count a wrong password."""
        for key, limit in _keys(name, address).items():
            await self._store.count(
                key, window=_WINDOW, forgiven=limit.forgiven, first_block=_FIRST_BLOCK, longest_block=_LONGEST_BLOCK
            )

    async def succeeded(self, name: str, address: str) -> None:
        """Forget what failed before from this address for this account."""
        await self._store.forget(_key(_PAIR, name, network_of(address)))


def _keys(name: str, address: str) -> dict[str, _Limit]:
    network = network_of(address)
    return {
        _key(_PAIR, name, network): _PAIR,
        _key(_ADDRESS, network): _ADDRESS,
        _key(_ACCOUNT, name): _ACCOUNT,
    }


def _key(limit: _Limit, *parts: str) -> str:
    return ":".join((limit.prefix, *(part.replace("\x00", "")[:128] for part in parts)))


def network_of(address: str) -> str:
    """What counts as one sender: an IPv4 address, or the /64 that an IPv6 subscriber has."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ip_network((parsed, 64), strict=False).network_address)
    return address


def _seconds_until(moment: datetime) -> int:
    return max(1, ceil((moment - datetime.now(moment.tzinfo)).total_seconds()))


class RequestRates:
    """How often each sender may ask, in this process: a bucket of tokens that fills at the rate and holds a burst."""

    def __init__(self, *, per_second: float, burst_s: float = 10.0) -> None:
        self._rate = per_second
        self._burst = max(1.0, per_second * burst_s)
        self._buckets: LRUCache[str, list[float]] = LRUCache(50_000)

    @property
    def limited(self) -> bool:
        return self._rate > 0

    def take(self, name: str | None, address: str) -> None:
        """Count a request of somebody who is logged in, or else of an address. Raises TooMany."""
        if not self.limited:
            return
        sender = f"account {name}" if name is not None else f"address {network_of(address)}"
        now = time.monotonic()
        bucket = self._buckets.get(sender)
        if bucket is None:
            self._buckets[sender] = [self._burst - 1.0, now]
            return
        level = min(self._burst, bucket[0] + (now - bucket[1]) * self._rate)
        bucket[1] = now
        if level < 1.0:
            bucket[0] = level
            _limited.inc()
            raise TooMany("too many requests: slow down", retry_after_s=ceil((1.0 - level) / self._rate))
        bucket[0] = level - 1.0
