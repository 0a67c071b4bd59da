"""Single values of rules: text in, value out, and back. Parsers raise `WrongValueError` with what would be right."""

import re
from typing import Any, NamedTuple

from waypost.config import values
from waypost.config.errors import WrongValueError
from waypost.routing.condition import SizeRange
from waypost.routing.hours import ALL_DAYS, DAY, NAMES, clock_text, days_text

_OCTETS = r"([0-9.]+ *(?:[kmg]i?)?b?)"
_SIZE = re.compile(rf"(?:over +{_OCTETS})?(?: *(?:and|,)? *under +{_OCTETS})?", re.ASCII)
_SPAN = re.compile(r"([0-9]{1,2}):([0-9]{2}) *- *([0-9]{1,2}):([0-9]{2})", re.ASCII)
_PERCENT = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,6})?) *%?", re.ASCII)
_FIELD = re.compile(r"[!-9;-~]+", re.ASCII)
_LONG = {
    "monday": 0,
    "tuesday": 1,
    "wednesday": 2,
    "thursday": 3,
    "friday": 4,
    "saturday": 5,
    "sunday": 6,
}
_DAYS = {name: number for number, name in enumerate(NAMES)} | _LONG


def size_range(text: str) -> SizeRange:
    """`over 5MB`, `under 10KB`, or both: `over 1MB and under 5MB`."""
    match = _SIZE.fullmatch(text.strip().lower())
    if match is None or not (match[1] or match[2]):
        raise WrongValueError("is no range of sizes", "write over 5MB, under 10KB, or over 1MB and under 5MB")
    over, under = (values.size(bound.strip()) if bound else None for bound in match.groups())
    if over is not None and under is not None and under <= over + 1:
        raise WrongValueError("is a range that no size is in", "the size after `over` is the smaller one")
    return SizeRange(over, under)


def size_range_text(size: SizeRange) -> str:
    """The text of it."""
    bounds = (("over", size.over), ("under", size.under))
    return " and ".join(f"{word} {values.size_text(bound)}" for word, bound in bounds if bound is not None)


def days(text: str) -> frozenset[int]:
    """Days of the week, 0 for Monday: `mon-fri`, `sat,sun`; `fri-mon` goes over the end of the week."""
    found: set[int] = set()
    for part in re.split(r" *, *", text.strip().lower()):
        first, dash, last = (word.strip() for word in part.partition("-"))
        if first not in _DAYS or (dash and last not in _DAYS):
            raise WrongValueError(f"{part[:40]!r} is no day of the week", "write mon-fri, or sat,sun")
        begin, end = _DAYS[first], _DAYS[last if dash else first]
        found |= {(begin + step) % 7 for step in range((end - begin) % 7 + 1)}
    return frozenset(found)


class Span(NamedTuple):
    """Two times of day, in minutes."""

    start: int
    end: int


def span(text: str) -> Span:
    """Times of day as minutes: `08:00-18:00`; `22:00-06:00` is over midnight."""
    match = _SPAN.fullmatch(text)
    if match is None:
        raise WrongValueError("is no span of time", "write it like 08:00-18:00, or 22:00-06:00 over midnight")
    first, second, third, fourth = map(int, match.groups())
    start, end = first * 60 + second, third * 60 + fourth
    if start >= DAY or end > DAY or second > 59 or fourth > 59:
        raise WrongValueError("has a time that no clock shows", "a day is from 00:00 to 24:00")
    if start == end:
        raise WrongValueError("ends when it begins, so nothing is in it", "a whole day is 00:00-24:00")
    return Span(start, end)


def span_text(times: Span) -> str:
    """The text of it."""
    return f"{clock_text(times.start)}-{clock_text(times.end)}"


def hours_parts(value: Any) -> Any:
    """The long form of `mon-fri 08:00-18:00 Europe/Berlin`, of which each part may be missing but not all."""
    if not isinstance(value, str):
        return value
    parts: dict[str, str] = {}
    text = re.sub(r" *, *", ",", re.sub(r" *- *", "-", value.strip()))
    for word in text.split(" "):
        key = "time_zone"
        if ":" in word or word[:1].isdecimal():
            key = "hours"
        elif re.split(r"[,-]", word.lower())[0] in _DAYS:
            key = "days"
        if key in parts:
            raise WrongValueError(
                f"{value[:60]!r} is no window of time", "write days, hours and time zone: mon-fri 08:00-18:00 UTC"
            )
        parts[key] = word
    return parts


def days_or_all_text(found: frozenset[int]) -> str:
    """The text of days of the week."""
    return "mon-sun" if found == ALL_DAYS else days_text(found)


def percent(text: str) -> float:
    """From 0 to 100: `10`, `10%`, `0.5`."""
    match = _PERCENT.fullmatch(text)
    if match is None or float(match[1]) > 100:
        raise WrongValueError("is no percentage", "write a number from 0 to 100, like 10 or 10%")
    return float(match[1])


def percent_parts(value: Any) -> Any:
    """The long form of `10`."""
    return {"value": value} if isinstance(value, str) else value


def percent_text(number: float) -> str:
    """The text of it."""
    return f"{number:.9g}%"


def field_name(text: str) -> str:
    """The name of a header field (RFC 5322 section 3.6.8)."""
    if _FIELD.fullmatch(text) is None or len(text) > 100:
        raise WrongValueError(f"{text[:40]!r} is no name of a header field", "write it like Subject, without a colon")
    return text
