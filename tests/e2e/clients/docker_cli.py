"""docker, which pushes what its engine holds."""

from __future__ import annotations

from tests.e2e.clients.target import Target
from tests.parts.docker import DockerEngine


class Docker:
    parts = ("docker",)

    def __init__(self, target: Target, engine: DockerEngine) -> None:
        self._target = target
        self._engine = engine

    def login(self, password: str) -> None:
        target = self._target
        self._engine.docker("login", "-u", target.username or "", "--password-stdin", target.host, stdin=password)

    def logout(self) -> None:
        self._engine.docker("logout", self._target.host)

    def build(self, repository: str, tag: str, *, text: str) -> str:
        """Build an image that prints `text`; returns its image id."""
        name = self._target.ref(repository, tag)
        self._engine.build_busybox(name, text=text)
        return self._engine.image_id(name)

    def push(self, repository: str, tag: str) -> str:
        """Push; returns the digest docker reports."""
        said = self._engine.docker("push", self._target.ref(repository, tag))
        return next(word for word in said.split() if word.startswith("sha256:"))

    def pull(self, repository: str, reference: str) -> str:
        """Forget the image, pull it again; returns its image id."""
        name = self._target.ref(repository, reference)
        self.forget(repository, reference)
        self._engine.docker("pull", name)
        return self._engine.image_id(name)

    def forget(self, repository: str, reference: str) -> None:
        name = self._target.ref(repository, reference)
        if self._engine.docker("image", "ls", "--quiet", name):
            self._engine.docker("rmi", "--force", name)

    def run(self, repository: str, reference: str) -> str:
        return self._engine.docker("run", "--rm", "--network", "none", self._target.ref(repository, reference))

    def push_index(self, repository: str, tag: str, *, of: list[str]) -> None:
        """Make a manifest list of images in the registry and push it."""
        name = self._target.ref(repository, tag)
        self._engine.docker("manifest", "create", "--insecure", name, *of)
        self._engine.docker("manifest", "push", "--purge", "--insecure", name)
