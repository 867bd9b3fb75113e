"""Where a client is told to log in: the operator's address, else its own, and nobody else's."""

from __future__ import annotations

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from slipway_common.errors import Unauthenticated
from slipway_common.security.signing import InvalidToken
from slipway_gateway.api.challenges import Challenger, PublicAddress


def request(**headers: str) -> web.Request:
    return make_mocked_request(
        "GET", "/v2/", headers={name.replace("_", "-"): value for name, value in headers.items()}
    )


def from_proxy(address: str, **headers: str) -> web.Request:
    made = request(**headers).clone(remote=address)
    assert isinstance(made, web.Request)
    return made


@pytest.mark.parametrize(
    "host",
    [
        "registry.example.com",
        "registry.example.com:5000",
        "localhost:5000",
        "127.0.0.1:5000",
        "[::1]:5000",
        "a",
        "xn--e1afmkfd.example",
    ],
)
def test_address_is_the_one_the_client_used(host: str) -> None:
    assert PublicAddress(None, [], tls=False).of(request(Host=host)) == f"http://{host}"
    assert PublicAddress(None, [], tls=True).of(request(Host=host)) == f"https://{host}"


@pytest.mark.parametrize(
    "host",
    [
        "",
        "a b",
        'a"',
        'x",realm="http://evil',
        "a/b",
        "a@b",
        "a?b",
        "a#b",
        "a\\b",
        "a,b",
        "a;b",
        "<a>",
        "-a",
        "a-",
        ".a",
        "a:b",
        "a:123456",
        "a:",
        ":80",
        "[::1",
        "::1",
        "[x]",
        "a" * 300,
        "\u0430.example",
    ],
)
def test_malformed_host_is_not_repeated(host: str) -> None:
    assert PublicAddress(None, [], tls=False).of(request(Host=host)) == "http://localhost"


def test_operators_address_counts_whatever_the_request_says() -> None:
    address = PublicAddress("https://registry.example.com", ["0.0.0.0/0"], tls=False)
    assert address.of(from_proxy("10.0.0.1", Host="evil", X_Forwarded_Proto="http")) == "https://registry.example.com"


@pytest.mark.parametrize(
    ("remote", "scheme"),
    [
        ("10.0.0.1", "https"),
        ("10.255.0.1", "https"),
        ("fd00::1", "https"),
        ("11.0.0.1", "http"),
        ("127.0.0.1", "http"),
        ("::ffff:10.0.0.1", "https"),
        ("::ffff:11.0.0.1", "http"),
        ("not an address", "http"),
        ("", "http"),
    ],
)
def test_headers_of_a_proxy_count_only_if_it_is_trusted(remote: str, scheme: str) -> None:
    address = PublicAddress(None, ["10.0.0.0/8", "fd00::/8"], tls=False)
    assert address.of(from_proxy(remote, Host="r.example", X_Forwarded_Proto="https")) == f"{scheme}://r.example"


@pytest.mark.parametrize("proto", ["ftp", "https, http", "HTTPS", "javascript", "", "https://evil"])
def test_odd_scheme_from_a_trusted_proxy_does_not_count(proto: str) -> None:
    address = PublicAddress(None, ["10.0.0.0/8"], tls=False)
    assert address.of(from_proxy("10.0.0.1", Host="r", X_Forwarded_Proto=proto)) == "http://r"


@pytest.mark.parametrize(
    ("authorization", "exc", "error"),
    [
        (None, Unauthenticated("x"), None),
        ("Basic eA==", Unauthenticated("x"), None),
        ("Bearer x", InvalidToken("x"), "invalid_token"),
        ("bearer x", Unauthenticated("x"), "insufficient_scope"),
        ("Bearer x", Unauthenticated("x"), "insufficient_scope"),
        ("Bearer", InvalidToken("x"), "invalid_token"),
    ],
)
def test_challenge_says_what_was_wrong_with_the_token(
    authorization: str | None, exc: Unauthenticated, error: str | None
) -> None:
    headers = {"Host": "r"} if authorization is None else {"Host": "r", "Authorization": authorization}
    answer = Challenger(PublicAddress(None, [], tls=False)).refuse(request(**headers), exc, "repository:a:pull")
    challenge = answer.headers["WWW-Authenticate"]
    assert answer.status == 401
    assert challenge.startswith('Bearer realm="http://r/token",service="slipway",scope="repository:a:pull"')
    assert (f'error="{error}"' in challenge) if error else ("error" not in challenge)
