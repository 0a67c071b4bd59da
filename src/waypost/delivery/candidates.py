"""The upstreams that may take a message: their order, and every try at one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from waypost.clock import Clock
from waypost.delivery.advice import Advice, Case, Chosen, Known
from waypost.delivery.availability import Availability
from waypost.delivery.counted import CROWDED, Counted, is_taken
from waypost.delivery.facts import InFlight, Standings, unknown_in_flight
from waypost.delivery.forming import Former, is_rewritten_for
from waypost.delivery.quota_store import OwnCount
from waypost.delivery.quotas import Quotas, Reservation
from waypost.delivery.reforming import Reformed, with_reverse_path
from waypost.delivery.sender import Begun, Fit, Lent, Sender
from waypost.mail.content import Content
from waypost.mail.message import Client, Envelope
from waypost.mail.outcome import Answer, Attempt, Cause, Failure, Phase, Stopped
from waypost.routing.classify import classify, classify_verdict
from waypost.routing.identity import sends_for
from waypost.routing.route import Member, Pool, Upstream
from waypost.routing.standing import NOTHING
from waypost.routing.strategies import Ordering, Turns, explain, order, sticky_key
from waypost.routing.verdict import Verdict
from waypost.smtp import commands as c
from waypost.smtp.address import NULL, Address
from waypost.smtp.client import Extensions
from waypost.smtp.values import quick


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
    """Chooses upstreams by their `availability`, opens transactions with them, and says there how that went."""

    def __init__(
        self,
        sender: Sender,
        clock: Clock,
        chance: Callable[[], float],
        *,
        availability: Availability | None = None,
        quotas: Quotas | None = None,
        in_flight: InFlight = unknown_in_flight,
        advice: Advice | None = None,
        former: Former | None = None,
    ) -> None:
        self.availability = availability or Availability(clock)
        self.quotas = quotas or Quotas(OwnCount(clock.time), clock)
        self.standings = Standings(clock, self.quotas, in_flight)
        self._sender = sender
        self._former = former
        self._clock = clock
        self._chance = chance
        self._advice = advice
        self._turns: dict[str, Turns] = {}
        self._health = self.availability.health
        self._paused = self.availability.paused

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
        if self._paused:
            pool = self._paused.left_of(pool)
        return order(pool, turns, self._health, self._clock.monotonic(), self._chance, facts)

    def ordering(self, pool: Pool, reverse_path: Address, recipient: Address, account: str | None) -> Ordering:
        """The order that a message would find now, and why. Takes no turn, and asks no plugin."""
        key = sticky_key(pool, reverse_path, recipient, account)
        facts = self.standings.facts(pool, reverse_path, key)
        turns, now = self._turns.get(pool.name, Turns()), self._clock.monotonic()
        return explain(self._paused.left_of(pool), turns, self._health, now, self._chance, facts)

    async def advised(self, pool: Pool, case: Case) -> Chosen:
        """As `order`, but by the pool's plugin if it has an answer; or the reply that stops the message."""
        default = self.order(pool, case.envelope, case.client.account)
        if self._advice is None or pool.plugin is None:
            return default
        left = self._paused.left_of(pool) if self._paused else pool
        quotas = {m.upstream.name: self.quotas.states(m.upstream) for m in default if m.upstream.quotas}
        known = Known(self.standings.everything(left), self._health, quotas, self._clock.monotonic())
        return await self._advice.order(pool.plugin, left, default, case, known)

    def usable(self, pool: Pool) -> Sequence[Member]:
        """The members of a pool that may be tried now; all of them when none may. Takes no turn."""
        now, health = self._clock.monotonic(), self._health
        if self._paused:
            pool = self._paused.left_of(pool)
        usable = [m for m in pool.members if (known := health.get(m.upstream.name)) is None or known.may_try(now)]
        if not pool.is_plain:
            usable = [member for member in usable if not self.wait(member.upstream)]
        return usable or pool.members

    def wait(self, upstream: Upstream) -> float:
        """Seconds until there is room in the upstream's quotas; 0 when there may be now."""
        return self.quotas.wait(upstream) if upstream.quotas else 0.0

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
        began = self._clock.monotonic()
        health = self.availability.of(upstream.name)
        if self._paused and upstream.name in self._paused:
            return self.decline(upstream, Failure(Phase.MAIL, Cause.PAUSED, f"{upstream.name} is paused"))
        reformed: Reformed | None = None
        if upstream.rewrite is not None and self._former is not None and is_rewritten_for(client):
            fit = with_reverse_path(fit, upstream.rewrite)
            reformed = Reformed(self._former, upstream, message_id, client, envelope.reverse_path)
            content = None if content is None else await reformed.of(content)
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
        if reformed is not None and (begun.phase is Phase.DOT if isinstance(begun, Stopped) else begun.dot is not None):
            reformed.tell()  # it was sent along
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
        *,
        each: bool = False,
    ) -> Judged:
        """What an answer means (`each`: for one recipient) and its effect on health. `phases` are `lent`'s, if any."""
        verdict = classify_verdict(answer) if each else classify(phase, answer, upstream.replies)
        now = self._clock.monotonic()
        self.availability.judged(upstream.name, answer, verdict, began, now)
        if lent is None:
            attempt = Attempt(upstream.name, phase, answer, verdict.rule, now - began, phases=phases)
        else:
            dsn, took, phases = lent.extensions.dsn, now - began, lent.phases
            attempt = Attempt(upstream.name, phase, answer, verdict.rule, took, lent.reused, lent.tls, phases, dsn)
        self.standings.ended(attempt, verdict)
        return Judged(attempt, verdict)


def _fit_first(fit: Fit, most: int, extensions: Extensions) -> tuple[c.Mail, Sequence[c.Rcpt]] | Failure:
    """The first recipients of a transaction that has too many."""
    fitted = fit(extensions)
    return fitted if isinstance(fitted, Failure) else (fitted[0], fitted[1][:most])
