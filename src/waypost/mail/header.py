"""The header section of content in wire form: where it ends and which fields it has (RFC 5322 section 2.2).

Read with regular expressions on the octets as they came: nothing is decoded or judged, so hostile content costs little
more than ordinary content. Lines are dot-stuffed as everywhere, which only matters for the rare field
whose name begins with a dot.

The section ends at the first empty line. A line before it that is no field, the first line of a text without any
header for example, ends the fields as well: what comes after it is taken for text by receivers, and must not be
rewritten.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from waypost.mail.content import Content

LIMIT = 1024 * 1024
"""Octets in which a header section is looked for; what is longer than that is treated as if it ended there."""

ANY_OCTET = rb"[!-9;-~]"
"""The pattern of one octet of a field's name."""

_FIRST_LOOK = 32 * 1024  # nearly every header section fits, and large content is not copied for the others
_FOLD = re.compile(rb"\r\n[ \t]")

# No step of ours is made for each field that nobody asks for: a header of a MiB may have a quarter of a million.
_VALUE = rb"(?:[^\r]++|\r(?!\n(?![ \t])))*+"  # to a line end that is no fold
_SECTION = re.compile(rb"(?:\r\n%b+[ \t]*:%b)*+" % (ANY_OCTET, _VALUE))
_WHOLE = re.compile(rb"\r\n((?:\.(?=\.))?(%b+)[ \t]*:%b)" % (ANY_OCTET, _VALUE))
_ANY = ANY_OCTET + rb"+"


@lru_cache(maxsize=64)
def _field(names: bytes) -> re.Pattern[bytes]:
    """The fields whose names match a pattern, each behind the line end before it.

    A name may begin with a dot, which is doubled on the wire; a space before the colon is obsolete, but read (RFC 5322
    section 4.5).
    """
    return re.compile(rb"\r\n(?:\.(?=\.))?(%b)[ \t]*:()%b" % (names, _VALUE))


@lru_cache(maxsize=32)
def _line_start(name: bytes) -> re.Pattern[bytes]:
    """The start of a field's line."""
    # Measured over 2 KB: a pattern with a literal prefix takes 1.1 µs, bytes.count 3.1.
    return re.compile(rb"\r\n%b[ \t]*:" % re.escape(name))


@lru_cache(maxsize=64)
def _one_of(names: tuple[bytes, ...]) -> bytes:
    return b"|".join(map(re.escape, names))


class Field(NamedTuple):
    """One field: its name as written, and where it starts and ends, folded lines and last CRLF included."""

    name: bytes
    start: int
    value: int
    end: int


class Header:
    """The header section at the start of `head`.

    `whole` says that nothing follows `head`; otherwise its last line may have been cut and counts for no field.
    Names are given in lower case.
    """

    __slots__ = ("_fields", "_lines", "complete", "end", "head")

    def __init__(self, head: bytes, *, whole: bool = True) -> None:
        at = -2 if head.startswith(b"\r\n") else head.find(b"\r\n\r\n")
        found = at != -1
        self.head = head
        self.end = at + 2 if found else len(head)
        """Where the section ends: the offset of the empty line, if there is one."""
        self.complete = found or whole
        """Whether the end of the section was seen."""
        self._lines = b""
        self._fields = -1

    def count(self, name: bytes) -> int:
        """How many fields there are with this name. Counts every line up to the empty line."""
        return len(_line_start(name).findall(self._text()))

    def has(self, name: bytes) -> bool:
        """Whether there is a field with this name."""
        return self.count(name) > 0

    def first(self, name: bytes) -> bytes | None:
        """The value of the first field with this name, unfolded and without the white space around it."""
        for field in self.named(name):
            return unfolded(self.head[field.value : field.end])
        return None

    @property
    def fields_end(self) -> int:
        """Where the last field ends: the offset of the empty line, or of the first line that is no field."""
        return self._stop(self._section())

    def fields(self) -> Iterator[Field]:
        """The fields in their order, up to the empty line or the first line that is none."""
        return self.matching(_ANY)

    def named(self, *names: bytes) -> Iterator[Field]:
        """The fields with one of these names, in their order."""
        return self.matching(_one_of(names))

    def matching(self, names: bytes) -> Iterator[Field]:
        """The fields whose names match a pattern, in their order."""
        head = self.head
        for found in _field(names).finditer(self._text(), 0, self._section()):
            stop = self._stop(found.end())
            if stop == self.end and not self.complete:
                return  # it may go on behind what we have
            yield Field(head[found.start(1) - 2 : found.end(1) - 2], found.start(), found.start(2) - 2, stop)

    def texts(self) -> list[tuple[bytes, bytes]]:
        """Of each field the octets, without its last CRLF, and the name as written: `fields`, but quicker."""
        found: list[tuple[bytes, bytes]] = _WHOLE.findall(b"\r\n" + self.head[: self.fields_end])
        return found if self.complete or self.fields_end < self.end else found[:-1]

    def _stop(self, at: int) -> int:
        """The offset in `head` behind a field whose value ends in the text at `at`, its CRLF included if it has one."""
        return at if at == 0 or self._text().startswith(b"\r\n", at) else at - 2

    def _section(self) -> int:
        """Where the fields end in the text."""
        if self._fields < 0:
            found = _SECTION.match(self._text())
            self._fields = 0 if found is None else found.end()
        return self._fields

    def _text(self) -> bytes:
        """The section in small letters, behind a line end, so that all of it is two octets further than in `head`."""
        if not self._lines:
            self._lines = b"\r\n" + self.head[: self.end].lower()
        return self._lines


def read_header(content: Content) -> Header:
    """The header section of `content`, looked for in its first `LIMIT` octets."""
    header = Header(content.head(_FIRST_LOOK), whole=content.size <= _FIRST_LOOK)
    if header.complete:
        return header
    return Header(content.head(LIMIT), whole=content.size <= LIMIT)


def unfolded(value: bytes) -> bytes:
    """A field's value in one line: folds undone (RFC 5322 section 2.2.3), stray CR and LF made spaces."""
    one_line = _FOLD.sub(lambda fold: fold[0][2:], value)
    return one_line.replace(b"\r", b" ").replace(b"\n", b" ").strip(b" \t")
