"""The services as separate processes on a real PostgreSQL, Kafka and S3: the same image, the same answers."""

from __future__ import annotations

import os
import time

import pytest

from slipway_common.testing.images import an_image
from tests.e2e.outcome import push_pull_and_look
from tests.parts.api import Api, wait_for
from tests.parts.docker import DockerEngine
from tests.parts.fixtures import start_stack
from tests.parts.images import make_image, make_index, sha256_digest
from tests.parts.slipway import SlipwayStack

pytestmark = pytest.mark.timeout(300)

# What may differ between two registries that hold the same image.
_OF_THE_PUSH = {"pushed_at"}
# Waiting for a database that is gone must end soon; with room for a busy machine.
_ANSWER_WITHIN_S = 5.0


@pytest.fixture
def stack_api(slipway_stack: SlipwayStack) -> Api:
    return Api(slipway_stack.url, username=slipway_stack.username, password=slipway_stack.password)


def test_docker_pushes_and_the_stack_shows_the_image(docker_engine: DockerEngine, slipway_stack: SlipwayStack) -> None:
    push_pull_and_look(
        docker_engine, port=slipway_stack.port, username=slipway_stack.username, password=slipway_stack.password
    )


def test_stack_and_embedded_show_the_same_image(api: Api, stack_api: Api) -> None:
    image = make_image("the same bytes", layers=3)
    shown = []
    for place in (api, stack_api):
        place.push("acme/same", "1", image)
        entry = place.wait_for_image("acme/same", image.digest)
        shown.append({key: value for key, value in entry.items() if key not in _OF_THE_PUSH})
    embedded, stack = shown
    assert embedded == stack


def test_index_and_its_platforms_appear_in_the_stack(stack_api: Api) -> None:
    index = make_index("stack index", (("amd64", None), ("arm64", "v8"), ("arm", "v7")))
    stack_api.push("acme/multi", "1", index)
    shown = stack_api.wait_for_image("acme/multi", index.digest)
    assert [(p["os"], p["architecture"], p["variant"]) for p in shown["platforms"]] == [
        ("linux", "amd64", None),
        ("linux", "arm64", "v8"),
        ("linux", "arm", "v7"),
    ]


def test_pushes_go_on_while_kafka_is_away_and_appear_when_it_is_back(
    slipway_stack: SlipwayStack, stack_api: Api
) -> None:
    slipway_stack.kafka.stop()
    try:
        images = [make_image(f"without kafka {number}") for number in range(5)]
        for number, image in enumerate(images):
            stack_api.push("acme/away", f"v{number}", image)
            assert stack_api.find_digest("acme/away", f"v{number}") == image.digest
    finally:
        slipway_stack.kafka.start()
    for image in images:
        stack_api.wait_for_image("acme/away", image.digest, timeout_s=60)


def test_gateway_starts_while_kafka_is_away(slipway_stack: SlipwayStack, stack_api: Api) -> None:
    slipway_stack.kafka.stop()
    try:
        slipway_stack.gateway.terminate()
        slipway_stack.gateway.start()
        image = make_image("started without kafka")
        stack_api.push("acme/started", "1", image)
    finally:
        slipway_stack.kafka.start()
    stack_api.wait_for_image("acme/started", image.digest, timeout_s=60)


def test_database_away_is_a_503_that_says_when_to_retry(slipway_stack: SlipwayStack, stack_api: Api) -> None:
    stack_api.push("acme/db", "1", make_image("before"))
    slipway_stack.postgres.stop()
    try:
        asked = time.monotonic()
        response = stack_api.request("POST", "/v2/acme/db/blobs/uploads/")
        assert response.status_code == 503
        assert time.monotonic() - asked < _ANSWER_WITHIN_S
        assert int(response.headers["Retry-After"]) >= 1
        assert response.json()["errors"][0]["code"]
        assert not slipway_stack.gateway.is_ready()
    finally:
        slipway_stack.postgres.start()
    wait_for(lambda: slipway_stack.gateway.is_ready() or None, timeout_s=30, what="the gateway to be ready again")
    stack_api.push("acme/db", "2", make_image("after"))


def test_object_storage_away_means_no_acknowledgement_of_what_would_be_there(
    slipway_stack: SlipwayStack, stack_api: Api
) -> None:
    image, small = an_image("large").with_layer(os.urandom(100_000)).build(), make_image("without storage")
    slipway_stack.s3.stop()
    try:
        with pytest.raises(AssertionError, match=r"^503\b"):
            stack_api.push("acme/s3", "1", image)
        stack_api.push("acme/s3", "small", small)
    finally:
        slipway_stack.s3.start()
    assert stack_api.find_digest("acme/s3", "1") is None
    stack_api.push("acme/s3", "1", image)
    assert stack_api.find_digest("acme/s3", "1") == image.digest
    assert stack_api.find_digest("acme/s3", "small") == small.digest


@pytest.mark.parametrize("size", [1000, 100_000], ids=["a-row", "an-object"])
def test_second_gateway_ends_the_upload_that_the_first_began(size: int) -> None:
    """Any gateway process serves any request: an upload begun here is continued there, at once and byte-exact."""
    stack = start_stack(gateways=2)
    try:
        first, second = (
            Api(gateway.url, username=stack.username, password=stack.password) for gateway in stack.gateways
        )
        content = os.urandom(size)
        digest = sha256_digest(content)
        location = first.request("POST", "/v2/acme/two/blobs/uploads/").headers["Location"]
        half = len(content) // 2
        answer = second.request("PATCH", location, data=content[:half])
        assert answer.status_code == 202, answer.text
        answer = first.request("PATCH", answer.headers["Location"], data=content[half:])
        assert answer.status_code == 202, answer.text
        location = answer.headers["Location"]
        joint = "&" if "?" in location else "?"
        assert second.request("PUT", f"{location}{joint}digest={digest}").status_code == 201
        assert first.request("GET", f"/v2/acme/two/blobs/{digest}").content == content
    finally:
        stack.close()
