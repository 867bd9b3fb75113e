"""Every real component the tests use, with the version that is known to work.

One table, so that raising a version is one line here. `python -m tests.parts install` brings what is missing.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class GoProgram:
    """A program that `go install package@version` builds."""

    package: str
    version: str
    built_as: str | None = None  # the name `go install` gives it, where it is not the part's


@dataclass(frozen=True, slots=True)
class MavenJars:
    """A Java program and all its libraries, as Maven resolves them."""

    artifacts: tuple[str, ...]
    version: str


@dataclass(frozen=True, slots=True)
class MavenArchive:
    """A program that Maven has as one zip file, with a folder `<part>-<version>` in it, and what to run there once."""

    artifact: str
    version: str
    prepare: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DebianPackages:
    """Programs of the distribution; its own version, for these are what people have."""

    packages: tuple[str, ...]
    programs: tuple[str, ...] = field(default=())


Part = GoProgram | MavenJars | MavenArchive | DebianPackages

KAFKA_VERSION = "4.2.0"
KEYCLOAK_VERSION = "26.4.0"

# In the order they are built: what most tests wait for comes first, the two slow ones (minutes each) last.
PARTS: Mapping[str, Part] = {
    "java": DebianPackages(("default-jre-headless",), ("java",)),
    "maven": DebianPackages(("maven",), ("mvn",)),
    "postgres": DebianPackages(("postgresql",), ("psql",)),
    "docker": DebianPackages(("docker.io", "busybox-static"), ("dockerd", "docker", "busybox")),
    "podman": DebianPackages(("podman",), ("podman",)),
    "skopeo": DebianPackages(("skopeo",), ("skopeo",)),
    "buildah": DebianPackages(("buildah",), ("buildah",)),
    "docker-compose": DebianPackages(("docker-compose",), ("docker-compose",)),
    "kafka": MavenJars(
        (
            f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}",
            f"org.apache.kafka:kafka-tools:{KAFKA_VERSION}",
            "org.slf4j:slf4j-simple:1.7.36",
        ),
        KAFKA_VERSION,
    ),
    "keycloak": MavenArchive(
        f"org.keycloak:keycloak-quarkus-dist:{KEYCLOAK_VERSION}:zip",
        KEYCLOAK_VERSION,
        # Takes half a minute, and would else be done by every start.
        prepare=("sh", "bin/kc.sh", "build", "--db=dev-mem"),
    ),
    "conformance": GoProgram(
        "github.com/opencontainers/distribution-spec/conformance", "v0.0.0-20260831232431-97274622c111"
    ),
    "crane": GoProgram("github.com/google/go-containerregistry/cmd/crane", "v0.22.1"),
    "oras": GoProgram("oras.land/oras/cmd/oras", "v1.3.6"),
    "regctl": GoProgram("github.com/regclient/regclient/cmd/regctl", "v0.11.7"),
    "toxiproxy": GoProgram("github.com/Shopify/toxiproxy/v2/cmd/server", "v2.5.0", built_as="server"),
    "versitygw": GoProgram("github.com/versity/versitygw/cmd/versitygw", "v1.8.0"),
    "registry": GoProgram("github.com/distribution/distribution/v3/cmd/registry", "v3.1.2"),
    "helm": GoProgram("helm.sh/helm/v3/cmd/helm", "v3.22.0"),
    "cosign": GoProgram("github.com/sigstore/cosign/v3/cmd/cosign", "v3.1.3"),
}

# Images testcontainers may start where a Docker engine has them already; nothing is ever pulled by a test.
CONTAINER_IMAGES: Mapping[str, str] = {
    "postgres": os.environ.get("SLIPWAY_TEST_POSTGRES_IMAGE", "postgres:18"),
    "kafka": os.environ.get("SLIPWAY_TEST_KAFKA_IMAGE", f"apache/kafka:{KAFKA_VERSION}"),
    "s3": os.environ.get("SLIPWAY_TEST_S3_IMAGE", "minio/minio:latest"),
}


def cache_folder() -> Path:
    """Where installed parts live, outside the tree and shared by all checkouts."""
    configured = os.environ.get("SLIPWAY_PARTS_CACHE")
    return Path(configured) if configured else Path.home() / ".cache" / "slipway-parts"


def program_path(part: str) -> Path:
    """Where the program of a Go part is, or will be once it is installed."""
    return cache_folder() / "bin" / part


def jars_folder(part: str) -> Path:
    """Where the jars of a Maven part are, or will be once they are installed."""
    described = PARTS[part]
    assert isinstance(described, MavenJars)
    return cache_folder() / f"{part}-{described.version}"


def archive_folder(part: str) -> Path:
    """Where a Maven archive is unpacked, or will be once it is installed."""
    described = PARTS[part]
    assert isinstance(described, MavenArchive)
    return cache_folder() / f"{part}-{described.version}"


def go_architecture() -> str:
    """This machine's architecture, as image configs spell it."""
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
