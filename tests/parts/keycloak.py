"""A real OpenID provider: Keycloak, as a process, with its database in memory, and its login form filled in without a browser."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any

import aiohttp
import requests
from yarl import URL

from tests.parts.process import NotStarted, Program, free_port, remove_folder, temporary_folder
from tests.parts.versions import archive_folder

_START_TIMEOUT_S = 120.0
_TIMEOUT_S = 30.0
# What bin/kc.sh passes; started without it, so that the process to stop is the one that was started.
_JAVA_OPTIONS = (
    "-Xms64m",
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Djava.util.concurrent.ForkJoinPool.common.threadFactory="
    "io.quarkus.bootstrap.forkjoin.QuarkusForkJoinWorkerThreadFactory",
    "-Djava.util.logging.manager=org.jboss.logmanager.LogManager",
    "--add-opens=java.base/java.util=ALL-UNNAMED",
    "--add-opens=java.base/java.util.concurrent=ALL-UNNAMED",
    "--add-opens=java.base/java.security=ALL-UNNAMED",
    "-Duser.language=en",
)
_PARTS_OF_A_HOME = ("bin", "conf", "lib", "providers", "themes")


class KeycloakServer:
    """Start it, make realms; what is in them is gone when it stops."""

    def __init__(self) -> None:
        self.folder = temporary_folder("keycloak")
        self.port = free_port()
        self._password = secrets.token_hex(12)
        self._program: Program | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> KeycloakServer:
        """Start and wait until it answers: 20 to 30 s on a small machine."""
        home = self.folder / "home"
        if not home.exists():
            self._make_home()
        self._program = Program(
            "Keycloak",
            [
                _java(), *_JAVA_OPTIONS, f"-Dkc.home.dir={home}", f"-Djboss.server.config.dir={home}/conf",
                "-cp", f"{home}/lib/quarkus-run.jar", "io.quarkus.bootstrap.runner.QuarkusEntryPoint",
                "start", "--optimized", "--cache=local", "--http-enabled=true", "--http-host=127.0.0.1",
                f"--http-port={self.port}", f"--hostname={self.url}",
            ],
            log=self.folder / "keycloak.log",
            environment={
                "PATH": os.environ.get("PATH", ""),
                "KC_BOOTSTRAP_ADMIN_USERNAME": "admin",
                "KC_BOOTSTRAP_ADMIN_PASSWORD": self._password,
            },
            cwd=self.folder,
        )  # fmt: skip
        self._program.spawn()
        self._program.wait_until(self._answers, timeout_s=_START_TIMEOUT_S)
        return self

    def _make_home(self) -> None:
        """It writes below its home, so each server has one of its own, with the program linked into it."""
        home = self.folder / "home"
        home.mkdir()
        for part in _PARTS_OF_A_HOME:
            (home / part).symlink_to(archive_folder("keycloak") / part)

    def _answers(self) -> bool:
        try:
            return requests.get(f"{self.url}/realms/master", timeout=5).ok
        except requests.RequestException:
            return False

    def create_realm(self, name: str) -> Realm:
        self.admin("POST", "/admin/realms", {"realm": name, "enabled": True, "sslRequired": "none"})
        return Realm(self, name)

    def admin(self, method: str, path: str, body: dict[str, Any] | None = None) -> requests.Response:
        """Call the admin API with a token of this moment: they live for a minute."""
        login = {"grant_type": "password", "client_id": "admin-cli", "username": "admin", "password": self._password}
        answer = requests.post(
            f"{self.url}/realms/master/protocol/openid-connect/token", data=login, timeout=_TIMEOUT_S
        )
        answer.raise_for_status()
        response = requests.request(
            method,
            self.url + path,
            json=body,
            headers={"Authorization": f"Bearer {answer.json()['access_token']}"},
            timeout=_TIMEOUT_S,
        )
        assert response.ok, f"{method} {path}: {response.status_code} {response.text[:500]}"
        return response

    def close(self) -> None:
        if self._program is not None:
            self._program.kill()
        remove_folder(self.folder)


@dataclass(frozen=True, slots=True)
class Realm:
    """One realm, which is one issuer."""

    server: KeycloakServer
    name: str

    @property
    def issuer(self) -> str:
        return f"{self.server.url}/realms/{self.name}"

    @property
    def token_url(self) -> str:
        return f"{self.issuer}/protocol/openid-connect/token"

    def create_client(
        self,
        client_id: str,
        *,
        redirect_uris: Sequence[str] = (),
        secret: str | None = None,
        service_account: bool = False,
        audience: str | None = None,
    ) -> None:
        """A client for logins with PKCE; public without a secret; `audience` is added to its access tokens."""
        mappers = [_groups_mapper()]
        if audience is not None:
            mappers.append(_audience_mapper(audience))
        client = {
            "clientId": client_id,
            "protocol": "openid-connect",
            "publicClient": secret is None,
            "secret": secret,
            "standardFlowEnabled": bool(redirect_uris),
            "directAccessGrantsEnabled": False,
            "serviceAccountsEnabled": service_account,
            "redirectUris": list(redirect_uris),
            "attributes": {"pkce.code.challenge.method": "S256"},
            "protocolMappers": mappers,
        }
        self._admin("POST", "/clients", client)

    def create_group(self, name: str) -> None:
        self._admin("POST", "/groups", {"name": name})

    def create_user(self, name: str, password: str, *, groups: Sequence[str] = (), email: str | None = None) -> None:
        """A user who has nothing left to fill in at the first login. The groups must be there."""
        user = {
            "username": name,
            "enabled": True,
            "email": email or f"{name}@example.com",
            "emailVerified": True,
            "firstName": name.capitalize(),
            "lastName": "Example",
            "groups": list(groups),
            "credentials": [{"type": "password", "value": password, "temporary": False}],
        }
        self._admin("POST", "/users", user)

    def service_account_token(self, client_id: str, secret: str) -> str:
        """An access token that a program gets for itself (RFC 6749, section 4.4)."""
        form = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": secret}
        response = requests.post(self.token_url, data=form, timeout=_TIMEOUT_S)
        assert response.ok, response.text
        return str(response.json()["access_token"])

    def _admin(self, method: str, path: str, body: dict[str, Any] | None = None) -> requests.Response:
        return self.server.admin(method, f"/admin/realms/{self.name}{path}", body)


class LoginForm(HTMLParser):
    """Where Keycloak's login form is sent to."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.action: str | None = None
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        if tag == "form" and attributes.get("id") == "kc-form-login":
            self.action = attributes.get("action")


async def log_in(url: str, username: str, password: str) -> Mapping[str, str]:
    """Do what a browser does that was sent to `url`; return the query with which Keycloak sends it back."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as browser:
        async with browser.get(URL(url, encoded=True), allow_redirects=False) as response:
            page = await response.text()
            assert response.status == 200, f"{response.status} {response.headers.get('Location')} {page[:500]}"
            # By hand: these are for https only, and a browser makes an exception for this machine itself.
            cookies = {name: cookie.value for name, cookie in response.cookies.items()}
        action = LoginForm(page).action
        assert action is not None, page[:2000]
        form = {"username": username, "password": password, "credentialId": ""}
        async with browser.post(action, data=form, cookies=cookies, allow_redirects=False) as response:
            assert response.status == 302, f"no redirect after the login: {response.status} {await response.text()}"
            return dict(URL(response.headers["Location"]).query)


def _groups_mapper() -> dict[str, Any]:
    """Puts the names of a user's groups into the ID token."""
    return {
        "name": "groups",
        "protocol": "openid-connect",
        "protocolMapper": "oidc-group-membership-mapper",
        "config": {
            "claim.name": "groups",
            "full.path": "false",
            "id.token.claim": "true",
            "access.token.claim": "false",
        },
    }


def _audience_mapper(audience: str) -> dict[str, Any]:
    return {
        "name": "audience",
        "protocol": "openid-connect",
        "protocolMapper": "oidc-audience-mapper",
        "config": {"included.custom.audience": audience, "access.token.claim": "true", "id.token.claim": "false"},
    }


def _java() -> str:
    java = shutil.which("java")
    if java is None:
        raise NotStarted("Keycloak needs a Java runtime")
    return java
