"""`slipway audit`: who changed what, and what was refused to whom."""

from __future__ import annotations

import re
import sys
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, Literal

import typer

from slipway_common.client.api import Api, Document, Parameters, repository_path
from slipway_common.client.calls import call
from slipway_common.client.exits import ApiError
from slipway_common.client.output import Columns, print_rows
from slipway_common.errors import InvalidInput
from slipway_gateway.commands.options import parse_subject

# An event's type, of which people need the middle only.
_EVENT = re.compile(r"slipway\.(.+)\.v[0-9]+")
COLUMNS: Final[Columns] = {
    "time": "at",
    "outcome": "outcome",
    "who": "actor",
    "what": lambda entry: _EVENT.sub(r"\1", entry["action"]),
    "where": "target",
    "from": "address",
    "times": lambda entry: entry["count"] if entry["count"] > 1 else None,
    "reason": lambda entry: entry["details"].get("reason"),
}
_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_AGO = re.compile(r"([0-9]{1,6})([mhdw])")


def audit(
    principal: Annotated[str | None, typer.Option("--principal", help="Only what this user or robot did.")] = None,
    repository: Annotated[
        str | None, typer.Option("--repository", help="Only in this repository; its administrators may ask, too.")
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", help="From then: 2026-01-31, 2026-01-31T14:00, or 2h, 7d ago.")
    ] = None,
    until: Annotated[str | None, typer.Option("--until", help="Until then.")] = None,
    outcome: Annotated[Literal["changed", "refused"] | None, typer.Option("--outcome", help="Only those.")] = None,
    limit: Annotated[
        int, typer.Option("--limit", min=1, help="Lines of the table, the newest; --json has no limit.")
    ] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as JSON lines.")] = False,
) -> None:
    """Show who changed what, and what was refused to whom.

    Example: slipway audit --since 7d --outcome refused
    """
    now = datetime.now().astimezone()
    query: Parameters = {
        "principal": parse_subject(principal).partition(":")[2] if principal else None,
        "since": _parse_time(since, now),
        "until": _parse_time(until, now),
        "outcome": outcome,
    }
    if as_json:
        call(lambda api: _export(api, repository, query))
        return
    print_rows(call(lambda api: _newest(api, repository, query, limit)), COLUMNS, as_json=False)


def _parse_time(text: str | None, now: datetime) -> str | None:
    """A time as people write it, in UTC; without a zone it is of this machine's. Raises InvalidInput."""
    if text is None:
        return None
    ago = _AGO.fullmatch(text)
    try:
        moment = now - timedelta(**{_UNITS[ago[2]]: int(ago[1])}) if ago else datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError) as exc:
        raise InvalidInput(f"{text!r}: write 2026-01-31, 2026-01-31T14:00, or how long ago: 30m, 2h, 7d") from exc
    return moment.astimezone(UTC).isoformat()


async def _newest(api: Api, repository: str | None, query: Parameters, limit: int) -> list[Document]:
    rows: list[Document] = []
    async for row in api.pages(*await _where(api, repository, query)):
        rows.append(row)
        if len(rows) == limit:
            break
    return rows


async def _export(api: Api, repository: str | None, query: Parameters) -> None:
    async for piece in api.export(*await _where(api, repository, query)):
        sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()


async def _where(api: Api, repository: str | None, query: Parameters) -> tuple[str, Parameters]:
    """The list to read: a repository's own, which its administrators may see; the registry's also tells of deleted ones."""
    if repository is None:
        return "/audit", query
    path = repository_path(repository, "audit")
    try:
        await api.get(path, {"n": 1})
    except ApiError as exc:
        if exc.status != 404:
            raise
        return "/audit", {**query, "repository": repository}
    return path, query
