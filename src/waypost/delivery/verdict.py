"""What follows from an outcome: which recipients are done, which are tried again and when, which are dead."""

from dataclasses import dataclass

from waypost.delivery.backoff import next_attempt_at
from waypost.delivery.spool import Delivery, Settlement
from waypost.mail.message import Recipient
from waypost.mail.outcome import Answer, Cause, Failure, Outcome, Phase, Status
from waypost.routing.route import Backoff

BUSY_PAUSE = 5
"""Seconds until a delivery is tried again that found every connection in use."""

_BEFORE_MAIL = frozenset(
    {Phase.RESOLVE, Phase.CONNECT, Phase.TLS, Phase.GREETING, Phase.EHLO, Phase.STARTTLS, Phase.AUTH}
)
_OURS = frozenset({Cause.BUSY, Cause.SHUTDOWN})


@dataclass(frozen=True, slots=True)
class Verdict:
    """How to settle, and what to make of the target.

    `deaths` are the recipients of `settlement.dead` by reason. `reached` is None when no upstream was asked,
    False when none of the target could be spoken to, so that the next message would fare no better.
    """

    settlement: Settlement
    deaths: tuple[tuple[tuple[Recipient, ...], str], ...]
    relayed: bool
    reached: bool | None
    last_answer: str


def judge(delivery: Delivery, outcome: Outcome, backoff: Backoff, now: float, chance: float) -> Verdict:
    """The verdict on one attempt. `chance` is a random number from 0 to 1.

    In doubt counts as deferred: a copy is delivered at least once. A recipient that the outcome does not name
    is tried again, too.
    """
    for recipient in outcome.recipients:
        if recipient.status is not Status.RELAYED:
            break
    else:
        if len(outcome.recipients) == len(delivery.message.envelope.recipients):
            return Verdict(Settlement(delivery), (), True, True, "")
    relayed = outcome.having(Status.RELAYED)
    failed = outcome.having(Status.FAILED)
    final = {r.recipient for r in relayed} | {r.recipient for r in failed}
    again = tuple(r for r in delivery.message.envelope.recipients if r not in final)
    deferred = [r for r in outcome.recipients if r.status not in (Status.RELAYED, Status.FAILED)]
    last_answer = _said(deferred[-1].upstream, deferred[-1].answer) if deferred else "no answer"
    deaths = [(tuple(r.recipient for r in failed), _said(failed[0].upstream, failed[0].answer))] if failed else []
    reached = True if relayed or failed else _reached(outcome)
    at = 0.0
    if again and now >= delivery.expires_at:
        deaths.append((again, f"expired: {last_answer}"))
        again = ()
    elif again:
        later = now + BUSY_PAUSE if reached is None else next_attempt_at(backoff, delivery.attempts + 1, now, chance)
        at = min(later, delivery.expires_at)  # one last attempt when the time is over
    settlement = Settlement(
        delivery,
        again,
        at,
        tuple(r for recipients, _ in deaths for r in recipients),
        "; ".join(reason for _, reason in deaths) or last_answer,
        attempted=reached is not None,
    )
    return Verdict(settlement, tuple(deaths), bool(relayed), reached, last_answer)


def postponed(delivery: Delivery, reason: str, now: float, at: float) -> Verdict:
    """The verdict on a delivery that could not be tried, for a reason of ours."""
    recipients = delivery.message.envelope.recipients
    if now >= delivery.expires_at:
        return expired(delivery, reason)
    return Verdict(Settlement(delivery, recipients, at, reason=reason, attempted=False), (), False, None, reason)


def expired(delivery: Delivery, last_answer: str) -> Verdict:
    """The verdict on a delivery whose time is over, without another attempt."""
    recipients, reason = delivery.message.envelope.recipients, f"expired: {last_answer}"
    settlement = Settlement(delivery, dead=recipients, reason=reason, attempted=False)
    return Verdict(settlement, ((recipients, reason),), False, None, last_answer)


def _reached(outcome: Outcome) -> bool | None:
    answers = [r.answer for r in outcome.recipients]
    if answers and all(isinstance(a, Failure) and a.cause in _OURS for a in answers):
        return None
    if outcome.attempts:
        return not all(attempt.phase in _BEFORE_MAIL for attempt in outcome.attempts)
    return not all(isinstance(a, Failure) and a.phase in _BEFORE_MAIL for a in answers)


def _said(upstream: str, answer: Answer) -> str:
    return f"{upstream}: {answer}" if upstream else str(answer)
