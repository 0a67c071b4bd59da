"""The part of a notification that programs read: message/delivery-status (RFC 3464, RFC 3463, RFC 6533).

Everything in it came from others: addresses, the client's ENVID and ORCPT, an upstream's words. So every field is
written by `field`, which cannot emit a line break, nor a line that is too long.
"""

import re

from waypost.mail.notification import Action, Lacking, Notification, lacking
from waypost.mail.outcome import Cause, RecipientOutcome
from waypost.mail.trace import date_time
from waypost.smtp.address import Address
from waypost.smtp.reply import EnhancedCode, Reply, printable

MAX_LINE = 998
"""Octets of a line without its CRLF (RFC 5322 section 2.1.1)."""

_NOT_ASCII = re.compile(r"[^\x00-\x7f]")
_NOT_IN_ADDRESS = re.compile(r"[^!-*,-<>-\[\]-~]")  # RFC 6533 section 3, QCHAR
_CUT_ESCAPE = re.compile(r"\\x(?:\{[0-9A-F]*)?\Z|\\\Z")
_XTEXT = re.compile(r"\+([0-9A-F]{2})", re.ASCII)
_EMBEDDED = re.compile(r"\\x\{([0-9A-F]{1,6})\}|\+([0-9A-F]{2})", re.ASCII)

_CAUSES: dict[Cause, tuple[int, int]] = {
    Cause.UNREACHABLE: (4, 1),
    Cause.TIMEOUT: (4, 2),
    Cause.CLOSED: (4, 2),
    Cause.PROTOCOL: (5, 0),
    Cause.TLS: (7, 5),
    Cause.CERTIFICATE: (7, 5),
    Cause.PLAINTEXT: (7, 5),
    Cause.LOGIN: (3, 5),
    Cause.BUSY: (3, 2),
    Cause.QUOTA: (7, 1),
    Cause.SENDER: (7, 1),
    Cause.PAUSED: (3, 2),
    Cause.SHUTDOWN: (3, 2),
    Cause.LOCAL: (3, 0),
}
_LACKING: dict[Lacking, tuple[int, int]] = {
    Lacking.SMTPUTF8: (6, 7),
    Lacking.SIZE: (3, 4),
    Lacking.EIGHTBIT: (6, 3),
}
_NOT_TRIED = frozenset(
    {Cause.BUSY, Cause.QUOTA, Cause.PAUSED, Cause.SENDER, Cause.SHUTDOWN, Cause.LOCAL, Cause.CAPABILITY}
)


def delivery_status(notification: Notification) -> bytes:
    """The body of the part, without the last CRLF."""
    utf8 = notification.is_international
    message = notification.message
    group = [field("Reporting-MTA", f"dns; {notification.hostname}", utf8)]
    if message.envelope.parameters.envid is not None:
        group.insert(0, field("Original-Envelope-Id", from_xtext(message.envelope.parameters.envid), utf8))
    group.append(field("Arrival-Date", date_time(int(message.received_at)), utf8))
    groups = [b"".join(group)]
    groups += [b"".join(_recipient(notification, outcome, utf8)) for outcome in notification.outcomes]
    return b"\r\n".join(groups).removesuffix(b"\r\n")


def _recipient(notification: Notification, outcome: RecipientOutcome, utf8: bool) -> list[bytes]:
    recipient, answer = outcome.recipient, outcome.answer
    fields = []
    if recipient.parameters.orcpt is not None:
        fields.append(field("Original-Recipient", original_recipient(recipient.parameters.orcpt, utf8), utf8))
    kind, address = typed_address(recipient.address, utf8)
    fields.append(field("Final-Recipient", f"{kind}; {address}", utf8))
    fields.append(field("Action", notification.action, utf8))
    a, b, c = status_code(notification, outcome)
    fields.append(field("Status", f"{a}.{b}.{c}", utf8))
    if isinstance(answer, Reply):
        host = notification.hosts.get(outcome.upstream)
        if host:
            fields.append(field("Remote-MTA", f"dns; {_mta_name(host)}", utf8))
        fields.append(field("Diagnostic-Code", f"smtp; {answer}", utf8))
    if isinstance(answer, Reply) or answer.cause not in _NOT_TRIED:
        fields.append(field("Last-Attempt-Date", date_time(int(notification.at)), utf8))
    if notification.until is not None and notification.action is Action.DELAYED:
        fields.append(field("Will-Retry-Until", date_time(int(notification.until)), utf8))
    return fields


def status_code(notification: Notification, outcome: RecipientOutcome) -> EnhancedCode:
    """The enhanced status code: the answer's own where its class fits what is reported (RFC 3463).

    What has failed because its time was over keeps class 4, as RFC 3464 section 2.3.4 allows for persistent
    transient conditions.
    """
    answer = outcome.answer
    expired = notification.expired(outcome)
    kind = {Action.RELAYED: 2, Action.DELAYED: 4, Action.FAILED: 4 if expired else 5}[notification.action]
    if isinstance(answer, Reply) and answer.enhanced is not None:
        if answer.enhanced[0] == kind:
            return answer.enhanced
        if kind == 5 and answer.enhanced[0] == 4:  # called permanent by a rule of the operator's
            return (5, *answer.enhanced[1:])
    if expired:
        return (4, 4, 7)
    if isinstance(answer, Reply) or kind == 2:
        return (kind, 0, 0)
    return (kind, *(_LACKING[lacking(answer)] if answer.cause is Cause.CAPABILITY else _CAUSES[answer.cause]))


def original_recipient(orcpt: str, utf8: bool) -> str:
    """The value of Original-Recipient for an ORCPT parameter (RFC 3461 section 4.2, RFC 6533 section 3)."""
    kind, _, address = orcpt.partition(";")
    if kind.lower() != "utf-8":
        return f"{kind}; {from_xtext(address)}"
    plain = _EMBEDDED.sub(_embedded_character, address)
    return f"{kind}; {plain if utf8 else embedded(plain)}"


def typed_address(address: Address, utf8: bool) -> tuple[str, str]:
    """Address type and address, as `Final-Recipient` has them."""
    written = str(address)
    if written.isascii():
        return "rfc822", written
    return "utf-8", written if utf8 else embedded(written)


def from_xtext(text: str) -> str:
    """Xtext decoded (RFC 3461 section 4); what would not be printable ASCII stays as it is."""
    return _XTEXT.sub(_xtext_character, text)


def embedded(text: str) -> str:
    """An address in ASCII, other characters as `\\x{FC}` (RFC 6533 section 3, utf-8-addr-xtext)."""
    return _NOT_IN_ADDRESS.sub(_escape, text)


def field(name: str, value: str, utf8: bool) -> bytes:
    """One field in one line with its CRLF: control characters made spaces, ASCII unless `utf8`, cut when too long."""
    line = f"{name}: {printable(value)}"
    if not utf8:
        line = _NOT_ASCII.sub(_escape, line)
    octets = line.encode("utf-8")
    if len(octets) > MAX_LINE:
        octets = _CUT_ESCAPE.sub("", octets[:MAX_LINE].decode("utf-8", "ignore")).encode("utf-8")
    return octets + b"\r\n"


def _escape(character: re.Match[str]) -> str:
    return f"\\x{{{ord(character[0]):02X}}}"


def _xtext_character(found: re.Match[str]) -> str:
    character = chr(int(found[1], 16))
    return character if " " <= character <= "~" else found[0]


def _embedded_character(found: re.Match[str]) -> str:
    code = int(found[1] or found[2], 16)
    if code < 0x20 or 0x7F <= code < 0xA0 or 0xD800 <= code < 0xE000 or code > 0x10FFFF:
        return found[0]
    return chr(code)


def _mta_name(host: str) -> str:
    """A host name, or an address literal in brackets (RFC 3464 section 2.1.2)."""
    if ":" in host:
        return f"[IPv6:{host}]"
    return f"[{host}]" if host.replace(".", "").isdigit() else host
