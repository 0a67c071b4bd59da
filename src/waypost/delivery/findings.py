"""What an attempt at a delivery has found out so far: for each recipient what is decided, and what the first said."""

from collections.abc import Sequence
from dataclasses import replace

from waypost.delivery.candidates import Judged
from waypost.delivery.reporting import DeliveryLog
from waypost.delivery.spool import Delivery
from waypost.mail.message import Recipient
from waypost.mail.outcome import Answer, Attempt, Cause, Failure, Outcome, Phase, RecipientOutcome, Status
from waypost.routing.route import InDoubtPolicy, Pool
from waypost.routing.verdict import Kind

Answered = Sequence[tuple[Sequence[Recipient], Judged]]
"""What content came to, for whom: one entry when all were given one answer."""


def _for(delivery: Delivery, recipients: Sequence[Recipient]) -> Delivery:
    """The delivery as far as it is about these recipients."""
    message = delivery.message
    if not recipients or len(recipients) == len(message.envelope.recipients):
        return delivery
    envelope = replace(message.envelope, recipients=tuple(recipients))
    return replace(delivery, message=replace(message, envelope=envelope))


class Findings:
    """One attempt at one delivery, as far as it is known. What is done to know more is in `transfer`."""

    __slots__ = (
        "_attempts",
        "_delivery",
        "_done",
        "_doubt",
        "_first",
        "_in_doubt",
        "_intended",
        "_log",
        "_permanent",
        "_policy",
        "_pool",
        "is_over",
    )

    def __init__(self, delivery: Delivery, pool: Pool, policy: InDoubtPolicy, log: DeliveryLog) -> None:
        self._delivery = delivery
        self._pool = pool
        self._policy = policy
        self._log = log
        self._done: list[RecipientOutcome] = []
        self._attempts: list[Attempt] = []
        self._first: dict[Recipient, tuple[Answer, str]] = {}  # what the first-choice upstream said
        self._permanent: dict[Recipient, bool] = {}
        self._doubt = delivery.doubt  # the upstream that may have the message for `_in_doubt`
        self._in_doubt: set[Recipient] = set() if delivery.doubt is None else set(delivery.message.envelope.recipients)
        self._intended: str | None = None  # the upstream that content is going to now
        self.is_over = False
        """Whether no other upstream may be asked: what is in doubt waits for the one that may have it."""

    @property
    def _stays(self) -> bool:
        """Whether what is in doubt is tried nowhere but at the same upstream."""
        return self._policy != "failover"

    def outcome(self, pending: Sequence[Recipient]) -> Outcome:
        """What the attempt came to, when nobody is left who could be asked for those that are pending."""
        for recipient in pending:
            answer, upstream = self._first[recipient]
            if recipient in self._in_doubt and self._doubt is not None:
                status, upstream = Status.IN_DOUBT, self._doubt
            else:
                status = Status.FAILED if self._permanent[recipient] else Status.DEFERRED
            self._done.append(RecipientOutcome(recipient, status, answer, upstream))
        return Outcome(tuple(self._done), tuple(self._attempts))

    def broken_off(self, status: Status, reason: str) -> Outcome:
        """What the attempt came to, when it cannot go on for a reason of ours."""
        doubt = self._intended or self._doubt
        done = {each.recipient for each in self._done}
        failure = Failure(Phase.CONTENT, Cause.LOCAL, reason)
        for recipient in self._delivery.message.envelope.recipients:
            if recipient not in done:
                fate, upstream = status, ""
                if doubt and status is Status.DEFERRED and (self._intended or recipient in self._in_doubt):
                    fate, upstream = Status.IN_DOUBT, doubt
                self._done.append(RecipientOutcome(recipient, fate, failure, upstream))
        return Outcome(tuple(self._done), tuple(self._attempts))

    def _concluded(self, recipients: Sequence[Recipient], judged: Judged) -> Sequence[Recipient]:
        """The content went to these recipients, with this answer; those of them who go on to the next upstream."""
        match judged.verdict.kind:
            case Kind.ACCEPTED:
                self._settle(recipients, Status.RELAYED, judged)
            case Kind.IN_DOUBT:
                return self._doubted(recipients, judged)
            case _ if judged.verdict.fail_over:
                self._resolve(recipients, judged.attempt.upstream)
                self._note(recipients, judged)
                return recipients
            case _:
                self._settle(recipients, Status.FAILED, judged)
        return ()

    def _ended(self, judged: Judged, recipients: Sequence[Recipient] = ()) -> None:
        """One attempt more; `recipients` are those it was about, if not all that are owed."""
        self._attempts.append(judged.attempt)
        if judged.verdict.kind is Kind.IN_DOUBT:
            self._log.in_doubt(_for(self._delivery, recipients), judged.attempt)
        elif judged.verdict.kind is not Kind.ACCEPTED:
            self._log.attempted(self._delivery.message.id, judged.attempt, self._delivery.role)

    def _settle(self, recipients: Sequence[Recipient], status: Status, judged: Judged) -> None:
        """These recipients' fate is decided."""
        attempt = judged.attempt
        self._done += [RecipientOutcome(r, status, attempt.answer, attempt.upstream) for r in recipients]

    def _note(self, recipients: Sequence[Recipient], judged: Judged) -> None:
        """These recipients go on to the next upstream."""
        attempt, permanent = judged.attempt, not judged.verdict.transient
        if permanent and attempt.upstream == self._doubt:
            # It does not want them, nor did it: the others may be asked, the next time if not at once.
            self._resolve(recipients, attempt.upstream)
            permanent = len(self._pool.members) == 1 or not self._stays
        for recipient in recipients:
            self._first.setdefault(recipient, (attempt.answer, attempt.upstream))
            self._permanent[recipient] = self._permanent.get(recipient, True) and permanent

    def _doubted(self, recipients: Sequence[Recipient], judged: Judged) -> Sequence[Recipient]:
        """The upstream may have the message for these recipients; those of them who go on to the next."""
        self._doubt = judged.attempt.upstream
        self._in_doubt.update(recipients)
        if self._stays:
            self._settle(recipients, Status.IN_DOUBT, judged)
            self.is_over = True
            return ()
        self._note(recipients, judged)
        return recipients

    def _resolve(self, recipients: Sequence[Recipient], upstream: str) -> None:
        """This upstream has answered for these recipients: if they were in doubt there, they are no more."""
        if upstream == self._doubt:
            self._in_doubt.difference_update(recipients)
