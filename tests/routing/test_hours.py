"""Windows of time, against a calendar that is walked minute by minute."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from waypost.routing.hours import ALL_DAYS, DAY, Hours, clock_text, days_text

BERLIN = ZoneInfo("Europe/Berlin")
ZONES = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC", "Pacific/Apia")


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(
    ("hours", "inside", "outside"),
    [
        (
            Hours(BERLIN, frozenset(range(5)), 8 * 60, 18 * 60),
            ["2026-11-23T08:00+01:00", "2026-11-27T17:59:59+01:00", "2026-07-06T06:00+00:00"],
            ["2026-11-23T07:59:59+01:00", "2026-11-23T18:00+01:00", "2026-11-28T12:00+01:00"],
        ),
        (  # over midnight, beginning on Friday
            Hours(UTC, frozenset({4}), 22 * 60, 6 * 60),
            ["2026-11-27T22:00+00:00", "2026-11-28T05:59+00:00"],
            ["2026-11-27T05:00+00:00", "2026-11-28T06:00+00:00", "2026-11-28T23:00+00:00"],
        ),
        (  # from Sunday to Monday
            Hours(UTC, frozenset({6}), 23 * 60, 60),
            ["2026-11-22T23:30+00:00", "2026-11-23T00:30+00:00"],
            ["2026-11-22T00:30+00:00", "2026-11-23T23:30+00:00"],
        ),
        (  # the hour that is left out does not come, what surrounds it does
            Hours(BERLIN, ALL_DAYS, 2 * 60, 3 * 60),
            ["2026-03-28T02:30+01:00", "2026-10-25T02:30+02:00", "2026-10-25T02:30+01:00"],
            ["2026-03-29T01:59:59+01:00", "2026-03-29T03:00+02:00", "2026-10-25T03:00+01:00"],
        ),
        (Hours(UTC), ["2026-11-22T00:00+00:00", "2026-11-22T23:59+00:00"], []),
    ],
)
def test_windows(hours: Hours, inside: list[str], outside: list[str]) -> None:
    assert [moment for moment in inside + outside if hours.holds(at(moment))] == inside


def naive(hours: Hours, begin: datetime) -> set[float]:
    """The minutes of three days that are within: each begins its own window, or is reached from one's beginning."""
    shown = []  # what the wall clock shows in each minute of four days, the day before included
    for step in range(-DAY, 3 * DAY):
        moment = begin + timedelta(minutes=step)
        local = moment.astimezone(hours.zone)
        shown.append((moment.timestamp(), local.date(), f"{local:%H:%M}"))
    names = {clock_text(minute) for minute in range(hours.start, hours.end)}
    late = {clock_text(minute) for minute in range(hours.start, DAY)}
    early = {clock_text(minute) for minute in range(hours.end)}
    within = set()
    for moment, day, clock in shown[DAY:]:
        today, yesterday = day.weekday() in hours.days, (day - timedelta(days=1)).weekday() in hours.days
        if hours.start < hours.end:
            if today and clock in names:
                within.add(moment)
        elif (today and clock in late) or (yesterday and clock in early):
            within.add(moment)
    return within


CHANGES = st.sampled_from(
    [
        datetime(2026, 3, 28, 12, tzinfo=UTC),  # Berlin, forward
        datetime(2026, 10, 24, 12, tzinfo=UTC),  # Berlin, back
        datetime(2026, 3, 7, 12, tzinfo=UTC),  # New York, forward
        datetime(2026, 10, 31, 12, tzinfo=UTC),  # New York, back
        datetime(2026, 4, 4, 0, tzinfo=UTC),  # Lord Howe, by half an hour
        datetime(2011, 12, 29, 0, tzinfo=UTC),  # Apia had no 30th
    ]
)


@settings(max_examples=25, deadline=None)
@given(
    CHANGES,
    st.sampled_from(ZONES),
    st.frozensets(st.integers(0, 6), min_size=1),
    st.integers(0, DAY - 1),
    st.integers(1, DAY),
)
def test_each_minute_is_as_the_walls_clock_says(
    begin: datetime, zone: str, days: frozenset[int], start: int, end: int
) -> None:
    hours = Hours(ZoneInfo(zone), days, start, end if end != start else DAY)
    expected = naive(hours, begin)
    for step in range(3 * DAY):
        moment = (begin + timedelta(minutes=step)).timestamp()
        assert hours.holds(moment) == hours.holds(moment + 59.9) == (moment in expected)


def test_texts() -> None:
    assert str(Hours(BERLIN, frozenset({0, 1, 2, 3, 6}), 480, 1080)) == "mon-thu,sun 08:00-18:00 Europe/Berlin"
    assert str(Hours(UTC)) == "UTC"
    assert days_text(frozenset({5, 6})) == "sat,sun"
