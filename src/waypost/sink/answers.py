"""How a sink answers: properly, or as a fault orders it. One for each session."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ssl import SSLContext
from typing import Literal

from waypost.net.stream import Stream
from waypost.sink.faults import Action, Babble, Close, CloseAfter, Delay, Faults, Garbage, Hang, Phase, Say
from waypost.sink.stored import Mailbox, StoredMessage
from waypost.smtp import commands as c
from waypost.smtp.errors import LocalProtocolError
from waypost.smtp.order import ServerOptions
from waypost.smtp.reply import Reply, reply
from waypost.smtp.server import ServerEngine

_HANG_LIMIT = 3600.0  # seconds; nobody waits longer, and the socket is given back

_STAND_IN = reply(451, "4.3.0", "Not carried out")
"""What the engine is told when the client is told something that is no answer."""

_NOISE = {
    Garbage.BINARY: b"\x00\xff\xfe\x16\x03\x01 this is no reply \x80\x9b\r\n",
    Garbage.MISMATCH: b"250-The first line says yes\r\n550 and the last says no\r\n",
    Garbage.UNSOLICITED: b"250 2.0.0 Nobody asked for this\r\n",
}
_ENDLESS_PIECE = b"x" * 65536


class Watcher:
    """Is told what happens at a sink. This one does not care; others override what they want to know."""

    def connected(self, session: int, client: str) -> None:
        """A client has connected."""

    def said(self, session: int, who: Literal["client", "sink"], line: bytes) -> None:
        """One line of the dialogue, without its end; content and secrets are not in it."""

    def kept(self, message: StoredMessage) -> None:
        """A message came in whole. Raising `OSError` means that it cannot be kept, which the client is told."""

    def ended(self, session: int, why: str) -> None:
        """The session is over."""


class Watchers(Watcher):
    """Several watchers, told in their order."""

    def __init__(self, *watchers: Watcher) -> None:
        self._watchers = watchers

    def connected(self, session: int, client: str) -> None:
        for each in self._watchers:
            each.connected(session, client)

    def said(self, session: int, who: Literal["client", "sink"], line: bytes) -> None:
        for each in self._watchers:
            each.said(session, who, line)

    def kept(self, message: StoredMessage) -> None:
        for each in self._watchers:
            each.kept(message)

    def ended(self, session: int, why: str) -> None:
        for each in self._watchers:
            each.ended(session, why)


@dataclass(frozen=True, slots=True)
class House:
    """What the sessions of one sink share. `timeout` is how many seconds a client may be silent."""

    options: ServerOptions
    accounts: Mapping[str, str]
    context: SSLContext | None
    implicit_tls: bool
    mailbox: Mailbox
    faults: Faults
    watcher: Watcher
    timeout: float


@dataclass(slots=True)
class Transaction:
    """What a client has said since MAIL; `pieces` are its content in wire form."""

    mail: c.Mail
    recipients: list[c.Rcpt] = field(default_factory=list)
    pieces: list[bytes] = field(default_factory=list)
    kept: bool = False

    @property
    def addresses(self) -> tuple[str, ...]:
        """The recipients' addresses."""
        return tuple(str(each.forward_path) for each in self.recipients)


class HangUp(Exception):  # noqa: N818 # the ordinary end of a session is no error
    """The session is over: the client has gone, or it was so ordered."""


class Answers:
    """The sink's side of one dialogue."""

    def __init__(self, house: House, stream: Stream, engine: ServerEngine, number: int) -> None:
        self._house = house
        self._stream = stream
        self._engine = engine
        self._number = number

    async def ordered(
        self, phase: Phase, transaction: Transaction | None, recipients: Sequence[str] | None = None
    ) -> Action | None:
        """What else than the proper answer was ordered for this phase, if anything.

        When this returns, delays are over. Raises `HangUp` when the order was to hang or to hang up.
        `recipients` are those of the transaction unless given.
        """
        if recipients is None:
            recipients = () if transaction is None else transaction.addresses
        sender = "" if transaction is None else str(transaction.mail.reverse_path)
        kept = self._house.mailbox.total
        for action in self._house.faults.strike(phase, kept=kept, reverse_path=sender, recipients=recipients):
            match action:
                case Delay(seconds):
                    await asyncio.sleep(seconds)
                case Hang():
                    await self._hang(phase)
                case Close():
                    raise HangUp(f"hung up at {phase}, as ordered")
                case _:
                    return action
        return None

    async def give(self, ordered: Action | None, proper: Reply) -> Reply:
        """Answers what the engine has asked. Returns the reply by which the session goes on."""
        match ordered:
            case Say(answer):
                return self.tell(answer)
            case CloseAfter(answer):
                self.tell(answer or proper)
                raise HangUp("hung up after the answer, as ordered")
            case Babble(Garbage.UNSOLICITED):
                said = self.tell(proper)
                self._write(_NOISE[Garbage.UNSOLICITED])
                return said
            case Babble(kind):
                self._answer(_STAND_IN)
                self._engine.take_output()
                await self._babble(kind)
                return _STAND_IN
        return self.tell(proper)

    async def say_one(self, ordered: Action | None, answer: Reply) -> None:
        """Says one of the replies that follow content, of which the engine will be told when all are known."""
        match ordered:
            case Babble(kind) if kind is not Garbage.UNSOLICITED:
                await self._babble(kind)
            case Babble():
                self._write(answer.encode() + _NOISE[Garbage.UNSOLICITED])
            case _:
                self._write(answer.encode())
        if isinstance(ordered, CloseAfter):
            raise HangUp("hung up after the answer, as ordered")

    async def confirm(self, ordered: Action | None) -> None:
        """Lets out what the engine has answered by itself, or says in its place what was ordered."""
        match ordered:
            case Say(answer) | CloseAfter(Reply() as answer):
                self._engine.take_output()
                self._write(answer.encode())
            case Babble(kind) if kind is not Garbage.UNSOLICITED:
                self._engine.take_output()
                await self._babble(kind)
            case Babble():
                self.flush()
                self._write(_NOISE[Garbage.UNSOLICITED])
            case _:
                self.flush()
        if isinstance(ordered, CloseAfter):
            raise HangUp("hung up after the answer, as ordered")

    def tell(self, answer: Reply) -> Reply:
        """Answers; a code that makes no sense is said all the same, and counts as a refusal."""
        self.flush()
        try:
            self._answer(answer)
        except LocalProtocolError:
            self._answer(_STAND_IN)
            self._engine.take_output()
            self._write(answer.encode())
            return _STAND_IN
        self.flush()
        return answer

    def _answer(self, answer: Reply) -> None:
        engine = self._engine
        if engine.is_concluding:
            engine.conclude((answer,))
        else:
            engine.answer(answer)

    def interject(self, answer: Reply) -> None:
        """Says something that the engine knows nothing of."""
        self._write(answer.encode())

    def flush(self) -> None:
        """Sends what the engine has to say."""
        self._write(self._engine.take_output())

    def _write(self, data: bytes) -> None:
        if data:
            for line in data.split(b"\r\n")[:-1]:
                self._house.watcher.said(self._number, "sink", line)
            self._stream.write(data)

    async def _hang(self, phase: Phase) -> None:
        """Answers nothing until the client goes. In mid-content nothing more is read either."""
        if phase is Phase.CONTENT:
            await asyncio.sleep(_HANG_LIMIT)
        while await self._stream.read(_HANG_LIMIT):
            pass
        raise HangUp(f"the client gave up at {phase}, where nothing was answered, as ordered")

    async def _babble(self, kind: Garbage) -> None:
        if kind is not Garbage.ENDLESS:
            self._write(_NOISE[kind])
            return
        self._house.watcher.said(self._number, "sink", b"(a line without an end)")
        while not self._stream.lost:
            self._stream.write(_ENDLESS_PIECE)
            await self._stream.drain(self._house.timeout)
            await asyncio.sleep(0)
        raise HangUp("the client had enough of an endless line, as ordered")


def verdict(ordered: Action | None, proper: Reply) -> Reply:
    """The reply that counts for one recipient, after the content."""
    match ordered:
        case Say(said) | CloseAfter(Reply() as said):
            return said
        case Babble(kind) if kind is not Garbage.UNSOLICITED:
            return _STAND_IN
    return proper


def is_positive(ordered: Action | None) -> bool:
    """Whether what is answered says yes, so that the command is carried out."""
    match ordered:
        case Say(answer) | CloseAfter(Reply() as answer):
            return answer.is_positive
        case Babble(kind):
            return kind is Garbage.UNSOLICITED
    return True
