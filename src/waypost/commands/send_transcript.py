"""What is said in a session of `waypost send`: commands with their answers, and the transcript of both."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from waypost.commands import FAILED
from waypost.net.stream import Stream
from waypost.sink.terminal import escaped
from waypost.smtp import commands as c
from waypost.smtp.address import Address
from waypost.smtp.client import ClientEngine
from waypost.smtp.errors import ProtocolError
from waypost.smtp.reply import Reply
from waypost.smtp.state import State
from waypost.smtp.wire import encode

_MAX_SHOWN_LINES = 50  # of the content
_MAX_SHOWN_LINE = 1000  # octets

Who = Literal["client", "server", "note", "problem"]
_MARKS: dict[Who, str] = {"client": " -> ", "server": "<-  ", "note": "=== ", "problem": "*** "}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the transcript. `seconds` is the time since the beginning."""

    seconds: float
    who: Who
    text: str

    def __str__(self) -> str:
        return f"{self.seconds:8.3f} {_MARKS[self.who]}{self.text}".rstrip()


@dataclass(frozen=True, slots=True)
class Answered:
    """One reply, and how many seconds it took."""

    phase: str
    reply: Reply
    seconds: float


@dataclass(slots=True)
class Report:
    """What came of it."""

    lines: list[Line] = field(default_factory=list)
    answers: list[Answered] = field(default_factory=list)
    accepted: list[Address] = field(default_factory=list)
    tls: str | None = None
    exit_code: int = FAILED
    summary: str = ""

    def as_json(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return {
            "exit_code": self.exit_code,
            "summary": self.summary,
            "tls": self.tls,
            "accepted_recipients": [str(address) for address in self.accepted],
            "replies": [
                {
                    "phase": each.phase,
                    "code": each.reply.code,
                    "enhanced": None if each.reply.enhanced is None else ".".join(map(str, each.reply.enhanced)),
                    "text": each.reply.text,
                    "seconds": round(each.seconds, 6),
                }
                for each in self.answers
            ],
            "transcript": [
                {"seconds": round(line.seconds, 6), "who": line.who, "text": line.text} for line in self.lines
            ],
        }


class Conversation:
    """One connection, seen from its client, one command at a time. What is said goes into `report` and to `show`.

    Besides what `Stream` raises, `ConnectionError` means that the server has gone, and `ProtocolError` that it
    does not speak SMTP.
    """

    def __init__(self, show: Callable[[Line], None], timeout: float) -> None:
        """`timeout` is how many seconds each answer may take."""
        self.report = Report()
        self.engine = ClientEngine()
        self.stream: Stream | None = None
        self._show = show
        self._timeout = timeout
        self._began = time.monotonic()
        self._partial = b""

    @property
    def connected(self) -> Stream:
        """The stream. Raises `ConnectionError` when there is none any more."""
        if self.stream is None or self.stream.lost:
            raise ConnectionError("the connection was lost")
        return self.stream

    def say(self, who: Who, text: str) -> None:
        """Adds a line to the transcript."""
        line = Line(time.monotonic() - self._began, who, text)
        self.report.lines.append(line)
        self._show(line)

    async def send_content(self, content: bytes) -> Reply:
        """Content in wire form, and the final dot; the answer to it."""
        lines = content.split(b"\r\n")[:-1]
        for line in lines[:_MAX_SHOWN_LINES]:
            self.say("client", _shown(line))
        if len(lines) > _MAX_SHOWN_LINES:
            self.say("note", f"{len(lines) - _MAX_SHOWN_LINES} more lines, {len(content)} octets in all")
        self.connected.write(content)
        await self.connected.drain(self._timeout)
        return await self.ask(c.EndOfContent(), "content")

    async def ask(self, command: c.Command, phase: str) -> Reply:
        """Says a command; the answer."""
        octets = self.engine.send(command)
        match command:
            case c.Auth(mechanism, initial):
                shown = f"AUTH {mechanism}" if initial is None else f"AUTH {mechanism} (not shown)"
            case c.AuthResponse("*"):
                shown = "*"
            case c.AuthResponse():
                shown = "(not shown)"
            case _:
                shown = _shown(encode(command)[:-2])
        self.say("client", shown)
        self.connected.write(octets)
        return await self.answer(phase)

    async def answer(self, phase: str) -> Reply:
        """The next answer."""
        began = time.monotonic()
        while True:
            data = await self.connected.read(self._timeout)
            if not data:
                self._show_received(b"", at_end=True)
                if self.engine.state is State.OPENING:
                    raise ConnectionError("the server hung up before it greeted")
                raise ConnectionError(f"the server hung up instead of answering ({phase})")
            self._show_received(data)
            try:
                found = self.engine.receive(data)
            except ProtocolError:
                self._show_received(b"", at_end=True)
                raise
            if found:
                answer = found[0][1]
                self.report.answers.append(Answered(phase, answer, time.monotonic() - began))
                return answer

    def _show_received(self, data: bytes, *, at_end: bool = False) -> None:
        *lines, self._partial = (self._partial + data).split(b"\n")
        if at_end and self._partial:
            lines.append(self._partial)
            self._partial = b""
        for line in lines:
            self.say("server", _shown(line.removesuffix(b"\r")))


def _shown(line: bytes) -> str:
    return escaped(line if len(line) <= _MAX_SHOWN_LINE else line[:_MAX_SHOWN_LINE] + b"...")
