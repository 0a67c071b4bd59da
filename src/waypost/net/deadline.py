"""A deadline that is set for every read and hardly ever passes."""

import asyncio
from collections.abc import Callable


class Deadline:
    """Calls `expired` when the time that was set has passed.

    The timer is left running when the deadline is lifted or moves later, and looks again when it fires: most
    reads end long before, and a timer set and cancelled for each of them costs more than the read.
    """

    __slots__ = ("_expired", "_loop", "_timer", "at")

    def __init__(self, loop: asyncio.AbstractEventLoop, expired: Callable[[], None]) -> None:
        self._loop = loop
        self._expired = expired
        self._timer: asyncio.TimerHandle | None = None
        self.at: float | None = None
        """When it passes, by the loop's clock; None lifts it."""

    def set(self, timeout: float) -> None:
        """Puts it `timeout` seconds from now."""
        self.at = at = self._loop.time() + timeout
        timer = self._timer
        if timer is None:
            self._timer = self._loop.call_at(at, self._look)
        elif timer.when() > at:
            timer.cancel()
            self._timer = self._loop.call_at(at, self._look)

    def stop(self) -> None:
        """Ends it for good."""
        self.at = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        if self.at is None:
            return
        if self._loop.time() < self.at - 0.002:  # a timer may be a millisecond early
            self._timer = self._loop.call_at(self.at, self._look)
        else:
            self._expired()
