"""What tests of the spool on SQLite have in common."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

from store.messages import make_message, plans
from waypost.store.sqlite import SqliteSpool

LARGE = 100_000
"""Octets of content that is kept in a file."""


async def queue_sized(spool: SqliteSpool, id_: str, *lanes: str, size: int = 10) -> None:
    """Prepares and commits a message with so much content."""
    await spool.prepare(make_message(id_, b"x" * size), plans(*lanes))
    spool.commit(id_)


def files(spool: SqliteSpool) -> list[str]:
    """The names of the content files."""
    return sorted(path.name for path in (spool.incoming.parent / "content").iterdir())


def query(spool: SqliteSpool, sql: str) -> list[tuple[object, ...]]:
    """Asks, or changes, the database of a spool that is closed."""
    connection = sqlite3.connect(spool.incoming.parent / "spool.db")
    try:
        rows = connection.execute(sql).fetchall()
        connection.commit()
        return rows
    finally:
        connection.close()


def one_thread() -> Callable[[], Awaitable[None]]:
    """Lets background work be done in order from here on; what is returned waits for all of it."""
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(1))
    return lambda: loop.run_in_executor(None, lambda: None)


async def wait_until(condition: Callable[[], bool]) -> None:
    """Waits for something that happens by itself."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)
