"""The SQLite file of a spool: its statements, nothing of what they mean. `waypost.store.opening` makes one.

Everything here blocks, and all of it runs in the one thread of `waypost.store.writer`. There is one connection:
SQLite before 3.51.3 can lose commits when two of them write or checkpoint (https://sqlite.org/wal.html).
"""

import sqlite3
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, TypeVar

from waypost.store.batch import Awaited, Batch, Changes, Read, Written
from waypost.store.files import SpoolFolder
from waypost.store.rows import MAX_DELIVERIES, DeliveryRow, delivery_id, message_key, number_of

_ROWS_AT_ONCE = 16
_RESERVE_PAUSE = 10  # seconds between two attempts to get the reserve back

_Key = TypeVar("_Key")
_Row = TypeVar("_Row")


class Database:
    """The open database. All methods raise sqlite3.Error."""

    def __init__(self, folder: SpoolFolder, connection: sqlite3.Connection) -> None:
        self.folder = folder
        self._connection = connection
        self._execute = connection.execute
        self._reserve_at: float | None = None  # when to take the reserve again; None: it is there

    def close(self) -> None:
        """Folds the log into the file and lets go of it."""
        self._connection.close()

    def query(self, sql: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> list[Any]:
        """The rows of one question."""
        return self._execute(sql, parameters).fetchall()

    def select(self, sql: str, ids: Sequence[Any]) -> list[Any]:
        """The rows of a question that ends with `IN`, for any number of ids, in the order in which they are found."""
        rows = []
        for first in range(0, len(ids), 250):
            some = ids[first : first + 250]
            rows += self._execute(f"{sql} ({', '.join('?' * len(some))})", some).fetchall()
        return rows

    def insert(self, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Writes rows, in place of those with the same key."""
        # Several rows with each statement: a step of SQLite gives the interpreter to other threads and has to
        # wait until it gets it back.
        for first in range(0, len(rows), _ROWS_AT_ONCE):
            some = rows[first : first + _ROWS_AT_ONCE]
            self._execute(_insertion(table, len(some[0]), len(some)), [value for row in some for value in row])

    def delete(self, table: str, column: str, ids: Iterable[int]) -> None:
        """Removes the rows with these values in the column."""
        every = list(ids)
        for first in range(0, len(every), _ROWS_AT_ONCE):
            some = every[first : first + _ROWS_AT_ONCE]
            self._execute(_deletion(table, column, len(some)), some)

    def write(self, batch: Batch) -> Written:
        """Writes a batch in one transaction and answers its questions.

        When that fails, the changes are tried again without new messages: content is what fills a disk.
        """
        written = Written()
        try:
            written.committed = self._transaction(batch.changes, batch.awaited, batch.probe)
        except sqlite3.Error as error:
            written.awaited = error
            try:
                written.committed = self._transaction(batch.changes, (), False)
            except sqlite3.Error as second:
                written.changes = second
        if written.changes is None:
            written.answers = [self._answer(read) for read, _ in batch.reads]
            if self._reserve_at is not None and time.monotonic() >= self._reserve_at:
                self.take_reserve()
        return written

    def _answer(self, read: Read) -> Any:
        try:
            return read(self)
        except Exception as error:  # a row that cannot be read concerns nobody but who asked for it
            return error

    def make_room(self) -> None:
        """Gives up the reserve and folds the log into the file, so that its space can be used again."""
        self._reserve_at = time.monotonic() + _RESERVE_PAUSE
        self.folder.reserve.unlink(missing_ok=True)
        self._execute("PRAGMA wal_checkpoint(RESTART)").fetchall()

    def take_reserve(self) -> None:
        """Takes the reserve, now or when there is room again."""
        self._reserve_at = None if self.folder.make_reserve() else time.monotonic() + _RESERVE_PAUSE

    def _transaction(self, changes: Changes, awaited: Sequence[Awaited], probe: bool) -> bool:
        """Writes all of it; whether there was anything."""
        if not (changes or awaited or probe):
            return False
        self._execute("BEGIN IMMEDIATE")
        try:
            if awaited:
                self.insert("message", [each.message for each in awaited if each.message is not None])
                self.insert("whole", [each.whole for each in awaited])
            if probe:
                self._execute("REPLACE INTO probe VALUES (1, julianday('now'))")
            files = self._change(changes) if changes else []
            self._execute("COMMIT")
        except sqlite3.Error:
            if self._connection.in_transaction:
                self._execute("ROLLBACK")
            raise
        try:
            self.folder.remove(files)
        except OSError:
            pass  # the rows are gone, so the next start sweeps the files
        return True

    def _change(self, changes: Changes) -> list[int]:
        """Writes the changes; the keys of messages whose files can go."""
        if changes.messages:
            self.insert("message", list(changes.messages.values()))
        if changes.whole:
            rows, removed = _parted(changes.whole)
            self.insert("whole", rows)
            self.delete("whole", "message", removed)
        if changes.deliveries:
            deliveries, removed = _parted(changes.deliveries)
            self.insert("delivery", deliveries)
            self.delete("delivery", "id", removed)
        if changes.further:
            self._insert_further(changes.further)
        if changes.intents:
            intents, removed = _parted(
                {id_: None if upstream is None else (id_, upstream) for id_, upstream in changes.intents.items()}
            )
            self.insert("intent", intents)
            self.delete("intent", "delivery", removed)
        for (kind, key), note in changes.notes.items():
            if note is None:
                self._execute("DELETE FROM note WHERE kind = ? AND key = ?", (kind, key))
            else:
                self._execute("REPLACE INTO note VALUES (?, ?, ?, ?)", (kind, key, note.value, note.until))
        gone = changes.gone
        if changes.check:
            gone = gone | self._unneeded(changes.check)
        if gone:
            self.delete("message", "key", gone)
            self.delete("whole", "message", gone)
        return [key for key, has_file in gone.items() if has_file]

    def _insert_further(self, rows: Iterable[DeliveryRow]) -> None:
        """Gives each row the number behind the last one of its message, and behind the one that it came from."""
        for row in rows:
            key = message_key(row.id)
            last = self._execute("SELECT max(id) FROM delivery WHERE id BETWEEN ? AND ?", _range(key)).fetchone()[0]
            number = number_of(max(row.id, last or 0)) + 1
            self.insert("delivery", [row._replace(id=delivery_id(key, number))])

    def _unneeded(self, keys: Collection[int]) -> dict[int, bool]:
        """Those of `keys` that no delivery needs, and whether they have a file."""
        unneeded = {}
        for key in keys:
            rows = self._execute(
                "SELECT file_size IS NOT NULL FROM message WHERE key = ?"
                " AND NOT EXISTS (SELECT 1 FROM delivery WHERE id BETWEEN ? AND ?)",
                (key, *_range(key)),
            ).fetchall()
            if rows:
                unneeded[key] = bool(rows[0][0])
        return unneeded


def _parted(changes: Mapping[_Key, _Row | None]) -> tuple[list[_Row], list[_Key]]:
    """What is to be written, and the keys of what is to be removed."""
    return [row for row in changes.values() if row is not None], [key for key, row in changes.items() if row is None]


def _range(key: int) -> tuple[int, int]:
    return delivery_id(key, 0), delivery_id(key, MAX_DELIVERIES - 1)


@cache
def _insertion(table: str, columns: int, rows: int) -> str:
    row = f"({', '.join('?' * columns)})"
    return f"REPLACE INTO {table} VALUES {', '.join([row] * rows)}"  # noqa: S608  # words of this program


@cache
def _deletion(table: str, column: str, rows: int) -> str:
    return f"DELETE FROM {table} WHERE {column} IN ({', '.join('?' * rows)})"  # noqa: S608  # words of this program
