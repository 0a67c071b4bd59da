"""From a verdict to what is recorded and told: who gets copies now, who is notified, what becomes a dead letter."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import structlog

from waypost.delivery.copies import planned_copies
from waypost.delivery.notices import Notices, Notifier
from waypost.delivery.reporting import DeliveryLog
from waypost.delivery.spool import Delivery, Planned, Settlement
from waypost.delivery.verdict import Verdict, said
from waypost.mail.message import Recipient
from waypost.mail.outcome import Answer, Attempt, Outcome, Phase, RecipientOutcome, Role, Status
from waypost.routing.route import Route

_COPY = Role.COPY  # members of an Enum are looked up by its metaclass before Python 3.12
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Follower:
    """Makes settlements, and tells of them once they are recorded. `chance` gives numbers from 0 to 1, for samples."""

    notifier: Notifier
    log: DeliveryLog
    chance: Callable[[], float]

    def settle(
        self, delivery: Delivery, role: Role, verdict: Verdict, outcome: Outcome, route: Route | None, now: float
    ) -> Settlement:
        """What follows from a verdict. `route` is the delivery's, None when it is not configured any more."""
        if role is not _COPY:
            return self._settle_primary(delivery, verdict, outcome, route, now)
        if not verdict.again and not verdict.failed:
            return Settlement(delivery)
        return _settlement(delivery, verdict, verdict.failed)

    def tell(self, delivery: Delivery, verdict: Verdict, outcome: Outcome, settlement: Settlement) -> None:
        """Tells the log what was settled: after it was recorded, for a fault here must not undo that."""
        if verdict.relayed:
            for attempt, relayed in _by_attempt(verdict.relayed, outcome):
                self.log.relayed(delivery, [each.recipient for each in relayed], attempt)
            if not verdict.again and not verdict.failed:
                return
        if outcome.recipients:  # else it was not tried
            for fates in _by_answer(verdict.again):
                self.log.deferred(delivery, fates, verdict.at)
        if delivery.role is Role.PRIMARY:
            for fates in _by_answer(verdict.failed):
                self.log.failed(delivery, fates)
        if settlement.dead:
            dead = [each for each in verdict.failed if each.recipient in settlement.dead]
            for reason, recipients in _by_reason(dead).items():
                self.log.dead(delivery, recipients, reason)

    def _settle_primary(
        self, delivery: Delivery, verdict: Verdict, outcome: Outcome, route: Route | None, now: float
    ) -> Settlement:
        copies: tuple[Planned, ...] = ()
        if verdict.relayed and route is not None and route.copies:
            recipients = tuple(each.recipient for each in verdict.relayed)
            copies = planned_copies(route, recipients, now, self.chance)
        warned = delivery.warned
        notices: Notices = ()
        dead: Sequence[RecipientOutcome] = verdict.failed
        try:
            if verdict.failed:
                more, silent = self.notifier.failed(delivery, verdict.failed, now)
                notices += more
                untold = set(silent)
                dead = [each for each in verdict.failed if each.recipient in untold]
            for attempt, relayed in _by_attempt(verdict.relayed, outcome):
                notices += self.notifier.relayed(delivery, relayed, attempt, now)
            if verdict.again and not warned and _is_late(delivery, route, now):
                notices += self.notifier.delayed(delivery, verdict.again, now)
                warned = True
        except Exception as error:  # a defect of ours must not cost the outcome: it would be delivered again
            _log.error("a notice broke", message=delivery.message.id, exc_info=error)
            if not notices:
                dead = verdict.failed
        if verdict.doubt is not None and route is not None and len(route.primary.members) > 1:
            verdict, apart = _apart(delivery, verdict)
            copies += apart
        return _settlement(delivery, verdict, dead, warned, copies, notices)


def _apart(delivery: Delivery, verdict: Verdict) -> tuple[Verdict, tuple[Planned, ...]]:
    """A delivery of their own, due now, for those who are not in doubt: others may be asked for them."""
    doubted = tuple(each for each in verdict.again if each.status is Status.IN_DOUBT)
    free = tuple(each.recipient for each in verdict.again if each.status is not Status.IN_DOUBT)
    if not free:
        return verdict, ()
    planned = Planned(delivery.lane, delivery.route, delivery.expires_at, free)
    return replace(verdict, again=doubted), (planned,)


def _settlement(
    delivery: Delivery,
    verdict: Verdict,
    dead: Sequence[RecipientOutcome],
    warned: bool = False,
    copies: tuple[Planned, ...] = (),
    notices: Notices = (),
) -> Settlement:
    reasons = list(_by_reason(dead))
    if not reasons and verdict.again:
        reasons.append(said(verdict.again[-1]))
    return Settlement(
        delivery,
        tuple(each.recipient for each in verdict.again),
        verdict.at,
        verdict.doubt,
        warned and bool(verdict.again),
        tuple(each.recipient for each in dead),
        "; ".join(reasons),
        verdict.reached is not None,
        copies,
        notices,
    )


def _is_late(delivery: Delivery, route: Route | None, now: float) -> bool:
    if route is None or route.delay_warning is None:
        return False
    return now - delivery.message.received_at >= route.delay_warning


def _by_reason(dead: Sequence[RecipientOutcome]) -> dict[str, list[Recipient]]:
    reasons: dict[str, list[Recipient]] = {}
    for each in dead:
        reason = said(each) if each.status is Status.FAILED else f"expired: {said(each)}"
        reasons.setdefault(reason, []).append(each.recipient)
    return reasons


def _by_answer(fates: Sequence[RecipientOutcome]) -> Iterable[Sequence[RecipientOutcome]]:
    """Those who were given the same answer, together."""
    groups: dict[tuple[str, Answer], list[RecipientOutcome]] = {}
    for fate in fates:
        groups.setdefault((fate.status, fate.answer), []).append(fate)
    return groups.values()


def _by_attempt(
    relayed: Sequence[RecipientOutcome], outcome: Outcome
) -> Sequence[tuple[Attempt, Sequence[RecipientOutcome]]]:
    """Who was relayed at which attempt: one upstream may have taken the message in several transactions."""
    if not relayed:
        return ()
    if len(outcome.attempts) == 1:
        return ((outcome.attempts[0], relayed),)
    groups: list[tuple[Attempt, Sequence[RecipientOutcome]]] = []
    rest = list(relayed)
    for attempt in outcome.attempts:
        here = [each for each in rest if each.answer is attempt.answer]
        if here:
            rest = [each for each in rest if each.answer is not attempt.answer]
            groups.append((attempt, here))
    if rest:  # at an attempt that the outcome does not tell of
        groups.append((Attempt(rest[0].upstream, Phase.DOT, rest[0].answer, "accepted", 0.0), rest))
    return groups
