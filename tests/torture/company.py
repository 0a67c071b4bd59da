"""Those who play scenarios side by side: threads, each with a nursery of programs of its own."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Self

from torture.run import Result, run
from torture.scenario import Scenario
from torture.stage import Nursery

PARALLEL = 6
"""Scenarios at once: most of the time they wait."""


class Company:
    """Plays scenarios side by side. To be used with `with`."""

    def __init__(self, parallel: int = PARALLEL) -> None:
        self.parallel = parallel
        self._threads = ThreadPoolExecutor(parallel)
        self._own = threading.local()
        self._nurseries: list[Nursery] = []
        self._lock = threading.Lock()

    def play(self, scenario: Scenario, *, keep: bool = False) -> Result:
        """Plays one, in this thread."""
        if not hasattr(self._own, "nursery"):
            self._own.nursery = Nursery()
            with self._lock:
                self._nurseries.append(self._own.nursery)
        return run(scenario, self._own.nursery, keep=keep)

    def play_all(self, scenarios: Iterator[Scenario], until: float = float("inf")) -> Iterator[Result]:
        """Plays them side by side until there are no more, or the monotonic clock says `until`."""
        running: set[Future[Result]] = set()
        while True:
            while len(running) < self.parallel and time.monotonic() < until:
                scenario = next(scenarios, None)
                if scenario is None:
                    break
                running.add(self._threads.submit(self.play, scenario))
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown(cancel_futures=True)
        for nursery in self._nurseries:
            nursery.close()
