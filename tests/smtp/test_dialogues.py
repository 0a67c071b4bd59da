"""Every dialogue in `tests/dialogues`, against the engine and again over a socket through the listener."""

import asyncio
from collections.abc import Awaitable, Sequence
from pathlib import Path

import pytest

from rig.certificates import Certificates
from rig.client import RawClient
from rig.ports import free_port
from smtp.dialogue import (
    ANN,
    FOLDER,
    HOSTNAME,
    Dialogue,
    Say,
    decide,
    dialogues,
    hold,
    listener_settings,
    read,
    server_options,
    verdict,
)
from smtp.dialogue import octets as octets_of
from smtp.serving import GREETING, Arrived, Question, Serving, took_it
from waypost.mail.message import Client
from waypost.net.authentication import Limited
from waypost.net.client_certificates import ShownCertificate
from waypost.net.listener import Listener
from waypost.net.session import SessionEvent
from waypost.net.settings import ServerTls
from waypost.routing.route import Account
from waypost.smtp import commands as c
from waypost.smtp.address import Address
from waypost.smtp.content import unstuffed
from waypost.smtp.reply import Reply
from waypost.smtp.sasl_server import WITH_PASSWORD, Claim
from waypost.smtp.scram_server import Verifier

ALL = list(dialogues())
each_dialogue = pytest.mark.parametrize("dialogue", ALL, ids=[dialogue.name for dialogue in ALL])


class Engine:
    """The engine alone: what the client sends is answered at once."""

    def __init__(self, dialogue: Dialogue, cut: int | None) -> None:
        self._serving = Serving(server_options(dialogue), self._decide, greeting=None, each=verdict)
        self._cut = cut
        self._serving.engine.receive(dialogue.early)
        self._said = self._serving.greet(GREETING)

    def _decide(self, question: Question) -> Reply:
        return decide(question, self._serving.wire if isinstance(question, c.EndOfContent) else b"")

    def send(self, octets: bytes) -> None:
        step = self._cut or len(octets)
        self._said += self._serving.feed(*(octets[at : at + step] for at in range(0, len(octets), step)))

    def answer(self) -> list[str]:
        lines: list[str] = []
        while not lines or lines[-1][3:4] == "-":
            line, end, self._said = self._said.partition(b"\r\n")
            assert end, f"no answer: {line!r}"
            lines.append(line.decode())
        return lines

    def expect_end(self) -> None:
        assert self._serving.is_closed
        self.expect_silence()

    def expect_silence(self) -> None:
        assert self._said == b""

    def handshake(self) -> None:
        self.expect_silence()
        self._serving.engine.tls_started()

    def messages(self) -> list[Arrived]:
        return self._serving.messages


class Handler:
    """The port behind a session, answered by the dialogues' rules."""

    def __init__(self) -> None:
        self.arrived: list[Arrived] = []
        self.open = 0

    def begin(self, client: Client, mail: c.Mail) -> "Transaction | Reply":
        answer = decide(mail)
        if not answer.is_positive:
            return answer
        self.open += 1
        return Transaction(self, client, mail)


class Transaction:
    """One transaction: keeps what comes and answers by the rules."""

    def __init__(self, handler: Handler, client: Client, mail: c.Mail) -> None:
        self._handler = handler
        self._hears_each = client.hears_each or mail.parameters.prdr
        self._mail = mail
        self._recipients: list[Address] = []
        self._pieces: list[bytes] = []

    async def recipients(self, commands: Sequence[c.Rcpt]) -> Sequence[Reply]:
        answers = [decide(command) for command in commands]
        pairs = zip(commands, answers, strict=True)
        self._recipients += [command.forward_path for command, answer in pairs if answer.is_positive]
        return answers

    def write(self, data: bytes) -> Awaitable[None] | None:
        self._pieces.append(data)
        return None

    async def finish(self) -> Sequence[Reply]:
        wire = b"".join(self._pieces)
        answer = decide(c.EndOfContent(), wire)
        answers: Sequence[Reply] = (answer,)
        if answer.is_positive and self._hears_each:
            answers = [verdict(recipient) or answer for recipient in self._recipients]
        took = took_it(answers, self._recipients)
        if took:
            content = b"".join(unstuffed([wire]))
            self._handler.arrived.append(Arrived(self._mail.reverse_path, took, content))
        return answers

    def left(self) -> None:
        pass

    def told(self, answers: Sequence[Reply], *, lost: bool) -> None:
        self._handler.open -= 1

    def refuse(self, answer: Reply) -> None:
        self._handler.open -= 1

    def abandon(self, why: str) -> None:
        self._handler.open -= 1


class Door:
    """Lets Ann in."""

    def mechanisms(self, wanted: Sequence[str]) -> tuple[str, ...]:
        return WITH_PASSWORD

    def certified(self, shown: ShownCertificate) -> Account | None:
        raise AssertionError("nobody is asked for a certificate here")

    async def verifier(self, username: str, address: str) -> Verifier | Limited:
        raise AssertionError("SCRAM is not offered here")

    async def check(self, claim: Claim, address: str, certified: Account | None = None) -> Account | Limited | None:
        return Account("ann", "secret") if claim == ANN else None

    def account(self, username: str) -> Account | None:
        return None


class Silence:
    """A log that nobody reads."""

    def session(self, client: Client, event: SessionEvent, **facts: str) -> None:
        pass


class Socket:
    """A listener, reached over a socket."""

    def __init__(self, client: RawClient, handler: Handler, certificates: Certificates) -> None:
        self._client = client
        self._handler = handler
        self._certificates = certificates

    def send(self, octets: bytes) -> None:
        self._client.send(octets)

    def answer(self) -> list[str]:
        answer = self._client.answer()
        *first, last = answer.lines
        return [*(f"{answer.code}-{line}" for line in first), f"{answer.code} {last}"]

    def expect_end(self) -> None:
        self._client.expect_end()

    def handshake(self) -> None:
        self._client.start_tls(self._certificates.client_context())

    def messages(self) -> list[Arrived]:
        return self._handler.arrived


def _injects(dialogue: Dialogue) -> bool:
    """Whether it says something behind STARTTLS, which counts only when it is in the same packet."""
    return any(isinstance(step, Say) and b"STARTTLS\r\n" in step.octets[:-1] for step in dialogue.steps)


@pytest.mark.parametrize(
    ("dialogue", "cut"),
    [
        pytest.param(dialogue, cut, id=f"{dialogue.name}-{name}")
        for dialogue in ALL
        for cut, name in ((None, "whole"), (1, "octets"), (7, "sevens"))
        if cut is None or not _injects(dialogue)
    ],
)
def test_with_the_engine(dialogue: Dialogue, cut: int | None) -> None:
    engine = Engine(dialogue, cut)
    hold(dialogue, engine)
    engine.expect_silence()


@each_dialogue
async def test_over_a_socket(dialogue: Dialogue, certificates: Certificates) -> None:
    faults: list[BaseException] = []
    handler, port = Handler(), free_port()
    tls = ServerTls(str(certificates.certificate), str(certificates.key))
    settings = listener_settings(dialogue, port, tls)
    accounts = "accounts" in dialogue.options
    listener = Listener(settings, HOSTNAME, handler, Door(), Silence(), has_accounts=accounts, fault=faults.append)
    await listener.bind()
    try:
        # Connected, and spoken to by a hasty client, before the listener has its turn: so it is early for certain.
        with RawClient(port) as client:
            peer = Socket(client, handler, certificates)
            client.send(dialogue.early)
            await asyncio.to_thread(hold, dialogue, peer)
    finally:
        await listener.stop(5)
    assert faults == []
    assert handler.open == 0
    assert listener.sessions == 0


def test_there_are_enough_of_them_and_each_says_why() -> None:
    assert len(ALL) >= 40
    assert [dialogue.name for dialogue in ALL if not dialogue.why or not dialogue.steps] == []
    assert {path.suffix for path in FOLDER.iterdir() if path.is_file()} == {".txt"}


def test_the_format() -> None:
    assert octets_of(r"a\r\n\t\0\\\x7f{x*3}") == b"a\r\n\t\0\\\x7fxxx"


@pytest.mark.parametrize("line", ["C:NOOP", "X: y", "options: magic", "S 250"])
def test_a_misspelt_line_is_an_error(tmp_path: Path, line: str) -> None:
    path = tmp_path / "wrong.txt"
    path.write_text(f"# why\nS: 220 *\n{line}\n")
    with pytest.raises(ValueError, match=r"wrong\.txt:3|wrong.txt:3"):
        read(path)


@pytest.mark.parametrize(
    "text",
    [
        "S: 221 *",
        "S: 220 nobody",
        "S: 220 ...\nC: NOOP\nS: 250-*",
        "S: 220 ...\nC: NOOP\nS: 250 ...\nS: 250 ...",
        "S: 220 ...\nC: NOOP",
        "S: 220 ...\nS: <closed>",
        "S: 220 ...\nM: a@b.example -> c@d.example: x",
    ],
)
def test_a_dialogue_that_is_not_what_happens_fails(tmp_path: Path, text: str) -> None:
    path = tmp_path / "wrong.txt"
    path.write_text(text)
    dialogue = read(path)
    engine = Engine(dialogue, None)
    with pytest.raises(AssertionError):
        _hold_wholly(dialogue, engine)


def _hold_wholly(dialogue: Dialogue, engine: Engine) -> None:
    hold(dialogue, engine)
    engine.expect_silence()
