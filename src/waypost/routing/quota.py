"""How much an upstream may be given in a span of time: the arithmetic of quotas.

A quota is counted in *slots*. A calendar window (a day in Berlin) is one slot, and is forgotten when it ends. A rolling
window is made of slots that are a sixtieth of its length (a tenth, of a second), and each is forgotten one length after
its own end: so what was sent at any moment counts for the whole length and a slot more, never for less.

What may be sent is *leased* from the count in blocks, ahead of being sent. A lease holds for the rest of its slot; what
is left of it afterwards is returned. `now` is in seconds since the epoch. Nothing here knows who counts, or where.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Literal, get_args

Period = Literal["second", "minute", "hour", "day", "week", "month"]
Unit = Literal["messages", "recipients"]
Window = Literal["rolling", "calendar"]

PERIODS: tuple[Period, ...] = get_args(Period)
SECONDS: dict[Period, float] = {
    "second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 7 * 86400, "month": 31 * 86400,
}  # fmt: skip
"""How long a rolling window is."""

_SLOTS = 60
_SLOTS_OF_A_SECOND = 10
_LARGEST_BLOCK = 200
_BLOCKS = 50  # a block is this part of a limit: what a crash may cost, and what one instance may keep from another


@dataclass(frozen=True, slots=True)
class Growth:
    """A limit that grows: each of `limits` holds for `days` days from `start` on, and after the last there is none."""

    start: date
    limits: tuple[int, ...]
    days: int = 1


@dataclass(frozen=True, slots=True)
class Quota:
    """At most `limit` messages or recipients in a window. With `growth` the limit is that of the day."""

    limit: int
    per: Period
    of: Unit = "messages"
    window: Window = "rolling"
    zone: tzinfo = UTC
    zone_name: str = "UTC"
    growth: Growth | None = None

    @property
    def key(self) -> str:
        """What is counted. Quotas that differ in nothing but their limit go on with one count."""
        zone = f" {self.zone_name}" if self.window == "calendar" else ""
        return f"{'warm-up ' if self.growth else ''}{self.of}/{self.per} {self.window}{zone}"

    @property
    def label(self) -> str:
        """A short name: `messages/day`."""
        return f"warm-up {self.of}/{self.per}" if self.growth else f"{self.of}/{self.per}"

    def limit_at(self, now: float) -> int | None:
        """The limit that holds now; None when a warm-up is over."""
        growth = self.growth
        if growth is None:
            return self.limit
        passed = (datetime.fromtimestamp(now, self.zone).date() - growth.start).days // growth.days
        return growth.limits[max(0, passed)] if passed < len(growth.limits) else None

    def block(self, limit: int) -> int:
        """How much is leased besides what is asked for."""
        return min(limit // _BLOCKS, _LARGEST_BLOCK)

    def slot(self, now: float) -> tuple[float, float, float]:
        """The slot of this moment: when it began, when it ends, and when it is forgotten."""
        if self.window == "calendar":
            start, end = calendar_window(self.per, self.zone, now)
            return start, end, end
        length = SECONDS[self.per]
        width = length / (_SLOTS_OF_A_SECOND if self.per == "second" else _SLOTS)
        start = now // width * width
        return start, start + width, start + width + length

    def __str__(self) -> str:
        zone = f", by the calendar in {self.zone_name}" if self.window == "calendar" else ""
        if self.growth is None:
            unit = self.of[:-1] if self.limit == 1 else self.of
            return f"{self.limit} {unit} per {self.per}{zone}"
        return f"warm-up from {self.growth.start}: {', '.join(map(str, self.growth.limits))} {self.of} per day{zone}"


def calendar_window(per: Period, zone: tzinfo, now: float) -> tuple[float, float]:
    """The second, minute ... month of this moment in a time zone: when it began, and when it ends."""
    local = datetime.fromtimestamp(now, zone)
    if per in ("second", "minute", "hour"):
        # By what has passed of it, not by its name: at the end of summer an hour comes twice.
        length = SECONDS[per]
        offset = (local.utcoffset() or timedelta()).total_seconds()
        start = (now + offset) // length * length - offset
        return start, start + length
    first = local.date()
    if per == "week":
        first -= timedelta(days=first.weekday())
    elif per == "month":
        first = first.replace(day=1)
    last = first + timedelta(days={"day": 1, "week": 7, "month": 31}[per])
    if per == "month":
        last = last.replace(day=1)
    return _midnight(first, zone), _midnight(last, zone)


def _midnight(day: date, zone: tzinfo) -> float:
    """When a day begins. Where its midnight does not exist, that is the moment at which clocks are put forward."""
    return datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()


@dataclass(frozen=True, slots=True)
class Tally:
    """What was leased of one quota: for each slot when it began, when it is forgotten, and how much."""

    slots: tuple[tuple[float, float, int], ...] = ()

    def used(self, now: float) -> int:
        """How much counts at this moment."""
        return sum(count for _, gone, count in self.slots if gone > now)

    def room_at(self, limit: int, amount: int, now: float) -> float:
        """When there is room for `amount`; the end of it all when there never is."""
        excess = self.used(now) + amount - limit
        if excess <= 0:
            return now
        for _, gone, count in sorted(self.slots, key=lambda slot: slot[1]):
            if gone > now:
                excess -= count
                if excess <= 0:
                    return gone
        return max((gone for _, gone, _ in self.slots), default=now)

    def added(self, slot: tuple[float, float, float], amount: int, now: float) -> "Tally":
        """With so much more in this slot, and without what is forgotten."""
        start, _, gone = slot
        kept = [each for each in self.slots if each[1] > now and each[0] != start]
        amount += sum(count for begun, _, count in self.slots if begun == start)
        return Tally((*kept, (start, gone, max(0, amount))))

    def returned(self, returns: Mapping[float, int]) -> "Tally":
        """With so much less in the slots that began then, or more where it is negative."""
        if not returns:
            return self
        return Tally(tuple((b, gone, max(0, count - returns.get(b, 0))) for b, gone, count in self.slots))

    def believable(self, quota: Quota, now: float) -> "Tally":
        """Without what was counted by a clock that was far ahead of the present one."""
        latest = now + 2 * SECONDS[quota.per]
        return Tally(tuple(slot for slot in self.slots if slot[0] <= latest))

    @property
    def until(self) -> float:
        """When nothing of it counts any more."""
        return max((gone for _, gone, _ in self.slots), default=0.0)

    def written(self) -> str:
        """As text."""
        return json.dumps(self.slots, separators=(",", ":"))


def read_tally(text: str) -> Tally:
    """What `written` wrote. Raises `ValueError`."""
    try:
        return Tally(tuple((float(start), float(gone), int(count)) for start, gone, count in json.loads(text)))
    except TypeError as error:
        raise ValueError(str(error)) from error


@dataclass(frozen=True, slots=True)
class Lease:
    """An answer to who wants to send: so much may be, in the slot that began at `start` and for `valid` seconds."""

    granted: int
    start: float
    valid: float
    tally: Tally
    """The count, with this lease in it."""
    limit: int | None = None  # None: there is none
    back_in: float = 0.0
    """Seconds until there is room, when nothing was granted."""


_NONE: Mapping[float, int] = {}


def lease(
    tally: Tally, quota: Quota, now: float, least: int, returns: Mapping[float, int] = _NONE, debt: int = 0
) -> tuple[Tally, Lease]:
    """Leases at least `least` and up to a block more, or nothing; the count afterwards, and the answer.

    `returns` is taken back first, by the slot that it was leased in. `debt` has been sent already, and counts whether
    there is room or not.
    """
    tally = tally.believable(quota, now).returned(returns)
    slot = quota.slot(now)
    start, end, _ = slot
    limit = quota.limit_at(now)
    if limit is None:
        return tally, Lease(least, start, end - now, tally)
    if debt:
        tally = tally.added(slot, debt, now)
    if not least:
        return tally, Lease(0, start, end - now, tally, limit)
    room = limit - tally.used(now)
    if room < least:
        back = tally.room_at(limit, least, now)
        if least > limit:
            back = end  # tomorrow the limit may be another
        return tally, Lease(0, start, end - now, tally, limit, max(0.0, back - now))
    granted = min(room, least + quota.block(limit))
    tally = tally.added(slot, granted, now)
    return tally, Lease(granted, start, end - now, tally, limit)
