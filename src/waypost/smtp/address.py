"""Mailboxes as SMTP paths carry them (RFC 5321 section 4.1.2, RFC 6531 section 3.3).

An address is kept as the client wrote it, apart from the source route, which is accepted and dropped
(RFC 5321 appendix C). Nothing here knows about header fields: those have another grammar.
"""

import ipaddress
import re
from dataclasses import dataclass

from waypost.smtp.values import quick


class AddressError(ValueError):
    """The text is not a path by RFC 5321's grammar; the message says why, in printable ASCII."""


@quick
@dataclass(frozen=True, slots=True)
class Address:
    """One mailbox, or the null reverse-path.

    `local` keeps its quotes when it was quoted. `domain` may be an address literal with its brackets, and
    is empty for the null path and for `<postmaster>`.
    """

    local: str
    domain: str

    @property
    def is_null(self) -> bool:
        """Whether this is `<>`."""
        return not self.local and not self.domain

    @property
    def is_ascii(self) -> bool:
        """Whether the address can travel without SMTPUTF8."""
        return self.local.isascii() and self.domain.isascii()

    @property
    def key(self) -> str:
        """The form in which two spellings of one mailbox are equal: the domain's case does not matter."""
        return f"{self.local}@{self.domain.lower()}"

    def __str__(self) -> str:
        return f"{self.local}@{self.domain}" if self.domain else self.local


NULL = Address("", "")
"""The null reverse-path, `<>`."""

_ATEXT = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\-]"
_UTEXT = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\-\x80-\U0010ffff]"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9\-_]*[A-Za-z0-9])?"
_ULABEL = r"[A-Za-z0-9\x80-\U0010ffff](?:[A-Za-z0-9\-_\x80-\U0010ffff]*[A-Za-z0-9\x80-\U0010ffff])?"
# Underscores are not host names, but real mail domains have them, and refusing them loses mail (Postfix
# and Exim let them through).

ORDINARY = rf"(?P<local>{_ATEXT}+(?:\.{_ATEXT}+)*)@(?P<domain>{_LABEL}(?:\.{_LABEL})*)"
"""What nearly every mailbox looks like, as a pattern for ASCII, with the groups `local` and `domain`."""

_ORDINARY = re.compile(ORDINARY, re.ASCII)
_LOCAL = re.compile(rf'{_UTEXT}+(?:\.{_UTEXT}+)*|"(?:[\x20\x21\x23-\x5b\x5d-\x7e\x80-\U0010ffff]|\\[\x20-\x7e])*"')
_DOMAIN = re.compile(rf"{_ULABEL}(?:\.{_ULABEL})*\.?")
_GENERAL_LITERAL = re.compile(r"[A-Za-z0-9\-]*[A-Za-z0-9]:[\x21\x23-\x3b\x3d\x3f-\x5a\x5e-\x7e]+", re.ASCII)
# Brackets and quotes are allowed there too, but a path with them in it would be read by others in other ways.
_ROUTE = re.compile(rf"@{_LABEL}(?:\.{_LABEL})*(?:,@{_LABEL}(?:\.{_LABEL})*)*:", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def parse_mailbox(text: str) -> Address:
    """The address in `text`, a bare mailbox without angle brackets.

    Raises `AddressError`. Non-ASCII is let through: whether it may travel is the caller's question
    (`Address.is_ascii`). Local parts over 64 octets are let through too: servers exist that issue them.
    """
    ordinary = _ORDINARY.fullmatch(text)
    if ordinary is not None:
        return Address(ordinary["local"], ordinary["domain"])
    if _CONTROL.search(text):
        raise AddressError("control characters are not allowed in an address")
    local = _LOCAL.match(text)
    if local is None:
        raise AddressError("the local part is not a dot-atom or a quoted string")
    rest = text[local.end() :]
    if not rest.startswith("@"):
        raise AddressError("an address is written local-part@domain")
    domain = rest[1:]
    if domain.startswith("["):
        _check_literal(domain)
    elif not _DOMAIN.fullmatch(domain):
        raise AddressError("the part after @ is not a domain name or an address literal")
    return Address(local[0], domain)


def parse_reverse_path(text: str) -> Address:
    """The address of `MAIL FROM`, brackets included: `<>`, `<a@b>`, `<@relay:a@b>`. Raises `AddressError`."""
    return NULL if text == "<>" else parse_mailbox(_inside(text))


def parse_forward_path(text: str) -> Address:
    """The address of `RCPT TO`, brackets included; `<postmaster>` needs no domain (section 4.1.1.3).

    Raises `AddressError`.
    """
    inside = _inside(text)
    return Address(inside, "") if inside.lower() == "postmaster" else parse_mailbox(inside)


def _inside(text: str) -> str:
    if not (text.startswith("<") and text.endswith(">")):
        raise AddressError("an address stands in angle brackets")
    inside = text[1:-1]
    if inside.startswith("@"):
        route = _ROUTE.match(inside)
        if route is None:
            raise AddressError("the source route is malformed")
        inside = inside[route.end() :]
    return inside


def _check_literal(domain: str) -> None:
    literal = domain[1:-1]
    if not domain.endswith("]"):
        raise AddressError("the address literal has no closing bracket")
    try:
        if literal[:5].lower() == "ipv6:":
            if "%" in literal:
                raise ValueError
            ipaddress.IPv6Address(literal[5:])
        elif literal[:1].isdecimal() and literal.isascii() and ":" not in literal:
            ipaddress.IPv4Address(literal)
        elif not _GENERAL_LITERAL.fullmatch(literal):
            raise ValueError
    except ValueError:
        raise AddressError("the address literal is not an IPv4 or IPv6 address") from None
