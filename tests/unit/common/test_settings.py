"""Settings: which of them wins, and every mistake at once, by the name that the operator wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from slipway_common.errors import Misconfigured
from slipway_common.launcher.cli import settings_markdown
from slipway_common.launcher.service import installed_services
from slipway_common.settings import CommonSettings, describe, load_settings, parse_listen
from slipway_gateway.settings import GatewaySettings

MODELS: list[type[BaseModel]] = [service.settings for service in installed_services().values()]
PAGE = Path(__file__).resolve().parents[3] / "docs" / "settings.md"


def load(
    *, config: Path | None = None, overrides: dict[str, Any] | None = None, environ: dict[str, str] | None = None
) -> GatewaySettings:
    return load_settings([GatewaySettings], known=MODELS, config=config, overrides=overrides, environ=environ or {})[0]


def mistakes(**how: Any) -> list[str]:
    with pytest.raises(Misconfigured) as refused:
        load(**how)
    first, *lines = refused.value.message.splitlines()
    assert first == "the settings have mistakes:"
    assert all(line.startswith("  - ") for line in lines)
    return [line.removeprefix("  - ") for line in lines]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "slipway.toml"


# Which wins.


def test_command_line_wins_over_environment_over_file_over_default(file: Path) -> None:
    file.write_text('listen = "file:1"\npublic_url = "http://file"\ns3_region = "file"\n')
    environ = {"SLIPWAY_LISTEN": "environ:2", "SLIPWAY_PUBLIC_URL": "http://environ"}
    loaded = load(config=file, environ=environ, overrides={"listen": "command:3", "public_url": None})
    assert (loaded.listen, loaded.public_url, loaded.s3_region) == ("command:3", "http://environ", "file")
    assert loaded.token_s == 300


def test_file_is_found_by_its_variable_and_the_command_line_names_another(file: Path, tmp_path: Path) -> None:
    file.write_text("token_s = 61\n")
    (tmp_path / "other.toml").write_text("token_s = 62\n")
    environ = {"SLIPWAY_CONFIG": str(file)}
    assert load(environ=environ).token_s == 61
    assert load(environ=environ, config=tmp_path / "other.toml").token_s == 62


def test_lists_are_written_with_commas_or_as_lists(file: Path) -> None:
    file.write_text('trusted_proxies = ["10.0.0.0/8", "::1"]\n')
    assert load(config=file).trusted_proxies == ["10.0.0.0/8", "::1"]
    assert load(environ={"SLIPWAY_TRUSTED_PROXIES": "10.0.0.0/8,, ::1 "}).trusted_proxies == ["10.0.0.0/8", "::1"]


def test_setting_whose_own_name_ends_in_file_is_no_file_of_a_setting(tmp_path: Path) -> None:
    key = tmp_path / "key"
    assert load(environ={"SLIPWAY_MASTER_KEY_FILE": str(key)}).master_key_path == key
    (tmp_path / "name").write_text(f"{key}\n")
    assert load(environ={"SLIPWAY_MASTER_KEY_FILE_FILE": str(tmp_path / "name")}).master_key_path == key


def test_variables_of_others_and_of_the_tools_are_left_alone() -> None:
    environ = {"PATH": "/bin", "slipway_nonsense": "1", "SLIPWAY_TEST_REQUIRE": "all", "SLIPWAY_WORKER_NUMBER": "1"}
    assert load(environ=environ) == load()


def test_settings_of_other_services_are_no_mistakes() -> None:
    common = load_settings([CommonSettings], known=MODELS, environ={"SLIPWAY_TOKEN_S": "400"})
    assert len(common) == 1


# Mistakes.


def test_all_mistakes_are_told_at_once_by_the_name_that_was_written(file: Path, tmp_path: Path) -> None:
    file.write_text('token_s = 1\nlissen = ":5000"\n[table]\na = 1\n')
    told = mistakes(
        config=file,
        overrides={"listen": "nowhere"},
        environ={
            "SLIPWAY_ANONYMOUS": "all",
            "SLIPWAY_TRUSTED_PROXIES": "10.0.0.0/8,example.com",
            "SLIPWAY_PUBLIC_ULR": "https://a",
            "SLIPWAY_DATABASE_URL_FILE": str(tmp_path / "missing"),
        },
    )
    beginnings = (
        f"{file}: 'lissen' is not a setting; did you mean listen?",
        f"{file}: 'table' is not a setting",
        f"{file}: token_s: ",
        "--listen: write HOST:PORT",
        "SLIPWAY_ANONYMOUS: ",
        "SLIPWAY_TRUSTED_PROXIES: ",
        "SLIPWAY_PUBLIC_ULR: 'public_ulr' is not a setting; did you mean SLIPWAY_PUBLIC_URL?",
        f"SLIPWAY_DATABASE_URL_FILE: {tmp_path / 'missing'}: No such file",
    )
    for beginning in beginnings:
        assert any(line.startswith(beginning) for line in told), (beginning, told)
    assert len(told) == len(beginnings)


def test_mistake_that_several_services_find_is_told_once() -> None:
    with pytest.raises(Misconfigured) as refused:
        load_settings(MODELS, known=MODELS, environ={"SLIPWAY_BUS": "pigeon"})  # type: ignore[type-var]
    assert refused.value.message.count("SLIPWAY_BUS") == 1


def test_mistakes_do_not_repeat_secrets(tmp_path: Path) -> None:
    (tmp_path / "file.toml").write_text("admin_password = 31337\n")
    told = mistakes(config=tmp_path / "file.toml", environ={"SLIPWAY_DATABASE_POOL_SIZE": "hunter2"})
    assert not any("31337" in line or "hunter2" in line for line in told)


@pytest.mark.parametrize("content", [b"token_s =", b"\xff", b"a = 1\na = 2\n", b"[" * 5000])
def test_file_that_cannot_be_read_is_one_mistake(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    (told,) = mistakes(config=file)
    assert told.startswith(f"{file}: not a TOML file")


def test_file_that_is_not_there_is_a_mistake(file: Path) -> None:
    assert mistakes(config=file) == [f"{file}: No such file or directory"]


def test_file_of_a_setting_that_is_no_text_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "password").write_bytes(b"\xff\xfe\x00")
    (told,) = mistakes(environ={"SLIPWAY_ADMIN_PASSWORD_FILE": str(tmp_path / "password")})
    assert told == f"SLIPWAY_ADMIN_PASSWORD_FILE: {tmp_path / 'password'}: not UTF-8 text"


def test_empty_name_of_a_file_is_one_that_is_not_set() -> None:
    assert load(environ={"SLIPWAY_ADMIN_PASSWORD_FILE": ""}).admin_password is None


def test_setting_given_both_by_value_and_by_file_is_a_mistake(tmp_path: Path) -> None:
    """Whichever won, the other would be believed to be in force."""
    (tmp_path / "password").write_text("from the file")
    both = {"SLIPWAY_ADMIN_PASSWORD": "given", "SLIPWAY_ADMIN_PASSWORD_FILE": str(tmp_path / "password")}
    for environ in (both, dict(reversed(both.items()))):
        assert mistakes(environ=environ) == [
            "SLIPWAY_ADMIN_PASSWORD and SLIPWAY_ADMIN_PASSWORD_FILE are both set: keep one"
        ]


@pytest.mark.parametrize(("environ", "told"), [
    ({"SLIPWAY_KAFKA_SECURITY_PROTOCOL": "SASL_SSL"}, "kafka_username"),
    ({"SLIPWAY_TLS_KEY": "/key.pem"}, "tls_certificate"),
    ({"SLIPWAY_STORAGE": "s3"}, "s3_bucket"),
    ({"SLIPWAY_S3_ACCESS_KEY": "a"}, "s3_secret_key"),
    ({"SLIPWAY_S3_SECRET_KEY": "a"}, "s3_access_key"),
])  # fmt: skip
def test_settings_that_do_not_fit_together_are_mistakes(environ: dict[str, str], told: str) -> None:
    (line,) = mistakes(environ=environ)
    assert told in line


def test_everything_that_does_not_fit_together_is_told_at_once() -> None:
    told = "\n".join(mistakes(environ={"SLIPWAY_TLS_KEY": "/k", "SLIPWAY_STORAGE": "s3", "SLIPWAY_S3_SECRET_KEY": "a"}))
    assert "tls_certificate" in told
    assert "s3_bucket" in told
    assert "s3_access_key" in told


@pytest.mark.parametrize(("written", "read"), [
    ("127.0.0.1:5000", ("127.0.0.1", 5000)), (":0", ("", 0)), ("[::1]:65535", ("::1", 65535)),
    ("unix:/run/a.sock", Path("/run/a.sock")),
])  # fmt: skip
def test_address_to_listen_on_is_read(written: str, read: object) -> None:
    assert parse_listen(written) == read


@pytest.mark.parametrize(
    "written", ["", "5000", "a", "a:", "a:b", "a:-1", "a:65536", "a:²", "a:1:", "a: 1", "a:" + "9" * 5000]
)
def test_what_is_no_address_to_listen_on_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match="HOST:PORT"):
        parse_listen(written)


@pytest.mark.parametrize(
    "url", ["registry.example.com", "ftp://a", "https://a/b", "https://a?b", "https://a b", "https://", "//a"]
)
def test_url_is_one_without_path(url: str) -> None:
    (told,) = mistakes(environ={"SLIPWAY_PUBLIC_URL": url})
    assert told.startswith("SLIPWAY_PUBLIC_URL: ")


def test_slash_at_the_end_of_a_url_is_dropped() -> None:
    assert (
        load(environ={"SLIPWAY_PUBLIC_URL": "https://registry.example.com/"}).public_url
        == "https://registry.example.com"
    )


VARIABLES = st.sampled_from(
    [f"SLIPWAY_{name.upper()}" for name in GatewaySettings.model_fields if not name.endswith("_file")]
)


@given(
    st.dictionaries(
        VARIABLES, st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=8), max_size=3
    )
)
def test_whatever_the_environment_says_is_taken_or_told(environ: dict[str, str]) -> None:
    told = ""
    try:
        load(environ=environ)
    except Misconfigured as refused:
        told = refused.message
    assert not told or "\n  - SLIPWAY_" in told or "set " in told


# What its reader is told.


def test_every_setting_is_described() -> None:
    for row in describe(MODELS):
        assert row["description"].strip(), row["name"]


def test_page_of_settings_is_what_the_program_prints() -> None:
    text = PAGE.read_text("utf-8")
    assert text[text.index("| variable |") :] == settings_markdown(describe(MODELS)), "slipway settings --markdown"


def test_secrets_do_not_show_when_settings_are_printed() -> None:
    loaded = load(environ={"SLIPWAY_ADMIN_PASSWORD": "hunter2", "SLIPWAY_DATABASE_URL": "postgresql://a:hunter2@b/c"})
    assert "hunter2" not in f"{loaded} {loaded!r} {loaded.model_dump()} {loaded.model_dump_json()}"
