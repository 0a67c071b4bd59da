"""How fast an upstream is given mail from the spool: a token bucket for each that has a rate.

A bucket holds what may be sent within one second, at least one message. It can be overdrawn by what must go on now,
a second transaction of the same delivery; then the next one waits for longer.
"""

from waypost.clock import Clock
from waypost.routing.route import Upstream

_NEARLY = 1e-3  # of a message: neither clocks nor timers are exact, and what was waited for must be there


class Pace:
    """The buckets of all upstreams, by name."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}  # messages, and when that was so

    def wait(self, upstream: Upstream) -> float:
        """Seconds until the upstream may be given another message; 0 when it may be given one now."""
        rate = upstream.rate
        if rate is None:
            return 0.0
        lacking = 1 - self._level(upstream.name, rate)
        return lacking / rate if lacking > _NEARLY else 0.0

    def take(self, upstream: Upstream) -> None:
        """Counts one message that is given to it now."""
        rate = upstream.rate
        if rate is not None:
            self._buckets[upstream.name] = (self._level(upstream.name, rate) - 1, self._clock.monotonic())

    def _level(self, name: str, rate: float) -> float:
        full = max(1.0, rate)
        known = self._buckets.get(name)
        if known is None:
            return full
        level, since = known
        return min(full, level + (self._clock.monotonic() - since) * rate)
