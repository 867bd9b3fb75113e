"""Run the load generator and read what it measured."""

import json
import os
import subprocess
from dataclasses import dataclass, field
from typing import Any

from bench import parts
from bench.servers import Server

_LIMIT_S = 1800.0


@dataclass(frozen=True, slots=True)
class Measurement:
    """One figure of one round. `value` is in the scenario's unit; times in ms, CPU in seconds.

    `server_cpu_s` covers all of the server's processes over the generator's whole run, warm-up included, so it belongs
    to `count` + `warm_count` items; `neighbour_cpu_s` is that of the other side's, which should idle. `foreign_share`
    is the share of the machine's CPU time that went to anything but the servers and the measurement, 0 to 1.
    """

    value: float
    count: int = 0
    warm_count: int = 0
    seconds: float = 0.0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    load_cpu_s: float = 0.0
    server_cpu_s: float = 0.0
    neighbour_cpu_s: float = 0.0
    foreign_share: float = 0.0
    extra: dict[str, float] = field(default_factory=dict)

    @property
    def cpu_ms_per_item(self) -> float:
        items = self.count + self.warm_count
        return 1000 * self.server_cpu_s / items if items else 0.0


def load(server: Server, subcommand: str, **flags: str | float | bool) -> dict[str, Any]:
    """Run `load SUBCOMMAND` against a server; `warm_up=3` becomes `-warm-up=3`. Raise RuntimeError with its message."""
    command = [str(parts.load_binary()), subcommand, f"-base={server.base}"]
    environment = dict(os.environ)
    if server.user is not None and server.password is not None:
        command.append(f"-user={server.user}")
        environment["LOAD_PASSWORD"] = server.password
    for name, value in flags.items():
        text = str(value).lower() if isinstance(value, bool) else str(value)
        command.append(f"-{name.replace('_', '-')}={text}")
    done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S, env=environment)
    if done.returncode != 0:
        raise RuntimeError(f"{server.side.label}: {done.stderr.strip()}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def measured(server: Server, subcommand: str, *, value: str, **flags: str | float | bool) -> Measurement:
    """Run a measuring subcommand; `value` names the field of its result that becomes the figure."""
    before = server.cpu_s()
    result = load(server, subcommand, **flags)
    return Measurement(
        value=float(result[value]),
        count=result["count"],
        warm_count=result["warm_count"],
        seconds=result["seconds"],
        p50_ms=result["p50_ms"],
        p99_ms=result["p99_ms"],
        load_cpu_s=result["load_cpu_s"],
        server_cpu_s=server.cpu_s() - before,
    )
