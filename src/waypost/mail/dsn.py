"""Delivery status notifications: a message that tells the reverse-path what became of its mail.

RFC 3464 in the multipart/report of RFC 6522; RFC 6533 where the reverse-path is not ASCII; RFC 3834 for what an
automatic message says about itself. Three parts: one for people (`dsn_text`), one for programs (`dsn_status`), and
the original or its header (`dsn_original`). Whom to tell, and when, is decided in `waypost.delivery.notifications`.

Hostile words may come in by the original's header, by addresses and parameters, and from upstreams. None gets into
the header of the notification but the Subject and the Message-ID, and those only in forms that can do no harm.
"""

import re
from dataclasses import dataclass
from itertools import count

from waypost.mail.dsn_original import Part, Returned, original_header, returned
from waypost.mail.dsn_status import MAX_LINE, delivery_status, field
from waypost.mail.dsn_text import text_for_people
from waypost.mail.header import Header
from waypost.mail.notification import Action, Notification
from waypost.mail.quoted_printable import quoted_printable
from waypost.mail.trace import date_time
from waypost.smtp.content import Stuffer
from waypost.smtp.reply import printable

_SUBJECTS = {Action.FAILED: "Undelivered", Action.DELAYED: "Delayed", Action.RELAYED: "Relayed"}
_MAX_SUBJECT = 200  # octets of the original's Subject
_COMFORTABLE = 76
_ENCODED_WORD = re.compile(
    r"=\?[A-Za-z0-9_\-]{1,40}\?(?:[Bb]\?(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}(?:==|[A-Za-z0-9+/]=))?"
    r"|[Qq]\?(?:[!-<>@-~]|=[0-9A-Fa-f]{2})*)\?=",
    re.ASCII,
)
_ATOM = rb"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\-]+"
_MESSAGE_ID = re.compile(rb"<%b(?:\.%b)*@(?:%b(?:\.%b)*|\[[!-Z^-~]*\])>" % (_ATOM, _ATOM, _ATOM, _ATOM))
_MAX_MESSAGE_ID = 250


@dataclass(frozen=True, slots=True)
class Composed:
    """A notification in wire form, and what it takes to carry it."""

    content: bytes
    eightbit: bool
    smtputf8: bool


def compose(notification: Notification) -> Composed:
    """The message. An original that cannot be read back, an `OSError`, is left out of it."""
    try:
        header = original_header(notification.message.content)
        original = returned(notification, header)
    except OSError:
        header = b""
        original = Returned(None, "Your message cannot be read any more, so nothing of it is attached.")
    utf8 = notification.is_international
    parts = [_text_part(text_for_people(notification, original.sentence)), _status_part(notification, utf8)]
    if original.part is not None:
        parts.append(original.part)
    eightbit = any(part.encoding == "8bit" for part in parts)
    boundary = _boundary(notification.id, parts)
    lines = [
        *_header(notification, header, utf8),
        b"MIME-Version: 1.0\r\n",
        b"Content-Type: multipart/report; report-type=delivery-status;\r\n",
        b' boundary="%b"\r\n' % boundary,
        b"Content-Transfer-Encoding: %b\r\n" % (b"8bit" if eightbit else b"7bit"),
    ]
    for part in parts:
        lines.append(
            b"\r\n--%b\r\nContent-Type: %b\r\nContent-Transfer-Encoding: %b\r\n\r\n"
            % (boundary, part.content_type.encode("ascii"), part.encoding.encode("ascii"))
        )
        lines.append(part.body)
    lines.append(b"\r\n--%b--\r\n" % boundary)
    return Composed(Stuffer().stuff(b"".join(lines)), eightbit or utf8, utf8)


def _header(notification: Notification, original: bytes, utf8: bool) -> list[bytes]:
    """The fields that tell from whom the notification is, to whom, and about what."""
    reverse_path = notification.message.envelope.reverse_path
    known = Header(original)
    to = field("To", f"<{reverse_path}>", utf8)
    if len(to) > MAX_LINE:  # it may have been cut
        to = b"To: undisclosed-recipients:;\r\n"
    fields = [
        field("Date", date_time(int(notification.at)), utf8),
        field("From", f"Mail delivery <{notification.sender}>", utf8),
        to,
        _folded(field("Subject", _subject(notification.action, known, utf8), utf8)),
        field("Message-ID", f"<{notification.id}@{notification.hostname}>", utf8),
        field("Auto-Submitted", "auto-replied", utf8),
    ]
    message_id = known.first(b"message-id") or b""
    if len(message_id) <= _MAX_MESSAGE_ID and _MESSAGE_ID.fullmatch(message_id):
        fields += [b"In-Reply-To: %b\r\n" % message_id, b"References: %b\r\n" % message_id]
    return fields


def _subject(action: Action, original: Header, utf8: bool) -> str:
    """What happened, and the original's Subject if that is readable as it stands."""
    alone = f"{_SUBJECTS[action]} mail"
    try:
        text = (original.first(b"subject") or b"").decode("utf-8" if utf8 else "ascii")
    except UnicodeDecodeError:
        return alone
    if not text or text != printable(text):
        return alone
    encoded = "=?" in text
    if encoded and not all(_ENCODED_WORD.fullmatch(word) for word in text.split(" ") if "=?" in word):
        return alone
    if len(text.encode("utf-8")) > _MAX_SUBJECT:
        if encoded:  # half an encoded word is none
            return alone
        text = text.encode("utf-8")[:_MAX_SUBJECT].decode("utf-8", "ignore").rstrip(" ") + " ..."
    return f"{_SUBJECTS[action]}: {text}"


def _folded(line: bytes) -> bytes:
    """A field in lines of comfortable length, broken at its spaces (RFC 5322 section 2.2.3)."""
    words = line.split(b" ")
    folded = [words[0]]
    length = len(words[0])
    for word in words[1:]:
        fold = length + 1 + len(word) > _COMFORTABLE and word.strip()  # a line of spaces would end the header
        folded.append(b"\r\n %b" % word if fold else b" %b" % word)
        length = 1 + len(word) if fold else length + 1 + len(word)
    return b"".join(folded)


def _text_part(text: str) -> Part:
    octets = text.encode("utf-8")
    if octets.isascii() and all(len(line) <= MAX_LINE for line in octets.split(b"\r\n")):
        return Part("text/plain; charset=us-ascii", "7bit", octets)
    return Part("text/plain; charset=utf-8", "quoted-printable", quoted_printable(octets))


def _status_part(notification: Notification, utf8: bool) -> Part:
    body = delivery_status(notification)
    if utf8:
        return Part("message/global-delivery-status", "7bit" if body.isascii() else "8bit", body)
    return Part("message/delivery-status", "7bit", body)


def _boundary(id_: str, parts: list[Part]) -> bytes:
    """A boundary that no part contains."""
    tried = (b"=_%b_%d" % (id_.encode("ascii"), number) for number in count())
    return next(boundary for boundary in tried if not any(boundary in part.body for part in parts))
