"""The two canonical forms of DKIM (RFC 6376 section 3.4), of header fields and of bodies in wire form.

Content is dot-stuffed on its way, and signed as it is without: one leading dot of a line is left out here. A body is
hashed piece by piece, so its size costs no memory; only a line that is cut by the end of a piece is kept.
"""

import hashlib
import re
from typing import Literal

from waypost.mail.content import Content

Canonical = Literal["simple", "relaxed"]

_CRLF = b"\r\n"
_RUN = re.compile(rb"[ \t]{2,}|\t")
_LINE_ENDS = re.compile(rb"(?:\r\n)+\Z")
_MANY = 32 * 1024  # empty lines that are hashed at once


def canonical_field(field: bytes, form: Canonical) -> bytes:
    """One header field, from its name to its last CRLF, which may be missing."""
    field = field.removeprefix(b".") if field.startswith(b"..") else field
    if form == "simple":
        return field if field.endswith(_CRLF) else field + _CRLF
    name, _, value = field.removesuffix(_CRLF).partition(b":")
    value = _RUN.sub(b" ", value.replace(_CRLF, b""))
    return b"%b:%b\r\n" % (name.rstrip(b" \t").lower(), value.strip(b" \t"))


class BodyHash:
    """SHA-256 of a body in canonical form; `update` takes it in wire form, in any pieces."""

    __slots__ = ("_carry", "_hash", "_is_relaxed", "_line_ends", "_seen")

    def __init__(self, form: Canonical) -> None:
        self._hash = hashlib.sha256()
        self._is_relaxed = form == "relaxed"
        self._carry: list[bytes] = []  # the beginning of a line
        self._line_ends = 0  # behind the last line that is not empty: at the end of the body they do not count
        self._seen = False

    def update(self, data: bytes) -> None:
        """Takes the next piece."""
        end = data.rfind(_CRLF)
        if end < 0:
            # The CR may have been the last octet of the piece before.
            if not (data.startswith(b"\n") and self._carry and self._carry[-1].endswith(b"\r")):
                if data:
                    self._carry.append(data)
                return
            end = -1
        end += 2
        self._lines(b"".join((*self._carry, data[:end])))
        self._carry = [data[end:]] if end < len(data) else []

    def digest(self) -> bytes:
        """The hash, once the whole body has been taken."""
        carry = b"".join(self._carry)
        self._carry = []
        if carry:
            self._lines(carry + _CRLF)
        if self._seen or not self._is_relaxed:
            self._hash.update(_CRLF)  # an empty body is one empty line in the simple form, and nothing in the other
        return self._hash.digest()

    def _lines(self, data: bytes) -> None:
        """Whole lines."""
        if data.startswith(b"."):
            data = data[1:]
        data = data.replace(b"\r\n.", _CRLF)
        if self._is_relaxed:
            # Each round halves what is left of a run; a pattern takes ten times as long for ordinary text.
            data = data.replace(b"\t", b" ")
            while b"  " in data:
                data = data.replace(b"  ", b" ")
            data = data.replace(b" \r\n", _CRLF)
        text = data.rstrip(_CRLF)
        behind = _LINE_ENDS.search(data, len(text))  # a CR or LF alone is text
        at = len(data) if behind is None else behind.start()
        if at:
            self._catch_up()
            self._hash.update(data[:at])
            self._seen = True
        self._line_ends += (len(data) - at) // 2

    def _catch_up(self) -> None:
        while self._line_ends:
            count = min(self._line_ends, _MANY)
            self._hash.update(_CRLF * count)
            self._line_ends -= count


def body_hashes(content: Content, start: int, forms: tuple[Canonical, ...]) -> dict[Canonical, bytes]:
    """The hash of the body of `content`, which begins at `start`, in each form. Reads all of it; raises OSError."""
    hashes = {form: BodyHash(form) for form in forms}
    for chunk in content.chunks(start):
        for each in hashes.values():
            each.update(chunk)
    return {form: each.digest() for form, each in hashes.items()}
