"""Times of day and days of the week, by the clocks of a time zone.

A window belongs to the day on which it begins: 22:00-06:00 on Fridays ends on Saturday morning. When clocks are put
forward, the times that are left out do not come; when they are put back, those that come twice count twice.
"""

from dataclasses import dataclass
from datetime import datetime, tzinfo

DAY = 24 * 60
NAMES = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
ALL_DAYS = frozenset(range(7))


@dataclass(frozen=True, slots=True)
class Hours:
    """From `start` until before `end`, in minutes of the day; over midnight when `end` comes first.

    `days` counts from Monday, which is 0.
    """

    zone: tzinfo
    days: frozenset[int] = ALL_DAYS
    start: int = 0
    end: int = DAY

    def holds(self, now: float) -> bool:
        """Whether `now`, in seconds since the epoch, is within."""
        local = datetime.fromtimestamp(now, self.zone)
        minute, day = local.hour * 60 + local.minute, local.weekday()
        if self.start < self.end:
            return self.start <= minute < self.end and day in self.days
        return (minute >= self.start and day in self.days) or (minute < self.end and (day - 1) % 7 in self.days)

    def __str__(self) -> str:
        parts = [] if self.days == ALL_DAYS else [days_text(self.days)]
        if (self.start, self.end) != (0, DAY):
            parts.append(f"{clock_text(self.start)}-{clock_text(self.end)}")
        return " ".join([*parts, str(self.zone)])


def clock_text(minute: int) -> str:
    """A minute of the day as `08:00`."""
    return f"{minute // 60:02}:{minute % 60:02}"


def days_text(days: frozenset[int]) -> str:
    """Days of the week as `mon-fri,sun`."""
    parts: list[str] = []
    run: list[int] = []
    for day in (*sorted(days), None):
        if run and day == run[-1] + 1:
            run.append(run[-1] + 1)
            continue
        if run:
            joint = "-" if len(run) > 2 else ","
            parts.append(NAMES[run[0]] if len(run) == 1 else f"{NAMES[run[0]]}{joint}{NAMES[run[-1]]}")
        run = [] if day is None else [day]
    return ",".join(parts)
