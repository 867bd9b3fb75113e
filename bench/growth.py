"""Do tag lists and catalogues stay flat as they grow? The first page and one in the middle, at growing sizes."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from bench.client import Measurement, load, measured
from bench.plan import Plan
from bench.processes import wait_until_quiet
from bench.rounds import say
from bench.servers import Server, Side, running

_PAGE = 100
# The peer reads a repository's folder of tags, or the whole tree, for each page: beyond this many, filling and
# measuring it takes longer than all the rest, and tells no more.
_PEER_LIMITS = {"tags": 10_000, "catalog": 1_000}


@dataclass(frozen=True, slots=True)
class GrowthRow:
    """Pages of 100 from a list of `size` entries: the median round's figures of one page of it."""

    kind: str
    side: str
    size: int
    page: str
    rate: float
    p50_ms: float
    p99_ms: float


def run_growth(kind: str, sides: Sequence[Side], plan: Plan) -> list[GrowthRow]:
    """Grow a list step by step on each side and measure at each step. `kind` is tags or catalog."""
    rows: list[GrowthRow] = []
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(running(side, plan.work_folder)) for side in sides]
        present = 0
        for size in plan.growth_sizes:
            growing = [server for server in servers if server.side.is_slipway or size <= _PEER_LIMITS[kind]]
            for server in growing:
                _grow(server, kind, present, size)
            present = size
            for page in ("first", "middle"):
                rows += _measure_page(growing, kind, size, page, plan)
    return rows


def _grow(server: Server, kind: str, present: int, size: int) -> None:
    flags = {"kind": "tags"} if kind == "tags" else {"kind": "repositories", "basic": True}
    result = load(server, "seed", repository="bench/growth", first=present, count=size - present, **flags)
    say(f"{server.side.label}: {kind} grown from {present:,} to {size:,} in {result['seconds']:.1f} s")


def _measure_page(servers: Sequence[Server], kind: str, size: int, page: str, plan: Plan) -> list[GrowthRow]:
    taken: dict[str, list[Measurement]] = {server.side.label: [] for server in servers}
    for _ in range(plan.rounds):
        for server in servers:
            wait_until_quiet([each.tree() for each in servers])
            taken[server.side.label].append(
                measured(
                    server,
                    "get",
                    value="rate",
                    path=_path(kind, size, page),
                    scope=_scope(kind),
                    connections=plan.connections,
                    seconds=plan.seconds,
                    warm=plan.warm_s,
                )
            )
    rows = []
    for label, rounds in taken.items():
        figures = [median(values) for values in zip(*((r.value, r.p50_ms, r.p99_ms) for r in rounds), strict=True)]
        rows.append(GrowthRow(kind, label, size, page, *figures))
        say(f"{label:<24} {kind} at {size:>9,}, {page} page: {figures[0]:>10,.1f} /s")
    return rows


def _path(kind: str, size: int, page: str) -> str:
    path = "/v2/bench/growth/tags/list" if kind == "tags" else "/v2/_catalog"
    if page == "first":
        return f"{path}?n={_PAGE}"
    middle = size // 2 - _PAGE // 2
    last = f"tag-{middle:07d}" if kind == "tags" else f"bench/growth/r{middle:07d}"
    return f"{path}?n={_PAGE}&last={last}"


def _scope(kind: str) -> str:
    return "repository:bench/growth:pull" if kind == "tags" else "registry:catalog:*"
