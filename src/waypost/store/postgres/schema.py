"""The schema: brought up to date at start, by one instance while the others wait."""

from pathlib import Path

from waypost.delivery.spool import SpoolError
from waypost.store.postgres.connection import OLDEST, Connection, Server, load_driver

_MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK = 0x57617970  # "Wayp": of the whole database, and only ours by convention
_EXISTS = "SELECT EXISTS (SELECT FROM pg_tables WHERE schemaname = 'waypost' AND tablename = 'schema_version')"
_PATIENCE = "60s"  # for another instance that is bringing a large spool up to date


async def prepare_schema(server: Server, connection: Connection) -> None:
    """Creates or updates the schema `waypost`. Raises `SpoolError`, and has changed nothing then."""
    version = connection.get_server_version()
    if version.major < OLDEST:
        raise SpoolError(
            f"the spool {server.name} is on PostgreSQL {version.major}.{version.minor};"
            f" Waypost needs version {OLDEST} or later"
        )
    scripts = sorted(_MIGRATIONS.glob("[0-9][0-9][0-9][0-9].sql"))
    with server.explained("cannot be prepared"):
        if await _current_version(connection) != len(scripts):
            try:
                async with connection.transaction():
                    await connection.execute(f"SET LOCAL lock_timeout = '{_PATIENCE}'")
                    await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK, timeout=70)
                    await _migrate(server, connection, scripts)
            except load_driver().InsufficientPrivilegeError as error:
                raise SpoolError(
                    f"the spool {server.name} cannot be prepared: {error}. Its role must own the schema, so let an"
                    " administrator of the database run CREATE SCHEMA waypost AUTHORIZATION with that role's name"
                ) from error


async def _migrate(server: Server, connection: Connection, scripts: list[Path]) -> None:
    version = await _current_version(connection)  # once more: another instance may have been quicker
    if version is None:
        if not await connection.fetchval("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'waypost')"):
            await connection.execute("CREATE SCHEMA waypost")
        await connection.execute("CREATE TABLE waypost.schema_version (version integer NOT NULL)")
        await connection.execute("INSERT INTO waypost.schema_version VALUES (0)")
        version = 0
    known = len(scripts)
    if version > known:
        raise SpoolError(
            f"the spool {server.name} was written by a newer Waypost: its schema has version {version},"
            f" this program knows versions up to {known}. Install the newer program again, or use another database"
        )
    for script in scripts[version:]:
        await connection.execute(script.read_text("utf-8"), timeout=600)
    await connection.execute("UPDATE waypost.schema_version SET version = $1", known)


async def _current_version(connection: Connection) -> int | None:
    """The version of the schema; None when there is none."""
    # Not `to_regclass`: that may answer from a cache, older than the lock that was waited for.
    if not await connection.fetchval(_EXISTS):
        return None
    version: int = await connection.fetchval("SELECT version FROM waypost.schema_version")
    return version
