"""The promise of the README: start Slipway, docker login, push and pull, and see the image with its layers."""

from __future__ import annotations

import re
import time

import pytest

from tests.e2e.outcome import REPOSITORY, push_pull_and_look
from tests.parts.api import Api
from tests.parts.docker import DockerEngine
from tests.parts.slipway import SlipwayProcess

_READY_WITHIN_S = 10.0


def test_docker_pushes_and_slipway_shows_the_image(docker_engine: DockerEngine) -> None:
    started = time.monotonic()
    slipway = SlipwayProcess().start()
    try:
        assert time.monotonic() - started < _READY_WITHIN_S
        shown = push_pull_and_look(
            docker_engine, port=slipway.port, username=slipway.username, password=slipway.password
        )
        slipway.terminate()
        slipway.start()
        api = Api(slipway.url, username=slipway.username, password=slipway.password)
        assert api.list_images(REPOSITORY) == [shown]
    finally:
        slipway.close()


def test_first_start_prints_a_generated_login_once() -> None:
    slipway = SlipwayProcess(password="")
    try:
        slipway.start()
        printed = slipway.log.read_text()
        assert slipway.url in printed or slipway.url.replace("127.0.0.1", "localhost") in printed
        password = _find_password(printed)
        assert Api(slipway.url, username="admin", password=password).request("GET", "/v2/").status_code == 200
        assert Api(slipway.url, username="admin", password="wrong").request("GET", "/v2/").status_code == 401

        slipway.terminate()
        slipway.start()
        assert slipway.log.read_text().count(password) == 1
        assert Api(slipway.url, username="admin", password=password).request("GET", "/v2/").status_code == 200
    finally:
        slipway.close()


def _find_password(printed: str) -> str:
    found = re.search(r"[Pp]assword\W+([A-Za-z0-9_-]{12,})", printed)
    if found is None:
        pytest.fail(f"no generated password in what was printed:\n{printed}")
    return found.group(1)
