"""For whom an upstream sends: providers refuse reverse-paths that are not verified or not owned there."""

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


@lru_cache(maxsize=256)
def _patterns(senders: tuple[str, ...]) -> AddressPatterns:
    return AddressPatterns([senders])
