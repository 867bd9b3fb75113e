"""The command line of `python -m bench`."""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bench import parts
from bench.growth import GrowthRow, run_growth
from bench.machine import describe_machine
from bench.plan import Plan, quick
from bench.profiling import profile
from bench.report import Report, put_into_page
from bench.rights import run_rights
from bench.rounds import run_scenarios
from bench.scenarios import SCENARIOS, Scenario, find_scenario
from bench.servers import Side, parse_sides

_HERE = Path(__file__).parent
_GROWTH = {"growth-tags": "tags", "growth-catalog": "catalog"}
_RIGHTS = "growth-rights"
_OTHERS = (*_GROWTH, _RIGHTS)  # measured in their own way

_EPILOG = """\
examples:
  python -m bench                                    everything, about half an hour
  python -m bench --quick                            everything in its short form, a few minutes
  python -m bench manifest-tag push-own --rounds 9   two scenarios, more rounds
  python -m bench --sides slipway:1,slipway:2 blob-head
                                                     one worker against two
  python -m bench --sides slipway,slipway-open manifest-tag manifest-varied
                                                     what checking a token and a right costs
  python -m bench --sides distribution,distribution  the measurement measured: every ratio should be about 1
  python -m bench profile push-own                   where Slipway's time goes
  SLIPWAY_DATABASE_POOL_SIZE=32 python -m bench push-own
                                                     any setting of Slipway, through its environment

The sides take turns round by round on the same machine, each with files in an empty folder. Slipway checks a token on
every request; distribution asks for none. A table holds medians of the rounds with lowest and highest; a ratio is the
first side's figure divided by the second's in the same round. Needs Go for the load generator and, where the parts
cache (SLIPWAY_PARTS_CACHE, default ~/.cache/slipway-parts) has no bin/registry yet, for distribution. Close what else
runs. Figures go to stdout, progress to stderr.

scenarios:
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; give the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if words[:1] == ["profile"]:
            return _profile(words[1:])
        return _measure(words)
    except (RuntimeError, ValueError) as exc:
        print(f"bench: {exc}", file=sys.stderr)
        return 1


def _measure(words: list[str]) -> int:
    options = _parser().parse_args(words)
    sides = parse_sides(options.sides)
    names = options.scenarios or [*(scenario.name for scenario in SCENARIOS), *_OTHERS]
    plan, scenarios = _plan(options), _scenarios([name for name in names if name not in _OTHERS])
    parts.load_binary()  # built before the clock, and its mistakes shown first
    machine = describe_machine(plan.work_folder)
    series = run_scenarios(scenarios, sides, plan)
    growth = _grow([_GROWTH[name] for name in names if name in _GROWTH], sides, plan)
    rights = run_rights(sides, plan) if _RIGHTS in names else []
    report = Report(machine, plan, series, growth, rights)
    print(report.markdown())
    page = report.write(options.results)
    print(f"written: {page} and {page.with_suffix('.json').name}", file=sys.stderr)
    if options.page is not None:
        put_into_page(options.page, report.markdown())
    return 0


def _grow(kinds: Sequence[str], sides: Sequence[Side], plan: Plan) -> list[GrowthRow]:
    return [row for kind in kinds for row in run_growth(kind, sides, plan)]


def _profile(words: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench profile", description="Show where Slipway's time goes in one scenario."
    )
    parser.add_argument("scenario", metavar="SCENARIO", help="one of: " + ", ".join(s.name for s in SCENARIOS))
    parser.add_argument("--workers", default="", help="worker processes of Slipway (default: its own)")
    parser.add_argument("--native", action="store_true", help="C functions too; pauses the server for each sample")
    _add_common(parser)
    options = parser.parse_args(words)
    scenario = _scenarios([options.scenario])[0]
    profile(scenario, _plan(options), options.results, workers=options.workers, native=options.native)
    return 0


def _parser() -> argparse.ArgumentParser:
    lines = [f"  {scenario.name:<17}{scenario.title}" for scenario in SCENARIOS]
    lines += ["  growth-tags      pages of tags/list as it grows", "  growth-catalog   pages of _catalog as it grows"]
    lines += ["  growth-rights    decisions and lists as users, repositories and grants become more (Slipway only)"]
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure Slipway side by side with CNCF distribution.",
        epilog=_EPILOG + "\n".join(lines),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help="which to run (default: all; listed below)")
    parser.add_argument(
        "--sides", default="slipway,distribution", metavar="A,B",
        help="what to compare, of slipway, slipway:WORKERS, slipway-open, distribution, distribution-nocache; one name: measured "
        "alone (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--page", type=Path, metavar="FILE", help="also put the tables into this page, between its marks"
    )
    _add_common(parser)
    return parser


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds of every scenario (default: 5, quick 3)")
    parser.add_argument(
        "--seconds", type=float, metavar="S", help="a measurement's length; pushes twice (default: 5, quick 1.5)"
    )
    parser.add_argument("--quick", action="store_true", help="short and small: for orientation, not for the record")
    parser.add_argument(
        "--work", type=Path, metavar="DIR", default=Path(tempfile.gettempdir()),
        help="where data goes, up to 20 GiB for a while, on the disk to measure (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--results", type=Path, metavar="DIR", default=_HERE / "results",
        help="where JSON and Markdown go (default: bench/results)",
    )  # fmt: skip


def _plan(options: argparse.Namespace) -> Plan:
    plan = Plan(work_folder=options.work)
    if options.quick:
        plan = quick(plan)
    if (options.rounds is not None and options.rounds < 1) or (options.seconds is not None and options.seconds <= 0):
        raise ValueError("--rounds must be at least 1 and --seconds above 0")
    return replace(plan, rounds=options.rounds or plan.rounds, seconds=options.seconds or plan.seconds)


def _scenarios(names: Sequence[str]) -> list[Scenario]:
    found = []
    for name in names:
        scenario = find_scenario(name)
        if scenario is None:
            known = ", ".join([*(each.name for each in SCENARIOS), *_OTHERS])
            raise ValueError(f"no scenario {name!r}; there are {known}")
        found.append(scenario)
    return found
