"""How claims end: settlements on their way to the writer, with the copies and notifications that go with them."""

import asyncio
from collections.abc import Callable

import structlog

from waypost.delivery.spool import Planned, Settlement, SpoolError
from waypost.mail.message import Message
from waypost.store.postgres.batch import NewDelivery, NewMessage, Settled
from waypost.store.postgres.content import ContentStore
from waypost.store.postgres.incoming import new_message
from waypost.store.postgres.rows import plain
from waypost.store.postgres.writer import Writer

_PAUSE = 2  # seconds before content that could not be stored is tried again
_LAST_WAIT = 5  # seconds for such content when the spool is closed

_log = structlog.get_logger(__name__)


class Outcomes:
    """Takes settlements. They are recorded soon; one with a large notification when that has been stored."""

    def __init__(self, writer: Writer, contents: ContentStore, now: Callable[[], float]) -> None:
        self._writer = writer
        self._contents = contents
        self._now = now
        self._waiting: set[asyncio.Task[None]] = set()

    def settle(self, settlement: Settlement, owner: int) -> None:
        """Ends the claim of `owner`."""
        settled = Settled(settlement, owner, self._now())
        message = settlement.delivery.message
        settled.copies = [NewDelivery(plan, 0, message.received_at, False) for plan in settlement.copies]
        if settlement.again and settlement.dead:
            settled.rest = self._dead_part(settlement, settled.at)
        settled.notices = [self._notice(*notice) for notice in settlement.notices]
        if any(notice.content is None for notice in settled.notices):
            task = asyncio.get_running_loop().create_task(self._upload(settled), name="store a notification")
            self._waiting.add(task)
            task.add_done_callback(self._waiting.discard)
        else:
            self._add(settled)

    async def finished(self) -> None:
        """Waits for what is being stored."""
        if self._waiting:
            _, late = await asyncio.wait(self._waiting, timeout=_LAST_WAIT)
            for task in late:
                task.cancel()
                _log.error("a notification could not be stored; its delivery will be tried again")

    def _add(self, settled: Settled) -> None:
        self._writer.pending.changes.settled.append(settled)
        self._writer.changed()

    def _notice(self, message: Message, plan: Planned) -> NewMessage:
        delivery = NewDelivery(plan, 0, message.received_at, True)
        return new_message(message, self._writer.instance, None, [delivery])

    def _dead_part(self, settlement: Settlement, at: float) -> NewDelivery:
        delivery = settlement.delivery
        plan = Planned(delivery.lane, delivery.route, delivery.expires_at, settlement.dead)
        attempts = delivery.attempts + settlement.attempted
        return NewDelivery(plan, 0, delivery.message.received_at, False, dead=(attempts, plain(settlement.reason), at))

    async def _upload(self, settled: Settled) -> None:
        for notice, (message, _) in zip(settled.notices, settled.settlement.notices, strict=True):
            while notice.content is None and not notice.key:
                try:
                    notice.key = await self._contents.upload(message.content, notice.owner)
                except SpoolError as error:
                    _log.warning("a notification cannot be stored yet", id=message.id, error=str(error))
                    await asyncio.sleep(_PAUSE)
        self._add(settled)
