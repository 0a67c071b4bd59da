"""A spool in memory: the fake that ships with the port. Not durable: what is owed is lost with the process.

For the demo and for tests. It behaves like `waypost.store.sqlite` in everything else, and the same tests run
on both. `after_crash` makes a test's process die and come back.
"""

import heapq
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from waypost.delivery.spool import (
    Action,
    Delivery,
    Entry,
    Filter,
    Instance,
    LaneCount,
    Note,
    Planned,
    Prepared,
    Settlement,
    SpoolError,
    State,
)
from waypost.mail.content import MemoryContent
from waypost.mail.message import Message, Recipient

_WAITING = (State.QUEUED, State.HELD, State.DEAD)
_ALLOWED = {"retry": _WAITING, "hold": (State.QUEUED,), "release": (State.HELD,), "delete": _WAITING}
"""The states in which each action does something."""


@dataclass(frozen=True, slots=True)
class _Stored:
    message: Message
    data: bytes
    planned: tuple[Planned, ...] = ()

    def copy(self, recipients: tuple[Recipient, ...] | None = None) -> Message:
        """The message with content that its owner may close, for these recipients or all."""
        envelope = self.message.envelope
        if recipients is not None:
            envelope = replace(envelope, recipients=recipients)
        return replace(self.message, envelope=envelope, content=MemoryContent(self.data))


@dataclass(frozen=True, slots=True)
class _Owed:
    stored: _Stored
    delivery: Delivery  # its content is never read: it may be closed
    next_at: float
    state: State = State.QUEUED
    reason: str = ""
    died_at: float = 0
    intent: str | None = None

    def claimed(self) -> Delivery:
        """The delivery with content of its own."""
        recipients = self.delivery.message.envelope.recipients
        return replace(self.delivery, message=self.stored.copy(recipients), reason=self.reason)

    def entry(self) -> Entry:
        """The delivery as people look at it."""
        delivery, envelope = self.delivery, self.delivery.message.envelope
        return Entry(
            delivery.id,
            delivery.message.id,
            delivery.lane,
            delivery.route,
            self.state,
            delivery.attempts,
            delivery.message.received_at,
            self.next_at if self.state is State.QUEUED else None,
            delivery.expires_at,
            str(envelope.reverse_path),
            tuple(str(recipient.address) for recipient in envelope.recipients),
            len(self.stored.data),
            self.reason,
            delivery.doubt,
        )


class MemorySpool:
    """The `Spool` port, in memory. `on_due` is called with a lane's name when it has something newly due.

    `broken` makes everything that would write raise it, or `SpoolError` with this text. There is no other instance, so
    that no note of one is ever told of.
    """

    def __init__(
        self, *, on_due: Callable[[str], None] = lambda lane: None, now: Callable[[], float] = time.time
    ) -> None:
        self.on_due = on_due
        self.broken: str | SpoolError | None = None
        self.stored = self.commits = 0
        self._now = now
        self._started_at = now()
        self._next_id = 1
        self._prepared: dict[str, _Stored] = {}
        self._orphans: list[_Stored] = []
        self._owed: dict[int, _Owed] = {}  # in the order of their ids
        self._waiting: dict[str, list[tuple[float, int]]] = {}  # by lane, heaps of (due, id); some are outdated
        self._notes: dict[tuple[str, str], Note] = {}

    def after_crash(self) -> "MemorySpool":
        """What a durable spool would be after a crash: nothing runs, and what was in memory only is forgotten."""
        spool = MemorySpool(on_due=self.on_due, now=self._now)
        spool._next_id = self._next_id
        spool._prepared, spool._orphans = dict(self._prepared), list(self._prepared.values())
        spool._notes = dict(self._notes)
        for id_, owed in self._owed.items():
            state = State.QUEUED if owed.state is State.RUNNING else owed.state
            doubt = owed.intent or owed.delivery.doubt
            spool._owed[id_] = replace(owed, state=state, intent=None, delivery=replace(owed.delivery, doubt=doubt))
            if state is State.QUEUED:
                spool._wait(id_)
        return spool

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def orphans(self) -> Sequence[Prepared]:
        orphans, self._orphans = self._orphans, []
        return [Prepared(stored.copy(), stored.planned) for stored in orphans if stored.message.id in self._prepared]

    # -- in

    async def prepare(self, message: Message, planned: Sequence[Planned]) -> None:
        await self.check()
        if not planned or message.id in self._prepared:
            raise ValueError(f"message {message.id} cannot be prepared: it is already, or nothing is planned")
        if any(plan.running for plan in planned):
            raise ValueError(f"message {message.id}: what is only prepared cannot run")
        self._prepared[message.id] = _stored(message, planned)

    def commit(self, message_id: str) -> None:
        stored = self._taken(message_id)
        self._add(stored, stored.planned)

    async def commit_as(self, message_id: str, planned: Sequence[Planned]) -> Sequence[Delivery]:
        await self.check()
        return self._add(self._taken(message_id), planned)

    async def abort(self, message_id: str) -> None:
        await self.check()
        self._prepared.pop(message_id, None)

    async def accept(self, message: Message, planned: Sequence[Planned]) -> Sequence[Delivery]:
        await self.check()
        if not planned or message.id in self._prepared:
            raise ValueError(f"message {message.id} cannot be accepted: it is prepared, or nothing is planned")
        return self._add(_stored(message, planned), planned)

    # -- out

    async def claim(self, lane: str, now: float, limit: int) -> Sequence[Delivery]:
        await self.check()
        claimed: list[Delivery] = []
        while len(claimed) < limit and (at := self._next(lane)) is not None and at <= now:
            _, id_ = heapq.heappop(self._waiting[lane])
            owed = self._owed[id_]
            self._owed[id_] = replace(owed, state=State.RUNNING)
            claimed.append(owed.claimed())
        return claimed

    async def intend(self, delivery: Delivery, upstream: str) -> None:
        await self.check()
        self._owed[delivery.id] = replace(self._running(delivery.id), intent=upstream)

    def settle(self, settlement: Settlement) -> None:
        id_ = settlement.delivery.id
        owed = self._running(id_)
        delivery, reason = owed.delivery, settlement.reason
        delivery = replace(delivery, attempts=delivery.attempts + settlement.attempted, doubt=None)
        stored = owed.stored
        if settlement.again:
            again = replace(
                delivery,
                message=stored.copy(settlement.again),
                doubt=settlement.doubt,
                warned=delivery.warned or settlement.warned,
            )
            self._owed[id_] = _Owed(stored, again, settlement.at, reason=reason)
            self._wait(id_)
        elif not settlement.dead:
            del self._owed[id_]
        if settlement.dead:
            dead = replace(delivery, message=stored.copy(settlement.dead))
            if settlement.again:
                dead = replace(dead, id=self._new_id())
            self._owed[dead.id] = _Owed(stored, dead, 0, State.DEAD, reason, self._now())
        if settlement.copies:
            self._add(stored, settlement.copies)
        for message, plan in settlement.notices:
            self._add(_stored(message, (plan,)), (plan,))

    async def next_due(self, lane: str) -> float | None:
        return self._next(lane)

    async def lanes(self) -> Sequence[LaneCount]:
        by_lane: dict[str, list[_Owed]] = {}
        for owed in self._owed.values():
            by_lane.setdefault(owed.delivery.lane, []).append(owed)
        counts = []
        for lane, all_ in sorted(by_lane.items()):
            held = sum(owed.state is State.HELD for owed in all_)
            dead = sum(owed.state is State.DEAD for owed in all_)
            received = [owed.delivery.message.received_at for owed in all_ if owed.state is not State.DEAD]
            counts.append(LaneCount(lane, len(all_) - held - dead, held, dead, min(received, default=None)))
        return counts

    async def check(self) -> None:
        if self.broken is not None:
            raise SpoolError(self.broken) if isinstance(self.broken, str) else self.broken

    # -- by hand

    async def find(self, where: Filter, *, after: int = 0, limit: int = 100) -> Sequence[Entry]:
        found: list[Entry] = []
        for id_, owed in self._owed.items():
            if len(found) == limit:
                break
            if id_ > after and where.admits(entry := owed.entry()):
                found.append(entry)
        return found

    async def read(self, id_: int) -> tuple[Entry, Delivery] | None:
        owed = self._owed.get(id_)
        return None if owed is None else (owed.entry(), owed.claimed())

    async def alter(self, ids: Sequence[int], action: Action, now: float, expires_at: float) -> Sequence[int]:
        await self.check()
        return [id_ for id_ in dict.fromkeys(ids) if self._alter(id_, action, now, expires_at)]

    async def purge(self, died_before: float) -> int:
        await self.check()
        old = [id_ for id_, owed in self._owed.items() if owed.state is State.DEAD and owed.died_at < died_before]
        for id_ in old:
            del self._owed[id_]
        self._notes = {(note.kind, note.key): note for note in await self.notes()}
        return len(old)

    # -- notes

    async def notes(self) -> Sequence[Note]:
        now = self._now()
        return [note for note in self._notes.values() if note.until > now]

    def put(self, note: Note) -> None:
        self._notes[note.kind, note.key] = note

    def drop(self, kind: str, key: str) -> None:
        self._notes.pop((kind, key), None)

    async def instances(self) -> Sequence[Instance]:
        return [Instance("memory", self._started_at, self._now())]

    # -- inside

    def _taken(self, message_id: str) -> _Stored:
        stored = self._prepared.pop(message_id, None)
        if stored is None:
            raise ValueError(f"message {message_id} is not prepared")
        return stored

    def _new_id(self) -> int:
        id_, self._next_id = self._next_id, self._next_id + 1
        return id_

    def _add(self, stored: _Stored, planned: Sequence[Planned]) -> list[Delivery]:
        """Makes all of `planned` due; those that run already."""
        running = []
        for plan in planned:
            message = stored.copy(plan.recipients)
            delivery = Delivery(self._new_id(), message, plan.lane, plan.route, 0, plan.expires_at, plan.doubt)
            owed = _Owed(stored, delivery, message.received_at)
            if plan.running:
                owed = replace(owed, state=State.RUNNING)
                running.append(owed.claimed())
            self._owed[delivery.id] = owed
            if not plan.running:
                self._wait(delivery.id)
        for plan in planned:
            if not plan.running:
                self.on_due(plan.lane)
        return running

    def _wait(self, id_: int) -> None:
        owed = self._owed[id_]
        heapq.heappush(self._waiting.setdefault(owed.delivery.lane, []), (owed.next_at, id_))

    def _next(self, lane: str) -> float | None:
        """When the next of `lane` is due; what does not wait any more is dropped on the way."""
        waiting = self._waiting.get(lane, [])
        while waiting:
            at, id_ = waiting[0]
            owed = self._owed.get(id_)
            if owed is not None and owed.state is State.QUEUED and owed.next_at == at:
                return at
            heapq.heappop(waiting)
        return None

    def _running(self, id_: int) -> _Owed:
        owed = self._owed.get(id_)
        if owed is None or owed.state is not State.RUNNING:
            raise ValueError(f"delivery {id_} is not in flight")
        return owed

    def _alter(self, id_: int, action: Action, now: float, expires_at: float) -> bool:
        owed = self._owed.get(id_)
        if owed is None or owed.state not in _ALLOWED[action]:
            return False
        delivery = owed.delivery
        if action == "delete":
            del self._owed[id_]
        elif action == "hold":
            self._owed[id_] = replace(owed, state=State.HELD)
        else:
            if action == "retry":
                delivery = replace(delivery, expires_at=max(delivery.expires_at, expires_at))
            self._owed[id_] = replace(owed, delivery=delivery, state=State.QUEUED, next_at=now)
            self._wait(id_)
            self.on_due(delivery.lane)
        return True


def _stored(message: Message, planned: Sequence[Planned]) -> _Stored:
    return _Stored(message, b"".join(message.content.chunks()), tuple(planned))
