"""How much a lane may do at once when its upstreams could not be spoken to.

One trial after growing pauses; and when one has got through, two deliveries at a time, four, and so on, so that what
has come back is not flooded.
"""

LONGEST_PAUSE = 60
"""Seconds between two trials; the first pause is one second."""


class Trials:
    """The trials of one lane. `now` is in seconds, on a clock that only goes forward."""

    __slots__ = ("_allowed", "_failures", "_until")

    def __init__(self) -> None:
        self._failures = 0  # in a row
        self._until = 0.0  # of the pause
        self._allowed = 0  # 0: without a limit

    def __repr__(self) -> str:
        return f"<Trials: {self._failures} failed, {self._allowed or 'all'} allowed>"

    def __bool__(self) -> bool:
        """Whether there is anything but the limit of the upstreams themselves."""
        return self._allowed > 0

    @property
    def failing(self) -> bool:
        """Whether nobody was reached at the last trial."""
        return self._failures > 0

    def allowed(self, limit: int) -> int:
        """How many of `limit` may run now."""
        return min(limit, self._allowed) if self._allowed else limit

    def failed(self, now: float) -> float | None:
        """Nobody was reached; the pause until the next trial. None when that was known: several ran at once."""
        self._allowed = 1
        if now < self._until:
            return None
        pause = min(2.0 ** min(self._failures, 10), LONGEST_PAUSE)
        self._failures += 1
        self._until = now + pause
        return pause

    def hasten(self) -> None:
        """The pause is over, for somebody knows better; if that trial fails as well, the next pause is longer."""
        self._until = 0.0

    def succeeded(self, limit: int) -> None:
        """Somebody was reached: twice as many may run now, until `limit` may."""
        self._failures = 0
        self._allowed *= 2
        if self._allowed >= limit:
            self._allowed = 0
