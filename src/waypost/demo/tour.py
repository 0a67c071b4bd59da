"""The messages of the tour, and what must become of each."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from waypost.demo.stage import BUSY, NOBODY, RELAY, SPAM, SUBMISSION

_LARGE = 3_000_000  # octets
_APP = "app@example.com"
_FRIEND = "friend@example.net"


@dataclass(frozen=True, slots=True)
class Act:
    """One message, and what must become of it.

    `arrives` are the recipients by server; whoever is not named must get nothing. `down` is the server that is
    down while the message is sent, and comes back afterwards.
    """

    title: str
    listener: str
    reverse_path: str
    recipients: tuple[str, ...]
    content: bytes = field(repr=False)
    code: int  # that the client is told at the end
    arrives: Mapping[str, tuple[str, ...]]
    down: str | None = None


def tour() -> tuple[Act, ...]:
    """The acts in their order."""
    return (
        _to_providers("plain text", "provider-a"),
        _to_providers("8-bit text", "provider-a", content=_content("Grüße", "Schöne Grüße, \u2709 aus Zürich.")),
        _to_providers("large: 3 MB", "provider-a", content=_large()),
        _to_providers("three recipients", "provider-a", "ann@example.net", "ben@example.org", "cem@example.net"),
        _to_providers("provider-a refuses for now", "provider-b", BUSY),
        _to_providers("provider-a is down", "provider-b", down="provider-a"),
        _to_providers("content refused for good", None, SPAM, code=554),
        _migrating("old and new server"),
        _migrating("new server is down", down="new"),
        _migrating("no such recipient", NOBODY, code=550),
    )


def _to_providers(
    title: str, taken_by: str | None, *recipients: str, content: bytes = b"", code: int = 250, down: str | None = None
) -> Act:
    to = recipients or (_FRIEND,)
    arrives = {} if taken_by is None else {taken_by: to}
    return Act(title, SUBMISSION, _APP, to, content or _content(title), code, arrives, down)


def _migrating(title: str, recipient: str = "staff@example.net", code: int = 250, down: str | None = None) -> Act:
    arrives = {"old": (recipient,), "new": (recipient,)} if code == 250 else {}
    return Act(title, RELAY, _FRIEND, (recipient,), _content(title), code, arrives, down)


def _content(subject: str, text: str = "Hello, this is the demonstration.") -> bytes:
    # Lines that begin with dots are what relays have got wrong.
    lines = (
        f"From: {_APP}",
        f"To: {_FRIEND}",
        f"Subject: {subject}",
        "Date: Sun, 22 Nov 2026 12:00:00 +0000",
        f"Message-ID: <{subject.encode().hex()}@example.com>",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Transfer-Encoding: 8bit",
        "",
        text,
        ".",
        "..and a line that begins with dots",
        "",
    )
    return "\r\n".join(lines).encode()


def _large() -> bytes:
    line = b"All work and no play makes Jack a dull boy. " * 20 + b"\r\n"
    return _content("large") + line * (_LARGE // len(line))
