"""Go's encoding of values: the examples of its documentation, round trips, and octets of all kinds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.plugins.goplugin.gob import Builtin, Encoder, GobError, Slice, Struct, Type, integer, unsigned
from waypost.plugins.goplugin.ungob import MAX_MESSAGE, Decoder

POINT = Struct("Point", (("X", Builtin.INT), ("Y", Builtin.INT)))


def decoded(data: bytes) -> list[object]:
    return list(Decoder().receive(data))


@pytest.mark.parametrize(
    ("value", "octets"),
    [(0, "00"), (7, "07"), (127, "7f"), (128, "ff80"), (256, "fe0100"), ((1 << 64) - 1, "f8ffffffffffffffff")],
)
def test_unsigned_integers_are_written_as_documented(value: int, octets: str) -> None:
    assert unsigned(value).hex() == octets


@pytest.mark.parametrize(
    ("value", "octets"), [(0, "00"), (-129, "fe0101"), (1, "02"), (-1, "01"), (-(1 << 63), "f8ffffffffffffffff")]
)
def test_signed_integers_are_written_as_documented(value: int, octets: str) -> None:
    assert integer(value).hex() == octets


def test_the_documented_example_of_a_struct() -> None:
    # "type Point struct { X, Y int }" with 22 and 33: the octets that the documentation of encoding/gob shows.
    described = bytes.fromhex("1fff8103010105506f696e7401ff82000102010158010400010159010400000007ff82012c014200")
    assert decoded(described) == [{"X": 22, "Y": 33}]


def test_a_type_is_described_once_in_a_stream() -> None:
    encoder = Encoder()
    first = encoder.encode(POINT, {"X": 22, "Y": 33})
    second = encoder.encode(POINT, {"X": 0, "Y": -5})
    assert len(second) < len(first)
    assert decoded(first + second) == [{"X": 22, "Y": 33}, {"Y": -5}]


def test_a_struct_without_fields() -> None:
    assert decoded(Encoder().encode(Struct("", ()), {})) == [{}]


# -- properties

_BUILTINS: dict[Builtin, st.SearchStrategy[object]] = {
    Builtin.BOOL: st.booleans(),
    Builtin.INT: st.integers(-(1 << 63), (1 << 63) - 1),
    Builtin.UINT: st.integers(0, (1 << 64) - 1),
    Builtin.STRING: st.text("a\0é€𝄞", max_size=50),
}
_NAMES = st.text("AbÄ", max_size=3)


def _larger(inner: st.SearchStrategy[Type]) -> st.SearchStrategy[Type]:
    fields = st.lists(st.tuples(_NAMES, inner), max_size=4, unique_by=lambda found: found[0])
    return st.builds(Slice, inner) | st.builds(lambda name, found: Struct(name, tuple(found)), _NAMES, fields)


TYPES = st.recursive(st.sampled_from(list(_BUILTINS)), _larger, max_leaves=6)


def values(kind: Type) -> st.SearchStrategy[object]:
    match kind:
        case Builtin():
            return _BUILTINS[kind]
        case Slice():
            return st.lists(values(kind.element), max_size=4)
        case Struct():
            return st.fixed_dictionaries({name: values(field) for name, field in kind.fields})


def as_read(kind: Type, value: object) -> object:
    """What is read of what was written: fields that are zero or empty are not there."""
    if isinstance(kind, Slice):
        assert isinstance(value, list)
        return [as_read(kind.element, item) for item in value]
    if isinstance(kind, Struct):
        assert isinstance(value, dict)
        given = {name: (field, value[name]) for name, field in kind.fields}
        return {
            name: as_read(field, item) for name, (field, item) in given.items() if item or isinstance(field, Struct)
        }
    return value


PAIRS = TYPES.flatmap(lambda kind: st.tuples(st.just(kind), values(kind)))


@given(pairs=st.lists(PAIRS, max_size=4), size=st.integers(1, 40))
def test_what_was_written_is_read_in_any_pieces(pairs: list[tuple[Type, object]], size: int) -> None:
    encoder, decoder = Encoder(), Decoder()
    data = b"".join(encoder.encode(kind, value) for kind, value in pairs)
    found = [value for at in range(0, len(data), size) for value in decoder.receive(data[at : at + size])]
    assert found == [as_read(kind, value) for kind, value in pairs]


@given(pieces=st.lists(st.binary(max_size=300), max_size=4))
def test_any_octets_are_values_or_a_gob_error(pieces: list[bytes]) -> None:
    decoder = Decoder()
    try:
        for piece in pieces:
            list(decoder.receive(piece))
    except GobError:
        pass  # the one error there may be


@given(pair=PAIRS, at=st.integers(0), octet=st.integers(0, 255), cut=st.booleans())
def test_a_damaged_stream_is_values_or_a_gob_error(pair: tuple[Type, object], at: int, octet: int, cut: bool) -> None:
    data = bytearray(Encoder().encode(*pair))
    place = at % len(data)
    data[place] = octet
    try:
        decoded(bytes(data[:place] if cut else data))
    except GobError:
        pass  # the one error there may be


# -- lies


def message(content: bytes) -> bytes:
    return unsigned(len(content)) + content


LIES = {
    "a message that is too long": unsigned(MAX_MESSAGE + 1),
    "a length of eight octets": b"\xf8" + bytes(8),
    "a type that nobody described": message(integer(70) + b"\x00\x00"),
    "an interface": message(integer(Builtin.INTERFACE) + b"\x00\x00"),
    "a hundred thousand strings in a few octets": Encoder().encode(Slice(Builtin.STRING), [])[:-5]
    + message(integer(65) + b"\x00" + unsigned(100_000)),
    "a type that is described twice": Encoder().encode(Slice(Builtin.STRING), []) * 2,
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_a_gob_error(lie: str) -> None:
    with pytest.raises(GobError):
        decoded(LIES[lie])


def test_a_type_that_contains_itself_is_read_only_so_deep() -> None:
    # A slice of itself: `type T []T`, and a value of a thousand of them inside one another.
    described = integer(-65) + bytes.fromhex("02") + b"\x01\x02" + integer(65) + b"\x00\x01" + integer(65) + b"\x00\x00"
    content = integer(65) + b"\x00" + b"\x01" * 1000 + b"\x00"
    with pytest.raises(GobError, match="inside one another"):
        decoded(unsigned(len(described)) + described + unsigned(len(content)) + content)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Builtin.UINT, -1),
        (Builtin.UINT, 1 << 64),
        (Builtin.INT, 1 << 63),
        (Builtin.STRING, "\ud800"),
        (Builtin.STRING, 5),
        (Slice(Builtin.STRING), "text"),
    ],
)
def test_a_value_that_is_none_of_its_type_is_not_written(kind: Type, value: object) -> None:
    with pytest.raises(GobError):
        Encoder().encode(kind, value)
