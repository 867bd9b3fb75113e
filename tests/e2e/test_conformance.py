"""The OCI conformance suite, at 1.1 and at `dev`: no failure, and nothing skipped that Slipway claims to do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.clients.target import Target
from tests.e2e.conformance import run_conformance
from tests.parts.fixtures import require, start_stack
from tests.parts.slipway import SlipwayProcess

_FEWEST_CASES = 800

pytestmark = pytest.mark.timeout(300)


def _start(kind: str) -> tuple[SlipwayProcess, Target] | tuple[object, Target]:
    topology, _, access = kind.partition(", ")
    env = {"SLIPWAY_ANONYMOUS": "everything"} if access == "no login" else {}
    server = SlipwayProcess(env=env).start() if topology == "embedded on files" else start_stack(env=env)
    login = (None, None) if env else (server.username, server.password)
    return server, Target(server.host, *login)


@pytest.fixture(
    scope="module",
    params=[
        "embedded on files, login",
        "embedded on files, no login",
        "stack on S3 and Kafka, login",
        "stack on S3 and Kafka, no login",
    ],
)
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    require("conformance")
    server, target = _start(request.param)
    yield target
    server.close()


@pytest.mark.parametrize("version", ["1.1", "dev"])
def test_conformance_suite_finds_nothing(
    target: Target, version: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = run_conformance(target, version=version, repository=f"conformance/v{version}", folder=tmp_path)
    assert not report.complaints(), report.complaints()
    assert report.cases > _FEWEST_CASES
    with capsys.disabled():
        print(f"\nconformance {version}: {report.cases} cases, 0 failed, 0 skipped", flush=True)
