"""Programs that are asked in lines of JSON: the kind `exec`, and the way in which Python plugins are spoken to.

One process is kept running. Questions have numbers and may be answered in any order. What it says without being asked
is tolerated to a degree.
"""

import asyncio
import shutil
from collections.abc import Callable, Sequence

from waypost.plugins.port import Answer, CrashedError, Definition, NonsenseError, PluginError, Question
from waypost.plugins.process import Process
from waypost.plugins.wire import MAX_LINE, question_line, read_answer, read_line
from waypost.smtp.reply import printable

MAX_UNASKED = 100
"""Lines that answer nothing, in a row, after which a program is taken for broken."""


class LinesPlugin:
    """A program that is asked in lines of JSON. With `greets` its first line says `{"ready": true}` or a `fault`."""

    def __init__(self, definition: Definition, command: Sequence[str], *, greets: bool = False) -> None:
        self._process = Process(definition.name, command, definition.memory, self._hear, self._ended)
        self._asked: dict[int, tuple[Question, asyncio.Future[Answer]]] = {}
        self._ready: asyncio.Future[None] | None = None
        self._greets = greets
        self._number = 0
        self._rest = bytearray()
        self._unasked = 0
        self.on_end: Callable[[str], None] = _unheard
        self._fault = ""  # why it cannot be spoken with any more

    @property
    def pid(self) -> int | None:
        """The number of its process."""
        return self._process.pid

    async def start(self) -> None:
        self._ready = asyncio.get_running_loop().create_future()
        await self._process.start()
        if self._greets:
            await self._ready

    async def choose(self, question: Question) -> Answer:
        if self._fault:
            raise CrashedError(self._fault)
        self._number += 1
        number = self._number
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._process.write(question_line(number, question))
        self._asked[number] = question, answer
        return await answer

    async def close(self) -> None:
        self._break("it was closed")
        await self._process.end()

    # -- what comes

    def _hear(self, data: bytes) -> None:
        if self._fault:
            return
        rest = self._rest
        rest += data
        while (end := rest.find(b"\n")) >= 0:  # what is broken has nothing left to read
            line = bytes(rest[:end])
            del rest[: end + 1]
            self._read(line)
        if len(rest) > MAX_LINE:
            self._broken(f"a line of more than {MAX_LINE} octets")

    def _read(self, line: bytes) -> None:
        if len(line) > MAX_LINE:
            self._broken(f"a line of more than {MAX_LINE} octets")
            return
        try:
            made = read_line(line)
        except NonsenseError as error:
            self._broken(str(error))
            return
        if self._ready is not None and not self._ready.done() and self._greets:
            self._greeted(made)
            return
        number = made.get("id")
        asked = self._asked.pop(number, None) if type(number) is int else None
        if asked is None:
            self._answered_nothing()
            return
        self._unasked = 0
        question, answer = asked
        if answer.done():
            return
        try:
            answer.set_result(read_answer(made, question))
        except PluginError as error:
            answer.set_exception(error)

    def _greeted(self, made: dict[str, object]) -> None:
        assert self._ready is not None  # noqa: S101  # it is what is waited for
        if made.get("ready") is True:
            self._ready.set_result(None)
        else:
            self._broken(printable(str(made.get("fault") or "it did not say that it is ready")[:400]))

    def _answered_nothing(self) -> None:
        self._unasked += 1
        if self._unasked > MAX_UNASKED:
            self._broken("it answers what nobody has asked")

    def _broken(self, why: str) -> None:
        """It cannot be spoken with any more."""
        self._process.kill()
        self._ended(why)

    def _ended(self, why: str) -> None:
        if not self._fault:
            self._break(why)
            self.on_end(why)

    def _break(self, why: str) -> None:
        self._fault = self._fault or why
        self._rest.clear()
        error = CrashedError(self._fault)
        if self._ready is not None and not self._ready.done():
            self._ready.set_exception(error)
            self._ready.exception()  # perhaps nobody waits for it
        for _, answer in self._asked.values():
            if not answer.done():
                answer.set_exception(error)
        self._asked.clear()


def _unheard(why: str) -> None:
    pass


def open_exec(definition: Definition) -> LinesPlugin:
    """A program of the user's."""
    return LinesPlugin(definition, definition.command)


def exec_fault(definition: Definition) -> str | None:
    """Why the program could not be started."""
    program = definition.target
    if shutil.which(program) is not None:
        return None
    if "/" not in program:
        return f"there is no program {program!r} in PATH; write its path"
    if not definition.files[0].exists():
        return f"there is no file {program}"
    return f"{program} is not an executable file; `chmod +x` makes it one"
