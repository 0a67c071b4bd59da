"""Whom a listener trusts: is it everybody, or more than anybody can know?"""

import ipaddress
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any

from waypost.routing.route import Network

_PUBLIC: dict[int, Network] = {
    4: ipaddress.IPv4Network("0.0.0.0/0"),
    6: ipaddress.IPv6Network("2000::/3"),  # all addresses that exist for everybody (RFC 4291 section 2.4)
}
_WIDE = {4: 8, 6: 16}
"""Fewer bits than this are more than one organisation has: registries hand out /8 and, of IPv6, /12 to continents."""
_HALF = Fraction(1, 2)


def everybody(networks: Sequence[Network]) -> str:
    """The networks, if any, that make up the internet: half of its addresses, for whoever names them means all."""
    for version in _PUBLIC:
        public = _public(networks, version)
        if sum(_share(network) for network in public) >= _HALF:
            return _shown([network for network in networks if any(_overlap(network, part) for part in public)])
    return ""


def wide(networks: Sequence[Network]) -> str:
    """The networks, if any, that are too wide to be one's own."""
    found = [
        network
        for version in _PUBLIC
        for network in _public(networks, version)
        if network.prefixlen < _WIDE[network.version]
    ]
    return _shown(found)


def _public(networks: Iterable[Network], version: int) -> list[Network]:
    """What the networks of one IP version have of the public addresses, each address once."""
    public = _PUBLIC[version]
    parts: list[Any] = [  # all of one version, which their type cannot say
        network if network.prefixlen >= public.prefixlen else public
        for network in networks
        if network.version == version and network.overlaps(public)
    ]
    return [*ipaddress.collapse_addresses(parts)]


def _share(network: Network) -> Fraction:
    return Fraction(network.num_addresses, _PUBLIC[network.version].num_addresses)


def _overlap(one: Network, other: Network) -> bool:
    return one.version == other.version and one.overlaps(other)


def _shown(networks: Sequence[Network]) -> str:
    shown = ", ".join(map(str, networks[:4]))
    return f"{shown} and {len(networks) - 4} more" if len(networks) > 4 else shown
