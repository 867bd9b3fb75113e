"""How long and how large a run is."""

from dataclasses import dataclass, replace
from math import isqrt
from pathlib import Path

_MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class Installation:
    """How much there is besides what one user has: that is the same at every size."""

    repositories: int
    users: int
    grants: int

    @property
    def namespaces(self) -> int:
        """As many as repositories in each of them."""
        return isqrt(self.repositories)


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes of a run; all times in seconds, all sizes in bytes."""

    work_folder: Path
    rounds: int = 5
    seconds: float = 5.0
    warm_s: float = 1.0
    connections: int = 8
    large_bytes: int = 1024 * _MEBIBYTE
    memory_uploads: int = 32
    memory_bytes: int = 256 * _MEBIBYTE
    growth_sizes: tuple[int, ...] = (100, 10_000, 100_000)
    installations: tuple[Installation, ...] = (
        Installation(100, 10, 1_000),
        Installation(1_000, 100, 10_000),
        Installation(10_000, 1_000, 100_000),
    )


def quick(plan: Plan) -> Plan:
    """Make the short form: it tells whether all works, its figures are for orientation only."""
    return replace(
        plan,
        rounds=3,
        seconds=1.5,
        warm_s=0.5,
        large_bytes=128 * _MEBIBYTE,
        memory_bytes=32 * _MEBIBYTE,
        growth_sizes=(100, 1_000),
        installations=plan.installations[:2],
    )
