"""Content: the octets after DATA, in the form in which they travel.

Content is held in wire form: CRLF line ends and dot-stuffed (RFC 5321 section 4.5.2), without the final dot.
So relaying is a copy and not a transformation. Only content that came by BDAT may lack the final CRLF.

`Content` is the port; `MemoryContent` holds it in one piece, `waypost.store.spill` puts large content in a file.
"""

from collections.abc import Iterator
from typing import Protocol

CHUNK = 256 * 1024
"""Octets that one step of `chunks` yields at the most."""

_WORTH_A_COPY = 16 * 1024
"""Octets up to which one piece is cheaper to write than two."""


class Content(Protocol):
    """Octets in wire form that can be read any number of times until `close`."""

    @property
    def size(self) -> int:
        """Octets in wire form."""

    @property
    def is_ascii(self) -> bool:
        """Whether no octet is above 127."""

    @property
    def ends_line(self) -> bool:
        """Whether the content is empty or ends with CRLF; False only for what came by BDAT."""

    def head(self, limit: int) -> bytes:
        """The first octets, at most `limit`."""

    def chunks(self, start: int = 0) -> Iterator[bytes]:
        """The octets from `start` on, in pieces of at most `CHUNK`."""

    def close(self) -> None:
        """Gives memory and temporary files back. Idempotent; nothing may be read afterwards."""


class MemoryContent:
    """Content in one piece in memory."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        self._data = data

    @property
    def size(self) -> int:
        return len(self._data)

    @property
    def is_ascii(self) -> bool:
        return self._data.isascii()

    @property
    def ends_line(self) -> bool:
        return not self._data or self._data.endswith(b"\r\n")

    def head(self, limit: int) -> bytes:
        return self._data[:limit]

    def chunks(self, start: int = 0) -> Iterator[bytes]:
        if len(self._data) - start <= CHUNK:
            if start < len(self._data):
                yield self._data[start:]
            return
        for at in range(start, len(self._data), CHUNK):
            yield self._data[at : at + CHUNK]

    def close(self) -> None:
        self._data = b""


class JoinedContent:
    """`front`, in wire form and ending with CRLF, followed by `rest` from `start` on: a view, not a copy.

    This is how a `Received` field comes before what the client sent, and how rewritten header fields replace
    the old ones.
    """

    __slots__ = ("_front", "_rest", "_start")

    def __init__(self, front: bytes, rest: Content, start: int = 0) -> None:
        self._front = front
        self._rest = rest
        self._start = start

    @property
    def front(self) -> bytes:
        """What comes first."""
        return self._front

    @property
    def rest(self) -> Content:
        """What follows, from `start` on."""
        return self._rest

    @property
    def start(self) -> int:
        """Where in `rest` it goes on."""
        return self._start

    @property
    def size(self) -> int:
        return len(self._front) + self._rest.size - self._start

    @property
    def is_ascii(self) -> bool:
        return self._front.isascii() and self._rest.is_ascii

    @property
    def ends_line(self) -> bool:
        return self._rest.ends_line or self._rest.size == self._start

    def head(self, limit: int) -> bytes:
        if len(self._front) >= limit:
            return self._front[:limit]
        return self._front + self._rest.head(limit - len(self._front) + self._start)[self._start :]

    def chunks(self, start: int = 0) -> Iterator[bytes]:
        front = self._front[start:]
        rest = self._rest.chunks(self._start + max(0, start - len(self._front)))
        first = next(rest, b"")
        if len(first) > _WORTH_A_COPY:
            if front:
                yield front
            yield first
        elif front or first:
            yield front + first
        yield from rest

    def close(self) -> None:
        self._rest.close()
