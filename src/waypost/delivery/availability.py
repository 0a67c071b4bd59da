"""Which upstreams may be used, as far as is known: their health, what puts them to sleep, who has paused them.

That an upstream sleeps (a quota is spent, a login refused) is worth knowing after a restart, and to other instances:
it is told to `on_sleep`, and comes back as a `Note`.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

import structlog

from waypost.clock import Clock
from waypost.delivery.paused import Paused
from waypost.delivery.spool import Note
from waypost.mail.outcome import Answer, Stopped
from waypost.routing.classify import classify, quota_reset_in
from waypost.routing.health import Health, State
from waypost.routing.route import Pool, Upstream
from waypost.routing.verdict import HealthEffect, Kind, Verdict

log = structlog.get_logger()

SLEEP = "sleep"
"""The kind of notes that tell of upstreams asleep: the key is the upstream's name, the value the reason."""

_LONGEST_SLEEP = 86400.0  # seconds that a note is believed: nobody sleeps longer, and its clock may have been wrong

OnSleep = Callable[[str, float, str], None]
"""Hears that an upstream sleeps: its name, until when in seconds since the epoch (0: it is awake again), and why."""


def _unheard(upstream: str, until: float, reason: str) -> None:
    pass


_NO_EFFECT = HealthEffect.NONE  # members of an Enum are looked up by its metaclass before Python 3.12
_NO_FINDING = frozenset({Kind.BUSY, Kind.LOCAL})
_SLEEPS = frozenset({HealthEffect.SLEEP_AUTH, HealthEffect.SLEEP_QUOTA})


class Availability:
    """What is known of each upstream, by its name, and learnt of it: from mail, probes, people and other instances."""

    def __init__(self, clock: Clock, on_sleep: OnSleep = _unheard) -> None:
        self.paused = Paused()
        self._clock = clock
        self._on_sleep = on_sleep
        self._health: defaultdict[str, Health] = defaultdict(Health)

    @property
    def health(self) -> Mapping[str, Health]:
        """What is known of each upstream that was ever tried."""
        return self._health

    def of(self, name: str) -> Health:
        """The health of an upstream, tried or not."""
        return self._health[name]

    def sleeps(self, pool: Pool) -> bool:
        """Whether every member of a pool that is not paused is asleep: a quota is spent, a login refused."""
        now, health = self._clock.monotonic(), self._health
        members = self.paused.left_of(pool).members if self.paused else pool.members
        return all(
            (known := health.get(member.upstream.name)) is not None and known.state(now) is State.ASLEEP
            for member in members
        )

    def judged(self, name: str, answer: Answer, verdict: Verdict, began: float, now: float) -> None:
        """An attempt has come to this, now: both times are on the monotonic clock, in seconds."""
        health = self._health[name]
        if verdict.health is not _NO_EFFECT or not health.is_closed:
            self._learn(name, health, answer, verdict, began, now)
        elif verdict.kind in _NO_FINDING:
            health.trial_abandoned()
        else:
            health.succeeded(now, began)

    def probed(self, upstream: Upstream, stopped: Stopped | None, began: float) -> None:
        """A probe has ended, well or there. Its failure counts like one of mail; success hastens the next trial."""
        now, health = self._clock.monotonic(), self._health[upstream.name]
        if stopped is None:
            if health.hasten(now):
                log.info("upstream_hastened", upstream=upstream.name, reason="a probe found it well")
            return
        verdict = classify(stopped.phase, stopped.answer, upstream.replies)
        if verdict.health is HealthEffect.SLEEP_AUTH and upstream.credentials is not None and not upstream.probe.login:
            return  # it did not log in, so that it is told to says nothing of the login that mail has
        if verdict.health is not _NO_EFFECT:
            self._learn(upstream.name, health, stopped.answer, verdict, began, now)

    def pause(self, name: str, by: str) -> bool:
        """Lets nothing new go to an upstream; whether it was not paused before."""
        return self.paused.pause(name, by, self._clock.time())

    def resume(self, name: str, by: str) -> bool:
        """Lets an upstream be used again, paused or left alone for a failing; whether it was."""
        resumed, health = self.paused.resume(name, by), self._health[name]
        if health.is_closed:
            return resumed
        was_asleep = health.is_asleep
        health.forgive()
        log.info("upstream_recovered", upstream=name, by=by)
        if was_asleep:
            self._on_sleep(name, 0, "")
        return True

    def restore(self, notes: Iterable[Note]) -> None:
        """Takes up what was remembered before a restart, or what another instance has found out or was told.

        An upstream sleeps or is paused; or, where `until` is 0, no more. Notes of other kinds are passed over.
        """
        for note in notes:
            self.paused.learn(note)
            if note.kind == SLEEP:
                self._restore_sleep(note)

    def _restore_sleep(self, note: Note) -> None:
        now, health = self._clock.monotonic(), self._health[note.key]
        left = min(note.until - self._clock.time(), _LONGEST_SLEEP)
        if left > 0:
            health.sleep(now, now + left, note.value)
        elif health.is_asleep:
            health.succeeded(now)

    def _learn(self, name: str, health: Health, answer: Answer, verdict: Verdict, began: float, now: float) -> None:
        """Something goes wrong with an upstream, or goes right again."""
        before, was_asleep = health.state(now), health.is_asleep
        match verdict.health:
            case HealthEffect.FAILURE:
                health.failed(now, str(answer))
            case HealthEffect.SLEEP_AUTH:
                health.login_refused(now, str(answer))
            case HealthEffect.SLEEP_QUOTA:
                reset = quota_reset_in(answer)
                if reset is None:
                    reset = verdict.sleep
                health.quota_spent(now, str(answer), None if reset is None else now + reset)
            case _ if verdict.kind in _NO_FINDING:
                health.trial_abandoned()
            case _:
                health.succeeded(now, began)
        state = health.state(now)
        if state is not before:
            _tell(name, state, health.describe(now), verdict)
        if verdict.health in _SLEEPS:
            self._on_sleep(name, self._clock.time() + health.back_at(now) - now, str(answer))
        elif was_asleep and state is State.CLOSED:
            self._on_sleep(name, 0, "")


def _tell(upstream: str, state: State, why: str, verdict: Verdict) -> None:
    """Says that an upstream is left alone from now on, or is well again."""
    if state is State.CLOSED:
        log.info("upstream_recovered", upstream=upstream)
    elif verdict.alert:
        log.error("upstream_down", upstream=upstream, state=state, reason=why, classification=verdict.rule)
    else:
        log.warning("upstream_down", upstream=upstream, state=state, reason=why, classification=verdict.rule)
