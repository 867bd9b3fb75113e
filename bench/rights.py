"""Do decisions and lists stay flat as an installation grows? The same user asks, while ever more others have rights."""

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from bench.client import Measurement, measured
from bench.installations import ASKING, NOWHERE, ON_NAMESPACE, ON_PATTERN, ON_REPOSITORY, TO_TEAM, seed
from bench.plan import Installation, Plan
from bench.processes import wait_until_quiet
from bench.rounds import say
from bench.servers import Server, Side, running
from slipway_common.launcher.parts import embedded_dsn

_PAGE = 100
# There are many figures, and each is only compared with that of another size.
_MOST_ROUNDS, _LONGEST_S = 3, 2.0


@dataclass(frozen=True, slots=True)
class RightsRow:
    """One request at one size of the installation: the median round's figures. `cache` is Slipway's setting."""

    side: str
    request: str
    cache: str
    repositories: int
    users: int
    grants: int
    rate: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class _Request:
    """`basic`: name and password each time, as the management API takes no registry tokens."""

    title: str
    path: str
    scope: str = ""
    status: int = 200
    basic: bool = False


def _tags(title: str, repository: str, *, status: int = 200) -> _Request:
    return _Request(title, f"/v2/{repository}/tags/list", f"repository:{repository}:pull", status=status)


_DECISIONS = (
    _tags("tags/list, granted on the repository", ON_REPOSITORY),
    _tags("tags/list, granted to a team", TO_TEAM),
    _tags("tags/list, granted on the namespace", ON_NAMESPACE),
    _tags("tags/list, granted on a pattern", ON_PATTERN),
    _tags("tags/list, denied", NOWHERE, status=403),
)


def _lists(size: Installation) -> tuple[_Request, ...]:
    middle = f"space-{size.namespaces // 2:04d}"
    return (
        _Request("_catalog, first page", f"/v2/_catalog?n={_PAGE}", "registry:catalog:*"),
        _Request("_catalog, from the middle on", f"/v2/_catalog?n={_PAGE}&last={middle}", "registry:catalog:*"),
        _Request("/api/v1/repositories, first page", f"/api/v1/repositories?n={_PAGE}", basic=True),
        _Request("/api/v1/namespaces, first page", f"/api/v1/namespaces?n={_PAGE}", basic=True),
    )


def run_rights(sides: Sequence[Side], plan: Plan) -> list[RightsRow]:
    """Measure each size: decisions from memory (`exact`) and by asking the database each time, lists by asking it always."""
    rows: list[RightsRow] = []
    for side in sides:
        if not side.is_slipway or side.name == "slipway-open":
            continue
        for size in plan.installations:
            for cache, requests in (("exact", (*_DECISIONS, *_lists(size))), ("off", _DECISIONS)):
                with _seeded(side, size, plan, cache=cache) as server:
                    rows += [_measure(server, request, cache, size, plan) for request in requests]
    return rows


@contextlib.contextmanager
def _seeded(side: Side, size: Installation, plan: Plan, *, cache: str) -> Iterator[Server]:
    """Start a server of its own for each size: it has remembered nothing yet of what is put there behind its back."""
    with running(side, plan.work_folder, SLIPWAY_CACHE=cache) as server:
        grants = asyncio.run(seed(embedded_dsn(server.folder / "data"), size))
        say(f"{side.label}: {size.repositories:,} repositories, {size.users:,} users, {grants:,} grants, cache {cache}")
        server.user = ASKING
        yield server


def _measure(server: Server, request: _Request, cache: str, size: Installation, plan: Plan) -> RightsRow:
    rounds: list[Measurement] = []
    for _ in range(min(plan.rounds, _MOST_ROUNDS)):
        wait_until_quiet([server.tree()])
        rounds.append(
            measured(
                server,
                "get",
                value="rate",
                path=request.path,
                scope=request.scope,
                status=request.status,
                basic=request.basic,
                connections=plan.connections,
                seconds=min(plan.seconds, _LONGEST_S),
                warm=plan.warm_s / 2,
                vary=True,  # else what was answered before is given again, and nothing decided
            )
        )
    figures = [median(values) for values in zip(*((r.value, r.p50_ms, r.p99_ms) for r in rounds), strict=True)]
    say(f"{server.side.label:<24} {request.title:<38} {figures[0]:>10,.1f} /s")
    return RightsRow(server.side.label, request.title, cache, size.repositories, size.users, size.grants, *figures)
