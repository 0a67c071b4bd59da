"""The client's side: commands in, octets out; octets in, replies out, each with the command it answers.

The engine keeps the commands that wait for an answer in a queue and checks each against the state in which
the session will be when all before it succeed. What an upstream sends is never trusted: lines and replies are
bounded, and a reply that is malformed, that nobody asked for, or that makes no sense raises
`RemoteProtocolError`, after which the connection is of no use.
"""

import re
from collections import deque
from dataclasses import dataclass
from functools import lru_cache

from waypost.smtp import commands as c
from waypost.smtp.commands import Kind
from waypost.smtp.errors import LocalProtocolError, RemoteProtocolError
from waypost.smtp.reply import Reply, from_wire
from waypost.smtp.state import TABLE, State, after, is_allowed
from waypost.smtp.verdicts import Verdicts
from waypost.smtp.wire import encode

MAX_REPLY_LINE = 4096  # octets; RFC 5321 section 4.5.3.1.5 says 512, and real servers say more
MAX_REPLY_LINES = 128

_LINE = re.compile(rb"([2-5][0-9][0-9])(?:([ -])(.*))?", re.DOTALL)

# After these nothing more may be sent until the answer is there (RFC 2920 section 3.1).
_LAST_OF_GROUP = frozenset(
    {
        Kind.CONNECT, Kind.HELLO, Kind.DATA, Kind.NOOP, Kind.QUIT, Kind.STARTTLS, Kind.HANDSHAKE, Kind.AUTH,
        Kind.RESPONSE, Kind.XCLIENT,
    }
)  # fmt: skip


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
    xclient: tuple[str, ...] = ()
    """The attributes that XCLIENT may have here."""
    xforward: tuple[str, ...] = ()
    prdr: bool = False
    """Whether it can be asked to answer for each recipient (draft-hall-prdr)."""


NONE = Extensions()
_MAIL, _RCPT, _ENDS = Kind.MAIL, Kind.RCPT, frozenset({Kind.END, Kind.LAST_CHUNK})
_HELLO, _VERDICTS = Kind.HELLO, State.VERDICTS  # at hand: before Python 3.12 members are looked up by the metaclass


class ClientEngine:
    """One session, seen from the client."""

    def __init__(self) -> None:
        self.state = State.OPENING
        self.extensions = NONE
        self._predicted = State.GREETED
        self._waiting: deque[c.Command] = deque([c.Connect()])
        self._offered = NONE  # in an answer to EHLO that is being read
        self._data = b""
        self._lines: list[bytes] = []  # of a reply that is not complete
        self._code = b""
        self.verdicts: Verdicts | None = None
        """What was answered for each recipient, where that is the way: in LMTP, and when PRDR was said with MAIL."""

    @property
    def is_idle(self) -> bool:
        """Whether no answer is outstanding and nothing was received that has not been read."""
        return not self._waiting and not self._data and not self._lines

    def send(self, *commands: c.Command) -> bytes:
        """The octets for these commands. Raises `LocalProtocolError` for what may not be said now."""
        waiting = self._waiting
        octets = []
        for command in commands:
            kind = command.kind
            if not waiting:
                self._predicted = self.state
            elif waiting[-1].kind in _LAST_OF_GROUP or not self.extensions.pipelining:
                raise LocalProtocolError(f"{kind.name} must wait for the answer to {waiting[-1].kind.name}")
            answers = TABLE[self._predicted].get(kind)
            if answers is None:
                raise LocalProtocolError(f"{kind.name} is not allowed in {self._predicted.name}")
            octets.append(encode(command))
            waiting.append(command)
            self._predicted = answers.get(2) or answers[3]
        return octets[0] if len(octets) == 1 else b"".join(octets)

    def receive(self, data: bytes) -> list[tuple[c.Command, Reply]]:
        """The replies that are complete now, each with its command. Raises `RemoteProtocolError`."""
        if self._data:
            data = self._data + data
        try:
            return self._replies(data)
        except RemoteProtocolError:
            self.state = State.CLOSED
            self._waiting.clear()
            self._data, self._lines = b"", []
            if self.verdicts is not None:
                self.verdicts.replies.clear()  # they may have been paired with the wrong recipients
            raise

    def _replies(self, data: bytes) -> list[tuple[c.Command, Reply]]:
        found: list[tuple[c.Command, Reply]] = []
        at = 0
        while (end := data.find(b"\n", at)) >= 0:
            line = data[at:end]
            at = end + 1
            answer = None if self._lines else _single(line)
            if answer is None:
                answer = self._line(line)
            if answer is not None:
                command = self._answered(answer)
                if command is not None:
                    found.append((command, answer))
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

    def _line(self, line: bytes) -> Reply | None:
        """Takes a line of a reply with several; the reply when it was the last."""
        code, separator, text = _parts(line)
        if self._lines and code != self._code:
            raise RemoteProtocolError(f"a reply changes its code from {self._code.decode()} to {code.decode()}")
        self._code = code
        self._lines.append(text)
        if separator == b"-":
            if len(self._lines) > MAX_REPLY_LINES:
                raise RemoteProtocolError("a reply has too many lines")
            return None
        lines, self._lines = self._lines, []
        if self._waiting and type(self._waiting[0]) in (c.Ehlo, c.Lhlo) and code == b"250":
            self._offered = parse_extensions(lines)
        return from_wire(int(code), lines)

    def _answered(self, answer: Reply) -> c.Command | None:
        """Pairs a reply with the command that it answers, and draws the consequences.

        None when more replies to that command are to come.
        """
        if not self._waiting:
            raise RemoteProtocolError(f"a reply that nobody asked for: {answer}")
        command = self._waiting.popleft()
        kind = command.kind
        verdicts = self.verdicts
        if verdicts is not None and kind in _ENDS:
            kind = verdicts.next(kind, self.state)
        state = after(self.state, kind, answer.code)
        # What was pipelined behind a command that was refused is refused too, and changes nothing.
        if state is None and answer.severity in (4, 5) and not is_allowed(self.state, kind):
            state = self.state
        if state is None or (state is _VERDICTS and verdicts is None):
            raise RemoteProtocolError(f"a reply to {kind.name} that makes no sense: {answer}")
        self.state = state
        if kind is _MAIL:
            self._begun(command)
        elif kind is _HELLO:
            self.extensions, self._offered = self._offered, NONE
            self.verdicts = Verdicts(lmtp=True) if type(command) is c.Lhlo else None
        elif verdicts is not None:
            if kind is _RCPT:
                verdicts.recipients += answer.code < 300
            verdicts.heard(kind, answer)
            if state is _VERDICTS:
                self._waiting.appendleft(command)
                return None
        return command

    def _begun(self, mail: c.Command) -> None:
        """A transaction has begun, or not; whether its recipients will be answered one by one is known now."""
        if self.verdicts is not None:
            self.verdicts = Verdicts(lmtp=True) if self.verdicts.lmtp else None
        if isinstance(mail, c.Mail) and mail.parameters.prdr:
            self.verdicts = Verdicts(lmtp=False)


@lru_cache(maxsize=1024)
def _single(line: bytes) -> Reply | None:
    """The reply in a line that is a whole one; None when more lines follow. Upstreams repeat themselves."""
    code, separator, text = _parts(line)
    return None if separator == b"-" else from_wire(int(code), [text])


def _parts(line: bytes) -> tuple[bytes, bytes, bytes]:
    """Code, separator and text of a line, which may still have its CR."""
    if len(line) > MAX_REPLY_LINE:
        raise RemoteProtocolError("a line of the reply is endless")
    match = _LINE.fullmatch(line.removesuffix(b"\r"))  # some servers end lines with a lone LF; it hides nothing
    if match is None:
        raise RemoteProtocolError(f"this is no reply: {line[:60]!r}")
    return match[1], match[2] or b"", match[3] or b""


def parse_extensions(lines: list[bytes]) -> Extensions:
    """What the lines of an answer to EHLO offer; the first is the server's name. Garbage offers nothing."""
    words: dict[str, list[str]] = {}
    for line in lines[1:]:
        keyword, *arguments = line.decode("ascii", "backslashreplace").upper().replace("AUTH=", "AUTH ").split()[
            :32
        ] or [""]
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
        xclient=tuple(words.get("XCLIENT", ())),
        xforward=tuple(words.get("XFORWARD", ())),
        prdr="PRDR" in words,
    )
