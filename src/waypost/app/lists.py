"""Keeps the lists that rules look into as their files are: a file that has changed is read again."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import structlog

from waypost.clock import Clock, Timer
from waypost.config.lists import read_list, stamp_of
from waypost.routing.address_list import AddressList
from waypost.routing.rules import Router

log = structlog.get_logger()

EVERY = 2.0
"""Seconds between two looks."""


class ListKeeper:
    """Looks at the files of a router's lists. One that cannot be read, or has mistakes in it, changes nothing."""

    def __init__(self, router: Router, clock: Clock) -> None:
        self._router = router
        self._clock = clock
        self._stamps = {name: found.stamp for name, found in router.lists.items()}
        self._timer: Timer | None = None
        self._looking: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, "lists")

    def start(self) -> None:
        """Begins to look, when there is anything to look at."""
        if self._stamps:
            self._timer = self._clock.call_later(EVERY, self._look)

    def stop(self) -> None:
        """Looks no more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._looking is not None:
            self._looking.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _look(self) -> None:
        self._looking = asyncio.get_running_loop().create_task(self._refresh())

    async def _refresh(self) -> None:
        loop = asyncio.get_running_loop()
        for name, known in self._stamps.items():
            # A folder on another machine may hang, and a long list takes its time: not in the loop.
            stamp, found, reason = await loop.run_in_executor(self._thread, _news, name, known)
            if stamp == known:
                continue
            self._stamps[name] = stamp
            if found is None:
                log.error("list_not_read", file=name, reason=reason, advice="the old one stays in use")
            else:
                self._router.replace_list(name, found)
                log.info("list_read", file=name, entries=found.count)
        self._timer = self._clock.call_later(EVERY, self._look)


def _news(path: str, known: tuple[int, ...]) -> tuple[tuple[int, ...], AddressList | None, str]:
    """The stamp of a file; when that is not the known one, the list in it, or why there is none."""
    stamp: tuple[int, ...] = (0,)  # of a file that is not there
    try:
        stamp = stamp_of(path)
        if stamp == known:
            return stamp, None, ""
        found = read_list(path)
    except (OSError, ValueError) as error:
        return stamp, None, str(error)
    return found.stamp, found, ""
