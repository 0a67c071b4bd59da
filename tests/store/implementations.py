"""The spools that the conformance suite runs on, and how each is started, killed and started again.

A further one needs a class with the methods of `Store` and a line in `IMPLEMENTATIONS`.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest

from rig.postgres import new_database
from store.messages import NOW
from waypost.delivery.memory_spool import MemorySpool
from waypost.delivery.spool import Spool
from waypost.store.postgres import PostgresSpool
from waypost.store.sqlite import SqliteSpool


class Store(Protocol):
    """The data of one spool, and the process that works on it, if any."""

    due: list[str]
    """The lanes that were said to have something due, by all spools so far."""
    now: float
    """The time, for spools that need one of their own."""

    async def start(self) -> Spool:
        """A spool on the data, open."""

    async def kill(self) -> None:
        """The spool that was started last is gone without having been closed; what it claimed is free again."""

    async def end(self) -> None:
        """Closes what still runs and removes the data."""


class MemoryStore:
    """A spool in memory, which survives by being handed on."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self.due: list[str] = []
        self.now = NOW
        self._spool = MemorySpool(on_due=self.due.append, now=lambda: self.now)

    async def start(self) -> Spool:
        await self._spool.open()
        return self._spool

    async def kill(self) -> None:
        self._spool = self._spool.after_crash()

    async def end(self) -> None:
        await self._spool.close()


class SqliteStore:
    """A folder with a spool in it."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self.due: list[str] = []
        self.now = NOW
        self.path: Path = request.getfixturevalue("tmp_path") / "spool"
        self._running: SqliteSpool | None = None

    async def start(self) -> SqliteSpool:
        # Where tests run may be in memory.
        spool = SqliteSpool(self.path, on_due=self.due.append, now=lambda: self.now, allow_temporary=True)
        await spool.open()
        self._running = spool
        return spool

    async def kill(self) -> None:
        spool, self._running = self._running, None
        if spool is not None:
            writer = spool._writer  # the test stands in for the kernel, which lets go of the lock
            if writer._database is not None:
                await writer._ask(writer._database._connection.close)
                writer._database = None
                writer._join()

    async def end(self) -> None:
        if self._running is not None:
            await self._running.close()


class PostgresStore:
    """A database with a spool in it. One that is started again has the name of the one that was killed."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self.due: list[str] = []
        self.now = NOW
        self.url = new_database()
        self._running: PostgresSpool | None = None

    async def start(self) -> PostgresSpool:
        spool = PostgresSpool(self.url, instance="test", on_due=self.due.append, now=lambda: self.now)
        await spool.open()
        self._running = spool
        return spool

    async def kill(self) -> None:
        spool, self._running = self._running, None
        if spool is not None:
            watch, writer = spool._watch, spool._writer  # the test stands in for the kernel, which cuts connections
            for task in (watch._task, writer._task):
                if task is not None:
                    task.cancel()
                    await asyncio.wait({task})
            for connection in (watch._connection, writer._connection, *spool._pool._idle):
                if connection is not None:
                    connection.terminate()

    async def end(self) -> None:
        if self._running is not None:
            await self._running.close()


IMPLEMENTATIONS: dict[str, Callable[[pytest.FixtureRequest], Store]] = {
    "memory": MemoryStore,
    "sqlite": SqliteStore,
    "postgres": PostgresStore,
}
