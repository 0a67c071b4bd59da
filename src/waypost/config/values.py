"""Single values: text in, value out, and back. Each parser raises `WrongValueError` with what would be right."""

import ipaddress
import re
import unicodedata
from datetime import date, tzinfo
from zoneinfo import ZoneInfo, available_timezones

from waypost.config.errors import WrongValueError, nearest
from waypost.net.client_certificates import certificate_name
from waypost.routing.route import Network
from waypost.smtp.address import Address, AddressError, parse_mailbox

_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?) *(ms|s|m|h|d)?", re.ASCII)
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,6})?) *([A-Za-z]*)", re.ASCII)
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_COUNT = re.compile(r"[0-9]{1,12}", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?", re.ASCII)
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_\-]{0,61}[A-Za-z0-9_])?"
HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+\-]*", re.ASCII)
_RATE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?) */ *(second|minute|hour)", re.ASCII | re.IGNORECASE)
_ALLOWANCE = re.compile(r"([0-9]{1,12}) */ *(second|minute|hour|day)", re.ASCII | re.IGNORECASE)
_DAY = 86400
_PERIODS = {"second": 1, "minute": 60, "hour": 3600}
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_OCTETS = {"": 1, "b": 1, "kb": 1000, "mb": 1000**2, "gb": 1000**3, "kib": 1024, "mib": 1024**2, "gib": 1024**3}


def duration(text: str) -> float:
    """Seconds: `30`, `30s`, `500ms`, `5m`, `1h`, `5d`. More than nothing."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise WrongValueError("is not a duration", "write a number and ms, s, m, h or d, like 30s or 5m")
    seconds = float(match[1]) * _SECONDS[match[2] or "s"]
    if seconds <= 0:
        raise WrongValueError("must be more than nothing")
    return seconds


def duration_text(seconds: float) -> str:
    """The shortest form of a duration: `5m`."""
    for unit in ("d", "h", "m"):
        if seconds and seconds % _SECONDS[unit] == 0:
            return f"{seconds / _SECONDS[unit]:.0f}{unit}"
    return f"{seconds:.6f}".rstrip("0").rstrip(".") + "s"


_OFF = ("off", "no", "false", "0")


def duration_or_off(text: str) -> float:
    """Seconds, or 0 for `off`."""
    if text.lower() in _OFF:
        return 0
    try:
        return duration(text)
    except WrongValueError as error:
        raise WrongValueError(error.text, "write a number and ms, s, m, h or d, like 4h, or off") from None


def duration_or_off_text(seconds: float) -> str:
    """The shortest form of it."""
    return duration_text(seconds) if seconds else "off"


def rate(text: str) -> float:
    """Messages per second: `10/second`, `300/minute`, `1000/hour`."""
    match = _RATE.fullmatch(text)
    if match is None:
        raise WrongValueError("is not a rate", "write messages per second, minute or hour, like 10/second")
    number = float(match[1])
    if not number:
        raise WrongValueError("must be more than nothing")
    return number / _PERIODS[match[2].lower()]


def rate_text(per_second: float) -> str:
    """A rate by the shortest period that makes it a whole number."""
    for unit, seconds in _PERIODS.items():
        number = per_second * seconds
        if number >= 0.5 and abs(number - round(number)) < 1e-6:
            return f"{round(number)}/{unit}"
    return f"{per_second * 3600:.9g}/hour"


def cost(text: str) -> float:
    """A number, not below nothing: `0.0001`."""
    if _NUMBER.fullmatch(text) is None:
        raise WrongValueError("is not a number", "write what one message costs, like 0.0001")
    return float(text)


def day(text: str) -> date:
    """A day: `2026-12-01`."""
    try:
        if _DATE.fullmatch(text):
            return date.fromisoformat(text)
    except ValueError:
        pass
    raise WrongValueError("is not a day", "write year, month and day, like 2026-12-01")


def time_zone(text: str) -> tzinfo:
    """A time zone by its name: `Europe/Berlin`, `UTC`."""
    try:
        return ZoneInfo(text)
    except (OSError, ValueError, KeyError):  # by what is wrong with the name
        pass
    known = sorted(available_timezones())
    advice = nearest(text, known) or "write a name like Europe/Berlin, or UTC"
    if not known:
        advice = "this system has no time zones at all: install the package tzdata, of the system or from PyPI"
    raise WrongValueError(f"there is no time zone {text[:40]!r}", advice)


def allowance(text: str) -> tuple[int, int]:
    """A whole number in each period, and the period in seconds: `100/hour`, `1000/day`."""
    match = _ALLOWANCE.fullmatch(text)
    if match is None:
        raise WrongValueError("is no limit", "write a whole number per second, minute, hour or day, like 100/hour")
    if not int(match[1]):
        raise WrongValueError("must be at least 1")
    return int(match[1]), _PERIODS.get(match[2].lower(), _DAY)


def allowance_text(allowed: tuple[int, int]) -> str:
    """The text of it."""
    words = {seconds: word for word, seconds in (*_PERIODS.items(), ("day", _DAY))}
    return f"{allowed[0]}/{words[allowed[1]]}"


def size(text: str) -> int:
    """Octets: `1048576`, `1MiB`, `50MB`. At least one."""
    match = _SIZE.fullmatch(text)
    factor = _OCTETS.get(match[2].lower()) if match else None
    if match is None or factor is None:
        raise WrongValueError("is not a size", "write octets, or a number and KB, MB, GB, KiB, MiB or GiB, like 50MiB")
    octets = round(float(match[1]) * factor) if "." in match[1] else int(match[1]) * factor
    if octets < 1:
        raise WrongValueError("must be at least one octet")
    return octets


def size_text(octets: int) -> str:
    """The shortest exact form of a size: `50MiB`."""
    for unit in ("GiB", "MiB", "KiB"):
        if octets and octets % _OCTETS[unit.lower()] == 0:
            return f"{octets // _OCTETS[unit.lower()]}{unit}"
    return str(octets)


def count(text: str) -> int:
    """A whole number, at least 1."""
    if _COUNT.fullmatch(text) is None or int(text) < 1:
        raise WrongValueError("must be a whole number, at least 1")
    return int(text)


def share(text: str) -> float:
    """A part of the whole, more than nothing: `10%` or `0.1`."""
    part = spread(text)
    if not part:
        raise WrongValueError("must be more than nothing")
    return part


def spread(text: str) -> float:
    """A part of the whole, which may be nothing: `10%` or `0.1`."""
    number = text[:-1].rstrip() if text.endswith("%") else text
    if _NUMBER.fullmatch(number):
        part = float(number) / 100 if text.endswith("%") else float(number)
        if part <= 1:
            return part
    raise WrongValueError("is not a share", "write a percentage like 10%, or a number up to 1 like 0.1")


def share_text(part: float) -> str:
    """A share as a percentage."""
    return f"{part * 100:.9g}%"


def truth(text: str) -> bool:
    """`true`, `yes`, `on`, `1`; `false`, `no`, `off`, `0`."""
    word = text.lower()
    if word in ("true", "yes", "on", "1"):
        return True
    if word in ("false", "no", "off", "0"):
        return False
    raise WrongValueError("must be true or false")


def line(text: str) -> str:
    """Text that is not empty and has no control characters."""
    if not text.strip():
        raise WrongValueError("must not be empty")
    if any(unicodedata.category(character) == "Cc" for character in text):
        raise WrongValueError("has a control character in it")
    return text


def name(text: str) -> str:
    """The name of something in the configuration."""
    if _NAME.fullmatch(text) is None or len(text) > 100:
        raise WrongValueError(
            f"{text[:40]!r} cannot be a name",
            "use letters, digits and . _ - + @, up to 100, beginning with a letter or digit",
        )
    return text


def host_name(text: str) -> str:
    """A host name, or an address literal in brackets (RFC 5321 section 4.1.3)."""
    if text.startswith("["):
        inside = text[1:-1].removeprefix("IPv6:") if text.endswith("]") else ""
        try:
            ipaddress.ip_address(inside)
        except ValueError:
            raise WrongValueError("is not an address literal", "write [192.0.2.1] or [IPv6:2001:db8::1]") from None
        return text
    if HOST.fullmatch(text) is None or len(text) > 253:
        raise WrongValueError("is not a host name", "write a name like mail.example.com")
    return text


_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")


def network(text: str) -> Network:
    """An address or a network in CIDR form. One of IPv4 in the disguise of IPv6 (RFC 4291 2.5.5.2) is one of IPv4."""
    try:
        written = ipaddress.ip_network(text)
    except ValueError:
        pass
    else:
        if isinstance(written, ipaddress.IPv6Network) and written.subnet_of(_MAPPED):
            return ipaddress.IPv4Network((int(written.network_address) & 0xFFFFFFFF, written.prefixlen - 96))
        return written
    try:
        right = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise WrongValueError(f"{text!r} is not a network", "write it like 10.0.0.0/8 or 2001:db8::/32") from None
    raise WrongValueError(f"{text!r} has bits set after its prefix", f"did you mean {right}?")


TRUSTED = "trusted"
"""Stands for the trusted networks of a listener."""


def peers(text: str) -> Network | str:
    """A network, or `trusted`."""
    return TRUSTED if text == TRUSTED else network(text)


def glob(text: str) -> str:
    """A pattern: `*` stands for any text, `?` for one character."""
    line(text)
    if text != text.strip():
        raise WrongValueError("has a space at its beginning or end")
    return text


def address_glob(text: str) -> str:
    """A pattern over mail addresses, or over domains alone; `<>` is the null reverse-path."""
    glob(text)
    if text == "<>":
        return text
    local, at, domain = text.rpartition("@")
    if text.startswith("<") and text.endswith(">"):
        raise WrongValueError(f"{text!r} matches no mail address", f"write {text[1:-1]}, without < and >")
    if " " in domain or "<" in domain or ">" in domain or (at and not domain) or (local.startswith("<")):
        raise WrongValueError(f"{text!r} matches no mail address", "write it like *@example.com, or example.com")
    return text


_PERMISSIONS = re.compile(r"0?[0-7]{3}", re.ASCII)


def permissions(text: str) -> int:
    """Permissions of a file in octal digits: `0660`."""
    if _PERMISSIONS.fullmatch(text) is None:
        raise WrongValueError("are not permissions", "write three octal digits, like 0660")
    return int(text, 8)


def permissions_text(mode: int) -> str:
    """The text of them."""
    return f"{mode:04o}"


def fingerprint(text: str) -> str:
    """The SHA-256 of a certificate in hexadecimal, colons allowed."""
    plain = text.replace(":", "").lower()
    if re.fullmatch(r"[0-9a-f]{64}", plain, re.ASCII) is None:
        advice = "openssl x509 -noout -fingerprint -sha256 -in cert.pem prints it"
        raise WrongValueError("is not a SHA-256 fingerprint: 64 hexadecimal digits", advice)
    return plain


def certificate(text: str) -> str:
    """How an account names a client's certificate, in one form."""
    line(text)
    try:
        return certificate_name(text)
    except ValueError as error:
        advice = "openssl x509 -noout -fingerprint -sha256 -subject -nameopt RFC2253 -email -in cert.pem prints them"
        raise WrongValueError(str(error), advice) from None


def mailbox(text: str) -> Address:
    """One mail address, without angle brackets."""
    try:
        return parse_mailbox(text)
    except AddressError as error:
        raise WrongValueError(f"is not a mail address: {error}", "write it like me@example.com") from None


def folder(text: str) -> str:
    """The path of a folder."""
    if "://" in text:  # not repeated in the message: there may be a password in it
        raise WrongValueError("is not a folder", "the address of a database is `url`")
    return line(text)
