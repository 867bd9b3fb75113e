"""Where a request that a user caused may not go: the addresses behind the firewall, in every form they can be written.

From IANA's registries of special-purpose IPv4 and IPv6 addresses (RFC 6890) and, for IPv6, everything outside of 2000::/3, all
that was ever given out. Python's `is_global` and `is_private` answer another question: 3.11 takes NAT64, 6to4, fec0::/10 and
multicast for global, and 100.64.0.0/10 for not private.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# The first network that has the address gives the reason.
_FORBIDDEN: tuple[tuple[Network, str], ...] = tuple(
    (ip_network(network), reason)
    for reason, networks in (
        ("unspecified", "0.0.0.0/8 ::/128"),
        ("loopback", "127.0.0.0/8 ::1/128"),
        ("private", "10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 fc00::/7 fec0::/10"),
        ("shared by a provider's customers", "100.64.0.0/10"),
        ("link-local", "169.254.0.0/16 fe80::/10"),
        ("a cloud's own", "168.63.129.16/32"),  # public by its number; Azure answers there to each of its machines
        ("multicast", "224.0.0.0/4 ff00::/8"),
        ("for tunnels", "192.88.99.0/24 2001::/32 2002::/16 64:ff9b:1::/48"),  # 6to4, Teredo, NAT64 of one network
        ("for documentation", "192.0.2.0/24 198.51.100.0/24 203.0.113.0/24 2001:db8::/32 3fff::/20"),
        ("for benchmarks", "198.18.0.0/15 2001:2::/48"),
        ("for protocols", "192.0.0.0/24 2001::/23 100::/64 5f00::/16"),
        ("reserved", "240.0.0.0/4 ::/3 4000::/2 8000::/1"),
    )
    for network in networks.split()
)

_MAPPED = IPv6Network("::ffff:0:0/96")  # the system itself turns it into IPv4
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052: a router turns it into IPv4
_ISATAP = (0x00005EFE, 0x02005EFE)  # RFC 5214: how the last 64 bits of a tunnel's end begin


def forbidden_reason(address: Address) -> str | None:
    """Why no request may go to the address, as an adjective; None where it may go.

    What carries an IPv4 address is judged by that one. Tunnels are forbidden whatever they carry.
    """
    return next((reason for part in _judged(address) for network, reason in _FORBIDDEN if part in network), None)


@dataclass(frozen=True, slots=True)
class Allowance:
    """Networks that an operator has opened in spite of all that."""

    networks: tuple[Network, ...] = ()

    def covers(self, address: Address) -> bool:
        """A translated or tunnelled address is not covered by the network it leads to, only by one of its own form."""
        return any(_unmapped(address) in network for network in self.networks)


def parse_allowance(networks: Iterable[str]) -> Allowance:
    """Read networks as settings have them: `10.0.0.0/8`, `fd00::/8`. Raises ValueError."""
    return Allowance(tuple(ip_network(network, strict=False) for network in networks))


def _judged(address: Address) -> tuple[Address, ...]:
    """All addresses that a packet to this one can end at."""
    address = _unmapped(address)
    if isinstance(address, IPv4Address):
        return (address,)
    if address in _NAT64:
        return (_last_32_bits(address),)
    if int(address) >> 32 & 0xFFFFFFFF in _ISATAP:
        return (address, _last_32_bits(address))
    return (address,)


def _unmapped(address: Address) -> Address:
    return _last_32_bits(address) if address in _MAPPED and isinstance(address, IPv6Address) else address


def _last_32_bits(address: IPv6Address) -> IPv4Address:
    return IPv4Address(int(address) & 0xFFFFFFFF)
