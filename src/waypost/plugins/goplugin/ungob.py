"""Reads Go's encoding of values (`encoding/gob`), from whoever sends it: nothing is believed, and everything bounded.

Values come as Python's: a struct is a dict of the fields that are not zero, a slice or array a list, a map a list of
pairs. A type that encodes itself comes as bytes. Interfaces, which would name types that only Go knows, are refused.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from waypost.plugins.goplugin.gob import FIRST_ID, Builtin, GobError, Shape

MAX_MESSAGE = 32 * 1024
"""Octets of one message; a selector's answer has a few hundred, and reading this many takes milliseconds."""

MAX_TYPES = 200
"""Types that a stream may describe."""

MAX_FIELDS = 200
"""Fields of one struct."""

MAX_DEPTH = 20
"""Values inside one another."""


@dataclass(frozen=True, slots=True)
class _Described:
    """A described type: the numbers of its parts, and for a struct the names of its fields."""

    shape: Shape
    parts: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    length: int = 0


@dataclass(slots=True)
class _Reader:
    """The content of one message, from left to right."""

    data: bytes
    at: int = 0

    @property
    def left(self) -> int:
        return len(self.data) - self.at

    def take(self, octets: int) -> bytes:
        if octets > self.left:
            raise GobError("a message ends before its value does")
        self.at += octets
        return self.data[self.at - octets : self.at]

    def unsigned(self) -> int:
        first = self.take(1)[0]
        if first < 0x80:
            return first
        octets = 0x100 - first
        if octets > 8:
            raise GobError("a number of more than eight octets")
        return int.from_bytes(self.take(octets), "big")

    def integer(self) -> int:
        value = self.unsigned()
        return ~(value >> 1) if value & 1 else value >> 1

    def count(self) -> int:
        """How many values follow. Each takes an octet at least, which bounds what a lie can cost."""
        count = self.unsigned()
        if count > self.left:
            raise GobError("a message ends before its value does")
        return count

    def octets(self) -> bytes:
        return self.take(self.count())

    def text(self) -> str:
        """A string. Go's need not be UTF-8: other octets are shown as in a literal, and match nothing."""
        return self.octets().decode("utf-8", "backslashreplace")


@dataclass(slots=True)
class Decoder:
    """One direction of one stream. After a `GobError` it is of no use any more."""

    _buffer: bytearray = field(default_factory=bytearray)
    _types: dict[int, _Described] = field(default_factory=dict)

    def receive(self, data: bytes) -> Iterator[object]:
        """The values that are complete with `data`. Raises `GobError`."""
        self._buffer += data
        while (content := self._message()) is not None:
            reader = _Reader(content)
            number = reader.integer()
            if number < 0:
                self._describe(-number, reader)
            else:
                yield self._top(number, reader)
            if reader.left:
                raise GobError("a message goes on after its value")

    def _message(self) -> bytes | None:
        """The next message, when it is complete."""
        if not self._buffer:
            return None
        octets = 0x100 - self._buffer[0] if self._buffer[0] >= 0x80 else 0
        if octets > 3:
            raise GobError(f"a message of more than {MAX_MESSAGE} octets")
        if len(self._buffer) < 1 + octets:
            return None
        length = int.from_bytes(self._buffer[1 : 1 + octets], "big") if octets else self._buffer[0]
        if length > MAX_MESSAGE:
            raise GobError(f"a message of more than {MAX_MESSAGE} octets")
        end = 1 + octets + length
        if len(self._buffer) < end:
            return None
        content = bytes(self._buffer[1 + octets : end])
        del self._buffer[:end]
        return content

    # -- values

    def _top(self, number: int, reader: _Reader) -> object:
        known = self._types.get(number)
        if (known is None or known.shape is not Shape.STRUCT) and reader.unsigned() != 0:
            raise GobError("a single value that is written as a struct")
        return self._value(number, reader, 0)

    def _value(self, number: int, reader: _Reader, depth: int) -> object:
        if depth > MAX_DEPTH:
            raise GobError(f"more than {MAX_DEPTH} values inside one another")
        known = self._types.get(number)
        if known is None:
            return _builtin(number, reader)
        match known.shape:
            case Shape.STRUCT:
                return self._struct(known, reader, depth)
            case Shape.SLICE | Shape.ARRAY:
                count = reader.count()
                if known.shape is Shape.ARRAY and count != known.length:
                    raise GobError("an array that has not the length of its type")
                return [self._value(known.parts[0], reader, depth + 1) for _ in range(count)]
            case Shape.MAP:
                key, element = known.parts
                return [
                    (self._value(key, reader, depth + 1), self._value(element, reader, depth + 1))
                    for _ in range(reader.count())
                ]
            case _:
                return reader.octets()

    def _struct(self, known: _Described, reader: _Reader, depth: int) -> dict[str, object]:
        fields: dict[str, object] = {}
        place = -1
        while distance := reader.unsigned():
            place += distance
            if place >= len(known.parts):
                raise GobError("a field that its struct does not have")
            fields[known.names[place]] = self._value(known.parts[place], reader, depth + 1)
        return fields

    # -- descriptions

    def _describe(self, number: int, reader: _Reader) -> None:
        if number < FIRST_ID - 1 or number in self._types or len(self._types) >= MAX_TYPES:
            raise GobError("a type that cannot be described, or not again")
        try:
            shape = Shape(reader.unsigned() - 1)
        except ValueError:
            raise GobError("a type of an unknown shape") from None
        self._types[number] = _description(shape, reader)
        if reader.unsigned() != 0:
            raise GobError("a type of two shapes")


def _builtin(number: int, reader: _Reader) -> object:
    match number:
        case Builtin.BOOL:
            return reader.unsigned() != 0
        case Builtin.INT:
            return reader.integer()
        case Builtin.UINT:
            return reader.unsigned()
        case Builtin.FLOAT:
            return _float(reader)
        case Builtin.BYTES:
            return reader.octets()
        case Builtin.STRING:
            return reader.text()
        case Builtin.COMPLEX:
            return complex(_float(reader), _float(reader))
    raise GobError(f"a value of type {number}, which nobody has described")


def _float(reader: _Reader) -> float:
    """A float, whose octets come in reverse, so that the zeros at its end cost nothing."""
    found: float = struct.unpack("<d", reader.unsigned().to_bytes(8, "big"))[0]
    return found


def _description(shape: Shape, reader: _Reader) -> _Described:
    """The fields of `arrayType`, `sliceType`, `structType`, `mapType` or `gobEncoderType`; the first is the name."""
    numbers: dict[int, int] = {}
    rows: list[tuple[str, int]] = []
    for place in _places(reader):
        if place == 0:
            _named(reader)
        elif shape is Shape.STRUCT and place == 1:
            count = reader.count()
            if count > MAX_FIELDS:
                raise GobError(f"a struct of more than {MAX_FIELDS} fields")
            rows = [_named(reader) for _ in range(count)]
        elif (shape in (Shape.ARRAY, Shape.MAP) and place <= 2) or (shape is Shape.SLICE and place == 1):
            numbers[place] = reader.integer()
        else:
            raise GobError("a description with a field too many")
    match shape:
        case Shape.STRUCT:
            return _Described(shape, tuple(number for _, number in rows), tuple(name for name, _ in rows))
        case Shape.ARRAY:
            return _Described(shape, (numbers.get(1, 0),), length=numbers.get(2, 0))
        case Shape.MAP:
            return _Described(shape, (numbers.get(1, 0), numbers.get(2, 0)))
        case Shape.SLICE:
            return _Described(shape, (numbers.get(1, 0),))
        case _:
            return _Described(shape)


def _named(reader: _Reader) -> tuple[str, int]:
    """A name and a number: what every type begins with, and what a field of a struct is."""
    name, number = "", 0
    for place in _places(reader):
        if place == 0:
            name = reader.text()
        elif place == 1:
            number = reader.integer()
        else:
            raise GobError("a description with a field too many")
    return name, number


def _places(reader: _Reader) -> Iterator[int]:
    """The places of the fields of a struct that follow, until its end."""
    place = -1
    while distance := reader.unsigned():
        place += distance
        yield place
