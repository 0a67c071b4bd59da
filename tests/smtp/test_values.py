"""Values that are made for every message are as good as any frozen dataclass."""

from dataclasses import dataclass, field, replace

from waypost.smtp.values import quick


@quick
@dataclass(frozen=True, slots=True)
class Plain:
    first: int
    second: str = "two"
    third: list[int] = field(default_factory=list, compare=False)
    hidden: bytes = field(default=b"", init=False, repr=False, compare=False)


def test_fields_have_what_was_given_or_their_defaults() -> None:
    value = Plain(1, third=[3])
    assert (value.first, value.second, value.third, value.hidden) == (1, "two", [3], b"")
    assert Plain(1).third is not Plain(1).third


def test_equality_hash_repr_and_replace_are_those_of_a_frozen_dataclass() -> None:
    assert Plain(1) == Plain(1, third=[9]) != Plain(2)
    assert len({Plain(1), Plain(1), Plain(2)}) == 2
    assert repr(Plain(1)) == "Plain(first=1, second='two', third=[])"
    assert replace(Plain(1), second="2") == Plain(1, "2")


def test_there_is_no_room_for_anything_else() -> None:
    assert not hasattr(Plain(1), "__dict__")
