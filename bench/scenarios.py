"""The scenarios: what is put there first, what is measured, and what Slipway is to reach."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from bench.client import Measurement, load, measured
from bench.plan import Plan
from bench.processes import memory, wait_until_quiet, watched_memory
from bench.servers import Server

_MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
_TAG_PAGE = 100

Prepare = Callable[[Server, Plan], None]
Measure = Callable[[Server, Plan, int], Measurement]


@dataclass(frozen=True, slots=True)
class Group:
    """Scenarios that share a running server. `fresh` starts an empty one for every round: what the rounds write would
    fill the disk, or the first would change the next."""

    name: str
    prepare: Prepare
    fresh: bool = False


@dataclass(frozen=True, slots=True)
class Scenario:
    """One line of the table. `target` is the ratio to the peer to reach; `limit` one for Slipway's own figure."""

    name: str
    title: str
    group: Group
    unit: str
    measure: Measure
    target: float | None = None
    limit: float | None = None

    @property
    def lower_is_better(self) -> bool:
        return self.limit is not None


def _prepare_reads(server: Server, plan: Plan) -> None:
    image = load(server, "seed", kind="image", repository="bench/read")
    server.facts.update({name: str(fact) for name, fact in image.items()})
    load(server, "seed", kind="tags", repository="bench/tags", count=_TAG_PAGE)


def _warm_up(server: Server, plan: Plan) -> None:
    """Push one small image, so that no figure holds a server's first request."""
    load(server, "seed", kind="image", repository="bench/first")


def _prepare_pull(server: Server, plan: Plan) -> None:
    server.facts["blob"] = load(server, "upload", size=plan.large_bytes, prefix="bench/pull")["paths"][0]


_READS = Group("reads", _prepare_reads)
_PUSHES = Group("pushes", _warm_up)
_PULLS = Group("pulls", _prepare_pull)
_UPLOADS = Group("uploads", _warm_up, fresh=True)
_MEMORY = Group("memory", _warm_up, fresh=True)


def _read(path: str, *, subcommand: str = "get", repository: str = "bench/read", vary: bool = False) -> Measure:
    """Measure one read; `{manifest}` and `{layer}` in the path stand for the seeded image's digests.

    `vary`: no two requests are alike, so that none can be answered as the repetition of another.
    """

    def measure(server: Server, plan: Plan, number: int) -> Measurement:
        return measured(
            server, subcommand, value="rate", path=path.format(**server.facts), scope=f"repository:{repository}:pull",
            accept=_MANIFEST_TYPE, connections=plan.connections, seconds=plan.seconds, warm=plan.warm_s, vary=vary,
        )  # fmt: skip

    return measure


def _push(*, own: bool) -> Measure:
    def measure(server: Server, plan: Plan, number: int) -> Measurement:
        return measured(
            server, "push", value="rate", own=own, prefix="bench/own" if own else "bench/shared", run=f"round-{number}",
            connections=plan.connections, seconds=2 * plan.seconds, warm=plan.warm_s,
        )  # fmt: skip

    return measure


def _upload(connections: int, *, chunked: bool = False) -> Measure:
    """Push the large blob's bytes over so many connections, each a blob of its own."""

    def measure(server: Server, plan: Plan, number: int) -> Measurement:
        return measured(
            server, "upload", value="mb_per_second", size=plan.large_bytes // connections, connections=connections,
            chunked=chunked, prefix=f"bench/upload-{connections}-{'chunked' if chunked else 'length'}",
        )  # fmt: skip

    return measure


def _pull(connections: int) -> Measure:
    """Pull the whole blob over each connection, twice."""

    def measure(server: Server, plan: Plan, number: int) -> Measurement:
        return measured(
            server, "pull", value="mb_per_second", path=server.facts["blob"], scope="repository:bench/pull-0:pull",
            connections=connections, rounds=2,
        )  # fmt: skip

    return measure


def _measure_memory(server: Server, plan: Plan, number: int) -> Measurement:
    """Give the rise of the memory above what the idle server had, in MiB, a shared page counted once."""
    wait_until_quiet([server.tree()])
    idle = memory(server.tree())
    with watched_memory(server.process.pid, server.folder) as peak:
        result = measured(
            server, "upload", value="mb_per_second", size=plan.memory_bytes, connections=plan.memory_uploads,
            prefix="bench/memory",
        )  # fmt: skip
    extra = {
        "mb_per_second": result.value,
        "idle_rss_mib": idle.rss,
        "idle_pss_mib": idle.pss,
        "rise_rss_mib": peak.value.rss - idle.rss,
    }
    return replace(result, value=peak.value.pss - idle.pss, extra=extra)


_BLOB, _MANIFESTS = "/v2/bench/read/blobs/{layer}", "/v2/bench/read/manifests"
_TAGS = f"/v2/bench/tags/tags/list?n={_TAG_PAGE}"

SCENARIOS = (
    Scenario("manifest-tag", "manifest GET by tag", _READS, "/s", _read(f"{_MANIFESTS}/latest"), target=2.5),
    Scenario("manifest-digest", "manifest GET by digest", _READS, "/s", _read(_MANIFESTS + "/{manifest}"), target=2.5),
    Scenario("blob-head", "blob HEAD", _READS, "/s", _read(_BLOB, subcommand="head"), target=2.0),
    Scenario("blob-get", "blob GET, 16 KiB", _READS, "/s", _read(_BLOB), target=3.0),
    Scenario(
        "tags-list", "tags/list, 100 tags", _READS, "/s", _read(_TAGS, repository="bench/tags"), target=3.0,
    ),
    Scenario("manifest-varied", "manifest GET by tag, no two requests alike", _READS, "/s",
             _read(f"{_MANIFESTS}/latest", vary=True), target=2.5),
    Scenario("head-varied", "blob HEAD, no two requests alike", _READS, "/s",
             _read(_BLOB, subcommand="head", vary=True), target=2.0),
    Scenario("blob-varied", "blob GET, 16 KiB, no two requests alike", _READS, "/s", _read(_BLOB, vary=True), target=3.0),
    Scenario("tags-varied", "tags/list, no two requests alike", _READS, "/s",
             _read(_TAGS, repository="bench/tags", vary=True), target=3.0),
    Scenario("push-own", "small images pushed, own repositories", _PUSHES, "/s", _push(own=True), target=2.0),
    Scenario("push-shared", "small images pushed, one repository", _PUSHES, "/s", _push(own=False), target=2.0),
    Scenario("upload-1", "large blob pushed, Content-Length", _UPLOADS, "MB/s", _upload(1), target=1.0),
    Scenario("upload-chunked", "large blob pushed, chunked", _UPLOADS, "MB/s", _upload(1, chunked=True), target=1.0),
    Scenario("upload-4", "4 large blobs pushed at once", _UPLOADS, "MB/s", _upload(4), target=1.0),
    Scenario("pull-1", "large blob pulled, 1 connection", _PULLS, "MB/s", _pull(1), target=1.0),
    Scenario("pull-4", "large blob pulled, 4 connections", _PULLS, "MB/s", _pull(4), target=1.0),
    Scenario("memory", "memory over idle, 32 uploads at once", _MEMORY, "MiB", _measure_memory, limit=256.0),
)  # fmt: skip


def find_scenario(name: str) -> Scenario | None:
    """Find a scenario by its name."""
    return next((scenario for scenario in SCENARIOS if scenario.name == name), None)
