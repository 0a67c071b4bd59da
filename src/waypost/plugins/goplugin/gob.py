"""Go's encoding of values: the types that are spoken of, and how values are written.

Follows the documentation of Go's package `encoding/gob`. A stream is a row of messages, each with its length in front.
A type is described once, before the first value that needs it; from then on it is called by its number. Only what
net/rpc and smtpmux's selectors need is written; what is read is `waypost.plugins.goplugin.ungob`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum


class Builtin(IntEnum):
    """The types that need no description, by their number."""

    BOOL = 1
    INT = 2
    UINT = 3
    FLOAT = 4
    BYTES = 5
    STRING = 6
    COMPLEX = 7
    INTERFACE = 8


class Shape(IntEnum):
    """What a described type is, by its field in a description (`wireType` in Go)."""

    ARRAY = 0
    SLICE = 1
    STRUCT = 2
    MAP = 3
    ENCODER = 4
    BINARY_MARSHALER = 5
    TEXT_MARSHALER = 6


@dataclass(frozen=True, slots=True)
class Struct:
    """A struct, with the name and type of each field."""

    name: str
    fields: tuple[tuple[str, "Type"], ...]


@dataclass(frozen=True, slots=True)
class Slice:
    """A slice of values of one type."""

    element: "Type"


Type = Builtin | Struct | Slice

FIRST_ID = 65
"""The number of the first type that is described; those below belong to the format itself."""


class GobError(Exception):
    """Octets that are not what Go writes, or a value that is none of its type."""


class Encoder:
    """One direction of one stream: knows which types it has described."""

    def __init__(self) -> None:
        self._ids: dict[Struct | Slice, int] = {}

    def encode(self, kind: Type, value: object) -> bytes:
        """The messages that carry a value, descriptions of types included. Raises `GobError`."""
        # What is no struct is written as if it were the only field of one, without a number and without an end. It is
        # written first: after an error nothing is taken for described.
        written = _value(kind, value) if isinstance(kind, Struct) else b"\x00" + _value(kind, value)
        described: list[bytes] = []
        number = self._number(kind, described)
        return b"".join(described) + _message(integer(number) + written)

    def _number(self, kind: Type, described: list[bytes]) -> int:
        if isinstance(kind, Builtin):
            return kind
        known = self._ids.get(kind)
        if known is not None:
            return known
        number = self._ids[kind] = FIRST_ID + len(self._ids)
        place = len(described)
        if isinstance(kind, Struct):
            fields = [(name, self._number(field, described)) for name, field in kind.fields]
            description = _struct_description(kind.name, number, fields)
        else:
            description = _slice_description(number, self._number(kind.element, described))
        described.insert(place, _message(integer(-number) + description))
        return number


def unsigned(value: int) -> bytes:
    """An unsigned integer: small ones in one octet, others with the number of their octets, inverted, in front."""
    if value < 0x80:
        return bytes((value,))
    octets = value.to_bytes((value.bit_length() + 7) // 8, "big")
    return bytes((0x100 - len(octets),)) + octets


def integer(value: int) -> bytes:
    """A signed integer: its sign is the lowest bit."""
    return unsigned(~value << 1 | 1 if value < 0 else value << 1)


def text(value: str) -> bytes:
    """A string with its length."""
    try:
        octets = value.encode("utf-8")
    except UnicodeEncodeError:
        raise GobError("a text with half a character in it") from None
    return unsigned(len(octets)) + octets


def _message(content: bytes) -> bytes:
    return unsigned(len(content)) + content


def _value(kind: Type, value: object) -> bytes:
    match kind, value:
        case Builtin.BOOL, bool():
            return unsigned(value)
        case Builtin.STRING, str():
            return text(value)
        case Builtin.INT, int() if -(1 << 63) <= value < 1 << 63:
            return integer(value)
        case Builtin.UINT, int() if 0 <= value < 1 << 64:
            return unsigned(value)
        case Struct(), Mapping():
            return _struct(kind, value)
        case Slice(), Sequence() if not isinstance(value, str | bytes):
            return unsigned(len(value)) + b"".join(_value(kind.element, item) for item in value)
    raise GobError(f"a value of {type(value).__name__} where {kind} is written")


def _struct(kind: Struct, value: Mapping[object, object]) -> bytes:
    """The fields, each with its distance from the one before; those that are zero or empty are left out."""
    written, last = [], -1
    for place, (name, field) in enumerate(kind.fields):
        given = value[name]
        if given or isinstance(field, Struct):
            written.append(unsigned(place - last) + _value(field, given))
            last = place
    return b"".join(written) + b"\x00"


def _common(name: str, number: int) -> bytes:
    """A type's name and number (`CommonType` in Go), as the first field of a description."""
    named = b"\x01" + text(name) + b"\x01" if name else b"\x02"
    return b"\x01" + named + integer(number) + b"\x00"


def _struct_description(name: str, number: int, fields: Sequence[tuple[str, int]]) -> bytes:
    rows = b"".join(b"\x01" + text(field) + b"\x01" + integer(kind) + b"\x00" for field, kind in fields)
    listed = b"\x01" + unsigned(len(fields)) + rows if fields else b""
    return unsigned(Shape.STRUCT + 1) + _common(name, number) + listed + b"\x00\x00"


def _slice_description(number: int, element: int) -> bytes:
    return unsigned(Shape.SLICE + 1) + _common("", number) + b"\x01" + integer(element) + b"\x00\x00"
