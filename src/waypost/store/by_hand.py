"""What people do to the queue: look, hold, release, retry, delete.

A delivery that has no row yet, because its message was never split, is shown from memory and gets a row before
anything is changed about it.
"""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from math import inf

from waypost.delivery.spool import Action, Delivery, Entry, Filter, State
from waypost.store import entries, queries
from waypost.store.claims import Claims
from waypost.store.database import Database
from waypost.store.fresh import FreshMessages
from waypost.store.held import HeldMessage, Lane
from waypost.store.rows import DEAD, HELD, QUEUED, DeliveryRow, message_key, number_of
from waypost.store.writer import Writer

_ALTERED_AT_ONCE = 500

_ALLOWED = {"retry": (QUEUED, HELD, DEAD), "hold": (QUEUED,), "release": (HELD,), "delete": (QUEUED, HELD, DEAD)}


class ByHand:
    """The part of the port that the commands of the queue use."""

    def __init__(self, fresh: FreshMessages, claims: Claims, writer: Writer) -> None:
        self._fresh = fresh
        self._claims = claims
        self._writer = writer
        self._changing = asyncio.Lock()

    async def find(self, where: Filter, after: int, limit: int) -> Sequence[Entry]:
        """As the port says. Mail goes on between two looks at the database."""
        if where.states == frozenset((State.RUNNING,)):
            where = replace(where, ids=self._claims.ids if where.ids is None else where.ids & self._claims.ids)
        lanes = list(self._fresh.lanes)
        in_memory: dict[int, Entry] = {}
        known: float = after  # up to which id `in_memory` is complete
        while True:
            # Memory first: what gets a row in the meantime is seen twice then, not missed.
            if known <= after:
                in_memory, known = self._find_in_memory(where, after)
            page: entries.Page = await self._writer.read(
                partial(entries.find, where=where, lanes=lanes, after=after, limit=limit)
            )
            found = in_memory | {entry.id: self._with_state(entry) for entry in page.entries}
            upto = min(known, inf if page.upto is None else page.upto)
            some = [found[id_] for id_ in sorted(found) if after < id_ <= upto]
            admitted = [entry for entry in some if where.admits(entry)]
            if admitted or upto == inf:
                return admitted[:limit]
            after = int(upto)

    async def read(self, id_: int) -> tuple[Entry, Delivery] | None:
        """As the port says."""
        held, number = self._fresh.get(message_key(id_)), number_of(id_)
        if held is not None and not held.split:
            return (self._entry(id_, held), held.delivery(number)) if held.owed >> number & 1 else None
        found: tuple[Entry, Delivery] | None = await self._writer.read(partial(_read, id_=id_))
        return None if found is None else (self._with_state(found[0]), found[1])

    async def alter(self, ids: Sequence[int], action: Action, now: float, expires_at: float) -> Sequence[int]:
        """As the port says."""
        self._writer.raise_unless_writable()
        every = list(dict.fromkeys(ids))
        done: list[int] = []
        async with self._changing:
            for first in range(0, len(every), _ALTERED_AT_ONCE):
                done += await self._alter(every[first : first + _ALTERED_AT_ONCE], action, now, expires_at)
        if done:
            await self._writer.sync()
        return done

    async def purge(self, died_before: float) -> int:
        """As the port says."""
        self._writer.raise_unless_writable()
        removed = 0
        async with self._changing:
            for lane in list(self._fresh.lanes.values()):
                after: int | None = 0
                while lane.dead and after is not None:
                    removed += (step := await self._purge(lane, after, died_before))[0]
                    after = step[1]
        if removed:
            await self._writer.sync()
        return removed

    async def _purge(self, lane: Lane, after: int, died_before: float) -> tuple[int, int | None]:
        """Removes some dead letters of a lane: how many, and the last one looked at, None at the end."""
        rows = await self._writer.read(
            lambda database: database.query(
                "SELECT id, died_at FROM delivery WHERE lane = ? AND state = 2 AND id > ? ORDER BY id LIMIT ?",
                (lane.name, after, entries.LOOKED_AT),
            )
        )
        old = [id_ for id_, died_at in rows if died_at < died_before]
        changes = self._writer.pending.changes
        for id_ in old:
            changes.deliveries[id_] = None
            changes.check.add(message_key(id_))
        lane.dead -= len(old)
        self._writer.changed()
        return len(old), rows[-1][0] if len(rows) == entries.LOOKED_AT else None

    async def _alter(self, ids: Sequence[int], action: Action, now: float, expires_at: float) -> list[int]:
        self._fresh.evict([id_ for id_ in ids if id_ not in self._claims])
        done, due = [], set()
        async with AsyncExitStack() as claims_wait:
            lanes = {row.lane for row in await self._rows(ids)}
            for name in sorted(lanes):
                await claims_wait.enter_async_context(self._fresh.lanes[name].reading)
            # From here on none of these can be claimed; what was settled meanwhile is seen by reading once more.
            free = [id_ for id_ in ids if id_ not in self._claims]
            for row in await self._rows(free):
                if row.state in _ALLOWED[action]:
                    self._change(row, action, now, expires_at)
                    done.append(row.id)
                    due.add(row.lane)
        self._writer.changed()
        if action in ("retry", "release"):
            for name in sorted(due):
                self._claims.on_due(name)
        return done

    async def _rows(self, ids: Sequence[int]) -> list[DeliveryRow]:
        rows: list[DeliveryRow] = await self._writer.read(partial(queries.find_rows, ids=ids))
        return rows

    def _change(self, row: DeliveryRow, action: Action, now: float, expires_at: float) -> None:
        changes, lane = self._writer.pending.changes, self._fresh.lanes[row.lane]
        if row.state == QUEUED:
            lane.queued -= 1
        elif row.state == HELD:
            lane.held -= 1
        else:
            lane.dead -= 1
        if action == "delete":
            changes.deliveries[row.id] = None
            changes.check.add(message_key(row.id))
            if row.state != DEAD:
                lane.row_removed(row.received_at)
        elif action == "hold":
            changes.deliveries[row.id] = row._replace(state=HELD, next_at=None)
            lane.held += 1
        else:
            expires_at = max(row.expires_at, expires_at) if action == "retry" else row.expires_at
            changes.deliveries[row.id] = row._replace(state=QUEUED, next_at=now, died_at=None, expires_at=expires_at)
            lane.queued += 1
            lane.row_added(row.received_at)
            lane.row_waits(now)

    def _find_in_memory(self, where: Filter, after: int) -> tuple[dict[int, Entry], float]:
        """Deliveries without rows, and up to which id these are all."""
        found: dict[int, Entry] = {}
        rough = replace(where, states=None)
        for looked_at, (id_, held) in enumerate(self._fresh.waiting(after)):
            if looked_at == entries.LOOKED_AT:
                return found, id_ - 1
            entry = self._entry(id_, held)
            if rough.admits(entry):
                found[id_] = entry
        return found, inf

    def _entry(self, id_: int, held: HeldMessage) -> Entry:
        delivery = held.delivery(number_of(id_))
        message, envelope = delivery.message, delivery.message.envelope
        return self._with_state(
            Entry(
                id_,
                message.id,
                delivery.lane,
                delivery.route,
                State.QUEUED,
                0,
                message.received_at,
                message.received_at,
                delivery.expires_at,
                str(envelope.reverse_path),
                tuple(str(recipient.address) for recipient in envelope.recipients),
                message.content.size,
                "",
                delivery.doubt,
            )
        )

    def _with_state(self, entry: Entry) -> Entry:
        if entry.state is State.QUEUED and entry.id in self._claims:
            return replace(entry, state=State.RUNNING, next_at=None)
        return entry


def _read(database: Database, id_: int) -> tuple[Entry, Delivery] | None:
    try:
        row, entry = queries.find_row(database, id_), entries.find_entry(database, id_)
        return None if row is None or entry is None else (entry, queries.read_delivery(database, row))
    except queries.UNREADABLE as error:
        raise queries.DamagedError(f"delivery {id_}: {error}") from error
