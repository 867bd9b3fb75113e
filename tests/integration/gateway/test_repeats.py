"""Requests that repeat an earlier one byte for byte: answered from memory, and never with what no longer holds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest
from prometheus_client.parser import text_string_to_metric_families

from slipway_common.testing.images import an_image
from tests.integration.gateway.client import Client


class Wire:
    """One connection on which bytes are sent as they are, so that a request can be repeated exactly."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def ask(self, request: bytes) -> tuple[int, dict[str, str], bytes]:
        self._writer.write(request)
        return await self.read(body=not request.startswith(b"HEAD"))

    async def read(self, *, body: bool = True) -> tuple[int, dict[str, str], bytes]:
        head = (await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), 10)).decode("latin-1")
        status, *lines = head.split("\r\n")[:-2]
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        length = int(headers.get("content-length", "0")) if body else 0
        return int(status.split()[1]), headers, await self._reader.readexactly(length)

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    def close(self) -> None:
        self._writer.close()


@pytest.fixture
async def wire(client: Client) -> AsyncIterator[Wire]:
    address = urlsplit(client.url)
    opened = Wire(*await asyncio.open_connection(address.hostname, address.port))
    yield opened
    opened.close()


def get(client: Client, path: str, method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: registry\r\nAuthorization: {client.authorization}\r\n\r\n".encode()


async def repeated(client: Client) -> float:
    """How many answers of the gateway were repeated so far (told in steps of 256)."""
    text = (await client.get("/metrics")).body.decode()
    samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    return sum(sample.value for sample in samples if sample.name == "slipway_repeated_answers_total")


async def test_repeated_answer_is_the_first_answer(client: Client, repository: str, wire: Wire) -> None:
    image = an_image().build()
    await client.push(repository, image, "1")
    before = await repeated(client)
    for path in (f"manifests/{image.digest}", "manifests/1", "tags/list", f"blobs/{next(iter(image.blobs))}"):
        request = get(client, f"/v2/{repository}/{path}")
        first_status, first_headers, first_body = await wire.ask(request)
        for _ in range(200):
            status, headers, body = await wire.ask(request)
            assert (status, body) == (first_status, first_body)
            assert headers.keys() == first_headers.keys()
            assert {**headers, "date": ""} == {**first_headers, "date": ""}
    assert await repeated(client) - before >= 512, "the answers did not come from memory"


async def test_moved_tag_is_seen_by_the_next_request(client: Client, repository: str, wire: Wire) -> None:
    request = get(client, f"/v2/{repository}/manifests/latest")
    for number in range(20):
        image = an_image(str(number)).build()
        await client.push(repository, image, "latest")
        for _ in range(3):
            _, headers, body = await wire.ask(request)
            assert (headers["docker-content-digest"], body) == (image.digest, image.manifest)


async def test_deleted_content_is_gone_at_the_next_request(client: Client, repository: str, wire: Wire) -> None:
    image = an_image().build()
    await client.push(repository, image, "1")
    paths = ["manifests/1", f"manifests/{image.digest}", *(f"blobs/{name}" for name in image.blobs)]
    requests = [get(client, f"/v2/{repository}/{path}") for path in paths]
    for request in requests * 2:
        assert (await wire.ask(request))[0] == 200
    assert (await client.delete(f"/v2/{repository}/manifests/{image.digest}")).status == 202
    for name in image.blobs:
        assert (await client.delete(f"/v2/{repository}/blobs/{name}")).status == 202
    for request in requests:
        assert (await wire.ask(request))[0] == 404


async def test_new_tag_is_in_the_next_list(client: Client, repository: str, wire: Wire) -> None:
    image = an_image().build()
    request = get(client, f"/v2/{repository}/tags/list")
    for tag in ("a", "b", "c"):
        await client.push(repository, image, tag)
        for _ in range(2):
            assert f'"{tag}"'.encode() in (await wire.ask(request))[2]


async def test_answer_is_not_given_to_another_credential(
    client: Client, repository: str, wire: Wire, eve: Client
) -> None:
    await client.push(repository, an_image().build(), "1")
    path = f"/v2/{repository}/manifests/1"
    for _ in range(3):
        assert (await wire.ask(get(client, path)))[0] == 200
        assert (await wire.ask(get(eve, path)))[0] == 403


async def test_requests_in_one_piece_or_in_many_are_answered_in_order(
    client: Client, repository: str, wire: Wire
) -> None:
    image = an_image().build()
    await client.push(repository, image, "1")
    known = get(client, f"/v2/{repository}/manifests/1")
    other = get(client, f"/v2/{repository}/tags/list")
    for _ in range(3):
        assert (await wire.ask(known))[0] == 200
    wire.send(other + known + other)
    bodies = [(await wire.read())[2] for _ in range(3)]
    assert bodies == [bodies[0], image.manifest, bodies[0]]
    # After that the known bytes may arrive as the tail of another request, where they must not be taken for one.
    upload = await client.open_upload(repository)
    head = f"PATCH {upload} HTTP/1.1\r\nHost: r\r\nAuthorization: {client.authorization}\r\nContent-Length: {len(known)}\r\n\r\n"
    wire.send(head.encode())
    await asyncio.sleep(0.05)
    wire.send(known)
    status, headers, _ = await wire.read()
    assert (status, headers["range"]) == (202, f"0-{len(known) - 1}")
    assert (await wire.ask(known))[2] == image.manifest


async def test_body_that_looks_like_a_known_request_is_a_body(client: Client, repository: str, wire: Wire) -> None:
    await client.push(repository, an_image().build(), "1")
    known = get(client, f"/v2/{repository}/manifests/1")
    upload = await client.open_upload(repository)
    for _ in range(2):
        assert (await wire.ask(known))[0] == 200
    head = f"PATCH {upload} HTTP/1.1\r\nHost: r\r\nAuthorization: {client.authorization}\r\nContent-Length: {len(known)}\r\n\r\n"
    wire.send(head.encode())
    wire.send(known)
    status, headers, _ = await wire.read()
    assert (status, headers["range"]) == (202, f"0-{len(known) - 1}")
