"""The values of header fields as rules look at them: in one line, and in letters.

Of a field's value the folds are undone, the white space around it is taken away, and encoded words (RFC 2047) are
decoded wherever they stand, those side by side as one text. What is not ASCII is read as UTF-8 (RFC 6532), else as
Latin-1, so that every octet has a letter; so are the octets of an encoded word that its character set does not have.
A word that is no base64, or whose character set is not one of those that mail has, stays as it was written: that no
value fails is worth more here than that each is right.
"""

import base64
import binascii
import re
from collections.abc import Iterator, Sequence
from encodings.aliases import aliases
from functools import lru_cache
from itertools import islice

from waypost.mail.header import Header, unfolded

_WORD = re.compile(r"=\?([A-Za-z0-9_.:+\-]{1,40})(?:\*[A-Za-z0-9\-]{0,20})?\?([bBqQ])\?([!-<>@-~=]*)\?=", re.ASCII)
MOST = 100
"""Fields of one name that are looked at."""

LONGEST = 64 * 1024
"""Octets of the values of one name that are looked at: decoding more would be work that strangers order."""

_VALUE = rb"(?:[^\r]++|\r(?!\n(?![ \t])))*+"  # to a line end that is no fold
_SECTION = re.compile(rb"(?:[!-9;-~]+[ \t]*:%b(?:\r\n|\Z))*+" % _VALUE)
_QUOTED = re.compile(rb"=([0-9A-Fa-f]{2})")


def _module(charset: str) -> str:
    """The name of Python's module for a character set, whether there is one or not."""
    name = charset.lower().replace("-", "_").replace(".", "_")
    return aliases.get(name, name)


_CHARSETS = frozenset(
    _module(name)
    for name in (
        *("us-ascii", "utf-8", "utf-7", "utf-16", "utf-16-be", "utf-16-le"),
        *(f"iso-8859-{number}" for number in range(1, 17) if number != 12),
        *(f"windows-{number}" for number in range(1250, 1259)),
        *("cp874", "koi8-r", "koi8-u", "macintosh", "cp437", "cp850", "cp866", "tis-620"),
        *("gb2312", "gbk", "gb18030", "hz", "big5", "euc-jp", "iso-2022-jp", "shift_jis", "cp932"),
        *("euc-kr", "iso-2022-kr", "cp949", "ks_c_5601-1987"),
    )
)
"""Those that mail has. Python is asked for no other: it would look for a module of whatever name a stranger gave."""


class FieldValues:
    """The values of one header section, each field looked for and decoded when it is first asked for.

    The fields are those that `Header.fields` has. Regular expressions find them: a header of a MiB may have a quarter
    of a million fields, and no step of ours is made for each.
    """

    __slots__ = ("_complete", "_lines", "_values")

    def __init__(self, header: Header) -> None:
        found = _SECTION.match(header.head, 0, header.end)
        end = 0 if found is None else found.end()
        self._lines = b"\r\n" + header.head[:end]
        self._complete = header.complete or end < header.end
        self._values: dict[str, tuple[str, ...]] = {}

    def of(self, name: str) -> tuple[str, ...]:
        """The values of every field with this name, which is in lower case; in their order."""
        known = self._values.get(name)
        if known is None:
            lines = self._lines
            places = [found.span(1) for found in islice(_field(name).finditer(lines), MOST)]
            if places and not self._complete and places[-1][1] >= len(lines) - 2:
                places.pop()  # it may go on behind what we have
            known = self._values[name] = tuple(self._decoded(places))
        return known

    def _decoded(self, places: Sequence[tuple[int, int]]) -> Iterator[str]:
        room = LONGEST
        for start, end in places:
            if room <= 0:
                return
            yield decoded(unfolded(self._lines[start : min(end, start + room)]))
            room -= end - start


@lru_cache(maxsize=256)
def _field(name: str) -> re.Pattern[bytes]:
    """The fields of one name. A dot at its beginning is doubled on the wire."""
    dot = rb"\.?" if name.startswith(".") else b""
    return re.compile(rb"\r\n%b(?i:%b)[ \t]*:(%b)" % (dot, re.escape(name.encode("ascii")), _VALUE))


def decoded(value: bytes) -> str:
    """One field's value, which is in one line already, in letters."""
    return with_words_decoded(as_text(value))


def as_text(value: bytes) -> str:
    """Octets as UTF-8, else as Latin-1, in which every octet has a letter."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def with_words_decoded(text: str) -> str:
    """A value with its encoded words in letters, as far as they make sense and are in character sets of mail."""
    return text if "=?" not in text else _without_encoded_words(text)


def _without_encoded_words(text: str) -> str:
    parts: list[str] = []
    pending: list[tuple[str, bytes]] = []  # octets of words side by side, which may share a character
    at = 0
    for word in _WORD.finditer(text):
        charset, octets = _module(word[1]), _octets(word[2], word[3])
        if charset not in _CHARSETS or octets is None:
            continue
        between = text[at : word.start()]
        if not pending or between.strip(" \t"):
            parts += [_joined(pending), between]
            pending = []
        if pending and pending[-1][0] == charset:
            pending[-1] = (charset, pending[-1][1] + octets)
        else:
            pending.append((charset, octets))
        at = word.end()
    return "".join([*parts, _joined(pending), text[at:]])


def _joined(pending: list[tuple[str, bytes]]) -> str:
    texts = []
    for charset, octets in pending:
        try:
            texts.append(octets.decode(charset))
        except ValueError:
            texts.append(octets.decode("latin-1"))
    return "".join(texts)


def _octets(encoding: str, text: str) -> bytes | None:
    if encoding in "qQ":
        return _QUOTED.sub(lambda found: bytes((int(found[1], 16),)), text.replace("_", " ").encode("ascii"))
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None
