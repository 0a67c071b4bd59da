"""For whom an upstream sends: providers refuse reverse-paths and authors that are not verified or not owned there."""

from functools import lru_cache

from waypost.routing.patterns import AddressPatterns
from waypost.routing.route import Upstream
from waypost.smtp.address import Address


def sends_for(upstream: Upstream, reverse_path: Address) -> bool:
    """Whether mail with this reverse-path may go there. The null one is nobody's identity, and may.

    Where the upstream rewrites it, what counts is the reverse-path that it will be told.
    """
    if not upstream.senders or reverse_path.is_null:
        return True
    if upstream.rewrite is not None:
        reverse_path = upstream.rewrite.reverse_path(reverse_path)
    return _patterns(upstream.senders).mask(reverse_path) != 0


def writes_for(upstream: Upstream, domain: str) -> bool:
    """Whether mail whose author, in the From field, has an address in this domain may go there.

    A reverse-path is often made for one message, or for reports alone; so of an author the domain decides.
    """
    return not upstream.senders or _domains(upstream.senders).mask(Address("*", domain)) != 0


@lru_cache(maxsize=256)
def _patterns(senders: tuple[str, ...]) -> AddressPatterns:
    return AddressPatterns([senders])


@lru_cache(maxsize=256)
def _domains(senders: tuple[str, ...]) -> AddressPatterns:
    """The patterns, with any local part."""
    return AddressPatterns([["*" if each == "*" else f"*@{each.rpartition('@')[2]}" for each in senders]])
