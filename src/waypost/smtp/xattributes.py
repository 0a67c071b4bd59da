"""The attributes of XCLIENT and XFORWARD, by which one server tells another whose mail this is.

As Postfix published them (XCLIENT_README, XFORWARD_README): `NAME=value` words, values in xtext (RFC 3461
section 4), and two words in brackets for what is not known.
"""

import ipaddress
import re

Attributes = tuple[tuple[str, str], ...]
"""Names in upper case, and values as they are meant, no longer in xtext."""

UNAVAILABLE = "[UNAVAILABLE]"
TEMPUNAVAIL = "[TEMPUNAVAIL]"
MAX_VALUE = 255  # octets of a value

_NAME = re.compile(r"[A-Za-z]{1,20}", re.ASCII)
_VALUE = re.compile(r"(?:[\x21-\x2a\x2c-\x3c\x3e-\x7e]|\+[0-9A-Fa-f]{2})*", re.ASCII)
_ESCAPE = re.compile(r"\+([0-9A-Fa-f]{2})", re.ASCII)
_PORT = re.compile(r"[0-9]{1,5}", re.ASCII)


class AttributeSyntaxError(ValueError):
    """Words that are no attributes."""


def parse_attributes(argument: str) -> Attributes:
    """The attributes in a line behind its verb, each at most once. Raises `AttributeSyntaxError`."""
    found: dict[str, str] = {}
    for word in argument.split(" "):
        if not word:
            continue
        name, equals, value = word.partition("=")
        if not equals or not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise AttributeSyntaxError("an attribute is a name, =, and a value in xtext")
        try:
            octets = _ESCAPE.sub(lambda match: chr(int(match[1], 16)), value).encode("latin-1")
            text = octets.decode("utf-8")
        except UnicodeDecodeError:
            raise AttributeSyntaxError(f"{name.upper()} is neither ASCII nor UTF-8") from None
        if len(octets) > MAX_VALUE or not text.isprintable():
            raise AttributeSyntaxError(f"{name.upper()} is too long, or cannot be shown")
        if name.upper() in found:
            raise AttributeSyntaxError(f"{name.upper()} is there twice")
        found[name.upper()] = text
    if not found:
        raise AttributeSyntaxError("there is no attribute")
    return tuple(found.items())


def encode_attributes(attributes: Attributes) -> str:
    """The words for attributes, a space in front of each. Values that are empty are not available."""
    return "".join(f" {name}={_xtext(value or UNAVAILABLE)}" for name, value in attributes)


def _xtext(value: str) -> str:
    return "".join(
        chr(octet) if 0x21 <= octet <= 0x7E and octet not in b"+=" else f"+{octet:02X}"
        for octet in value.encode("utf-8", "backslashreplace")[:MAX_VALUE]
    )


def known(value: str | None) -> str | None:
    """A value, or None where it says that there is none."""
    return None if value in (None, "", UNAVAILABLE, TEMPUNAVAIL) else value


def parse_address(text: str) -> str:
    """The IP address in ADDR: of IPv6 with `IPV6:` in front. Raises `AttributeSyntaxError`."""
    six = text[:5].upper() == "IPV6:"
    try:
        address = ipaddress.ip_address(text[5:] if six else text)
    except ValueError:
        raise AttributeSyntaxError("ADDR is no IP address") from None
    if "%" in text:
        raise AttributeSyntaxError("ADDR is no IP address")
    return str(getattr(address, "ipv4_mapped", None) or address)


def address_text(address: str) -> str:
    """ADDR for an IP address; empty for what is none."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return ""
    return f"IPV6:{parsed}" if parsed.version == 6 else str(parsed)


def parse_port(text: str) -> int:
    """PORT. Raises `AttributeSyntaxError`."""
    if _PORT.fullmatch(text) is None or int(text) > 65535:
        raise AttributeSyntaxError("PORT is no port")
    return int(text)
