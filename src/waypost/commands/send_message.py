"""The content that `waypost send` sends: made from options, or taken from a file as it is."""

import re
import time
from collections.abc import Sequence
from email.header import Header

from waypost.mail.trace import date_time

_LINE_END = re.compile(rb"\r\n|\r|\n")
_FIELD = re.compile(r"([!-9;-~]+):(.*)", re.DOTALL)

BODY = "This is a test message, sent by `waypost send`.\n"


class FieldError(ValueError):
    """A header field that cannot be one. The message says why."""


def compose(
    sender: str, recipients: Sequence[str], subject: str, body: str, fields: Sequence[str], message_id: str, now: float
) -> bytes:
    """A message with the usual header fields; those in `fields` come in place of the usual, or on top.

    `now` is in seconds since the epoch. Raises `FieldError`.
    """
    given = [_field(field) for field in fields]
    usual = [
        ("Date", date_time(int(now))),
        ("From", sender or "MAILER-DAEMON"),
        ("To", ", ".join(recipients)),
        ("Subject", _encoded(subject)),
        ("Message-ID", f"<{message_id}>"),
        ("MIME-Version", "1.0"),
        ("Content-Type", "text/plain; charset=utf-8"),
        ("Content-Transfer-Encoding", "7bit" if body.isascii() else "8bit"),
    ]
    replaced = {name.lower() for name, _ in given}
    header = [*(each for each in usual if each[0].lower() not in replaced), *given]
    lines = "".join(f"{name}: {value}\n" for name, value in header)
    return f"{lines}\n{body}".encode("utf-8", "surrogateescape")


def wire_form(content: bytes) -> bytes:
    """Content as it goes on the wire: every line ends with CRLF, and dots at line starts are doubled."""
    lines = _LINE_END.sub(b"\r\n", content)
    if lines and not lines.endswith(b"\r\n"):
        lines += b"\r\n"
    stuffed = lines.replace(b"\r\n.", b"\r\n..")
    return b"." + stuffed if stuffed.startswith(b".") else stuffed


def fresh_message_id(domain: str) -> str:
    """A Message-ID that nobody had before, without its angle brackets."""
    import secrets

    return f"{int(time.time())}.{secrets.token_hex(8)}@{domain}"


def _field(text: str) -> tuple[str, str]:
    found = _FIELD.fullmatch(text)
    if found is None:
        raise FieldError(f"{text!r} is no header field; one is written 'Name: value'")
    if "\r" in text or "\n" in text or "\0" in text:
        raise FieldError(f"{text!r} has a line break or NUL in it")
    return found[1], _encoded(found[2].strip())


def _encoded(value: str) -> str:
    """As RFC 2047 has it when it is not ASCII."""
    if "\r" in value or "\n" in value:
        raise FieldError(f"{value!r} has a line break in it")
    return value if value.isascii() else Header(value, "utf-8", maxlinelen=75).encode(linesep="\n")
