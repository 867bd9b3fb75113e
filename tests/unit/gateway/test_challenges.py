"""Where a client is told to log in: the operator's address, else its own, and nobody else's; and where the client is itself."""

from __future__ import annotations

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

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


# Where a request comes from.

PROXIES = ["10.0.0.0/8", "fd00::/8", "192.0.2.1"]


def client(remote: str, *forwarded: str, trusted: list[str] = PROXIES) -> str:
    """The caller's address, by what the socket and any number of X-Forwarded-For headers say."""
    headers = CIMultiDict([("Host", "r"), *(("X-Forwarded-For", text) for text in forwarded)])
    made = make_mocked_request("GET", "/v2/", headers=headers).clone(remote=remote)
    return PublicAddress(None, trusted, tls=False).client_of(made)


def test_client_is_who_connects() -> None:
    assert client("198.51.100.7", trusted=[]) == "198.51.100.7"
    assert client("198.51.100.7") == "198.51.100.7"
    assert client("10.0.0.1") == "10.0.0.1"


@pytest.mark.parametrize("trusted", [[], PROXIES])
def test_client_that_no_proxy_vouches_for_cannot_say_where_it_is(trusted: list[str]) -> None:
    assert client("198.51.100.7", "10.0.0.1", trusted=trusted) == "198.51.100.7"
    assert client("198.51.100.7", "203.0.113.9, 10.0.0.1", trusted=trusted) == "198.51.100.7"
    assert client("::ffff:198.51.100.7", "203.0.113.9", trusted=PROXIES) in ("198.51.100.7", "::ffff:198.51.100.7")


def test_trusted_proxy_says_who_came_to_it() -> None:
    assert client("10.0.0.1", "198.51.100.7") == "198.51.100.7"
    assert client("fd00::1", "2001:db8::7") == "2001:db8::7"
    assert client("::ffff:10.0.0.1", "198.51.100.7") == "198.51.100.7"
    assert client("192.0.2.1", "198.51.100.7") == "198.51.100.7"
    assert client("192.0.2.2", "198.51.100.7") == "192.0.2.2"


def test_what_a_client_wrote_before_the_proxy_did_does_not_count() -> None:
    for written in ("203.0.113.9", "10.0.0.9", "127.0.0.1", "203.0.113.9, 10.0.0.9", "x", "", "unknown"):
        assert client("10.0.0.1", f"{written}, 198.51.100.7") == "198.51.100.7"


def test_several_trusted_proxies_are_looked_through_from_the_last() -> None:
    assert client("10.0.0.1", "198.51.100.7, 10.0.0.3, fd00::2") == "198.51.100.7"
    assert client("10.0.0.1", "203.0.113.9, 198.51.100.7, ::ffff:10.0.0.3, 10.0.0.2") == "198.51.100.7"
    assert client("10.0.0.1", "10.0.0.4, 10.0.0.3") == "10.0.0.4", "somebody inside"


@pytest.mark.parametrize(("text", "address"), [
    ("198.51.100.7:4711", "198.51.100.7"), ("[2001:db8::7]", "2001:db8::7"), ("[2001:db8::7]:4711", "2001:db8::7"),
    ("::ffff:198.51.100.7", "198.51.100.7"),
])  # fmt: skip
def test_port_behind_an_address_is_not_part_of_it(text: str, address: str) -> None:
    assert client("10.0.0.1", text) == address


def test_first_word_that_is_no_address_ends_the_look() -> None:
    assert client("10.0.0.1", "198.51.100.7, unknown, 10.0.0.2") == "10.0.0.2"
    for text in (
        "unknown",
        "",
        " , ",
        "_hidden",
        "198.51.100.0/24",
        "٣.3.3.3",
        "1" * 5000,
    ):
        assert client("10.0.0.1", text) == "10.0.0.1"


@pytest.mark.parametrize(("text", "address"), [
    ("::ffff:198.51.100.7", "198.51.100.7"), (" 198.51.100.7 ", "198.51.100.7"), ("2001:DB8:0::07", "2001:db8::7"),
    ("\t198.51.100.7", "198.51.100.7"), ("10.0.0.2,198.51.100.7", "198.51.100.7"),
])  # fmt: skip
def test_one_address_is_written_in_one_way(text: str, address: str) -> None:
    assert client("10.0.0.1", text) == address


def test_ipv4_mapped_client_is_an_ipv4_client_and_no_member_of_an_ipv6_network() -> None:
    assert client("10.0.0.1", "203.0.113.9, ::ffff:198.51.100.7", trusted=["10.0.0.0/8", "::/0"]) == "198.51.100.7"


def test_caller_without_an_address_has_none() -> None:
    assert client("", "198.51.100.7") == ""
    assert client("not an address", "198.51.100.7") == "not an address"


def test_headers_of_one_name_are_one_list() -> None:
    """HAProxy adds a header of its own after the client's (RFC 9110, 5.3: they mean the same as one with commas)."""
    assert client("10.0.0.1", "203.0.113.9", "198.51.100.7") == "198.51.100.7"
    assert client("10.0.0.1", "203.0.113.9", "198.51.100.7", "10.0.0.2") == "198.51.100.7"


@given(
    st.lists(
        st.ip_addresses(v=4).map(str) | st.ip_addresses(v=6).map(str) | st.text("0123456789abcdef.:, ", max_size=20)
    )
)
def test_client_is_never_one_that_no_trusted_proxy_named(hops: list[str]) -> None:
    """Whatever was written before: the answer is the socket's own address, or what one of the trusted ones at the end wrote."""
    text = ", ".join([*hops, "198.51.100.7"])
    assert client("10.0.0.1", text) == "198.51.100.7"
    assert client("203.0.113.1", text) == "203.0.113.1"
