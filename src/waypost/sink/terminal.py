"""What a sink shows on a terminal: one line for each message, or the whole dialogue."""

import time
from collections.abc import Callable
from typing import Literal

from waypost.sink.answers import Watcher
from waypost.sink.stored import StoredMessage
from waypost.smtp.reply import printable

_BOLD, _DIM, _RESET = "\x1b[1m", "\x1b[2m", "\x1b[0m"
_MAX_LINE = 500
_MAX_SUBJECT = 60


class Terminal(Watcher):
    """Shows messages; with `content`, all of each; with `verbose`, every line that is said."""

    def __init__(
        self, write: Callable[[str], None], *, verbose: bool = False, content: bool = False, colours: bool = False
    ) -> None:
        self._write = write
        self._verbose = verbose
        self._content = content
        self._bold, self._dim, self._reset = (_BOLD, _DIM, _RESET) if colours else ("", "", "")

    def connected(self, session: int, client: str) -> None:
        if self._verbose:
            self._line(session, f"{self._dim}=== connected: {client}{self._reset}")

    def said(self, session: int, who: Literal["client", "sink"], line: bytes) -> None:
        if self._verbose:
            text = escaped(line[:_MAX_LINE])
            self._line(session, f"--> {text}" if who == "client" else f"<-- {text}")

    def ended(self, session: int, why: str) -> None:
        if self._verbose:
            self._line(session, f"{self._dim}=== ended: {printable(why)}{self._reset}")

    def kept(self, message: StoredMessage) -> None:
        self._write(f"{self._dim}{_now()}{self._reset} {self._bold}#{message.id}{self._reset} {summary(message)}\n")
        if self._content:
            lines = message.content.removesuffix(b"\r\n").split(b"\r\n")
            self._write("".join(f"    {escaped(line)}".rstrip() + "\n" for line in lines))

    def _line(self, session: int, text: str) -> None:
        self._write(f"{self._dim}{_now()} [{session}]{self._reset} {text}\n")


def summary(message: StoredMessage) -> str:
    """Who wrote to whom, how much, and about what, in one line without control characters."""
    first, *others = message.recipients
    more = f" and {len(others)} more" if others else ""
    facts = [size(len(message.content))]
    if message.tls is not None:
        facts.append(message.tls.split(" ")[0])
    if message.username is not None:
        facts.append(f"as {message.username}")
    subject = message.header(b"subject")
    subject = subject if len(subject) <= _MAX_SUBJECT else f"{subject[: _MAX_SUBJECT - 1]}…"
    about = f"  {subject}" if subject else ""
    return printable(f"<{message.reverse_path}> to <{first}>{more} ({', '.join(facts)}){about}")


def escaped(line: bytes) -> str:
    """A line as it is; what a terminal would obey instead of show is written as escapes."""
    text = line.decode("utf-8", "backslashreplace")
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in text)


def size(octets: int) -> str:
    """Octets as people say them: 812 B, 1.2 KB, 3.0 MB."""
    if octets < 1000:
        return f"{octets} B"
    return f"{octets / 1000:.1f} KB" if octets < 1_000_000 else f"{octets / 1_000_000:.1f} MB"


def _now() -> str:
    now = time.time()
    return f"{time.strftime('%H:%M:%S', time.localtime(now))}.{int(now * 1000) % 1000:03d}"
