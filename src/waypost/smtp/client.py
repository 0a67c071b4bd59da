"""The client's side: commands in, octets out; octets in, replies out, each with the command it answers.

The engine keeps the commands that wait for an answer in a queue and checks each against the state in which
the session will be when all before it succeed. What an upstream sends is never trusted: lines and replies are
bounded, and a reply that is malformed, that nobody asked for, or that makes no sense raises
`RemoteProtocolError`, after which the connection is of no use.
"""

import re
from collections import deque
from dataclasses import dataclass

from waypost.smtp import commands as c
from waypost.smtp.errors import LocalProtocolError, RemoteProtocolError
from waypost.smtp.reply import Reply, from_wire
from waypost.smtp.state import Kind, State, after, expected, is_allowed, kind_of
from waypost.smtp.wire import encode

MAX_REPLY_LINE = 4096  # octets; RFC 5321 section 4.5.3.1.5 says 512, and real servers say more
MAX_REPLY_LINES = 128

_LINE = re.compile(rb"([2-5][0-9][0-9])(?:([ -])(.*))?", re.DOTALL)

# After these nothing more may be sent until the answer is there (RFC 2920 section 3.1).
_LAST_OF_GROUP = frozenset(
    {Kind.CONNECT, Kind.HELLO, Kind.DATA, Kind.NOOP, Kind.QUIT, Kind.STARTTLS, Kind.HANDSHAKE, Kind.AUTH, Kind.RESPONSE}
)


@dataclass(frozen=True, slots=True)
class Extensions:
    """What an upstream offered in its answer to EHLO. `size` is None without SIZE, and 0 without a limit."""

    pipelining: bool = False
    size: int | None = None
    eightbitmime: bool = False
    smtputf8: bool = False
    chunking: bool = False
    dsn: bool = False
    starttls: bool = False
    enhanced_codes: bool = False
    auth: tuple[str, ...] = ()


NONE = Extensions()


class ClientEngine:
    """One session, seen from the client."""

    def __init__(self) -> None:
        self.state = State.OPENING
        self.extensions = NONE
        self._predicted = State.GREETED
        self._waiting: deque[tuple[c.Command, Kind]] = deque([(c.Connect(), Kind.CONNECT)])
        self._data = b""
        self._lines: list[bytes] = []  # of a reply that is not complete
        self._code = b""

    @property
    def is_idle(self) -> bool:
        """Whether no answer is outstanding and nothing was received that has not been read."""
        return not self._waiting and not self._data and not self._lines

    def send(self, *commands: c.Command) -> bytes:
        """The octets for these commands. Raises `LocalProtocolError` for what may not be said now."""
        octets = []
        for command in commands:
            kind = kind_of(command)
            if self._waiting:
                last = self._waiting[-1][1]
                if last in _LAST_OF_GROUP or not self.extensions.pipelining:
                    raise LocalProtocolError(f"{kind.name} must wait for the answer to {last.name}")
            else:
                self._predicted = self.state
            if not is_allowed(self._predicted, kind):
                raise LocalProtocolError(f"{kind.name} is not allowed in {self._predicted.name}")
            octets.append(encode(command))
            self._waiting.append((command, kind))
            self._predicted = expected(self._predicted, kind)
        return octets[0] if len(octets) == 1 else b"".join(octets)

    def receive(self, data: bytes) -> list[tuple[c.Command, Reply]]:
        """The replies that are complete now, each with its command. Raises `RemoteProtocolError`."""
        self._data = data = self._data + data if self._data else data
        found: list[tuple[c.Command, Reply]] = []
        at = 0
        while (end := data.find(b"\n", at)) >= 0:
            line = data[at:end]
            at = end + 1
            # Some servers end lines with a lone LF; in a reply that hides nothing.
            answer = self._line(line[:-1] if line.endswith(b"\r") else line)
            if answer is not None:
                found.append(answer)
        self._data = data = data[at:]
        if len(data) > MAX_REPLY_LINE:
            raise RemoteProtocolError("a line of the reply is endless")
        return found

    def tls_started(self) -> None:
        """The handshake after STARTTLS is done. What the upstream said before counts no more."""
        if self.state is not State.TLS:
            raise LocalProtocolError("STARTTLS was not accepted")
        if self._data or self._lines:
            # Plain text behind the answer to STARTTLS would be read as if it had come inside TLS.
            raise RemoteProtocolError("there was plain text behind the answer to STARTTLS")
        self.state = State.GREETED
        self.extensions = NONE

    def _line(self, line: bytes) -> tuple[c.Command, Reply] | None:
        if len(line) > MAX_REPLY_LINE:
            raise RemoteProtocolError("a line of the reply is endless")
        match = _LINE.fullmatch(line)
        if match is None:
            raise RemoteProtocolError(f"this is no reply: {line[:60]!r}")
        code, separator, text = match.groups()
        if self._lines and code != self._code:
            raise RemoteProtocolError(f"a reply changes its code from {self._code.decode()} to {code.decode()}")
        self._code = code
        self._lines.append(text or b"")
        if separator == b"-":
            if len(self._lines) > MAX_REPLY_LINES:
                raise RemoteProtocolError("a reply has too many lines")
            return None
        lines, self._lines = self._lines, []
        return self._reply(int(code), lines)

    def _reply(self, code: int, lines: list[bytes]) -> tuple[c.Command, Reply]:
        answer = from_wire(code, lines)
        if not self._waiting:
            raise RemoteProtocolError(f"a reply that nobody asked for: {answer}")
        command, kind = self._waiting.popleft()
        state = after(self.state, kind, code)
        if state is None and self._follows_a_refusal(kind) and code // 100 in (4, 5):
            state = self.state
        if state is None:
            raise RemoteProtocolError(f"a reply to {kind.name} that makes no sense: {answer}")
        self.state = state
        if kind is Kind.HELLO:
            self.extensions = parse_extensions(lines) if isinstance(command, c.Ehlo) and code == 250 else NONE
        return command, answer

    def _follows_a_refusal(self, kind: Kind) -> bool:
        """Whether a command was pipelined behind one that was refused, so that its refusal is what to expect."""
        return not is_allowed(self.state, kind)


def parse_extensions(lines: list[bytes]) -> Extensions:
    """What the lines of an answer to EHLO offer; the first is the server's name. Garbage offers nothing."""
    words: dict[str, list[str]] = {}
    for line in lines[1:]:
        keyword, *arguments = line.decode("ascii", "replace").upper().replace("AUTH=", "AUTH ").split()[:32] or [""]
        words.setdefault(keyword, []).extend(arguments)
    size = words.get("SIZE")
    limit = size[0] if size else "0"
    return Extensions(
        pipelining="PIPELINING" in words,
        size=None if size is None else int(limit) if limit.isascii() and limit.isdecimal() and len(limit) < 20 else 0,
        eightbitmime="8BITMIME" in words,
        smtputf8="SMTPUTF8" in words,
        chunking="CHUNKING" in words,
        dsn="DSN" in words,
        starttls="STARTTLS" in words,
        enhanced_codes="ENHANCEDSTATUSCODES" in words,
        auth=tuple(dict.fromkeys(words.get("AUTH", ()))),
    )
