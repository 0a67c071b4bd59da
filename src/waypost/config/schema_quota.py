"""The schema of quotas: how much an upstream may be given in a span of time. The descriptions are the manual."""

import re
from datetime import UTC
from typing import Annotated, Any, get_args

from pydantic import Field

from waypost.config.errors import WrongValueError
from waypost.config.fields import Count, Day, Section, StandIn, TimeZone, choice, listed
from waypost.routing.quota import PERIODS, Growth, Period, Quota, Unit, Window

PeriodField = Annotated[Period, *choice(*PERIODS)]
UnitField = Annotated[Unit, *choice(*get_args(Unit))]
WindowField = Annotated[Window, *choice(*get_args(Window))]

_SHORT = re.compile(r"([0-9]{1,12}) */ *([a-z]+)(?: +([a-z]+))?", re.ASCII)


def quota_parts(value: Any) -> Any:
    """The long form of `500/day` and `50000/day recipients`. Raises `WrongValueError`."""
    if not isinstance(value, str):
        return value
    found = _SHORT.fullmatch(value)
    if found is None:
        raise WrongValueError(
            "is not a quota", "write a number and a span of time, like 500/day or 1000/hour recipients"
        )
    parts = {"limit": found[1], "per": found[2]}
    return {**parts, "of": found[3]} if found[3] else parts


class QuotaSection(Section):
    """How much an upstream may be given in a span of time."""

    limit: Annotated[Count, StandIn("1")] = Field(description="How many, at most.")
    per: Annotated[PeriodField, StandIn("day")] = Field(description="The span of time.")
    of: UnitField = Field("messages", description="What is counted: a message with three recipients is one, or three.")
    window: WindowField | None = Field(
        None,
        description="`rolling`: the time that has just passed, whenever that is, 31 days for a month. `calendar`: from "
        "midnight, Monday, or the first. Not set: `calendar` with a `time_zone`, else `rolling`, which is never over "
        "a provider's limit however that counts.",
    )
    time_zone: TimeZone | None = Field(
        None, description="Where days begin for `calendar`: a name like `Europe/Berlin`. Not set: UTC."
    )

    @property
    def value(self) -> Quota:
        """For everybody else."""
        window = self.window or ("rolling" if self.time_zone is None else "calendar")
        zone = self.time_zone or UTC
        return Quota(self.limit, self.per, self.of, window, zone, str(zone))


class WarmUpSection(Section):
    """A limit that grows by a schedule, and ends with it."""

    start: Annotated[Day, StandIn("2000-01-01")] = Field(description="The first day, like `2026-12-01`.")
    limits: Annotated[tuple[Count, ...], listed("number"), StandIn("1")] = Field(
        min_length=1,
        description="How many a day, for one step after the other: `[50, 100, 500, 1000]`. After the last there is no "
        "limit but those of `quota`.",
    )
    days: Count = Field(1, description="How many days each step takes.")
    of: UnitField = Field("messages", description="What is counted.")
    time_zone: TimeZone | None = Field(None, description="Where days begin: a name like `Europe/Berlin`. Not set: UTC.")

    @property
    def value(self) -> Quota:
        """For everybody else."""
        zone = self.time_zone or UTC
        growth = Growth(self.start, self.limits, self.days)
        return Quota(self.limits[-1], "day", self.of, "calendar", zone, str(zone), growth)
