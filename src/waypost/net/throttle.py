"""How fast somebody may guess passwords: pure arithmetic over failures, with `now` as an argument.

Failures are counted for each client address (an IPv6 network of 64 bits is one) and for each account. Beyond a few,
each further attempt waits, twice as long as the one before, and attempts that come at the same time wait one behind
the other. Whoever would have to wait too long is turned away at once.

An address from which an account has logged in before is on its own: with this account it is held back by its own
failures only. So strangers who guess at an account, or neighbours behind the same address, shut nobody out.
"""

import ipaddress
from collections import OrderedDict
from dataclasses import dataclass

from waypost.net.settings import LoginLimits

_FIRST_DELAY = 0.5  # seconds
_PATIENCE = 2  # of the longest delays: who would wait longer is turned away
_MAX_TRACKED = 50_000
_MAX_FAMILIAR = 50_000
_FAMILIAR_FOR = 30 * 86400.0
_MAX_NAME = 256

_Key = tuple[str, ...]


@dataclass(slots=True)
class _Failures:
    count: int = 0
    last: float = 0.0
    free_at: float = 0.0
    """When those who wait already will have had their turn."""


class Throttle:
    """The failures that are remembered. Memory is bounded: the longest unused go first."""

    def __init__(self, limits: LoginLimits) -> None:
        self._limits = limits
        self._failures: OrderedDict[_Key, _Failures] = OrderedDict()
        self._familiar: OrderedDict[_Key, float] = OrderedDict()

    def __repr__(self) -> str:
        return f"Throttle({len(self._failures)} with failures, {len(self._familiar)} familiar)"

    def delay(self, address: str, account: str, now: float) -> float | None:
        """Seconds that an attempt has to wait; None when it is too many to wait at all."""
        waits = [(failures, self._wait(failures, now)) for failures in self._about(address, account, now)]
        longest = max((wait for _, wait in waits), default=0.0)
        if longest > _PATIENCE * self._limits.longest_delay:
            return None
        for failures, wait in waits:
            if wait:
                failures.free_at = now + wait
        return longest

    def failures(self, address: str, account: str, now: float) -> int:
        """How many failures an attempt has before it."""
        return sum(failures.count for failures in self._about(address, account, now))

    def failed(self, address: str, account: str, now: float) -> None:
        """An attempt has failed."""
        for key in self._keys(address, account, now):
            failures = self._current(key, now) or _Failures()
            failures.count += 1
            failures.last = now
            self._failures[key] = failures
            self._failures.move_to_end(key)
            if len(self._failures) > _MAX_TRACKED:
                self._failures.popitem(last=False)

    def succeeded(self, address: str, account: str, now: float) -> None:
        """An attempt was right: this address is familiar with this account.

        What the address failed at with other accounts stays: who has one account must not guess at another for it.
        """
        pair = _pair(address, account)
        self._failures.pop(pair, None)
        self._failures.pop(_name(account), None)
        self._familiar[pair] = now + _FAMILIAR_FOR
        self._familiar.move_to_end(pair)
        if len(self._familiar) > _MAX_FAMILIAR:
            self._familiar.popitem(last=False)

    def _keys(self, address: str, account: str, now: float) -> tuple[_Key, ...]:
        pair = _pair(address, account)
        if self._familiar.get(pair, 0.0) > now:
            return (pair,)
        return (("address", network_of(address)), _name(account))

    def _about(self, address: str, account: str, now: float) -> list[_Failures]:
        found = (self._current(key, now) for key in self._keys(address, account, now))
        return [failures for failures in found if failures is not None]

    def _current(self, key: _Key, now: float) -> _Failures | None:
        failures = self._failures.get(key)
        if failures is not None and now - failures.last > self._limits.forget:
            del self._failures[key]
            return None
        return failures

    def _wait(self, failures: _Failures, now: float) -> float:
        beyond = failures.count - self._limits.failures
        if beyond < 0:
            return 0.0
        step: float = min(self._limits.longest_delay, _FIRST_DELAY * 2 ** min(beyond, 30))
        return max(0.0, failures.free_at - now) + step


def network_of(address: str) -> str:
    """What counts as one client: an IPv4 address, or the 64 bits that one IPv6 client has to itself."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(parsed) >> 64 << 64, 64)))


def _pair(address: str, account: str) -> _Key:
    return ("pair", network_of(address), account[:_MAX_NAME])


def _name(account: str) -> _Key:
    return ("account", account[:_MAX_NAME])
