"""The spool on SQLite: durable, for one process.

What is decided here is decided in the event loop, on what `waypost.store.held` keeps in memory; what has to be
remembered goes to `waypost.store.writer` as changes. Content over `INLINE` octets is in a file.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from math import inf
from pathlib import Path

from waypost.delivery.spool import Delivery, LaneCount, Planned, Prepared, Settlement, SpoolError
from waypost.mail.content import Content
from waypost.mail.message import Message
from waypost.store import queries
from waypost.store.files import FileContent, SharedContent, SpoolFolder
from waypost.store.fresh import FreshMessages
from waypost.store.held import OVERHEAD, HeldMessage, LaneAccount
from waypost.store.rows import (
    MAX_COPIES,
    DeliveryRow,
    MessageRow,
    decode_record,
    delivery_id,
    encode_recipients,
    encode_record,
    message_key,
)
from waypost.store.writer import Writer

INLINE = 64 * 1024
"""Octets of content that are kept in the database: beyond that a file is faster."""


def _ignore(lane: str) -> None:
    pass


class SqliteSpool:
    """The `Spool` port on the folder `path`, which is made when it does not exist.

    `on_due` is called with a lane's name whenever it may have something newly due; it may be set later.
    """

    def __init__(
        self, path: Path, *, on_due: Callable[[str], None] = _ignore, now: Callable[[], float] = time.time
    ) -> None:
        self.on_due = on_due
        self._now = now
        self._folder = SpoolFolder(path)
        self._writer = Writer(self._folder, self._split_halves, self._recovered)
        self._fresh = FreshMessages(self._writer)
        self._next_key = 1
        self._prepared: dict[str, HeldMessage] = {}
        self._orphans: list[Prepared] = []
        self._in_flight: dict[int, HeldMessage | None] = {}  # None: claimed from a row

    @property
    def incoming(self) -> Path:
        """Where content should be collected, so that it can be kept by renaming. Exists once the spool is open."""
        return self._folder.incoming

    async def open(self) -> None:
        await self._writer.open()
        try:
            left: queries.Left = await self._writer.read(queries.left)
        except BaseException:
            await self._writer.close()
            raise
        self._next_key = left.next_key
        for lane, queued, due, received_at in left.queued:
            account = self._fresh.account(lane)
            account.queued, account.next_at, account.oldest_row = queued, due, received_at
        for lane, dead in left.dead:
            self._fresh.account(lane).dead = dead
        for row, _ in left.prepared:
            key, id_, received_at, record, data, size, start, is_ascii = row
            planned = decode_record(record)[2]
            file = None if size is None else (data, FileContent(self._folder.content_path(key), size, is_ascii), start)
            self._prepared[id_] = HeldMessage(key, None, received_at, planned, file, 0, (1 << len(planned)) - 1)
        self._orphans = [prepared for _, prepared in left.prepared]

    async def orphans(self) -> Sequence[Prepared]:
        orphans, self._orphans = self._orphans, []
        return orphans

    async def close(self) -> None:
        self._split_halves()
        self._split_halves()  # those that the first call only marked
        await self._writer.close()

    async def prepare(self, message: Message, planned: Sequence[Planned]) -> None:
        self._writer.raise_unless_writable()
        if not 0 < len(planned) < MAX_COPIES or message.id in self._prepared:
            raise ValueError(f"message {message.id} cannot be prepared: it is already, or has no or too many copies")
        key, self._next_key = self._next_key, self._next_key + 1
        content, received_at = message.content, message.received_at
        record = encode_record(message, planned)
        file = None
        kept: Content
        row: MessageRow
        if content.size <= INLINE:
            data = content.head(INLINE)
            kept = SharedContent(data)
            row = (key, message.id, received_at, record, data, None, 0, True)
        else:
            file = await self._store(key, content)
            data, kept, start = file
            row = (key, message.id, received_at, record, data, kept.size, start, kept.is_ascii)
        try:
            await self._writer.insert(row)
        except asyncio.CancelledError:
            self._forget(key, file is not None)  # nobody is left who could commit or abort it
            raise
        except SpoolError:
            if file is not None:
                asyncio.get_running_loop().run_in_executor(None, self._folder.remove, [key])
            raise
        weight = len(data) + OVERHEAD
        mine = None
        if self._fresh.reserve(weight):
            mine = Message(message.id, received_at, message.client, message.envelope, kept)
        else:
            weight = 0
        owed = (1 << len(planned)) - 1
        self._prepared[message.id] = HeldMessage(key, mine, received_at, tuple(planned), file, weight, owed)

    def commit(self, message_id: str) -> None:
        held = self._prepared.pop(message_id, None)
        if held is None:
            raise ValueError(f"message {message_id} is not prepared")
        self._writer.pending.changes.live[held.key] = 0
        self._fresh.commit(held)
        self._writer.changed()
        for plan in held.planned:
            self.on_due(plan.lane)

    async def abort(self, message_id: str) -> None:
        held = self._prepared.pop(message_id, None)
        if held is not None:
            self._fresh.release(held)
            self._forget(held.key, held.file is not None)
            await self._writer.sync()

    async def claim(self, lane: str, now: float, limit: int) -> Sequence[Delivery]:
        self._writer.raise_unless_writable()
        account = self._fresh.accounts.get(lane)
        if account is None or limit < 1:
            return ()
        rows_due = account.next_at <= now
        if rows_due and (account.rows_next or not account.fresh):
            account.rows_next = False
            claimed = await self._claim_rows(account, now, limit)
            if claimed:
                return claimed
        account.rows_next = rows_due
        deliveries = []
        for delivery, held in self._fresh.take(account, limit):
            self._in_flight[delivery.id] = held
            deliveries.append(delivery)
        return deliveries

    def settle(self, settlement: Settlement) -> None:
        delivery = settlement.delivery
        try:
            held = self._in_flight.pop(delivery.id)
        except KeyError:
            raise ValueError(f"delivery {delivery.id} is not in flight") from None
        account = self._fresh.accounts[delivery.lane]
        if held is None:
            account.claimed.discard(delivery.id)
        if not settlement.again:
            account.queued -= 1
        if held is None or held.split or settlement.again or settlement.dead:
            self._settle_row(settlement, held, account)
        if held is not None:
            self._fresh.settled(held, delivery.id - delivery_id(held.key, 0), owed=bool(settlement.again))
        self._writer.changed()

    async def next_due(self, lane: str) -> float | None:
        account = self._fresh.accounts.get(lane)
        if account is None:
            return None
        at = min(account.next_at, account.fresh[0][0].received_at) if account.fresh else account.next_at
        return None if at == inf else at

    async def lanes(self) -> Sequence[LaneCount]:
        accounts = self._fresh.accounts
        unknown = [account for account in accounts.values() if not account.oldest_known]
        if unknown:
            try:
                question = partial(queries.oldest, lanes=[account.name for account in unknown])
                for account, received_at in zip(unknown, await self._writer.read(question), strict=True):
                    account.oldest_row = received_at
                    account.oldest_known = True
            except SpoolError:
                pass  # what is counted in memory is wanted most when the disk is full; only an age may be too high
        owed = [account for _, account in sorted(accounts.items()) if account.queued or account.dead]
        fresh = self._fresh.oldest({account.name for account in owed if account.queued})
        return [
            LaneCount(
                account.name,
                account.queued,
                0,
                account.dead,
                min(filter(None, (account.oldest_row, fresh.get(account.name))), default=None),
            )
            for account in owed
        ]

    async def check(self) -> None:
        await self._writer.sync(probe=True)

    def _settle_row(self, settlement: Settlement, held: HeldMessage | None, account: LaneAccount) -> None:
        """Writes down what became of one delivery of a message that is split, or is so from now on."""
        if held is not None and not held.split:
            self._fresh.split(held)
        delivery = settlement.delivery
        attempts = delivery.attempts + settlement.attempted
        changes = self._writer.pending.changes
        if settlement.again:
            recipients = encode_recipients(settlement.again)
            row: DeliveryRow = (
                delivery.id,
                delivery.lane,
                delivery.route,
                attempts,
                settlement.at,
                delivery.expires_at,
                recipients,
            )
            changes.deliveries[delivery.id] = row
            account.row_waits(settlement.at)
        else:
            changes.deliveries[delivery.id] = None
            account.row_removed(delivery.message.received_at)
        key = message_key(delivery.id)
        if settlement.dead:
            account.dead += 1
            dead = encode_recipients(settlement.dead)
            changes.dead.append((key, delivery.lane, delivery.route, attempts, dead, settlement.reason, self._now()))
        elif not settlement.again:
            changes.check.add(key)

    def _forget(self, key: int, has_file: bool) -> None:
        self._writer.pending.changes.forget(key, has_file)
        self._writer.changed()

    async def _store(self, key: int, content: Content) -> tuple[bytes, FileContent, int]:
        """Puts large content into its file, in a thread."""
        storing = asyncio.get_running_loop().run_in_executor(None, self._folder.store, key, content)
        try:
            return await asyncio.shield(storing)
        except asyncio.CancelledError:
            storing.add_done_callback(lambda _: self._forget(key, has_file=True))
            raise
        except OSError as error:
            raise SpoolError(f"content cannot be stored in {self._folder.path}: {error.strerror or error}") from error

    async def _claim_rows(self, account: LaneAccount, now: float, limit: int) -> Sequence[Delivery]:
        async with account.reading:  # two claims at once would be given the same rows
            account.arrived = inf
            question = partial(queries.due, lane=account.name, now=now, limit=limit, claimed=set(account.claimed))
            deliveries, next_at = await self._writer.read(question)
            account.next_at = min(next_at, account.arrived)
            for delivery in deliveries:
                account.claimed.add(delivery.id)
                self._in_flight[delivery.id] = None
            return list(deliveries)

    def _split_halves(self) -> None:
        self._fresh.split_halves()

    def _recovered(self) -> None:
        for name, account in self._fresh.accounts.items():
            if account.queued:
                self.on_due(name)
