"""The time, as a port: whoever waits or measures is given a `Clock`, and tests give a `FakeClock`."""

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """A call that was ordered for later."""

    def cancel(self) -> None:
        """Calls it off. Idempotent; nothing happens when it has run already."""


class Clock(Protocol):
    """What the time is, and a call when it has passed."""

    def time(self) -> float:
        """Seconds since the epoch."""

    def monotonic(self) -> float:
        """Seconds since some moment; never goes back."""

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        """Calls `callback` in `delay` seconds, in the running event loop."""


class SystemClock:
    """The clock of this machine."""

    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        return asyncio.get_running_loop().call_later(delay, callback)


class FakeClock:
    """A clock that stands still until `advance`: the fake that ships with the port."""

    def __init__(self, start: float = 1_000_000_000) -> None:
        self._now = start
        self._start = start
        self._order = itertools.count()
        self._timers: list[tuple[float, int, _FakeTimer]] = []

    def time(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._now - self._start

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        timer = _FakeTimer(callback)
        heapq.heappush(self._timers, (self._now + delay, next(self._order), timer))
        return timer

    @property
    def next_timer(self) -> float | None:
        """When the earliest timer is due, in seconds since the epoch; None without timers."""
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def advance(self, seconds: float) -> None:
        """Lets time pass; timers that fall due are called in their order, each at its own time."""
        end = self._now + seconds
        while (due := self.next_timer) is not None and due <= end:
            _, _, timer = heapq.heappop(self._timers)
            self._now = max(self._now, due)
            timer.run()
        self._now = end


class _FakeTimer:
    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None

    def run(self) -> None:
        callback, self.callback = self.callback, None
        if callback is not None:
            callback()
