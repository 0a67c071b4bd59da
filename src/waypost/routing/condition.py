"""What rules ask of a message, as values. `waypost.routing.clauses` compiles them, `reasons` explains them."""

import hashlib
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Literal

from waypost.routing.hours import Hours

Network = IPv4Network | IPv6Network
ShareBy = Literal["recipient", "sender", "account", "client", "message"]


@dataclass(frozen=True, slots=True)
class SizeRange:
    """Content of more octets than `over` and fewer than `under`; None is no bound."""

    over: int | None = None
    under: int | None = None

    def holds(self, size: int) -> bool:
        """Whether content of `size` octets is within."""
        return (self.over is None or size > self.over) and (self.under is None or size < self.under)

    def __str__(self) -> str:
        bounds = (("over", self.over), ("under", self.under))
        return " and ".join(f"{word} {bound}" for word, bound in bounds if bound is not None)


@dataclass(frozen=True, slots=True)
class FieldPatterns:
    """A header field by its name in lower case, and globs of which one must match one of its values."""

    name: str
    patterns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TrafficShare:
    """A share of the traffic, from 0 to 100 percent, always the same for the same key.

    Shares of different `salt` are independent of each other. A larger share has all keys that the smaller one had.
    """

    percent: float
    by: ShareBy
    salt: str

    def takes(self, key: str) -> bool:
        """Whether `key`, one value of what it goes by, is in it."""
        text = f"{self.salt}\0{key}".encode("utf-8", "surrogateescape")
        number = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")
        return number * 100 < self.percent * 2**64

    def __str__(self) -> str:
        return f"{self.percent:g}% by {self.by}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """All that is given must match; what is empty lets everything through. Within one of them, one item is enough."""

    listeners: frozenset[str] = frozenset()
    accounts: tuple[str, ...] = ()  # globs
    client_networks: tuple[Network, ...] = ()
    helos: tuple[str, ...] = ()  # globs
    reverse_paths: tuple[str, ...] = ()  # globs over addresses; "<>" is the null path
    reverse_path_files: tuple[str, ...] = ()  # names of lists
    recipients: tuple[str, ...] = ()  # globs over addresses
    recipient_files: tuple[str, ...] = ()  # names of lists
    hours: tuple[Hours, ...] = ()
    share: TrafficShare | None = None
    size: SizeRange | None = None
    fields: tuple[FieldPatterns, ...] = ()  # every one of them
    all_of: tuple["Condition", ...] = ()
    any_of: tuple["Condition", ...] = ()
    unless: "Condition | None" = None
