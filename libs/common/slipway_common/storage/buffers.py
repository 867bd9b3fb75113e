"""One bounded pool of buffer space for all uploads that must gather a part before they can send it."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field

from slipway_common.errors import Misconfigured


@dataclass(slots=True, eq=False)
class Account:
    """What one upload holds of the pool."""

    shared_bytes: int = 0
    has_lane: bool = False


@dataclass(slots=True, eq=False)
class _Waiter:
    account: Account
    wanted_bytes: int
    granted: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class BufferPool:
    """Grants buffer space in small pieces, first come first served.

    Uploads that each hold a part's half and wait for the other half would wait for ever. So some of the pool is kept
    as *lanes* of a whole part each: when the shared space is used up, the first in the queue gets a lane, with which
    it can fill its part, send it, and give everything back.
    """

    def __init__(self, capacity_bytes: int, part_size_bytes: int) -> None:
        """Raise Misconfigured when the pool has no room for two parts."""
        if capacity_bytes < 2 * part_size_bytes:
            raise Misconfigured(
                "the pool of part buffers must hold two parts",
                pool_bytes=capacity_bytes,
                part_size_bytes=part_size_bytes,
            )
        self._free_lanes = max(1, capacity_bytes // (4 * part_size_bytes))
        self._free_bytes = capacity_bytes - self._free_lanes * part_size_bytes
        self._waiters: deque[_Waiter] = deque()

    async def grant(self, account: Account, wanted_bytes: int) -> None:
        """Wait until the account may use so many bytes more; together never more than a part."""
        if account.has_lane:
            return
        if not self._waiters and self._take_shared(account, wanted_bytes):
            return
        waiter = _Waiter(account, wanted_bytes)
        self._waiters.append(waiter)
        self._serve()
        try:
            await waiter.granted
        except asyncio.CancelledError:
            # What was granted meanwhile is in the account, and goes back with it.
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            raise

    def release(self, account: Account) -> None:
        """Take back all that the account holds."""
        self._free_bytes += account.shared_bytes
        self._free_lanes += account.has_lane
        account.shared_bytes, account.has_lane = 0, False
        self._serve()

    def _take_shared(self, account: Account, wanted_bytes: int) -> bool:
        if self._free_bytes < wanted_bytes:
            return False
        self._free_bytes -= wanted_bytes
        account.shared_bytes += wanted_bytes
        return True

    def _serve(self) -> None:
        while self._waiters:
            waiter = self._waiters[0]
            if not self._take_shared(waiter.account, waiter.wanted_bytes):
                if not self._free_lanes:
                    return
                self._free_lanes -= 1
                waiter.account.has_lane = True
            self._waiters.popleft()
            if not waiter.granted.done():
                waiter.granted.set_result(None)
