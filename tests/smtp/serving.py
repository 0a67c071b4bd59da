"""A server engine with somebody behind it who answers: the whole of a server, without a socket."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from waypost.smtp import commands as c
from waypost.smtp import events as e
from waypost.smtp.address import Address
from waypost.smtp.content import unstuffed
from waypost.smtp.order import ServerOptions
from waypost.smtp.reply import Reply, reply
from waypost.smtp.scram_server import Verifier
from waypost.smtp.server import ServerEngine
from waypost.smtp.state import State

OPTIONS = ServerOptions("mx.example.org")
GREETING = reply(220, None, "mx.example.org ESMTP Waypost")

Question = c.Mail | c.Rcpt | c.Data | c.EndOfContent | e.Refused | e.Authenticate | c.StartTls
Decide = Callable[[Question], Reply]
Each = Callable[[Address], Reply | None]

VERIFIER = Verifier.derive("secret", b"salt", 4096)
"""What is stored of everybody's password."""

NONCE = "3rfcNHYJY1ZVvWVs7j"

_ACCEPTANCE: dict[type, Reply] = {
    c.Mail: reply(250, "2.1.0", "Sender OK"),
    c.Rcpt: reply(250, "2.1.5", "Recipient OK"),
    c.Data: reply(354, None, "Go on"),
    c.EndOfContent: reply(250, "2.0.0", "Accepted"),
    e.Authenticate: reply(235, "2.7.0", "Welcome"),
    c.StartTls: reply(220, "2.0.0", "Start TLS"),
}


def accept(question: Question) -> Reply:
    """Everything is welcome, apart from content that the engine itself found fault with."""
    return question.reply if isinstance(question, e.Refused) else _ACCEPTANCE[type(question)]


@dataclass(frozen=True, slots=True)
class Arrived:
    """A message that was accepted, its content as the author wrote it: without stuffed dots."""

    reverse_path: Address
    recipients: tuple[Address, ...]
    content: bytes


class Serving:
    """Feeds octets to an engine, answers its events by `decide`, and keeps what happened.

    `trace` is what was asked and told, independent of how the octets were cut: recipients one by one, content
    in one piece. `messages` are those accepted, `output` what was said.
    """

    def __init__(
        self,
        options: ServerOptions = OPTIONS,
        decide: Decide = accept,
        *,
        tls: bool = False,
        greeting: Reply | None = GREETING,
        each: Each = lambda recipient: None,
    ) -> None:
        self._each = each
        self.engine = ServerEngine(options, tls=tls)
        self.trace: list[object] = []
        self.messages: list[Arrived] = []
        self.output = b""
        self._decide = decide
        self._mail: c.Mail | None = None
        self._recipients: list[Address] = []
        self._pieces: list[bytes] = []
        if greeting is not None:
            self.greet(greeting)

    def greet(self, greeting: Reply = GREETING) -> bytes:
        """The server's first words."""
        self.engine.greet(greeting)
        return self._pump()

    def feed(self, *pieces: bytes) -> bytes:
        """Takes octets as they come off a socket, piece by piece; what is said to them."""
        said = b""
        for piece in pieces:
            if self.engine.state is State.TLS:
                break  # a handshake, and none of the engine's business
            self.engine.receive(piece)
            said += self._pump()
        return said

    @property
    def wire(self) -> bytes:
        """The content so far, as it came out."""
        return b"".join(self._pieces)

    @property
    def is_closed(self) -> bool:
        """Whether the server has ended the session."""
        return self.engine.state is State.CLOSED

    def _pump(self) -> bytes:
        while (event := self.engine.next_event()) is not None:
            self._handle(event)
        said = self.engine.take_output()
        self.output += said
        return said

    def _handle(self, event: e.Event) -> None:
        match event:
            case e.Content(data):
                self._pieces.append(data)
            case e.Recipients(commands):
                self.trace += commands
                answers = [self._decide(each) for each in commands]
                pairs = zip(commands, answers, strict=True)
                self._recipients += [command.forward_path for command, answer in pairs if answer.is_positive]
                self.engine.answer(*answers)
            case e.VerifierWanted():
                self.trace.append(event)
                self.engine.supply(VERIFIER, NONCE)
            case e.Abandoned() | e.Closed():
                self.trace.append(event)
                self._pieces.clear()
            case _:
                self._answer(event)

    def _answer(self, event: Question) -> None:
        answer = self._decide(event)
        match event:
            case c.Mail():
                self._mail, self._recipients = event, []
                self._pieces.clear()
                self.trace.append(event)
            case c.EndOfContent():
                wire = self.wire
                self.trace += [wire, event]
                answers = answer_each(answer, self._recipients, self.engine, self._each)
                took = took_it(answers, self._recipients)
                if took:
                    assert self._mail is not None
                    content = b"".join(unstuffed([wire]))
                    self.messages.append(Arrived(self._mail.reverse_path, took, content))
                self._pieces.clear()
                self.engine.conclude(answers)
                return
            case e.Refused():
                # Which of several faults is named, and how much was let through before it, depends on how
                # the octets were cut.
                self.trace.append(e.Refused)
                self._pieces.clear()
                self.engine.conclude((answer,))
                return
            case _:
                self.trace.append(event)
        self.engine.answer(answer)


def answer_each(answer: Reply, recipients: Sequence[Address], engine: ServerEngine, each: Each) -> Sequence[Reply]:
    """The answer to content for each recipient, where the client hears that."""
    if not answer.is_positive or not (engine.options.lmtp or engine.prdr):
        return (answer,)
    return [each(recipient) or answer for recipient in recipients]


def took_it(answers: Sequence[Reply], recipients: Sequence[Address]) -> tuple[Address, ...]:
    """Those who were told yes."""
    told = answers if len(answers) > 1 else [*answers] * len(recipients)
    return tuple(who for who, answer in zip(recipients, told, strict=True) if answer.is_positive)


def codes(output: bytes) -> list[int]:
    """The code of each reply in `output`; every line has to be well formed."""
    found = []
    for line in output.split(b"\r\n")[:-1]:
        assert line[:3].isdigit(), line
        assert line[3:4] in (b"", b" ", b"-"), line
        assert b"\n" not in line, line
        assert b"\r" not in line, line
        if line[3:4] != b"-":
            found.append(int(line[:3]))
    assert output[-2:] in (b"", b"\r\n"), output
    return found


def lines(*texts: str | bytes) -> bytes:
    """Command lines, each with its CRLF."""
    return b"".join((text.encode() if isinstance(text, str) else text) + b"\r\n" for text in texts)


HELLO = lines("EHLO client.example")
ENVELOPE = lines("MAIL FROM:<a@example.com>", "RCPT TO:<b@example.org>")
TRANSACTION = ENVELOPE + lines("DATA")


def served(*pieces: bytes, options: ServerOptions = OPTIONS, decide: Decide = accept) -> Serving:
    """A session in which the client says `pieces` behind EHLO; the output begins behind the answer to that."""
    serving = Serving(options, decide)
    serving.feed(HELLO)
    serving.output = b""
    serving.feed(*pieces)
    return serving


def cut(data: bytes, at: Iterable[int]) -> list[bytes]:
    """`data` in pieces, cut at these places."""
    places = [0, *sorted({place for place in at if 0 < place < len(data)}), len(data)]
    return [data[start:end] for start, end in pairwise(places)]
