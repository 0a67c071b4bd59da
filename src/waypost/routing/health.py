"""Whether an upstream is worth trying: the memory of what it did lately.

    closed --3 failures in a row--> open --interval over--> half open --success--> closed
       \\--login or quota refused--> asleep --until over-->/     \\--failure--> open, twice as long

Half open lets one attempt through at a time. Nothing here forbids an attempt: when every upstream of a pool is open or
asleep, the best of them is tried anyway, and what that comes to is reported like any other.

A probe that finds all well hastens the trial, and no more: what carries mail is mail.

Attempts run side by side, so reports arrive late: twenty connections that break at once are one failure of the
upstream, and make it open once.

`now` is in seconds, of any clock that only goes forward, but always the same.
"""

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class HealthPolicy:
    """When an upstream is left alone, and for how many seconds."""

    failures: int = 3
    """Consecutive failures that open it."""
    interval: float = 5
    """The first time open; each failed trial doubles it."""
    max_interval: float = 600
    login_interval: float = 60
    """The first sleep after a refused login; each further one doubles it, since providers lock accounts."""
    max_login_interval: float = 3600
    quota_interval: float = 900
    """The sleep after a spent quota when the reply does not say how long."""
    trial_limit: float = 900
    """After this time a trial that nobody reported on is given up: a client's patience for the dot and some more."""


DEFAULT_POLICY = HealthPolicy()


class State(StrEnum):
    """What an upstream may be used for."""

    # Named like the states of an electric circuit; people read the values, and a closed one looks like a shut one.
    CLOSED = "healthy"  # for everything
    OPEN = "failing"  # for nothing, it fails
    ASLEEP = "asleep"  # for nothing, it said so: login or quota
    HALF_OPEN = "trial"  # for one trial


class Health:
    """The health of one upstream. Mutable; one for each upstream, kept over reloads of the configuration."""

    __slots__ = (
        "_asleep",
        "_failures",
        "_heard_at",
        "_interval",
        "_login_interval",
        "_policy",
        "_reason",
        "_since",
        "_trial",
        "_until",
    )

    def __init__(self, policy: HealthPolicy = DEFAULT_POLICY) -> None:
        self._policy = policy
        self._failures = 0
        self._heard_at: float | None = None
        self._interval = 0.0
        self._login_interval = 0.0
        self._since = 0.0
        self._until: float | None = None  # None is closed
        self._asleep = False
        self._reason = ""
        self._trial: float | None = None  # when it began

    def may_try(self, now: float) -> bool:
        """Whether an attempt is welcome: it is closed, or its time is over and no trial is under way."""
        return self._until is None or (now >= self._until and not self._is_tried(now))

    def back_at(self, now: float) -> float:
        """When it may be tried again; not after `now` when it may be tried already or a trial is under way."""
        return now if self._until is None else self._until

    def state(self, now: float) -> State:
        """The state at `now`."""
        if self._until is None:
            return State.CLOSED
        if now >= self._until:
            return State.HALF_OPEN
        return State.ASLEEP if self._asleep else State.OPEN

    @property
    def is_closed(self) -> bool:
        """Whether it may be used for everything."""
        return self._until is None

    @property
    def is_asleep(self) -> bool:
        """Whether it said itself that it takes nothing, and has not been heard of since."""
        return self._asleep

    @property
    def heard_at(self) -> float | None:
        """When it last did its part for a message; None when it never did."""
        return self._heard_at

    @property
    def since(self) -> float | None:
        """When it began to be left alone; None while it is not."""
        return None if self._until is None else self._since

    @property
    def reason(self) -> str:
        """Why it is left alone; empty while it is not."""
        return self._reason

    def hasten(self, now: float) -> bool:
        """Somebody has found it well: the next message is its trial. Whether that is sooner than before.

        What it said itself stands: a quota is not there again because somebody could log in.
        """
        if self._until is None or self._asleep or now >= self._until:
            return False
        self._until = now
        return True

    def forgive(self) -> None:
        """Somebody who knows better says that it is well: closed, as if nothing had been."""
        self._failures = 0
        self._interval = self._login_interval = 0.0
        self._until = self._trial = None
        self._asleep = False
        self._reason = ""

    def trial_started(self, now: float) -> None:
        """An attempt begins. Of consequence only while half open."""
        if self._until is not None and now >= self._until:
            self._trial = now

    def trial_abandoned(self) -> None:
        """The attempt ended without a finding about the upstream: the client went away, or we are stopping."""
        self._trial = None

    def succeeded(self, now: float, began: float | None = None) -> None:
        """The upstream did its part, whatever it said of the message.

        `began` is when the attempt did, `now` by default: a success of an attempt that is older than a sleep
        says nothing about the quota that was spent in the meantime.
        """
        self._failures = 0
        self._heard_at = now
        if self._until is not None and not (self._asleep and began is not None and began < self._since):
            self.forgive()

    def failed(self, now: float, reason: str) -> None:
        """The upstream could not be reached, broke off, or made no sense."""
        self._failures += 1
        if self._until is None:
            if self._failures < self._policy.failures:
                return
        elif now < self._until:
            return  # one of many that broke at once, or a try for want of anything better
        self._interval = min(max(self._policy.interval, self._interval * 2), self._policy.max_interval)
        self._close_off(now, now + self._interval, reason, asleep=False)

    def login_refused(self, now: float, reason: str) -> None:
        """AUTH was answered 5yz: asleep, longer each time."""
        if not (self._asleep and self._until is not None and now < self._until):
            longer = max(self._policy.login_interval, self._login_interval * 2)
            self._login_interval = min(longer, self._policy.max_login_interval)
        self.sleep(now, now + self._login_interval, reason)

    def quota_spent(self, now: float, reason: str, until: float | None = None) -> None:
        """A quota or rate is used up: asleep until it resets, when that is known."""
        self.sleep(now, now + self._policy.quota_interval if until is None else until, reason)

    def sleep(self, now: float, until: float, reason: str) -> None:
        """Asleep until `until`, or longer when it already was to sleep longer."""
        if self._asleep and self._until is not None and self._until > until:
            return
        self._close_off(now, until, reason, asleep=True)

    def describe(self, now: float) -> str:
        """A few words for people: `asleep for 14 min: 550 5.4.5 Daily limit`."""
        match self.state(now):
            case State.CLOSED:
                if not self._failures:
                    return "healthy"
                return f"healthy, though the last {_count(self._failures, 'attempt')} failed"
            case State.HALF_OPEN:
                trial = "a trial is under way" if self._is_tried(now) else "the next message is its trial"
                return f"{trial}, after: {self._reason}"
            case state:
                failures = "" if self._asleep else f" after {_count(self._failures, 'failure')}"
                return f"{state} for {_duration(self.back_at(now) - now)}{failures}: {self._reason}"

    def __repr__(self) -> str:
        if self._until is None:
            return f"<Health closed, failures={self._failures}>"
        word = "asleep" if self._asleep else "open"
        trial = "" if self._trial is None else f", trial since {self._trial:g}"
        return f"<Health {word} until {self._until:g}, failures={self._failures}{trial}: {self._reason!r}>"

    def _close_off(self, now: float, until: float, reason: str, *, asleep: bool) -> None:
        self._since, self._until, self._reason, self._asleep = now, until, reason, asleep
        self._trial = None

    def _is_tried(self, now: float) -> bool:
        return self._trial is not None and now - self._trial < self._policy.trial_limit


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'s' if number != 1 else ''}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 5400:
        return f"{round(seconds / 60)} min"
    return f"{round(seconds / 3600)} h"
