"""A timer that is set again and again, and keeps to the earliest time."""

from collections.abc import Callable

from waypost.clock import Clock, Timer

LONGEST = 300
"""Seconds: what is waited for may depend on the wall clock, which may be set while a timer is running."""


class Alarm:
    """Calls `ring` when the time has come; once for any number of settings."""

    __slots__ = ("_at", "_clock", "_off", "_ring", "_timer")

    def __init__(self, clock: Clock, ring: Callable[[], None]) -> None:
        self._clock = clock
        self._ring = ring
        self._timer: Timer | None = None
        self._at = 0.0  # on the monotonic clock
        self._off = False

    def set(self, seconds: float) -> None:
        """Rings in so many seconds (at most `LONGEST`), or earlier when that was set."""
        seconds = max(0.0, min(seconds, LONGEST))
        at = self._clock.monotonic() + seconds
        if self._off or (self._timer is not None and self._at <= at):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._at = at
        self._timer = self._clock.call_later(seconds, self._rung)

    def stop(self) -> None:
        """Never rings again."""
        self._off = True
        if self._timer is not None:
            self._timer.cancel()

    def _rung(self) -> None:
        self._timer = None
        self._ring()
