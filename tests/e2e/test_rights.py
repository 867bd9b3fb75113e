"""The rights of users and robots as real clients meet them: docker, podman, skopeo, crane; secrets that end, refresh tokens."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import requests

from tests.e2e.clients.crane import Crane
from tests.e2e.clients.docker_cli import Docker
from tests.e2e.clients.podman import Podman
from tests.e2e.clients.skopeo import Skopeo
from tests.e2e.clients.target import Target
from tests.parts.api import Api
from tests.parts.docker import DockerEngine
from tests.parts.fixtures import require
from tests.parts.images import make_image, write_layout
from tests.parts.process import remove_folder, temporary_folder
from tests.parts.slipway import SlipwayProcess

pytestmark = pytest.mark.timeout(300)
CLIENTS = [Crane, Skopeo, Podman]
PASSWORD = "a-password-of-ours"


class Admin:
    """The administrator, by the management API."""

    def __init__(self, slipway: SlipwayProcess) -> None:
        self._base = f"{slipway.url}/api/v1"
        self._session = requests.Session()
        self._session.auth = (slipway.username, slipway.password)

    def call(self, method: str, path: str, document: object = None) -> dict:
        answer = self._session.request(method, self._base + path, json=document, timeout=30)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else {}

    def add_user(self, name: str) -> None:
        self.call("POST", "/users", {"name": name, "password": PASSWORD})

    def grant(self, subject: str, role: str, repository: str) -> None:
        self.call("PUT", f"/repositories/{repository}/-/grants/{subject}", {"role": role})

    def take(self, subject: str, repository: str) -> None:
        self.call("DELETE", f"/repositories/{repository}/-/grants/{subject}")

    def set_visibility(self, repository: str, visibility: str) -> None:
        self.call("PATCH", f"/repositories/{repository}", {"visibility": visibility})


@pytest.fixture(scope="module")
def admin(slipway: SlipwayProcess) -> Admin:
    made = Admin(slipway)
    made.call("POST", "/namespaces", {"name": "rights"})
    for name in ("owner", "colleague"):
        made.add_user(name)
    made.call("PUT", "/namespaces/rights/grants/user:owner", {"role": "writer"})
    return made


@pytest.fixture
def homes() -> Iterator[list[Path]]:
    folders = [temporary_folder("home") for _ in range(3)]
    yield folders
    for folder in folders:
        remove_folder(folder)


def target_of(slipway: SlipwayProcess, username: str | None) -> Target:
    return Target(slipway.host, username, PASSWORD)


@pytest.mark.parametrize("kind", CLIENTS)
def test_owner_pushes_and_a_colleague_pulls_once_it_is_granted(
    kind, slipway: SlipwayProcess, admin: Admin, homes: list[Path], tmp_path: Path
) -> None:
    require(*kind.parts)
    repository = f"rights/console-{kind.__name__.lower()}"
    owner, colleague, nobody = [
        kind(target_of(slipway, name), home) for name, home in zip(("owner", "colleague", None), homes, strict=True)
    ]
    owner.login(PASSWORD)
    colleague.login(PASSWORD)
    owner.push(write_layout(tmp_path / "layout", {"1": make_image(repository)}), "1", repository)
    with pytest.raises(AssertionError) as denied:
        colleague.pull(repository, "1")
    with pytest.raises(AssertionError) as missing:
        colleague.pull(f"{repository}-missing", "1")
    assert _words(denied, repository) == _words(missing, f"{repository}-missing")
    with pytest.raises(AssertionError):
        nobody.pull(repository, "1")
    admin.grant("user:colleague", "reader", repository)
    pulled = colleague.pull(repository, "1")
    with pytest.raises(AssertionError):
        colleague.push(write_layout(tmp_path / "other", {"2": make_image("no")}), "2", repository)
    admin.set_visibility(repository, "public")
    assert nobody.pull(repository, "1") == pulled
    admin.set_visibility(repository, "private")
    with pytest.raises(AssertionError):
        nobody.pull(repository, "1")
    admin.take("user:colleague", repository)
    with pytest.raises(AssertionError):
        colleague.pull(repository, "1")


def _words(raised: pytest.ExceptionInfo[AssertionError], repository: str) -> str:
    """What a client complains of, without what differs from run to run: names, times, folders."""
    lines = [line for line in str(raised.value).replace(repository, "NAME").splitlines() if "denied" in line.lower()]
    assert lines, str(raised.value)
    return " ".join(word for word in " ".join(lines).split() if "time=" not in word)


@pytest.mark.parametrize("kind", CLIENTS)
def test_robot_pushes_where_it_may_until_its_secret_ends(
    kind, slipway: SlipwayProcess, admin: Admin, homes: list[Path], tmp_path: Path
) -> None:
    require(*kind.parts)
    mine, other = f"rights/robot-{kind.__name__.lower()}", f"rights/foreign-{kind.__name__.lower()}"
    for repository in (mine, other):
        admin.call("POST", "/repositories", {"name": repository})
    name = f"ci-{kind.__name__.lower()}"
    made = admin.call(
        "POST",
        "/namespaces/rights/robots",
        {"name": name, "role": "writer", "repositories": [mine], "actions": ["push", "pull"]},
    )
    robot = kind(replace(target_of(slipway, f"rights+{name}"), password=made["secret"]), homes[0])
    robot.login(made["secret"])
    push(robot, tmp_path, "1", mine)
    with pytest.raises(AssertionError):
        push(robot, tmp_path, "1", other)
    life_s = 8
    second = admin.call("POST", f"/robots/rights+{name}/secrets", {"expires_in_days": life_s / 86_400})
    ends_at = time.monotonic() + life_s
    admin.call("DELETE", _first(admin, name))
    with pytest.raises(AssertionError):
        push(robot, tmp_path, "2", mine)
    successor = kind(replace(target_of(slipway, f"rights+{name}"), password=second["secret"]), homes[1])
    successor.login(second["secret"])
    push(successor, tmp_path, "3", mine)
    time.sleep(max(0.0, ends_at + 1 - time.monotonic()))
    with pytest.raises(AssertionError):
        push(successor, tmp_path, "4", mine)
    listed = Api(slipway.url, username=slipway.username, password=slipway.password).list_tags(mine)
    assert listed == ["1", "3"]


def push(client, folder: Path, tag: str, repository: str) -> None:
    layout = write_layout(folder / secrets.token_hex(4), {tag: make_image(f"{repository} {tag}")})
    client.push(layout, tag, repository)


def _first(admin: Admin, name: str) -> str:
    """The path of a robot's oldest secret."""
    found = admin.call("GET", f"/robots/rights+{name}")["secrets"]
    return f"/robots/rights+{name}/secrets/{min(one['id'] for one in found)}"


def test_docker_keeps_a_refresh_token_and_not_the_password(
    slipway: SlipwayProcess, admin: Admin, docker_engine: DockerEngine
) -> None:
    repository = "rights/docker"
    docker = Docker(target_of(slipway, "owner"), docker_engine)
    docker.login(PASSWORD)
    config = json.loads((docker_engine.folder / "config" / "config.json").read_text())
    kept = config["auths"][slipway.host]
    assert kept["identitytoken"].startswith("slipway_refresh_")
    assert PASSWORD not in json.dumps(config)
    built = docker.build(repository, "1", text="with a refresh token")
    docker.push(repository, "1")
    assert docker.pull(repository, "1") == built
    # A new password ends it.
    admin.call("PATCH", "/users/owner", {"password": PASSWORD + "-new"})
    with pytest.raises(AssertionError):
        docker.pull(repository, "1")
    admin.call("PATCH", "/users/owner", {"password": PASSWORD})
    docker.login(PASSWORD)
    assert docker.pull(repository, "1") == built
    docker.logout()


def test_docker_pulls_what_is_public_without_a_login(
    slipway: SlipwayProcess, admin: Admin, docker_engine: DockerEngine
) -> None:
    repository = "rights/open"
    docker = Docker(target_of(slipway, "colleague"), docker_engine)
    admin.call("POST", "/repositories", {"name": repository})
    admin.grant("user:colleague", "writer", repository)
    docker.login(PASSWORD)
    built = docker.build(repository, "1", text="for everybody")
    docker.push(repository, "1")
    docker.logout()
    with pytest.raises(AssertionError, match=r"denied|unauthorized|authentication required|no basic auth"):
        docker.pull(repository, "1")
    admin.set_visibility(repository, "public")
    assert docker.pull(repository, "1") == built
    admin.set_visibility(repository, "private")
    with pytest.raises(AssertionError):
        docker.pull(repository, "1")
