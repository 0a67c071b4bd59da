"""What a hop leaves in a message, and what it finds there: `Received`, `Date`, `Message-ID`, loops.

RFC 5321 sections 4.4 and 6.3, RFC 3848 and RFC 6531 for the protocol words, RFC 6409 section 8 for the fields
that a submission server may add.
"""

import re
from datetime import UTC, datetime
from functools import lru_cache

from waypost.mail.header import Header
from waypost.mail.message import Client
from waypost.smtp.address import Address
from waypost.smtp.reply import Reply, reply

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._\-]{0,253}[A-Za-z0-9.])?|\[[A-Za-z0-9.:\-]{1,80}\]", re.ASCII)
_UTF8_NAME = re.compile(r"[A-Za-z0-9\u00a1-\U0010ffff](?:[A-Za-z0-9._\-\u00a1-\U0010ffff]{0,253})")
_CLIENT_ADDRESS = re.compile(r"[0-9A-Fa-f.:]{2,45}", re.ASCII)
_NOT_SHOWN = re.compile(r"[^A-Za-z0-9.:_\-]+", re.ASCII)
_MAX_SHOWN = 64  # of a name that is none
_MAX_FOR = 600  # octets of a recipient: with the date behind it a line stays far under 998


def received_field(
    message_id: str,
    client: Client,
    hostname: str,
    received_at: float,
    recipient: Address | None = None,
    instance: str = "",
) -> bytes:
    """The `Received` field for one message, folded, ending with CRLF.

    `recipient` is given only when there is one: several would tell each about the others (RFC 5321 section 7.2).
    `instance` is the token by which `loops` knows our own fields. The field is ASCII unless the client's protocol
    word is one of UTF8SMTP's, whatever the client called itself.
    """
    utf8 = client.protocol.startswith("UTF8")
    tls = f"\r\n (using {client.tls})" if client.tls else ""
    return (
        f"Received: from {_from_clause(client.name, client.address, utf8)}\r\n"
        f" by {hostname} ({token(instance)}) with {client.protocol} id {message_id}{tls}"
        f"{_for_clause(recipient, utf8)};\r\n {date_time(int(received_at))}\r\n"
    ).encode()


def token(instance: str) -> str:
    """The words by which a `Received` field of this instance is recognised."""
    return f"Waypost {instance}" if instance else "Waypost"


def missing_fields(header: Header, message_id_domain: str, message_id: str, received_at: float) -> bytes:
    """The `Date` and `Message-ID` fields that `header` lacks, empty when it lacks none."""
    date = b"" if header.has(b"date") else f"Date: {date_time(int(received_at))}\r\n".encode("ascii")
    if header.has(b"message-id"):
        return date
    return date + f"Message-ID: <{message_id}@{message_id_domain}>\r\n".encode()


def loops(head: bytes, instance: str, max_received: int) -> Reply | None:
    """The refusal for a message that goes round in circles, or None.

    `head` is the start of the content. A loop is more than `max_received` hops, or two earlier visits to this
    instance: one is a legitimate way through a filter that hands the message back.
    """
    header = Header(head)
    hops = header.count(b"received")
    if hops > max_received:
        return reply(554, "5.4.6", f"Routing loop: {hops} Received fields, at most {max_received} are allowed")
    ours = _own_token(instance)
    if len(ours.findall(head, 0, header.end)) < 2:
        return None
    visits = sum(ours.search(head, f.value, f.end) is not None for f in header.named(b"received"))
    return reply(554, "5.4.6", "Routing loop: this message was here twice before") if visits > 1 else None


@lru_cache(maxsize=8)
def _own_token(instance: str) -> re.Pattern[bytes]:
    return re.compile(re.escape(f"({token(instance)})".encode()))


@lru_cache(maxsize=8)
def date_time(second: int) -> str:
    """A second since the epoch as RFC 5322 writes it, in UTC and in English whatever the locale."""
    at = datetime.fromtimestamp(second, UTC)
    return (
        f"{_DAYS[at.weekday()]}, {at.day:02d} {_MONTHS[at.month - 1]} {at.year:04d} "
        f"{at.hour:02d}:{at.minute:02d}:{at.second:02d} +0000"
    )


@lru_cache(maxsize=1024)
def _from_clause(name: str, address: str, utf8: bool) -> str:
    """`name ([address])`. A name that is no domain is shown, cleaned, in a comment behind the address."""
    literal = _literal(address)
    fits = (_UTF8_NAME if utf8 else _NAME).fullmatch(name) or _NAME.fullmatch(name)
    if fits is not None and (name.isascii() or name.isprintable()):
        return f"{name} ({literal})" if literal else name
    shown = _NOT_SHOWN.sub("?", name)[:_MAX_SHOWN]
    return f"{literal or 'unknown'} (called itself {shown})" if shown else f"{literal or 'unknown'}"


def _literal(address: str) -> str:
    address = address.partition("%")[0]  # the zone of a link-local address means nothing to others
    if address[:7].lower() == "::ffff:" and "." in address:
        address = address[7:]
    if not _CLIENT_ADDRESS.fullmatch(address):
        return ""
    return f"[IPv6:{address}]" if ":" in address else f"[{address}]"


def _for_clause(recipient: Address | None, utf8: bool) -> str:
    if recipient is None:
        return ""
    written = str(recipient)
    ascii_only = written.isascii()
    shown = written.isprintable() and (ascii_only or utf8) and len(written.encode()) <= _MAX_FOR
    return f"\r\n for <{written}>" if shown else ""
