"""The copies of a message that is on its way in: prepared before its content goes to the primary, then committed,
aborted, or held for as long as the primary's outcome is unknown."""

from collections.abc import Callable
from typing import Protocol

import structlog

from waypost.clock import Clock
from waypost.delivery.indoubt import Ledger, digest_of, key_of
from waypost.delivery.spool import Planned, Spool, SpoolError
from waypost.mail.content import Content
from waypost.mail.message import Message
from waypost.mail.outcome import Status
from waypost.routing.route import Route

log = structlog.get_logger()


class CopiesLog(Protocol):
    """Whoever writes down copies that could not be stored."""

    def not_taken(self, message: Message, target: str, reason: str) -> None:
        """This copy will not be made."""


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

    async def prepare(self, message: Message, route: Route) -> bool | None:
        """Makes the copies durable; whether there are any. None when they are required and cannot be stored."""
        copies = [copy for copy in route.copies if copy.sample >= 1 or self._chance() < copy.sample]
        if not copies:
            return False
        expires_at = message.received_at + route.backoff.lifetime
        try:
            await self._spool.prepare(message, [Planned(copy.to.name, route.name, expires_at) for copy in copies])
        except SpoolError as error:
            for copy in copies:
                self._maillog.not_taken(message, copy.to.name, str(error))
            return None if any(copy.required for copy in copies) else False
        return True

    async def conclude(self, message: Message, content: Content, route: Route, status: Status) -> None:
        """Copies go to those whom the primary accepted, and to nobody when it refused.

        `content` is what the client sent, by which it is known again.
        """
        match status:
            case Status.RELAYED:
                self._spool.commit(message.id)
                await self._supersede(message, content)
            case Status.IN_DOUBT:
                self.hold(message, content, route)
            case _:
                await self._abort(message.id)

    def hold(self, message: Message, content: Content, route: Route) -> None:
        """The primary's outcome is unknown: the copies wait for the client to come again, but not for ever."""
        key = key_of(message.client.account, message.envelope)
        self._ledger.waits(key, digest_of(content), message.id, route.in_doubt_hold)
        self._held.add(message.id)

        def send() -> None:
            if message.id in self._held:  # a copy too many beats a copy too few
                self._held.discard(message.id)
                self._spool.commit(message.id)

        self._clock.call_later(route.in_doubt_hold, send)

    async def _supersede(self, message: Message, content: Content) -> None:
        """Drops the copies of earlier tries of this message, whose outcome was unknown: these stand for them."""
        if not self._ledger:
            return
        key = key_of(message.client.account, message.envelope)
        if self._ledger.knows(key):
            for earlier in self._ledger.superseded(key, digest_of(content)):
                if earlier in self._held:
                    self._held.discard(earlier)
                    await self._abort(earlier)

    async def _abort(self, message_id: str) -> None:
        try:
            await self._spool.abort(message_id)
        except SpoolError as error:
            # It is still prepared, so the next start will send it. That cannot be helped, but it must be known.
            log.error("copies_not_dropped", id=message_id, reason=str(error))
