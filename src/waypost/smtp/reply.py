"""Replies: what a server answers (RFC 5321 section 4.2, RFC 2034, RFC 3463)."""

import re
from dataclasses import dataclass, field

from waypost.smtp.values import quick

MAX_TEXT = 400
"""Octets of an upstream's text that are kept: enough for every provider's explanation, small enough to log."""

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")
_ENHANCED = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})(?:[ \t]+|$)", re.ASCII)

EnhancedCode = tuple[int, int, int]
"""An enhanced status code, class, subject and detail: `(5, 1, 1)` (RFC 3463)."""


@quick
@dataclass(frozen=True, slots=True)
class Reply:
    """One reply: a code, an enhanced status code if there is one, and lines of text without it."""

    code: int
    lines: tuple[str, ...]
    enhanced: EnhancedCode | None = None
    _wire: bytes = field(default=b"", init=False, repr=False, compare=False)

    @property
    def severity(self) -> int:
        """The first digit: 2 done, 3 go on, 4 transient, 5 permanent."""
        return self.code // 100

    @property
    def is_positive(self) -> bool:
        """Whether the command was carried out (2yz)."""
        return 200 <= self.code < 300

    @property
    def text(self) -> str:
        """The lines, joined by a space."""
        return " ".join(self.lines)

    def encode(self) -> bytes:
        """The reply as it goes on the wire, every line complete. Line breaks in the text cannot get through."""
        if not self._wire:  # most replies are said again and again
            prefix = _written(self.enhanced)
            *first, last = map(printable, self.lines or ("",))
            start = "".join(f"{self.code}-{prefix}{line}\r\n" for line in first)
            end = f"{self.code} {prefix}{last}"
            if self.code != 334:  # whose space is part of it, with an empty challenge too (RFC 4954 section 4)
                end = end.rstrip(" ")
            wire = f"{start}{end}\r\n".encode()
            object.__setattr__(self, "_wire", wire)
        return self._wire

    def __str__(self) -> str:
        prefix = _written(self.enhanced)
        return f"{self.code} {prefix}{self.text}".rstrip()


def _written(enhanced: EnhancedCode | None) -> str:
    return "" if enhanced is None else f"{enhanced[0]}.{enhanced[1]}.{enhanced[2]} "


def reply(code: int, enhanced: str | None, *lines: str) -> Reply:
    """A reply of ours, with the enhanced code written as text: `reply(250, "2.1.0", "OK")`."""
    if enhanced is None:
        return Reply(code, lines)
    a, b, c = enhanced.split(".")
    return Reply(code, lines, (int(a), int(b), int(c)))


def printable(text: str) -> str:
    """`text` with every run of control characters and line separators turned into one space."""
    return text if text.isascii() and text.isprintable() else _UNPRINTABLE.sub(" ", text)


def _without(enhanced: tuple[str, ...], line: str) -> str:
    found = _ENHANCED.match(line)
    return line[found.end() :] if found is not None and found.groups() == enhanced else line


def from_wire(code: int, raw_lines: list[bytes]) -> Reply:
    """A reply made from an upstream's octets: data, not protocol.

    Control characters go, the text is cut at `MAX_TEXT` octets in all, octets that are not UTF-8 are shown
    as `\\xNN`. The enhanced code is taken from the first line, when its class fits the reply code, and
    dropped from all.
    """
    lines = [printable(raw.decode("utf-8", "backslashreplace")).strip() for raw in raw_lines]
    enhanced: EnhancedCode | None = None
    found = _ENHANCED.match(lines[0])
    if found is not None and int(found[1]) == code // 100:
        enhanced = (int(found[1]), int(found[2]), int(found[3]))
        lines = [_without(found.groups(), line) for line in lines]
    kept: list[str] = []
    room = MAX_TEXT
    for line in lines:
        octets = line.encode("utf-8")
        if len(octets) > room:
            kept.append(octets[:room].decode("utf-8", "ignore"))
            break
        kept.append(line)
        room -= len(octets)
    return Reply(code, tuple(kept), enhanced)
