"""What we need to know of a certificate of our own: for which names it is, and until when (RFC 5280).

Python's ssl tells that of other people's certificates alone, after it has verified them.
"""

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime

_OCTETS, _UTC_TIME, _TIME, _VERSION, _EXTENSIONS, _DNS_NAME = 4, 0x17, 0x18, 0xA0, 0xA3, 0x82
_SUBJECT_ALT_NAME = b"\x55\x1d\x11"
_COMMON_NAME = b"\x55\x04\x03"


class UnreadableError(ValueError):
    """These octets are no certificate."""


def element(data: bytes, at: int) -> tuple[int, int, int]:
    """Tag, start and end of the content of the DER element at `at`. Raises `IndexError` where there is none."""
    tag, length = data[at], data[at + 1]
    start = at + 2
    if length & 0x80:
        size = length & 0x7F
        if not 0 < size <= 4:
            raise IndexError(at)
        length = int.from_bytes(data[start : start + size], "big")
        start += size
    return tag, start, start + length


def first_certificate(path: str) -> bytes:
    """The first certificate of a PEM file, in DER form. Raises `OSError` and `UnreadableError`."""
    with open(path, encoding="ascii", errors="surrogateescape") as file:
        text = file.read()
    _, begin, rest = text.partition(ssl.PEM_HEADER)
    body, end, _ = rest.partition(ssl.PEM_FOOTER)
    if not end:
        raise UnreadableError(f"{path} has no certificate in PEM form")
    try:
        return ssl.PEM_cert_to_DER_cert(begin + body + end)
    except ValueError as error:
        raise UnreadableError(f"{path}: {error}") from error


def names(certificate: bytes) -> frozenset[str]:
    """The host names that a certificate in DER form is for, in lower case; without any, its common name.

    `*.example.com` may be one of them. Raises `UnreadableError`.
    """
    try:
        _, _, _, subject, *more = _fields(certificate)
        found = frozenset(_alternative_names(certificate, more))
        return found or frozenset(_common_names(certificate, subject))
    except (IndexError, ValueError) as error:
        raise UnreadableError("this certificate cannot be read") from error


def not_after(certificate: bytes) -> datetime:
    """When a certificate in DER form expires. Raises `UnreadableError`."""
    try:
        _, _, validity, *_ = _fields(certificate)
        _, (tag, start, end) = _inside(certificate, validity)
        text = certificate[start:end].decode("ascii")
        if tag == _UTC_TIME:
            text = ("20" if text < "50" else "19") + text  # section 4.1.2.5.1
        elif tag != _TIME:
            raise ValueError(tag)
        return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
    except (IndexError, ValueError) as error:
        raise UnreadableError("this certificate cannot be read") from error


Element = tuple[int, int, int]


def _fields(certificate: bytes) -> list[Element]:
    """The elements of tbsCertificate from the signature's algorithm on: then issuer, validity, subject, and more."""
    found = list(_inside(certificate, element(certificate, element(certificate, 0)[1])))
    return found[2 if found[0][0] == _VERSION else 1 :]  # the version may be left out


def _inside(data: bytes, outer: Element) -> Iterator[Element]:
    """The elements that an element is made of."""
    _, at, end = outer
    if end > len(data):
        raise IndexError(end)
    while at < end:
        found = element(data, at)
        yield found
        at = found[2]


def _alternative_names(data: bytes, fields: list[Element]) -> Iterator[str]:
    for field in fields:
        if field[0] != _EXTENSIONS:
            continue
        for extension in _inside(data, element(data, field[1])):
            kind, *_, value = _inside(data, extension)
            if value[0] == _OCTETS and data[kind[1] : kind[2]] == _SUBJECT_ALT_NAME:
                for tag, start, end in _inside(data, element(data, value[1])):
                    if tag == _DNS_NAME:
                        yield data[start:end].decode("ascii").lower()


def _common_names(data: bytes, subject: Element) -> Iterator[str]:
    for group in _inside(data, subject):
        for attribute in _inside(data, group):
            kind, value = _inside(data, attribute)
            if data[kind[1] : kind[2]] == _COMMON_NAME:
                yield data[value[1] : value[2]].decode("utf-8").lower()
