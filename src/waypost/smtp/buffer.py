"""Octets received and not yet consumed, and the lines in them."""

from enum import Enum, auto


class Buffer:
    """A queue of octets from which lines and blocks are cut, without copying what stays."""

    __slots__ = ("_at", "_data", "_searched")

    def __init__(self) -> None:
        self._data = b""
        self._at = 0
        self._searched = 0  # octets from _at on in which there is no CRLF

    def __len__(self) -> int:
        return len(self._data) - self._at

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def append(self, data: bytes) -> None:
        """Adds what was received."""
        self._data = data if self._at == len(self._data) else self._data[self._at :] + data
        self._at = 0

    def line(self) -> bytes | None:
        """The next line without its CRLF, or None when no whole line is there."""
        line = self.peek_line()
        if line is not None:
            self._at += len(line) + 2
            self._searched = 0
        return line

    def peek_line(self) -> bytes | None:
        """The same, left where it is."""
        end = self._data.find(b"\r\n", self._at + self._searched)
        if end < 0:
            self._searched = max(0, len(self) - 1)
            return None
        return self._data[self._at : end]

    def peek(self, count: int) -> bytes:
        """The next octets, at most `count`, left where they are."""
        return self._data[self._at : self._at + count]

    def take(self, count: int) -> bytes:
        """The next octets, at most `count`."""
        start = self._at
        self._at = min(start + count, len(self._data))
        self._searched = 0
        return self._data if start == 0 and self._at == len(self._data) else self._data[start : self._at]

    def put_back(self, count: int) -> None:
        """Undoes the end of the last `take`: `count` octets are here again."""
        self._at -= count

    def drop(self, keep: int = 0) -> None:
        """Forgets everything but the last `keep` octets."""
        self._at = max(self._at, len(self._data) - keep)
        self._searched = 0


class Fault(Enum):
    """Why something that was received is no line."""

    TOO_LONG = auto()
    NO_CRLF = auto()


class LineReader:
    """Cuts lines of bounded length out of a buffer.

    A line ends with CRLF. A lone LF or CR does not end it: taking it for a line end is how commands are
    smuggled. A line that is too long, or that waits for a CRLF behind a lone LF, is reported once, at once,
    and skipped to its end, in bounded memory.
    """

    __slots__ = ("_buffer", "_skipping", "faulty")

    def __init__(self, buffer: Buffer) -> None:
        self._buffer = buffer
        self._skipping = False
        self.faulty = b""
        """How the line began that was reported last."""

    def next(self, limit: int, limits: dict[bytes, int]) -> bytes | Fault | None:
        """The next line, a fault, or None when more octets are needed.

        `limit` is in octets without the CRLF; `limits` has the larger ones of certain verbs.
        """
        buffer = self._buffer
        line = buffer.line()
        if self._skipping:
            if line is None:
                buffer.drop(keep=1)
                return None
            self._skipping = False
            line = buffer.line()
        if line is not None:
            if len(line) > limit and len(line) > limits.get(line[:4].upper(), 0):
                return self._fault(Fault.TOO_LONG, line)
            return self._fault(Fault.NO_CRLF, line) if b"\n" in line or b"\r" in line else line
        if not buffer:
            return None
        if len(buffer) > max(limit, limits.get(buffer.peek(4).upper(), 0)) + 1:
            self._skipping = True
            return self._fault(Fault.TOO_LONG, buffer.peek(4))
        if b"\n" in buffer.peek(len(buffer)):
            self._skipping = True
            return self._fault(Fault.NO_CRLF, buffer.peek(4))
        return None

    def _fault(self, fault: Fault, line: bytes) -> Fault:
        self.faulty = line[:4]
        return fault
