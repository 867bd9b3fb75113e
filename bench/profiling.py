"""Find where Slipway's time goes in one scenario: sample its Python stacks while the load runs."""

import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from bench import parts
from bench.plan import Plan
from bench.processes import cpu_seconds, wait_until_quiet
from bench.rounds import say
from bench.scenarios import Scenario
from bench.servers import Server, Side, running

_SAMPLES_PER_SECOND = 200
_TOP = 25
_LINE_NUMBER = re.compile(r":\d+\)")


def profile(scenario: Scenario, plan: Plan, results: Path, *, workers: str = "", native: bool = False) -> Path:
    """Run one scenario on Slipway alone under a sampling profiler; print CPU time by process and heaviest functions.

    Writes the folded stacks, which flamegraph tools and speedscope read, into the results folder and gives their path.
    The figure measured under the profiler is a few percent lower than without.
    """
    results.mkdir(parents=True, exist_ok=True)
    stacks = results / f"profile-{scenario.name}.folded"
    side = Side(f"slipway:{workers}" if workers else "slipway", "slipway")
    with running(side, plan.work_folder) as server:
        scenario.group.prepare(server, plan)
        wait_until_quiet([server.tree()])
        before = {pid: cpu_seconds({pid}) for pid in server.tree()}
        recorder = _record(server, stacks, native=native)
        try:
            time.sleep(1.0)  # the profiler has to find all processes first
            measurement = scenario.measure(server, plan, 0)
        finally:
            recorder.send_signal(signal.SIGINT)  # py-spy writes its file and ends
            recorder.wait(60)
        print(
            f"{scenario.title}: {measurement.value:,.1f} {scenario.unit}, "
            f"p50 {measurement.p50_ms:.2f} ms, p99 {measurement.p99_ms:.2f} ms"
        )
        _print_processes(server, before)
    _print_functions(stacks)
    say(f"stacks: {stacks} (speedscope and flamegraph.pl read them)")
    return stacks


def _record(server: Server, stacks: Path, *, native: bool) -> subprocess.Popen[bytes]:
    command = [
        str(parts.py_spy_binary()), "record", "--pid", str(server.process.pid), "--subprocesses", "--format", "raw",
        "--rate", str(_SAMPLES_PER_SECOND), "--duration", "3600", "--nonblocking", "--output", str(stacks),
    ]  # fmt: skip
    if native:
        command.remove("--nonblocking")  # native stacks can only be read from a paused process
        command.append("--native")
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=sys.stderr)


def _print_processes(server: Server, before: dict[int, float]) -> None:
    """Print the CPU seconds of each process: Python workers, PostgreSQL's backends, its writers."""
    used = [(cpu_seconds({pid}) - before.get(pid, 0.0), pid, _command(pid)) for pid in server.tree()]
    print("\nCPU seconds by process")
    for seconds, pid, command in sorted(used, reverse=True):
        if seconds >= 0.05:
            print(f"  {seconds:8.2f}  {pid:>8}  {command[:100]}")


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return "ended"


def _print_functions(stacks: Path) -> None:
    total, own, within = count_functions(stacks.read_text().splitlines())
    for title, counts in (("itself", own), ("itself and all it calls", within)):
        print(f"\nshare of samples, {title}")
        for function, count in counts.most_common(_TOP):
            print(f"  {count / max(total, 1):7.1%}  {function}")


def count_functions(lines: Iterable[str]) -> tuple[int, Counter[str], Counter[str]]:
    """Count samples in folded stacks (`a;b;c 12`): all, by innermost function, by any function of the stack."""
    total, own, within = 0, Counter[str](), Counter[str]()
    for line in lines:
        stack, _, samples = line.rpartition(" ")
        if not samples.isdigit():
            continue
        frames = [_shorten(frame) for frame in stack.split(";")]
        total += int(samples)
        own[frames[-1]] += int(samples)
        for frame in set(frames):
            within[frame] += int(samples)
    return total, own, within


def _shorten(frame: str) -> str:
    """Drop the line number, so that a function's lines add up, and the folders before the package."""
    frame = _LINE_NUMBER.sub(")", frame)
    return re.sub(r"\((?:[^()]*?/)?((?:[^/()]+/){0,2}[^/()]+)\)$", r"(\1)", frame).replace(os.sep + "site-packages", "")
