"""What someone does first: push an image with docker, pull it again, look at what Slipway knows of it."""

from __future__ import annotations

from typing import Any

from tests.e2e.clients.docker_cli import Docker
from tests.e2e.clients.target import Target
from tests.parts.api import Api
from tests.parts.docker import DockerEngine

REPOSITORY = "acme/hello"


def push_pull_and_look(engine: DockerEngine, *, port: int, username: str, password: str) -> dict[str, Any]:
    """docker login, push and pull at localhost, then the image's entry in the API; every step is checked."""
    docker = Docker(Target(f"localhost:{port}", username, password), engine)
    api = Api(f"http://localhost:{port}", username=username, password=password)

    docker.login(password)
    image_id = docker.build(REPOSITORY, "1", text="hello, world")
    digest = docker.push(REPOSITORY, "1")
    assert docker.pull(REPOSITORY, "1") == image_id
    assert docker.run(REPOSITORY, "1") == "hello, world"

    shown = api.wait_for_image(REPOSITORY, digest)
    manifest = api.request("GET", f"/v2/{REPOSITORY}/manifests/{digest}", headers={"Accept": "*/*"})
    check_entry(shown, manifest=manifest.json(), manifest_size_bytes=len(manifest.content), image_id=image_id)
    docker.logout()
    return shown


def check_entry(shown: dict[str, Any], *, manifest: dict[str, Any], manifest_size_bytes: int, image_id: str) -> None:
    """The entry says what the manifest and config say."""
    assert shown["image_id"] == image_id
    assert shown["tags"] == ["1"]
    assert shown["media_type"] == manifest["mediaType"]
    assert [(platform["os"], platform["architecture"]) for platform in shown["platforms"]] == [("linux", "amd64")]
    assert [(layer["digest"], layer["size_bytes"], layer["media_type"]) for layer in shown["layers"]] == [
        (layer["digest"], layer["size"], layer["mediaType"]) for layer in manifest["layers"]
    ]
    content_bytes = manifest["config"]["size"] + sum(layer["size"] for layer in manifest["layers"])
    assert shown["size_bytes"] == content_bytes + manifest_size_bytes
    assert shown["created_at"] <= shown["pushed_at"]
