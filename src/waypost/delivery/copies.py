"""The copies of a message that is on its way in: prepared before its content goes to the primary, then committed,
aborted, or held for as long as the primary's outcome is unknown."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

import structlog

from waypost.clock import Clock
from waypost.delivery.indoubt import Ledger, key_of
from waypost.delivery.sending import Relayed
from waypost.delivery.spool import Planned, Prepared, Spool, SpoolError, SpoolFullError, copy_lane, read_lane
from waypost.mail.message import Message, Recipient
from waypost.mail.outcome import Role, Status
from waypost.routing.route import Route
from waypost.smtp.reply import Reply, reply

NO_ROOM = reply(452, "4.3.1", "The message cannot be stored now; try again later")
BROKEN = reply(451, "4.3.0", "The message cannot be stored now; try again later")

_HOLD = 3600.0  # seconds, for a route that is not configured any more

log = structlog.get_logger()


class CopiesLog(Protocol):
    """Whoever writes down copies that could not be stored."""

    def not_taken(self, message: Message, target: str, reason: str) -> None:
        """This copy will not be made."""


def refusal_for(error: SpoolError) -> Reply:
    """What a client is told when its message cannot be stored."""
    return NO_ROOM if isinstance(error, SpoolFullError) else BROKEN


def planned_copies(
    route: Route, recipients: tuple[Recipient, ...] | None, since: float, chance: Callable[[], float]
) -> tuple[Planned, ...]:
    """The copies of one message, samples drawn. Their lifetime counts from `since`, in seconds since the epoch."""
    return tuple(
        Planned(copy_lane(copy.to.name), route.name, since + route.backoff.lifetime, recipients)
        for copy in route.copies
        if copy.sample >= 1 or chance() < copy.sample
    )


class Copies:
    """Stores copies and decides what becomes of them. `chance` gives numbers from 0 to 1, for samples."""

    def __init__(
        self, spool: Spool, ledger: Ledger, maillog: CopiesLog, clock: Clock, chance: Callable[[], float]
    ) -> None:
        self._spool = spool
        self._ledger = ledger
        self._maillog = maillog
        self._clock = clock
        self._chance = chance
        self._held: set[str] = set()  # messages whose copies wait; the ledger may forget, these may not be lost

    async def prepare(self, message: Message, route: Route) -> Sequence[Planned] | Reply:
        """Makes the copies durable, and says which; or the refusal when they are required and cannot be."""
        planned = planned_copies(route, None, message.received_at, self._chance)
        if not planned:
            return ()
        try:
            await self._spool.prepare(message, planned)
        except SpoolError as error:
            return self.not_stored(message, (route,), planned, error) or ()
        return planned

    def not_stored(
        self, message: Message, routes: Sequence[Route], planned: Sequence[Planned], error: SpoolError
    ) -> Reply | None:
        """Says that these copies will not be made; the refusal for the client if one of them is required."""
        for plan in planned:
            self._maillog.not_taken(message, read_lane(plan.lane)[1], str(error))
        lanes = {plan.lane for plan in planned}
        required = {copy_lane(copy.to.name) for route in routes for copy in route.copies if copy.required}
        return refusal_for(error) if lanes & required else None

    async def conclude(self, message: Message, route: Route, relayed: Relayed, planned: Sequence[Planned]) -> None:
        """Copies go to those whom the primary accepted, and to nobody when it refused."""
        match relayed.status:
            case Status.RELAYED:
                await self._commit(message, relayed, planned)
                await self.supersede(message)
            case Status.IN_DOUBT:
                self.hold(message, route.in_doubt_hold)
            case _:
                await self.abort(message.id)

    async def _commit(self, message: Message, relayed: Relayed, planned: Sequence[Planned]) -> None:
        # Those who may have it get their copy with those who have: one too many beats one too few.
        has = tuple(fate.recipient for fate in relayed.fates if fate.status in (Status.RELAYED, Status.IN_DOUBT))
        if len(has) < len(relayed.fates):
            try:
                await self._spool.commit_as(message.id, [replace(plan, recipients=has) for plan in planned])
                return
            except SpoolError as error:
                log.error("copies_for_all", id=message.id, reason=str(error))
        self._spool.commit(message.id)

    def hold(self, message: Message, seconds: float) -> None:
        """The primary's outcome is unknown: the copies wait for the client to come again, but not for ever."""
        self._ledger.waits(key_of(message.client.account, message.envelope), message.digest, message.id, seconds)
        self._held.add(message.id)

        def send() -> None:
            if message.id in self._held:  # a copy too many beats a copy too few
                self._held.discard(message.id)
                self._spool.commit(message.id)

        self._clock.call_later(seconds, send)

    async def resume(self, prepared: Prepared, routes: dict[str, Route]) -> None:
        """Takes care of a message whose primary was being asked when the process died.

        Its client was not told 250, so nothing is owed to the primary; its copies wait as in `hold`.
        """
        message = prepared.message
        message.content.close()
        copies = tuple(plan for plan in prepared.planned if read_lane(plan.lane)[0] is Role.COPY)
        if not copies:
            await self.abort(message.id)
            return
        route = routes.get(copies[0].route)
        hold = _HOLD if route is None else route.in_doubt_hold
        log.warning("copies_held", id=message.id, seconds=hold, reason="the primary's outcome was not recorded")
        self.hold(message, hold)

    async def supersede(self, message: Message) -> None:
        """Drops the copies of earlier tries of this message, whose outcome was unknown: these stand for them."""
        if not self._ledger:
            return
        key = key_of(message.client.account, message.envelope)
        if self._ledger.knows(key):
            for earlier in self._ledger.superseded(key, message.digest):
                if earlier in self._held:
                    self._held.discard(earlier)
                    await self.abort(earlier)

    async def abort(self, message_id: str) -> None:
        """Drops what was prepared for a message."""
        try:
            await self._spool.abort(message_id)
        except SpoolError as error:
            # It is still prepared, so the next start finds it. That cannot be helped, but it must be known.
            log.error("copies_not_dropped", id=message_id, reason=str(error))
