"""The SQLite file of a journal: its schema and its statements. Everything here blocks and runs in one thread.

What costs most in a journal is the index: addresses come in no order, so that each would change a page of a large
tree. Therefore keys are appended to a table of the latest (`fresh`), and moved from there in sorted *segments*, at
the end of the index: a third of the price per message. A search looks into each segment, of which there are few.

With `synchronous = NORMAL` a process that is killed loses nothing that was written; after a power cut the last
moments may be missing. What happened to mail does not depend on it.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from waypost.mail.ids import make_id
from waypost.observe.journal import JournalError, Search
from waypost.observe.record import timestamp

Row = tuple[str, str, Sequence[str]]
"""id of the message, record as a line, keys."""

APPLICATION_ID = 0x57617971
"""Marks the file as a journal of ours: the spool's mark, plus one."""

VERSION = 1
SEGMENT = 16_384
"""Keys that are moved to the index at once: twenty milliseconds of work."""

STEP = 2000
"""Records that are forgotten in one transaction, so that what is to be written need not wait long."""

_ROWS_AT_ONCE = 64
_CHECKPOINT_PAGES = 2000

_SCHEMA = (
    "CREATE TABLE record (seq INTEGER PRIMARY KEY, id TEXT NOT NULL, line TEXT NOT NULL)",
    "CREATE INDEX record_id ON record (id)",
    "CREATE TABLE fresh (key TEXT NOT NULL, id TEXT NOT NULL)",
    "CREATE TABLE key (segment INTEGER, key TEXT, id TEXT, PRIMARY KEY (segment, key, id)) WITHOUT ROWID",
    # `last` is the youngest record when the segment was made: when that has gone, so may the segment.
    "CREATE TABLE segment (number INTEGER PRIMARY KEY, last INTEGER NOT NULL)",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {VERSION}",
)

_ALL = "SELECT DISTINCT id FROM record WHERE id >= :first AND id < :end ORDER BY id DESC LIMIT :limit"
_KNOWN = "SELECT DISTINCT id FROM {table} WHERE {segment}key = :key AND id >= :first AND id < :end"
_ALSO = " AND id IN (SELECT id FROM {table} WHERE {segment}key = :other)"
_YOUNGEST = " AND EXISTS (SELECT 1 FROM record WHERE record.id = {table}.id) ORDER BY id DESC LIMIT :limit"
_OLD = (
    "DELETE FROM record WHERE seq IN (SELECT seq FROM record ORDER BY seq LIMIT ?)"
    " AND json_extract(line, '$.time') < ?"  # RFC 3339 in UTC sorts as text
)
_ORPHANED = "DELETE FROM {table} WHERE {segment}NOT EXISTS (SELECT 1 FROM record WHERE record.id = {table}.id)"


class JournalFile:
    """The open file. `open` is the only way to get one; the other methods raise sqlite3.Error."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._execute = connection.execute
        self._fresh: int = self._execute("SELECT count(*) FROM fresh").fetchone()[0]

    @classmethod
    def open(cls, path: Path) -> "JournalFile":
        """Creates or opens it, for this process alone. Raises OSError, sqlite3.Error, and `JournalError` when newer."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600, exist_ok=True)
        connection = sqlite3.connect(path, timeout=0, isolation_level=None, cached_statements=256)
        try:
            _prepare(connection)
            return cls(connection)
        except BaseException:
            connection.close()
            raise

    def close(self) -> None:
        """Folds the log into the file and lets go of it."""
        self._connection.close()

    def write(self, rows: Sequence[Row]) -> None:
        """Writes records, all or none."""
        records: list[str] = []
        keys: list[str] = []
        for id_, line, known_by in rows:
            id_ = storable(id_)
            records += (id_, line)
            for key in known_by:
                keys += (storable(key), id_)
        count = self._fresh + len(keys) // 2
        with self._transaction():
            self._append("record (id, line)", records)
            self._append("fresh (key, id)", keys)
            if count >= SEGMENT:
                self._make_segment()
        self._fresh = 0 if count >= SEGMENT else count

    def events(self, message_id: str, limit: int) -> list[str]:
        """The lines of one message, the first ones."""
        rows = self._execute("SELECT line FROM record WHERE id = ? ORDER BY seq LIMIT ?", (message_id, limit))
        return [line for (line,) in rows]

    def find(self, search: Search, limit: int) -> list[str]:
        """The ids of messages that match, the youngest first."""
        known = {
            "first": "" if search.since is None else make_id(round(search.since * 1000), 0),
            "end": "~" if search.until is None else make_id(round(search.until * 1000), 0),
            "limit": limit,
        }
        if not search.keys:
            return self._ids(_ALL, known)
        also = _ALSO if len(search.keys) > 1 else ""
        known |= zip(("key", "other"), map(storable, search.keys), strict=False)
        found = set(self._ids(f"{_KNOWN}{also}{_YOUNGEST}".format(table="fresh", segment=""), known))
        for (number,) in self._execute("SELECT number FROM segment ORDER BY number DESC").fetchall():
            if len(found) >= limit:  # the segments that are left are of older messages
                break
            sql = f"{_KNOWN}{also}{_YOUNGEST}".format(table="key", segment="segment = :segment AND ")
            found.update(self._ids(sql, known | {"segment": number}))
        return sorted(found, reverse=True)[:limit]

    def forget(self, before: float) -> int:
        """Takes one step in forgetting; how many records went. None: nothing else is old."""
        with self._transaction():
            return self._execute(_OLD, (STEP, timestamp(before))).rowcount

    def forget_keys(self) -> bool:
        """Removes keys of records that have gone, one segment; whether there may be more."""
        with self._transaction():
            oldest = self._execute("SELECT min(seq) FROM record").fetchone()[0]
            first = self._execute("SELECT number, last FROM segment ORDER BY number LIMIT 1").fetchone()
            if first is not None and (oldest is None or first[1] < oldest):
                self._execute("DELETE FROM key WHERE segment = ?", (first[0],))
                self._execute("DELETE FROM segment WHERE number = ?", (first[0],))
                return True
            if first is not None:
                self._execute(_ORPHANED.format(table="key", segment="segment = ? AND "), (first[0],))
            self._fresh -= self._execute(_ORPHANED.format(table="fresh", segment="")).rowcount
            return False

    def _ids(self, sql: str, parameters: dict[str, object]) -> list[str]:
        return [id_ for (id_,) in self._execute(sql, parameters)]

    def _append(self, table: str, values: list[str]) -> None:
        """Inserts pairs, many in one statement: each one lets go of the interpreter and takes it again."""
        for at in range(0, len(values), 2 * _ROWS_AT_ONCE):
            some = values[at : at + 2 * _ROWS_AT_ONCE]
            self._execute(_insertion(table, len(some) // 2), some)

    def _make_segment(self) -> None:
        last = self._execute("SELECT max(seq) FROM record").fetchone()[0]
        number = self._execute("INSERT INTO segment (last) VALUES (?)", (last,)).lastrowid
        self._execute("INSERT OR IGNORE INTO key SELECT ?, key, id FROM fresh ORDER BY key, id", (number,))
        self._execute("DELETE FROM fresh")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._execute("BEGIN IMMEDIATE")
        try:
            yield
            self._execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._execute("ROLLBACK")
            raise


def storable(key: str) -> str:
    """The key as SQLite can take it: half a surrogate pair is no text, and does not come from a parser of ours."""
    return key if key.isascii() else key.encode("utf-8", "replace").decode()


@cache
def _insertion(table: str, rows: int) -> str:
    return f"INSERT INTO {table} VALUES {', '.join(['(?, ?)'] * rows)}"  # noqa: S608  # words of this module


def _prepare(connection: sqlite3.Connection) -> None:
    execute = connection.execute
    execute("PRAGMA locking_mode = EXCLUSIVE")  # kept until the connection is closed; no shared memory file
    execute("PRAGMA synchronous = NORMAL")
    execute("PRAGMA secure_delete = OFF")
    execute("PRAGMA journal_mode = WAL").fetchone()
    execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
    execute("PRAGMA journal_size_limit = 16777216")
    execute("BEGIN EXCLUSIVE")  # takes the lock, before anything is looked at
    version = execute("PRAGMA user_version").fetchone()[0]
    application = execute("PRAGMA application_id").fetchone()[0]
    tables = execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if tables and application != APPLICATION_ID:
        raise JournalError("it is a database of another program. Move it away")
    if version > VERSION:
        raise JournalError(
            f"it was written by a newer Waypost: its schema has version {version}, this program knows version"
            f" {VERSION}. Install the newer program again, or move the file away to begin a new journal"
        )
    if not tables:
        for statement in _SCHEMA:
            execute(statement)
    execute("COMMIT")
