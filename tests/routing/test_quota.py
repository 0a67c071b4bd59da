"""The arithmetic of quotas, as properties: never over, nothing forgotten too early, across midnight and summer time."""

from datetime import date, datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from waypost.routing.quota import PERIODS, SECONDS, Growth, Quota, Tally, calendar_window, lease, read_tally

BERLIN = ZoneInfo("Europe/Berlin")
ZONES = [
    ZoneInfo(name)
    for name in ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "America/Havana", "Asia/Beirut")
]
TIMES = st.floats(1_600_000_000, 2_000_000_000)
QUOTAS = st.builds(
    Quota,
    limit=st.integers(1, 40),
    per=st.sampled_from(PERIODS),
    window=st.sampled_from(["rolling", "calendar"]),
    zone=st.sampled_from(ZONES),
)


def at(text, zone=BERLIN):
    return datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()


@given(st.sampled_from(PERIODS), st.sampled_from(ZONES), TIMES)
def test_every_moment_is_in_its_window_and_windows_follow_each_other(per, zone, now):
    start, end = calendar_window(per, zone, now)
    assert start <= now < end
    assert calendar_window(per, zone, start) == (start, end)
    if per not in ("second", "minute", "hour"):
        assert calendar_window(per, zone, end)[0] == end
        assert calendar_window(per, zone, start - 1)[1] == start


@pytest.mark.parametrize(
    ("per", "now", "start", "end", "hours"),
    [
        ("day", "2026-03-29T12:00", "2026-03-29T00:00", "2026-03-30T00:00", 23),
        ("day", "2026-10-25T12:00", "2026-10-25T00:00", "2026-10-26T00:00", 25),
        ("day", "2026-10-24T23:59:59", "2026-10-24T00:00", "2026-10-25T00:00", 24),
        ("week", "2026-03-29T23:00", "2026-03-23T00:00", "2026-03-30T00:00", 7 * 24 - 1),
        ("month", "2026-02-28T23:59", "2026-02-01T00:00", "2026-03-01T00:00", 28 * 24),
        ("month", "2028-02-29T12:00", "2028-02-01T00:00", "2028-03-01T00:00", 29 * 24),
        ("month", "2026-12-31T23:59:59", "2026-12-01T00:00", "2027-01-01T00:00", 31 * 24),
        ("month", "2026-10-01T00:00", "2026-10-01T00:00", "2026-11-01T00:00", 31 * 24 + 1),
        ("hour", "2026-07-01T12:34", "2026-07-01T12:00", "2026-07-01T13:00", 1),
    ],
)
def test_windows_follow_the_calendar_of_their_zone(per, now, start, end, hours):
    assert calendar_window(per, BERLIN, at(now)) == (at(start), at(end))
    assert at(end) - at(start) == hours * 3600


def test_the_hour_that_comes_twice_is_two_windows():
    first = at("2026-10-25T02:30")
    assert calendar_window("hour", BERLIN, first)[1] == first + 1800
    assert calendar_window("hour", BERLIN, first + 3600)[0] == first + 1800


@given(QUOTAS, TIMES, st.lists(st.tuples(st.floats(0, 1.1), st.integers(1, 6)), max_size=60))
def test_never_over(quota, now, steps):
    """In no window of a calendar quota, and in no span of a rolling one, more is leased than the limit."""
    tally, sent = Tally(), []
    for pause, amount in steps:
        now += pause * SECONDS[quota.per]
        tally, leased = lease(tally, quota, now, amount)
        assert leased.granted == 0 or leased.granted >= amount
        # It may be sent until the very end of its slot, which is the worst that can be done with it.
        sent.append((now if quota.window == "calendar" else now + leased.valid * 0.999, leased.granted))
        assert tally.used(now) <= quota.limit
        assert leased.start <= now < leased.start + leased.valid + SECONDS[quota.per]
    for begin, _ in sent:
        if quota.window == "calendar":
            start, end = calendar_window(quota.per, quota.zone, begin)
        else:
            start, end = begin, begin + SECONDS[quota.per]
        assert sum(amount for moment, amount in sent if start <= moment < end) <= quota.limit


@given(QUOTAS, TIMES, st.integers(1, 40))
def test_what_is_spent_comes_back_by_itself_when_it_was_said_to(quota, now, amount):
    assume(amount <= quota.limit)
    tally, granted = Tally(), 1
    while granted:
        tally, leased = lease(tally, quota, now, 1)
        granted = leased.granted
    assert tally.used(now) == quota.limit
    _, leased = lease(tally, quota, now, amount)
    assert (leased.granted, leased.back_in > 0) == (0, True)
    assume(leased.back_in > 1e-4)  # shares of less are lost in the rounding of such large numbers
    assert lease(tally, quota, now + leased.back_in * 0.99, amount)[1].granted == 0
    assert lease(tally, quota, now + leased.back_in + 0.001, amount)[1].granted >= amount


@given(QUOTAS, TIMES, st.lists(st.integers(1, 5), max_size=8))
def test_what_is_returned_is_there_again_and_what_is_owed_counts(quota, now, amounts):
    tally, returns = Tally(), {}
    for amount in amounts:
        tally, leased = lease(tally, quota, now, amount)
        returns[leased.start] = returns.get(leased.start, 0) + leased.granted
    tally, _ = lease(tally, quota, now, 0, returns)
    assert tally.used(now) == 0
    tally, leased = lease(tally, quota, now, 1, debt=quota.limit + 1)
    assert (leased.granted, tally.used(now)) == (0, quota.limit + 1)


def test_spent_at_the_last_second_of_a_day_is_back_at_midnight():
    quota = Quota(2, "day", window="calendar", zone=BERLIN)
    evening = at("2026-10-24T23:59:59")
    tally, _ = lease(Tally(), quota, evening, 2)
    assert lease(tally, quota, evening, 1)[1].back_in == 1
    tally, leased = lease(tally, quota, at("2026-10-25T00:00"), 2)
    assert leased.granted == 2
    # The day has 25 hours.
    assert lease(tally, quota, at("2026-10-25T00:00") + 24 * 3600, 1)[1].granted == 0


def test_a_rolling_day_gives_back_what_was_sent_a_day_ago_and_not_before():
    quota, now = Quota(10, "day"), 1_700_000_000.0
    tally, _ = lease(Tally(), quota, now, 10)
    assert lease(tally, quota, now + 86400, 1)[1].granted == 0
    assert lease(tally, quota, now + 86400 * 61 / 60, 10)[1].granted == 10


def test_a_count_is_read_as_it_was_written():
    tally, _ = lease(Tally(), Quota(9, "hour"), 1_700_000_000.5, 3)
    assert read_tally(tally.written()) == tally
    for text in ("", "{}x", "[1]", '[["a", 1, 2]]', "null"):
        with pytest.raises(ValueError):  # whatever the words, it is not a count
            read_tally(text)


def test_a_clock_that_was_years_ahead_does_not_lock_the_upstream_for_years():
    quota, now = Quota(5, "day"), 1_700_000_000.0
    tally, _ = lease(Tally(), quota, now + 3e8, 5)
    assert lease(tally, quota, now, 5)[1].granted == 5


def test_a_clock_that_is_put_back_a_little_gives_nothing_away():
    quota, now = Quota(5, "hour", window="calendar"), at("2026-05-01T10:00:10")
    tally, _ = lease(Tally(), quota, now, 5)
    assert lease(tally, quota, now - 60, 1)[1].granted == 0


def test_a_warm_up_grows_by_its_schedule_and_ends():
    growth = Growth(date(2026, 12, 1), (50, 100, 500), 2)
    quota = Quota(500, "day", window="calendar", zone=BERLIN, growth=growth)
    days = ["2026-11-20", "2026-12-01", "2026-12-02", "2026-12-03", "2026-12-06", "2026-12-07"]
    assert [quota.limit_at(at(day)) for day in days] == [50, 50, 50, 100, 500, None]
    assert lease(Tally(), quota, at("2026-12-02T23:59"), 51)[1].granted == 0
    assert lease(Tally(), quota, at("2026-12-03T00:00"), 51)[1].granted >= 51
    tally, leased = lease(Tally(), quota, at("2027-01-01"), 10_000)
    assert (leased.granted, leased.limit, tally.slots) == (10_000, None, ())


def test_blocks_are_small_beside_the_limit():
    granted = [lease(Tally(), Quota(limit, "day"), 1e9, 1)[1].granted for limit in (1, 14, 500, 50_000)]
    assert granted == [1, 1, 11, 201]


def test_slots_stay_few():
    quota, tally, now = Quota(10**6, "day"), Tally(), 1e9
    for _ in range(500):
        tally, _ = lease(tally, quota, now, 1)
        now += 600
    assert len(tally.slots) <= 62
    assert all(begun < gone for begun, gone, _ in tally.slots)
    assert list(pairwise(sorted(begun for begun, _, _ in tally.slots)))
