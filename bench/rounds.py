"""Run scenarios round by round, the sides taking turns: A B A B …, so that a slow minute of the machine hits both."""

import contextlib
import os
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from statistics import median

from bench.client import Measurement
from bench.plan import Plan
from bench.processes import machine_cpu_seconds, wait_until_quiet
from bench.scenarios import Group, Scenario
from bench.servers import Server, Side, running


@dataclass(slots=True)
class Series:
    """All rounds of one scenario: per side, by its label, one measurement per round."""

    scenario: Scenario
    sides: list[Side]
    rounds: dict[str, list[Measurement]] = field(default_factory=dict)
    unquiet: int = 0  # measurements that began although a server was still busy

    def values(self, side: Side) -> list[float]:
        return [measurement.value for measurement in self.rounds[side.label]]

    def ratios(self) -> list[float]:
        """Divide the first side's figure by the second's, round by round; empty with one side."""
        if len(self.sides) != 2:
            return []
        return [mine / other for mine, other in zip(*(self.values(side) for side in self.sides), strict=True) if other]

    def middle(self, side: Side) -> Measurement:
        """Give the median of each quantity over a side's rounds."""
        rounds = self.rounds[side.label]
        fields = (
            "value",
            "seconds",
            "p50_ms",
            "p99_ms",
            "load_cpu_s",
            "server_cpu_s",
            "neighbour_cpu_s",
            "foreign_share",
        )
        middles = {name: median(getattr(measurement, name) for measurement in rounds) for name in fields}
        counts = {name: int(median(getattr(each, name) for each in rounds)) for name in ("count", "warm_count")}
        extra = {name: median(measurement.extra[name] for measurement in rounds) for name in rounds[0].extra}
        return Measurement(**middles, **counts, extra=extra)


def run_scenarios(scenarios: Sequence[Scenario], sides: Sequence[Side], plan: Plan) -> list[Series]:
    """Run the scenarios, those of one group on the same servers."""
    results = [Series(scenario, list(sides), {side.label: [] for side in sides}) for scenario in scenarios]
    for group in dict.fromkeys(scenario.group for scenario in scenarios):
        batch = [series for series in results if series.scenario.group is group]
        if group.fresh:
            for number in range(plan.rounds):
                with _servers(group, sides, plan) as servers:
                    _run_round(batch, servers, plan, number)
        else:
            with _servers(group, sides, plan) as servers:
                for number in range(plan.rounds):
                    _run_round(batch, servers, plan, number)
    return results


@contextlib.contextmanager
def _servers(group: Group, sides: Sequence[Side], plan: Plan) -> Iterator[list[Server]]:
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(running(side, plan.work_folder)) for side in sides]
        for server in servers:
            group.prepare(server, plan)
        yield servers


def _run_round(batch: Sequence[Series], servers: Sequence[Server], plan: Plan, number: int) -> None:
    for series in batch:
        for server in servers:
            measurement, quiet = _measure_once(series.scenario, server, servers, plan, number)
            series.rounds[server.side.label].append(measurement)
            series.unquiet += not quiet
            say(
                f"round {number + 1}/{plan.rounds}  {series.scenario.name:<16} {server.side.label:<24}"
                f"{measurement.value:>10,.1f} {series.scenario.unit}"
            )


def _measure_once(
    scenario: Scenario, server: Server, servers: Sequence[Server], plan: Plan, number: int
) -> tuple[Measurement, bool]:
    """Measure one side once everything written is on disk and both servers are idle; tell whether they became so."""
    others = [other for other in servers if other is not server]
    os.sync()
    quiet = wait_until_quiet([each.tree() for each in servers])
    neighbour_before, foreign_before = _cpu(others), _foreign_cpu_s(servers)
    began = time.monotonic()
    measurement = scenario.measure(server, plan, number)
    available_s = (time.monotonic() - began) * (os.cpu_count() or 1)
    foreign = max(0.0, _foreign_cpu_s(servers) - foreign_before) / available_s
    return replace(measurement, neighbour_cpu_s=_cpu(others) - neighbour_before, foreign_share=foreign), quiet


def _cpu(servers: Sequence[Server]) -> float:
    return sum(server.cpu_s() for server in servers)


def _foreign_cpu_s(servers: Sequence[Server]) -> float:
    """Give the machine's CPU time less the servers', the load generator's and our own; differences count."""
    own = sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return machine_cpu_seconds() - _cpu(servers) - own


def say(text: str) -> None:
    """Tell the progress on stderr; the figures alone go to stdout."""
    print(text, file=sys.stderr, flush=True)
