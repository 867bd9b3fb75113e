"""Run the OCI distribution-spec conformance suite and read its results."""

from __future__ import annotations

import os
import subprocess
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.e2e.clients.target import Target
from tests.parts.versions import program_path

_TIMEOUT_S = 300.0
_SHOWN_CASES = 8
_SHOWN_CHARS = 3000
# How the suite marks what its version leaves off by default; the reports' own statuses tell which those are.
_DISABLED = "is disabled in the configuration"

# What version 1.1 of the specification does not have, and what the suite leaves off in every version: pushing
# manifests whose content is missing, which Slipway refuses.
OPTIONAL = {
    "1.1": {"Blob upload cancel", "Manifest put with tag params", "Tag Param", "Tag Param sha512", "Sparse Manifests"},
    "dev": {"Sparse Manifests"},
}


@dataclass(frozen=True, slots=True)
class Case:
    """One test case that was run and did not pass."""

    name: str
    status: str
    said: str
    exchange: str

    def __str__(self) -> str:
        return f"--- {self.status}: {self.name}\n{self.said}\n{self.exchange[-_SHOWN_CHARS:]}"


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of one run."""

    version: str
    cases: int
    not_passed: list[Case]
    statuses: dict[str, str]  # of each API and each kind of data: Pass, Skip, Disabled, FAIL or Error

    def complaints(self) -> str:
        """Everything that keeps this run from being clean, or an empty string."""
        parts = [str(case) for case in self.not_passed[:_SHOWN_CASES]]
        if len(self.not_passed) > _SHOWN_CASES:
            parts.append("and also:\n" + "\n".join(case.name for case in self.not_passed[_SHOWN_CASES:]))
        parts += [
            f"{name}: {status}"
            for name, status in self.statuses.items()
            if status != "Pass" and not (status == "Disabled" and name in OPTIONAL[self.version])
        ]
        return "\n".join(parts)


def run_conformance(target: Target, *, version: str, repository: str, folder: Path) -> Report:
    """Run the suite of `version` ("1.1" or "dev") with its two repositories under `repository`."""
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "HOME": str(folder),
        "OCI_REGISTRY": target.host,
        "OCI_TLS": "disabled",
        "OCI_VERSION": version,
        "OCI_REPO1": f"{repository}/one",
        "OCI_REPO2": f"{repository}/two",
        "OCI_RESULTS_DIR": str(folder),
    }
    if target.username is not None:
        environment |= {"OCI_USERNAME": target.username, "OCI_PASSWORD": target.password or ""}
    result = subprocess.run(
        [str(program_path("conformance"))],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=_TIMEOUT_S,
    )
    if not (folder / "report.html").exists():  # written last
        raise AssertionError(f"the conformance suite broke off:\n{result.stdout[-2000:]}\n{result.stderr[-2000:]}")
    return _read_report(version, folder)


def _read_report(version: str, folder: Path) -> Report:
    suites = ElementTree.parse(folder / "junit.xml").getroot()
    not_passed = [
        Case(
            case.get("name", ""),
            case.get("status", ""),
            case.findtext("system-out", ""),
            case.findtext("system-err", ""),
        )
        for case in suites.iter("testcase")
        if case.get("status") != "passed" and _DISABLED not in case.findtext("system-err", "")
    ]
    results = yaml.safe_load((folder / "results.yaml").read_text())
    return Report(version, int(suites.get("tests", "0")), not_passed, {**results["apis"], **results["data"]})
