"""The parts of a lane that only count and wait: rates, trials, the alarm."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.clock import FakeClock
from waypost.delivery.alarm import LONGEST, Alarm
from waypost.delivery.pace import Pace
from waypost.delivery.trials import LONGEST_PAUSE, Trials
from waypost.routing.route import Upstream


def upstream(rate: float | None) -> Upstream:
    return Upstream("any", "localhost", 25, rate=rate)


@given(st.floats(0.01, 500), st.lists(st.floats(0, 3), max_size=60))
def test_a_rate_is_never_exceeded_and_never_starves(rate: float, pauses: list[float]) -> None:
    clock = FakeClock()
    pace, limited = Pace(clock), upstream(rate)
    sent = 0
    for pause in pauses:
        clock.advance(pause)
        while not pace.wait(limited):
            pace.take(limited)
            sent += 1
        assert sent <= max(1, rate) + clock.monotonic() * rate + 0.01
        before = pace.wait(limited)
        clock.advance(before)
        assert pace.wait(limited) == 0, "after the wait that was told there is a turn"


def test_without_a_rate_there_is_no_wait() -> None:
    pace = Pace(FakeClock())
    for _ in range(100):
        pace.take(upstream(None))
    assert pace.wait(upstream(None)) == 0


def test_a_debt_is_paid_by_a_longer_wait() -> None:
    clock = FakeClock()
    pace, limited = Pace(clock), upstream(1)
    pace.take(limited)
    pace.take(limited)
    assert pace.wait(limited) == pytest.approx(2)


def test_a_rate_that_is_changed_holds_at_once() -> None:
    clock = FakeClock()
    pace = Pace(clock)
    for _ in range(10):
        pace.take(upstream(10))
    assert pace.wait(upstream(10)) == pytest.approx(0.1)
    assert pace.wait(upstream(0.5)) == pytest.approx(2)


def test_trials_pause_longer_each_time_and_then_ramp_up() -> None:
    trials = Trials()
    assert (bool(trials), trials.allowed(20)) == (False, 20)
    now, pauses = 0.0, []
    for _ in range(9):
        pause = trials.failed(now)
        assert pause is not None
        assert trials.failed(now) is None, "another one that ran at the same time"
        pauses.append(pause)
        now += pause
    assert pauses == [1, 2, 4, 8, 16, 32, LONGEST_PAUSE, LONGEST_PAUSE, LONGEST_PAUSE]
    assert (trials.failing, trials.allowed(20)) == (True, 1)
    allowed = []
    while trials:
        trials.succeeded(20)
        allowed.append(trials.allowed(20))
    assert allowed == [2, 4, 8, 16, 20]
    assert not trials.failing
    assert trials.failed(now) == 1, "from the start again"


def test_an_alarm_keeps_to_the_earliest_time() -> None:
    clock = FakeClock()
    rung: list[float] = []
    alarm = Alarm(clock, lambda: rung.append(clock.monotonic()))
    alarm.set(10)
    alarm.set(20)
    alarm.set(5)
    clock.advance(100)
    assert rung == [5]
    alarm.set(10 * LONGEST)
    clock.advance(LONGEST)
    assert rung == [5, 100 + LONGEST], "the wall clock may have been set"
    alarm.set(1)
    alarm.stop()
    alarm.set(1)
    clock.advance(10)
    assert len(rung) == 2
    assert clock.next_timer is None
