"""The client of the management API: who is logged in, what is sent, what comes of each kind of answer, what is printed."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import json
import socket
import ssl
import stat
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from slipway_common import errors
from slipway_common.client.api import Api, Unreachable, basic, bearer, path_to, repository_path
from slipway_common.client.calls import call_as
from slipway_common.client.exits import ApiError, exit_code
from slipway_common.client.output import print_facts, print_rows, print_secret, short_time, show
from slipway_common.client.profiles import NotLoggedIn, Profile, Profiles, config_path, is_local, parse_url
from slipway_common.client.text import printable
from slipway_common.settings import CommonSettings, load_settings
from tests.unit.api_server import FakeApi, Reply, problem

TOKEN = "slipway_pat_0123456789"


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with FakeApi() as server:
        yield server


def ask(api: FakeApi, work: Callable[[Api], Awaitable[Any]]) -> Any:
    return call_as(api.url, bearer(TOKEN), work)


# Profiles


def test_login_is_kept_where_nobody_else_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "config" / "slipway" / "config.json"
    Profiles(path, {}).save(Profile("https://a.example", TOKEN, "alice", ours=True))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [each.name for each in path.parent.iterdir()] == ["config.json"]
    assert Profiles(path, {}).current() == Profile("https://a.example", TOKEN, "alice", ours=True)


def test_file_that_others_can_read_is_private_again_after_a_login(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"current": null, "registries": {}}')
    path.chmod(0o644)
    tmp_path.chmod(0o755)
    Profiles(path, {}).save(Profile("https://a.example", TOKEN))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


def test_last_login_is_the_current_one_and_others_stay(tmp_path: Path) -> None:
    profiles = Profiles(tmp_path / "config.json", {})
    for host in ("a", "b", "c"):
        profiles.save(Profile(f"https://{host}.example", TOKEN))
    assert profiles.load().current == "https://c.example"
    profiles.forget("https://c.example")
    assert profiles.load().current is None
    with pytest.raises(NotLoggedIn, match="slipway login"):
        profiles.current()
    profiles.forget("https://a.example")
    assert profiles.current().url == "https://b.example"


def test_environment_overrides_what_is_stored(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    Profiles(path, {}).save(Profile("https://a.example", "stored-a"))
    Profiles(path, {}).save(Profile("https://b.example", "stored-b"))
    both = Profiles(path, {"SLIPWAY_URL": "c.example", "SLIPWAY_TOKEN": TOKEN})
    assert both.current() == Profile("https://c.example", TOKEN, given=True)
    assert Profiles(path, {"SLIPWAY_URL": "a.example"}).current().token == "stored-a"
    with pytest.raises(errors.InvalidInput, match="SLIPWAY_URL"):
        Profiles(path, {"SLIPWAY_TOKEN": TOKEN}).current()
    with pytest.raises(NotLoggedIn, match=r"c\.example"):
        Profiles(path, {"SLIPWAY_URL": "c.example", "SLIPWAY_TOKEN": ""}).current()


def test_login_in_the_environment_is_no_mistake_among_the_settings() -> None:
    environ = {"SLIPWAY_URL": "https://a.example", "SLIPWAY_TOKEN": TOKEN}
    load_settings([CommonSettings], known=[CommonSettings], environ=environ)


def test_token_is_not_in_what_a_trace_would_show() -> None:
    assert TOKEN not in repr(Profile("https://a.example", TOKEN))


@pytest.mark.parametrize(
    "content", ["", "[]", '{"registries": {"https://a.example": {}}}', '{"registries": []}', "\x00"]
)
def test_file_that_cannot_be_read_says_what_to_do(tmp_path: Path, content: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(content)
    with pytest.raises(errors.Misconfigured, match="log in again"):
        Profiles(path, {}).load()


def test_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profiles = Profiles(tmp_path / "config.json", {})
    profiles.save(Profile("https://a.example", TOKEN))

    def fail(_file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(errors.Misconfigured, match="No space left"):
        profiles.save(Profile("https://b.example", TOKEN))
    assert profiles.load().current == "https://a.example"
    assert [each.name for each in tmp_path.iterdir()] == ["config.json"]


def test_config_folder_is_that_of_the_desktop_specification() -> None:
    assert config_path({"XDG_CONFIG_HOME": "/x"}) == Path("/x/slipway/config.json")
    for environ in ({}, {"XDG_CONFIG_HOME": ""}, {"XDG_CONFIG_HOME": "relative"}):
        assert config_path(environ) == Path.home() / ".config" / "slipway" / "config.json"


@pytest.mark.parametrize(("text", "url"), [
    ("registry.example.com", "https://registry.example.com"), ("https://Registry.Example.com/", "https://registry.example.com"),
    ("localhost:5000", "http://localhost:5000"), ("127.0.0.1:5000", "http://127.0.0.1:5000"),
    ("http://registry:5000", "http://registry:5000"), ("[::1]:5000", "http://[::1]:5000"),
])  # fmt: skip
def test_address_is_understood_as_container_clients_do(text: str, url: str) -> None:
    assert parse_url(text) == url


@pytest.mark.parametrize("text", [
    "", "https://", "ftp://a", "https://a/path", "https://alice:secret@a", "https://a?x=1", "a b", "https://a:port", "https://[::1",
    "https://a:99999",
])  # fmt: skip
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(errors.InvalidInput):
        parse_url(text)


def test_only_this_machine_is_local() -> None:
    assert all(map(is_local, ("http://localhost:5000", "http://127.1.2.3", "http://[::1]", "http://a.localhost")))
    assert not any(map(is_local, ("http://localhost.example.com", "http://10.0.0.1", "http://127.0.0.1.example.com")))


# Calls


def test_token_goes_as_bearer_and_password_as_basic(api: FakeApi) -> None:
    api.tell("GET", "/account", {"name": "alice"})
    assert ask(api, lambda client: client.get("/account")) == {"name": "alice"}
    call_as(api.url, basic("alice", "geheim:ü"), lambda client: client.get("/account"))
    call_as(api.url, None, lambda client: client.get("/account"))
    first, second, third = (call.headers.get("Authorization") for call in api.calls)
    assert first == f"Bearer {TOKEN}"
    assert second is not None
    assert base64.b64decode(second.removeprefix("Basic ")).decode() == "alice:geheim:ü"
    assert third is None


@pytest.mark.parametrize("token", ["a b", "a\nb", "tökén"])
def test_what_cannot_be_a_token_is_not_sent(token: str) -> None:
    with pytest.raises(errors.InvalidInput):
        bearer(token)


def test_refusal_is_an_error_with_what_the_server_said(api: FakeApi) -> None:
    api.tell("GET", "/users", problem(403, "Not allowed", "only administrators may do this"))
    with pytest.raises(ApiError) as caught:
        ask(api, lambda client: client.get("/users"))
    error = caught.value
    assert (error.status, error.title, error.request_id) == (403, "Not allowed", "r1")
    assert error.message == "Not allowed: only administrators may do this"


@pytest.mark.parametrize(("status", "code"), [
    (400, 1), (401, 3), (403, 4), (404, 5), (409, 1), (412, 1), (429, 1), (500, 6), (503, 6),
])  # fmt: skip
def test_each_status_has_its_exit_code(status: int, code: int) -> None:
    assert exit_code(ApiError(status, "Title")) == code


@pytest.mark.parametrize(("error", "code"), [
    (errors.InvalidInput("x"), 2), (errors.Misconfigured("x"), 2), (NotLoggedIn("x"), 3), (errors.Denied("x"), 4),
    (errors.NotFound("x"), 5), (Unreachable("x"), 6), (errors.SlipwayError("x"), 2),
])  # fmt: skip
def test_each_error_of_ours_has_its_exit_code(error: errors.SlipwayError, code: int) -> None:
    assert exit_code(error) == code


def test_answer_of_another_server_is_told_apart(api: FakeApi) -> None:
    api.tell("GET", "/account", Reply(raw=b"<html>"))
    api.tell("GET", "/users", Reply(raw=b"<html>", status=404, headers={"Content-Type": "text/html"}))
    with pytest.raises(Unreachable, match="not Slipway"):
        ask(api, lambda client: client.get("/account"))
    with pytest.raises(ApiError, match="404 Not Found: the answer is not Slipway's"):
        ask(api, lambda client: client.get("/users"))


def test_redirect_is_not_followed_with_the_token(api: FakeApi) -> None:
    api.tell("GET", "/account", Reply(status=301, headers={"Location": f"{api.url}/api/v1/elsewhere"}))
    with pytest.raises(Unreachable, match=f"{api.url}/api/v1/elsewhere"):
        ask(api, lambda client: client.get("/account"))
    assert len(api.calls) == 1


@pytest.mark.parametrize("status", [429, 503])
def test_call_waits_as_long_as_the_server_asks(api: FakeApi, capsys: pytest.CaptureFixture[str], status: int) -> None:
    busy = problem(status, "Busy", **{"Retry-After": "1"})
    api.tell("POST", "/teams", busy, Reply({"name": "platform"}, 201))
    started = time.monotonic()
    assert ask(api, lambda client: client.post("/teams", {"name": "platform"})) == {"name": "platform"}
    assert time.monotonic() - started >= 1
    first, second = api.asked("POST", "/teams")
    assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"]
    assert "Busy; trying again in 1 s" in capsys.readouterr().err


@pytest.mark.parametrize("after", ["31", "3600", "", "soon"])
def test_call_does_not_wait_for_long(api: FakeApi, after: str) -> None:
    api.tell("GET", "/account", problem(503, "A part is away", **({"Retry-After": after} if after else {})))
    with pytest.raises(ApiError, match="A part is away"):
        ask(api, lambda client: client.get("/account"))
    assert len(api.calls) == 1


def test_patience_ends(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slipway_common.client.api.MAX_PATIENCE_S", 0.5)
    api.tell("GET", "/account", problem(429, "Too many", **{"Retry-After": "0"}))
    with pytest.raises(ApiError):
        ask(api, lambda client: client.get("/account"))
    assert 2 <= len(api.calls) <= 3


def test_other_refusals_are_not_tried_again(api: FakeApi) -> None:
    api.tell("GET", "/account", problem(500, "Something went wrong", **{"Retry-After": "0"}))
    with pytest.raises(ApiError):
        ask(api, lambda client: client.get("/account"))
    assert len(api.calls) == 1


def test_lost_connection_is_tried_once_more_where_that_is_safe(api: FakeApi) -> None:
    lost = Reply(lost=True)
    api.tell("POST", "/teams", lost, {"name": "platform"})
    assert ask(api, lambda client: client.post("/teams", {"name": "platform"})) == {"name": "platform"}
    assert len({call.headers["Idempotency-Key"] for call in api.calls}) == 1
    api.tell("POST", "/users", lost)
    api.tell("PATCH", "/account", lost)
    with pytest.raises(Unreachable, match="was lost"):
        ask(api, lambda client: client.post("/users", {}))
    with pytest.raises(Unreachable, match="was lost"):
        ask(api, lambda client: client.patch("/account", {}))
    assert (len(api.asked("POST", "/users")), len(api.asked("PATCH", "/account"))) == (2, 1)


def test_each_post_has_a_key_of_its_own(api: FakeApi) -> None:
    api.tell("POST", "/teams", {})
    for _ in range(2):
        ask(api, lambda client: client.post("/teams", {}))
    assert len({call.headers["Idempotency-Key"] for call in api.calls}) == 2


def test_every_page_is_read(api: FakeApi) -> None:
    pages = [
        {"users": [{"name": "a"}], "next": "a"},
        {"users": [{"name": "b"}], "next": "b"},
        {"users": [], "next": None},
    ]
    api.tell("GET", "/users", *pages)
    found = ask(api, lambda client: client.all("/users", {"q": "x", "kind": None}))
    assert [user["name"] for user in found] == ["a", "b"]
    assert [call.query for call in api.calls] == [{"q": "x"}, {"q": "x", "last": "a"}, {"q": "x", "last": "b"}]


def test_list_that_leads_to_itself_ends(api: FakeApi) -> None:
    api.tell("GET", "/users", {"users": [{"name": "a"}], "next": "a"})
    assert len(ask(api, lambda client: client.all("/users"))) == 2


def test_change_that_depends_on_what_was_read_is_made_for_that_version(api: FakeApi) -> None:
    versions = [Reply({"labels": {"n": n}}, headers={"ETag": f'"{n}"'}) for n in (1, 2)]
    api.tell("GET", "/repositories/acme/web", *versions)
    api.tell("PATCH", "/repositories/acme/web", problem(412, "Changed meanwhile"), {"name": "acme/web"})
    path = repository_path("acme/web")
    ask(api, lambda client: client.edit(path, lambda found: {"labels": {**found["labels"], "x": 1}}))
    patches = api.asked("PATCH", "/repositories/acme/web")
    assert [call.headers["If-Match"] for call in patches] == ['"1"', '"2"']
    assert patches[1].body == {"labels": {"n": 2, "x": 1}}


def test_names_cannot_lead_elsewhere(api: FakeApi) -> None:
    assert path_to("users", "a/b?c#d", "tokens") == "/users/a%2Fb%3Fc%23d/tokens"
    assert repository_path("acme/web", "grants", "robot:acme+ci") == "/repositories/acme/web/-/grants/robot%3Aacme%2Bci"
    for name in ("..", "a/../b", "a//b", "/a", "a/", ".", "", "a/-/grants", "-"):
        with pytest.raises(errors.InvalidInput):
            repository_path(name)
    for name in ("..", ".", ""):
        with pytest.raises(errors.InvalidInput):
            path_to("users", name)
    ask_path = path_to("robots", "acme+ci")
    api.tell("GET", "/robots/acme+ci", {"name": "acme+ci"})
    assert ask(api, lambda client: client.get(ask_path))["name"] == "acme+ci"


def test_nobody_listening_is_said_so() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(Unreachable, match=r"Connection refused\. Is Slipway running there"):
            call_as(url, None, lambda client: client.get("/account"))


def test_unknown_host_is_said_so() -> None:
    with pytest.raises(Unreachable, match="is the address right"):
        call_as("http://registry.invalid", None, lambda client: client.get("/account"))


def test_http_where_https_is_spoken_and_the_other_way_round_are_told_apart(api: FakeApi, tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="is it http"):
        call_as(api.url.replace("http", "https"), None, lambda client: client.get("/account"))
    with FakeApi(_tls(tmp_path)) as secure, pytest.raises(Unreachable):
        call_as(secure.url.replace("https", "http"), None, lambda client: client.get("/account"))


def test_certificate_that_is_not_trusted_is_said_so(tmp_path: Path) -> None:
    with FakeApi(_tls(tmp_path)) as secure, pytest.raises(Unreachable, match="SSL_CERT_FILE"):
        call_as(secure.url, None, lambda client: client.get("/account"))
    assert secure.calls == []


def test_logins_of_netrc_and_proxies_are_not_for_this_machine(
    api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login mallory password other\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    api.tell("GET", "/account", {"name": "alice"})
    assert ask(api, lambda client: client.get("/account")) == {"name": "alice"}
    assert api.calls[0].headers["Authorization"] == f"Bearer {TOKEN}"


def _tls(folder: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = folder / "tls.pem"
    file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


# Output


def test_table_keeps_each_row_on_a_line_where_a_program_reads(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"name": "a" * 300, "public": True, "labels": {"k": "v"}, "left": 1},
        {"name": "b", "public": False, "labels": None},
    ]
    print_rows(rows, {"name": "name", "public": "public", "labels": "labels"}, as_json=False)
    title, first, second = capsys.readouterr().out.splitlines()
    assert title.split() == ["name", "public", "labels"]
    assert first.split() == ["a" * 300, "yes", "k=v"]
    assert second.split() == ["b", "no"]


def test_rows_as_json_are_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows([{"name": "a", "x": 1}], {"name": "name"}, as_json=True)
    assert json.loads(capsys.readouterr().out) == [{"name": "a", "x": 1}]
    print_rows([], {"name": "name"}, as_json=True)
    assert json.loads(capsys.readouterr().out) == []
    print_rows([], {"name": "name"}, as_json=False)
    assert capsys.readouterr() == ("", "none\n")


def test_facts_are_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    print_facts({"name": "alice", "is_admin": False, "last_login_at": None, "teams": ["a", "b"]}, as_json=False)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [["name", "alice"], ["is", "admin", "no"], ["last", "login"], ["teams", "a,", "b"]]


def test_times_are_local_and_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        assert short_time("2026-01-02T03:04:05.678Z") == "2026-01-02 04:04"
        assert show("created_at", "2026-07-02T03:04:05+00:00") == "2026-07-02 05:04"
        assert show("expires_at", None) == ""
        assert show("created_at", "not a time") == "not a time"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_what_a_terminal_would_obey_is_not_passed_on(capsys: pytest.CaptureFixture[str]) -> None:
    evil = "x\x1b[2J\x9b31m\u202ey\r\nz [red]no markup[/]"
    print_rows([{"description": evil}], {"description": "description"}, as_json=False)
    out = capsys.readouterr().out
    assert not set("\x1b\x9b\u202e\r") & set(out)
    assert "z [red]no markup[/]" in out
    assert printable("a\nb", lines=True) == "a\nb"


def test_secret_stands_alone_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    print_secret(TOKEN, "shown once:")
    assert capsys.readouterr() == (f"{TOKEN}\n", "shown once:\n")
