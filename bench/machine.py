"""The facts of a run that its figures depend on."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from bench import parts


def describe_machine(work_folder: Path) -> dict[str, str]:
    """Describe the machine, the versions and the settings in force."""
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _output(["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]),
        "cpu": f"{_field('/proc/cpuinfo', 'model name')}, {os.cpu_count()} cores",
        "memory": f"{int(_field('/proc/meminfo', 'MemTotal').split()[0]) / (1 << 20):.0f} GiB",
        "kernel": platform.release(),
        "disk": _output(["stat", "--file-system", "--format", "%T", str(work_folder)]),
        "python": platform.python_version(),
        "go": _output(["go", "env", "GOVERSION"]),
        "peer": _output([str(parts.peer_binary()), "--version"]).rpartition(" ")[2],
        "load_average": " ".join(f"{value:.2f}" for value in os.getloadavg()),
        "settings": " ".join(sorted(name for name in os.environ if _is_setting(name))) or "defaults",
    }


def _is_setting(name: str) -> bool:
    return name.startswith("SLIPWAY_") and not name.startswith(("SLIPWAY_PARTS_", "SLIPWAY_TEST_"))


def _field(path: str, name: str) -> str:
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "0"


def _output(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10).stdout.strip() or "unknown"
    except OSError:
        return "unknown"
