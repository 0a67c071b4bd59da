"""The SQLite file of a spool: its schema, its statements, nothing of what they mean.

Everything here blocks, and all of it runs in the one thread of `waypost.store.writer`. There is one connection:
SQLite before 3.51.3 can lose commits when two of them write or checkpoint (https://sqlite.org/wal.html).
"""

import sqlite3
import time
from collections.abc import Collection, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from waypost.delivery.spool import SpoolError
from waypost.store.batch import Batch, Changes, Read, Written
from waypost.store.files import SpoolFolder, sync_folder
from waypost.store.rows import MAX_COPIES, DeliveryRow, MessageRow, delivery_id

APPLICATION_ID = 0x57617970
"""Marks the file as a spool of ours ("Wayp")."""

_MIGRATIONS = Path(__file__).parent / "migrations"
_ROWS_AT_ONCE = 16
_CHECKPOINT_PAGES = 1000  # 4 MiB of log before it is folded into the file: less than `files.RESERVE`
_CHECKED_OCTETS = 256 * 1024 * 1024  # a larger file is not read as a whole at start: mail would wait for it
_RESERVE_PAUSE = 10  # seconds between two attempts to get the reserve back


class Database:
    """The open database. `open` is the only way to get one; all methods raise sqlite3.Error."""

    def __init__(self, folder: SpoolFolder, connection: sqlite3.Connection) -> None:
        self.folder = folder
        self._connection = connection
        self._execute = connection.execute
        self._reserve_at: float | None = None  # when to take the reserve again; None: it is there

    @classmethod
    def open(cls, folder: SpoolFolder) -> "Database":
        """Creates or opens the spool in `folder`, for this process alone. Raises `SpoolError`."""
        path = folder.database
        connection = None
        try:
            folder.create()
            path.touch(mode=0o600, exist_ok=True)
            connection = sqlite3.connect(path, timeout=0, isolation_level=None, cached_statements=256)
            database = cls(folder, connection)
            database._prepare_file()
            database.folder.sweep(set(database.keys()))
            database._take_reserve()
        except (sqlite3.Error, OSError, SpoolError) as error:
            if connection is not None:
                connection.close()
            raise _explained(path, error) from error
        return database

    def close(self) -> None:
        """Folds the log into the file and lets go of it."""
        self._connection.close()

    def keys(self) -> list[int]:
        """Of all messages."""
        return [key for (key,) in self._execute("SELECT key FROM message")]

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """The rows of one question."""
        return self._execute(sql, parameters).fetchall()

    def write(self, batch: Batch) -> Written:
        """Writes a batch in one transaction and answers its questions.

        When that fails, the changes are tried again without the new messages: content is what fills a disk.
        """
        written = Written()
        try:
            self._transaction(batch.changes, [row for row, _ in batch.messages], batch.probe)
        except sqlite3.Error as error:
            written.messages = error
            try:
                self._transaction(batch.changes, (), False)
            except sqlite3.Error as second:
                written.changes = second
        if written.changes is None:
            written.answers = [self._answer(read) for read, _ in batch.reads]
            if self._reserve_at is not None and time.monotonic() >= self._reserve_at:
                self._take_reserve()
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

    def _take_reserve(self) -> None:
        self._reserve_at = None if self.folder.make_reserve() else time.monotonic() + _RESERVE_PAUSE

    def _transaction(self, changes: Changes, messages: Sequence[MessageRow], probe: bool) -> None:
        if not (changes or messages or probe):
            return
        self._execute("BEGIN IMMEDIATE")
        try:
            if messages:
                self._insert("message", 8, messages)
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

    def _change(self, changes: Changes) -> list[int]:
        """Writes the changes; the keys of messages whose files can go."""
        if changes.live:
            self._insert("live", 2, list(changes.live.items()))
        if changes.deliveries:
            rows: list[DeliveryRow] = [row for row in changes.deliveries.values() if row is not None]
            self._insert("delivery", 7, rows)
            self._delete("delivery", "id", [id_ for id_, row in changes.deliveries.items() if row is None])
        for dead in changes.dead:
            self._execute(
                "INSERT INTO dead_letter (message, lane, route, attempts, recipients, reason, died_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                dead,
            )
        gone = changes.gone
        if changes.check:
            gone = gone | self._unneeded(changes.check)
        if gone:
            self._delete("message", "key", gone)
            self._delete("live", "message", gone)
        return [key for key, has_file in gone.items() if has_file]

    def _unneeded(self, keys: Collection[int]) -> dict[int, bool]:
        """Those of `keys` that no delivery and no dead letter needs, and whether they have a file."""
        unneeded = {}
        for key in keys:
            rows = self._execute(
                "SELECT file_size IS NOT NULL FROM message WHERE key = :key"
                " AND NOT EXISTS (SELECT 1 FROM delivery WHERE id BETWEEN :first AND :last)"
                " AND NOT EXISTS (SELECT 1 FROM dead_letter WHERE message = :key)",
                {"key": key, "first": delivery_id(key, 0), "last": delivery_id(key, MAX_COPIES - 1)},
            ).fetchall()
            if rows:
                unneeded[key] = bool(rows[0][0])
        return unneeded

    def _insert(self, table: str, columns: int, rows: Sequence[tuple[Any, ...]]) -> None:
        # Several rows with each statement: a step of SQLite gives the interpreter to other threads and has to
        # wait until it gets it back.
        for first in range(0, len(rows), _ROWS_AT_ONCE):
            some = rows[first : first + _ROWS_AT_ONCE]
            self._execute(_insertion(table, columns, len(some)), [value for row in some for value in row])

    def _delete(self, table: str, column: str, ids: Collection[int]) -> None:
        every = list(ids)
        for first in range(0, len(every), _ROWS_AT_ONCE):
            some = every[first : first + _ROWS_AT_ONCE]
            self._execute(_deletion(table, column, len(some)), some)

    def _prepare_file(self) -> None:
        execute = self._execute
        execute("PRAGMA locking_mode = EXCLUSIVE")  # kept until the connection is closed; no shared memory file
        execute("PRAGMA synchronous = FULL")
        execute("PRAGMA secure_delete = OFF")  # Debian's default; it writes every page that becomes free
        mode = execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            raise SpoolError(f"its file system does not support SQLite's write-ahead log (mode {mode})")
        execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        execute("PRAGMA journal_size_limit = 16777216")
        execute("BEGIN EXCLUSIVE")  # takes the lock, before anything is looked at
        try:
            self._migrate()
        except BaseException:
            if self._connection.in_transaction:
                execute("ROLLBACK")
            raise
        sync_folder(self.folder.path)  # the file may be new
        if self.folder.database.stat().st_size <= _CHECKED_OCTETS:
            problem = execute("PRAGMA quick_check(1)").fetchone()[0]
            if problem != "ok":
                raise sqlite3.DatabaseError(problem)

    def _migrate(self) -> None:
        """Brings the schema up to date; one transaction is open and is committed."""
        scripts = sorted(_MIGRATIONS.glob("[0-9][0-9][0-9][0-9].sql"))
        known = len(scripts)
        version = self._execute("PRAGMA user_version").fetchone()[0]
        application = self._execute("PRAGMA application_id").fetchone()[0]
        tables = self._execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if tables and application != APPLICATION_ID:
            raise SpoolError("it is a database of another program")
        if version > known:
            raise SpoolError(
                f"it was written by a newer Waypost: its schema has version {version},"
                f" this program knows versions up to {known}. Install the newer program again, or use another path"
            )
        for script in scripts[version:]:
            for statement in _statements(script.read_text("utf-8")):
                self._execute(statement)
        if version < known:
            self._execute(f"PRAGMA application_id = {APPLICATION_ID}")
            self._execute(f"PRAGMA user_version = {known}")
        self._execute("COMMIT")


@cache
def _insertion(table: str, columns: int, rows: int) -> str:
    row = f"({', '.join('?' * columns)})"
    return f"REPLACE INTO {table} VALUES {', '.join([row] * rows)}"  # noqa: S608  # words of this module


@cache
def _deletion(table: str, column: str, rows: int) -> str:
    return f"DELETE FROM {table} WHERE {column} IN ({', '.join('?' * rows)})"  # noqa: S608  # words of this module


def _statements(script: str) -> list[str]:
    """The statements of a migration, one by one: sqlite3's executescript would commit in between."""
    statements, start = [], 0
    for end, character in enumerate(script, 1):
        if character == ";" and sqlite3.complete_statement(script[start:end]):
            statements.append(script[start:end])
            start = end
    return statements


def _explained(path: Path, error: Exception) -> SpoolError:
    """What went wrong at `open`, where, and what to do."""
    if isinstance(error, SpoolError):
        return SpoolError(f"cannot open the spool {path}: {error}")
    code = getattr(error, "sqlite_errorcode", None)
    primary = None if code is None else code & 0xFF
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return SpoolError(f"the spool {path} is in use by another process; one spool belongs to one Waypost")
    if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or type(error) is sqlite3.DatabaseError:
        said = " ".join(str(error).split())
        return SpoolError(
            f"the spool {path} is damaged ({said}). Nothing was changed. Put a copy of the folder aside, then try"
            f" `sqlite3 {path} .recover | sqlite3 recovered.db` and put recovered.db in its place, or move the folder"
            " away to start with an empty spool"
        )
    return SpoolError(f"cannot open the spool {path}: {error}")
