"""Quoted-printable (RFC 2045 section 6.7): any octets as ASCII lines of at most 76 octets.

CRLF stays a line end. Whatever could be changed or misread on the way is written as `=XX`, bare CR and LF included.
"""

import re

_UNSAFE = re.compile(rb"[^\t -<>-~]|[\t ]\Z")
_MAX_LINE = 76


def quoted_printable(data: bytes) -> bytes:
    """`data`, encoded."""
    return b"\r\n".join(_cut(_UNSAFE.sub(_escaped, line)) for line in data.split(b"\r\n"))


def _escaped(octet: re.Match[bytes]) -> bytes:
    return b"=%02X" % octet[0][0]


def _cut(line: bytes) -> bytes:
    """An encoded line in as many as it takes, each but the last with a soft line break."""
    pieces = []
    start = 0
    while len(line) - start > _MAX_LINE:
        end = start + _MAX_LINE - 1
        equals = line.rfind(b"=", end - 2, end)
        end = end if equals < 0 else equals  # an escape is not divided
        pieces.append(line[start:end] + b"=\r\n")
        start = end
    pieces.append(line[start:])
    return b"".join(pieces)
