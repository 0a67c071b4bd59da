"""Who works on the spool: registered, heard of, and taken over from when they are gone.

An instance has a new number at every start. What it has claimed and prepared bears that number, so nothing has
to be renewed but the instance's own row: that is the lease of all it holds. Whoever removes the row takes over what
bears the number, in the same transaction; what an instance does under a number without a row is taken over as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from waypost.delivery.spool import Instance
from waypost.store.postgres.connection import Connection
from waypost.store.postgres.finishing import remove_chunks

_LOCKS = 0x57617972  # the first half of an advisory lock that an instance holds on its number while it is connected

_RELEASE = """
UPDATE waypost.delivery SET state = 'queued', owner = NULL, doubt = coalesce(intent, doubt), intent = NULL
WHERE owner = $1 AND state <> 'queued' RETURNING lane
"""

_GHOSTS = """
WITH RECURSIVE found(owner) AS (
    SELECT min(owner) FROM waypost.delivery WHERE state <> 'queued'
    UNION ALL
    SELECT (SELECT min(d.owner) FROM waypost.delivery d WHERE d.state <> 'queued' AND d.owner > found.owner)
    FROM found WHERE found.owner IS NOT NULL)
SELECT owner FROM (SELECT owner FROM found UNION SELECT owner FROM waypost.prepared
                   UNION SELECT owner FROM waypost.upload) AS known
WHERE owner IS NOT NULL AND NOT EXISTS (SELECT FROM waypost.instance i WHERE i.number = known.owner)
"""


@dataclass(frozen=True, slots=True)
class Seen:
    """Another instance, as it was last heard of by the database's clock."""

    number: int
    name: str
    seen_at: datetime


@dataclass(frozen=True, slots=True)
class Taken:
    """What was taken over: lanes with something due, and keys of messages that are prepared."""

    lanes: frozenset[str] = frozenset()
    prepared: tuple[int, ...] = ()


async def register(connection: Connection, name: str) -> int:
    """A new instance; its number."""
    number: int = await connection.fetchval("INSERT INTO waypost.instance (name) VALUES ($1) RETURNING number", name)
    return number


async def hold_number(connection: Connection, number: int) -> None:
    """Shows, as long as the connection lasts, that the process with this number lives."""
    await connection.execute("SELECT pg_try_advisory_lock($1, $2)", _LOCKS, number)


async def is_held(connection: Connection, number: int) -> bool:
    """Whether the process with this number is connected."""
    if not await connection.fetchval("SELECT pg_try_advisory_lock($1, $2)", _LOCKS, number):
        return True
    await connection.execute("SELECT pg_advisory_unlock($1, $2)", _LOCKS, number)
    return False


async def beat(connection: Connection, number: int) -> bool:
    """Says that this instance lives; whether it is still registered."""
    said = await connection.execute("UPDATE waypost.instance SET seen_at = clock_timestamp() WHERE number = $1", number)
    return said == "UPDATE 1"


async def others(connection: Connection, number: int) -> list[Seen]:
    """All instances but this one."""
    rows = await connection.fetch("SELECT number, name, seen_at FROM waypost.instance WHERE number <> $1", number)
    return [Seen(*row) for row in rows]


async def all_instances(connection: Connection) -> list[Instance]:
    """All instances, by name."""
    rows = await connection.fetch(
        "SELECT name, extract(epoch FROM started_at)::float8, extract(epoch FROM seen_at)::float8"
        " FROM waypost.instance ORDER BY name, number"
    )
    return [Instance(*row) for row in rows]


async def ghosts(connection: Connection) -> list[int]:
    """Numbers without a row under which something is still held."""
    return [row["owner"] for row in await connection.fetch(_GHOSTS)]


async def take_over(connection: Connection, number: int, heir: int, seen_at: datetime | None = None) -> Taken:
    """Ends an instance that is gone: its deliveries are queued, in doubt where an intent is recorded.

    What it had prepared belongs to `heir`, what it was uploading is removed. Nothing happens when it was heard of
    after `seen_at`.
    """
    async with connection.transaction():
        said = await connection.execute(
            "DELETE FROM waypost.instance WHERE number = $1 AND ($2::timestamptz IS NULL OR seen_at = $2)",
            number,
            seen_at,
        )
        if seen_at is not None and said != "DELETE 1":
            return Taken()
        lanes = await connection.fetch(_RELEASE, number)
        prepared = await connection.fetch(
            "UPDATE waypost.prepared SET owner = $2 WHERE owner = $1 RETURNING message", number, heir
        )
        uploads = await connection.fetch("SELECT message FROM waypost.upload WHERE owner = $1", number)
        if uploads:
            await remove_chunks(connection, [row["message"] for row in uploads])
    return Taken(frozenset(row["lane"] for row in lanes), tuple(sorted(row["message"] for row in prepared)))


async def leave(connection: Connection, number: int) -> None:
    """Ends this instance: what it runs is queued again. What it has prepared is for whoever comes next."""
    async with connection.transaction():
        await connection.execute(_RELEASE, number)
        await connection.execute("DELETE FROM waypost.instance WHERE number = $1", number)


async def held_by(connection: Connection, number: int) -> tuple[Sequence[int], Sequence[int]]:
    """The ids of deliveries that an instance runs, and the keys of messages that it has prepared."""
    running = await connection.fetch("SELECT id FROM waypost.delivery WHERE owner = $1 AND state <> 'queued'", number)
    prepared = await connection.fetch("SELECT message FROM waypost.prepared WHERE owner = $1", number)
    return [row["id"] for row in running], [row["message"] for row in prepared]
