"""Says when certificates end: those that upstreams show, and our own.

A warning when 30, 14, 7, 3 and 1 days are left, and an error each day from the end on: so nobody is told twice a day,
and whoever reads the log once a week has heard of it three times.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import structlog

from waypost.routing.probing import DAY, Certificate

log = structlog.get_logger()

DAYS = (30, 14, 7, 3, 1)
"""Days left at which a warning is given."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A certificate, and who shows it: the `listener` or `upstream` of a name."""

    owner: str
    name: str
    certificate: Certificate


class Expiry:
    """What was said already. `now` is in seconds since the epoch."""

    def __init__(self) -> None:
        self._told: dict[tuple[str, str], tuple[float, int]] = {}

    def look(self, certificates: Iterable[Shown], now: float) -> None:
        """Says what there is to say, of what was not said yet."""
        for shown in certificates:
            ends, key = shown.certificate.not_after, (shown.owner, shown.name)
            left = ends - now
            # How urgent it is: the days of the last mark that was passed; after the end, the day since, negative.
            mark = min((days for days in DAYS if left <= days * DAY), default=None)
            if left <= 0:
                mark = -1 - int(-left // DAY)
            if mark is None or self._told.get(key) == (ends, mark):
                continue
            self._told[key] = ends, mark
            facts = {shown.owner: shown.name, "days_left": shown.certificate.days_left(now)}
            if left <= 0:
                log.error("certificate_expired", **facts)
            else:
                log.warning("certificate_expires_soon", **facts)
