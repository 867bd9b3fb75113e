"""deploy/compose.yaml: valid, safe by default, and started for real; where no image can be pulled, with stand-ins."""

from __future__ import annotations

import hashlib
import shutil
import ssl
import subprocess
import sys
import threading
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from slipway_common.launcher.service import installed_services
from slipway_common.settings import describe
from tests.e2e.outcome import REPOSITORY, push_pull_and_look
from tests.e2e.stand_ins import build_stand_ins
from tests.parts.api import Api
from tests.parts.certificates import Certificates, make_certificates
from tests.parts.docker import DockerEngine
from tests.parts.fixtures import require
from tests.parts.process import free_port, remove_folder, temporary_folder
from tests.parts.slipway import USERNAME
from tests.parts.versions import cache_folder

_ROOT = Path(__file__).resolve().parents[2]
_DEPLOY = _ROOT / "deploy"
_ONCE = {"s3-bucket"}  # runs once, as root, without a network, to make a folder
_OURS = {"gateway", "metadata"}
_BUILD_TIMEOUT_S = 600
_UP_TIMEOUT_S = 240


def _read_config(*files: str) -> dict[str, Any]:
    require("docker-compose")
    named = [part for file in files for part in ("--file", str(_DEPLOY / file))]
    result = subprocess.run(
        ["docker-compose", *named, "config"], capture_output=True, text=True, check=False, cwd=_DEPLOY, timeout=60
    )
    assert result.returncode == 0, result.stderr
    config = yaml.safe_load(result.stdout)
    assert isinstance(config, dict)
    return config


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found = _read_config("compose.yaml")["services"]
    assert isinstance(found, dict)
    return found


def test_https_file_adds_certificate_and_key() -> None:
    gateway = _read_config("compose.yaml", "compose.tls.yaml")["services"]["gateway"]
    assert gateway["environment"]["SLIPWAY_TLS_CERTIFICATE"] == "/run/secrets/tls_certificate"
    assert gateway["environment"]["SLIPWAY_STORAGE"] == "s3"
    assert {"tls_certificate", "tls_key", "master_key"} <= {secret["source"] for secret in gateway["secrets"]}


def test_every_variable_of_ours_is_a_setting(services: dict[str, Any]) -> None:
    known = {row["variable"] for row in describe(service.settings for service in installed_services().values())}
    for name in _OURS:
        given = set(services[name]["environment"])
        unknown = {
            variable for variable in given if variable not in known and variable.removesuffix("_FILE") not in known
        }
        assert not unknown, name


def test_every_service_is_started_and_watched(services: dict[str, Any]) -> None:
    assert set(installed_services()) == _OURS
    for name in services.keys() - _ONCE:
        assert services[name]["restart"] == "unless-stopped", name
        assert services[name]["healthcheck"]["test"], name


def test_no_service_runs_as_root_or_can_become_it(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert name in _ONCE or service["user"].partition(":")[0] not in ("", "0", "root"), name
        # Kafka's image writes its configuration where its programs are.
        assert name == "kafka" or service["read_only"] is True, name


def test_only_the_gateway_is_reached_from_outside_and_only_from_this_machine(services: dict[str, Any]) -> None:
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert published == {"gateway": ["127.0.0.1:5000:5000/tcp"]}
    assert all("edge" not in (services[name].get("networks") or {}) for name in services.keys() - {"gateway"})
    assert _read_config("compose.yaml")["networks"]["backend"]["internal"] is True


def test_no_secret_is_in_the_configuration(services: dict[str, Any]) -> None:
    for name, service in services.items():
        for variable, value in (service.get("environment") or {}).items():
            if any(word in variable for word in ("PASSWORD", "SECRET_KEY", "ACCESS_KEY", "DATABASE_URL")):
                assert str(value).startswith("/run/secrets/"), f"{name}: {variable}"


def test_secrets_are_made_once_and_closed_to_others(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    made = []
    for _ in range(2):
        subprocess.run([_DEPLOY / "make-secrets.sh", folder], check=True, capture_output=True)
        made.append({file.name: file.read_text() for file in folder.iterdir()})
    assert made[0] == made[1]
    assert set(made[0]) == set(_read_config("compose.yaml")["secrets"])
    assert folder.stat().st_mode & 0o777 == 0o700


class ComposeStack:
    """A copy of deploy/ in a folder of its own, brought up by docker-compose in the engine of the tests."""

    def __init__(self, engine: DockerEngine) -> None:
        self._engine = engine
        self._trust: ssl.SSLContext | None = None
        self.folder = temporary_folder("compose")
        self.port = free_port()
        shutil.copytree(_DEPLOY, self.folder / "deploy", ignore=shutil.ignore_patterns("secrets", ".env"))
        subprocess.run([self.folder / "deploy" / "make-secrets.sh"], check=True, capture_output=True)
        example = (self.folder / "deploy" / ".env.example").read_text()
        environment = example.replace("GATEWAY_ADDRESS=127.0.0.1:5000", f"GATEWAY_ADDRESS=127.0.0.1:{self.port}")
        assert environment != example
        (self.folder / "deploy" / ".env").write_text(environment)

    @property
    def password(self) -> str:
        return (self.folder / "deploy" / "secrets" / "admin_password").read_text().strip()

    @property
    def api(self) -> Api:
        return Api(f"http://localhost:{self.port}", username=USERNAME, password=self.password)

    def compose(self, *arguments: str) -> str:
        result = subprocess.run(
            ["docker-compose", *arguments],
            cwd=self.folder / "deploy",
            env=self._engine.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=_UP_TIMEOUT_S,
        )
        assert result.returncode == 0, f"docker-compose {' '.join(arguments)}: {result.stderr}"
        return result.stdout

    def up(self) -> None:
        self.compose("up", "--detach", "--no-build")
        deadline = time.monotonic() + _UP_TIMEOUT_S
        while not self._is_ready():
            if time.monotonic() > deadline:
                pytest.fail(f"not ready within {_UP_TIMEOUT_S} s:\n{self.compose('logs', '--no-color', '--tail=20')}")
            time.sleep(0.5)

    def use_https(self, certificates: Certificates) -> None:
        """What deploy/README.md says under HTTPS."""
        deploy = self.folder / "deploy"
        for name, source in (("tls_certificate", certificates.certificate), ("tls_key", certificates.key)):
            shutil.copy(source, deploy / "secrets" / name)
            (deploy / "secrets" / name).chmod(0o444)
        with (deploy / ".env").open("a") as environment:
            environment.write("COMPOSE_FILE=compose.yaml:compose.tls.yaml\n")
        self._trust = ssl.create_default_context(cafile=certificates.authority)

    def _is_ready(self) -> bool:
        url = f"{'https' if self._trust else 'http'}://127.0.0.1:{self.port}/readyz"
        try:
            with urllib.request.urlopen(url, timeout=5, context=self._trust) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.HTTPError):
            return False

    def close(self) -> None:
        try:
            self.compose("down", "--volumes", "--timeout=5")
        finally:
            remove_folder(self.folder)


@pytest.fixture(scope="module")
def stack(services: dict[str, Any], docker_engine: DockerEngine) -> Iterator[ComposeStack]:
    require("docker-compose", "java", "kafka", "versitygw")
    images = {name: services[name]["image"] for name in ("postgres", "kafka", "s3")}
    build_stand_ins(docker_engine, **images, python="python:3.11-slim-bookworm")
    _build_slipway(docker_engine, services["gateway"]["image"])
    stack = ComposeStack(docker_engine)
    try:
        stack.up()
        yield stack
    finally:
        stack.close()


def _build_slipway(engine: DockerEngine, name: str) -> None:
    """Build deploy/Dockerfile as it is, with wheels from this machine."""
    with _serve(_wheels()) as address:
        result = subprocess.run(
            [
                "docker", "build", "--network", "host", "--file", "deploy/Dockerfile", "--tag", name,
                "--build-arg", "PIP_NO_INDEX=1", "--build-arg", f"PIP_FIND_LINKS={address}", ".",
            ],
            cwd=_ROOT, env=engine.environment, capture_output=True, text=True, check=False, timeout=_BUILD_TIMEOUT_S,
        )  # fmt: skip
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]


def _wheels() -> Path:
    """A folder with everything that `pip install .` takes, made once for each set of requirements."""
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text())
    requirements = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    name = hashlib.sha256("\n".join(requirements).encode()).hexdigest()[:12]
    folder = cache_folder() / f"wheels-{name}"
    if not folder.exists():
        staging = folder.with_suffix(".new")
        shutil.rmtree(staging, ignore_errors=True)
        subprocess.run(
            [sys.executable, "-m", "pip", "wheel", "--quiet", "--retries", "5", "--wheel-dir", staging, *requirements],
            check=True,
            timeout=_BUILD_TIMEOUT_S,
        )
        staging.rename(folder)
    return folder


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def _serve(folder: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, name="wheels")
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.timeout(1500)
def test_docker_pushes_and_the_image_survives_all_containers(docker_engine: DockerEngine, stack: ComposeStack) -> None:
    shown = push_pull_and_look(docker_engine, port=stack.port, username=USERNAME, password=stack.password)

    stack.compose("down", "--timeout=30")
    stack.up()
    stack.api.wait_for_image(REPOSITORY, shown["digest"])
    assert stack.api.list_images(REPOSITORY) == [shown]


@pytest.mark.timeout(1500)
def test_services_run_as_the_user_of_the_image_on_a_read_only_system(stack: ComposeStack) -> None:
    for service in sorted(_OURS):
        assert stack.compose("exec", "-T", service, "id", "-u").strip() == "10001"
        written = stack.compose("exec", "-T", service, "sh", "-c", "touch /opt/slipway/x 2>&1 || true")
        assert "Read-only" in written


@pytest.mark.timeout(1500)
def test_gateway_speaks_https_with_the_file_for_it(stack: ComposeStack) -> None:
    folder = temporary_folder("tls")
    try:
        stack.use_https(make_certificates(folder))
        stack.up()
    finally:
        remove_folder(folder)
