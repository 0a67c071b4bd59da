"""A coroutine that a driver runs goes on from whatever it awaits, ends once, and can be cancelled anywhere."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from waypost.net.driver import Driver, current, suspend


class Run:
    """One driven coroutine and how often, and with what, it ended."""

    def __init__(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self.ends: list[BaseException | None] = []
        self.over = asyncio.Event()
        self.driver = Driver(coroutine, self._ended)
        self.driver.resume()

    def _ended(self, driver: Driver, error: BaseException | None) -> None:
        assert driver is self.driver
        self.ends.append(error)
        self.over.set()


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def later() -> None:
    await asyncio.get_running_loop().run_in_executor(None, int)


WAITS: dict[str, Callable[[], Awaitable[object]]] = {
    "suspend": suspend,
    "a turn of the loop": lambda: asyncio.sleep(0),
    "time": lambda: asyncio.sleep(0.001),
    "a thread": later,
    "a task": lambda: asyncio.create_task(later()),
}


@pytest.mark.parametrize("wait", WAITS)
async def test_it_goes_on_from_what_it_awaits_and_ends_once(wait: str) -> None:
    seen: list[object] = []

    async def coroutine() -> None:
        seen.append(current())
        await WAITS[wait]()
        seen.append(current())

    run = Run(coroutine())
    assert current() is None
    if wait == "suspend":
        assert run.ends == []
        run.driver.resume()
    await asyncio.wait_for(run.over.wait(), 5)
    await turns(3)
    assert run.ends == [None]
    assert seen == [run.driver, run.driver]


@pytest.mark.parametrize("wait", WAITS)
async def test_it_can_be_cancelled_wherever_it_waits(wait: str) -> None:
    cleaned = []

    async def coroutine() -> None:
        try:
            await WAITS[wait]()
        finally:
            cleaned.append(wait)

    run = Run(coroutine())
    run.driver.cancel()
    await asyncio.sleep(0.01)  # whatever it waited for comes now, and must find nobody
    assert cleaned == [wait]
    assert [type(end) for end in run.ends] == [asyncio.CancelledError]


async def test_what_it_waited_for_before_a_cancellation_does_not_resume_what_it_waits_for_after() -> None:
    steps: list[str] = []

    async def coroutine() -> None:
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            await suspend()
            steps.append("resumed")

    run = Run(coroutine())
    run.driver.cancel()
    await turns(5)
    assert steps == []
    run.driver.resume()
    assert steps == ["resumed"]
    assert run.ends == [None]


async def test_its_failure_is_told() -> None:
    async def coroutine() -> None:
        raise LookupError("gone")

    run = Run(coroutine())
    assert [str(end) for end in run.ends] == ["gone"]


async def test_one_may_resume_another() -> None:
    order: list[str] = []

    async def sleeper() -> None:
        await suspend()
        order.append("sleeper")
        assert current() is asleep.driver

    asleep = Run(sleeper())

    async def waker() -> None:
        asleep.driver.resume()
        order.append("waker")
        assert current() is not asleep.driver

    awake = Run(waker())
    assert order == ["sleeper", "waker"]
    assert asleep.ends == awake.ends == [None]


async def test_each_thread_has_its_own() -> None:
    """A test server beside Waypost, each with a loop in a thread, must not take the other's driver for its own."""
    seen: list[Driver | None] = []

    async def look() -> None:
        other = threading.Thread(target=lambda: seen.append(current()))
        other.start()
        other.join()
        seen.append(current())

    run = Run(look())
    assert seen == [None, run.driver]
