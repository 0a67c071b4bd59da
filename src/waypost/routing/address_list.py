"""Long lists of domains and addresses, from files with one entry a line: a look into a dict, however long they are.

example.com           every address in the domain; @example.com and *@example.com are the same
*.example.com         every address in a domain below it
bob@example.com       one address
<>                    the null reverse-path
# a comment, which may also stand behind an entry and a space: a local part may have a # in it
"""

import re
from dataclasses import dataclass

from waypost.routing.patterns import AddressPatterns
from waypost.smtp.address import Address

MAX_FILE = 256 * 1024 * 1024
"""Octets that nobody's list has."""

_MAX_BAD = 20
_COMMENT = re.compile(rb"(?:^|[ \t])#")


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that is no entry. Counted from 1."""

    number: int
    why: str


class ListError(ValueError):
    """A list with lines in it that are no entries; the first twenty of them."""

    def __init__(self, lines: tuple[BadLine, ...]) -> None:
        super().__init__("; ".join(f"line {line.number}: {line.why}" for line in lines))
        self.lines = lines


class AddressList:
    """The entries of one file, or of none. `stamp` is what the file looked like to the system."""

    __slots__ = ("_patterns", "count", "stamp")

    def __init__(self, entries: tuple[str, ...] = (), stamp: tuple[int, ...] = ()) -> None:
        self.count = len(entries)
        self.stamp = stamp
        self._patterns = AddressPatterns([entries]) if entries else None

    def __contains__(self, address: Address) -> bool:
        return self._patterns is not None and self._patterns.mask(address) != 0

    @classmethod
    def parse(cls, text: bytes, stamp: tuple[int, ...] = ()) -> "AddressList":
        """The list in a file's octets. Raises `ListError`."""
        entries: list[str] = []
        bad: list[BadLine] = []
        for number, line in enumerate(text.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
            try:
                entry = _COMMENT.split(line, 1)[0].strip(b" \t\r").decode()
            except UnicodeDecodeError:
                entry, why = "", "is not UTF-8"
            else:
                why = _fault(entry) if entry else ""
            if why:
                bad.append(BadLine(number, why))
                if len(bad) == _MAX_BAD:
                    break
            elif entry:
                entries.append(entry)
        if bad:
            raise ListError(tuple(bad))
        return cls(tuple(entries), stamp)


def _fault(entry: str) -> str:
    """What is wrong with an entry; empty when nothing is."""
    if entry == "<>":
        return ""
    shown = f"{entry[:60]!r}"
    local, _, domain = entry.rpartition("@")
    rest = domain.removeprefix("*.") if local in ("", "*") else domain
    if any(character <= " " or character == "\x7f" or character.isspace() for character in entry):
        return f"{shown} has a space or control character in it; write one entry a line"
    if "*" in rest or "?" in rest or ("*" in local and local != "*") or "?" in local:
        return f"{shown} is a pattern; a list has addresses, domains, and *.domain for those below one"
    if not rest or "<" in entry or ">" in entry or "#" in rest or rest.startswith(".") or ".." in rest:
        return f"{shown} is neither an address nor a domain"
    return ""
