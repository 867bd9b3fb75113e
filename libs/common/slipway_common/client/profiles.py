"""Where this user is logged in: one JSON file that nobody else can read.

    ~/.config/slipway/config.json        (0600, in a folder of 0700; $XDG_CONFIG_HOME is honoured)
    {
      "current": "https://registry.example.com",
      "registries": {"https://registry.example.com": {"name": "alice", "token": "slipway_pat_…", "ours": true}}
    }

`SLIPWAY_URL` and `SLIPWAY_TOKEN` override it, for machines where nobody logs in.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from slipway_common.errors import InvalidInput, Misconfigured, Unauthenticated

DEFAULT_URL: Final = "http://localhost:5000"
# A host and perhaps a port: no name or password before, nothing behind.
_NETLOC = re.compile(r"(?:\[[0-9a-fA-F:.]+\]|[^\s@:/\[\]]+)(?::[0-9]+)?")
_LOCAL = re.compile(r"localhost|127(?:\.[0-9]{1,3}){3}|::1|[a-z0-9.-]+\.localhost")


class NotLoggedIn(Unauthenticated):
    """There is no login to act with."""


@dataclass(frozen=True, slots=True)
class Profile:
    """A login at one registry.

    name   who it is, as far as is known
    ours   whether `slipway login` made the token: then `slipway logout` revokes it
    given  whether the environment gave it
    """

    url: str
    token: str = field(repr=False)
    name: str = ""
    ours: bool = False
    given: bool = False


@dataclass(frozen=True, slots=True)
class Logins:
    """All of them. `current` is the URL of the one that counts when none is named."""

    current: str | None = None
    registries: Mapping[str, Profile] = field(default_factory=dict)


def config_path(environ: Mapping[str, str] = os.environ) -> Path:
    """Where the file is. Relative folders in XDG_CONFIG_HOME do not count (XDG Base Directory Specification)."""
    folder = Path(environ.get("XDG_CONFIG_HOME", ""))
    return (folder if folder.is_absolute() else Path.home() / ".config") / "slipway" / "config.json"


def parse_url(text: str) -> str:
    """A registry's address as everything else here knows it: scheme, host and port.

    Without a scheme it is https, but on this machine http, as container clients have it. Raises InvalidInput.
    """
    url = text.strip().removesuffix("/")
    if "://" not in url:
        url = f"{'http' if is_local(f'http://{url}') else 'https'}://{url}"
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable or url.partition("://")[2] != parts.netloc or not _NETLOC.fullmatch(parts.netloc):
        raise InvalidInput(
            "write the registry's address, for instance https://registry.example.com, without a path or a name in it"
        )
    return f"{parts.scheme}://{parts.netloc.lower()}"


def is_local(url: str) -> bool:
    """Whether the address is on this machine, so that nobody listens between."""
    try:
        return _LOCAL.fullmatch(urlsplit(url).hostname or "") is not None
    except ValueError:
        return False


class Profiles:
    """The file, and what the environment says instead."""

    def __init__(self, path: Path, environ: Mapping[str, str] = os.environ) -> None:
        self._path = path
        self._environ = environ

    def url(self, given: str | None = None) -> str:
        """Which registry is meant: the one given, by SLIPWAY_URL, the current one, or the one on this machine."""
        named = given or self._environ.get("SLIPWAY_URL")
        return parse_url(named) if named else self.load().current or DEFAULT_URL

    def current(self) -> Profile:
        """The login to act with. Raises NotLoggedIn."""
        named, token = self._environ.get("SLIPWAY_URL"), self._environ.get("SLIPWAY_TOKEN", "").strip()
        if token and not named:
            raise InvalidInput("SLIPWAY_TOKEN is set, but not SLIPWAY_URL: say which registry it is for")
        if token and named:
            return Profile(parse_url(named), token, given=True)
        logins = self.load()
        url = parse_url(named) if named else logins.current
        if url is None:
            raise NotLoggedIn("you are not logged in: slipway login https://registry.example.com")
        if url not in logins.registries:
            raise NotLoggedIn(f"you are not logged in at {url}: slipway login {url}")
        return logins.registries[url]

    def load(self) -> Logins:
        """What the file says; nothing, if there is none."""
        try:
            document = json.loads(self._path.read_bytes())
            return _parse(document)
        except FileNotFoundError:
            return Logins()
        except OSError as exc:
            raise Misconfigured(f"{self._path}: {exc.strerror}") from exc
        except (ValueError, TypeError, KeyError, AttributeError) as exc:
            raise Misconfigured(
                f"{self._path} cannot be read as a list of logins: remove it, and log in again"
            ) from exc

    def save(self, profile: Profile) -> None:
        """Keep a login; it is the current one from now on."""
        with self._changing() as logins:
            registries = {**logins.registries, profile.url: profile}
            self._write(replace(logins, current=profile.url, registries=registries))

    def forget(self, url: str) -> None:
        """Drop a login. If it was the current one, none is, unless only one is left."""
        with self._changing() as logins:
            registries = {key: each for key, each in logins.registries.items() if key != url}
            current = logins.current
            if current not in registries:
                current = next(iter(registries)) if len(registries) == 1 else None
            self._write(Logins(current, registries))

    @contextlib.contextmanager
    def _changing(self) -> Iterator[Logins]:
        """What is there, while nobody else changes it."""
        folder = self._path.parent
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as exc:
            raise Misconfigured(f"{folder}: {exc.strerror}") from exc
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield self.load()
        finally:
            os.close(lock)

    def _write(self, logins: Logins) -> None:
        """All or nothing: a new file takes the old one's place. (mkstemp makes it readable by its owner only.)"""
        content = json.dumps(_render(logins), indent=2, ensure_ascii=False).encode() + b"\n"
        try:
            handle, name = tempfile.mkstemp(dir=self._path.parent, prefix=".config-")
        except OSError as exc:
            raise Misconfigured(f"{self._path.parent}: {exc.strerror}") from exc
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(self._path)
        except OSError as exc:
            Path(name).unlink(missing_ok=True)
            raise Misconfigured(f"{self._path}: {exc.strerror}") from exc


def _parse(document: dict[str, Any]) -> Logins:
    registries = {
        url: Profile(url, token=str(each["token"]), name=str(each.get("name", "")), ours=each.get("ours") is True)
        for url, each in document["registries"].items()
    }
    return Logins(document.get("current"), registries)


def _render(logins: Logins) -> dict[str, Any]:
    registries = {
        url: {"name": each.name, "token": each.token, "ours": each.ours} for url, each in logins.registries.items()
    }
    return {"current": logins.current, "registries": registries}
