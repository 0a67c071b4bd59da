"""Values that the tests of the log share: a message from a client, and a mail log whose lines can be parsed."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from waypost.mail.content import MemoryContent
from waypost.mail.message import Client, Envelope, Message, Recipient
from waypost.mail.outcome import Attempt, Phase
from waypost.observe.maillog import MailLog
from waypost.observe.metrics import Metrics
from waypost.smtp.address import Address
from waypost.smtp.reply import reply

NOW = 1_767_225_600.25  # 2026-01-01T00:00:00.250Z


class Told:
    """A mail log and what it wrote, read back as a user would."""

    def __init__(self, *, debug: bool = False) -> None:
        self.text = ""
        self.metrics = Metrics(process=False)
        self.log = MailLog(self._take, self.metrics, debug=debug, clock=lambda: NOW)

    def _take(self, line: str) -> None:
        self.text += f"{line}\n"

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.split("\n")[:-1]]

    def last(self) -> dict[str, Any]:
        return self.records[-1]

    def metric(self, line: str) -> bool:
        return line in self.metrics.render().decode().split("\n")


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def chatty() -> Told:
    return Told(debug=True)


@pytest.fixture
def client() -> Client:
    return Client("127.0.0.1:2525", "192.0.2.7", 40001, "mail.example.com", "ESMTPSA", "nextcloud", "TLSv1.3 X")


@pytest.fixture
def make_message(client: Client) -> Callable[..., Message]:
    def make(content: bytes = b"Message-ID: <1@example.com>\r\nSubject: hush\r\n\r\ncontent\r\n") -> Message:
        recipients = (Recipient(Address("b", "example.net")), Recipient(Address("c", "example.net")))
        envelope = Envelope(Address("a", "example.com"), recipients)
        return Message("4Zk8s2d", NOW - 2.5, client, envelope, MemoryContent(content))

    return make


@pytest.fixture
def message(make_message: Callable[..., Message]) -> Message:
    return make_message()


@pytest.fixture
def attempt() -> Attempt:
    phases = ((Phase.MAIL, 0.0021), (Phase.DOT, 0.01024))
    said = reply(250, "2.0.0", "OK queued as 4Xyz17")
    return Attempt("old", Phase.DOT, said, "accepted", 0.01234, True, "TLSv1.2 Y", phases)
