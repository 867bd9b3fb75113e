"""Which addresses and URLs a request that a user caused may go to: tables of every form that has fooled somebody."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_common.outgoing.addresses import Allowance, forbidden_reason, parse_allowance
from slipway_common.outgoing.guard import OutgoingRules
from slipway_common.outgoing.targets import OutgoingRefused, parse_target_url

# The ends of each network and places in it that are known by name.
FORBIDDEN_V4 = {
    "unspecified": "0.0.0.0 0.0.0.1 0.1.2.3 0.255.255.255",
    "loopback": "127.0.0.0 127.0.0.1 127.0.0.53 127.0.1.1 127.1.1.1 127.255.255.254 127.255.255.255",
    "private": "10.0.0.0 10.0.0.1 10.96.0.1 10.255.255.255 172.16.0.0 172.17.0.1 172.31.255.255 192.168.0.0 192.168.1.1 "
    "192.168.99.100 192.168.255.255",
    "shared by a provider's customers": "100.64.0.0 100.64.0.1 100.100.100.200 100.127.255.255",
    "link-local": "169.254.0.0 169.254.169.254 169.254.170.2 169.254.169.123 169.254.255.255",
    "a cloud's own": "168.63.129.16",
    "multicast": "224.0.0.0 224.0.0.1 224.0.0.251 233.252.0.1 239.255.255.250 239.255.255.255",
    "for tunnels": "192.88.99.0 192.88.99.1 192.88.99.255",
    "for documentation": "192.0.2.0 192.0.2.1 192.0.2.255 198.51.100.0 198.51.100.1 198.51.100.255 203.0.113.0 203.0.113.1 "
    "203.0.113.255",
    "for benchmarks": "198.18.0.0 198.18.0.1 198.19.255.255",
    "for protocols": "192.0.0.0 192.0.0.8 192.0.0.9 192.0.0.10 192.0.0.170 192.0.0.192 192.0.0.255",
    "reserved": "240.0.0.0 240.0.0.1 250.1.2.3 255.255.255.254 255.255.255.255",
}
FORBIDDEN_V6 = {
    "unspecified": ":: 0:0:0:0:0:0:0:0",
    "loopback": "::1 0:0:0:0:0:0:0:1 ::1%lo",
    "private": "fc00:: fc00::1 fd00:ec2::254 fd20:ce::254 fd12:3456:789a::1 fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff fec0:: "
    "fec0::1 fec0:0:0:ffff::1 feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "link-local": "fe80:: fe80::1 fe80::1%eth0 fe80::a9fe:a9fe febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "multicast": "ff00:: ff02::1 ff02::fb ff05::1:3 ff0e::1 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "for tunnels": "2002:: 2002:7f00:1:: 2002:a9fe:a9fe::1 2002:0808:0808::1 2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff 2001:: "
    "2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:0:a9fe:a9fe::1 2001:0:ffff:ffff:ffff:ffff:ffff:ffff 64:ff9b:1:: "
    "64:ff9b:1::a9fe:a9fe 64:ff9b:1::808:808 64:ff9b:1:ffff:ffff:ffff:ffff:ffff",
    "for documentation": "2001:db8:: 2001:db8::1 2001:db8:ffff:ffff:ffff:ffff:ffff:ffff 3fff:: 3fff::1 "
    "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff",
    "for benchmarks": "2001:2:: 2001:2::1 2001:2:0:ffff:ffff:ffff:ffff:ffff",
    "for protocols": "2001:1::1 2001:3::1 2001:4:112::1 2001:10::1 2001:20::1 2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff 100:: "
    "100::1 100::ffff:ffff:ffff:ffff 5f00:: 5f00::1 5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    # IPv4-compatible, IPv4-translated, and what was never given out.
    "reserved": "::2 ::7f00:1 ::127.0.0.1 ::169.254.169.254 ::8.8.8.8 ::ffff:0:7f00:1 ::ffff:0:8.8.8.8 64:ff9a::1 "
    "64:ff9b:0:1::808:808 64:ff9b:2::1 100:0:0:1::1 200::1 1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 4000::1 5eff::1 5f01::1 "
    "7fff::1 8000::1 c000::1 e000::1 fbff:ffff:ffff:ffff:ffff:ffff:ffff:ffff fe00::1 fe7f:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
}
ALLOWED_V4 = (
    "1.0.0.0 1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 93.184.215.14 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 "
    "140.82.121.4 168.63.129.15 168.63.129.17 169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 191.255.255.255 192.0.1.0 "
    "192.0.1.255 192.0.3.0 192.88.98.255 192.88.100.0 192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0 198.51.99.255 "
    "198.51.101.0 203.0.112.255 203.0.114.0 223.255.255.255"
)
ALLOWED_V6 = (
    "2000::1 2001:200::1 2001:4860:4860::8888 2001:db7:ffff:ffff:ffff:ffff:ffff:ffff 2001:db9::1 2003::1 2400:cb00:2048:1::1 "
    "2606:4700:4700::1111 2620:fe::fe 2a00:1450:4001:81b::200e 2a02::1 2c0f:fb50::1 3ffe:ffff::1 3fff:1000::1"
)

V4_ALONE = [(address, reason) for reason, addresses in FORBIDDEN_V4.items() for address in addresses.split()]
V6_ALONE = [(address, reason) for reason, addresses in FORBIDDEN_V6.items() for address in addresses.split()]

# Addresses of IPv6 that end at one of IPv4: mapped, NAT64, and ISATAP in a network that is public.
CARRIERS = ("::ffff:{}", "64:ff9b::{}", "2a02:db8::5efe:{}", "2a02:db8::200:5efe:{}")


def embed(address: str) -> list[str]:
    number = int(IPv4Address(address))
    return [carrier.format(f"{number >> 16:x}:{number & 0xFFFF:x}") for carrier in CARRIERS]


@pytest.mark.parametrize(("address", "reason"), V4_ALONE + V6_ALONE)
def test_an_address_that_is_not_public_is_forbidden(address: str, reason: str) -> None:
    assert forbidden_reason(ip_address(address)) == reason


@pytest.mark.parametrize("address", [*ALLOWED_V4.split(), *ALLOWED_V6.split()])
def test_a_public_address_is_allowed(address: str) -> None:
    assert forbidden_reason(ip_address(address)) is None


@pytest.mark.parametrize(
    ("address", "reason"), [(form, reason) for address, reason in V4_ALONE for form in embed(address)]
)
def test_an_ipv6_address_that_ends_at_a_forbidden_ipv4_address_is_forbidden(address: str, reason: str) -> None:
    assert forbidden_reason(ip_address(address)) == reason


@pytest.mark.parametrize("address", [form for address in ALLOWED_V4.split()[::4] for form in embed(address)])
def test_an_ipv6_address_that_ends_at_a_public_ipv4_address_is_allowed(address: str) -> None:
    assert forbidden_reason(ip_address(address)) is None


@given(st.ip_addresses())
def test_nothing_is_allowed_that_the_standard_library_knows_to_be_inward(address: IPv4Address | IPv6Address) -> None:
    """It knows less; but what it knows is an opinion of somebody else."""
    mapped = isinstance(address, IPv6Address) and address.ipv4_mapped is not None
    inward = address.is_private or address.is_multicast or address.is_reserved or address.is_link_local
    translated = str(address).startswith("64:ff9b::")
    if inward and not mapped and not translated:
        assert forbidden_reason(address) is not None


@given(st.ip_addresses(v=4))
def test_a_tunnel_is_forbidden_whatever_it_carries(address: IPv4Address) -> None:
    carried_bits = int(address)
    assert forbidden_reason(IPv6Address(0x2002 << 112 | carried_bits << 80 | 1)) == "for tunnels"
    assert forbidden_reason(IPv6Address(0x20010000 << 96 | carried_bits << 64)) == "for tunnels"
    assert forbidden_reason(IPv6Address(0x0064FF9B0001 << 80 | carried_bits)) == "for tunnels"
    assert forbidden_reason(IPv6Address(carried_bits)) is not None


@given(st.ip_addresses(v=4))
def test_a_carried_address_is_judged_as_itself(address: IPv4Address) -> None:
    for form in embed(str(address)):
        assert forbidden_reason(ip_address(form)) == forbidden_reason(address)


@pytest.mark.parametrize(
    ("networks", "covered", "not_covered"),
    [
        ([], "", "127.0.0.1 10.0.0.1 ::1"),
        (["127.0.0.0/8"], "127.0.0.1 127.255.0.1 ::ffff:127.0.0.1", "10.0.0.1 ::1 ::7f00:1 64:ff9b::7f00:1"),
        (["10.1.2.3/16"], "10.1.0.0 10.1.255.255 ::ffff:10.1.0.9", "10.0.255.255 10.2.0.0 2002:a01:1::"),
        (["10.0.0.9"], "10.0.0.9", "10.0.0.8 10.0.0.10"),
        (["::1/128", "fd00::/8"], "::1 fd00::1", "127.0.0.1 fc00::1 ::2"),
        (["0.0.0.0/0"], "169.254.169.254 ::ffff:10.0.0.1", "::1 fd00::1"),
        (["64:ff9b::/96"], "64:ff9b::a00:1", "10.0.0.1"),
    ],
)
def test_an_allowance_covers_its_networks_and_no_other_form_of_them(
    networks: list[str], covered: str, not_covered: str
) -> None:
    allowance = parse_allowance(networks)
    assert [a for a in covered.split() if not allowance.covers(ip_address(a))] == []
    assert [a for a in not_covered.split() if allowance.covers(ip_address(a))] == []


def test_a_network_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="does not appear to be"):
        parse_allowance(["10.0.0.0/33"])


@pytest.mark.parametrize(
    ("scheme", "address", "port", "words"),
    [
        ("https", "8.8.8.8", 443, None),
        ("https", "8.8.8.8", 8443, None),
        ("https", "2606:4700:4700::1111", 443, None),
        ("http", "8.8.8.8", 80, "by https"),
        ("https", "8.8.8.8", 22, "80, 443, 8443"),
        ("https", "8.8.8.8", 6379, "80, 443, 8443"),
        ("https", "169.254.169.254", 443, "link-local"),
        ("https", "64:ff9b::a9fe:a9fe", 443, "link-local"),
        ("https", "10.0.0.1", 443, "outgoing_networks"),
        ("http", "10.1.0.1", 8080, None),
        ("http", "::ffff:10.1.0.1", 8080, None),
        ("https", "evil.example", 443, "none"),
        ("https", "127.1", 443, "none"),
        ("https", "0177.0.0.1", 443, "none"),
        ("https", "", 443, "none"),
    ],
)
def test_rules_let_out_what_is_public_or_opened_and_nothing_else(
    scheme: str, address: str, port: int, words: str | None
) -> None:
    refusal = OutgoingRules(parse_allowance(["10.1.0.0/16"])).refusal(scheme, address, port)
    assert refusal is None if words is None else words in str(refusal)


def test_plain_http_and_more_ports_can_be_let_out() -> None:
    rules = OutgoingRules(Allowance(), ports=frozenset({8080}), plain_http=True)
    assert rules.refusal("http", "8.8.8.8", 8080) is None
    assert rules.refusal("http", "8.8.8.8", 80) == "must be reached on one of the ports 8080"
    assert "loopback" in str(rules.refusal("http", "127.0.0.1", 8080))


@pytest.mark.parametrize(("text", "host", "port"), [
    ("https://hooks.example/a/b?c=d", "hooks.example", 443),
    ("http://hooks.example", "hooks.example", 80),
    ("HTTPS://Hooks.Example:8443/", "hooks.example", 8443),
    ("https://hooks.example.:443/", "hooks.example.", 443),
    ("https://hooks.example?x=@y", "hooks.example", 443),
    ("https://hooks.example/@user:x", "hooks.example", 443),
    ("https://bücher.example/", "xn--bcher-kva.example", 443),
    ("http://my_service:8080/x", "my_service", 8080),
    ("http://localhost/", "localhost", 80),
    ("http://127.0.0.1:5000/", "127.0.0.1", 5000),
    ("http://①②⑦.⓪.⓪.①/", "127.0.0.1", 80),
    ("http://１２７。0。0。1/", "127.0.0.1", 80),
    ("http://[::1]:5000/", "::1", 5000),
    ("http://[::ffff:169.254.169.254]/", "::ffff:a9fe:a9fe", 80),
    ("http://[0:0:0:0:0:0:0:1]/", "::1", 80),
    ("https://1.example/", "1.example", 443),
    ("https://0x7f.example/", "0x7f.example", 443),
    ("https://0xg/", "0xg", 443),
])  # fmt: skip
def test_a_url_is_read_as_it_will_be_connected(text: str, host: str, port: int) -> None:
    url = parse_target_url(text)
    assert (url.raw_host, url.port) == (host, port)
    assert str(parse_target_url(str(url))) == str(url)


@pytest.mark.parametrize("text", [
    "", "x", "hooks.example", "//hooks.example/", "/path", "https:", "https://", "https:///path",
    "https:/hooks.example", "https:hooks.example", "ftp://hooks.example/", "file:///etc/passwd",
    "gopher://127.0.0.1:6379/_INFO", "unix:///run/x.sock", "ws://hooks.example/", "git://a/", "data:,x",
    "dict://a:11211/", "ldap://a/", "jar:http://a!/", "httpſ://hooks.example:443/", " https://hooks.example/",
    "https://hooks.example/ ", "https://user@hooks.example/", "https://user:secret@hooks.example/",
    "https://@hooks.example/", "https://hooks.example@127.0.0.1/", "https://hooks.example:443@127.0.0.1/",
    "https://127.0.0.1\\@hooks.example/", "https://hooks.example\\.evil.example/",
    "https://hooks.example#@127.0.0.1/", "https://hooks.example/#fragment", "https://hooks.example/#",
    "https://hooks.example/\r\nHost: a", "https://hooks.example/a b", "https://hooks.example/\x00",
    "https://hooks\t.example/", "https://hooks.example/\\..\\", "https://[::1", "https://::1/",
    "https://[fe80::1%25eth0]/", "https://[fe80::1%eth0]/", "https://[127.0.0.1]/", "https://[v1.x]/", "https://[]/",
    "https://[::1]x/", "https://hooks.example:0/", "https://hooks.example:65536/", "https://hooks.example:-1/",
    "https://hooks.example:+443/", "https://hooks.example:4 3/", "https://hooks.example:x/",
    "https://hooks.example:８０/", "https://a:1:2/", "https://:443/", "https://a..b/", "https://.a/", "https://./",
    "https://a%2eb/", "https://127.0.0.1%2f@a/", "https://%31%32%37.0.0.1/", "https://a|b/", "https://a,b/",
    "https://" + "a" * 64 + ".example/", "https://" + "a." * 128 + "example/", "https://a/" + "x" * 2048,
    "https://é" + "é" * 70 + "/", "https://a\u00adb/", "https://\udcff/",
    # Numbers that a resolver may take for 127.0.0.1.
    "http://2130706433/", "http://0x7f000001/", "http://0x7f.1/", "http://0x7f.0.0.0x1/", "http://0177.0.0.1/",
    "http://017700000001/", "http://127.1/", "http://127.0.1/", "http://127.0.0.01/", "http://127.0.0.1./",
    "http://1.2.3.4.5/", "http://0/", "http://0x/", "http://256.0.0.1/", "http://a.1/", "http://4294967295/",
    "http://１２７.1/", "http://0X7F.1/", "http://00000000177.0.0.1/", "http://127.0.0.1.2130706433/",
])  # fmt: skip
def test_what_is_no_url_to_send_requests_to_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(OutgoingRefused) as caught:
        parse_target_url(text)
    assert "secret" not in str(caught.value)


@given(st.text(max_size=30) | st.from_regex(r"\Ahttps?://[a-z0-9.:@\[\]%/\\#?]{0,20}\Z"))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        url = parse_target_url(text)
    except OutgoingRefused:
        return
    assert url.scheme in ("http", "https")
    assert url.raw_host
    assert url.user is None
    assert not url.raw_fragment
