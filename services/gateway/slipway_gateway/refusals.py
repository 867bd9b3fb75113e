"""What was refused, to whom: gathered in memory, written down every few seconds, bounded however many there are."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from prometheus_client import Counter

from slipway_common.errors import Unavailable
from slipway_common.events.event import Origin
from slipway_gateway.store.audit import Refusal, RefusalStore

_refused = Counter("slipway_refusals", "Requests refused for want of a right, and failed logins", ["action"])
# Distinct refusals kept in a gathering; what goes beyond is counted in one row that says so.
_MAX_GATHERED = 1000
_MAX_CHARS = 255
# actor, address, action, target, reason
_Key = tuple[str, str, str, str, str]


@dataclass(slots=True)
class _Gathered:
    first_at: datetime
    last_at: datetime
    count: int
    request_id: str


class Refusals:
    """A flood of refusals becomes one row with a count for each actor, address, action and target."""

    def __init__(self, store: RefusalStore) -> None:
        self._store = store
        self._gathered: dict[_Key, _Gathered] = {}

    def note(self, origin: Origin, *, action: str, target: str, reason: str) -> None:
        """Remember one refusal until the next `flush`."""
        _refused.labels(action).inc()
        key = (_plain(origin.actor), _plain(origin.address), action, _plain(target), _plain(reason))
        now = datetime.now(UTC)
        self._add(key, _Gathered(now, now, 1, _plain(origin.request_id)))

    def _add(self, key: _Key, one: _Gathered) -> None:
        if key not in self._gathered and len(self._gathered) >= _MAX_GATHERED:
            key = ("(several)", "(several)", key[2], "(several)", "more refusals than are kept one by one")
        known = self._gathered.setdefault(key, one)
        if known is not one:
            known.last_at, known.count = one.last_at, known.count + one.count

    async def flush(self) -> bool:
        """Write down what was gathered; while the database is away it is kept for the next time. Raises Unavailable."""
        gathered, self._gathered = self._gathered, {}
        if not gathered:
            return False
        try:
            await self._store.insert([
                Refusal(0, one.first_at, one.last_at, one.count, *key, one.request_id) for key, one in gathered.items()
            ])  # fmt: skip
        except Unavailable:
            meanwhile, self._gathered = self._gathered, gathered
            for key, one in meanwhile.items():
                self._add(key, one)
            raise
        return False


def _plain(text: str | None) -> str:
    return (text or "").replace("\x00", "").encode("utf-8", "replace").decode()[:_MAX_CHARS]
