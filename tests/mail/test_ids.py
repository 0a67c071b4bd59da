import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.mail.ids import LENGTH, make_id, read_id

MILLISECONDS = st.integers(0, 2**48 - 1)
RANDOM = st.integers(0, 2**32 - 1)


def test_an_id_is_sixteen_characters_of_crockfords_alphabet():
    assert make_id(0, 0) == "0" * LENGTH
    assert make_id(2**48 - 1, 2**32 - 1) == "Z" * LENGTH
    assert make_id(1, 0) == "0000000004000000"


@given(MILLISECONDS, RANDOM)
def test_an_id_reads_back(milliseconds, random_bits):
    text = make_id(milliseconds, random_bits)
    assert len(text) == LENGTH
    assert read_id(text) == (milliseconds, random_bits)
    assert read_id(text.lower()) == (milliseconds, random_bits)


@given(st.tuples(MILLISECONDS, RANDOM), st.tuples(MILLISECONDS, RANDOM))
def test_ids_sort_by_time(one, other):
    assert (make_id(*one) < make_id(*other)) == (one < other)


def test_letters_that_look_like_digits_are_those_digits():
    assert read_id("oooooooooooooOiL") == read_id("0000000000000011")


@pytest.mark.parametrize("text", ["", "0" * 15, "0" * 17, "U" * 16, "٠" * 16, "0000 00000000000"])
def test_what_is_no_id_is_refused(text):
    with pytest.raises(ValueError, match="message id"):
        read_id(text)
