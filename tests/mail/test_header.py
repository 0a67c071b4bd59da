import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.mail.content import MemoryContent
from waypost.mail.header import LIMIT, Header, read_header, unfolded

ORDINARY = (
    b"From: a@b\r\nReceived: one\r\n two\r\nSubject:\t hello \r\n\t there\r\nreceived : two\r\n\r\nReceived: body\r\n"
)


def names(header):
    return [field.name for field in header.fields()]


def test_fields_come_with_their_folded_lines():
    header = Header(ORDINARY)
    assert [ORDINARY[f.start : f.end] for f in header.fields()] == [
        b"From: a@b\r\n",
        b"Received: one\r\n two\r\n",
        b"Subject:\t hello \r\n\t there\r\n",
        b"received : two\r\n",
    ]
    assert names(header) == [b"From", b"Received", b"Subject", b"received"]
    assert ORDINARY[header.end :] == b"\r\nReceived: body\r\n"


def test_counting_stops_at_the_empty_line_and_ignores_case_and_space_before_the_colon():
    header = Header(ORDINARY)
    assert header.count(b"received") == 2
    assert header.has(b"from")
    assert not header.has(b"date")
    assert not header.has(b"ece")


def test_the_first_value_is_unfolded():
    assert Header(ORDINARY).first(b"subject") == b"hello \t there"
    assert Header(ORDINARY).first(b"date") is None


@pytest.mark.parametrize(
    ("content", "expected", "end"),
    [
        (b"", [], 0),
        (b"\r\nFrom: a@b\r\n", [], 0),  # an empty header section
        (b"Hello Bob,\r\nFrom: now on\r\n\r\n", [], 26),  # no header at all
        (b" folded: from nothing\r\n\r\n", [], 23),
        (b"A: 1\r\nB: 2\r\n", [b"A", b"B"], 12),  # a header only
        (b"A: 1\r\nB: 2", [b"A", b"B"], 10),  # by BDAT, without a last CRLF
        (b"A: 1\r\nB: 2\r\n three", [b"A", b"B"], 18),
        (b"A: 1\r\n \r\nB: 2\r\n\r\n", [b"A", b"B"], 15),  # a fold of white space only is no empty line
        (b"A: 1\r\ngarbage\r\nB: 2\r\n\r\n", [b"A"], 21),
        (b"A: 1\r\n..B: dot-stuffed\r\nC: 3\r\n\r\n", [b"A", b".B", b"C"], 30),
        (b"A: 1\r\n: nameless\r\nC: 3\r\n\r\n", [b"A"], 24),
        (b"A\xe9: 1\r\n\r\n", [], 7),
        (b"\r\n\r\n", [], 0),
    ],
)
def test_odd_sections(content, expected, end):
    header = Header(content)
    assert names(header) == expected
    assert header.end == end
    assert header.complete


def test_a_line_that_was_cut_off_is_no_field():
    for cut in (b"A: 1\r\nB: 2", b"A: 1\r\nB: 2\r", b"A: 1\r\nB: 2\r\n", b"A: 1\r\nB: 2\r\n more\r\n"):
        header = Header(cut, whole=False)
        assert names(header) == [b"A"]
        assert not header.complete
    assert Header(b"A: 1\r\n\r\nrest", whole=False).complete


def test_a_long_section_is_found_and_an_endless_one_is_cut():
    long = b"A: 1\r\n" * 20_000
    assert read_header(MemoryContent(long + b"\r\n")).count(b"a") == 20_000
    endless = read_header(MemoryContent(b"A: 1\r\n" * (LIMIT // 6 + 10)))
    assert not endless.complete
    assert endless.end == LIMIT


@pytest.mark.parametrize(
    ("value", "expected"),
    [(b" a\r\n b\r\n", b"a b"), (b"\r\n a", b"a"), (b"a\r\n\t\r\n b", b"a\t b"), (b" a\rb\nc\r\n", b"a b c")],
)
def test_unfolding(value, expected):
    assert unfolded(value) == expected


LINES = st.lists(st.sampled_from([b"A: 1", b"Received: x", b" fold", b"", b"garbage", b"..B: 2", b"B :", b"\r", b"\n"]))


@given(LINES, st.booleans())
def test_any_lines_are_read_without_overlap_and_inside_the_section(lines, whole):
    head = b"\r\n".join(lines)
    header = Header(head, whole=whole)
    at = 0
    for field in header.fields():
        assert field.start == at
        assert field.start < field.value <= field.end <= header.end <= len(head)
        assert b"\r\n\r\n" not in head[field.start : field.end]
        at = field.end
    fields = sum(field.name.lower() == b"received" for field in header.fields())
    assert fields <= header.count(b"received")


@given(st.binary(max_size=60))
def test_any_octets_are_read(head):
    header = Header(head)
    list(header.fields())
    assert header.first(b"a") is None or header.has(b"a")


PIECES = st.sampled_from(
    [
        b"From",
        b"a",
        b":",
        b": ",
        b"\r\n",
        b"\r\n ",
        b"\t",
        b".",
        b"..",
        b"\r",
        b"\n",
        b"\xe9",
        b"\r\n\r\n",
        b"from:y\r\n",
    ]
)


@given(st.lists(PIECES, max_size=16).map(b"".join), st.booleans())
def test_fields_are_the_same_however_they_are_asked_for(head, whole):
    header = Header(head, whole=whole)
    fields = list(header.fields())
    assert list(header.named(b"from", b"a")) == [field for field in fields if field.name.lower() in (b"from", b"a")]
    assert header.texts() == [(head[f.start : f.end].removesuffix(b"\r\n"), f.name) for f in fields]
    assert not whole or header.fields_end == (fields[-1].end if fields else 0)
    assert [field.start for field in fields] == [0, *(field.end for field in fields)][: len(fields)]
