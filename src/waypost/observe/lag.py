"""How late the event loop is: the one number that shows that something blocks it, or that the machine is full."""

import asyncio
from collections import deque
from collections.abc import Callable

_PERIOD = 1.0  # seconds between measurements
_WINDOW = 15  # measurements of which the worst counts: a usual scrape interval


class LoopLag:
    """Measures from `start` to `stop`, and tells the worst recent lateness in seconds to `report`."""

    def __init__(self, report: Callable[[float], None], *, period: float = _PERIOD) -> None:
        self._report = report
        self._period = period
        self._recent: deque[float] = deque(maxlen=_WINDOW)
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begins to measure the running loop."""
        loop = asyncio.get_running_loop()
        due = loop.time() + self._period
        self._timer = loop.call_at(due, self._measure, loop, due)

    def stop(self) -> None:
        """Ends it."""
        if self._timer is not None:
            self._timer.cancel()

    def _measure(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        # A loop's clock may be a millisecond coarse and fire early by as much.
        self._recent.append(max(0.0, loop.time() - due))
        self._report(max(self._recent))
        self.start()
