"""What strategies compare upstreams by: the facts of this moment, and two averages that are made of what happened."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import exp, inf

_WEIGHT = 0.2  # of the latest attempt
_FORGOTTEN = 600.0  # seconds after which what was measured counts for a third
_MOST_ERRORS = 0.95


class Average:
    """How long an upstream takes for a message, and how often it fails: moving averages that fade.

    What was measured long ago counts for less and less, so an upstream that was slow is tried again in the end.
    """

    __slots__ = ("_at", "_errors", "_seconds")

    def __init__(self) -> None:
        self._seconds: float | None = None
        self._errors = 0.0
        self._at = 0.0

    def took(self, seconds: float, now: float) -> None:
        """It answered for a message after so many seconds."""
        self._seconds = seconds if self._seconds is None else self._seconds + _WEIGHT * (seconds - self._seconds)
        self._errors *= 1 - _WEIGHT
        self._at = now

    def failed(self, now: float) -> None:
        """It failed at one, or could not be reached."""
        self._errors += _WEIGHT * (1 - self._errors)
        self._at = now

    def latency(self, now: float) -> float | None:
        """Seconds that a message takes there, as things stand; None when it was never measured."""
        return None if self._seconds is None else self._seconds * exp((self._at - now) / _FORGOTTEN)

    @property
    def latest(self) -> float | None:
        """The average as it was last, in seconds; None when it was never measured."""
        return self._seconds

    def errors(self, now: float) -> float:
        """The share of attempts that fail."""
        return self._errors * exp((self._at - now) / _FORGOTTEN)


@dataclass(frozen=True, slots=True)
class Standing:
    """One upstream, as strategies see it."""

    in_flight: int = 0
    """Connections that carry mail."""
    load: float = 0.0
    """The share of its quotas that is used, of the fullest."""
    latency: float | None = None
    errors: float = 0.0

    @property
    def expected(self) -> float:
        """Seconds until a message has got through, failures included.

        0 for one that is not known yet, unless it has failed again and again of late.
        """
        if self.latency is None:
            return 0.0 if self.errors <= _WEIGHT else inf
        return self.latency / (1 - min(self.errors, _MOST_ERRORS))


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known besides turns and health when an order is made."""

    standings: Mapping[str, Standing] = field(default_factory=dict)
    spent: Mapping[str, tuple[float, str]] = field(default_factory=dict)
    """Upstreams whose quota is spent: seconds until there is room again, and which one."""
    strange: frozenset[str] = frozenset()
    """Upstreams that do not send for this reverse-path."""
    key: str = ""
    """What `sticky` goes by."""


NOTHING = Facts()
UNKNOWN = Standing()
