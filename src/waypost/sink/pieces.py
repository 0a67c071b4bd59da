"""Cuts what a client sends into steps: one line, or content up to its end.

The engine would take everything at once and answer EHLO, RSET and QUIT by itself. A sink has to get a word in
before every answer, so it hands the engine one step at a time.
"""

import re

_END = b"\r\n.\r\n"
_MAX_LINE = 16 * 1024  # longer than any line the engine takes; it has an answer for it
_BDAT = re.compile(rb"BDAT +([0-9]{1,19})(?: +LAST)? *", re.IGNORECASE)  # what the engine takes for BDAT


class Pieces:
    """Octets received and not yet handed on."""

    def __init__(self) -> None:
        self._data = b""
        self._tail = b"\r\n"  # the last octets of content that were handed on
        self._chunk = 0  # octets of a BDAT chunk that are still to come

    def append(self, data: bytes) -> None:
        """Adds what was received."""
        self._data = self._data + data if self._data else data

    @property
    def in_chunk(self) -> bool:
        """Whether octets of a chunk are due."""
        return self._chunk > 0

    def take_all(self) -> bytes:
        """Everything there is."""
        data, self._data = self._data, b""
        return data

    def begin_content(self) -> None:
        """Content after DATA comes next."""
        self._tail = b"\r\n"

    def line(self) -> bytes | None:
        """The next line with its CRLF; None until it is there. What can become no line comes as it is."""
        end = self._data.find(b"\r\n")
        if end < 0:
            hopeless = b"\n" in self._data or len(self._data) > _MAX_LINE
            return self.take_all() if hopeless else None
        line, self._data = self._data[: end + 2], self._data[end + 2 :]
        chunk = _BDAT.fullmatch(line[:-2])
        if chunk is not None:
            self._chunk = int(chunk[1])
        return line

    def chunk(self) -> bytes | None:
        """Octets of the chunk that is due, as many as there are."""
        piece, self._data = self._data[: self._chunk], self._data[self._chunk :]
        self._chunk -= len(piece)
        return piece or None

    def content(self) -> bytes | None:
        """Octets of content after DATA, the final dot's line included with the last; None without any."""
        if not self._data:
            return None
        seen = len(self._tail)
        end = (self._tail + self._data).find(_END)
        cut = len(self._data) if end < 0 else end + len(_END) - seen
        piece, self._data = self._data[:cut], self._data[cut:]
        self._tail = (self._tail + piece)[-4:]
        return piece
