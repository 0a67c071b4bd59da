"""Group commit: one thread owns the database, takes all that is waiting, and writes it in one transaction.

What somebody waits for is written at once, with everything that is queued by then. What nobody waits for goes
with it, or alone after some milliseconds. While a batch is being written the next one gathers, so the more
there is to do, the less each message costs.

When changes cannot be written, they stay queued and are tried again. Until they are written the store is not
writable, and says so to everybody who asks (semantics.md, section 6).
"""

import asyncio
import sqlite3
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from waypost.delivery.spool import SpoolError, SpoolFullError
from waypost.store.batch import Awaited, Batch, Read, Written
from waypost.store.database import Database
from waypost.store.rows import MessageRow, WholeRow

FLUSH_AFTER = 0.01
"""Seconds between two looks at changes that nobody waits for: a change waits one of these, and half changes two."""

MANY = 500
"""Changes that are written without waiting any longer."""

_PAUSES = (0.25, 0.5, 1, 2, 5)  # seconds before failed changes are tried again; the last one is repeated


class Writer:
    """The way into the database, for the event loop. Nothing here blocks.

    `opened` opens the database, in the thread. `on_tick` is called before changes are written because time has
    passed: the last moment to add to them. `on_recovered` is called when the store has become writable again.
    """

    def __init__(
        self, path: Path, opened: Callable[[], Database], on_tick: Callable[[], None], on_recovered: Callable[[], None]
    ) -> None:
        self.pending = Batch()
        self.commits = 0
        """Transactions written so far."""
        self._path = path
        self._opened = opened
        self._on_tick = on_tick
        self._on_recovered = on_recovered
        self._jobs: SimpleQueue[tuple[Callable[[], Any], asyncio.Future[Any] | Batch] | None] = SimpleQueue()
        self._database: Database | None = None
        self._thread: threading.Thread | None = None
        self._busy = False
        self._urgent = False
        self._gathered = 0  # calls of `changed` since the last flush
        self._timer: asyncio.TimerHandle | None = None
        self._error: str | None = None
        self._failures = 0

    async def open(self) -> None:
        """Starts the thread and opens the database in it. Raises `SpoolError`."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="waypost-spool", daemon=True)
        self._thread.start()
        try:
            self._database = await self._ask(self._opened)
        except BaseException:
            self._join()
            raise

    async def close(self) -> None:
        """Writes what is pending and closes the database. Raises `SpoolError` when it could not be written."""
        if self._database is None:
            return
        database, self._database = self._database, None
        if self._timer is not None:
            self._timer.cancel()
        # The thread works in order: whatever it is writing now is done, and known, before this is.
        await self._ask(lambda: None)
        batch, self.pending = self.pending, Batch()
        written: Written = await self._ask(lambda: database.write(batch))
        self._settle(batch, written)
        await self._ask(database.close)
        self._join()
        if written.changes is not None:
            raise SpoolError(f"the last changes could not be recorded in {self._path}: {written.changes}")

    def raise_unless_writable(self) -> None:
        """Raises `SpoolError` while changes cannot be recorded, and when the store is not open."""
        if self._error is not None:
            raise SpoolError(self._error)
        if self._database is None:
            raise SpoolError(f"the spool {self._path} is not open")

    async def store(self, message: MessageRow | None, whole: WholeRow) -> None:
        """Writes a new message, or that of an old one; it is durable when this returns. Raises `SpoolError`."""
        self.raise_unless_writable()
        waiting = self._loop.create_future()
        self.pending.awaited.append(Awaited(message, whole, waiting))
        self._hurry()
        await waiting

    async def sync(self, *, probe: bool = False) -> None:
        """Waits until all changes made so far are durable. Raises `SpoolError`."""
        self.raise_unless_writable()
        waiting = self._loop.create_future()
        self.pending.waiting.append(waiting)
        self.pending.probe |= probe
        self._hurry()
        await waiting

    def read(self, question: Read) -> Awaitable[Any]:
        """Asks the database, after all changes made so far have been written. Raises `SpoolError`."""
        self.raise_unless_writable()
        answer = self._loop.create_future()
        self.pending.reads.append((question, answer))
        self._hurry()
        return answer

    def changed(self) -> None:
        """Must be called after `pending.changes` was added to."""
        self._gathered += 1
        if self._timer is None:
            if self._database is not None:
                self._timer = self._loop.call_later(FLUSH_AFTER, self._tick)
        elif self._gathered >= MANY and not self._busy and self._error is None:
            self._gathered = 0
            self._loop.call_soon(self._flush_many)  # not now: the caller may have more to add to the same transaction

    def _hurry(self) -> None:
        self._urgent = True
        if not self._busy:
            self._flush()

    def _flush_many(self) -> None:
        if not self._busy and self._error is None:
            self._flush()

    def _tick(self) -> None:
        self._timer = None
        self._on_tick()
        if not self._busy and self.pending.changes and self._database is not None:
            self._flush()

    def _flush(self) -> None:
        database = self._database
        if database is None:
            return
        batch, self.pending = self.pending, Batch()
        self._busy = True
        self._urgent = False
        self._gathered = 0
        failures = self._failures

        def write() -> Written:
            if failures:
                try:
                    database.make_room()
                except (sqlite3.Error, OSError):
                    pass  # the write that follows says what is wrong
            return database.write(batch)

        self._jobs.put((write, batch))

    def _written(self, batch: Batch, written: Written) -> None:
        """A batch has been written, or not; the next one may go."""
        self._busy = False
        self._settle(batch, written)
        if self._database is None:
            return
        if written.changes is not None:
            self._wait_and_retry()
        elif self._urgent:
            self._flush()
        elif self.pending.changes and self._timer is None:
            self.changed()

    def _settle(self, batch: Batch, written: Written) -> None:
        """Tells everybody who waits for a batch, and keeps what could not be written."""
        self.commits += written.committed
        if written.awaited is not None:
            refused = self._refused(written.awaited, outcomes_recorded=written.changes is None)
            for each in batch.awaited:
                _fail(each.waiting, refused)
        else:
            for each in batch.awaited:
                _resolve(each.waiting, None)
        error = written.changes or (written.awaited if batch.probe else None)
        if error is not None:
            for waiter in batch.waiting:
                _fail(waiter, self._explained(error))
        else:
            for waiter in batch.waiting:
                _resolve(waiter, None)
        if written.changes is not None:
            for _, answer in batch.reads:
                _fail(answer, self._explained(written.changes))
        else:
            for (_, answer), value in zip(batch.reads, written.answers, strict=True):
                if isinstance(value, Exception):
                    _fail(answer, SpoolError(f"the spool {self._path} cannot be read: {value}"))
                else:
                    _resolve(answer, value)
        if written.changes is not None:
            self._failures += 1
            self._error = str(self._explained(written.changes))
            self.pending.changes = batch.changes.followed_by(self.pending.changes)
        elif self._error is not None:
            self._error = None
            self._failures = 0
            self._on_recovered()
            self.changed()  # whatever `on_tick` would have added in the meantime

    def _wait_and_retry(self) -> None:
        # Whoever got in before the failure was known is not kept waiting for the retry.
        late, changes = self.pending, self.pending.changes
        self.pending = Batch(changes)
        late.changes = type(changes)()
        self._urgent = False
        for waiting in [each.waiting for each in late.awaited] + late.waiting + [a for _, a in late.reads]:
            _fail(waiting, SpoolError(self._error))
        if self._timer is not None:
            self._timer.cancel()
        pause = _PAUSES[min(self._failures, len(_PAUSES)) - 1]
        self._timer = self._loop.call_later(pause, self._retry)

    def _retry(self) -> None:
        self._timer = None
        if not self._busy:
            self._flush()

    def _refused(self, error: Exception, *, outcomes_recorded: bool) -> SpoolError:
        """Why nothing new can be stored: for lack of room, as long as outcomes can be recorded all the same."""
        explained = self._explained(error)
        is_full = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
        return SpoolFullError(str(explained)) if is_full and outcomes_recorded else explained

    def _explained(self, error: Exception) -> SpoolError:
        return SpoolError(f"the spool {self._path} cannot be written: {error}")

    async def _ask(self, job: Callable[[], Any]) -> Any:
        answer = self._loop.create_future()
        self._jobs.put((job, answer))
        return await answer

    def _join(self) -> None:
        """Ends the thread, which has nothing left to do."""
        self._jobs.put(None)
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        """The thread."""
        while (job := self._jobs.get()) is not None:
            work, whose = job
            try:
                result, error = work(), None
            except Exception as failure:  # whatever it is, somebody waits for it
                result, error = None, failure
            if isinstance(whose, Batch):
                written = result if error is None else Written(error, error)
                self._call_soon(self._written, whose, written)
            elif error is None:
                self._call_soon(_resolve, whose, result)
            else:
                self._call_soon(_fail, whose, error)

    def _call_soon(self, callback: Callable[..., None], *arguments: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *arguments)
        except RuntimeError:
            pass  # the loop was closed without `close`: nobody is left to be told


def _resolve(waiting: "asyncio.Future[Any]", value: object) -> None:
    if not waiting.done():
        waiting.set_result(value)


def _fail(waiting: "asyncio.Future[Any]", error: Exception) -> None:
    if not waiting.done():
        waiting.set_exception(error)
