"""The end of a message: its row and its content go when nothing needs them any more."""

from collections.abc import Collection

from waypost.store.postgres.connection import Connection

_LOCK = "SELECT key FROM waypost.message WHERE key = ANY($1::bigint[]) ORDER BY key FOR UPDATE"

_FINISH = """
WITH finished AS (
    DELETE FROM waypost.message m WHERE m.key = ANY($1::bigint[])
    AND NOT EXISTS (SELECT FROM waypost.delivery d WHERE d.message = m.key)
    AND NOT EXISTS (SELECT FROM waypost.prepared p WHERE p.message = m.key)
    RETURNING m.key, m.content IS NULL AS chunked)
DELETE FROM waypost.chunk c USING finished f WHERE f.chunked AND c.message = f.key
"""


async def finish_messages(connection: Connection, keys: Collection[int]) -> None:
    """Removes those of the messages that have no delivery left. Part of a transaction.

    Two transactions that each end one of the last two deliveries of a message do not see each other's work. The
    lock makes the second wait for the first; what it looks at afterwards is what the first has left.
    """
    ordered = sorted(keys)
    await connection.execute(_LOCK, ordered)
    await connection.execute(_FINISH, ordered)


async def remove_chunks(connection: Connection, keys: Collection[int]) -> None:
    """Removes the chunks of messages that have no row: uploads that were given up, or a message withdrawn."""
    await connection.execute(
        "DELETE FROM waypost.chunk c WHERE c.message = ANY($1::bigint[])"
        " AND NOT EXISTS (SELECT FROM waypost.message m WHERE m.key = c.message)",
        sorted(keys),
    )
    await connection.execute("DELETE FROM waypost.upload WHERE message = ANY($1::bigint[])", sorted(keys))
