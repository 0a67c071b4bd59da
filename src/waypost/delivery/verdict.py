"""What follows from an outcome: which recipients are done, which are tried again and when, which are given up."""

from dataclasses import dataclass, replace

from waypost.delivery.backoff import next_attempt_at
from waypost.delivery.spool import Delivery
from waypost.mail.message import Recipient
from waypost.mail.outcome import Cause, Failure, Outcome, Phase, RecipientOutcome, Status
from waypost.routing.route import Backoff
from waypost.smtp.values import quick

BUSY_PAUSE = 5
"""Seconds until a delivery is tried again that found every connection in use."""

FAULT_PAUSE = 60
"""Seconds until a delivery is tried again that could not be tried for a fault of ours."""

_BEFORE_MAIL = frozenset(
    {Phase.RESOLVE, Phase.CONNECT, Phase.TLS, Phase.GREETING, Phase.EHLO, Phase.STARTTLS, Phase.AUTH}
)
_WEIGHTS = {Status.DEFERRED: 0, Status.IN_DOUBT: 1, Status.FAILED: 2, Status.RELAYED: 3}
_RELAYED = Status.RELAYED  # members of an Enum are looked up by its metaclass before Python 3.12
_NO_ANSWER = Failure(Phase.MAIL, Cause.LOCAL, "no answer")


@quick
@dataclass(frozen=True, slots=True)
class Verdict:
    """Every recipient that is owed, in exactly one of `relayed`, `again` and `failed`.

    Of those that failed, `Status.FAILED` was refused; for any other status the time is over. `reached` is None when
    no upstream was asked, False when none could be spoken to, so that the next message would fare no better.
    """

    relayed: tuple[RecipientOutcome, ...] = ()
    again: tuple[RecipientOutcome, ...] = ()
    failed: tuple[RecipientOutcome, ...] = ()
    at: float = 0.0  # of `again`, in seconds since the epoch
    doubt: str | None = None  # the upstream that may have the message for some of `again`
    reached: bool | None = True
    is_busy: bool = False  # nothing but a free connection was lacking


def judge(
    delivery: Delivery, outcome: Outcome, backoff: Backoff, now: float, chance: float, *, assume_sent: bool = False
) -> Verdict:
    """The verdict on one attempt. `chance` is a random number from 0 to 1.

    In doubt counts as deferred, or with `assume_sent` as relayed. A recipient that the outcome does not name is
    tried again; of several fates the most final counts.
    """
    owed, named = delivery.message.envelope.recipients, outcome.recipients
    if len(owed) == len(named):
        for recipient, fate in zip(owed, named, strict=True):
            if fate.status is not _RELAYED or fate.recipient is not recipient:
                break
        else:
            return Verdict(named)
    relayed: list[RecipientOutcome] = []
    again: list[RecipientOutcome] = []
    failed: list[RecipientOutcome] = []
    for fate in _fates(owed, named):
        match fate.status:
            case Status.RELAYED:
                relayed.append(fate)
            case Status.FAILED:
                failed.append(fate)
            case Status.IN_DOUBT if assume_sent:
                relayed.append(replace(fate, status=Status.RELAYED))
            case _:
                again.append(fate)
    reached = True if relayed or any(not _is_ours(fate) for fate in failed) else _reached(outcome, again)
    is_busy = bool(again) and all(_is_for(fate, Cause.BUSY) for fate in again)
    if again and now >= delivery.expires_at:
        return Verdict(tuple(relayed), (), (*failed, *again), reached=reached)
    at = 0.0
    if again:
        if reached is None:
            later = now + (BUSY_PAUSE if is_busy else FAULT_PAUSE)
        else:
            later = next_attempt_at(backoff, delivery.attempts + 1, now, chance)
        at = min(later, delivery.expires_at)  # one last attempt when the time is over
    doubt = next((fate.upstream for fate in again if fate.status is Status.IN_DOUBT), None)
    is_busy = is_busy and not relayed and not failed
    return Verdict(tuple(relayed), tuple(again), tuple(failed), at, doubt, reached, is_busy)


def postponed(delivery: Delivery, reason: str, now: float) -> Verdict:
    """The verdict on a delivery that could not be tried, for a reason of ours."""
    last = RecipientOutcome(
        delivery.message.envelope.recipients[0], Status.DEFERRED, Failure(Phase.MAIL, Cause.LOCAL, reason), ""
    )
    if now >= delivery.expires_at:
        return expired(delivery, last)
    again = _like(delivery, last)
    at = min(now + FAULT_PAUSE, delivery.expires_at)
    return Verdict(again=again, at=at, doubt=delivery.doubt, reached=None)


def expired(delivery: Delivery, last: RecipientOutcome) -> Verdict:
    """The verdict on a delivery whose time is over, without another attempt; `last` has the last answer known."""
    return Verdict(failed=_like(delivery, last), reached=None)


def said(fate: RecipientOutcome) -> str:
    """The answer that decided, for people; with `expired` in front when it was the time that decided."""
    words = f"{fate.upstream}: {fate.answer}" if fate.upstream else str(fate.answer)
    if isinstance(fate.answer, Failure) and fate.answer.cause is Cause.LOCAL:
        words = fate.answer.text
    return words


def _like(delivery: Delivery, last: RecipientOutcome) -> tuple[RecipientOutcome, ...]:
    return tuple(replace(last, recipient=recipient) for recipient in delivery.message.envelope.recipients)


def _fates(owed: tuple[Recipient, ...], named: tuple[RecipientOutcome, ...]) -> list[RecipientOutcome]:
    """One fate for each recipient."""
    fates: dict[Recipient, RecipientOutcome] = {}
    for fate in named:
        known = fates.get(fate.recipient)
        if known is None or _WEIGHTS[fate.status] > _WEIGHTS[known.status]:
            fates[fate.recipient] = fate
    return [
        fates.get(recipient) or RecipientOutcome(recipient, Status.DEFERRED, _NO_ANSWER, "")
        for recipient in dict.fromkeys(owed)
    ]


def _is_for(fate: RecipientOutcome, *causes: Cause) -> bool:
    return isinstance(fate.answer, Failure) and fate.answer.cause in causes


def _is_ours(fate: RecipientOutcome) -> bool:
    return _is_for(fate, Cause.BUSY, Cause.QUOTA, Cause.PAUSED, Cause.SHUTDOWN, Cause.LOCAL)


def _reached(outcome: Outcome, again: list[RecipientOutcome]) -> bool | None:
    if all(map(_is_ours, again)):
        return None
    if outcome.attempts:
        return not all(attempt.phase in _BEFORE_MAIL for attempt in outcome.attempts)
    return not all(isinstance(fate.answer, Failure) and fate.answer.phase in _BEFORE_MAIL for fate in again)
