"""Asks plugins: with a deadline, so many questions at once, restarts after crashes, another one when its file changes.

`Asker` looks after one plugin, `Plugins` after all. Whatever goes wrong ends as a `PluginError` within the deadline,
and the caller goes on without an answer.
"""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Protocol

import structlog

from waypost.clock import Clock, Timer
from waypost.plugins.kinds import opened
from waypost.plugins.port import (
    Answer,
    BusyError,
    CrashedError,
    Definition,
    LateError,
    Mortal,
    NonsenseError,
    Plugin,
    PluginError,
    Question,
)

START_TIMEOUT = 10.0
"""Seconds that a plugin has to get ready."""

PATIENCE = 3.0
"""Seconds that a starting server waits for it; then it goes on without."""

FIRST_REST = 0.25
LONGEST_REST = 60.0
"""Seconds until a plugin that crashed or hung is started again: twice as long each time, up to a minute."""

PROVEN = 60.0
"""Seconds after which a plugin that ran well is restarted as soon as one that never failed."""

MAX_LATE = 3
"""Answers in a row that came too late, after which a plugin is taken for hung."""

LOOK_EVERY = 1.0
"""Seconds between two looks at a plugin's files."""

log = structlog.get_logger()

Stamp = tuple[tuple[int, int, int], ...]


class Report(Protocol):
    """Whoever counts: which plugin, `ok` or the reason of a `PluginError`, and how many seconds it took."""

    def __call__(self, plugin: str, outcome: str, seconds: float) -> None:
        """One question has come to an end."""


def unreported(plugin: str, outcome: str, seconds: float) -> None:
    """For who does not count."""


class Asker:
    """Keeps one plugin ready, and asks it."""

    def __init__(self, definition: Definition, clock: Clock, make: Callable[[Definition], Plugin] = opened) -> None:
        self.definition = definition
        self._clock = clock
        self._make = make
        self._plugin: Plugin | None = None
        self._started_at = 0.0
        self._starting: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(definition.at_once)
        self._late = 0
        self._rest = 0.0
        self._again: Timer | None = None
        self._fault = "it is being started"
        self._stamp: Stamp = ()
        self._looked_at = 0.0
        self._hurry = asyncio.Event()
        self._is_closed = False

    async def start(self, patience: float = PATIENCE) -> None:
        """Begins, and waits so many seconds at most until it is ready. Does not raise: what is wrong is in the log."""
        self._begin()
        if self._starting is not None:
            await asyncio.wait((self._starting,), timeout=patience)

    async def ask(self, question: Question) -> Answer:
        """The plugin's answer, within its time-out. Raises `PluginError`."""
        self._look()
        plugin = self._plugin
        # A task, for it has to be possible to give up; sessions are none (decision 14).
        asking = asyncio.get_running_loop().create_task(self._ask(question))
        try:
            await asyncio.wait((asking,), timeout=self.definition.timeout)
        except BaseException:
            asking.cancel()  # the client has gone
            raise
        if asking.done():
            return asking.result()
        asking.cancel()
        self._was_late(plugin)
        raise LateError(f"no answer within {self.definition.timeout:g} s")

    async def _ask(self, question: Question) -> Answer:
        plugin = self._plugin
        if plugin is None:  # nobody waits until it is: that may take long, and the next message would have to as well
            raise BusyError(f"it is not running: {self._fault}")
        try:
            async with self._slots:
                answer = await plugin.choose(question)
        except CrashedError as error:
            self._replace(plugin, str(error))
            raise
        except NonsenseError:
            self._late = 0
            raise
        except PluginError:
            raise
        except Exception as error:  # a defect in a kind must cost an answer, not a message
            log.error("a plugin broke", plugin=self.definition.name, exc_info=error)
            self._replace(plugin, f"internal error: {type(error).__name__}")
            raise CrashedError(f"internal error: {type(error).__name__}") from error
        self._late = 0
        return answer

    async def close(self) -> None:
        """Ends it."""
        self._is_closed = True
        if self._again is not None:
            self._again.cancel()
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.wait((self._starting,))
        self._retire()
        self._hurry.set()
        if self._closing:
            await asyncio.wait(self._closing)

    # -- its life

    def _begin(self) -> None:
        """Starts a new one beside what there is."""
        if self._starting is None and not self._is_closed:
            self._again = None
            self._starting = asyncio.get_running_loop().create_task(self._start())

    async def _start(self) -> None:
        self._stamp, self._looked_at = self._stamped(), self._clock.monotonic()
        plugin = self._make(self.definition)
        try:
            async with asyncio.timeout(START_TIMEOUT):
                await plugin.start()
        except TimeoutError:
            await self._not_started(plugin, f"it was not ready within {START_TIMEOUT:g} s")
        except CrashedError as error:
            await self._not_started(plugin, str(error))
        except asyncio.CancelledError:
            await plugin.close()
            raise
        except Exception as error:  # as in `ask`
            log.error("a plugin broke", plugin=self.definition.name, exc_info=error)
            await self._not_started(plugin, f"internal error: {type(error).__name__}")
        else:
            self._starting = None
            self._retire(self.definition.timeout)  # the old one may still answer what it was asked
            self._plugin, self._started_at, self._late = plugin, self._clock.monotonic(), 0
            if isinstance(plugin, Mortal):
                plugin.on_end = partial(self._replace, plugin)
            log.info("plugin_started", plugin=self.definition.name, kind=self.definition.kind)

    async def _not_started(self, plugin: Plugin, why: str) -> None:
        await plugin.close()
        self._starting = None
        if self._plugin is not None:  # a changed file that is no good: the old one goes on
            log.error("plugin_not_reloaded", plugin=self.definition.name, reason=why)
            return
        self._rests(why)

    def _replace(self, plugin: Plugin | None, why: str) -> None:
        """It has to be made anew, after a rest; nothing is done twice for one that is replaced already."""
        if plugin is None or plugin is not self._plugin:
            return
        if self._clock.monotonic() - self._started_at >= PROVEN:
            self._rest = 0.0
        self._retire()
        if self._starting is None:
            self._rests(why)

    def _rests(self, why: str) -> None:
        if self._is_closed:
            return
        self._fault = why
        self._rest = min(max(FIRST_REST, self._rest * 2), LONGEST_REST)
        log.error("plugin_down", plugin=self.definition.name, reason=why, again_in=self._rest)
        self._again = self._clock.call_later(self._rest, self._begin)

    def _retire(self, patience: float = 0.0) -> None:
        """The plugin that there is, if there is one, ends after so many seconds, beside everything else."""
        plugin, self._plugin = self._plugin, None
        if plugin is not None:
            task = asyncio.get_running_loop().create_task(self._end(plugin, patience))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def _end(self, plugin: Plugin, patience: float) -> None:
        if patience:
            try:
                async with asyncio.timeout(patience):
                    await self._hurry.wait()
            except TimeoutError:
                pass
        await plugin.close()

    def _was_late(self, plugin: Plugin | None) -> None:
        if plugin is None or plugin is not self._plugin:
            return
        self._late += 1
        if self._late >= MAX_LATE:
            self._replace(plugin, f"{self._late} answers in a row came too late")

    # -- its file

    def _look(self) -> None:
        """Now and then: has its file changed? Then another one takes its place as soon as it is ready."""
        now = self._clock.monotonic()
        if now - self._looked_at < LOOK_EVERY or self._starting is not None:
            return
        self._looked_at = now
        stamp = self._stamped()
        if stamp != self._stamp and stamp:
            if self._again is not None:  # it rested because of what has been mended, perhaps
                self._again.cancel()
            self._begin()

    def _stamped(self) -> Stamp:
        """What tells versions of its files apart; nothing while one of them is being replaced."""
        found = []
        for file in self.definition.files:
            stamp = _stamp(file)
            if stamp is None:
                return ()
            found.append(stamp)
        return tuple(found)


def _stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        known = file.stat()
    except OSError:
        return None
    return known.st_ino, known.st_mtime_ns, known.st_size


class Plugins:
    """All plugins of one configuration, by name."""

    def __init__(self, definitions: Mapping[str, Definition], clock: Clock, report: Report = unreported) -> None:
        self._clock = clock
        self._report = report
        self._definitions = definitions
        self._askers: dict[str, Asker] = {}

    async def start(self, patience: float = PATIENCE) -> None:
        """Gets them ready side by side, within so many seconds. Does not raise."""
        self._askers = {name: Asker(each, self._clock) for name, each in self._definitions.items()}
        await asyncio.gather(*(asker.start(patience) for asker in self._askers.values()))

    async def ask(self, name: str, question: Question) -> Answer:
        """One plugin's answer, counted. Raises `PluginError`."""
        asker = self._askers.get(name)
        began = self._clock.monotonic()
        try:
            if asker is None:
                raise BusyError("it is not started")
            answer = await asker.ask(question)
        except PluginError as error:
            self._report(name, error.reason, self._clock.monotonic() - began)
            raise
        self._report(name, "ok", self._clock.monotonic() - began)
        return answer

    async def close(self) -> None:
        """Ends them all."""
        await asyncio.gather(*(asker.close() for asker in self._askers.values()))
