"""What people do with upstreams: look how they are, pause them, resume them."""

from collections.abc import Callable, Mapping
from typing import Any

from waypost.clock import Clock
from waypost.delivery.candidates import Candidates
from waypost.observe.record import timestamp
from waypost.routing.health import Health, State
from waypost.routing.probing import Certificate, Finding
from waypost.routing.route import Pool, Upstream
from waypost.smtp.address import Address

JsonLine = dict[str, Any]


class Upstreams:
    """The upstreams of one Waypost, for its control API.

    `connections` gives how many are busy and idle, `found` what the last probes found, and `certificates` what was
    shown last, each by the name of the upstream. `remembers`: pauses outlive a restart.
    """

    def __init__(
        self,
        upstreams: Mapping[str, Upstream],
        candidates: Candidates,
        clock: Clock,
        *,
        pools: Mapping[str, Pool],
        connections: Callable[[], Mapping[str, tuple[int, int]]],
        found: Callable[[], Mapping[str, Finding]],
        certificates: Callable[[], Mapping[str, Certificate]],
        remembers: bool = True,
    ) -> None:
        self._upstreams = upstreams
        self._candidates = candidates
        self._clock = clock
        self._pools = pools
        self._connections = connections
        self._found = found
        self._certificates = certificates
        self._remembers = remembers

    def unknown(self, action: str, names: list[str]) -> list[str]:
        """Which of these names are not configured; what is paused can be resumed all the same."""
        paused = self._candidates.availability.paused if action == "resume" else ()
        return [name for name in names if name not in self._upstreams and name not in paused]

    @property
    def names(self) -> list[str]:
        """The names of all that are configured."""
        return list(self._upstreams)

    def rows(self) -> list[JsonLine]:
        """One JSON object for each upstream, in the order of the configuration; then what else is paused."""
        gone = [name for name in self._candidates.availability.paused if name not in self._upstreams]
        return [*(self._row(upstream) for upstream in self._upstreams.values()), *map(self._gone, gone)]

    def order(self, name: str, reverse_path: Address, recipient: Address, account: str | None) -> list[JsonLine] | None:
        """The upstreams of a pool as a message would find them now, best first; None when there is no such pool.

        What is paused stands at the end, with `tried` false.
        """
        pool = self._pools.get(name)
        if pool is None:
            return None
        places = self._candidates.ordering(pool, reverse_path, recipient, account).places
        rows = [self._place(place.member.upstream, place.reason, tried=True) for place in places]
        paused = self._candidates.availability.paused
        held = [member.upstream for member in pool.members if member.upstream.name in paused]
        if len(held) == len(pool.members):
            rows = []
        for upstream in held:
            pause = paused[upstream.name]
            since = timestamp(pause.since)
            rows.append(self._place(upstream, f"paused by {pause.by} since {since}, so it is not tried", tried=False))
        return rows

    def _place(self, upstream: Upstream, reason: str, *, tried: bool) -> JsonLine:
        states = self._candidates.quotas.states(upstream)
        quotas = [f"{state.quota.label}: {state.used} of {state.limit} used" for state in states]
        return {"upstream": upstream.name, "tried": tried, "reason": reason, "quotas": quotas}

    def act(self, action: str, names: list[str], by: str) -> list[JsonLine]:
        """Pauses or resumes; for each name, whether that changed anything and whether it is remembered."""
        availability = self._candidates.availability
        act = availability.pause if action == "pause" else availability.resume
        return [{"upstream": name, "changed": act(name, by), "remembered": self._remembers} for name in names]

    def _row(self, upstream: Upstream) -> JsonLine:
        name, now, monotonic = upstream.name, self._clock.time(), self._clock.monotonic()
        health = self._candidates.availability.health.get(name) or Health()
        average = self._candidates.standings.average(name)
        busy, idle = self._connections().get(name, (0, 0))
        latency = average.latest
        row: JsonLine = {
            "upstream": name,
            "address": upstream.address,
            **self._state(name, health, now, monotonic),
            "busy": busy,
            "idle": idle,
            "latency_seconds": None if latency is None else round(latency, 6),
            "error_share": round(average.errors(monotonic), 4),
        }
        states = self._candidates.quotas.states(upstream)
        spent = [state for state in states if state.limit is not None and state.used >= state.limit]
        if spent and row["state"] == State.CLOSED:
            again = max(state.back_in for state in spent)
            row |= {"state": "spent", "next_trial_at": timestamp(now + again) if again else None}
        row["quotas"] = [
            {
                "window": state.quota.label,
                "used": state.used,
                "limit": state.limit,
                "next_at": timestamp(now + state.back_in) if state.back_in else None,
            }
            for state in states
        ]
        row["probe"] = written_finding(self._found().get(name))
        certificate = self._certificates().get(name)
        row["certificate"] = None if certificate is None else written_certificate(certificate, now)
        return row

    def _gone(self, name: str) -> JsonLine:
        """One that is not configured any more: the pause would hold if it came back."""
        state = self._state(name, Health(), self._clock.time(), self._clock.monotonic())
        state["reason"] += ", and not configured"
        none = {"busy": 0, "idle": 0, "latency_seconds": None, "error_share": 0.0}
        return {"upstream": name, "address": None, **state, **none, "quotas": [], "probe": None, "certificate": None}

    def _state(self, name: str, health: Health, now: float, monotonic: float) -> JsonLine:
        pause = self._candidates.availability.paused.get(name)
        if pause is not None:
            since = timestamp(pause.since) if pause.since else None
            return {"state": "paused", "reason": str(pause), "since": since, "next_trial_at": None}
        state = health.state(monotonic)
        if state is State.CLOSED or health.since is None:
            return {"state": state, "reason": "", "since": None, "next_trial_at": None}
        return {
            "state": state,
            "reason": health.reason,
            "since": timestamp(now - monotonic + health.since),
            "next_trial_at": timestamp(max(now, now + health.back_at(monotonic) - monotonic)),
        }


def written_finding(finding: Finding | None) -> JsonLine | None:
    """What a probe found, as JSON."""
    if finding is None:
        return None
    stages = [
        {"stage": stage.phase, "state": stage.state, "text": stage.text, "seconds": round(stage.seconds, 6)}
        for stage in finding.stages
    ]
    return {"at": timestamp(finding.at), "ok": finding.failed is None, "tls": finding.tls, "stages": stages}


def written_certificate(certificate: Certificate, now: float) -> JsonLine:
    """A certificate as JSON."""
    return {
        "not_after": timestamp(certificate.not_after),
        "days_left": certificate.days_left(now),
        "names": list(certificate.names),
        "fingerprint": certificate.fingerprint,
    }
