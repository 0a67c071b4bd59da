"""Delivering where no client waits: each recipient gets its own way through the pool.

Before content goes to an upstream that intent is recorded. So after a crash it is known what may have been sent
where; and what an upstream was handed without answering for it stays in doubt until that is resolved by the route's
policy: by the same upstream (`retry-same`, and `tempfail` where the message is ours), by any (`failover`), or by
assuming the best (`assume-sent`).
"""

import asyncio
import errno
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import structlog

from waypost.clock import Clock
from waypost.delivery.authorship import foreign_author
from waypost.delivery.candidates import Candidates, Judged, Link
from waypost.delivery.choice import Choice
from waypost.delivery.findings import Answered, Findings
from waypost.delivery.pace import Pace
from waypost.delivery.reporting import DeliveryLog
from waypost.delivery.sender import by_answer, fit, lacks_8bitmime
from waypost.delivery.spool import Delivery, SpoolError
from waypost.mail.content import Content
from waypost.mail.message import Envelope, Recipient
from waypost.mail.outcome import Answer, Outcome, Phase, Role, Status
from waypost.routing.route import InDoubtPolicy, Member, Pool, Upstream
from waypost.routing.verdict import Kind
from waypost.smtp.reply import Reply

AT_ONCE = 64 * 1024
"""Octets of content that may be sent along with MAIL: beyond that nothing is sent in vain."""

Intend = Callable[[Delivery, str], Awaitable[None]]
"""Records that content is about to go to the upstream of this name. Raises `SpoolError`; then it does not go."""

_PAUSED = 600.0  # seconds until it is looked again whether somebody has resumed them; a resume wakes the lane at once
_PASSING = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EINTR})
"""Errors of reading that say nothing of what is read."""

_log = structlog.get_logger(__name__)


class Carrier:
    """Makes attempts: one at a time for each delivery, any number side by side."""

    def __init__(self, candidates: Candidates, intend: Intend, log: DeliveryLog, clock: Clock) -> None:
        self.candidates = candidates
        self.intend = intend
        self.log = log
        self.pace = Pace(clock)
        self.choice = Choice(candidates, self.pace)
        self.on_record: dict[int, str] = {}
        """The upstream of the last intent, by the id of a delivery that runs."""

    def pause(self, pool: Pool) -> float:
        """Seconds until an upstream of the pool that may be tried may be given another message."""
        if self.candidates.availability.paused.holds(pool):
            return _PAUSED
        if len(pool.members) == 1:
            return self._wait(pool.members[0].upstream)
        usable = self.candidates.usable(pool)
        return min(self._wait(member.upstream) for member in usable)

    def _wait(self, upstream: Upstream) -> float:
        wait = self.pace.wait(upstream)
        return max(wait, self.candidates.wait(upstream)) if upstream.quotas else wait

    def sleeps(self, pool: Pool) -> bool:
        """Whether all upstreams of the pool have said that they take nothing for a while."""
        return self.candidates.availability.sleeps(pool)

    async def announce(self, deliveries: Sequence[Delivery], pool: Pool) -> None:
        """Records together the intents of copies that will be delivered to this pool. Does not raise.

        One that is announced and not delivered must be settled all the same, else it is in doubt after a restart.
        """
        if len(pool.members) > 1 or pool.plugin is not None:
            return  # which of them will be tried is not known yet
        name = pool.members[0].upstream.name
        small = [each for each in deliveries if each.message.content.size <= AT_ONCE and each.doubt != name]
        try:
            await asyncio.gather(*(self.intend(delivery, name) for delivery in small))
        except SpoolError:
            return  # each will see for itself
        self.on_record.update((delivery.id, name) for delivery in small)

    def settled(self, delivery: Delivery) -> None:
        """The outcome is recorded, and with it the intent is gone."""
        self.on_record.pop(delivery.id, None)

    async def deliver(self, delivery: Delivery, pool: Pool, policy: InDoubtPolicy) -> Outcome:
        """Makes one attempt, with failover, and says what became of each recipient. Does not raise.

        `policy` is the route's; copies have `retry-same`.
        """
        attempt = _Attempt(self, delivery, pool, policy)
        if delivery.doubt is not None:
            await self.log.recorded()  # that it is in doubt, before it is sent again
        pending: Sequence[Recipient] = delivery.message.envelope.recipients
        try:
            members: Sequence[Member] | Outcome
            if pool.plugin is None:
                members = self.choice.members(delivery, pool, policy)
            else:
                members = await self.choice.advised(delivery, pool, policy)
                if isinstance(members, Outcome):
                    return members
            for member in members:
                pending = await attempt.at(member.upstream, pending)
                if not pending or attempt.is_over:
                    break
        except SpoolError as error:
            return attempt.broken_off(Status.DEFERRED, f"the spool cannot be written: {error}")
        except OSError as error:
            fault = _fault_of(delivery.message.content)
            if fault is not None:
                return attempt.broken_off(Status.FAILED, f"the content cannot be read: {fault}")
            return attempt.broken_off(Status.DEFERRED, str(error))
        except Exception as error:  # a defect of ours must cost neither the message nor the knowledge of a doubt
            _log.error("a delivery broke", message=delivery.message.id, exc_info=error)
            return attempt.broken_off(Status.DEFERRED, f"internal error: {type(error).__name__}")
        return attempt.outcome(pending)


class _Attempt(Findings):
    """One attempt at one delivery."""

    __slots__ = ("_carrier", "_is_copy")

    def __init__(self, carrier: Carrier, delivery: Delivery, pool: Pool, policy: InDoubtPolicy) -> None:
        super().__init__(delivery, pool, policy, carrier.log)
        self._carrier = carrier
        self._is_copy = delivery.role is Role.COPY

    async def at(self, upstream: Upstream, pending: Sequence[Recipient]) -> Sequence[Recipient]:
        """One upstream, in as many transactions as it takes; the recipients that should go on to the next.

        Raises `SpoolError` when the intent cannot be recorded, `OSError` when the content cannot be read.
        """
        carrier = self._carrier
        onward: list[Recipient] = []
        group = tuple(pending)
        while group:
            content = self._delivery.message.content
            link = await self._begin(upstream, group, content)
            if isinstance(link, Judged):
                self._intended = None
                self._ended(link)
                if link.verdict.kind is Kind.IN_DOUBT:
                    return [*onward, *self._doubted(group, link)]
                if link.verdict.fail_over:
                    self._note(group, link)
                    return [*onward, *group]
                self._settle(group, Status.FAILED, link)
                return onward
            accepted, crowded = self._sorted(link, group, onward)
            if not accepted:
                link.lent.release()
                self._intended = None
                if crowded:  # too many even alone: no further transaction would change that
                    onward += crowded
                return onward
            if link.dot is None:
                answered = await self._content(content, link, accepted)
            else:
                answered = self._judged(link, Phase.DOT, link.dot, accepted)
                link.lent.release()
            self._intended = None
            for recipients, judged in answered:
                self._ended(judged, recipients)
                onward += self._concluded(recipients, judged)
            if any(judged.verdict.kind is Kind.IN_DOUBT for _, judged in answered):
                await carrier.log.recorded()  # before it is sent again
            if self.is_over or (len(answered) == 1 and answered[0][1].verdict.fail_over):
                return [*onward, *crowded]
            group = tuple(crowded)
        return onward

    # -- steps

    async def _begin(self, upstream: Upstream, group: tuple[Recipient, ...], content: Content) -> Link | Judged:
        """Opens a transaction. A copy that is small may leave in one write with it, and is intended before."""
        carrier = self._carrier
        message = self._delivery.message
        envelope = message.envelope
        if upstream.senders and (foreign := foreign_author(upstream, envelope.reverse_path, content)) is not None:
            return carrier.candidates.decline(upstream, foreign)
        along = content if self._is_copy and content.size <= AT_ONCE else None
        if along is not None:
            await self._intend(upstream)
        if len(group) != len(envelope.recipients):
            envelope = Envelope(envelope.reverse_path, group, envelope.parameters)
        worded = partial(fit, envelope, quiet=self._is_copy, each=len(group) > 1)
        if upstream.rate is not None:
            carrier.pace.take(upstream)
        return await carrier.candidates.begin(
            *(upstream, envelope, worded),
            client=message.client,
            message_id=message.id,
            background=True,
            content=along,
        )

    def _sorted(
        self, link: Link, group: Sequence[Recipient], onward: list[Recipient]
    ) -> tuple[list[Recipient], list[Recipient]]:
        """Those accepted, and those for whom there was no room in this transaction."""
        accepted: list[Recipient] = []
        crowded: list[Recipient] = []
        for recipient, answer in zip(group, link.recipients, strict=True):
            # Without an answer, though the content was sent along: what there is of an answer to that decides.
            if answer.is_positive if isinstance(answer, Reply) else link.dot is not None:
                accepted.append(recipient)
                continue
            judged = self._carrier.candidates.judge(link.upstream, Phase.RCPT, answer, link.began, link.lent)
            if judged.verdict.kind is Kind.TOO_MANY_RECIPIENTS:
                self._note((recipient,), judged)
                crowded.append(recipient)
            elif judged.verdict.fail_over:
                self._note((recipient,), judged)
                onward.append(recipient)
            else:
                self._settle((recipient,), Status.FAILED, judged)
        return accepted, crowded

    async def _content(self, content: Content, link: Link, accepted: Sequence[Recipient]) -> Answered:
        lent = link.lent
        try:
            answer: Answer
            if (lacking := lacks_8bitmime(content, lent.extensions)) is not None:
                phase, answer = Phase.DATA, lacking
            else:
                await self._intend(link.upstream)
                phase, answer = await lent.send(content)
            answered = self._judged(link, phase, answer, accepted)
        finally:
            lent.release()
        if answered[0][1].verdict.kind is Kind.LOCAL:
            self._intended = None  # it was broken off before the dot
            raise OSError(str(answer))
        return answered

    def _judged(self, link: Link, phase: Phase, answer: Answer, accepted: Sequence[Recipient]) -> Answered:
        """What the content came to: for all who were accepted, or for those who were given the same answer, each."""
        judge, lent = self._carrier.candidates.judge, link.lent
        verdicts = lent.verdicts(answer)
        if not verdicts:
            return ((accepted, judge(link.upstream, phase, answer, link.began, lent)),)
        return [
            (recipients, judge(link.upstream, phase, each, link.began, lent, each=True))
            for each, recipients in by_answer(accepted, verdicts)
        ]

    async def _intend(self, upstream: Upstream) -> None:
        name = upstream.name
        if self._intended != name:
            delivery, on_record = self._delivery, self._carrier.on_record
            if on_record.get(delivery.id, delivery.doubt) != name:
                await self._carrier.intend(delivery, name)
                on_record[delivery.id] = name
            self._intended = name


def _fault_of(content: Content) -> OSError | None:
    """Why the content cannot be read, now or ever; None when it can, or when trying again may help."""
    try:
        for _ in content.chunks():
            pass
    except OSError as error:
        return None if error.errno in _PASSING else error
    return None
