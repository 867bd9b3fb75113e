"""The programs a measurement needs, kept in the parts cache and made there when they are missing."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

PEER_PACKAGE = "github.com/distribution/distribution/v3/cmd/registry@v3.1.2"
PY_SPY = "py-spy==0.4.3"
_LOAD_SOURCE = Path(__file__).parent / "load"


def parts_cache() -> Path:
    """Give the cache folder: SLIPWAY_PARTS_CACHE, or ~/.cache/slipway-parts."""
    return Path(os.environ.get("SLIPWAY_PARTS_CACHE") or Path.home() / ".cache" / "slipway-parts").expanduser()


def peer_binary() -> Path:
    """Give CNCF distribution's `registry`, installed by Go (under two minutes) when it is missing."""
    binary = parts_cache() / "bin" / "registry"
    if not binary.exists():
        _say(f"installing {PEER_PACKAGE}")
        _go(["install", PEER_PACKAGE], GOBIN=str(binary.parent))
    return binary


def load_binary() -> Path:
    """Give the load generator, built again whenever its sources have changed: their hash is part of its name."""
    sources = sorted(path for path in _LOAD_SOURCE.iterdir() if path.suffix == ".go" or path.name == "go.mod")
    version = hashlib.sha256(b"\0".join(path.read_bytes() for path in sources)).hexdigest()[:12]
    binary = parts_cache() / "bin" / f"bench-load-{version}"
    if not binary.exists():
        _say("building the load generator")
        unfinished = binary.with_suffix(f".{os.getpid()}")
        _go(["build", "-C", str(_LOAD_SOURCE), "-o", str(unfinished), "."])
        unfinished.replace(binary)
    return binary


def py_spy_binary() -> Path:
    """Give the sampling profiler, installed apart from the project's own environment when it is missing."""
    folder = parts_cache() / PY_SPY.replace("==", "-")
    if not (folder / "bin" / "py-spy").exists():
        _say(f"installing {PY_SPY}")
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), PY_SPY]
        subprocess.run(command, check=True)
    return folder / "bin" / "py-spy"


def _go(arguments: list[str], **environment: str) -> None:
    if shutil.which("go") is None:
        raise SystemExit("bench needs Go 1.22 or newer on the PATH to build the load generator and the peer")
    (parts_cache() / "bin").mkdir(parents=True, exist_ok=True)
    subprocess.run(["go", *arguments], check=True, env={**os.environ, **environment})


def _say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)
