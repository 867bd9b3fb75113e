"""A plain client of the registry API and of Slipway's own, for checks between the steps of real clients."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

import requests

from tests.parts.images import OCI_INDEX, OCI_MANIFEST, Image, sha256_digest

T = TypeVar("T")
_TIMEOUT_S = 30.0
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
_ACCEPT = ", ".join((OCI_INDEX, OCI_MANIFEST, DOCKER_MANIFEST, DOCKER_LIST))


class Api:
    """Requests with a Basic login, or with none."""

    def __init__(self, url: str, *, username: str | None = None, password: str | None = None) -> None:
        self._url = url
        self._session = requests.Session()
        self._session.trust_env = False
        if username is not None:
            self._session.auth = (username, password or "")

    def request(self, method: str, path: str, **options: Any) -> requests.Response:
        return self._session.request(method, self._url + path, timeout=_TIMEOUT_S, **options)

    def get_json(self, path: str) -> Any:
        response = self.request("GET", path)
        assert response.ok, f"GET {path}: {response.status_code} {response.text[:500]}"
        return response.json()

    def get_manifest(self, repository: str, reference: str) -> bytes:
        """The bytes of a manifest, checked against the digest the registry states."""
        response = self.request("GET", f"/v2/{repository}/manifests/{reference}", headers={"Accept": _ACCEPT})
        assert response.status_code == 200, f"{repository}:{reference}: {response.status_code} {response.text[:500]}"
        stated = response.headers.get("Docker-Content-Digest", sha256_digest(response.content))
        assert stated == sha256_digest(response.content)
        return response.content

    def find_digest(self, repository: str, reference: str) -> str | None:
        """The digest behind a tag or digest, by HEAD; None when it is not there."""
        response = self.request("HEAD", f"/v2/{repository}/manifests/{reference}", headers={"Accept": _ACCEPT})
        if response.status_code == 404:
            return None
        assert response.status_code == 200, f"HEAD {repository}:{reference}: {response.status_code}"
        return str(response.headers["Docker-Content-Digest"])

    def list_tags(self, repository: str) -> list[str]:
        return list(self.get_json(f"/v2/{repository}/tags/list")["tags"])

    def list_referrers(self, repository: str, digest: str) -> list[dict[str, Any]]:
        return list(self.get_json(f"/v2/{repository}/referrers/{digest}")["manifests"])

    def list_images(self, repository: str) -> list[dict[str, Any]]:
        return list(self.get_json(f"/api/v1/repositories/{repository}/-/images")["images"])

    def wait_for_image(self, repository: str, digest: str, *, timeout_s: float = 15.0) -> dict[str, Any]:
        """The image as metadata shows it, which happens soon after the push, not with it."""

        def find() -> dict[str, Any] | None:
            response = self.request("GET", f"/api/v1/repositories/{repository}/-/images")
            if not response.ok:
                return None
            return next((image for image in response.json()["images"] if image["digest"] == digest), None)

        return wait_for(find, timeout_s=timeout_s, what=f"{repository}@{digest} among the images")

    def push(self, repository: str, tag: str, image: Image) -> None:
        """Push blobs, children and manifest, each in the plainest way the specification has."""
        self._push_content(repository, image)
        self._put_manifest(repository, tag, image)

    def _push_content(self, repository: str, image: Image) -> None:
        for digest, content in image.blobs.items():
            response = self.request("POST", f"/v2/{repository}/blobs/uploads/")
            assert response.status_code == 202, f"{response.status_code} {response.text}"
            location = response.headers["Location"].removeprefix(self._url)
            joint = "&" if "?" in location else "?"
            response = self.request(
                "PUT",
                f"{location}{joint}digest={digest}",
                data=content,
                headers={"Content-Type": "application/octet-stream"},
            )
            assert response.status_code == 201, f"{response.status_code} {response.text}"
        for child in image.children:
            self._push_content(repository, child)
            self._put_manifest(repository, child.digest, child)

    def _put_manifest(self, repository: str, reference: str, image: Image) -> None:
        response = self.request(
            "PUT",
            f"/v2/{repository}/manifests/{reference}",
            data=image.manifest,
            headers={"Content-Type": image.media_type},
        )
        assert response.status_code == 201, f"{response.status_code} {response.text}"


def wait_for(find: Callable[[], T | None], *, timeout_s: float, what: str) -> T:
    """Call `find` until it gives something; fail when it does not in time."""
    deadline = time.monotonic() + timeout_s
    while (found := find()) is None:
        assert time.monotonic() < deadline, f"waited {timeout_s:.0f} s in vain for {what}"
        time.sleep(0.1)
    return found
