"""The third part of a notification: the message that it is about, or its header (RFC 3461 section 4.3, RFC 6522).

A part that is a whole message may not be encoded (RFC 2046 section 5.2.1), so what cannot travel as it is comes back
as header alone, where quoted-printable makes every octet harmless.
"""

from dataclasses import dataclass

from waypost.mail.content import Content
from waypost.mail.dsn_status import MAX_LINE
from waypost.mail.header import Header
from waypost.mail.notification import Action, Notification
from waypost.mail.outcome import Cause, Failure
from waypost.mail.quoted_printable import quoted_printable
from waypost.smtp.content import unstuffed

MAX_WHOLE = 256 * 1024
"""Octets of content that are returned whole."""

MAX_HEADER = 64 * 1024
"""Octets of a header section that are returned."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part: its Content-Type, how it is encoded, and its octets, not dot-stuffed."""

    content_type: str
    encoding: str  # 7bit, 8bit or quoted-printable
    body: bytes


@dataclass(frozen=True, slots=True)
class Returned:
    """What is returned of the original, and a sentence about it for people."""

    part: Part | None
    sentence: str


def original_header(content: Content) -> bytes:
    """The header section of `content`, not dot-stuffed: its whole fields within the first `MAX_HEADER` octets."""
    header = Header(content.head(MAX_HEADER), whole=content.size <= MAX_HEADER)
    end = 0
    for found in header.fields():
        end = found.end
    octets = b"".join(unstuffed([header.head[:end]]))
    return octets if octets.endswith(b"\r\n") or not octets else octets + b"\r\n"


def returned(notification: Notification, header: bytes) -> Returned:
    """What goes back: the whole message only when it has failed and RET=FULL asked for it, else `header`."""
    message, utf8 = notification.message, notification.is_international
    why = ""
    if notification.action is Action.FAILED and message.envelope.parameters.ret == "FULL":
        part, why = _whole(notification, header, utf8)
        if part is not None:
            return Returned(part, "Your message is attached.")
    if not header:
        return Returned(None, f"Nothing of your message is attached: {why}" if why else "")
    only = f"Only the header of your message is attached: {why}"
    return Returned(_header_part(header, utf8), only if why else "The header of your message is attached.")


def _whole(notification: Notification, header: bytes, utf8: bool) -> tuple[Part | None, str]:
    """The message as a part, or why it cannot be one."""
    content = notification.message.content
    if content.size > MAX_WHOLE:
        return None, f"the whole is larger than {MAX_WHOLE // 1024} KiB."
    data = b"".join(unstuffed(content.chunks()))
    if not _is_sendable(data):
        return None, "the whole has lines that cannot be sent."
    if data.isascii():
        return Part("message/rfc822", "7bit", data), ""
    if not utf8 and not header.isascii():
        return None, "the whole has characters in its header that your mail system may not take."
    if any(isinstance(o.answer, Failure) and o.answer.cause is Cause.CAPABILITY for o in notification.outcomes):
        # The notification goes the same way, and would fail for the same reason.
        return None, "the whole could not be sent on for the same reason."
    international = not header.isascii() and _is_utf8(header)
    return Part("message/global" if international else "message/rfc822", "8bit", data), ""


def _header_part(header: bytes, utf8: bool) -> Part:
    sendable = _is_sendable(header)
    if sendable and header.isascii():
        return Part("text/rfc822-headers", "7bit", header)
    if sendable and utf8 and _is_utf8(header):
        return Part("message/global-headers", "8bit", header)
    return Part("text/rfc822-headers", "quoted-printable", quoted_printable(header))


def _is_sendable(octets: bytes) -> bool:
    """Whether it needs no encoding but perhaps 8bit: lines end with CRLF and are not too long, and there is no NUL."""
    ends = octets.count(b"\r\n")
    if not octets.count(b"\r") == octets.count(b"\n") == ends or b"\0" in octets:
        return False
    return max(map(len, octets.split(b"\r\n"))) <= MAX_LINE


def _is_utf8(octets: bytes) -> bool:
    try:
        octets.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
