r"""Dialogues: sessions written down line by line, one behaviour each, in `tests/dialogues/*.txt`.

    # Why this is so. The first line is the dialogue's name in the report.
    options: submission accounts starttls size=1000
    C: EHLO client.example       what the client says, with CRLF behind it
    C+ MAIL FROM:<a@example.com>\r\nRCPT TO:...     octets as they are
    S: 250-mx.example.org        one line of a reply, compared as a glob (`*`, `?` and `[ ]`)
    S: 250 ...                   a whole reply with that code, whatever its lines are
    S: <closed>                  the server has said all it will, and ends the session
    TLS                          the handshake
    M: a@example.com -> b@example.org c@example.org: Hello\r\n      the next message that was accepted

Escapes are \r \n \t \0 \\ \xHH, and {x*600} repeats an octet. Lines of the client that stand together leave in one
write. Every message that is accepted has to be named, and at the end nothing more may have been said.

The server offers what `options` say: `submission` (AUTH is due; otherwise a relay), `trusted` (it is not due after
all), `accounts`, `plaintext-auth`, `starttls`, `size=`, `line=`, `recipients=`, `errors=`. Ann's password is `secret`.
`lmtp` is LMTP in place of SMTP.
It refuses by name: senders `refused@` and `later@`, recipients `unknown@` and `later@`, content that begins with
`Subject: spam` or `Subject: later`. Who hears of each recipient is told that `full@` and `closed@` take nothing.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from ipaddress import ip_network
from pathlib import Path
from typing import Protocol

from smtp.serving import Arrived, Question, accept
from waypost.net.settings import Limits, ListenerSettings, ServerTls
from waypost.smtp import commands as c
from waypost.smtp import events as e
from waypost.smtp.address import NULL, Address, parse_mailbox
from waypost.smtp.order import ServerOptions
from waypost.smtp.reply import Reply, reply
from waypost.smtp.sasl import Credentials, Secret

FOLDER = Path(__file__).parent.parent / "dialogues"
HOSTNAME = "mx.example.org"
ANN = Credentials("ann", Secret("secret"))

_ESCAPE = re.compile(rb"\\(?:x([0-9A-Fa-f]{2})|(.))|\{(.)\*([0-9]+)\}")
_PLAIN = {b"r": b"\r", b"n": b"\n", b"t": b"\t", b"0": b"\0", b"\\": b"\\"}
_WORDS = {
    "submission",
    "trusted",
    "accounts",
    "plaintext-auth",
    "starttls",
    "size",
    "line",
    "recipients",
    "errors",
    "lmtp",
}


@dataclass(frozen=True, slots=True)
class Say:
    """Octets of the client, in one write."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class Expect:
    """One reply: its lines as globs, or only its code."""

    lines: tuple[str, ...]

    def fits(self, said: list[str]) -> bool:
        if self.lines[0].endswith(" ..."):
            return said[-1][:3] == self.lines[0][:3]
        pairs = zip(said, self.lines, strict=False)
        return len(said) == len(self.lines) and all(fnmatchcase(line, glob) for line, glob in pairs)


@dataclass(frozen=True, slots=True)
class Ended:
    """The session is over."""


@dataclass(frozen=True, slots=True)
class Handshake:
    """TLS begins."""


Step = Say | Expect | Ended | Handshake | Arrived


@dataclass(frozen=True, slots=True)
class Dialogue:
    """One file."""

    name: str
    why: str
    options: dict[str, str]
    early: bytes  # what the client says before it was greeted
    steps: tuple[Step, ...]


class Peer(Protocol):
    """The server at the other end, however it is reached."""

    def send(self, octets: bytes) -> None: ...
    def answer(self) -> list[str]: ...
    def expect_end(self) -> None: ...
    def handshake(self) -> None: ...
    def messages(self) -> list[Arrived]: ...


def octets(text: str) -> bytes:
    """The octets that a text with escapes stands for."""

    def plain(found: re.Match[bytes]) -> bytes:
        code, letter, repeated, times = found.groups()
        if repeated:
            return repeated * int(times)
        return bytes([int(code, 16)]) if code else _PLAIN[letter]

    return _ESCAPE.sub(plain, text.encode())


def read(path: Path) -> Dialogue:
    """Parses a file. Raises `ValueError` for a line that is none of those above."""
    why: list[str] = []
    options: dict[str, str] = {}
    steps: list[Step] = []
    for number, line in enumerate(path.read_text("utf-8").removesuffix("\n").split("\n"), 1):
        mark, _, rest = line.partition(" ")
        if mark == "#":
            why.append(rest)
        elif mark == "options:":
            options = dict(word.partition("=")[::2] for word in rest.split())
            if not options.keys() <= _WORDS:
                raise ValueError(f"{path.name}:{number}: unknown option in {rest!r}")
        elif line:
            step = _step(mark, rest)
            if step is None:
                raise ValueError(f"{path.name}:{number}: {line!r} is no line of a dialogue")
            _add(steps, step)
    early = steps.pop(0).octets if steps and isinstance(steps[0], Say) else b""
    return Dialogue(path.stem, " ".join(why), options, early, tuple(steps))


def _step(mark: str, rest: str) -> Step | None:
    match mark:
        case "C:":
            return Say(octets(rest) + b"\r\n")
        case "C+":
            return Say(octets(rest))
        case "S:":
            return Ended() if rest == "<closed>" else Expect((rest,))
        case "TLS":
            return Handshake()
        case "M:":
            envelope, _, content = f"{rest} ".partition(": ")
            sender, _, recipients = envelope.partition(" -> ")
            return Arrived(
                _address(sender),
                tuple(_address(word) for word in recipients.split()),
                octets(content.removesuffix(" ")),
            )
        case _:
            return None


def _address(text: str) -> Address:
    text = octets(text).decode()
    return NULL if text == "<>" else Address(text, "") if "@" not in text else parse_mailbox(text)


def _add(steps: list[Step], step: Step) -> None:
    last = steps[-1] if steps else None
    if isinstance(step, Say) and isinstance(last, Say):
        steps[-1] = Say(last.octets + step.octets)
    elif isinstance(step, Expect) and isinstance(last, Expect) and last.lines[-1][3:4] == "-":
        steps[-1] = Expect((*last.lines, *step.lines))
    else:
        steps.append(step)


def hold(dialogue: Dialogue, peer: Peer) -> None:
    """Says what the client says and checks what the server answers."""
    arrived = 0
    for step in dialogue.steps:
        match step:
            case Say(data):
                peer.send(data)
            case Expect(wanted):
                said = peer.answer()
                assert step.fits(said), f"wanted {' / '.join(wanted)}, heard {' / '.join(said)}"
            case Ended():
                peer.expect_end()
            case Handshake():
                peer.handshake()
            case Arrived():
                assert len(peer.messages()) > arrived, f"{step} did not arrive"
                assert peer.messages()[arrived] == step
                arrived += 1
    assert peer.messages()[arrived:] == [], "a message that the dialogue does not name"


def decide(question: Question, content: bytes = b"") -> Reply:
    """The verdicts of the server's owner, by name. `content` is that of the transaction."""
    match question:
        case c.Mail(Address("refused")):
            return reply(550, "5.7.1", "Not from you")
        case c.Mail(Address("later")) | c.Rcpt(Address("later")):
            return reply(451, "4.3.0", "Come back later")
        case c.Rcpt(Address("unknown")):
            return reply(550, "5.1.1", "No such mailbox")
        case c.EndOfContent() if content.startswith(b"Subject: spam"):
            return reply(554, "5.7.1", "No, thank you")
        case c.EndOfContent() if content.startswith(b"Subject: later"):
            return reply(451, "4.3.0", "Not now")
        case e.Authenticate(_, claim) if claim != ANN:
            return reply(535, "5.7.8", "User name or password is wrong")
        case _:
            return accept(question)


def verdict(recipient: Address) -> Reply | None:
    """What becomes of content for one recipient, by name, when it is not what becomes of it for all."""
    match recipient:
        case Address("full"):
            return reply(452, "4.2.2", "The mailbox is full")
        case Address("closed"):
            return reply(550, "5.2.1", "The mailbox is closed")
        case _:
            return None


def limits(dialogue: Dialogue) -> Limits:
    """The limits that the options ask for."""
    names = {"size": "message_size", "line": "line_length", "recipients": "recipients", "errors": "errors"}
    asked = {names[word]: int(value) for word, value in dialogue.options.items() if word in names}
    return replace(Limits(), **asked)  # type: ignore[arg-type]


def listener_settings(dialogue: Dialogue, port: int, tls: ServerTls) -> ListenerSettings:
    """A listener as the options want it."""
    options, submission = dialogue.options, "submission" in dialogue.options
    trusted = not submission or "trusted" in options
    return ListenerSettings(
        f"127.0.0.1:{port}",
        "127.0.0.1",
        port,
        "submission" if submission else "relay",
        tls=tls if "starttls" in options else None,
        trusted_networks=(ip_network("127.0.0.0/8"),) if trusted else (),
        allow_plaintext_auth="plaintext-auth" in options,
        limits=limits(dialogue),
        lmtp="lmtp" in options,
    )


def server_options(dialogue: Dialogue) -> ServerOptions:
    """What that listener makes of it, for an engine without one."""
    options, bounds, submission = dialogue.options, limits(dialogue), "submission" in dialogue.options
    return ServerOptions(
        HOSTNAME,
        max_size=bounds.message_size,
        max_line=bounds.line_length,
        max_recipients=bounds.recipients,
        max_errors=bounds.errors,
        starttls="starttls" in options,
        auth=submission and "accounts" in options,
        auth_required=submission and "trusted" not in options,
        allow_plaintext_auth="plaintext-auth" in options,
        repair_line_ends=submission,
        lmtp="lmtp" in options,
    )


def dialogues() -> Iterator[Dialogue]:
    """All of them, by name."""
    return (read(path) for path in sorted(FOLDER.glob("*.txt")))
