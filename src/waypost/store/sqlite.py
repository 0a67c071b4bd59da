"""The spool on SQLite: durable, for one process.

What is decided here is decided in the event loop, on what `waypost.store.held` keeps in memory; what has to be
remembered goes to `waypost.store.writer` as changes. Content over `INLINE` octets is in a file.
"""

import asyncio
import os
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

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
)
from waypost.mail.message import Message
from waypost.store import queries
from waypost.store.by_hand import ByHand
from waypost.store.claims import Claims
from waypost.store.database import Database
from waypost.store.files import FileContent, SpoolFolder
from waypost.store.fresh import FreshMessages
from waypost.store.held import OVERHEAD, HeldMessage
from waypost.store.opening import open_database
from waypost.store.recovery import Left, recover
from waypost.store.rows import MAX_DELIVERIES, encode_planned
from waypost.store.storing import INLINE, Storing
from waypost.store.writer import Writer

__all__ = ["INLINE", "SqliteSpool"]


class SqliteSpool:
    """The `Spool` port on the folder `path`, which is made when it does not exist.

    `on_due` is called with a lane's name whenever it may have something newly due; it may be set later. There is
    no other instance, so that no note of one is ever told of. A folder in the machine's memory is refused unless
    `allow_temporary` is set.
    """

    def __init__(
        self,
        path: Path,
        *,
        on_due: Callable[[str], None] | None = None,
        now: Callable[[], float] = time.time,
        allow_temporary: bool = False,
    ) -> None:
        self._now = now
        self._started_at = now()
        self._folder = SpoolFolder(path)
        opened = partial(open_database, self._folder, allow_temporary=allow_temporary)
        self._writer = Writer(path, opened, self._split_halves, self._recovered)
        self._fresh = FreshMessages(self._writer)
        self._storing = Storing(self._folder, self._writer)
        self._claims = Claims(self._fresh, self._storing, self._writer, now)
        self._by_hand = ByHand(self._fresh, self._claims, self._writer)
        self._prepared: dict[str, HeldMessage] = {}
        self._orphans: Sequence[Prepared] = ()
        if on_due is not None:
            self.on_due = on_due

    @property
    def on_due(self) -> Callable[[str], None]:
        """Who is told of lanes."""
        return self._claims.on_due

    @on_due.setter
    def on_due(self, on_due: Callable[[str], None]) -> None:
        self._claims.on_due = on_due

    @property
    def incoming(self) -> Path:
        """Where content should be collected, so that it can be kept by renaming. Exists once the spool is open."""
        return self._folder.incoming

    @property
    def commits(self) -> int:
        """Transactions written so far."""
        return self._writer.commits

    @property
    def stored(self) -> int:
        """Messages stored so far."""
        return self._storing.stored

    async def open(self) -> None:
        await self._writer.open()
        try:
            left: Left = await self._writer.read(partial(recover, now=self._now()))
        except BaseException:
            await self._writer.close()
            raise
        self._storing.next_key = left.next_key
        for there in left.lanes:
            lane = self._fresh.lane(there.name)
            lane.queued, lane.held, lane.dead = there.queued, there.held, there.dead
            lane.next_at, lane.oldest_row = there.next_at, there.oldest
        for row, prepared in left.prepared:
            key, id_, received_at, _, data, size, start, is_ascii = row
            file = None if size is None else (data, FileContent(self._folder.content_path(key), size, is_ascii), start)
            held = HeldMessage(key, id_, received_at, None, file, 0, [])
            held.plan(prepared.planned)
            self._prepared[id_] = held
        self._orphans = [prepared for _, prepared in left.prepared]

    async def close(self) -> None:
        self._split_halves()
        self._split_halves()  # those that the first call only marked
        await self._writer.close()

    async def orphans(self) -> Sequence[Prepared]:
        orphans, self._orphans = self._orphans, ()
        return orphans

    # -- in

    async def prepare(self, message: Message, planned: Sequence[Planned]) -> None:
        self._refuse(message, planned)
        if any(plan.running for plan in planned):
            raise ValueError(f"message {message.id}: what is only prepared cannot run")
        held = await self._storing.store(message, planned, live=False)
        if not self._fresh.reserve(held.weight):
            held.drop_content()
        self._prepared[message.id] = held

    def commit(self, message_id: str) -> None:
        held = self._taken(message_id)
        self._writer.pending.changes.whole[held.key] = (held.key, 1, None)
        self._claims.commit(held)

    async def commit_as(self, message_id: str, planned: Sequence[Planned]) -> Sequence[Delivery]:
        self._writer.raise_unless_writable()
        held = self._taken(message_id)
        if not planned:
            await self._discard(held)
            return ()
        row = (held.key, 1, encode_planned(planned))
        try:
            if held.message is None and any(plan.running for plan in planned):
                await self._read_back(held)
            await self._writer.store(None, row)
        except asyncio.CancelledError:
            # It may be on record already, and a delivery too many beats one too few.
            self._writer.pending.changes.whole[held.key] = row
            held.plan([replace(plan, running=False) for plan in planned])
            self._claims.commit(held)
            raise
        except SpoolError:
            self._prepared[message_id] = held
            raise
        held.plan(planned)
        return self._claims.commit(held)

    async def abort(self, message_id: str) -> None:
        held = self._prepared.pop(message_id, None)
        if held is not None:
            await self._discard(held)

    async def accept(self, message: Message, planned: Sequence[Planned]) -> Sequence[Delivery]:
        self._refuse(message, planned)
        held = await self._storing.store(message, planned, live=True)
        if not self._fresh.reserve(held.weight, needed=any(plan.running for plan in planned)):
            held.drop_content()
        return self._claims.commit(held)

    # -- out

    async def claim(self, lane: str, now: float, limit: int) -> Sequence[Delivery]:
        return await self._claims.claim(lane, now, limit)

    async def intend(self, delivery: Delivery, upstream: str) -> None:
        await self._claims.intend(delivery, upstream)

    def settle(self, settlement: Settlement) -> None:
        self._claims.settle(settlement)

    async def next_due(self, lane: str) -> float | None:
        return self._claims.next_due(lane)

    async def lanes(self) -> Sequence[LaneCount]:
        lanes = self._fresh.lanes
        unknown = [lane for lane in lanes.values() if not lane.oldest_known]
        if unknown:
            try:
                question = partial(queries.oldest, lanes=[lane.name for lane in unknown])
                for lane, received_at in zip(unknown, await self._writer.read(question), strict=True):
                    lane.oldest_row = received_at
                    lane.oldest_known = True
            except SpoolError:
                pass  # what is counted in memory is wanted most when the disk is full; only an age may be too high
        some = [lane for _, lane in sorted(lanes.items()) if lane.queued or lane.held or lane.dead]
        fresh = self._fresh.oldest({lane.name for lane in some if lane.queued})
        counts = []
        for lane in some:
            oldest = min(filter(None, (lane.oldest_row, fresh.get(lane.name))), default=None)
            counts.append(LaneCount(lane.name, lane.queued, lane.held, lane.dead, oldest))
        return counts

    async def check(self) -> None:
        self._split_halves()
        self._split_halves()  # those that the first call only marked
        await self._writer.sync(probe=True)

    # -- by hand

    async def find(self, where: Filter, *, after: int = 0, limit: int = 100) -> Sequence[Entry]:
        return await self._by_hand.find(where, after, limit)

    async def read(self, id_: int) -> tuple[Entry, Delivery] | None:
        return await self._by_hand.read(id_)

    async def alter(self, ids: Sequence[int], action: Action, now: float, expires_at: float) -> Sequence[int]:
        return await self._by_hand.alter(ids, action, now, expires_at)

    async def purge(self, died_before: float) -> int:
        now = self._now()
        await self._writer.read(lambda database: database.query("DELETE FROM note WHERE until <= ?", (now,)))
        return await self._by_hand.purge(died_before)

    # -- notes

    async def notes(self) -> Sequence[Note]:
        question = "SELECT kind, key, value, until FROM note WHERE until > ?"
        rows = await self._writer.read(lambda database: database.query(question, (self._now(),)))
        return [Note(*row) for row in rows]

    def put(self, note: Note) -> None:
        self._writer.pending.changes.notes[note.kind, note.key] = note
        self._writer.changed()

    def drop(self, kind: str, key: str) -> None:
        self._writer.pending.changes.notes[kind, key] = None
        self._writer.changed()

    async def instances(self) -> Sequence[Instance]:
        return [Instance(f"{socket.gethostname()}:{os.getpid()}", self._started_at, self._now())]

    # -- inside

    def _refuse(self, message: Message, planned: Sequence[Planned]) -> None:
        """Raises what speaks against storing it."""
        self._writer.raise_unless_writable()
        if not 0 < len(planned) < MAX_DELIVERIES or message.id in self._prepared:
            raise ValueError(f"message {message.id} cannot be stored: it is prepared, or has no or too many deliveries")

    def _taken(self, message_id: str) -> HeldMessage:
        held = self._prepared.pop(message_id, None)
        if held is None:
            raise ValueError(f"message {message_id} is not prepared")
        return held

    async def _discard(self, held: HeldMessage) -> None:
        self._fresh.release(held)
        self._writer.pending.changes.forget(held.key, held.file is not None)
        self._writer.changed()
        await self._writer.sync()

    async def _read_back(self, held: HeldMessage) -> None:
        """Brings the content of a message into memory that is being delivered already."""
        read: Callable[[Database], Message] = partial(queries.read_message, key=held.key)
        held.message = await self._writer.read(read)
        held.weight = OVERHEAD + (held.message.content.size if held.file is None else 0)
        self._fresh.reserve(held.weight, needed=True)

    def _split_halves(self) -> None:
        self._fresh.split_halves()

    def _recovered(self) -> None:
        for name, lane in self._fresh.lanes.items():
            if lane.queued:
                self.on_due(name)
