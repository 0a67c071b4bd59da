"""The journal on PostgreSQL: in the same database as the spool, written by a task with a connection of its own.

Nobody waits for the journal. Records gather in memory and are written ten times a second; when they cannot be, they
wait there up to `CAPACITY`, then are dropped and counted, and mail flows. Commits are not awaited on disk: a crash
of the database may cost the last moments, and what happens to mail does not depend on them.
"""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import structlog

from waypost.delivery.spool import SpoolError
from waypost.mail.ids import make_id
from waypost.observe.journal import JournalError, Search
from waypost.observe.record import Record, timestamp
from waypost.store.postgres.connection import COMMAND_TIMEOUT, Connection, Pool, Server
from waypost.store.postgres.rows import plain
from waypost.store.postgres.schema import prepare_schema

CAPACITY = 32 * 1024 * 1024
"""Characters of records that wait in memory while they cannot be written."""

FLUSH_AFTER = 0.1
"""Seconds that a record waits for others at most."""

STEP = 2000
"""Records that are forgotten, and written, in one transaction."""

_PAUSES = (0.5, 1, 2, 5, 10)  # seconds before records that could not be written are tried again; the last repeats
_MOST_EVENTS = 10_000  # of one message that are read

_EVENTS = """
INSERT INTO waypost.event (message_id, at, line)
SELECT s.message_id, s.at, s.line FROM unnest($1::text[], $2::text[], $3::text[])
  WITH ORDINALITY AS s(message_id, at, line, place) ORDER BY s.place
"""

_KEYS = """
INSERT INTO waypost.event_key SELECT DISTINCT * FROM unnest($1::text[], $2::text[]) ON CONFLICT DO NOTHING
"""

_FORGET = """
WITH old AS (SELECT seq FROM waypost.event ORDER BY seq LIMIT $2 FOR UPDATE SKIP LOCKED)
DELETE FROM waypost.event e USING old WHERE e.seq = old.seq AND e.at < $1 RETURNING e.message_id
"""

_FORGET_KEYS = """
DELETE FROM waypost.event_key k WHERE k.message_id = ANY($1::text[])
AND NOT EXISTS (SELECT FROM waypost.event e WHERE e.message_id = k.message_id)
"""

_TIME = re.compile(r'"time": ?"([^"]*)"')

_Row = tuple[str, str, Sequence[str]]
"""id of the message, record as a line, keys."""

T = TypeVar("T")

_log = structlog.get_logger(__name__)


class PostgresJournal:
    """A `waypost.observe.journal.Journal` in the database at `url`. Used from one event loop.

    Instances that share the database share the journal.
    """

    def __init__(self, url: str) -> None:
        self._server = Server(url)
        self._pool = Pool(self._server, 2)
        self._pending: list[_Row] = []
        self._size = 0  # characters in `_pending`, and in what is being written
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        self._rounds = 0  # of writing that have ended
        self._ended = asyncio.Event()
        self._failures = 0  # in a row
        self._unsaid = 0  # records dropped since it was said last
        self.written = 0
        self.dropped = 0

    async def open(self) -> None:
        """Connects, and brings the schema up to date. Raises `JournalError`."""
        try:
            connection = await self._server.connect(durable=True)
            try:
                await prepare_schema(self._server, connection)
            finally:
                connection.terminate()
        except SpoolError as error:
            raise JournalError(f"cannot open the journal: {error}") from error
        self._task = asyncio.get_running_loop().create_task(self._run(), name="journal writer")

    async def close(self) -> None:
        """Writes what is pending, as far as it can be written now, and closes."""
        task, self._task = self._task, None
        if task is None:
            return
        self._closed = True
        self._wanted.set()
        await task
        for _ in self._pending:
            self._drop()
        self._pending.clear()
        await self._pool.close()
        self._say_what_is_lost()

    def write(self, message_id: str, line: str, keys: Sequence[str] = ()) -> None:
        """Remembers one record: well under a microsecond; the rest happens in a task, for many at once."""
        size = self._size + len(line)
        if size > CAPACITY or self._closed:
            self._drop()
            return
        self._size = size
        self._pending.append((message_id, line, keys))
        if len(self._pending) == 1:
            self._wanted.set()

    async def events(self, message_id: str) -> Sequence[Record]:
        """All that is known of one message. Raises `JournalError`."""
        rows = await self._read(
            lambda connection: connection.fetch(
                "SELECT line FROM waypost.event WHERE message_id = $1 ORDER BY seq LIMIT $2",
                plain(message_id),
                _MOST_EVENTS,
            )
        )
        return [json.loads(row["line"]) for row in rows]

    async def find(self, search: Search, *, limit: int = 100) -> Sequence[str]:
        """The ids of messages that match. Raises `JournalError`."""
        sql, values = _question(search, limit)
        return [row["message_id"] for row in await self._read(lambda connection: connection.fetch(sql, *values))]

    async def prune(self, before: float) -> int:
        """Forgets what is older, in steps between which records are written. Raises `JournalError`."""
        forgotten = 0
        while step := await self._read(lambda connection: _forget(connection, timestamp(before))):
            forgotten += step
        return forgotten

    # -- writing

    async def _run(self) -> None:
        while not self._closed:
            await self._wanted.wait()
            self._wanted.clear()
            await self._pause(_PAUSES[min(self._failures, len(_PAUSES)) - 1] if self._failures else FLUSH_AFTER)
            await self._write()
        if self._pending:
            await self._write()

    async def _pause(self, seconds: float) -> None:
        """Waits, unless the journal is closed or read."""
        try:
            async with asyncio.timeout(seconds):
                await self._wanted.wait()
        except TimeoutError:
            pass
        self._wanted.clear()

    async def _write(self) -> None:
        """Writes what is pending; all of it, or what fits into one step."""
        while self._pending:
            rows = self._pending[:STEP]
            try:
                async with self._pool.connection() as connection, connection.transaction():
                    await _put(connection, rows)
            except SpoolError as error:
                if not self._failures:
                    _log.error("journal_not_written", reason=str(error))
                self._failures += 1
                self._wanted.set()
                break
            del self._pending[: len(rows)]
            self._size -= sum(len(line) for _, line, _ in rows)
            self.written += len(rows)
            if self._failures:
                self._failures = 0
                _log.info("journal_written_again")
        self._say_what_is_lost()
        self._rounds += 1
        ended, self._ended = self._ended, asyncio.Event()
        ended.set()

    async def flush(self) -> None:
        """Waits until all that was written before this call is in the database, or could not be written."""
        if self._pending and self._task is not None:
            aim = self._rounds + (1 if self._failures else 2)
            while self._pending and self._rounds < aim and not self._task.done():
                self._wanted.set()
                await self._ended.wait()

    def _drop(self) -> None:
        if not self._unsaid:
            _log.error("journal_full", reason="records wait for too long, and are dropped from now on")
        self._unsaid += 1
        self.dropped += 1

    def _say_what_is_lost(self) -> None:
        if self._unsaid:
            _log.error("journal_records_lost", count=self._unsaid)
            self._unsaid = 0

    # -- reading

    async def _read(self, question: Callable[[Connection], Awaitable[T]]) -> T:
        await self.flush()
        try:
            async with self._pool.connection(2 * COMMAND_TIMEOUT) as connection:
                return await question(connection)
        except SpoolError as error:
            raise JournalError(f"the journal cannot be read: {error}") from error


async def _put(connection: Connection, rows: Sequence[_Row]) -> None:
    lines = [plain(line) for _, line, _ in rows]
    await connection.execute(_EVENTS, [plain(id_) for id_, _, _ in rows], [_time(line) for line in lines], lines)
    keys = sorted((plain(key), plain(id_)) for id_, _, known_by in rows for key in known_by)
    if keys:
        await connection.execute(_KEYS, *zip(*keys, strict=True))


def _time(line: str) -> str:
    """The record's `time`, its first entry. Without one it is as old as can be, and keeps nothing from going."""
    found = _TIME.search(line)
    return found[1] if found else ""


async def _forget(connection: Connection, before: str) -> int:
    """Takes one step in forgetting; how many records went."""
    async with connection.transaction():
        rows = await connection.fetch(_FORGET, before, STEP)
        if rows:
            await connection.execute(_FORGET_KEYS, sorted({row["message_id"] for row in rows}))
    return len(rows)


def _question(search: Search, limit: int) -> tuple[str, list[object]]:
    first = "" if search.since is None else make_id(round(search.since * 1000), 0)
    end = "~" if search.until is None else make_id(round(search.until * 1000), 0)
    table, where = "waypost.event_key", "known.key = $4"
    also = ""
    keys = [plain(key) for key in search.keys]
    if not keys:
        table, where = "waypost.event", "TRUE"
    elif len(keys) > 1:
        also = (
            " AND EXISTS (SELECT FROM waypost.event_key other WHERE other.key = $5"
            " AND other.message_id = known.message_id)"
        )
    sql = (
        f"SELECT DISTINCT known.message_id FROM {table} known WHERE {where} AND known.message_id >= $1"  # noqa: S608
        f" AND known.message_id < $2{also} ORDER BY known.message_id DESC LIMIT $3"
    )
    return sql, [first, end, limit, *keys]
