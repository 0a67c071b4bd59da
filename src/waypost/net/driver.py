"""Runs a coroutine that is resumed by its sockets, directly.

An asyncio task that waits for data is resumed by way of a future and the loop's queue: the octets arrive in one
turn of the loop and are read in the next. A session waits a dozen times for each message, and that way was a
fifth of its cost. A `Driver` runs a session's coroutine like a task does, except that a `Stream` which has
received something continues the coroutine there and then.

Everything else that can be awaited works as in a task, apart from what asks for the current task:
`asyncio.timeout` must be awaited inside a task of its own.

Which driver is running is known for each thread, so that two loops in two threads, as in tests, do not meet.
"""

import asyncio
import threading
import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any

_SUSPENDED = object()


class _Thread(threading.local):
    """What runs in this thread: a sink in another one has a loop and drivers of its own."""

    driver: "Driver | None" = None


_here = _Thread()


def current() -> "Driver | None":
    """The driver whose coroutine is running, or None in a task."""
    return _here.driver


@types.coroutine
def suspend() -> Generator[object, None, None]:
    """Waits until somebody calls `resume` on the driver that is running now."""
    yield _SUSPENDED


class Driver:
    """One coroutine on its way. `ended` is called once, with the exception that ended it or None."""

    __slots__ = ("_awaited", "_coroutine", "_ended", "_loop")

    def __init__(
        self, coroutine: Coroutine[Any, Any, None], ended: "Callable[[Driver, BaseException | None], None]"
    ) -> None:
        self._coroutine = coroutine
        self._ended = ended
        self._awaited: object = None
        self._loop = asyncio.get_running_loop()

    def resume(self, error: BaseException | None = None) -> None:
        """Goes on with the coroutine until it waits for the next thing, or raises `error` in it."""
        here = _here
        outer, here.driver = here.driver, self
        self._awaited = None
        try:
            awaited = self._coroutine.send(None) if error is None else self._coroutine.throw(error)
        except StopIteration:
            here.driver = outer
            self._ended(self, None)
            return
        except BaseException as failure:  # a cancellation too: whoever started the coroutine is told
            here.driver = outer
            self._ended(self, failure)
            return
        here.driver = outer
        if awaited is _SUSPENDED:
            return
        if awaited is None:  # asyncio.sleep(0)
            self._awaited = turn = object()
            self._loop.call_soon(self._resume_from, turn)
        else:
            self._awaited = awaited
            awaited.add_done_callback(self._resume_from)

    def cancel(self) -> None:
        """Raises `asyncio.CancelledError` where the coroutine waits."""
        self.resume(asyncio.CancelledError())

    def _resume_from(self, awaited: object) -> None:
        # After a cancellation the coroutine waits for something else, or has ended.
        if awaited is self._awaited:
            self.resume()
