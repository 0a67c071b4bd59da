"""The connection by which an instance shows that it lives, and hears of others and from them.

Notifications wake; what is due is also looked up every few seconds, so that none of them matters. Whether another
instance is gone is judged by whether its row changes while this one looks on, not by anybody's clock: one that was
cut off together with this one, because the database was away, gets its full time again.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import Protocol

import structlog

from waypost.delivery.spool import SpoolError
from waypost.store.postgres import instances, queries
from waypost.store.postgres.connection import COMMAND_TIMEOUT, Connection, Server, part, watch_end
from waypost.store.postgres.instances import Seen, Taken
from waypost.store.postgres.notes import CHANNEL, News, announce, understand

POLL = 5
"""Seconds between two looks at what is due, and between two heartbeats, at the most."""

_BEATS = 6  # heartbeats in the time after which an instance counts as gone
_PREDECESSOR = 0.5  # seconds for the database to notice that the connection of a process has ended
_PAUSES = (0.1, 0.25, 0.5, 1, 2, 5)

_log = structlog.get_logger(__name__)


class Watcher(Protocol):
    """Whoever wants to know."""

    async def begin(self, connection: Connection) -> None:
        """From now on, notifications are heard."""

    def numbered(self, number: int, alone: bool) -> None:
        """This process has this number, and there is nobody else, or there is."""

    def due(self, lanes: Collection[str]) -> None:
        """These lanes may have something due."""

    def taken(self, taken: Taken) -> None:
        """This was taken over."""

    async def heard(self, connection: Connection, news: Sequence[News]) -> None:
        """Another instance says so."""

    async def reconcile(self, connection: Connection) -> None:
        """A heartbeat has passed: a time to look for what was forgotten. Raises `SpoolError`."""


class Watch:
    """Keeps an instance called `name` alive; others are gone after `lease` seconds of silence."""

    def __init__(self, server: Server, name: str, lease: float, now: Callable[[], float], watcher: Watcher) -> None:
        self.number = 0
        self._server = server
        self._name = name
        self._lease = lease
        self._every = min(POLL, lease / _BEATS)
        self._now = now
        self._watcher = watcher
        self._connection: Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._wanted = asyncio.Event()
        self._news: list[News] = []
        self._silent: dict[int, tuple[Seen, float]] = {}  # by number: as last seen, and seconds without a change
        self._looked_at = 0.0
        self._looking = False

    async def start(self) -> None:
        """Registers, takes over what an earlier process of this name has left, and goes on. Raises `SpoolError`."""
        await self._join(first=True)
        self._task = asyncio.get_running_loop().create_task(self._run(), name="spool watch")

    async def close(self, *, leave: bool = True) -> None:
        """Ends the watch, and leaves if the database can be reached; otherwise the others will notice."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if not leave:
            connection.terminate()
            return
        try:
            with self._server.explained():
                async with asyncio.timeout(COMMAND_TIMEOUT):
                    await instances.leave(connection, self.number)
        except SpoolError as error:
            _log.warning("the spool could not be left", error=str(error))
        await part(connection)

    def look(self) -> None:
        """Makes the next look at what is due come now."""
        self._looking = True
        self._wanted.set()

    async def _run(self) -> None:
        failures = 0
        loop = asyncio.get_running_loop()
        next_round = loop.time() + self._every
        while True:
            try:
                async with asyncio.timeout_at(next_round):
                    await self._wanted.wait()
            except TimeoutError:
                pass
            self._wanted.clear()
            try:
                if self._connection is None or self._connection.is_closed():
                    await self._join(first=False)
                elif self._looking or loop.time() >= next_round:
                    await self._round(self._connection)
                else:
                    await self._listen(self._connection)
                    continue
                failures = 0
                next_round = loop.time() + self._every
            except SpoolError as error:
                if not failures:
                    _log.warning("the spool's other instances are not heard", error=str(error))
                if self._connection is not None:
                    self._connection.terminate()  # the next may reach a server that can be written
                self._silent.clear()
                next_round = loop.time() + _PAUSES[min(failures, len(_PAUSES) - 1)]
                failures += 1
            except Exception as error:  # a defect of ours must not end the heartbeat
                _log.error("the watch over the spool broke", exc_info=error)
                next_round = loop.time() + self._every

    async def _join(self, *, first: bool) -> None:
        """Connects, and catches up with whatever was missed."""
        self._silent.clear()
        connection = await self._server.connect(durable=True)
        try:
            with self._server.explained():
                async with asyncio.timeout(COMMAND_TIMEOUT):
                    await connection.add_listener(CHANNEL, self._hear)
                    watch_end(connection, self.look)
                    if first or not await instances.beat(connection, self.number):
                        await self._register(connection)
                    await instances.hold_number(connection, self.number)
                    self._connection = connection
                    if first:
                        await self._watcher.begin(connection)
                        await self._take_over_predecessors(connection)
            if not first:
                self._news.append(News("", all=True))
            await self._round(connection)
        except BaseException:
            connection.terminate()
            raise

    async def _register(self, connection: Connection) -> None:
        if self.number:
            _log.error("other instances have taken over from this one: it was not heard of for too long")
        self.number = await instances.register(connection, self._name)
        await announce(connection)
        self._watcher.numbered(self.number, False)

    async def _round(self, connection: Connection) -> None:
        """One heartbeat, and one look at everything else."""
        self._looking = False
        with self._server.explained():
            async with asyncio.timeout(COMMAND_TIMEOUT):
                if not await instances.beat(connection, self.number):
                    await self._register(connection)
                    await instances.hold_number(connection, self.number)
                await self._look_at_others(connection)
                self._watcher.due(await queries.due_lanes(connection, self._now()))
        await self._listen(connection)
        await self._watcher.reconcile(connection)

    async def _listen(self, connection: Connection) -> None:
        """Passes on what other instances have said."""
        news, self._news = self._news, []
        if news:
            with self._server.explained():
                async with asyncio.timeout(COMMAND_TIMEOUT):
                    await self._watcher.heard(connection, news)

    async def _look_at_others(self, connection: Connection) -> None:
        others = await instances.others(connection, self.number)
        self._watcher.numbered(self.number, not others)
        at = asyncio.get_running_loop().time()
        # A process that was stopped itself has not looked on in the meantime.
        passed, self._looked_at = min(at - self._looked_at, 2 * self._every), at
        silent: dict[int, tuple[Seen, float]] = {}
        for seen in others:
            before, seconds = self._silent.get(seen.number, (None, 0.0))
            silent[seen.number] = (seen, seconds + passed if before == seen else 0.0)
        self._silent = silent
        for seen, seconds in list(silent.values()):
            if seconds >= self._lease:
                _log.warning("another instance is gone: taking over from it", instance=seen.name)
                self._watcher.taken(await instances.take_over(connection, seen.number, self.number, seen.seen_at))
        for number in await instances.ghosts(connection):
            self._watcher.taken(await instances.take_over(connection, number, self.number))

    async def _take_over_predecessors(self, connection: Connection) -> None:
        """Takes over from earlier processes of this name: they are gone as soon as they are not connected."""
        deadline = asyncio.get_running_loop().time() + min(_PREDECESSOR, self._lease)
        for seen in await instances.others(connection, self.number):
            while seen.name == self._name:
                if not await instances.is_held(connection, seen.number):
                    self._watcher.taken(await instances.take_over(connection, seen.number, self.number))
                    break
                if asyncio.get_running_loop().time() > deadline:
                    _log.info("another Waypost of this name works on the spool as well", instance=self._name)
                    break
                await asyncio.sleep(0.02)  # the pace of asking

    def _hear(self, connection: object, pid: int, channel: str, payload: object) -> None:
        news = understand(str(payload))
        self._news.append(news)
        self._looking |= news.all
        self._wanted.set()
