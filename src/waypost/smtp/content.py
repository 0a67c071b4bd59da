"""Content on the wire: where it ends, and whether it may be passed on.

Content ends at CRLF.CRLF and nowhere else (RFC 5321 section 4.1.1.4). Every tolerance here, a bare LF taken
for a line end, a dot between other line ends, is how messages were smuggled in 2023 and 2024
(CVE-2023-51764, -51765, -51766, CVE-2024-27305).
"""

import io
import re
from collections.abc import Iterable, Iterator

from waypost.smtp.reply import Reply, reply

_END = b"\r\n.\r\n"
_FEW_DOTS = 16  # in a piece, up to which looking for each costs less than looking for the whole end
_LONG = 4096  # octets of a piece from which that pays


def _find_end(data: bytes) -> int:
    """Where the end of content is in `data`, or -1.

    What is long is mostly base64, which has no dot in it: one octet is found forty times faster than five.
    """
    if len(data) < _LONG:
        return data.find(_END)
    at = data.find(b".")
    for _ in range(_FEW_DOTS):
        if at < 0:
            return -1
        if at >= 2 and data.startswith(_END, at - 2):
            return at - 2
        at = data.find(b".", at + 1)
    return -1 if at < 0 else data.find(_END, max(0, at - 2))


class DotReader:
    """Finds the end of content that came after DATA.

    Gives the content in wire form, the CRLF before the final dot included, the final dot not. A dot that may
    be the final one is held back until that is known.
    """

    __slots__ = ("_held", "_tail")

    def __init__(self) -> None:
        self._tail = b"\r\n"  # the last octets seen; at the start, as if a line had just ended
        self._held = b""  # "." or ".\r" at the start of a line

    def read(self, data: bytes) -> tuple[bytes, int]:
        """The content in `data`, and how many octets of `data` follow its end, or -1 when that has not come."""
        tail = self._tail
        across = (tail + data[:4]).find(_END)
        if 0 <= across < len(tail):
            dot = across + 2 - len(tail)  # negative when the dot was held back: then it was not content
            return data[: max(0, dot)], len(data) - dot - 3
        at = _find_end(data)
        if at >= 0:
            return self._held + data[: at + 2], len(data) - at - 5
        return self._hold(data), -1

    def _hold(self, data: bytes) -> bytes:
        self._tail = tail = data[-4:] if len(data) >= 4 else (self._tail + data)[-4:]
        held = b"." if tail.endswith(b"\r\n.") else b".\r" if tail.endswith(b"\r\n.\r") else b""
        if not held and not self._held:
            return data
        all_of_it = self._held + data
        self._held = held
        return all_of_it[: len(all_of_it) - len(held)]


class Stuffer:
    """Brings content that came by BDAT, which is not dot-stuffed, into wire form."""

    __slots__ = ("_tail",)

    def __init__(self) -> None:
        self._tail = b"\r\n"

    def stuff(self, data: bytes) -> bytes:
        """`data` with a dot added before each dot that begins a line."""
        tail, self._tail = self._tail, data[-2:] if len(data) >= 2 else (self._tail + data)[-2:]
        stuffed = data.replace(b"\r\n.", b"\r\n..")
        if data[:1] == b"." and tail == b"\r\n":
            return b"." + stuffed
        if data[:2] == b"\n." and tail[-1:] == b"\r":
            return b"\n." + stuffed[1:]
        return stuffed


def unstuffed(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Content in wire form as BDAT carries it: without the dots that were added."""
    tail = b"\r\n"  # a line end is kept back, so that the dot after it is never in another chunk
    virtual = 2
    for chunk in chunks:
        joined = tail + chunk
        kept = 2 if joined.endswith(b"\r\n") else 1 if joined.endswith(b"\r") else 0
        cut = len(joined) - kept
        tail = joined[cut:]
        plain = joined[:cut].replace(b"\r\n.", b"\r\n")[virtual:]
        if cut:
            virtual = 0
        if plain:
            yield plain
    if tail[virtual:]:
        yield tail[virtual:]


_LINE_END = re.compile(rb"\r\n|\r|\n")


class LineEnds:
    """Turns bare CR and LF into CRLF, in content in wire form.

    A line that only now begins with a dot is stuffed, or the repair would itself make an end of content.
    """

    __slots__ = ("_at_start", "_carriage_return", "_was_start")

    def __init__(self) -> None:
        self._carriage_return = b""
        self._was_start = True  # what came so far ended a line, on the wire
        self._at_start = True  # what was given so far ends a line

    def repair(self, piece: bytes, final: bool = False) -> bytes:
        """The next piece, repaired. A CR at its end waits for what follows, unless this is the end."""
        piece = self._carriage_return + piece
        self._carriage_return = b""
        if piece.endswith(b"\r") and not final:
            piece, self._carriage_return = piece[:-1], b"\r"
        if not piece:
            return piece
        was_start, self._was_start = self._was_start, piece.endswith(b"\r\n")
        plain = piece.replace(b"\r\n.", b"\r\n")
        if was_start and plain[:1] == b".":
            plain = plain[1:]
        at_start = self._at_start
        repaired = _LINE_END.sub(b"\r\n", plain)
        if repaired:
            self._at_start = repaired.endswith(b"\r\n")
        stuffed = repaired.replace(b"\r\n.", b"\r\n..")
        return b"." + stuffed if at_start and stuffed[:1] == b"." else stuffed


class Inspector:
    """Looks at content as it passes: size, line length, NUL, bare CR and LF.

    After the first finding nothing more is let through; the rest is only drained, so that the session stays
    in step (RFC 5321 section 4.1.1.4). With `repair`, bare CR and LF are turned into CRLF instead.
    """

    __slots__ = ("_line", "_line_ends", "_max_line", "_max_size", "_newlines", "_size", "finding")

    def __init__(self, max_size: int, max_line: int, repair: bool) -> None:
        self._max_size = max_size
        self._max_line = max_line
        self._size = 0
        self._line = 0  # octets of the line that is under way
        # It knows LF, CR and CRLF apart at memory speed and across pieces; nothing else in the standard
        # library does, short of three passes.
        self._newlines = io.IncrementalNewlineDecoder(None, translate=False)
        self._line_ends = LineEnds() if repair else None
        self.finding: Reply | None = None

    def look(self, piece: bytes, final: bool = False) -> bytes:
        """What of `piece` may be kept: all of it, or nothing once there is a finding."""
        if self.finding is not None:
            return b""
        if self._line_ends is not None:
            piece = self._line_ends.repair(piece, final)
        self._size += len(piece)
        if self._size > self._max_size:
            self.finding = reply(552, "5.3.4", f"The message is larger than {self._max_size} octets")
        elif b"\0" in piece:
            self.finding = reply(550, "5.6.0", "The content has a NUL octet in it")
        elif self._bare(piece, final):
            self.finding = reply(550, "5.6.0", "The content has a bare CR or LF in it; lines end with CRLF")
        elif self._too_long(piece):
            self.finding = reply(554, "5.6.0", f"The content has a line longer than {self._max_line} octets")
        return piece if self.finding is None else b""

    def _bare(self, piece: bytes, final: bool) -> bool:
        self._newlines.decode(piece.decode("latin-1"), final)
        return self._newlines.newlines not in ("\r\n", None)

    def _too_long(self, piece: bytes) -> bool:
        limit = self._max_line + 2
        if self._line + len(piece) <= limit:  # then no line in it can be, and only the last one matters
            last = piece.rfind(b"\n")
            self._line = self._line + len(piece) if last < 0 else len(piece) - last - 1
            return False
        start = -self._line
        while len(piece) - start > limit:
            last = piece.rfind(b"\n", max(0, start), start + limit)
            if last < 0:
                return True
            start = last + 1
        last = piece.rfind(b"\n", max(0, start))
        self._line = len(piece) - (start if last < 0 else last + 1)
        return False
