"""The upstreams that may take a message: their order, what is known of their health, and every try at one.

That an upstream sleeps (a quota is spent, a login refused) is worth knowing after a restart, and to other instances:
it is told to `on_sleep`, and comes back as a `Note`.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import structlog

from waypost.clock import Clock
from waypost.delivery.advice import Advice, Case, Chosen, Known
from waypost.delivery.counted import CROWDED, Counted, is_taken
from waypost.delivery.facts import InFlight, Standings, unknown_in_flight
from waypost.delivery.forming import Former, is_rewritten_for
from waypost.delivery.paused import Paused
from waypost.delivery.quota_store import OwnCount
from waypost.delivery.quotas import Quotas, Reservation
from waypost.delivery.reforming import Reformed, with_reverse_path
from waypost.delivery.sender import Begun, Fit, Lent, Sender
from waypost.delivery.spool import Note
from waypost.mail.content import Content
from waypost.mail.message import Client, Envelope
from waypost.mail.outcome import Answer, Attempt, Cause, Failure, Phase, Stopped
from waypost.routing.classify import classify, quota_reset_in
from waypost.routing.health import Health, State
from waypost.routing.identity import sends_for
from waypost.routing.route import Member, Pool, Upstream
from waypost.routing.standing import NOTHING
from waypost.routing.strategies import Turns, order, sticky_key
from waypost.routing.verdict import HealthEffect, Kind, Verdict
from waypost.smtp import commands as c
from waypost.smtp.address import NULL
from waypost.smtp.client import Extensions
from waypost.smtp.values import quick

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


@quick
@dataclass(frozen=True, slots=True)
class Link:
    """A transaction under way at one upstream. `began` is on the monotonic clock, in seconds."""

    upstream: Upstream
    lent: Lent
    recipients: Sequence[Answer]
    dot: Answer | None
    began: float


@quick
@dataclass(frozen=True, slots=True)
class Judged:
    """One try that has ended, and what it means."""

    attempt: Attempt
    verdict: Verdict


class Candidates:
    """Chooses upstreams, opens transactions with them, and remembers how that went."""

    def __init__(
        self,
        sender: Sender,
        clock: Clock,
        chance: Callable[[], float],
        *,
        on_sleep: OnSleep = _unheard,
        quotas: Quotas | None = None,
        in_flight: InFlight = unknown_in_flight,
        advice: Advice | None = None,
        former: Former | None = None,
    ) -> None:
        self.on_sleep = on_sleep
        self.quotas = quotas or Quotas(OwnCount(clock.time), clock)
        self.paused = Paused()
        self.standings = Standings(clock, self.quotas, in_flight)
        self._sender = sender
        self._former = former
        self._clock = clock
        self._chance = chance
        self._advice = advice
        self._turns: dict[str, Turns] = {}
        self._health: defaultdict[str, Health] = defaultdict(Health)

    @property
    def health(self) -> Mapping[str, Health]:
        """What is known of each upstream that was ever tried."""
        return self._health

    def order(self, pool: Pool, envelope: Envelope, account: str | None) -> Sequence[Member]:
        """The members of a pool for one message, best first."""
        if len(pool.members) == 1:
            return pool.members
        turns = self._turns.get(pool.name)
        if turns is None:
            turns = self._turns[pool.name] = Turns()
        facts = NOTHING
        if not pool.is_plain:
            first = envelope.recipients[0].address if envelope.recipients else NULL
            key = sticky_key(pool, envelope.reverse_path, first, account)
            facts = self.standings.facts(pool, envelope.reverse_path, key)
        if self.paused:
            pool = self.paused.left_of(pool)
        return order(pool, turns, self._health, self._clock.monotonic(), self._chance, facts)

    async def advised(self, pool: Pool, case: Case) -> Chosen:
        """As `order`, but by the pool's plugin if it has an answer; or the reply that stops the message."""
        default = self.order(pool, case.envelope, case.client.account)
        if self._advice is None or pool.plugin is None:
            return default
        left = self.paused.left_of(pool) if self.paused else pool
        quotas = {m.upstream.name: self.quotas.states(m.upstream) for m in default if m.upstream.quotas}
        known = Known(self.standings.everything(left), self._health, quotas, self._clock.monotonic())
        return await self._advice.order(pool.plugin, pool, default, case, known)

    def usable(self, pool: Pool) -> Sequence[Member]:
        """The members of a pool that may be tried now; all of them when none may. Takes no turn."""
        now, health = self._clock.monotonic(), self._health
        if self.paused:
            pool = self.paused.left_of(pool)
        usable = [m for m in pool.members if (known := health.get(m.upstream.name)) is None or known.may_try(now)]
        if not pool.is_plain:
            usable = [member for member in usable if not self.wait(member.upstream)]
        return usable or pool.members

    def wait(self, upstream: Upstream) -> float:
        """Seconds until there is room in the upstream's quotas; 0 when there may be now."""
        return self.quotas.wait(upstream) if upstream.quotas else 0.0

    def sleeps(self, pool: Pool) -> bool:
        """Whether every member of a pool that is not paused is asleep: a quota is spent, a login refused."""
        now, health = self._clock.monotonic(), self._health
        members = self.paused.left_of(pool).members if self.paused else pool.members
        return all(
            (known := health.get(member.upstream.name)) is not None and known.state(now) is State.ASLEEP
            for member in members
        )

    async def begin(
        self,
        upstream: Upstream,
        envelope: Envelope,
        fit: Fit,
        *,
        client: Client,
        message_id: str,
        background: bool,
        content: Content | None = None,
    ) -> Link | Judged:
        """Opens a transaction; when that fails, the failure is already counted and judged.

        `fit` words the envelope for what the upstream offers. `content` may be sent along where that is possible:
        then the link has the answer to it. Raises OSError when it cannot be read.
        """
        reformed: Reformed | None = None
        if upstream.rewrite is not None and self._former is not None and is_rewritten_for(client):
            fit = with_reverse_path(fit, upstream.rewrite)
            reformed = Reformed(self._former, upstream, message_id, client, envelope.reverse_path)
            content = None if content is None else await reformed.of(content)
        began = self._clock.monotonic()
        health = self._health[upstream.name]
        if self.paused and upstream.name in self.paused:
            return self.decline(upstream, Failure(Phase.MAIL, Cause.PAUSED, f"{upstream.name} is paused"))
        reserved: Reservation | None = None
        crowded = 0
        if upstream.quotas or upstream.senders:
            most = self.quotas.most_recipients(upstream)
            if most is not None and len(envelope.recipients) > most:
                crowded = len(envelope.recipients) - most
                envelope, fit = replace(envelope, recipients=envelope.recipients[:most]), partial(_fit_first, fit, most)
            admitted = await self._admit(upstream, envelope)
            if isinstance(admitted, Failure):
                return self.judge(upstream, Phase.MAIL, admitted, began)
            reserved = admitted
        health.trial_started(began)
        try:
            begun: Begun | Stopped = await self._sender.begin(
                upstream, fit, client=client, background=background, content=content
            )
        except BaseException:
            health.trial_abandoned()
            if reserved is not None:  # what was sent along may have arrived
                reserved.settle(0 if content is None else reserved.recipients)
            raise
        if isinstance(begun, Stopped):
            if reserved is not None:
                reserved.settle(reserved.recipients if is_taken(begun.phase, begun.answer) else 0)
            return self.judge(upstream, begun.phase, begun.answer, began, phases=begun.phases)
        lent = begun.lent if reformed is None else reformed.lent(begun.lent)
        if reserved is not None:
            lent = Counted(lent, reserved, begun.recipients, begun.dot)
        answers = (*begun.recipients, *[CROWDED] * crowded) if crowded else begun.recipients
        return Link(upstream, lent, answers, begun.dot, began)

    def decline(self, upstream: Upstream, why: Failure) -> Judged:
        """An upstream that is not asked, for what is known beforehand."""
        return self.judge(upstream, why.phase, why, self._clock.monotonic())

    async def _admit(self, upstream: Upstream, envelope: Envelope) -> Reservation | Failure | None:
        """What is reserved of the upstream's quotas, if it has any, or why it is not asked at all."""
        if not sends_for(upstream, envelope.reverse_path):
            text = f"{upstream.name} does not send for <{envelope.reverse_path}> (`senders`)"
            return Failure(Phase.MAIL, Cause.SENDER, text)
        return await self.quotas.reserve(upstream, len(envelope.recipients)) if upstream.quotas else None

    def judge(
        self,
        upstream: Upstream,
        phase: Phase,
        answer: Answer,
        began: float,
        lent: Lent | None = None,
        phases: tuple[tuple[Phase, float], ...] = (),
    ) -> Judged:
        """What an answer means, with its effect on the upstream's health. `phases` are `lent`'s, if there is one."""
        verdict = classify(phase, answer)
        now = self._clock.monotonic()
        health = self._health[upstream.name]
        if verdict.health is not _NO_EFFECT or not health.is_closed:
            self._learn(upstream.name, health, answer, verdict, began, now)
        elif verdict.kind in _NO_FINDING:
            health.trial_abandoned()
        else:
            health.succeeded(now, began)
        if lent is None:
            attempt = Attempt(upstream.name, phase, answer, verdict.rule, now - began, phases=phases)
        else:
            dsn, took, phases = lent.extensions.dsn, now - began, lent.phases
            attempt = Attempt(upstream.name, phase, answer, verdict.rule, took, lent.reused, lent.tls, phases, dsn)
        self.standings.ended(attempt, verdict)
        return Judged(attempt, verdict)

    def probed(self, upstream: Upstream, stopped: Stopped | None, began: float) -> None:
        """A probe has ended, well or there. Its failure counts like one of mail; success hastens the next trial."""
        now, health = self._clock.monotonic(), self._health[upstream.name]
        if stopped is None:
            if health.hasten(now):
                log.info("upstream_hastened", upstream=upstream.name, reason="a probe found it well")
            return
        verdict = classify(stopped.phase, stopped.answer)
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
            self.on_sleep(name, 0, "")
        return True

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
                health.quota_spent(now, str(answer), None if reset is None else now + reset)
            case _ if verdict.kind in _NO_FINDING:
                health.trial_abandoned()
            case _:
                health.succeeded(now, began)
        state = health.state(now)
        if state is not before:
            _tell(name, state, health.describe(now), verdict)
        if verdict.health in _SLEEPS:
            self.on_sleep(name, self._clock.time() + health.back_at(now) - now, str(answer))
        elif was_asleep and state is State.CLOSED:
            self.on_sleep(name, 0, "")

    def restore(self, notes: Iterable[Note]) -> None:
        """Takes up what was remembered before a restart. Notes of other kinds are passed over."""
        for note in notes:
            self.slept(note)

    def slept(self, note: Note) -> None:
        """Takes up what another instance has found out: an upstream sleeps, or (`until` 0) is awake again.

        That one is paused, or resumed, likewise.
        """
        self.paused.learn(note)
        if note.kind != SLEEP:
            return
        now, health = self._clock.monotonic(), self._health[note.key]
        left = min(note.until - self._clock.time(), _LONGEST_SLEEP)
        if left > 0:
            health.sleep(now, now + left, note.value)
        elif health.is_asleep:
            health.succeeded(now)


def _fit_first(fit: Fit, most: int, extensions: Extensions) -> tuple[c.Mail, Sequence[c.Rcpt]] | Failure:
    """The first recipients of a transaction that has too many."""
    fitted = fit(extensions)
    return fitted if isinstance(fitted, Failure) else (fitted[0], fitted[1][:most])


def _tell(upstream: str, state: State, why: str, verdict: Verdict) -> None:
    """Says that an upstream is left alone from now on, or is well again."""
    if state is State.CLOSED:
        log.info("upstream_recovered", upstream=upstream)
    elif verdict.alert:
        log.error("upstream_down", upstream=upstream, state=state, reason=why, classification=verdict.rule)
    else:
        log.warning("upstream_down", upstream=upstream, state=state, reason=why, classification=verdict.rule)
