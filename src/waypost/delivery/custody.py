"""Takes a message that may become ours: acceptance modes `hybrid` and `spool`.

    spool:   store it, with one primary delivery for each route -> 250
    hybrid:  prepare the copies -> hand the content to the primaries, within the budget -> what they took is done;
             what they put off, or have not answered yet, becomes a primary delivery -> 250

Whatever is left to be done by us is on stable storage before the client is told 250. When the primaries refuse all
of it for good, the client is told so, and nothing is ours.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

import structlog

from waypost.delivery.copies import Copies, planned_copies, refusal_for
from waypost.delivery.legs import HybridLeg, Leg
from waypost.delivery.sending import Relayed
from waypost.delivery.spool import Delivery, Planned, Spool, SpoolError, primary_lane
from waypost.delivery.told import Told, grouped, told_of
from waypost.mail.message import Message, Recipient
from waypost.mail.outcome import Answer, Attempt, Outcome, Role, Status
from waypost.routing.route import Route
from waypost.smtp.reply import Reply, reply

log = structlog.get_logger()

Adopt = Callable[[Delivery, Awaitable[Outcome] | Outcome], None]
"""Settles a delivery by the outcome of an attempt that was begun elsewhere, when it is there."""

QUEUED = reply(250, "2.0.0", "Queued")

_FINAL = (Status.RELAYED, Status.FAILED)

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

    async def take(self, message: Message, legs: Sequence[Leg], *, each: bool = False) -> Told:
        """Sees a message through; what the client is told. A leg that accepted nobody has no part in it.

        A client that hears of `each` recipient is told of those who are refused: nothing of that is ours.
        """
        legs = [leg for leg in legs if leg.accepted]
        live = [leg for leg in legs if isinstance(leg, HybridLeg) and leg.live]
        try:
            if live:
                return await self._relay(message, legs, live, each=each)
            # What nobody was asked for, or nobody answered: all of it is ours.
            await self._keep(message, legs, (), {}, prepared=False, each=each)
            return Told(QUEUED)
        except SpoolError as error:
            log.error("message_not_stored", id=message.id, reason=str(error))
            return Told(refusal_for(error))

    async def _relay(self, message: Message, legs: Sequence[Leg], live: Sequence[HybridLeg], *, each: bool) -> Told:
        copies = [plan for leg in live for plan in self._copies_of(message, leg)]
        # With several fates the message is stored first: when one has come true, there must be room for the others.
        several = len(legs) > 1 or live[0].is_partial or (len(live[0].live) > 1 and _answers_each(live[0], each=each))
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
                    return Told(refusal)
                copies = []
        try:
            results = await _send(live, message)
        except BaseException:
            if prepared:
                await self._broken_off(message, live[0].route, copies)
            raise
        for leg, relayed in results.items():
            self._tell(message, leg, relayed)
        if len(live) == len(legs) and not any(leg.is_partial for leg in live):
            if all(_all(leg, relayed, Status.RELAYED) for leg, relayed in results.items()):
                await self._done(message, copies, prepared=prepared)
                return _answer(results, live, each=each)
            if all(_all(leg, relayed, Status.FAILED) for leg, relayed in results.items()):
                if prepared:
                    await self._copies.abort(message.id)
                self._tell_of_failure(message, results)
                return _answer(results, live, each=each)
        await self._keep(message, legs, copies, results, prepared=prepared, each=each)
        if not each:
            return Told(QUEUED)
        self._tell_of_failure(message, results)
        return told_of(_heard(legs, results))

    def _tell(self, message: Message, leg: HybridLeg, relayed: Relayed | None) -> None:
        """Writes down who has the message."""
        match relayed:
            case Relayed(Status.RELAYED, attempt=Attempt() as attempt, fates=()):
                self._maillog.relayed(message, attempt, leg.live)
            case _ if leg.relay.fates:
                known = [leg.relay.fates[id(recipient)] for recipient in leg.having(relayed, Status.RELAYED)]
                for fate, recipients in grouped(known):
                    if fate.attempt is not None:
                        self._maillog.relayed(message, fate.attempt, recipients)

    def _tell_of_failure(self, message: Message, results: dict[HybridLeg, Relayed | None]) -> None:
        """Writes down who was refused, and that the client is told so."""
        for leg, relayed in results.items():
            target = leg.route.primary.name
            if relayed is not None and not relayed.fates and relayed.status is Status.FAILED:
                self._maillog.failed(message, target, leg.live, relayed.reply, Role.PRIMARY)
                continue
            known = [leg.relay.fates[id(recipient)] for recipient in leg.having(relayed, Status.FAILED)]
            for fate, recipients in grouped(known):
                self._maillog.failed(message, target, recipients, fate.reply, Role.PRIMARY)

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
        each: bool,
    ) -> None:
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
            have = leg.having(relayed, Status.RELAYED) if leg in results else ()
            if have:
                own = [plan for plan in copies if plan.route == leg.route.name]
                planned += (
                    own if len(have) == len(leg.live) else [replace(plan, recipients=tuple(have)) for plan in own]
                )
            gone = {*map(id, have)}
            if each and leg in results:  # the client hears of them now
                gone |= {*map(id, leg.having(relayed, Status.FAILED))}
            left = [recipient for recipient in leg.live if id(recipient) not in gone]
            if leg in results and left:
                planned.append(_primary(message, leg, left, leg.unanswered))
                outcomes.append(leg.late() if relayed is None else leg.outcome(relayed))
                owed += left
            if leg.owed:
                recipients = [outcome.recipient for outcome in leg.owed]
                planned.append(_primary(message, leg, recipients))
                outcomes.append(Outcome(tuple(leg.owed), ()))
                owed += recipients
            if leg.next:
                planned.append(_primary(message, leg, leg.next, running=False))
                owed += leg.next
            if leg.is_partial or left:
                routes[leg.route.name] = None
        if not planned:
            if prepared:
                await self._copies.abort(message.id)
            return
        if prepared:
            try:
                running = await self._spool.commit_as(message.id, planned)
            except SpoolError:  # the client is told to come again, so this try leaves nothing behind
                await self._copies.abort(message.id)
                raise
        else:
            running = await self._spool.accept(message, planned)
        await self._copies.supersede(message)
        if owed:
            self._maillog.queued(message, list(routes), owed, _reason(legs, results))
        for delivery, outcome in zip(running, outcomes, strict=True):
            self._adopt(delivery, outcome)

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


def _answer(results: dict[HybridLeg, Relayed | None], live: Sequence[HybridLeg], *, each: bool) -> Told:
    """What all have said when it is the same kind of thing: to each recipient, or what the first primary says."""
    relayed = results[live[0]]
    if each and (len(live) > 1 or (relayed is not None and relayed.fates)):
        return told_of(_heard(live, results))
    return Told(QUEUED if relayed is None else relayed.reply)


def _heard(legs: Sequence[Leg], results: dict[HybridLeg, Relayed | None]) -> Iterator[tuple[Recipient, Reply]]:
    """What each recipient hears: the upstream's yes or final no, and of what is left that it is queued."""
    for leg in legs:
        relayed = results.get(leg) if isinstance(leg, HybridLeg) else None
        final: dict[int, Reply] = {}
        if isinstance(leg, HybridLeg) and leg in results:
            if relayed is not None and not relayed.fates:
                if relayed.status in _FINAL:
                    final = {id(recipient): relayed.reply for recipient in leg.live}
            else:
                final = {key: fate.reply for key, fate in leg.relay.fates.items() if fate.status in _FINAL}
        for recipient in leg.accepted:
            yield recipient, final.get(id(recipient), QUEUED)


def _all(leg: HybridLeg, relayed: Relayed | None, status: Status) -> bool:
    """Whether this has become of all whom the leg's upstreams had accepted; not while that is still awaited."""
    return relayed is not None and len(leg.having(relayed, status)) == len(leg.live)


def _answers_each(leg: HybridLeg, *, each: bool) -> bool:
    """Whether an upstream may answer differently for each recipient."""
    return each or leg.route.primary.answers_each


def _reason(legs: Sequence[Leg], results: dict[HybridLeg, Relayed | None]) -> str:
    """Why the message became ours, for people."""
    for leg in legs:
        if isinstance(leg, HybridLeg):
            relayed = results.get(leg)
            if leg in results and relayed is None:
                return str(leg.budget.spent())
            if relayed is not None and relayed.status is not Status.RELAYED:
                return str(relayed.reply)
            if relayed is not None and (left := [fate for fate in relayed.fates if fate.status is not Status.RELAYED]):
                return str(left[0].reply)
            if leg.owed:
                return str(leg.owed[0].answer)
            if leg.next:
                return str(leg.budget.spent()) if leg.budget.left <= 0 else _CROWDED
    return "acceptance mode spool"
