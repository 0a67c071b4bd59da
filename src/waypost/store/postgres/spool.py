"""The spool on PostgreSQL: durable, for several instances on one database.

All tables are in the schema `waypost` of the database that the URL names. What is owed is known to the database
alone: this process remembers only what it has prepared and what it runs, each with the number under which it did
so (see `waypost.store.postgres.instances`). Everything that is written goes through one writer; claims and
questions take other connections.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
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
from waypost.store.postgres import instances, queries
from waypost.store.postgres.board import NoticeBoard
from waypost.store.postgres.claiming import Claims
from waypost.store.postgres.connection import Connection, Pool, Server, load_driver
from waypost.store.postgres.content import INLINE, ContentStore
from waypost.store.postgres.incoming import Incoming
from waypost.store.postgres.instances import Taken
from waypost.store.postgres.notes import News, read_notes
from waypost.store.postgres.numbers import Numbers
from waypost.store.postgres.outcomes import Outcomes
from waypost.store.postgres.quotas import PostgresQuotas
from waypost.store.postgres.schema import prepare_schema
from waypost.store.postgres.watch import Watch
from waypost.store.postgres.writer import Writer

LEASE = 30
"""Seconds of silence after which others take over from an instance."""

_PATIENCE = 35  # seconds for a question of a person, who may ask about a million deliveries


def _ignore(lane: str) -> None:
    pass


class PostgresSpool:
    """The `Spool` port on the database at `url`, as the instance called `instance`.

    An earlier process of the same name, when it is not connected any more, is taken over from at once, others after
    `lease` seconds of silence: so a name should be the same after a restart. The URL must lead to the server, or to
    a pooler that keeps sessions: notifications and locks belong to them. `on_due` is called with a lane's name
    whenever it may have something newly due, `on_note` with notes that other instances have put; both may be
    set later. Large content is handed out in temporary files in `directory`, the system's by default.
    """

    def __init__(
        self,
        url: str,
        *,
        instance: str,
        on_due: Callable[[str], None] = _ignore,
        on_note: Callable[[Note], None] | None = None,
        now: Callable[[], float] = time.time,
        lease: float = LEASE,
        directory: Path | None = None,
    ) -> None:
        self.on_due = on_due
        self._now = now
        self._server = Server(url)
        self._pool = Pool(self._server)
        numbers = Numbers()
        self.quotas = PostgresQuotas(self._pool)
        self._writer = Writer(self._server, numbers, self._watch_again)
        self._contents = ContentStore(self._pool, numbers, directory)
        self._claims = Claims(self._pool, self._contents)
        self._incoming = Incoming(self._pool, self._writer, self._contents, self._claims)
        self._outcomes = Outcomes(self._writer, self._contents, now)
        self._board = NoticeBoard(self._writer, now)
        self._watch = Watch(self._server, instance, lease, now, self)
        self._forgotten: set[int] = set()
        if on_note is not None:
            self.on_note = on_note

    @property
    def on_note(self) -> Callable[[Note], None]:
        """Who is told of the notes of other instances."""
        return self._board.on_note

    @on_note.setter
    def on_note(self, callback: Callable[[Note], None]) -> None:
        self._board.on_note = callback

    @property
    def commits(self) -> int:
        """Transactions in which something was written since the start."""
        return self._writer.commits

    @property
    def stored(self) -> int:
        """Messages stored since the start."""
        return self._writer.stored

    async def open(self) -> None:
        load_driver()
        connection = await self._server.connect(durable=True)
        try:
            await prepare_schema(self._server, connection)
        except BaseException:
            connection.terminate()
            raise
        self._writer.start(connection)
        try:
            await self._watch.start()
        except BaseException:
            await self._writer.close()
            raise

    async def close(self) -> None:
        await self._outcomes.finished()
        reachable = False
        try:
            await self._writer.close()
            reachable = True
        finally:
            await self._watch.close(leave=reachable)
            await self._pool.close()

    async def orphans(self) -> Sequence[Prepared]:
        return await self._incoming.orphans()

    # -- in

    async def prepare(self, message: Message, planned: Sequence[Planned]) -> None:
        await self._incoming.prepare(message, planned)

    def commit(self, message_id: str) -> None:
        self.due(self._incoming.commit(message_id))

    async def commit_as(self, message_id: str, planned: Sequence[Planned]) -> Sequence[Delivery]:
        running = await self._incoming.commit_as(message_id, planned)
        self.due({plan.lane for plan in planned if not plan.running})
        return running

    async def abort(self, message_id: str) -> None:
        await self._incoming.abort(message_id)

    async def accept(self, message: Message, planned: Sequence[Planned]) -> Sequence[Delivery]:
        running = await self._incoming.accept(message, planned)
        self.due({plan.lane for plan in planned if not plan.running})
        return running

    # -- out

    async def claim(self, lane: str, now: float, limit: int) -> Sequence[Delivery]:
        if limit < 1:
            return ()
        await self._writer.sync()
        claimed = await self._claims.claim(lane, now, limit, self._writer.instance)
        if 0 < len(claimed) < limit and claimed[-1].message.content.size > INLINE:
            asyncio.get_running_loop().call_soon(self.on_due, lane)  # it ended there, and there may be more
        return claimed

    async def intend(self, delivery: Delivery, upstream: str) -> None:
        if not await self._writer.intend(delivery.id, self._claims.owner(delivery.id), upstream):
            raise SpoolError(f"delivery {delivery.id} was taken over by another instance")

    def settle(self, settlement: Settlement) -> None:
        self._outcomes.settle(settlement, self._claims.end(settlement.delivery.id))
        if settlement.copies or settlement.notices:
            self.due({plan.lane for plan in (*settlement.copies, *(plan for _, plan in settlement.notices))})

    async def next_due(self, lane: str) -> float | None:
        await self._up_to_date()
        async with self._pool.connection() as connection:
            return await queries.next_due(connection, lane)

    async def lanes(self) -> Sequence[LaneCount]:
        await self._up_to_date()
        async with self._pool.connection(_PATIENCE) as connection:
            return await queries.count_lanes(connection)

    async def check(self) -> None:
        await self._writer.sync(probe=True)

    # -- by hand

    async def find(self, where: Filter, *, after: int = 0, limit: int = 100) -> Sequence[Entry]:
        await self._up_to_date()
        async with self._pool.connection(_PATIENCE) as connection:
            return await queries.find(connection, where, after, limit)

    async def read(self, id_: int) -> tuple[Entry, Delivery] | None:
        await self._up_to_date()
        async with self._pool.connection() as connection:
            entry = await queries.read_entry(connection, id_)
        delivery = None if entry is None else await self._claims.read(id_)
        return None if entry is None or delivery is None else (entry, delivery)

    async def alter(self, ids: Sequence[int], action: Action, now: float, expires_at: float) -> Sequence[int]:
        await self._writer.sync()
        async with self._pool.connection(_PATIENCE) as connection:
            altered = await queries.alter(connection, ids, action, now, expires_at)
        if action in ("retry", "release"):
            self._writer.pending.changes.told.update(altered.values())
            self._writer.changed()
            self.due(set(altered.values()))
        return [id_ for id_ in dict.fromkeys(ids) if id_ in altered]

    async def purge(self, died_before: float) -> int:
        await self._writer.sync()
        purged = 0
        while True:
            async with self._pool.connection() as connection:
                some = await queries.purge(connection, died_before)
            if not some:
                return purged
            purged += some

    # -- notes

    async def notes(self) -> Sequence[Note]:
        await self._writer.sync()
        async with self._pool.connection() as connection:
            return await read_notes(connection, self._now())

    def put(self, note: Note) -> None:
        self._board.put(note)

    def drop(self, kind: str, key: str) -> None:
        self._board.drop(kind, key)

    async def instances(self) -> Sequence[Instance]:
        async with self._pool.connection() as connection:
            return await instances.all_instances(connection)

    # -- for the watch

    async def begin(self, connection: Connection) -> None:
        """See `Watcher`."""
        await self._board.learn(connection)

    def numbered(self, number: int, alone: bool) -> None:
        """See `Watcher`."""
        self._writer.instance = number
        self._writer.others = not alone

    def due(self, lanes: Collection[str]) -> None:
        """See `Watcher`."""
        for lane in sorted(lanes):
            self.on_due(lane)

    def taken(self, taken: Taken) -> None:
        """See `Watcher`."""
        self._incoming.inherit(taken.prepared)
        self.due(taken.lanes)

    async def heard(self, connection: Connection, news: Sequence[News]) -> None:
        """See `Watcher`."""
        known = [one for one in news if one.sender != self._writer.sender]
        if any(one.all for one in known):
            await self._board.compare(connection, None)
        elif keys := {key for one in known for key in one.notes}:
            await self._board.compare(connection, keys)
        self.due({lane for one in known for lane in one.lanes})

    async def reconcile(self, connection: Connection) -> None:
        """Gives back what is held in this process's name and nobody here knows of.

        That is what remains when the answer to a claim was lost, or whoever made it was cancelled. What was not
        known at the last heartbeat either has been forgotten.
        """
        number = self._writer.instance
        await self._writer.sync()
        with self._server.explained():
            running, prepared = await instances.held_by(connection, number)
            await self._board.tidy(connection)
        unknown = {id_ for id_ in running if not self._claims.knows(id_)}
        unknown |= {-key for key in prepared if not self._incoming.knows(key)}  # keys and ids are numbers alike
        forgotten, self._forgotten = unknown & self._forgotten, unknown
        self._incoming.inherit(sorted(-id_ for id_ in forgotten if id_ < 0))
        if ids := {id_ for id_ in forgotten if id_ > 0}:
            self.due(await self._claims.give_back(number, ids))

    # -- inside

    async def _up_to_date(self) -> None:
        """Waits for what is being written. What people ask for is wanted all the more when that fails."""
        try:
            await self._writer.sync()
        except SpoolError:
            pass

    def _watch_again(self) -> None:
        self._watch.look()
