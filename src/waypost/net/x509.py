"""What a certificate says of itself: until when it is valid, and for which names.

Python's ssl tells that of certificates that it has verified, and of no others; but when verification fails, or is
off, it is worth knowing all the more.
"""

import ipaddress
import re
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from itertools import islice

from waypost.net.der import element, identifier
from waypost.net.stamps import fingerprint, stamp
from waypost.routing.probing import Certificate

_ALTERNATIVE_NAME = "2.5.29.17"
_TIME = re.compile(rb"([0-9]{2}|[0-9]{4})([0-9]{2})([0-9]{2})([0-9]{2})([0-9]{2})([0-9]{2})Z")
_MAX_NAMES = 100
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def read_certificate(der: bytes) -> Certificate | None:
    """A certificate in DER form (RFC 5280 section 4.1); None when that is not what it is."""
    try:
        _, start, whole = element(der, 0)
        if whole > len(der):  # cut off, which may be behind what is looked at here
            return None
        _, at, end = element(der, start)  # tbsCertificate
        if end > len(der):
            return None
        parts = [der[at:at]]
        for tag, part in _elements(der[at:end]):
            if tag != 0xA0 or len(parts) > 1:  # the version, which is not always there
                parts.append(part)
        validity, others = parts[4], parts[7:]  # behind serialNumber, signature, issuer
        *_, (_, until) = _elements(validity)
        return Certificate(_moment(until), _names(others), fingerprint(der))
    except (IndexError, ValueError):
        return None


def _names(parts: list[bytes]) -> tuple[str, ...]:
    """The names, as far as they make sense: what is wrong with one of them does not change when it all ends."""
    names: list[str] = []
    try:
        names.extend(islice(_each_name(parts), _MAX_NAMES))
    except (IndexError, ValueError):
        pass
    return tuple(names)


def certificate_in(path: str) -> Certificate | None:
    """The first certificate of a PEM file; None when there is none that can be read."""
    return _certificate_in(path, stamp(path))


@lru_cache(maxsize=64)
def _certificate_in(path: str, stamp: object) -> Certificate | None:
    try:
        with open(path, encoding="ascii", errors="surrogateescape") as file:
            found = _PEM.search(file.read())
        return None if found is None else read_certificate(ssl.PEM_cert_to_DER_cert(found[0]))
    except (OSError, ValueError):
        return None


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        tag, start, end = element(data, at)
        if end > len(data):
            raise IndexError(end)
        yield tag, data[start:end]
        at = end


def _first(data: bytes) -> bytes:
    _, start, end = element(data, 0)
    return data[start:end]


def _moment(text: bytes) -> float:
    """UTCTime or GeneralizedTime (RFC 5280 section 4.1.2.5)."""
    found = _TIME.fullmatch(text)
    if found is None:
        raise ValueError("no time")
    year, *rest = map(int, found.groups())
    if len(found[1]) == 2:
        year += 1900 if year >= 50 else 2000
    return datetime(year, *rest, tzinfo=UTC).timestamp()  # type: ignore[misc, arg-type]  # five numbers


def _each_name(parts: list[bytes]) -> Iterator[str]:
    for part in parts:
        if part[:1] != b"\x30":  # of what follows the key, only the extensions are a sequence
            continue
        for _, extension in _elements(_first(part)):
            fields = list(_elements(extension))
            if identifier(fields[0][1]) == _ALTERNATIVE_NAME:
                for tag, name in _elements(_first(fields[-1][1])):
                    if tag == 0x82:
                        yield name.decode("ascii")
                    elif tag == 0x87:
                        yield str(ipaddress.ip_address(name))
