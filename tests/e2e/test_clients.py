"""Real clients against Slipway: what each can do, it does, and digests before and after are the same.

SLIPWAY_TEST_REGISTRY=HOST:PORT runs the same against another registry without login, to tell whose fault a failure is.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.clients.buildah import Buildah
from tests.e2e.clients.cosign import Cosign
from tests.e2e.clients.crane import Crane
from tests.e2e.clients.docker_cli import Docker
from tests.e2e.clients.helm import Helm
from tests.e2e.clients.oras import Oras
from tests.e2e.clients.podman import Podman
from tests.e2e.clients.regctl import Regctl
from tests.e2e.clients.skopeo import Skopeo
from tests.e2e.clients.target import Target
from tests.parts.api import Api
from tests.parts.docker import DockerEngine
from tests.parts.fixtures import require
from tests.parts.images import make_image, make_index, write_layout
from tests.parts.process import remove_folder, temporary_folder

pytestmark = pytest.mark.timeout(300)

LAYOUT_CLIENTS = [Crane, Skopeo, Podman, Oras, Regctl]
INDEX_CLIENTS = [Skopeo, Oras, Regctl]
COPYING_CLIENTS = [Crane, Skopeo, Oras, Regctl]
LISTING_CLIENTS = [Crane, Skopeo, Oras, Regctl]
CATALOG_CLIENTS = [Crane, Oras, Regctl]
DELETING_CLIENTS = [Crane, Skopeo, Oras, Regctl]
REFERRING_CLIENTS = [Oras, Regctl]

SBOM = "application/vnd.example.sbom.v1"
SCAN = "application/vnd.example.scan.v1"


@pytest.fixture(scope="module")
def target(request: pytest.FixtureRequest) -> Target:
    elsewhere = os.environ.get("SLIPWAY_TEST_REGISTRY")
    if elsewhere:
        return Target(elsewhere)
    slipway = request.getfixturevalue("slipway")
    return Target(slipway.host, slipway.username, slipway.password)


@pytest.fixture(scope="module")
def registry(target: Target) -> Api:
    return Api(target.url, username=target.username, password=target.password)


@pytest.fixture
def home() -> Iterator[Path]:
    """The client's home folder; its path is short, for podman's sake."""
    folder = temporary_folder("home")
    yield folder
    remove_folder(folder)


@pytest.fixture
def repository(request: pytest.FixtureRequest) -> str:
    """A repository of this test's own, named after it."""
    return "clients/" + request.node.name.lower().replace("test_", "").replace("[", "/").replace("]", "")


def log_in(client, target: Target):
    if target.password is not None:
        client.login(target.password)
    return client


@pytest.fixture
def client(request: pytest.FixtureRequest, target: Target, home: Path):
    """The client that the test is parametrised with, logged in."""
    require(*request.param.parts)
    return log_in(request.param(target, home), target)


@pytest.fixture
def docker(target: Target, docker_engine: DockerEngine):
    client = log_in(Docker(target, docker_engine), target)
    yield client
    client.logout()


@pytest.mark.parametrize("client", LAYOUT_CLIENTS, indirect=True)
def test_client_pushes_and_pulls_an_image(client, registry: Api, repository: str, tmp_path: Path) -> None:
    image = make_image(f"{repository} pushed", layers=3)
    client.push(write_layout(tmp_path / "layout", {"v1": image}), "v1", repository)
    pushed = registry.find_digest(repository, "v1")
    if client.keeps_bytes:
        assert pushed == image.digest
    assert json.loads(registry.get_manifest(repository, "v1"))["config"]["digest"] == image.config_digest
    assert client.pull(repository, "v1") == pushed
    assert client.pull(repository, str(pushed)) == pushed


@pytest.mark.parametrize("client", INDEX_CLIENTS, indirect=True)
def test_client_pushes_and_pulls_an_index(client, registry: Api, repository: str, tmp_path: Path) -> None:
    index = make_index(repository)
    client.push(write_layout(tmp_path / "layout", {"v1": index}), "v1", repository)
    assert registry.find_digest(repository, "v1") == index.digest
    assert client.pull(repository, "v1") == index.digest
    for child in index.children:
        assert registry.get_manifest(repository, child.digest) == child.manifest


@pytest.mark.parametrize("client", COPYING_CLIENTS, indirect=True)
def test_client_copies_between_repositories(client, registry: Api, target: Target, repository: str) -> None:
    index = make_index(repository)
    registry.push(f"{repository}/from", "v1", index)
    client.copy(target.ref(f"{repository}/from", "v1"), f"{repository}/to", "v2")
    assert registry.find_digest(f"{repository}/to", "v2") == index.digest
    for child in index.children:
        assert registry.get_manifest(f"{repository}/to", child.digest) == child.manifest


@pytest.mark.parametrize("client", LISTING_CLIENTS, indirect=True)
def test_client_lists_tags(client, registry: Api, repository: str) -> None:
    image = make_image(repository)
    tags = ["1.0", "1.1", "2.0", "Latest", "_x", "latest"]
    for tag in tags:
        registry.push(repository, tag, image)
    assert sorted(client.list_tags(repository)) == sorted(tags)


@pytest.mark.parametrize("client", CATALOG_CLIENTS, indirect=True)
def test_client_lists_repositories(client, registry: Api, repository: str) -> None:
    registry.push(repository, "1", make_image(repository))
    assert repository in client.list_repositories()


@pytest.mark.parametrize("client", DELETING_CLIENTS, indirect=True)
def test_client_deletes_by_digest(client, registry: Api, repository: str) -> None:
    kept, removed = make_image(repository + " kept"), make_image(repository + " removed")
    registry.push(repository, "kept", kept)
    registry.push(repository, "removed", removed)
    # skopeo resolves the tag itself and deletes the digest behind it.
    client.delete(repository, "removed" if isinstance(client, Skopeo) else removed.digest)
    assert registry.find_digest(repository, removed.digest) is None
    assert registry.find_digest(repository, "removed") is None
    assert registry.find_digest(repository, "kept") == kept.digest


@pytest.mark.parametrize("client", [Regctl], indirect=True)
def test_client_deletes_a_tag_alone(client, registry: Api, repository: str) -> None:
    image = make_image(repository)
    registry.push(repository, "one", image)
    registry.push(repository, "two", image)
    client.delete(repository, "one")
    assert registry.find_digest(repository, "one") is None
    assert registry.find_digest(repository, "two") == image.digest


@pytest.mark.parametrize("client", REFERRING_CLIENTS, indirect=True)
def test_client_attaches_and_lists_referrers(client, registry: Api, repository: str) -> None:
    image = make_image(repository)
    registry.push(repository, "1", image)
    client.attach(repository, "1", artifact_type=SBOM, content="an inventory")
    client.attach(repository, "1", artifact_type=SCAN, content="a scan")

    found = client.discover(repository, "1")
    assert {entry["artifactType"] for entry in found} == {SBOM, SCAN}
    only = client.discover(repository, "1", artifact_type=SBOM)
    assert [entry["annotations"]["test.content"] for entry in only] == ["an inventory"]
    if "SLIPWAY_TEST_REGISTRY" not in os.environ:
        # Seen by the API itself, and no tag made up as registries without it need.
        assert {entry["digest"] for entry in registry.list_referrers(repository, image.digest)} == {
            entry["digest"] for entry in found
        }
        assert registry.list_tags(repository) == ["1"]


def test_oras_pushes_and_pulls_a_file(target: Target, registry: Api, repository: str, home: Path) -> None:
    require(*Oras.parts)
    oras = log_in(Oras(target, home), target)
    digest = oras.push_file(repository, "1", artifact_type=SBOM, content="hello file\n")
    assert registry.find_digest(repository, "1") == digest
    assert oras.pull_file(repository, digest) == "hello file\n"


def test_oras_copies_an_image_with_its_referrers(target: Target, registry: Api, repository: str, home: Path) -> None:
    require(*Oras.parts)
    oras = log_in(Oras(target, home), target)
    image = make_image(repository)
    registry.push(f"{repository}/from", "1", image)
    attached = oras.attach(f"{repository}/from", "1", artifact_type=SBOM, content="travels along")
    oras.copy_with_referrers(target.ref(f"{repository}/from", "1"), f"{repository}/to", "1")
    assert [entry["digest"] for entry in oras.discover(f"{repository}/to", "1")] == [attached]


def test_docker_builds_pushes_pulls_and_runs(docker: Docker, registry: Api, repository: str) -> None:
    image_id = docker.build(repository, "1", text="hello from docker")
    digest = docker.push(repository, "1")
    assert registry.find_digest(repository, "1") == digest
    assert json.loads(registry.get_manifest(repository, "1"))["config"]["digest"] == image_id
    assert docker.pull(repository, "1") == image_id
    assert docker.run(repository, "1") == "hello from docker"
    assert docker.pull(repository, digest) == image_id


def test_docker_pushes_an_index(docker: Docker, registry: Api, target: Target, repository: str) -> None:
    children = make_index(repository).children
    for number, child in enumerate(children):
        registry.push(repository, f"part-{number}", child)
    docker.push_index(repository, "all", of=[target.ref(repository, f"part-{number}") for number in (0, 1)])
    pushed = json.loads(registry.get_manifest(repository, "all"))
    assert [entry["digest"] for entry in pushed["manifests"]] == [child.digest for child in children]


def test_second_docker_push_mounts_what_is_there(docker: Docker, registry: Api, repository: str) -> None:
    image_id = docker.build(f"{repository}/a", "1", text="shared")
    first = docker.push(f"{repository}/a", "1")
    docker.build(f"{repository}/b", "1", text="shared")  # from the build cache: the same image
    assert docker.push(f"{repository}/b", "1") == first
    docker.forget(f"{repository}/a", "1")
    assert docker.pull(f"{repository}/b", "1") == image_id


@pytest.mark.parametrize("client", [Podman, Regctl], indirect=True)
def test_client_makes_and_pushes_an_index(client, registry: Api, target: Target, repository: str) -> None:
    children = make_index(repository).children
    references = []
    for number, child in enumerate(children):
        registry.push(repository, f"part-{number}", child)
        references.append(target.ref(repository, f"part-{number}"))
    client.push_index(repository, "all", of=references)
    pushed = json.loads(registry.get_manifest(repository, "all"))
    assert [entry["digest"] for entry in pushed["manifests"]] == [child.digest for child in children]


def test_buildah_builds_pushes_and_pulls(target: Target, registry: Api, repository: str, home: Path) -> None:
    require(*Buildah.parts)
    buildah = log_in(Buildah(target, home), target)
    image_id = buildah.build("localhost/hello:1", text="hello")
    digest = buildah.push("localhost/hello:1", repository, "1")
    assert registry.find_digest(repository, "1") == digest
    buildah.remove_all()
    assert buildah.pull(repository, "1") == image_id
    config = json.loads(registry.get_manifest(repository, "1"))["config"]["digest"]
    assert config.removeprefix("sha256:") == image_id


def test_helm_pushes_and_pulls_a_chart(target: Target, registry: Api, repository: str, home: Path) -> None:
    require(*Helm.parts)
    helm = log_in(Helm(target, home), target)
    archive = helm.make_chart("hello", "1.2.3", text="greets")
    digest = helm.push(archive, repository)
    assert registry.find_digest(f"{repository}/hello", "1.2.3") == digest
    assert helm.pull(f"{repository}/hello", "1.2.3") == archive.read_bytes()
    assert "description: greets" in helm.show(f"{repository}/hello", "1.2.3")


def test_cosign_signs_and_verifies_with_a_key(target: Target, registry: Api, repository: str, home: Path) -> None:
    require(*Cosign.parts)
    cosign = log_in(Cosign(target, home), target)
    image = make_image(repository)
    registry.push(repository, "1", image)
    for key in ("mine", "other"):
        cosign.make_key(key)
    cosign.sign(repository, image.digest, key="mine")

    verified = cosign.verify(repository, "1", key="mine")
    assert verified.returncode == 0, verified.stderr
    assert image.digest in verified.stdout
    assert cosign.verify(repository, "1", key="other").returncode != 0
