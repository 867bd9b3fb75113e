"""What /proc says about a server's processes: which they are, their CPU time, their memory."""

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_SAMPLE_S = 0.1
_MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of all of a server's processes together, in MiB.

    `rss` counts a page once for each process that has it (so memory shared with PostgreSQL counts several times); `pss`
    divides it among them and adds up to what is really in use. The page cache is in neither.
    """

    rss: float
    pss: float


def process_tree(root: int, data_folder: Path) -> set[int]:
    """Find a server's processes: the root, all below it, and any that name its data folder (a database that went its
    own way) with all below those."""
    children: dict[int, list[int]] = {}
    found = {root}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        pid = int(entry)
        fields = _stat_fields(pid)
        if fields is None:
            continue
        children.setdefault(int(fields[1]), []).append(pid)
        with contextlib.suppress(OSError):
            if str(data_folder).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.add(pid)
    waiting = list(found)
    while waiting:
        below = [pid for pid in children.get(waiting.pop(), []) if pid not in found]
        found.update(below)
        waiting.extend(below)
    return found


def cpu_seconds(pids: set[int]) -> float:
    """Add up the CPU time that the processes and their waited-for children have used, in seconds."""
    total = 0
    for pid in pids:
        fields = _stat_fields(pid)
        if fields is not None:
            total += sum(int(ticks) for ticks in fields[11:15])
    return total / _TICKS_PER_SECOND


def machine_cpu_seconds() -> float:
    """Give the CPU time that all of the machine has been busy for since it started, in seconds of one core."""
    user, nice, system, _idle, _iowait, irq, softirq, *_ = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    return sum(map(int, (user, nice, system, irq, softirq))) / _TICKS_PER_SECOND


def _stat_fields(pid: int) -> list[str] | None:
    """Give the fields of /proc/PID/stat after the name (proc(5) counts the first of them as 3), None if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def memory(pids: set[int]) -> Memory:
    """Measure the processes' memory now."""
    rss = pss = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            rss += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    pss += int(line.split()[1]) * 1024
    return Memory(rss / _MEBIBYTE, pss / _MEBIBYTE)


class _Peak:
    """The highest memory seen so far."""

    def __init__(self, start: Memory) -> None:
        self.value = start

    def see(self, now: Memory) -> None:
        self.value = Memory(max(self.value.rss, now.rss), max(self.value.pss, now.pss))


@contextlib.contextmanager
def watched_memory(root: int, data_folder: Path) -> Iterator[_Peak]:
    """Sample the memory of a server's processes ten times a second while the block runs."""
    peak, over = _Peak(memory(process_tree(root, data_folder))), threading.Event()

    def watch() -> None:
        while not over.wait(_SAMPLE_S):
            peak.see(memory(process_tree(root, data_folder)))

    thread = threading.Thread(target=watch, name="memory-watch")
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()


def wait_until_quiet(trees: list[set[int]], *, limit_s: float = 30.0, share: float = 0.05) -> bool:
    """Wait until each tree uses less than `share` of one core for half a second; False when that did not come in time.

    What a server does after it has answered (events, caches, writing back) must not weigh on the other's next figure.
    """
    span_s, deadline = 0.5, time.monotonic() + limit_s
    while time.monotonic() < deadline:
        before = [cpu_seconds(tree) for tree in trees]
        time.sleep(span_s)
        if all(cpu_seconds(tree) - start < share * span_s for tree, start in zip(trees, before, strict=True)):
            return True
    return False
