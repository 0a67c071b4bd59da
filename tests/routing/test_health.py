import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.routing.health import Health, HealthPolicy, State


def opened(now=0.0, times=3):
    health = Health()
    for _ in range(times):
        health.failed(now, "connection refused")
    return health


def test_three_failures_in_a_row_open_it():
    health = opened(times=2)
    assert health.may_try(0)
    assert health.describe(0) == "healthy, though the last 2 attempts failed"
    health.succeeded(0)
    for _ in range(2):
        health.failed(0, "timeout")
    assert health.state(0) is State.CLOSED
    health.failed(0, "timeout")
    assert health.state(0) is State.OPEN
    assert not health.may_try(4.9)
    assert health.may_try(5)


def test_half_open_lets_one_trial_through():
    health = opened()
    assert health.state(5) is State.HALF_OPEN
    health.trial_started(5)
    assert not health.may_try(5)
    health.succeeded(6)
    assert health.state(6) is State.CLOSED
    assert health.may_try(6)


def test_failed_trials_double_the_interval_up_to_ten_minutes():
    health, now, intervals = opened(), 0.0, []
    for _ in range(10):
        intervals.append(health.back_at(now) - now)
        now = health.back_at(now)
        health.trial_started(now)
        health.failed(now, "timeout")
    assert intervals == [5, 10, 20, 40, 80, 160, 320, 600, 600, 600]
    health.succeeded(now)
    for _ in range(3):
        health.failed(now, "timeout")
    assert health.back_at(now) == now + 5


def test_twenty_connections_that_break_at_once_open_it_once():
    health = opened(now=100, times=20)
    assert health.back_at(100) == 105


def test_a_try_for_want_of_anything_better_does_not_lengthen_the_interval():
    health = opened()
    health.trial_started(1)
    health.failed(2, "timeout")
    assert health.back_at(2) == 5
    assert health.may_try(5)


def test_a_trial_that_nobody_reports_on_is_given_up():
    health = opened()
    health.trial_started(5)
    assert not health.may_try(904)
    assert health.may_try(905)
    health.trial_started(905)
    health.trial_abandoned()
    assert health.may_try(906)


def test_a_refused_login_sleeps_longer_each_time_up_to_an_hour():
    health, now, intervals = Health(), 0.0, []
    for _ in range(8):
        health.login_refused(now, "535 5.7.8 no")
        assert health.state(now) is State.ASLEEP
        intervals.append(health.back_at(now) - now)
        now = health.back_at(now)
        assert health.may_try(now)
        health.trial_started(now)
        assert not health.may_try(now)
    assert intervals == [60, 120, 240, 480, 960, 1920, 3600, 3600]
    health.succeeded(now)
    health.login_refused(now, "535 5.7.8 no")
    assert health.back_at(now) == now + 60


def test_logins_refused_side_by_side_count_once():
    health = Health()
    health.login_refused(0, "535")
    health.login_refused(1, "535")
    assert health.back_at(1) == 61


def test_a_spent_quota_sleeps_until_its_reset():
    health = Health()
    health.quota_spent(0, "550 5.4.5 daily limit")
    assert health.back_at(0) == 900
    health.quota_spent(0, "550 5.4.5 daily limit", until=7200)
    assert health.back_at(0) == 7200
    health.quota_spent(10, "rate")
    assert health.back_at(10) == 7200
    health.failed(20, "timeout")
    assert health.state(20) is State.ASLEEP


def test_a_success_that_began_before_the_sleep_does_not_end_it():
    health = Health()
    health.quota_spent(10, "daily limit")
    health.succeeded(11, began=9)
    assert not health.may_try(11)
    health.succeeded(12, began=11)
    assert health.may_try(12)


def test_it_explains_itself():
    health = Health()
    assert (health.describe(0), repr(health)) == ("healthy", "<Health closed, failures=0>")
    health = opened()
    assert health.describe(1) == "failing for 4 s after 3 failures: connection refused"
    assert repr(health) == "<Health open until 5, failures=3: 'connection refused'>"
    assert health.describe(5) == "the next message is its trial, after: connection refused"
    health.trial_started(5)
    assert health.describe(6) == "a trial is under way, after: connection refused"
    assert repr(health) == "<Health open until 5, failures=3, trial since 5: 'connection refused'>"
    health.quota_spent(6, "550 5.4.5 daily limit")
    assert health.describe(6) == "asleep for 15 min: 550 5.4.5 daily limit"
    health.quota_spent(6, "monthly", until=200_000)
    assert health.describe(6) == "asleep for 56 h: monthly"


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["failed", "succeeded", "login", "quota", "trial", "abandoned"]),
        st.floats(0, 1000, allow_nan=False),
    ),
    max_size=40,
)


@given(EVENTS)
def test_whatever_happens_it_can_be_tried_again_within_the_longest_interval(events):
    health, now = Health(), 0.0
    for event, pause in events:
        now += pause
        match event:
            case "failed":
                health.failed(now, "x")
            case "succeeded":
                health.succeeded(now)
                assert health.may_try(now)
            case "login":
                health.login_refused(now, "x")
            case "quota":
                health.quota_spent(now, "x")
            case "trial" if health.may_try(now):
                health.trial_started(now)
            case _:
                health.trial_abandoned()
        assert health.state(now) in State
        assert health.describe(now)
    assert health.may_try(now + HealthPolicy().max_login_interval)


@pytest.mark.parametrize("failures", [1, 5])
def test_the_policy_is_heeded(failures):
    health = Health(HealthPolicy(failures=failures, interval=1))
    for _ in range(failures):
        assert health.may_try(0)
        health.failed(0, "x")
    assert health.back_at(0) == 1
