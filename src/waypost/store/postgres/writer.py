"""Group commit: one task with a connection of its own takes all that is waiting and writes it in one transaction.

What somebody waits for is written at once, with everything that is there by then; what nobody waits for goes
with it, or alone after some milliseconds. While one batch is under way the next gathers.

When a batch cannot be written, whoever waits for it is told so. Changes stay, and are tried again until they are
recorded; until then nothing new is begun (semantics.md, section 6). Every change applies at most once, so it does
no harm when the first try had been recorded and only its answer was lost.
"""

import asyncio
import secrets
from collections.abc import Callable

import structlog

from waypost.delivery.spool import SpoolError
from waypost.store.postgres.batch import Batch, Commit, Intent, NewMessage, Written
from waypost.store.postgres.connection import COMMAND_TIMEOUT, Connection, Server, part
from waypost.store.postgres.numbers import Numbers, number_rows
from waypost.store.postgres.writing import write

FLUSH_AFTER = 0.005
"""Seconds after which changes are written that nobody waits for."""

TELL_EVERY = 0.1
"""Seconds between two notifications: commits that carry one wait for each other in the whole database."""

_MOST_OCTETS = 4 * 1024 * 1024  # of one batch
_PAUSES = (0, 0.25, 0.5, 1, 2, 5)  # seconds before a failed batch is tried again; the last one is repeated

_log = structlog.get_logger(__name__)


class Writer:
    """The way in. `on_recovered` is called when writing works again.

    `instance` is this process's number at the moment; `others` says whether there is anybody to be told of lanes.
    """

    def __init__(
        self,
        server: Server,
        numbers: Numbers,
        on_recovered: Callable[[], None],
    ) -> None:
        self.pending = Batch()
        self.instance = 0
        self.others = True
        self.sender = secrets.token_hex(8)
        self.commits = 0
        self.stored = 0
        self._server = server
        self._numbers = numbers
        self._on_recovered = on_recovered
        self._connection: Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._wanted = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._tell_timer: asyncio.TimerHandle | None = None
        self._writing: Batch | None = None
        self._closing = asyncio.Event()
        self._told_at = 0.0
        self._error: str | None = None
        self._failures = 0

    def start(self, connection: Connection) -> None:
        """Begins, on a durable connection."""
        self._connection = connection
        self._task = asyncio.get_running_loop().create_task(self._run(), name="spool writer")

    async def close(self) -> None:
        """Writes what is pending, as well as it can be. Raises `SpoolError` when changes were not recorded."""
        task, self._task = self._task, None
        if task is None:
            return
        self._closing.set()
        self._wanted.set()
        await task
        for timer in (self._timer, self._tell_timer):
            if timer is not None:
                timer.cancel()
        if self._connection is not None:
            await part(self._connection)
        if self.pending.changes:
            raise SpoolError(f"{len(self.pending.changes)} outcomes could not be recorded: {self._error}")

    def raise_unless_writable(self) -> None:
        """Raises `SpoolError` while outcomes cannot be recorded."""
        if self._error is not None:
            raise SpoolError(self._error)
        if self._task is None:
            raise SpoolError(f"the spool {self._server.name} is not open")

    async def store(self, message: NewMessage) -> None:
        """Stores a message, with what belongs to it. Durable when it returns; otherwise nothing stays stored."""
        message.recorded = asyncio.get_running_loop().create_future()
        try:
            self.raise_unless_writable()
            self.pending.messages.append(message)
            self._wanted.set()
            await message.recorded
        except BaseException:
            if message in self.pending.messages:
                self.pending.messages.remove(message)
            if message.key:
                self.withdraw(message.key, message.owner)
            raise

    async def end_prepared(self, commit: Commit, *, aborted: bool) -> bool:
        """Commits or discards a prepared message, durably; whether it was still ours."""
        commit.recorded = asyncio.get_running_loop().create_future()
        try:
            self.raise_unless_writable()
            (self.pending.aborts if aborted else self.pending.commits).append(commit)
            self._wanted.set()
            return await commit.recorded
        except BaseException:
            for queue in (self.pending.aborts, self.pending.commits):
                if commit in queue:
                    queue.remove(commit)
            self.withdraw(commit.key, commit.owner)
            raise

    async def intend(self, id_: int, owner: int, upstream: str) -> bool:
        """Records an intent, durably; whether the claim was still ours."""
        self.raise_unless_writable()
        recorded: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.pending.intents.append(Intent(id_, owner, upstream, recorded))
        self._wanted.set()
        return await recorded

    async def sync(self, *, probe: bool = False) -> None:
        """Waits until all changes made so far are durable. Raises `SpoolError`."""
        self.raise_unless_writable()
        if probe or self._writing is not None or self.pending.changes:
            waiting = asyncio.get_running_loop().create_future()
            self.pending.waiting.append(waiting)
            self.pending.probe |= probe
            self._wanted.set()
            await waiting

    def unwritten_notes(self) -> set[tuple[str, str]]:
        """The keys of notes that were put or dropped here, and are not recorded yet."""
        keys = set(self.pending.changes.notes)
        return keys if self._writing is None else keys | set(self._writing.changes.notes)

    def withdraw(self, key: int, owner: int) -> None:
        """Removes a message that may or may not be stored, and what was uploaded for it."""
        self.pending.changes.withdrawn[key] = owner
        self.changed()

    def changed(self) -> None:
        """Must be called after `pending.changes` was added to."""
        if self._timer is None and self._task is not None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_AFTER, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._wanted.set()

    async def _run(self) -> None:
        while True:
            if not self._closing.is_set():
                await self._wanted.wait()
            self._wanted.clear()
            batch = self._take()
            if not batch and not batch.changes.told:
                if self._closing.is_set():
                    return
                if self._error is None:
                    continue
            elif len(batch) == len(batch.waiting) and not batch.probe and self._error is None:
                self._succeeded(batch, Written())  # what they waited for was in the batch before
                continue
            self._writing = batch
            try:
                written = await self._write(batch)
            except Exception as error:  # a defect of ours too must be told to those who wait
                self._failed(batch, error)
                if self._closing.is_set():
                    return
                await self._pause(_PAUSES[min(self._failures, len(_PAUSES)) - 1])
            else:
                self._succeeded(batch, written)
            finally:
                self._writing = None

    async def _pause(self, seconds: float) -> None:
        """Lets some time pass before the next try; less when the spool is closed."""
        try:
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        except TimeoutError:
            pass
        self._wanted.set()

    def _take(self) -> Batch:
        batch, self.pending = self.pending, Batch()
        octets = 0
        for number, message in enumerate(batch.messages):
            octets += message.weight
            if octets > _MOST_OCTETS and number:
                self.pending.messages = batch.messages[number:]
                del batch.messages[number:]
                self._wanted.set()
                break
        return batch

    async def _write(self, batch: Batch) -> Written:
        loop = asyncio.get_running_loop()
        with self._server.explained("cannot be written"):
            async with asyncio.timeout(COMMAND_TIMEOUT):
                connection = self._connection
                if connection is None or connection.is_closed():
                    connection = self._connection = await self._server.connect(durable=True)
                try:
                    await number_rows(connection, batch, self._numbers)
                    # Notes are told at once, lanes not more often than is useful.
                    talks = self.others and (
                        bool(batch.changes.notes) or self._closing.is_set() or loop.time() >= self._told_at + TELL_EVERY
                    )
                    written = await write(connection, batch, self.instance, self.sender if talks else None)
                except BaseException:
                    connection.terminate()
                    raise
        self.commits += 1
        if not self.others:
            pass
        elif not talks:
            self._tell_later(batch.changes.told | written.lanes)
        elif written.lanes or batch.changes.told:
            self._told_at = loop.time()
        return written

    def _tell_later(self, lanes: set[str]) -> None:
        if lanes:
            self.pending.changes.told |= lanes
            if self._tell_timer is None:
                self._tell_timer = asyncio.get_running_loop().call_later(TELL_EVERY, self._tell_now)

    def _tell_now(self) -> None:
        self._tell_timer = None
        self._wanted.set()

    def _succeeded(self, batch: Batch, written: Written) -> None:
        self.stored += len(batch.messages)
        recovered, self._error, self._failures = self._error is not None, None, 0
        batch.resolve(written)
        for message in batch.messages:
            if message.recorded is not None and message.recorded.cancelled():
                self.withdraw(message.key, message.owner)
        for settled in batch.changes.settled:
            for notice in settled.settlement.notices:
                notice[0].content.close()
        _say_what_is_lost(batch, written)
        if recovered:
            _log.info("the spool can be written again", spool=self._server.name)
            self._on_recovered()

    def _failed(self, batch: Batch, error: Exception) -> None:
        known = error if isinstance(error, SpoolError) else SpoolError(f"internal error: {error!r}")
        self._failures += 1
        if self._error is None:
            _log.error("the spool cannot be written", error=str(known), exc_info=None if known is error else error)
        self._error = str(known)
        # Those who came while the batch was under way are not kept waiting for the next try.
        late, self.pending = self.pending, Batch(batch.changes.followed_by(self.pending.changes))
        for message in batch.messages:
            if message.key:  # it may be stored all the same, when only the answer was lost
                self.withdraw(message.key, message.owner)
        batch.refuse(known)
        late.refuse(known)


def _say_what_is_lost(batch: Batch, written: Written) -> None:
    for commit in batch.changes.commits:
        if commit.key in written.lost_commits:
            _log.warning("a prepared message was taken over by another instance", id=commit.message_id)
    for lost in written.lost_settlements:
        delivery = lost.settlement.delivery
        _log.warning("an outcome comes too late", id=delivery.message.id, lane=delivery.lane, delivery=delivery.id)
