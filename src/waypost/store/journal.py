"""The journal in SQLite: a file of its own beside the spool, written in a thread of its own.

Nobody waits for the journal. Records gather in memory and are handed to the thread ten times a second; when they
cannot be written, because the disk is full, they wait there up to `CAPACITY`, then are dropped and counted, and mail
flows. A damaged file is put aside under another name and a new journal is begun: history is worth less than mail.
"""

import asyncio
import json
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import structlog

from waypost.observe.journal import JournalError, Search
from waypost.observe.record import Record
from waypost.store.journal_file import JournalFile, Row

log = structlog.get_logger()

CAPACITY = 32 * 1024 * 1024
"""Characters of records that wait in memory while they cannot be written."""

FLUSH_AFTER = 0.1
"""Seconds that a record waits for others at most."""

MANY = 500
"""Records that are written without waiting any longer."""

_PAUSES = (0.5, 1, 2, 5, 10)  # seconds before records that could not be written are tried again; the last repeats
_MOST_EVENTS = 10_000  # of one message that are read: two hundred recipients, each tried for five days, have fewer

T = TypeVar("T")


class SqliteJournal:
    """A `waypost.observe.journal.Journal` in the folder of the spool. Used from one event loop."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "journal.db"
        self._thread = ThreadPoolExecutor(1, "waypost-journal")
        self._file: JournalFile | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pending: list[Row] = []
        self._size = 0  # characters in `_pending`, and in what is being written
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Future[None] | None = None
        self._failures = 0  # in a row
        self._unsaid = 0  # records dropped since it was said last
        self.written = 0
        self.dropped = 0

    async def open(self) -> None:
        """Opens the file, or begins a new one. Raises `JournalError`."""
        self._loop = asyncio.get_running_loop()
        self._file = await self._in_thread(self._opened)
        if self._pending:
            self._schedule(0)

    async def close(self) -> None:
        """Writes what is pending, as far as it can be written now, and closes."""
        if self._file is None:
            return
        await self.flush()
        file, self._file = self._file, None
        if self._timer is not None:
            self._timer.cancel()
        for _ in self._pending:
            self._drop()
        self._pending.clear()
        await self._in_thread(file.close)
        self._thread.shutdown(wait=False)
        self._say_what_is_lost()

    def write(self, message_id: str, line: str, keys: Sequence[str] = ()) -> None:
        """Remembers one record: well under a microsecond here; the rest happens in the thread."""
        size = self._size + len(line)
        if size > CAPACITY or (self._file is None and self._loop is not None):
            self._drop()
            return
        self._size = size
        self._pending.append((message_id, line, keys))
        if self._timer is None:
            self._schedule(FLUSH_AFTER)
        elif len(self._pending) == MANY and not self._failures:
            self._flush()

    async def events(self, message_id: str) -> Sequence[Record]:
        """All that is known of one message. Raises `JournalError`."""
        lines = await self._read(lambda file: file.events(message_id, _MOST_EVENTS))
        return [json.loads(line) for line in lines]

    async def find(self, search: Search, *, limit: int = 100) -> Sequence[str]:
        """The ids of messages that match. Raises `JournalError`."""
        return await self._read(lambda file: file.find(search, limit))

    async def prune(self, before: float) -> int:
        """Forgets what is older, in steps between which records are written. Raises `JournalError`."""
        forgotten = 0
        while step := await self._read(lambda file: file.forget(before)):
            forgotten += step
        while await self._read(JournalFile.forget_keys):
            pass
        return forgotten

    # -- writing

    def _schedule(self, seconds: float) -> None:
        if self._loop is not None and self._file is not None:
            self._timer = self._loop.call_later(seconds, self._flush)

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._writing is not None or not self._pending or self._loop is None or self._file is None:
            return
        rows, self._pending = self._pending, []
        self._writing = asyncio.ensure_future(self._write(rows))

    async def _write(self, rows: list[Row]) -> None:
        try:
            await self._in_thread(lambda: self._put(rows))
        except (sqlite3.Error, OSError, JournalError) as error:
            self._writing = None
            self._pending[:0] = rows
            if not self._failures:
                log.error("journal_not_written", path=self._path, reason=str(error))
            self._failures += 1
            self._schedule(_PAUSES[min(self._failures, len(_PAUSES)) - 1])
            return
        self._writing = None
        self._size -= sum(len(line) for _, line, _ in rows)
        self.written += len(rows)
        if self._failures:
            self._failures = 0
            log.info("journal_written_again", path=self._path)
        self._say_what_is_lost()
        if len(self._pending) >= MANY:
            self._flush()
        elif self._pending and self._timer is None:
            self._schedule(FLUSH_AFTER)

    async def flush(self) -> None:
        """Waits until all that was written before this call is in the file, or could not be written."""
        for _ in range(2):  # what is being written now, and what has gathered meanwhile
            self._flush()
            if self._writing is None:
                return
            await asyncio.wait({self._writing})

    def _drop(self) -> None:
        if not self._unsaid:
            log.error("journal_full", path=self._path, reason="records wait for too long, and are dropped from now on")
        self._unsaid += 1
        self.dropped += 1

    def _say_what_is_lost(self) -> None:
        if self._unsaid:
            log.error("journal_records_lost", path=self._path, count=self._unsaid)
            self._unsaid = 0

    # -- in the thread

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _read(self, question: Callable[[JournalFile], T]) -> T:
        await self.flush()
        file = self._file
        if file is None:
            raise JournalError(f"the journal {self._path} is not open")
        try:
            return await self._in_thread(lambda: question(file))
        except sqlite3.Error as error:
            raise JournalError(f"the journal {self._path} cannot be read: {error}") from error

    def _put(self, rows: list[Row]) -> None:
        file = self._file
        if file is None:
            return
        try:
            file.write(rows)
        except sqlite3.ProgrammingError:  # closed: it was damaged, and no new one could be begun then
            self._file = self._opened()
            self._file.write(rows)
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise
            file.close()
            self._file = self._begun_anew(error)
            self._file.write(rows)

    def _opened(self) -> JournalFile:
        try:
            return JournalFile.open(self._path)
        except sqlite3.DatabaseError as error:
            if _is_damage(error):
                return self._begun_anew(error)
            if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise JournalError(f"the journal {self._path} is in use by another process") from error
            raise JournalError(f"cannot open the journal {self._path}: {error}") from error
        except (OSError, JournalError) as error:
            raise JournalError(f"cannot open the journal {self._path}: {error}") from error

    def _begun_anew(self, damage: Exception) -> JournalFile:
        """Puts a damaged file aside, with its write-ahead log, and begins a new one."""
        aside = self._path.with_name(f"{self._path.name}.damaged-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}")
        log.error("journal_damaged", path=self._path, reason=str(damage), moved_to=aside)
        for suffix in ("", "-wal"):
            try:
                Path(f"{self._path}{suffix}").rename(f"{aside}{suffix}")
            except FileNotFoundError:
                pass
        return JournalFile.open(self._path)


def _is_damage(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
