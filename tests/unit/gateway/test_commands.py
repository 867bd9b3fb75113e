"""The commands of `slipway`, as somebody types them, against a server that remembers what it was asked."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import socket
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from typer.core import TyperCommand, TyperGroup
from typer.testing import CliRunner, Result

from slipway_common.client.profiles import Profile, Profiles
from slipway_common.launcher.cli import app
from slipway_common.launcher.commands import installed_commands
from tests.unit.api_server import FakeApi, Reply, problem

TOKEN = "slipway_pat_0123456789"
PASSWORD = "correct horse"
NEW_TOKEN = {"id": 7, "name": "slipway on here", "token": TOKEN}


class Terminal:
    """Runs commands as a user with a home of their own; logged in, unless a test wants otherwise."""

    def __init__(self, api: FakeApi, home: Path) -> None:
        self.api = api
        self.config = home / "slipway" / "config.json"
        self.environ: dict[str, str | None] = {
            "XDG_CONFIG_HOME": str(home), "SLIPWAY_URL": None, "SLIPWAY_TOKEN": None, "DISPLAY": None, "WAYLAND_DISPLAY": None,
        }  # fmt: skip
        self.profiles = Profiles(self.config, {})

    def log_in(self, *, ours: bool = True) -> None:
        self.profiles.save(Profile(self.api.url, TOKEN, "alice", ours))

    def run(self, *arguments: str, input: str = "") -> Result:
        return CliRunner(env=self.environ).invoke(app, arguments, input=input)

    def done(self, *arguments: str, input: str = "") -> Result:
        """Run it, and see that it ended well."""
        result = self.run(*arguments, input=input)
        assert result.exit_code == 0, result.output
        return result


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    with FakeApi() as api:
        made = Terminal(api, tmp_path)
        made.log_in()
        yield made


@pytest.fixture
def stranger(tmp_path: Path) -> Iterator[Terminal]:
    """Somebody who is not logged in."""
    with FakeApi() as api:
        yield Terminal(api, tmp_path)


def row_of(result: Result, word: str) -> list[str]:
    (line,) = [line for line in result.stdout.splitlines() if word in line.split()]
    return line.split()


# The command line as a whole


def test_every_command_can_be_loaded_and_says_what_its_list_says(terminal: Terminal) -> None:
    for command in installed_commands():
        loaded = command.load()
        help_ = " ".join((loaded.help or "").split("\n\n")[0].split())
        assert help_.startswith(command.summary.removesuffix(".")), command.name
        assert command.name in terminal.done("--help").stdout


def test_every_command_teaches_by_an_example() -> None:
    def leaves(command: Any, path: str) -> Iterator[tuple[str, Any]]:
        if isinstance(command, TyperGroup):
            for name, each in command.commands.items():
                yield from leaves(each, f"{path} {name}")
        else:
            yield path, command

    for entry in installed_commands():
        if entry.database:
            continue
        for path, leaf in leaves(entry.load(), f"slipway {entry.name}"):
            assert isinstance(leaf, TyperCommand)
            assert f"Example: {path}" in (leaf.help or ""), path


def test_help_needs_none_of_what_services_need() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from slipway_common.launcher.cli import app;"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0;"
        "print(sorted({'aiohttp', 'asyncpg', 'pydantic', 'cryptography', 'slipway_gateway.app'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout.strip() == "[]"


def test_mistyped_command_is_corrected(terminal: Terminal) -> None:
    result = terminal.run("repos")
    assert result.exit_code == 2
    assert "Did you mean 'repo'" in result.stderr


def test_no_option_takes_a_secret() -> None:
    def options(command: Any) -> Iterator[str]:
        for each in getattr(command, "commands", {}).values():
            yield from options(each)
        yield from (one.name for one in command.params if one.param_type_name == "option" and not one.is_flag)

    names = {name for entry in installed_commands() for name in options(entry.load())}
    assert "username" in names
    assert not [name for name in names if any(word in name for word in ("password", "secret", "token"))]


# Logging in and out


def test_login_keeps_a_token_and_not_the_password(stranger: Terminal) -> None:
    api = stranger.api
    api.tell("POST", "/account/tokens", Reply(NEW_TOKEN, 201))
    api.tell("GET", "/account", {"name": "alice", "is_admin": False})
    result = stranger.done("login", api.url, "--username", "alice", "--password-stdin", input=f"{PASSWORD}\n")
    asked, checked = api.calls
    assert asked.body == {"name": f"slipway on {socket.gethostname()}"[:64]}
    assert asked.headers["Authorization"] == "Basic " + base64.b64encode(f"alice:{PASSWORD}".encode()).decode()
    assert checked.headers["Authorization"] == f"Bearer {TOKEN}"
    assert stranger.profiles.current() == Profile(api.url, TOKEN, "alice", ours=True)
    assert stat.S_IMODE(stranger.config.stat().st_mode) == 0o600
    assert PASSWORD not in stranger.config.read_text()
    assert result.stdout == ""
    assert TOKEN not in result.stderr


def test_login_asks_for_what_is_missing_without_showing_it(stranger: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    api = stranger.api
    api.tell("POST", "/account/tokens", Reply(NEW_TOKEN, 201))
    api.tell("GET", "/account", {"name": "alice"})
    monkeypatch.setattr("slipway_common.client.prompts.is_interactive", lambda: True)
    result = stranger.done("login", api.url, input=f"alice\n{PASSWORD}\n")
    assert api.calls[0].headers["Authorization"].startswith("Basic ")
    assert "Username" in result.stderr
    assert PASSWORD not in result.output


@pytest.mark.parametrize("arguments", [(), ("--username", "alice")])
def test_login_without_a_terminal_says_what_to_give(stranger: Terminal, arguments: tuple[str, ...]) -> None:
    result = stranger.run("login", stranger.api.url, *arguments)
    assert result.exit_code == 2
    assert "--password-stdin" in result.stderr
    assert stranger.api.calls == []


def test_wrong_password_is_not_logged_in(stranger: Terminal) -> None:
    stranger.api.tell("POST", "/account/tokens", problem(401, "Log in first", "the name or the password is wrong"))
    result = stranger.run("login", stranger.api.url, "-u", "alice", "--password-stdin", input=f"{PASSWORD}\n")
    assert result.exit_code == 3
    assert "the name or the password is wrong (request r1)" in result.stderr
    assert PASSWORD not in result.output
    assert not stranger.config.exists()


def test_token_of_ones_own_can_be_given(stranger: Terminal) -> None:
    stranger.api.tell("GET", "/account", {"name": "acme+ci"})
    stranger.done("login", stranger.api.url, "--token-stdin", input=f"{TOKEN}\n")
    assert stranger.profiles.current() == Profile(stranger.api.url, TOKEN, "acme+ci", ours=False)
    assert [call.method for call in stranger.api.calls] == ["GET"]


@pytest.mark.parametrize("arguments", [
    ("--password-stdin", "--token-stdin"), ("--web", "--token-stdin"), ("--username", "alice", "--web"),
])  # fmt: skip
def test_ways_to_log_in_exclude_each_other(stranger: Terminal, arguments: tuple[str, ...]) -> None:
    assert stranger.run("login", stranger.api.url, *arguments, input="x\n").exit_code == 2


def test_login_again_makes_the_registry_current_without_a_new_token(terminal: Terminal) -> None:
    terminal.profiles.save(Profile("https://other.example", "other", "bob"))
    terminal.api.tell("GET", "/account", {"name": "alice"})
    terminal.done("login", terminal.api.url)
    assert terminal.profiles.current().token == TOKEN
    assert [call.method for call in terminal.api.calls] == ["GET"]


def test_new_login_revokes_the_one_that_it_replaces(terminal: Terminal) -> None:
    api = terminal.api
    api.tell("POST", "/account/tokens", Reply({**NEW_TOKEN, "token": "slipway_pat_new"}, 201))
    api.tell("GET", "/account", {"name": "alice"})
    api.tell("DELETE", "/account/tokens/current", Reply(status=204))
    terminal.done("login", api.url, "-u", "alice", "--password-stdin", input="x\n")
    (revoked,) = api.asked("DELETE", "/account/tokens/current")
    assert revoked.headers["Authorization"] == f"Bearer {TOKEN}"
    assert terminal.profiles.current().token == "slipway_pat_new"


def test_login_that_does_not_hold_is_made_anew(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    api = terminal.api
    api.tell("GET", "/account", problem(401, "Log in first"), {"name": "alice"})
    api.tell("POST", "/account/tokens", Reply({**NEW_TOKEN, "token": "slipway_pat_new"}, 201))
    monkeypatch.setattr("slipway_common.client.prompts.is_interactive", lambda: True)
    terminal.done("login", input="alice\nx\n")
    assert terminal.profiles.current().token == "slipway_pat_new"


def test_password_over_plain_http_is_warned_of(stranger: Terminal) -> None:
    result = stranger.run("login", "http://registry.invalid", "-u", "alice", "--password-stdin", input="x\n")
    assert result.exit_code == 6
    assert "not HTTPS" in result.stderr


def test_logout_revokes_the_token_and_forgets_it(terminal: Terminal) -> None:
    terminal.api.tell("DELETE", "/account/tokens/current", Reply(status=204))
    terminal.done("logout")
    assert [(call.method, call.path) for call in terminal.api.calls] == [("DELETE", "/account/tokens/current")]
    assert TOKEN not in terminal.config.read_text()
    assert terminal.run("logout", terminal.api.url).exit_code == 3


@pytest.mark.parametrize("status", [401, 404])
def test_logout_of_what_was_revoked_before_forgets_it(terminal: Terminal, status: int) -> None:
    terminal.api.tell("DELETE", "/account/tokens/current", problem(status, "Gone"))
    terminal.done("logout")
    assert terminal.profiles.load().registries == {}


def test_logout_keeps_the_login_while_the_server_cannot_be_told(terminal: Terminal) -> None:
    terminal.api.tell("DELETE", "/account/tokens/current", problem(500, "Something went wrong"))
    assert terminal.run("logout").exit_code == 6
    assert terminal.profiles.current().token == TOKEN
    terminal.done("logout", "--force")
    assert terminal.profiles.load().registries == {}


def test_logout_leaves_a_token_alone_that_it_did_not_make(terminal: Terminal) -> None:
    terminal.log_in(ours=False)
    terminal.done("logout")
    assert terminal.api.calls == []


def test_whoami_says_who_and_where(terminal: Terminal) -> None:
    terminal.api.tell("GET", "/account", {"name": "alice", "is_admin": True})
    result = terminal.done("whoami")
    assert row_of(result, "registry") == ["registry", terminal.api.url]
    assert row_of(result, "name") == ["name", "alice"]
    assert json.loads(terminal.done("whoami", "--json").stdout) == {
        "registry": terminal.api.url, "name": "alice", "is_admin": True,
    }  # fmt: skip


def test_environment_is_a_login(stranger: Terminal) -> None:
    stranger.environ |= {"SLIPWAY_URL": stranger.api.url, "SLIPWAY_TOKEN": f"{TOKEN}\n"}
    stranger.api.tell("GET", "/account", {"name": "acme+ci"})
    stranger.done("whoami")
    assert stranger.api.calls[0].headers["Authorization"] == f"Bearer {TOKEN}"
    assert not stranger.config.exists()


def test_who_is_not_logged_in_is_told_how(stranger: Terminal) -> None:
    result = stranger.run("repo", "list")
    assert result.exit_code == 3
    assert "slipway login" in result.stderr


def test_login_that_was_revoked_is_told_apart(terminal: Terminal) -> None:
    terminal.api.tell("GET", "/repositories", problem(401, "Log in first"))
    result = terminal.run("repo", "list")
    assert result.exit_code == 3
    assert f"slipway login {terminal.api.url}" in result.stderr
    terminal.environ |= {"SLIPWAY_URL": terminal.api.url, "SLIPWAY_TOKEN": "other"}
    assert "SLIPWAY_TOKEN is not" in terminal.run("repo", "list").stderr


# Logging in by a browser


class Browser:
    """Goes where it is sent, logs in there, and comes back."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, answer: str = "code=c0de") -> None:
        self._answer = answer
        self.visited: dict[str, list[str]] = {}
        self.place = ""
        self.statuses: list[int] = []
        monkeypatch.setattr("webbrowser.open", self.open)

    def open(self, address: str) -> bool:
        parts = urlsplit(address)
        self.place, self.visited = f"{parts.scheme}://{parts.netloc}{parts.path}", parse_qs(parts.query)
        back = f"http://127.0.0.1:{self.visited['cli'][0]}/"
        for query in ("code=evil&state=guessed", f"{self._answer}&state={self.visited['state'][0]}"):
            try:
                with urllib.request.urlopen(f"{back}?{query}", timeout=5) as response:
                    self.statuses.append(response.status)
            except urllib.error.HTTPError as exc:
                self.statuses.append(exc.code)
        return True


def test_login_by_browser_proves_that_it_began_the_login(stranger: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    api, browser = stranger.api, Browser(monkeypatch)
    stranger.environ["DISPLAY"] = ":0"
    api.tell("POST", "/account/tokens/exchange", Reply({"token": TOKEN}, 201))
    api.tell("GET", "/account", {"name": "alice"})
    result = stranger.done("login", api.url, "--web")
    exchanged = api.calls[0]
    assert browser.place == f"{api.url}/login/oidc"
    assert set(browser.visited) == {"cli", "state", "challenge"}
    assert browser.statuses == [400, 200]
    assert (exchanged.body["code"], exchanged.body["name"]) == ("c0de", f"slipway on {socket.gethostname()}"[:64])
    assert "Authorization" not in exchanged.headers
    digest = hashlib.sha256(exchanged.body["verifier"].encode()).digest()
    assert browser.visited["challenge"] == [base64.urlsafe_b64encode(digest).rstrip(b"=").decode()]
    assert len(exchanged.body["verifier"]) >= 43
    assert exchanged.body["verifier"] not in result.output
    assert stranger.profiles.current() == Profile(api.url, TOKEN, "alice", ours=True)


def test_login_that_is_refused_in_the_browser_ends(stranger: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    Browser(monkeypatch, answer="error=access_denied&error_description=no%1b%5b2J")
    stranger.environ["DISPLAY"] = ":0"
    result = stranger.run("login", stranger.api.url, "--web")
    assert result.exit_code == 4
    assert "the login in the browser failed: no" in result.stderr
    assert "\x1b[2J" not in result.stderr
    assert stranger.api.calls == []


def test_without_a_screen_the_address_is_printed_only(stranger: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = Browser(monkeypatch)
    monkeypatch.setattr("slipway_gateway.commands.browser._PATIENCE_S", 0.2)
    result = stranger.run("login", stranger.api.url, "--web")
    assert result.exit_code == 6
    assert f"{stranger.api.url}/login/oidc?cli=" in result.stderr
    assert browser.visited == {}


# What each command asks the server

GONE = Reply(status=204)
MADE = {"name": "made", "secret": "slipway_robot_x", "token": "slipway_pat_x", "labels": {}}
REQUESTS: list[tuple[str, str, str, dict[str, str], Any]] = [
    ("repo list --namespace acme --visibility public --kind package --search we", "GET", "/repositories",
     {"namespace": "acme", "visibility": "public", "kind": "package", "q": "we"}, None),
    ("repo show acme/web", "GET", "/repositories/acme/web", {}, None),
    ("repo create acme/web --visibility public --kind application --description Web --label a=1 --label b=x=y", "POST",
     "/repositories", {}, {"name": "acme/web", "visibility": "public", "kind": "application", "description": "Web",
                           "labels": {"a": "1", "b": "x=y"}}),
    ("repo create jetty", "POST", "/repositories", {}, {"name": "jetty"}),
    ("repo edit acme/web --visibility private", "PATCH", "/repositories/acme/web", {}, {"visibility": "private"}),
    ("repo rename acme/web acme/site", "PATCH", "/repositories/acme/web", {}, {"name": "acme/site"}),
    ("namespace list", "GET", "/namespaces", {}, None),
    ("namespace show _", "GET", "/namespaces/_", {}, None),
    ("namespace create acme --no-create-on-push --forbid-public --default-visibility private", "POST", "/namespaces", {},
     {"name": "acme", "create_on_push": False, "public_allowed": False, "default_visibility": "private"}),
    ("namespace edit acme --default-visibility inherit --allow-public", "PATCH", "/namespaces/acme", {},
     {"default_visibility": None, "public_allowed": True}),
    ("namespace delete acme --yes", "DELETE", "/namespaces/acme", {}, None),
    ("grant list", "GET", "/grants", {}, None),
    ("grant list acme/web", "GET", "/repositories/acme/web/-/grants", {}, None),
    ("grant list namespace:acme", "GET", "/namespaces/acme/grants", {}, None),
    ("grant add user:alice writer acme/web", "PUT", "/repositories/acme/web/-/grants/user:alice", {}, {"role": "writer"}),
    ("grant add alice reader repository:acme/web", "PUT", "/repositories/acme/web/-/grants/user:alice", {},
     {"role": "reader"}),
    ("grant add acme+ci admin namespace:acme", "PUT", "/namespaces/acme/grants/robot:acme+ci", {}, {"role": "admin"}),
    ("grant add team:platform maintainer pattern:acme/web-*", "PUT", "/namespaces/acme/grants/team:platform",
     {"pattern": "acme/web-*"}, {"role": "maintainer"}),
    ("grant add team:audit reader pattern:**", "PUT", "/grants/team:audit", {"pattern": "**"}, {"role": "reader"}),
    ("grant add team:audit reader pattern:a*/web", "PUT", "/grants/team:audit", {"pattern": "a*/web"}, {"role": "reader"}),
    ("grant remove robot:acme+ci pattern:acme/**", "DELETE", "/namespaces/acme/grants/robot:acme+ci",
     {"pattern": "acme/**"}, None),
    ("grant remove user:alice acme/web", "DELETE", "/repositories/acme/web/-/grants/user:alice", {}, None),
    ("user list", "GET", "/users", {}, None),
    ("user show alice", "GET", "/users/alice", {}, None),
    ("user create alice --display-name Alice --email a@example.com --admin", "POST", "/users", {},
     {"name": "alice", "display_name": "Alice", "email": "a@example.com", "is_admin": True}),
    ("user edit alice --disable --no-admin", "PATCH", "/users/alice", {}, {"disabled": True, "is_admin": False}),
    ("user edit alice --enable --admin", "PATCH", "/users/alice", {}, {"disabled": False, "is_admin": True}),
    ("user delete alice --yes", "DELETE", "/users/alice", {}, None),
    ("team list", "GET", "/teams", {}, None),
    ("team create platform --description Ops --group a --group b", "POST", "/teams", {},
     {"name": "platform", "description": "Ops", "external_groups": ["a", "b"]}),
    ("team edit platform --no-groups", "PATCH", "/teams/platform", {}, {"external_groups": []}),
    ("team delete platform -y", "DELETE", "/teams/platform", {}, None),
    ("team member add platform alice", "PUT", "/teams/platform/members/alice", {}, {"role": "member"}),
    ("team member add platform alice --role maintainer", "PUT", "/teams/platform/members/alice", {}, {"role": "maintainer"}),
    ("team member remove platform alice", "DELETE", "/teams/platform/members/alice", {}, None),
    ("robot list acme", "GET", "/namespaces/acme/robots", {}, None),
    ("robot show acme+ci", "GET", "/robots/acme+ci", {}, None),
    ("robot create acme+ci --role writer --repository acme/web --repository acme/api --expires-in-days 90 --action pull "
     "--action push --pattern acme/* --description CI", "POST", "/namespaces/acme/robots", {},
     {"name": "ci", "description": "CI", "role": "writer", "repositories": ["acme/web", "acme/api"], "expires_in_days": 90,
      "actions": ["pull", "push"], "patterns": ["acme/*"]}),
    ("robot edit acme+ci --disable --description Old", "PATCH", "/robots/acme+ci", {}, {"disabled": True, "description": "Old"}),
    ("robot delete acme+ci --yes", "DELETE", "/robots/acme+ci", {}, None),
    ("robot secret add acme+ci --expires-in-days 30", "POST", "/robots/acme+ci/secrets", {}, {"expires_in_days": 30}),
    ("robot secret remove acme+ci 17", "DELETE", "/robots/acme+ci/secrets/17", {}, None),
    ("robot trust list acme+ci", "GET", "/robots/acme+ci/trusts", {}, None),
    ("robot trust add acme+ci github --issuer https://i.example --audience slipway --claim repository=acme/web --claim "
     "ref=refs/heads/* --life 600", "POST", "/robots/acme+ci/trusts", {},
     {"name": "github", "issuer": "https://i.example", "audience": "slipway", "life_s": 600,
      "claims": {"repository": "acme/web", "ref": "refs/heads/*"}}),
    ("token list", "GET", "/account/tokens", {}, None),
    ("token list --user alice", "GET", "/users/alice/tokens", {}, None),
    ("token create backup --action pull --pattern acme/** --expires-in-days 90", "POST", "/account/tokens", {},
     {"name": "backup", "actions": ["pull"], "patterns": ["acme/**"], "expires_in_days": 90}),
]  # fmt: skip


@pytest.mark.parametrize(("line", "method", "path", "query", "body"), REQUESTS, ids=[case[0][:50] for case in REQUESTS])
def test_command_makes_its_request(
    terminal: Terminal, line: str, method: str, path: str, query: dict[str, str], body: Any
) -> None:
    terminal.api.tell(method, path, GONE if method in ("DELETE", "PUT") else MADE)
    terminal.done(*line.split())
    (call,) = terminal.api.calls
    assert (call.method, call.path, call.query, call.body) == (method, path, query, body)
    assert call.headers["Authorization"] == f"Bearer {TOKEN}"
    assert ("Idempotency-Key" in call.headers) == (method == "POST")
    assert call.headers["User-Agent"].startswith("slipway/")


@pytest.mark.parametrize("line", [
    "repo create acme/web --label novalue", "repo edit acme/web", "namespace edit acme", "user edit alice",
    "team edit platform", "robot edit acme+ci", "robot create acme", "robot create +ci", "grant add alice owner acme/web",
    "grant add group:x reader acme/web", "grant add alice reader pattern:", "grant add alice reader thing:x",
    "grant add alice reader acme/../users", "repo delete acme/web", "user delete alice", "team delete platform",
    "robot delete acme+ci", "namespace delete acme", "audit --since yesterday", "team edit platform --group a --no-groups",
    "repo list --visibility secret", "user show ..", "token revoke slipway_pat_x", "user set-password", "nothing",
    "robot trust add acme+ci github --issuer https://i.example",
])  # fmt: skip
def test_wrong_usage_asks_the_server_nothing(terminal: Terminal, line: str) -> None:
    result = terminal.run(*line.split())
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr
    assert terminal.api.calls == []


def test_labels_are_added_to_those_that_are_there(terminal: Terminal) -> None:
    terminal.api.tell("GET", "/repositories/acme/web", Reply({"labels": {"a": "1", "b": "2"}}, headers={"ETag": '"3"'}))
    terminal.api.tell("PATCH", "/repositories/acme/web", {"name": "acme/web"})
    terminal.done("repo", "edit", "acme/web", "--label", "c=3", "--remove-label", "a", "--description", "Web")
    (patched,) = terminal.api.asked("PATCH", "/repositories/acme/web")
    assert patched.body == {"labels": {"b": "2", "c": "3"}, "description": "Web"}
    assert patched.headers["If-Match"] == '"3"'


def test_deletion_is_of_the_repository_that_has_the_name_now(terminal: Terminal) -> None:
    api = terminal.api
    api.tell("GET", "/repositories/acme/web", Reply({"name": "acme/web"}, headers={"ETag": '"3"'}))
    api.tell("DELETE", "/repositories/acme/web", GONE)
    terminal.done("repo", "delete", "acme/web", "--yes")
    assert api.asked("DELETE", "/repositories/acme/web")[0].headers["If-Match"] == '"3"'
    api.tell("GET", "/repositories/acme/old", {"name": "acme/new"})
    result = terminal.run("repo", "delete", "acme/old", "--yes")
    assert result.exit_code == 2
    assert "acme/new" in result.stderr
    assert api.asked("DELETE", "/repositories/acme/old") == []


@pytest.mark.parametrize(("answer", "deleted"), [("y", True), ("n", False), ("", False)])
def test_deletion_is_confirmed(terminal: Terminal, monkeypatch: pytest.MonkeyPatch, answer: str, deleted: bool) -> None:
    monkeypatch.setattr("slipway_common.client.prompts.is_interactive", lambda: True)
    terminal.api.tell("DELETE", "/users/alice", GONE)
    result = terminal.run("user", "delete", "alice", input=f"{answer}\n")
    assert result.exit_code == (0 if deleted else 1)
    assert bool(terminal.api.calls) == deleted
    assert "alice" in result.stderr


def test_token_is_revoked_by_id_or_name(terminal: Terminal) -> None:
    api = terminal.api
    api.tell(
        "GET",
        "/account/tokens",
        {"tokens": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}, {"id": 3, "name": "b"}], "next": None},
    )
    for token_id in (1, 3):
        api.tell("DELETE", f"/account/tokens/{token_id}", GONE)
    terminal.done("token", "revoke", "a")
    terminal.done("token", "revoke", "3")
    assert [call.path for call in api.calls if call.method == "DELETE"] == ["/account/tokens/1", "/account/tokens/3"]
    assert terminal.run("token", "revoke", "b").exit_code == 2
    assert terminal.run("token", "revoke", "c").exit_code == 5


def test_trust_is_removed_by_its_name(terminal: Terminal) -> None:
    terminal.api.tell("GET", "/robots/acme+ci/trusts", {"trusts": [{"id": 4, "name": "github"}], "next": None})
    terminal.api.tell("DELETE", "/robots/acme+ci/trusts/4", GONE)
    terminal.done("robot", "trust", "remove", "acme+ci", "github")
    assert terminal.api.calls[-1].path == "/robots/acme+ci/trusts/4"


# Passwords


def test_password_of_another_user_is_generated_and_printed_alone(terminal: Terminal) -> None:
    terminal.api.tell("PATCH", "/users/alice", {"name": "alice"})
    result = terminal.done("user", "set-password", "alice")
    assert terminal.api.calls[0].body == {"password": result.stdout.removesuffix("\n")}
    assert len(result.stdout) > 20


def test_password_is_read_from_standard_input(terminal: Terminal) -> None:
    terminal.api.tell("PATCH", "/users/alice", {"name": "alice"})
    terminal.api.tell("POST", "/users", Reply({"name": "bob"}, 201))
    result = terminal.done("user", "set-password", "alice", "--password-stdin", input=" with spaces \r\n")
    assert terminal.api.calls[0].body == {"password": " with spaces "}
    assert result.stdout == ""
    result = terminal.done("user", "create", "bob", "--password-stdin", input=f"{PASSWORD}\n")
    assert terminal.api.calls[1].body == {"name": "bob", "password": PASSWORD}
    assert PASSWORD not in result.output
    assert terminal.run("user", "create", "bob", "--password-stdin").exit_code == 2


def test_own_password_takes_the_present_one(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal.api.tell("PATCH", "/account", {"name": "alice"})
    terminal.done("user", "set-password", "--password-stdin", input="old one\nnew one\n")
    monkeypatch.setattr("slipway_common.client.prompts.is_interactive", lambda: True)
    result = terminal.done("user", "set-password", input="old one\nnew one\nnew one\n")
    assert [call.body for call in terminal.api.calls] == [{"current_password": "old one", "password": "new one"}] * 2
    assert "one" not in result.output


# What is printed


@pytest.mark.parametrize(("arguments", "method", "path", "document", "secret"), [
    (("robot", "create", "acme+ci"), "POST", "/namespaces/acme/robots", {"name": "acme+ci", "secret": "s3cret"}, "s3cret"),
    (("robot", "secret", "add", "acme+ci"), "POST", "/robots/acme+ci/secrets", {"id": 2, "secret": "s3cret"}, "s3cret"),
    (("token", "create", "laptop"), "POST", "/account/tokens", NEW_TOKEN, TOKEN),
    (("user", "create", "alice"), "POST", "/users", {"name": "alice", "password": "s3cret"}, "s3cret"),
])  # fmt: skip
def test_secret_that_is_shown_once_can_go_into_a_file(
    terminal: Terminal, arguments: tuple[str, ...], method: str, path: str, document: dict[str, Any], secret: str
) -> None:
    terminal.api.tell(method, path, Reply(document, 201))
    result = terminal.done(*arguments)
    assert result.stdout == f"{secret}\n"
    assert "once" in result.stderr
    assert secret not in result.stderr
    assert json.loads(terminal.done(*arguments, "--json").stdout) == document


def test_lists_are_tables_for_people_and_arrays_for_programs(terminal: Terminal) -> None:
    rows = [
        {"id": 1, "name": "acme/web", "visibility": "private", "kind": "application", "updated_at": "2026-01-02T03:04:05Z",
         "description": "Web", "labels": {}},
        {"id": 2, "name": "jetty", "visibility": "public", "kind": "package", "updated_at": "2026-01-02T03:04:05Z",
         "description": "", "labels": {}},
    ]  # fmt: skip
    pages = [{"repositories": rows[:1], "next": "acme/web"}, {"repositories": rows[1:], "next": None}]
    terminal.api.tell("GET", "/repositories", *pages)
    result = terminal.done("repo", "list")
    assert row_of(result, "acme/web")[:3] == ["acme/web", "private", "application"]
    assert len(result.stdout.splitlines()) == 3
    terminal.api.tell("GET", "/repositories", *pages)
    assert json.loads(terminal.done("repo", "list", "--json").stdout) == rows


def test_empty_list_prints_no_data(terminal: Terminal) -> None:
    terminal.api.tell("GET", "/users", {"users": [], "next": None})
    result = terminal.done("user", "list")
    assert (result.stdout, result.stderr) == ("", "none\n")


def test_changes_print_the_document_to_programs_only(terminal: Terminal) -> None:
    terminal.api.tell("POST", "/namespaces", Reply({"name": "acme"}, 201))
    result = terminal.done("namespace", "create", "acme")
    assert (result.stdout, result.stderr) == ("", "acme is there\n")
    assert json.loads(terminal.done("namespace", "create", "acme", "--json").stdout) == {"name": "acme"}


def test_pattern_lists_its_own_grants(terminal: Terminal) -> None:
    grants = [
        {"subject": "user:a", "role": "reader", "on": "namespace:acme", "granted_at": None, "granted_by": None},
        {"subject": "user:b", "role": "writer", "on": "pattern:acme/web-*", "granted_at": None, "granted_by": None},
    ]
    terminal.api.tell("GET", "/namespaces/acme/grants", {"grants": grants, "next": None})
    assert json.loads(terminal.done("grant", "list", "pattern:acme/web-*", "--json").stdout) == grants[1:]


def test_team_is_shown_with_its_members(terminal: Terminal) -> None:
    terminal.api.tell("GET", "/teams/platform", {"name": "platform", "description": "Ops"})
    members = [{"name": "alice", "role": "maintainer", "source": "manual"}]
    terminal.api.tell("GET", "/teams/platform/members", {"members": members, "next": None})
    assert row_of(terminal.done("team", "show", "platform"), "alice") == ["alice", "maintainer", "manual"]
    assert json.loads(terminal.done("team", "show", "platform", "--json").stdout)["members"] == members


def test_robot_is_shown_with_its_secrets(terminal: Terminal) -> None:
    secrets = [
        {"id": 17, "hint": "x9Yz", "created_at": "2026-01-02T03:04:05Z", "expires_at": None, "last_used_at": None}
    ]
    terminal.api.tell("GET", "/robots/acme+ci", {"name": "acme+ci", "secrets": secrets})
    assert row_of(terminal.done("robot", "show", "acme+ci"), "17")[:2] == ["17", "x9Yz"]


@pytest.mark.parametrize(("allowed", "code"), [(True, 0), (False, 1)])
def test_explanation_ends_as_the_decision(terminal: Terminal, allowed: bool, code: int) -> None:
    grant = {"role": "writer", "on": "namespace", "team": "platform"}
    answer = {"allowed": allowed, "decision": "allow", "because": ["team:platform is writer"], "grants": [grant]}
    terminal.api.tell("GET", "/authz/explain", answer)
    result = terminal.run("explain", "alice", "push", "acme/web")
    assert result.exit_code == code
    assert terminal.api.calls[0].query == {"principal": "user:alice", "action": "push", "repository": "acme/web"}
    assert result.stdout.splitlines()[:2] == ["allowed" if allowed else "not allowed", "  team:platform is writer"]
    assert row_of(result, "platform") == ["writer", "namespace", "platform"]
    result = terminal.run("explain", "alice", "push", "acme/web", "--json")
    assert (result.exit_code, json.loads(result.stdout)) == (code, answer)


# The audit


def test_audit_is_filtered_and_its_table_bounded(terminal: Terminal) -> None:
    entries = [
        {"at": "2026-01-02T03:04:05Z", "actor": f"user-{n}", "action": "push", "count": 1, "details": {}}
        for n in range(3)
    ]
    pages = [{"entries": entries[:2], "next": 5}, {"entries": entries[2:], "next": None}]
    terminal.api.tell("GET", "/audit", *pages)
    result = terminal.done(
        "audit", "--limit", "2", "--principal", "alice", "--outcome", "refused", "--since", "2026-01-01T00:00Z"
    )
    assert len(result.stdout.splitlines()) == 3
    (call,) = terminal.api.calls
    assert call.query == {"principal": "alice", "outcome": "refused", "since": "2026-01-01T00:00:00+00:00"}


def test_audit_says_who_did_what_where(terminal: Terminal) -> None:
    common = {"at": "2026-01-02T03:04:05.678Z", "address": "10.0.0.1", "request_id": "r"}
    renamed = {"outcome": "changed", "actor": "alice", "action": "slipway.repository.renamed.v1", "target": "acme/web"}
    refused = {"outcome": "refused", "actor": "bob", "action": "push", "target": "acme/web"}
    entries = [
        {**common, **renamed, "count": 1, "details": {}},
        {**common, **refused, "count": 12, "details": {"reason": "no right"}},
    ]
    terminal.api.tell("GET", "/audit", {"entries": entries, "next": None})
    result = terminal.done("audit")
    assert row_of(result, "alice")[2:] == ["changed", "alice", "repository.renamed", "acme/web", "10.0.0.1"]
    assert row_of(result, "bob")[2:] == ["refused", "bob", "push", "acme/web", "10.0.0.1", "12", "no", "right"]


def test_time_can_be_said_as_how_long_ago(terminal: Terminal) -> None:
    terminal.api.tell("GET", "/audit", {"entries": [], "next": None})
    terminal.done("audit", "--since", "2h", "--until", "1h")
    query = terminal.api.calls[0].query
    assert set(query) == {"since", "until"}
    assert query["since"] < query["until"]


def test_audit_is_exported_as_json_lines(terminal: Terminal) -> None:
    lines = b'{"actor":"a"}\n' + b'{"actor":"' + b"b" * 300_000 + b'"}\n'
    terminal.api.tell("GET", "/audit", Reply(raw=lines, headers={"Content-Type": "application/x-ndjson"}))
    result = terminal.done("audit", "--json")
    assert result.stdout.encode() == lines
    assert terminal.api.calls[0].headers["Accept"] == "application/x-ndjson"


def test_audit_of_a_repository_is_its_own_or_of_a_deleted_one_the_registrys(terminal: Terminal) -> None:
    terminal.api.tell("GET", "/repositories/acme/web/-/audit", {"entries": [], "next": None})
    terminal.api.tell("GET", "/audit", {"entries": [], "next": None})
    terminal.done("audit", "--repository", "acme/web")
    assert {call.path for call in terminal.api.calls} == {"/repositories/acme/web/-/audit"}
    terminal.done("audit", "--repository", "acme/old")
    assert terminal.api.calls[-1].path == "/audit"
    assert terminal.api.calls[-1].query == {"repository": "acme/old"}


# What goes wrong


@pytest.mark.parametrize(
    ("status", "code"), [(400, 1), (401, 3), (403, 4), (404, 5), (409, 1), (412, 1), (500, 6), (503, 6)]
)
def test_refusal_is_a_sentence_and_an_exit_code(terminal: Terminal, status: int, code: int) -> None:
    terminal.api.tell("GET", "/users/alice", problem(status, "A title", "some detail"))
    result = terminal.run("user", "show", "alice")
    assert result.exit_code == code
    assert result.stdout == ""
    assert "slipway: A title: some detail" in result.stderr
    assert "Traceback" not in result.stderr


def test_server_that_is_away_is_a_sentence_and_an_exit_code(stranger: Terminal) -> None:
    stranger.profiles.save(Profile("http://127.0.0.1:1", TOKEN))
    result = stranger.run("repo", "list")
    assert result.exit_code == 6
    assert "Is Slipway running there?" in result.stderr
    assert TOKEN not in result.output


def test_secrets_are_in_no_log(stranger: Terminal, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    stranger.api.tell("POST", "/account/tokens", Reply(NEW_TOKEN, 201))
    stranger.api.tell("GET", "/account", {"name": "alice"})
    stranger.done("login", stranger.api.url, "-u", "alice", "--password-stdin", input=f"{PASSWORD}\n")
    assert PASSWORD not in caplog.text
    assert TOKEN not in caplog.text


def test_interruption_is_told_to_the_shell(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_coroutine: Any) -> None:
        _coroutine.close()
        raise KeyboardInterrupt

    monkeypatch.setattr("asyncio.run", interrupt)
    assert terminal.run("repo", "list").exit_code == 130
