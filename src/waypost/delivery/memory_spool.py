"""A spool in memory: the fake that ships with the port. Not durable: what is owed is lost with the process.

For the demo and for tests. It behaves like `waypost.store.sqlite` in everything else, and the same tests run
on both.
"""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from waypost.delivery.spool import Delivery, Planned, Prepared, Settlement, SpoolError, TargetCount
from waypost.mail.content import MemoryContent
from waypost.mail.message import Message


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """What a target will not be tried with again: the delivery names just the recipients that died."""

    delivery: Delivery
    reason: str


@dataclass(frozen=True, slots=True)
class _Stored:
    message: Message
    data: bytes
    planned: tuple[Planned, ...]

    def copy(self) -> Message:
        """The message with content that its owner may close."""
        return replace(self.message, content=MemoryContent(self.data))


class MemorySpool:
    """The `Spool` port, in memory. `on_due` is called with a target's name when it has something newly due.

    `broken` makes everything that would write raise `SpoolError` with this text.
    """

    def __init__(self, *, on_due: Callable[[str], None] = lambda target: None) -> None:
        self.on_due = on_due
        self.broken: str | None = None
        self.dead_letters: list[DeadLetter] = []
        self._next_id = 1
        self._prepared: dict[str, _Stored] = {}
        self._owed: dict[int, tuple[Delivery, _Stored]] = {}
        self._waiting: dict[str, list[tuple[float, int]]] = {}  # by target, heaps of (due, id)
        self._in_flight: set[int] = set()

    async def open(self) -> Sequence[Prepared]:
        return [Prepared(stored.copy()) for stored in self._prepared.values()]

    async def close(self) -> None:
        pass

    async def prepare(self, message: Message, planned: Sequence[Planned]) -> None:
        await self.check()
        if not planned or message.id in self._prepared:
            raise ValueError(f"message {message.id} cannot be prepared: it is already, or has no copies")
        self._prepared[message.id] = _Stored(message, b"".join(message.content.chunks()), tuple(planned))

    def commit(self, message_id: str) -> None:
        stored = self._prepared.pop(message_id, None)
        if stored is None:
            raise ValueError(f"message {message_id} is not prepared")
        for plan in stored.planned:
            id_, self._next_id = self._next_id, self._next_id + 1
            self._owed[id_] = (Delivery(id_, stored.message, plan.target, plan.route, 0, plan.expires_at), stored)
            heapq.heappush(self._waiting.setdefault(plan.target, []), (stored.message.received_at, id_))
        for plan in stored.planned:
            self.on_due(plan.target)

    async def abort(self, message_id: str) -> None:
        await self.check()
        self._prepared.pop(message_id, None)

    async def claim(self, target: str, now: float, limit: int) -> Sequence[Delivery]:
        await self.check()
        waiting = self._waiting.get(target, [])
        claimed: list[Delivery] = []
        while waiting and waiting[0][0] <= now and len(claimed) < limit:
            _, id_ = heapq.heappop(waiting)
            delivery, stored = self._owed[id_]
            content = MemoryContent(stored.data)
            claimed.append(replace(delivery, message=replace(delivery.message, content=content)))
            self._in_flight.add(id_)
        return claimed

    def settle(self, settlement: Settlement) -> None:
        id_ = settlement.delivery.id
        if id_ not in self._in_flight:
            raise ValueError(f"delivery {id_} is not in flight")
        self._in_flight.remove(id_)
        delivery, stored = self._owed.pop(id_)
        attempts = delivery.attempts + settlement.attempted
        envelope = delivery.message.envelope
        if settlement.dead:
            dead = replace(stored.copy(), envelope=replace(envelope, recipients=settlement.dead))
            self.dead_letters.append(DeadLetter(replace(delivery, message=dead, attempts=attempts), settlement.reason))
        if settlement.again:
            message = replace(delivery.message, envelope=replace(envelope, recipients=settlement.again))
            self._owed[id_] = (replace(delivery, message=message, attempts=attempts), stored)
            heapq.heappush(self._waiting[delivery.target], (settlement.at, id_))

    async def next_due(self, target: str) -> float | None:
        waiting = self._waiting.get(target)
        return waiting[0][0] if waiting else None

    async def targets(self) -> Sequence[TargetCount]:
        names = dict.fromkeys(delivery.target for delivery, _ in self._owed.values())
        names |= dict.fromkeys(letter.delivery.target for letter in self.dead_letters)
        counts = []
        for name in sorted(names):
            received = [d.message.received_at for d, _ in self._owed.values() if d.target == name]
            dead = sum(letter.delivery.target == name for letter in self.dead_letters)
            counts.append(TargetCount(name, len(received), dead, min(received, default=None)))
        return counts

    async def check(self) -> None:
        if self.broken is not None:
            raise SpoolError(self.broken)
