"""The messages in memory: which of them are delivered from there, and when they get rows instead."""

from collections.abc import Iterator, Sequence

from waypost.delivery.spool import Delivery, Planned
from waypost.store.held import FRESH, HELD_OCTETS, HeldMessage, Lane
from waypost.store.rows import delivery_id, message_key, number_of
from waypost.store.writer import Writer


class FreshMessages:
    """Messages with deliveries in memory, and all lanes.

    What has to be recorded goes to the pending changes of `writer`; the caller tells it that there are some.
    """

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._octets = 0
        self._messages: dict[int, HeldMessage] = {}  # in the order of their commit
        # Messages some of whose deliveries are done: mostly the others follow at once, and no row is needed.
        self._halves: dict[int, HeldMessage] = {}
        self._old_halves: dict[int, HeldMessage] = {}
        self.lanes: dict[str, Lane] = {}

    def lane(self, name: str) -> Lane:
        """The lane of this name, which exists from its first delivery on."""
        lane = self.lanes.get(name)
        if lane is None:
            lane = self.lanes[name] = Lane(name)
        return lane

    def reserve(self, weight: int, *, needed: bool = False) -> bool:
        """Whether a message of this weight can be held, which is then counted; pushes others out for it, once.

        One that is `needed`, because it is being delivered already, is held in any case.
        """
        if not needed and self._octets + weight > HELD_OCTETS:
            if self.lanes:
                self._push_out()
            if self._octets + weight > HELD_OCTETS:
                return False
        self._octets += weight
        return True

    def release(self, held: HeldMessage) -> None:
        """Gives back what `reserve` counted."""
        self._octets -= held.weight

    def commit(self, held: HeldMessage) -> list[Delivery]:
        """All deliveries of the message are due: in memory as far as there is room. Those that run already."""
        self._messages[held.key] = held
        return self._add(held, 0)

    def further(self, held: HeldMessage, planned: Sequence[Planned]) -> None:
        """More deliveries of a message in memory are due."""
        first = len(held.plans)
        held.plans += planned
        held.owed |= ((1 << len(planned)) - 1) << first
        held.grown = True
        self._add(held, first)

    def _add(self, held: HeldMessage, first: int) -> list[Delivery]:
        running = []
        everything_fits = True
        for number in range(first, len(held.plans)):
            plan = held.plans[number]
            lane = self.lane(plan.lane)
            lane.queued += 1
            if plan.running:
                held.held |= 1 << number
                running.append(held.delivery(number))
            elif held.message is not None and len(lane.fresh) < FRESH:
                lane.fresh.append((held, number))
                held.held |= 1 << number
            else:
                everything_fits = False
        if held.split:
            for number in range(first, len(held.plans)):
                self._write_row(held, number)
        elif not everything_fits:
            self.split(held)
        if not held.held:
            self._drop(held)
        return running

    def get(self, key: int) -> HeldMessage | None:
        """The message with this key, when it is in memory."""
        return self._messages.get(key)

    def waiting(self, after: int) -> Iterator[tuple[int, HeldMessage]]:
        """The deliveries without rows, with an id above `after`, in the order of their ids."""
        for key in sorted(key for key in self._messages if key >= message_key(after)):
            held = self._messages.get(key)
            if held is not None and not held.split:
                for number in range(len(held.plans)):
                    if held.owed >> number & 1 and delivery_id(key, number) > after:
                        yield delivery_id(key, number), held

    def take(self, lane: Lane, limit: int) -> list[tuple[Delivery, HeldMessage]]:
        """Claims the oldest deliveries of a lane."""
        taken: list[tuple[Delivery, HeldMessage]] = []
        fresh = lane.fresh
        while fresh and len(taken) < limit:
            held, number = fresh.popleft()
            if held.held >> number & 1:
                taken.append((held.delivery(number), held))
        return taken

    def settled(self, held: HeldMessage, number: int, *, owed: bool) -> None:
        """A claim on the message has ended; `owed` says whether the delivery is tried again."""
        bit = 1 << number
        held.held &= ~bit
        if not owed:
            held.owed &= ~bit
        if held.split:
            if held.intended & bit:
                self._writer.pending.changes.intents[delivery_id(held.key, number)] = None
                held.intended &= ~bit
        elif held.owed:
            self._halves[held.key] = held
        else:
            self._halves.pop(held.key, None)
            self._old_halves.pop(held.key, None)
            self._forget_intents(held)
            self._writer.pending.changes.forget(held.key, held.file is not None)
        if not held.held:
            self._drop(held)

    def split(self, held: HeldMessage) -> None:
        """Gives every delivery that is owed a row."""
        held.split = True
        self._writer.pending.changes.whole[held.key] = None
        self._forget_intents(held)
        for number in range(len(held.plans)):
            if held.owed >> number & 1:
                self._write_row(held, number)

    def evict(self, ids: Sequence[int]) -> None:
        """Makes sure that these deliveries, none of which is in flight, have rows and wait there."""
        for id_ in ids:
            held, number = self._messages.get(message_key(id_)), number_of(id_)
            if held is not None and held.is_held(number):
                self._evict(held, number)
        self._writer.changed()

    def split_halves(self) -> None:
        """Records what is done of messages that are not done as a whole. Called every few milliseconds."""
        for held in self._old_halves.values():
            if not held.split:
                self.split(held)
        self._old_halves, self._halves = self._halves, {}
        if self._old_halves:
            self._writer.changed()

    def oldest(self, lanes: set[str]) -> dict[str, float]:
        """When the oldest message in memory for each of these lanes was received."""
        found: dict[str, float] = {}
        for held in self._messages.values():
            if held.split:
                continue  # its rows are known
            for number, plan in enumerate(held.plans):
                if held.owed >> number & 1 and plan.lane in lanes:
                    found.setdefault(plan.lane, held.received_at)
            if len(found) == len(lanes):
                break
        return found

    def _push_out(self) -> None:
        """Gives rows to half of what the slowest lane has in memory."""
        slowest = max(self.lanes.values(), key=lambda lane: len(lane.fresh))
        for _ in range((len(slowest.fresh) + 1) // 2):
            held, number = slowest.fresh.pop()  # the youngest: their turn is furthest away
            if held.is_held(number):
                self._evict(held, number)
        self._writer.changed()

    def _evict(self, held: HeldMessage, number: int) -> None:
        held.held &= ~(1 << number)
        if held.split:
            self._write_row(held, number)
        else:
            self.split(held)
        if not held.held:
            self._drop(held)

    def _write_row(self, held: HeldMessage, number: int) -> None:
        row = held.row(number)
        self._writer.pending.changes.deliveries[row.id] = row
        lane = self.lanes[row.lane]
        lane.row_added(held.received_at)
        if row.next_at is not None:
            lane.row_waits(row.next_at)

    def _forget_intents(self, held: HeldMessage) -> None:
        """Removes the intents of deliveries that are done."""
        done = held.intended & ~held.owed
        held.intended &= held.owed
        while done:
            number = done.bit_length() - 1
            done ^= 1 << number
            self._writer.pending.changes.intents[delivery_id(held.key, number)] = None

    def _drop(self, held: HeldMessage) -> None:
        self._octets -= held.weight
        self._messages.pop(held.key, None)
