"""The facts that strategies compare upstreams by, collected for pools whose order depends on them and for no others."""

from collections.abc import Callable

from waypost.clock import Clock
from waypost.delivery.quotas import Quotas
from waypost.mail.outcome import Attempt, Phase
from waypost.routing.identity import sends_for
from waypost.routing.route import Pool
from waypost.routing.standing import Average, Facts, Standing
from waypost.routing.verdict import HealthEffect, Kind, Verdict
from waypost.smtp.address import NULL, Address

_ACCEPTED = Kind.ACCEPTED  # at hand: before Python 3.12 members are looked up by the metaclass

InFlight = Callable[[str], int]
"""How many connections to the upstream of a name carry mail."""


def unknown_in_flight(upstream: str) -> int:
    """For who does not know."""
    return 0


class Standings:
    """Measures how fast upstreams are, and collects the rest when it is asked."""

    def __init__(self, clock: Clock, quotas: Quotas, in_flight: InFlight) -> None:
        self._clock = clock
        self._quotas = quotas
        self._in_flight = in_flight
        self._averages: dict[str, Average] = {}

    def facts(self, pool: Pool, reverse_path: Address = NULL, key: str = "") -> Facts:
        """What is known of the pool's upstreams now, as far as its strategy looks at it."""
        upstreams = [member.upstream for member in pool.members]
        strange = frozenset(upstream.name for upstream in upstreams if not sends_for(upstream, reverse_path))
        return Facts(self._standings(pool), self._quotas.spent(upstreams), strange, key)

    def everything(self, pool: Pool) -> dict[str, Standing]:
        """All that can be known of the pool's upstreams, whatever its strategy looks at."""
        now = self._clock.monotonic()
        found = {}
        for upstream in (member.upstream for member in pool.members):
            average = self.average(upstream.name)
            found[upstream.name] = Standing(
                self._in_flight(upstream.name), self._quotas.load(upstream), average.latency(now), average.errors(now)
            )
        return found

    def _standings(self, pool: Pool) -> dict[str, Standing]:
        upstreams = [member.upstream for member in pool.members]
        match pool.strategy:
            case "least_used":
                return {upstream.name: Standing(in_flight=self._in_flight(upstream.name)) for upstream in upstreams}
            case "least_loaded" | "cheapest":
                return {upstream.name: Standing(load=self._quotas.load(upstream)) for upstream in upstreams}
            case "fastest":
                now = self._clock.monotonic()
                known = {upstream.name: self.average(upstream.name) for upstream in upstreams}
                return {name: Standing(latency=a.latency(now), errors=a.errors(now)) for name, a in known.items()}
            case _:
                return {}

    def average(self, upstream: str) -> Average:
        """How fast an upstream was lately, and how often it failed."""
        average = self._averages.get(upstream)
        if average is None:
            average = self._averages[upstream] = Average()
        return average

    def ended(self, attempt: Attempt, verdict: Verdict, now: float) -> None:
        """An attempt has come to something; `now` is monotonic."""
        average = self._averages.get(attempt.upstream) or self.average(attempt.upstream)
        if verdict.kind is _ACCEPTED:
            # What the client took between RCPT and the content says nothing of the upstream.
            seconds = 0.0 if attempt.phases else attempt.duration
            for _, took in attempt.phases:
                seconds += took
            average.took(seconds, now)
        elif verdict.health is HealthEffect.FAILURE or _puts_off(attempt.phase, verdict):
            average.failed(now)


def _puts_off(phase: Phase, verdict: Verdict) -> bool:
    """Whether it does not take the message now. At RCPT that is about one recipient only."""
    if phase is Phase.DOT:
        return verdict.fail_over
    return verdict.kind is Kind.TRANSIENT and phase is not Phase.RCPT
