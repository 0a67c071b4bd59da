"""The clock that stands still behaves like the one that does not."""

import asyncio

import pytest

from waypost.clock import Clock, FakeClock, SystemClock


def test_time_passes_only_when_told_to() -> None:
    clock = FakeClock(1000)
    assert (clock.time(), clock.monotonic()) == (1000, 0)
    clock.advance(5)
    assert (clock.time(), clock.monotonic()) == (1005, 5)


def test_timers_run_in_order_each_at_its_time() -> None:
    clock = FakeClock(0)
    seen: list[tuple[str, float]] = []
    clock.call_later(3, lambda: seen.append(("b", clock.time())))
    clock.call_later(1, lambda: clock.call_later(1, lambda: seen.append(("a", clock.time()))))
    clock.call_later(3, lambda: seen.append(("c", clock.time())))
    clock.call_later(9, lambda: seen.append(("too late", clock.time())))
    clock.advance(5)
    assert seen == [("a", 2), ("b", 3), ("c", 3)]
    assert clock.next_timer == 9


@pytest.mark.parametrize("make", [FakeClock, SystemClock])
async def test_a_cancelled_timer_does_not_run(make: type[Clock]) -> None:
    clock = make()
    seen: list[str] = []
    clock.call_later(0, lambda: seen.append("cancelled")).cancel()
    done = asyncio.Event()
    clock.call_later(0.001, done.set)
    if isinstance(clock, FakeClock):
        clock.advance(1)
    async with asyncio.timeout(5):
        await done.wait()
    assert seen == []


def test_the_system_clock_goes_forward() -> None:
    clock = SystemClock()
    assert clock.time() > 1_700_000_000
    assert clock.monotonic() <= clock.monotonic()
