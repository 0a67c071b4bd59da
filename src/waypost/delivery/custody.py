"""Takes a message that may become ours: acceptance modes `hybrid` and `spool`.

    spool:   store it, with one primary delivery for each route -> 250
    hybrid:  prepare the copies -> hand the content to the primaries, within the budget -> what they took is done;
             what they put off, or have not answered yet, becomes a primary delivery -> 250

Whatever is left to be done by us is on stable storage before the client is told 250. When the primaries refuse all
of it for good, the client is told so, and nothing is ours.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import structlog

from waypost.delivery.copies import Copies, planned_copies, refusal_for
from waypost.delivery.legs import HybridLeg, Leg
from waypost.delivery.sending import Relayed
from waypost.delivery.spool import Delivery, Planned, Spool, SpoolError, primary_lane
from waypost.mail.message import Message, Recipient
from waypost.mail.outcome import Answer, Attempt, Outcome, Role, Status
from waypost.routing.route import Route
from waypost.smtp.reply import Reply, reply

log = structlog.get_logger()

Adopt = Callable[[Delivery, Awaitable[Outcome] | Outcome], None]
"""Settles a delivery by the outcome of an attempt that was begun elsewhere, when it is there."""

QUEUED = reply(250, "2.0.0", "Queued")

_CROWDED = "more recipients than the upstream takes in one transaction"


class CustodyLog(Protocol):
    """Whoever writes down what happens to mail."""

    def queued(self, message: Message, routes: Sequence[str], recipients: Sequence[Recipient], reason: str) -> None:
        """The message is ours, for these recipients."""

    def relayed(self, message: Message, attempt: Attempt, recipients: Sequence[Recipient]) -> None:
        """A primary has the message."""

    def failed(
        self, message: Message, target: str, recipients: Sequence[Recipient], answer: Answer, role: Role
    ) -> None:
        """A primary refuses it for good, and the client is told so."""


class Custody:
    """Stores what is ours. `chance` gives numbers from 0 to 1, for samples."""

    def __init__(
        self, spool: Spool, copies: Copies, adopt: Adopt, maillog: CustodyLog, chance: Callable[[], float]
    ) -> None:
        self._spool = spool
        self._copies = copies
        self._adopt = adopt
        self._maillog = maillog
        self._chance = chance

    async def take(self, message: Message, legs: Sequence[Leg]) -> Reply:
        """Sees a message through; what the client is told. A leg that accepted nobody has no part in it."""
        legs = [leg for leg in legs if leg.accepted]
        live = [leg for leg in legs if isinstance(leg, HybridLeg) and leg.live]
        try:
            if live:
                return await self._relay(message, legs, live)
            # What nobody was asked for, or nobody answered: all of it is ours.
            return await self._keep(message, legs, (), {}, prepared=False)
        except SpoolError as error:
            log.error("message_not_stored", id=message.id, reason=str(error))
            return refusal_for(error)

    async def _relay(self, message: Message, legs: Sequence[Leg], live: Sequence[HybridLeg]) -> Reply:
        copies = [plan for leg in live for plan in self._copies_of(message, leg)]
        # With several fates the message is stored first: when one has come true, there must be room for the others.
        several = len(legs) > 1 or live[0].is_partial
        planned = copies or ([_primary(message, legs[0])] if several else [])
        prepared = False
        if planned:
            try:
                await self._spool.prepare(message, planned)
                prepared = True
            except SpoolError as error:
                if several:  # what cannot be stored may not be begun
                    raise
                refusal = self._copies.not_stored(message, [leg.route for leg in live], copies, error)
                if refusal is not None:
                    return refusal
                copies = []
        try:
            results = await _send(live, message)
        except BaseException:
            if prepared:
                await self._broken_off(message, live[0].route, copies)
            raise
        for leg, relayed in results.items():
            match relayed:
                case Relayed(Status.RELAYED, attempt=Attempt() as attempt):
                    self._maillog.relayed(message, attempt, leg.live)
        statuses = {None if relayed is None else relayed.status for relayed in results.values()}
        if len(live) == len(legs) and not any(leg.is_partial for leg in live):
            if statuses == {Status.RELAYED}:
                await self._done(message, copies, prepared=prepared)
                return _answer(results, live)
            if statuses == {Status.FAILED}:
                if prepared:
                    await self._copies.abort(message.id)
                for leg, relayed in results.items():
                    if relayed is not None:
                        self._maillog.failed(message, leg.route.primary.name, leg.live, relayed.reply, Role.PRIMARY)
                return _answer(results, live)
        return await self._keep(message, legs, copies, results, prepared=prepared)

    async def _broken_off(self, message: Message, route: Route, copies: Sequence[Planned]) -> None:
        """The client is told nothing, so nothing is ours; but a primary may have it, and then so should its copies."""
        if copies:
            self._copies.hold(message, route.in_doubt_hold)
        else:
            await self._copies.abort(message.id)

    async def _done(self, message: Message, copies: Sequence[Planned], *, prepared: bool) -> None:
        if copies and prepared:
            self._spool.commit(message.id)
        elif prepared:
            await self._copies.abort(message.id)
        await self._copies.supersede(message)

    async def _keep(
        self,
        message: Message,
        legs: Sequence[Leg],
        copies: Sequence[Planned],
        results: dict[HybridLeg, Relayed | None],
        *,
        prepared: bool,
    ) -> Reply:
        """Stores what is left to be done, and hands to the scheduler what is known of it."""
        planned: list[Planned] = []
        outcomes: list[Awaitable[Outcome] | Outcome] = []
        routes: dict[str, None] = {}
        owed: list[Recipient] = []
        for leg in legs:
            if not isinstance(leg, HybridLeg):
                planned.append(_primary(message, leg))
                routes[leg.route.name] = None
                owed += leg.accepted
                continue
            relayed = results.get(leg)
            if relayed is not None and relayed.status is Status.RELAYED:
                planned += [plan for plan in copies if plan.route == leg.route.name]
            elif leg in results and leg.live:
                planned.append(_primary(message, leg, leg.live, leg.unanswered))
                outcomes.append(leg.late() if relayed is None else leg.outcome(relayed))
                owed += leg.live
            if leg.owed:
                recipients = [outcome.recipient for outcome in leg.owed]
                planned.append(_primary(message, leg, recipients))
                outcomes.append(Outcome(tuple(leg.owed), ()))
                owed += recipients
            if leg.next:
                planned.append(_primary(message, leg, leg.next, running=False))
                owed += leg.next
            if leg.is_partial or relayed is None or relayed.status is not Status.RELAYED:
                routes[leg.route.name] = None
        if prepared:
            try:
                running = await self._spool.commit_as(message.id, planned)
            except SpoolError:  # the client is told to come again, so this try leaves nothing behind
                await self._copies.abort(message.id)
                raise
        else:
            running = await self._spool.accept(message, planned)
        await self._copies.supersede(message)
        self._maillog.queued(message, list(routes), owed, _reason(legs, results))
        for delivery, outcome in zip(running, outcomes, strict=True):
            self._adopt(delivery, outcome)
        return QUEUED

    def _copies_of(self, message: Message, leg: HybridLeg) -> tuple[Planned, ...]:
        if not leg.route.copies:
            return ()
        return planned_copies(leg.route, _some(message, leg.live), message.received_at, self._chance)


def _primary(
    message: Message,
    leg: Leg,
    recipients: Sequence[Recipient] | None = None,
    doubt: str | None = None,
    *,
    running: bool = True,
) -> Planned:
    """The primary delivery of a leg; for `recipients`, one whose first attempt has been begun, if it is `running`."""
    route = leg.route
    return Planned(
        primary_lane(route.name),
        route.name,
        message.received_at + route.backoff.lifetime,
        _some(message, leg.accepted if recipients is None else recipients),
        running=running and recipients is not None,
        doubt=doubt,
    )


def _some(message: Message, recipients: Sequence[Recipient]) -> tuple[Recipient, ...] | None:
    return None if len(recipients) == len(message.envelope.recipients) else tuple(recipients)


async def _send(live: Sequence[HybridLeg], message: Message) -> dict[HybridLeg, Relayed | None]:
    if len(live) == 1:
        return {live[0]: await live[0].send(message.content)}
    results = await asyncio.gather(*(leg.send(message.content) for leg in live))
    return dict(zip(live, results, strict=True))


def _answer(results: dict[HybridLeg, Relayed | None], live: Sequence[HybridLeg]) -> Reply:
    """The first primary's answer, when all have said the same kind of thing."""
    relayed = results[live[0]]
    return QUEUED if relayed is None else relayed.reply


def _reason(legs: Sequence[Leg], results: dict[HybridLeg, Relayed | None]) -> str:
    """Why the message became ours, for people."""
    for leg in legs:
        if isinstance(leg, HybridLeg):
            relayed = results.get(leg)
            if leg in results and relayed is None:
                return str(leg.budget.spent())
            if relayed is not None and relayed.status is not Status.RELAYED:
                return str(relayed.reply)
            if leg.owed:
                return str(leg.owed[0].answer)
            if leg.next:
                return str(leg.budget.spent()) if leg.budget.left <= 0 else _CROWDED
    return "acceptance mode spool"
