"""What is delivered now: claims, their intents, and how they end."""

from collections.abc import Callable, Sequence
from functools import partial
from math import inf

import structlog

from waypost.delivery.spool import Delivery, Planned, Settlement
from waypost.mail.message import Message
from waypost.store import queries
from waypost.store.fresh import FreshMessages
from waypost.store.held import HeldMessage, Lane
from waypost.store.rows import (
    DEAD,
    QUEUED,
    DeliveryRow,
    delivery_id,
    encode_recipients,
    message_key,
    number_of,
    planned_row,
)
from waypost.store.storing import Storing
from waypost.store.writer import Writer

_log = structlog.get_logger(__name__)


class Claims:
    """The deliveries in flight. What is claimed is not recorded: after a crash it is due again."""

    def __init__(self, fresh: FreshMessages, storing: Storing, writer: Writer, now: Callable[[], float]) -> None:
        self.on_due: Callable[[str], None] = lambda lane: None
        self._fresh = fresh
        self._storing = storing
        self._writer = writer
        self._now = now
        self._in_flight: dict[int, HeldMessage | None] = {}  # None: claimed from a row
        self._intended: set[int] = set()  # of those claimed from rows

    def __contains__(self, id_: int) -> bool:
        return id_ in self._in_flight

    @property
    def ids(self) -> frozenset[int]:
        """The deliveries in flight."""
        return frozenset(self._in_flight)

    def commit(self, held: HeldMessage) -> Sequence[Delivery]:
        """All deliveries of the message are due; returns those that run already."""
        running = self._fresh.commit(held)
        for delivery in running:
            self._in_flight[delivery.id] = held
        self._writer.changed()
        self._tell(held.plans)
        return running

    async def claim(self, name: str, now: float, limit: int) -> Sequence[Delivery]:
        """As the port says."""
        self._writer.raise_unless_writable()
        lane = self._fresh.lanes.get(name)
        if lane is None or limit < 1:
            return ()
        rows_due = lane.next_at <= now
        if rows_due and (lane.rows_next or lane.first_fresh() is None):
            lane.rows_next = False
            claimed = await self._claim_rows(lane, now, limit)
            if claimed:
                return claimed
        lane.rows_next = rows_due
        deliveries = []
        for delivery, held in self._fresh.take(lane, limit):
            self._in_flight[delivery.id] = held
            deliveries.append(delivery)
        return deliveries

    def next_due(self, name: str) -> float | None:
        """As the port says."""
        lane = self._fresh.lanes.get(name)
        if lane is None:
            return None
        first = lane.first_fresh()
        at = lane.next_at if first is None else min(lane.next_at, first.received_at)
        return None if at == inf else at

    async def intend(self, delivery: Delivery, upstream: str) -> None:
        """As the port says."""
        self._writer.raise_unless_writable()
        id_ = delivery.id
        held = self._running(id_)
        if held is None:
            self._intended.add(id_)
        else:
            if held.grown and not held.split:
                # What the intent is about has to be on record with it, and so has the outcome that it came of.
                self._fresh.split(held)
            held.intended |= 1 << number_of(id_)
        self._writer.pending.changes.intents[id_] = upstream
        await self._writer.sync()

    def settle(self, settlement: Settlement) -> None:
        """As the port says."""
        delivery = settlement.delivery
        id_ = delivery.id
        held = self._running(id_)
        del self._in_flight[id_]
        lane = self._fresh.lanes[delivery.lane]
        if held is None:
            lane.claimed.discard(id_)
            if id_ in self._intended:
                self._intended.discard(id_)
                self._writer.pending.changes.intents[id_] = None
        if not settlement.again:
            lane.queued -= 1
        if settlement.copies:
            self._copy(delivery, held, settlement.copies)
        if (
            held is None
            or held.split
            or settlement.again
            or settlement.dead
            # A notice is on record at once, so this must be, too.
            or (settlement.notices and held.owed != 1 << number_of(id_))
        ):
            self._settle_row(settlement, held, lane)
        if held is not None:
            self._fresh.settled(held, number_of(id_), owed=bool(settlement.again))
        for message, plan in settlement.notices:
            self._post(message, plan)
        self._writer.changed()
        if settlement.copies:
            self._tell(settlement.copies)

    def _running(self, id_: int) -> HeldMessage | None:
        try:
            return self._in_flight[id_]
        except KeyError:
            raise ValueError(f"delivery {id_} is not in flight") from None

    def _settle_row(self, settlement: Settlement, held: HeldMessage | None, lane: Lane) -> None:
        """Writes down what became of one delivery of a message that is split, or is so from now on."""
        if held is not None and not held.split:
            self._fresh.split(held)
        delivery = settlement.delivery
        changes = self._writer.pending.changes
        received_at = delivery.message.received_at
        row = DeliveryRow(
            delivery.id,
            delivery.lane,
            delivery.route,
            QUEUED,
            delivery.attempts + settlement.attempted,
            settlement.at,
            received_at,
            delivery.expires_at,
            delivery.message.id,
            None,
            settlement.reason,
            None,
            delivery.warned,
            None,
        )
        if settlement.again:
            changes.deliveries[delivery.id] = row._replace(
                recipients=encode_recipients(settlement.again),
                doubt=settlement.doubt,
                warned=delivery.warned or settlement.warned,
            )
            lane.row_waits(settlement.at)
        else:
            changes.deliveries[delivery.id] = None
            lane.row_removed(received_at)
        if settlement.dead:
            lane.dead += 1
            recipients = encode_recipients(settlement.dead)
            dead = row._replace(state=DEAD, next_at=None, recipients=recipients, died_at=self._now())
            if not settlement.again:
                changes.deliveries[delivery.id] = dead
            else:
                self._add_dead(dead)
        elif not settlement.again:
            changes.check.add(message_key(delivery.id))

    def _add_dead(self, row: DeliveryRow) -> None:
        """A dead letter of its own, for the delivery itself goes on."""
        changes, key = self._writer.pending.changes, message_key(row.id)
        held = self._fresh.get(key)
        if held is None:
            changes.further.append(row)
        else:
            id_ = delivery_id(key, len(held.plans))
            held.plans.append(Planned(row.lane, row.route, row.expires_at))  # takes the number, is not owed
            changes.deliveries[id_] = row._replace(id=id_)

    def _copy(self, delivery: Delivery, held: HeldMessage | None, copies: Sequence[Planned]) -> None:
        """Adds deliveries of the same message."""
        key = message_key(delivery.id)
        held = held or self._fresh.get(key)
        if held is not None:
            self._fresh.further(held, copies)
            return
        received_at = delivery.message.received_at
        due = min(received_at, self._now())  # which is earlier when the clock was ahead as the message came in
        for plan in copies:
            row = planned_row(delivery.id, delivery.message.id, received_at, plan, due)
            self._writer.pending.changes.further.append(row)
            lane = self._fresh.lane(plan.lane)
            lane.queued += 1
            lane.row_added(received_at)
            lane.row_waits(due)

    def _post(self, message: Message, plan: Planned) -> None:
        """Adds a message of our own."""
        held = self._storing.add(message, (plan,))
        if not self._fresh.reserve(held.weight):
            held.drop_content()
        self.commit(held)

    async def _claim_rows(self, lane: Lane, now: float, limit: int) -> Sequence[Delivery]:
        async with lane.reading:  # two claims at once would be given the same rows
            lane.arrived = inf
            question = partial(
                queries.due, lane=lane.name, now=now, limit=limit, claimed=set(lane.claimed), died_at=self._now()
            )
            due: queries.Due = await self._writer.read(question)
            lane.next_at = min(due.next_at, lane.arrived)
            for delivery in due.deliveries:
                lane.claimed.add(delivery.id)
                self._in_flight[delivery.id] = None
            for id_, reason in due.dead:
                lane.queued -= 1
                lane.dead += 1
                lane.oldest_known = False
                _log.error("a delivery is a dead letter now", lane=lane.name, delivery=id_, reason=reason)
            return due.deliveries

    def _tell(self, planned: Sequence[Planned]) -> None:
        for plan in planned:
            if not plan.running:
                self.on_due(plan.lane)
