"""Turn measured series into a table for people, Markdown for the documentation and JSON for programs."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from bench.growth import GrowthRow
from bench.plan import Plan
from bench.rights import RightsRow
from bench.rounds import Series
from bench.servers import Side

_BUSY_SHARE = 0.1  # of the machine: more in the median, and the figures say more about the others
_BEGIN, _END = "<!-- figures: begin -->", "<!-- figures: end -->"


@dataclass(frozen=True, slots=True)
class Report:
    """All that one run has measured."""

    machine: dict[str, str]
    plan: Plan
    series: list[Series]
    growth: list[GrowthRow]
    rights: list[RightsRow]

    def markdown(self) -> str:
        """Give the tables as Markdown, which also reads well on a terminal."""
        parts = []
        if self.series:
            sides = self.series[0].sides
            parts += [
                _table(_figure_header(sides), [_figure_row(series) for series in self.series]),
                _table(_cost_header(sides), [_cost_row(series) for series in self.series]),
                self._notes(),
            ]
        if self.growth:
            header = ["list", "registry", "entries", "page", "pages/s", "p50 ms", "p99 ms"]
            parts.append(_table(header, [_growth_row(row) for row in self.growth]))
        if self.rights:
            sizes = list(dict.fromkeys(map(_size, self.rights)))
            parts.append(_table(_rights_header(sizes), _rights_rows(self.rights, sizes)))
        return "\n\n".join([*parts, self._conditions()]) + "\n"

    def _conditions(self) -> str:
        facts, plan = self.machine, self.plan
        return (
            f"Measured {facts['time']} on {facts['cpu']}, {facts['memory']}, {facts['disk']}, "
            f"Linux {facts['kernel']}, load average before: {facts['load_average']}. "
            f"Slipway {facts['commit']} on Python {facts['python']} (settings: {facts['settings']}), "
            f"distribution {facts['peer']}. "
            f"{plan.rounds} rounds of {plan.seconds:g} s, {plan.connections} connections; "
            f"large blob of {plan.large_bytes >> 20} MiB; "
            f"{plan.memory_uploads} uploads of {plan.memory_bytes >> 20} MiB."
        )

    def _notes(self) -> str:
        """Say what could have bent the figures: the client's share of the machine, the neighbour's, a busy start."""
        cores = os.cpu_count() or 1
        taken = [m for series in self.series for rounds in series.rounds.values() for m in rounds if m.seconds]
        client = max((m.load_cpu_s / m.seconds / cores for m in taken), default=0.0)
        neighbour = max((m.neighbour_cpu_s / m.seconds for m in taken), default=0.0)
        foreign = [m.foreign_share for m in taken] or [0.0]
        busy = " **The machine was busy with other things: do not trust these figures.**"
        unquiet = sum(series.unquiet for series in self.series)
        return (
            "CPU is what all of a server's processes, its database included, took for one item; "
            "client is the share of the machine's CPU time that the load generator took. It was "
            f"{client:.0%} at most; the idle neighbour took {neighbour:.1%} of one core at most, everything else "
            f"(other programs, the kernel's own threads) {median(foreign):.0%} of the machine in the median, "
            f"{max(foreign):.0%} at most; {unquiet} of {len(taken)} measurements began with a server still busy."
            + (busy if median(foreign) > _BUSY_SHARE else "")
        )

    def json(self) -> str:
        """Give everything, each round by itself."""
        return json.dumps(
            {
                "machine": self.machine,
                "plan": {**asdict(self.plan), "work_folder": None},
                "scenarios": [
                    {
                        "name": series.scenario.name,
                        "unit": series.scenario.unit,
                        "target": series.scenario.target,
                        "limit": series.scenario.limit,
                        "ratios": series.ratios(),
                        "rounds": {label: [asdict(m) for m in rounds] for label, rounds in series.rounds.items()},
                    }
                    for series in self.series
                ],
                "growth": [asdict(row) for row in self.growth],
                "rights": [asdict(row) for row in self.rights],
            },
            indent=1,
        )

    def write(self, folder: Path) -> Path:
        """Write TIME.json and TIME.md into the folder, and give the path of the latter."""
        folder.mkdir(parents=True, exist_ok=True)
        stem = self.machine["time"].replace(":", "").partition("+")[0]
        (folder / f"{stem}.json").write_text(self.json())
        page = folder / f"{stem}.md"
        page.write_text(self.markdown())
        return page


def put_into_page(page: Path, markdown: str) -> None:
    """Replace what stands between the figures' marks of a documentation page."""
    text = page.read_text()
    head, begin, rest = text.partition(_BEGIN)
    _, end, tail = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"{page} has no {_BEGIN} … {_END}")
    page.write_text(f"{head}{_BEGIN}\n\n{markdown}\n{_END}{tail}")


def _figure_header(sides: Sequence[Side]) -> list[str]:
    ratio = ["ratio"] if len(sides) == 2 else []
    return ["scenario", "unit", *(side.label for side in sides), *ratio, "target"]


def _figure_row(series: Series) -> list[str]:
    ratios = series.ratios()
    ratio = [_spread(ratios, digits=2) if ratios else "–"] if len(series.sides) == 2 else []
    values = [_spread(series.values(side)) for side in series.sides]
    return [series.scenario.title, series.scenario.unit, *values, *ratio, _verdict(series)]


def _cost_header(sides: Sequence[Side]) -> list[str]:
    columns = [[f"{side.label}: p50 ms", "p99 ms", "CPU ms", "client"] for side in sides]
    return ["scenario", *(name for names in columns for name in names)]


def _cost_row(series: Series) -> list[str]:
    cells = [series.scenario.title]
    for middle in map(series.middle, series.sides):
        client = middle.load_cpu_s / middle.seconds / (os.cpu_count() or 1) if middle.seconds else 0.0
        cells += [_number(middle.p50_ms), _number(middle.p99_ms), _number(middle.cpu_ms_per_item), f"{client:.0%}"]
    return cells


def _verdict(series: Series) -> str:
    """Compare the median with what is to be reached, where one side is Slipway and the other the peer."""
    scenario, sides = series.scenario, series.sides
    kinds = [side.is_slipway for side in sides]
    if scenario.limit is not None:
        reached = not kinds[0] or median(series.values(sides[0])) < scenario.limit
        return f"< {scenario.limit:g}" + _mark(reached, kinds[:1] == [True])
    if scenario.target is None:
        return "–"
    ratios = series.ratios()
    return f"≥ {scenario.target:g}×" + _mark(bool(ratios) and median(ratios) >= scenario.target, kinds == [True, False])


def _mark(reached: bool, meant: bool) -> str:
    if not meant:
        return ""
    return " reached" if reached else " **missed**"


def _growth_row(row: GrowthRow) -> list[str]:
    return [row.kind, row.side, f"{row.size:,}", row.page, _number(row.rate), _number(row.p50_ms), _number(row.p99_ms)]


def _size(row: RightsRow) -> str:
    return f"{row.repositories:,} / {row.users:,} / {row.grants:,}"


def _rights_header(sizes: Sequence[str]) -> list[str]:
    columns = [[f"{size}: /s", "p50 ms", "p99 ms"] for size in sizes]
    return [
        "request (repositories / users / grants)",
        "registry",
        "cache",
        *(name for names in columns for name in names),
    ]


def _rights_rows(rows: Sequence[RightsRow], sizes: Sequence[str]) -> list[list[str]]:
    """Give a line for each request, with the sizes beside each other."""
    figures = {(row.side, row.request, row.cache, _size(row)): row for row in rows}
    lines = []
    for side, request, cache in dict.fromkeys((row.side, row.request, row.cache) for row in rows):
        cells = [request, side, cache]
        for size in sizes:
            row = figures[side, request, cache, size]
            cells += [_number(row.rate), _number(row.p50_ms), _number(row.p99_ms)]
        lines.append(cells)
    return lines


def _spread(values: Sequence[float], *, digits: int | None = None) -> str:
    """Give `median (lowest–highest)`."""
    texts = [_number(v) if digits is None else f"{v:.{digits}f}" for v in (median(values), min(values), max(values))]
    return f"{texts[0]} ({texts[1]}–{texts[2]})"


def _number(value: float) -> str:
    """Write three figures that matter."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        padded = [cell.rjust(width) for cell, width in zip(cells, widths, strict=True)]
        return "| " + " | ".join([cells[0].ljust(widths[0]), *padded[1:]]) + " |"

    rule = "|" + "|".join("-" * (width + 1) + (":" if column else "-") for column, width in enumerate(widths)) + "|"
    return "\n".join([line(header), rule, *(line(row) for row in rows)])
