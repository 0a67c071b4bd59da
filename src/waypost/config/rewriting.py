"""Single values of rewriting and signing: text in, value out. Each parser raises `WrongValueError`."""

import re

from waypost.config.errors import WrongValueError
from waypost.config.values import line
from waypost.mail.added import LONGEST
from waypost.mail.address_map import SAME
from waypost.smtp.address import Address, AddressError, parse_mailbox

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_\-]{0,61}[A-Za-z0-9_])?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?", re.ASCII)
_FIELD = re.compile(r"[!-\-/-9;-~][!-9;-~]{0,69}", re.ASCII)
_PATTERN = "write an address, *@example.com, *@*.example.com, or * for all that is left"
_NOT_ADDED = {
    "from": "set `from`, which keeps the author's name",
    "sender": "set `sender`",
    "date": "Waypost adds it where it is missing",
    "message-id": "Waypost adds it where it is missing",
}
_NOT_REMOVED = {"from": "every message has one", "received": "it shows when mail goes in circles"}
_STRUCTURE = re.compile(r"mime-version|content-.*|received|return-path|dkim-signature|arc-.*|resent-.*", re.ASCII)
_BODY = ("mime-version", "content-type", "content-transfer-encoding")


def mapped_pattern(text: str) -> str:
    """Which addresses are replaced: `*`, `*@example.com` or `example.com`, `*@*.example.com`, `bob@example.com`."""
    if text == "*":
        return text
    local, at, domain = text.rpartition("@")
    domain = domain.removeprefix("*.")
    if text == "<>":
        raise WrongValueError("the null reverse-path is never rewritten", "leave it out")
    if not _DOMAIN.fullmatch(domain) or (at and local not in ("", SAME) and not _is_local(local)):
        raise WrongValueError(f"{text[:60]!r} matches no mail address", _PATTERN)
    return text


def _is_local(text: str) -> bool:
    try:
        return "*" not in text and bool(parse_mailbox(f"{text}@x"))
    except AddressError:
        return False


def new_address(text: str) -> Address:
    """What an address becomes: another one, or `*@example.com`, the same in another domain."""
    try:
        address = parse_mailbox(text)
    except AddressError as error:
        advice = "write it like me@example.com, or *@example.com to keep what is before the @"
        raise WrongValueError(f"is not a mail address: {error}", advice) from None
    if not address.is_ascii:
        advice = "write the domain as A-labels (xn--...); a local part that is not ASCII cannot be used here"
        raise WrongValueError("is not ASCII, so only servers with SMTPUTF8 would take the mail", advice)
    if "*" in address.local and address.local != SAME:
        raise WrongValueError("`*` stands for all that is before the @, not for a part of it", "write *@example.com")
    return address


def field_name(text: str) -> str:
    """The name of a header field."""
    if not _FIELD.fullmatch(text):
        raise WrongValueError(f"{text[:40]!r} is not the name of a header field", "write it like X-Application")
    return text


def added_name(text: str) -> str:
    """The name of a field that may be added."""
    name = field_name(text).lower()
    if name in _NOT_ADDED:
        raise WrongValueError(f"{text} cannot be added here", _NOT_ADDED[name])
    if _STRUCTURE.fullmatch(name):
        raise WrongValueError(f"{text} says how the message is read or came here, and cannot be added", "leave it out")
    return text


def added_text(text: str) -> str:
    """The value of a field that is added; it is folded and encoded as far as it needs to be."""
    line(text)
    if not text.strip() or any(not character.isprintable() for character in text):
        raise WrongValueError("has nothing in it, or characters that cannot be printed", "write one line of text")
    if text.isascii() and max(map(len, text.split(" "))) > LONGEST:
        raise WrongValueError(f"has a word of more than {LONGEST} characters, which fits in no line", "divide it")
    return text


def removed_name(text: str) -> str:
    """The name of a field that is removed, or a pattern: `X-Internal-*`."""
    if not _FIELD.fullmatch(text):
        advice = "write it like X-Originating-IP or X-Internal-*"
        raise WrongValueError(f"{text[:40]!r} is not the name of a header field", advice)
    pattern = re.compile(re.escape(text.lower()).replace(r"\*", ".*"), re.ASCII)
    for name, why in _NOT_REMOVED.items():
        if pattern.fullmatch(name):
            raise WrongValueError(f"{name.capitalize()} cannot be removed: {why}", "write a pattern that spares it")
    for name in _BODY:
        if pattern.fullmatch(name):
            text = f"{name} cannot be removed: nobody could read the message without"
            raise WrongValueError(text, "write a pattern that spares it")
    return text


def signed_name(text: str) -> str:
    """The name of a field that is signed."""
    name = field_name(text).lower()
    if "*" in name:
        raise WrongValueError(f"{text[:40]!r} is a pattern", "write the name of one field")
    if name in ("received", "return-path", "dkim-signature", "bcc"):
        raise WrongValueError(f"{text} cannot be signed: it changes on the way", "leave it out")
    return text


def domain(text: str) -> str:
    """A domain of mail addresses, in small letters."""
    if not _DOMAIN.fullmatch(text) or "." not in text.strip("."):
        advice = "write it like example.com; names in other scripts as A-labels (xn--...)"
        raise WrongValueError(f"{text[:60]!r} is not a domain", advice)
    return text.lower().removesuffix(".")


def selector(text: str) -> str:
    """A selector: one or more labels in front of `._domainkey`."""
    if not _DOMAIN.fullmatch(text) or text.endswith("."):
        advice = "it is the part of the DNS record's name before ._domainkey, like s1"
        raise WrongValueError(f"{text[:60]!r} is not a selector", advice)
    return text.lower()
