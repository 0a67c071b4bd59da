"""Opens a spool's SQLite file: takes the lock, brings the schema up to date, refuses what cannot be trusted.

Everything here blocks and runs in the thread of `waypost.store.writer`.
"""

import errno
import sqlite3
from pathlib import Path

from waypost.delivery.spool import SpoolError
from waypost.store.database import Database
from waypost.store.file_system import temporary_file_system
from waypost.store.files import SpoolFolder, sync_folder

APPLICATION_ID = 0x57617970
"""Marks the file as a spool of ours ("Wayp")."""

_MIGRATIONS = Path(__file__).parent / "migrations"
_CHECKPOINT_PAGES = 1000  # 4 MiB of log before it is folded into the file: less than `files.RESERVE`
_CACHE_KIB = 16 * 1024
_NOT_OURS = (errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.EROFS)
_CHECKED_OCTETS = 256 * 1024 * 1024  # a larger file is not read as a whole at start: mail would wait for it


def open_database(folder: SpoolFolder, *, allow_temporary: bool) -> Database:
    """Creates or opens the spool in `folder`, for this process alone. Raises `SpoolError`."""
    path = folder.database
    connection = None
    try:
        if not allow_temporary:
            _refuse_temporary(folder.path)
        folder.create()
        path.touch(mode=0o600, exist_ok=True)
        connection = sqlite3.connect(path, timeout=0, isolation_level=None, cached_statements=256)
        _prepare(connection, folder)
        database = Database(folder, connection)
        folder.sweep(lambda keys: {key for (key,) in database.select("SELECT key FROM message WHERE key IN", keys)})
        database.take_reserve()
    except (sqlite3.Error, OSError, SpoolError) as error:
        if connection is not None:
            connection.close()
        raise _explained(path, error) from error
    return database


def _refuse_temporary(path: Path) -> None:
    file_system = temporary_file_system(path)
    if file_system is not None:
        raise SpoolError(
            f"it would lie on a {file_system} file system, which is lost when the machine stops, and the mail in it"
            " as well. Put it on a disk, or allow that with `spool.allow_temporary: true`"
        )


def _prepare(connection: sqlite3.Connection, folder: SpoolFolder) -> None:
    execute = connection.execute
    execute("PRAGMA locking_mode = EXCLUSIVE")  # kept until the connection is closed; no shared memory file
    execute("PRAGMA synchronous = FULL")
    execute("PRAGMA secure_delete = OFF")  # Debian's default; it writes every page that becomes free
    mode = execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise SpoolError(f"its file system does not support SQLite's write-ahead log (mode {mode})")
    execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
    execute("PRAGMA journal_size_limit = 16777216")
    execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    execute("BEGIN EXCLUSIVE")  # takes the lock, before anything is looked at
    try:
        _migrate(connection)
    except BaseException:
        if connection.in_transaction:
            execute("ROLLBACK")
        raise
    sync_folder(folder.path)  # the file may be new
    if folder.database.stat().st_size <= _CHECKED_OCTETS:
        problem = execute("PRAGMA quick_check(1)").fetchone()[0]
        if problem != "ok":
            raise sqlite3.DatabaseError(problem)


def _migrate(connection: sqlite3.Connection) -> None:
    """Brings the schema up to date; one transaction is open and is committed."""
    execute = connection.execute
    scripts = {int(path.stem): path for path in sorted(_MIGRATIONS.glob("[0-9][0-9][0-9][0-9].sql"))}
    known = max(scripts)
    version = execute("PRAGMA user_version").fetchone()[0]
    application = execute("PRAGMA application_id").fetchone()[0]
    tables = execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if tables and application != APPLICATION_ID:
        raise SpoolError("it is a database of another program")
    if version > known:
        raise SpoolError(
            f"it was written by a newer Waypost: its schema has version {version},"
            f" this program knows versions up to {known}. Install the newer program again, or use another path"
        )
    if 0 < version < min(scripts):
        raise SpoolError(
            f"it was written by Waypost 0.1.0: its schema has version {version}, which is not carried over. Let that"
            " program deliver what is owed, then move the folder away and start this one"
        )
    for number, script in scripts.items():
        if number > version:
            for statement in _statements(script.read_text("utf-8")):
                execute(statement)
    if version < known:
        execute(f"PRAGMA application_id = {APPLICATION_ID}")
        execute(f"PRAGMA user_version = {known}")
    execute("COMMIT")


def _statements(script: str) -> list[str]:
    """The statements of a migration, one by one: sqlite3's executescript would commit in between."""
    statements, start = [], 0
    for end, character in enumerate(script, 1):
        if character == ";" and sqlite3.complete_statement(script[start:end]):
            statements.append(script[start:end])
            start = end
    return statements


def _explained(path: Path, error: Exception) -> SpoolError:
    """What went wrong at `open_database`, where, and what to do."""
    if isinstance(error, SpoolError):
        return SpoolError(f"cannot open the spool {path}: {error}")
    code = getattr(error, "sqlite_errorcode", None)
    primary = None if code is None else code & 0xFF
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return SpoolError(f"the spool {path} is in use by another process; one spool belongs to one Waypost")
    if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or type(error) is sqlite3.DatabaseError:
        said = " ".join(str(error).split())
        return SpoolError(
            f"the spool {path} is damaged ({said}). Nothing was changed. Put a copy of the folder aside, then save what"
            " can be read as the operators' guide says under `The spool is damaged` (sqlite3's .dump), or move the"
            " folder away to start with an empty spool"
        )
    if getattr(error, "errno", None) in _NOT_OURS or primary in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
        return SpoolError(
            f"cannot open the spool {path}: {error}. The user that Waypost runs as must be able to write there:"
            " make the folder and give it to that user, or set `spool` to another one"
        )
    return SpoolError(f"cannot open the spool {path}: {error}")
