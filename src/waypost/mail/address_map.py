"""Which address takes the place of which: the first pattern that matches decides.

    *                    every address
    *@example.com        every address in the domain; `example.com` and `@example.com` are the same
    *@*.example.com      every address in a domain below it; `*.example.com` is the same
    bob@example.com      one address

Upper and lower case are the same, and a dot at the end of a domain does not count. The new address may be
`*@example.com`: then the local part stays as it is, and only the domain is another.
"""

from dataclasses import dataclass

from waypost.smtp.address import Address

SAME = "*"
"""The local part of a new address that stands for the old one's."""


@dataclass(frozen=True, slots=True)
class AddressMap:
    """Pairs of a pattern, in small letters, and the new address. Empty: every address stays."""

    pairs: tuple[tuple[str, Address], ...] = ()

    @property
    def fixed(self) -> Address | None:
        """The one address that every other becomes; None when it depends."""
        pattern, new = self.pairs[0] if self.pairs else ("", None)
        return new if pattern == "*" and new is not None and new.local != SAME else None

    def of(self, old: Address) -> Address:
        """What takes the place of `old`; `old` itself when nothing does. The null path stays null."""
        if old.is_null:
            return old
        for pattern, wanted in self.pairs:
            if matches(pattern, old):
                new = Address(old.local, wanted.domain) if wanted.local == SAME else wanted
                return old if new == old else new
        return old


NO_CHANGE = AddressMap()
"""Every address stays."""


def matches(pattern: str, address: Address) -> bool:
    """Whether one pattern matches; the null path is matched by none."""
    if pattern == "*":
        return not address.is_null
    local, _, domain = pattern.rpartition("@")
    ours = address.domain.lower().removesuffix(".")
    domain = domain.removesuffix(".")
    fits = ours.endswith(domain[1:]) if domain.startswith("*.") else ours == domain
    return fits and local in ("", SAME, address.local.lower())


def agree(one: str, other: str) -> bool:
    """Whether two domains are the same or one is below the other: what DMARC calls aligned, in relaxed mode.

    RFC 7489 section 3.1 compares what both have registered, which only a public list knows: two domains side by
    side below a third count as different here.
    """
    one, other = (domain.lower().removesuffix(".") for domain in (one, other))
    return one == other or one.endswith(f".{other}") or other.endswith(f".{one}")
