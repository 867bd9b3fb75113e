"""What was done and what was refused, as one list, for those who ask later."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import asyncpg

from slipway_common.errors import InvalidInput
from slipway_common.events.event import Event
from slipway_common.events.log import EventLog, Place
from slipway_gateway.store.audit import Refusal, RefusalStore

_REFUSAL = "refusal"
_EXPORT_PAGE = 500


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """A change, or refusals of one kind within a few seconds. `place` continues a list behind it."""

    place: str
    at: datetime
    outcome: str
    actor: str | None
    address: str | None
    action: str
    target: str | None
    request_id: str | None
    count: int
    details: dict[str, Any]


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which entries are wanted. A repository is given by `stream` for its changes, and `target` for what was refused there."""

    actor: str | None = None
    stream: str | None = None
    target: str | None = None
    outcome: str | None = None
    since: datetime | None = None
    until: datetime | None = None


class Audit:
    def __init__(self, log: EventLog, pool: asyncpg.Pool, refusals: RefusalStore) -> None:
        self._log = log
        self._pool = pool
        self._refusals = refusals

    async def page(self, wanted: AuditFilter, *, last: str, limit: int) -> list[AuditEntry]:
        """Entries, the newest first; `last` is the place of the last one of the page before."""
        before = _read_place(last) if last else None
        found = []
        if wanted.outcome != "refused":
            found += await self._changes(wanted, before, limit)
        if wanted.outcome != "changed" and not (wanted.stream and wanted.target is None):
            found += await self._refused(wanted, before, limit)
        return sorted(found, key=lambda entry: _read_place(entry.place), reverse=True)[:limit]

    async def export(self, wanted: AuditFilter) -> AsyncIterator[AuditEntry]:
        """All entries, page by page."""
        last = ""
        while page := await self.page(wanted, last=last, limit=_EXPORT_PAGE):
            for entry in page:
                yield entry
            last = page[-1].place

    async def _changes(self, wanted: AuditFilter, before: Place | None, limit: int) -> list[AuditEntry]:
        events = await self._log.search(
            self._pool, actor=wanted.actor, stream=wanted.stream, since=wanted.since, until=wanted.until,
            before=before, limit=limit,
        )  # fmt: skip
        return [_of_event(event) for event in events]

    async def _refused(self, wanted: AuditFilter, before: Place | None, limit: int) -> list[AuditEntry]:
        # Refusals stand among the events of the same moment as if they were a stream; by its name it is known on which side.
        at = None
        if before is not None:
            number = before.seq if before.stream == _REFUSAL else 0 if before.stream < _REFUSAL else 2**62
            at = (before.time, number)
        found = await self._refusals.search(
            actor=wanted.actor, target=wanted.target, since=wanted.since, until=wanted.until, before=at, limit=limit
        )
        return [_of_refusal(refusal) for refusal in found]


def _read_place(text: str) -> Place:
    try:
        at, stream, number = text.split(",")
        place = Place(datetime.fromisoformat(at).astimezone(UTC), stream, int(number))
    except (ValueError, OverflowError) as exc:
        raise InvalidInput("last must be the `next` of the page before") from exc
    if not 0 <= place.seq < 2**63:
        raise InvalidInput("last must be the `next` of the page before")
    return place


def _place(at: datetime, stream: str, seq: int) -> str:
    return f"{at.isoformat()},{stream},{seq}"


def _of_event(event: Event) -> AuditEntry:
    return AuditEntry(
        place=_place(event.time, event.stream, event.seq),
        at=event.time,
        outcome="changed",
        actor=event.actor,
        address=event.address,
        action=event.type,
        target=event.subject,
        request_id=event.request_id,
        count=1,
        details=event.data,
    )


def _of_refusal(refusal: Refusal) -> AuditEntry:
    return AuditEntry(
        place=_place(refusal.last_at, _REFUSAL, refusal.id),
        at=refusal.last_at,
        outcome="refused",
        actor=refusal.actor,
        address=refusal.address,
        action=refusal.action,
        target=refusal.target,
        request_id=refusal.request_id,
        count=refusal.count,
        details={"reason": refusal.reason, "first_at": refusal.first_at.isoformat()},
    )
