"""Settings from the environment, as compose files hand them over."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway_common.errors import Misconfigured
from slipway_common.settings import load_settings
from slipway_gateway.settings import GatewaySettings


def _load(**environ: str) -> GatewaySettings:
    return load_settings([GatewaySettings], known=[GatewaySettings], environ=environ)[0]


def test_address_of_the_internal_api_can_be_set_by_variable() -> None:
    assert _load(SLIPWAY_INTERNAL_LISTEN="0.0.0.0:8080").internal_listen == "0.0.0.0:8080"


def test_list_is_written_with_commas() -> None:
    assert _load(SLIPWAY_TRUSTED_PROXIES="10.0.0.0/8, 192.168.1.1").trusted_proxies == ["10.0.0.0/8", "192.168.1.1"]


def test_empty_variable_is_one_that_is_not_set() -> None:
    settings = _load(SLIPWAY_PUBLIC_URL="", SLIPWAY_TRUSTED_PROXIES="", SLIPWAY_ANONYMOUS="")
    assert (settings.public_url, settings.trusted_proxies, settings.anonymous) == (None, [], "nothing")


def test_secret_is_read_from_a_file_without_the_newline_at_its_end(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("secret\n")
    password = _load(SLIPWAY_ADMIN_PASSWORD_FILE=str(tmp_path / "password")).admin_password
    assert password is not None
    assert password.get_secret_value() == "secret"


def test_empty_file_of_a_secret_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("\n")
    with pytest.raises(Misconfigured, match="SLIPWAY_DATABASE_URL_FILE: the file is empty"):
        _load(SLIPWAY_DATABASE_URL_FILE=str(tmp_path / "url"))
