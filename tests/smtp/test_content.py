"""Content on the wire: its end, its dots, its line ends, for any octets in any split."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp.examples import clean_content, content, examples, in_pieces, pieces_of
from waypost.smtp.content import DotReader, Inspector, LineEnds, Stuffer, unstuffed

END = b"\r\n.\r\n"


def stuffed(pieces: list[bytes]) -> bytes:
    stuffer = Stuffer()
    return b"".join(stuffer.stuff(piece) for piece in pieces)


def read(pieces: list[bytes]) -> tuple[bytes, bytes | None]:
    """What a DotReader gives, and what is behind the end, or None when it does not come."""
    reader, found = DotReader(), b""
    for index, piece in enumerate(pieces):
        given_out, behind = reader.read(piece)
        found += given_out
        if behind >= 0:
            assert behind <= len(piece)
            return found, piece[len(piece) - behind :] + b"".join(pieces[index + 1 :])
    return found, None


def repaired(pieces: list[bytes]) -> bytes:
    ends = LineEnds()
    return b"".join([ends.repair(piece) for piece in pieces] + [ends.repair(b"", True)])


def first_end(data: bytes) -> tuple[bytes, bytes | None]:
    """The same as `read`, by definition: the first CRLF.CRLF, with a line end as if before the first octet."""
    at = (b"\r\n" + data).find(END)
    return (data, None) if at < 0 else (data[:at], data[at + 3 :])


@examples(400)
@given(in_pieces(content))
def test_the_end_is_found_in_any_split_and_nowhere_else(case: tuple[bytes, list[bytes]]) -> None:
    data, pieces = case
    wanted, behind = first_end(data)
    found, rest = read(pieces)
    assert rest == behind
    if behind is None:  # a dot that may turn out to be the final one is held back
        assert wanted.startswith(found)
        assert wanted[len(found) :] in (b"", b".", b".\r")
    else:
        assert found == wanted


@examples(300)
@given(st.lists(st.sampled_from([b".", b"..", b"\r\n", b"\n", END, b"\r\n.", b"x" * 5000]), max_size=60))
def test_the_end_is_found_in_long_pieces_whatever_the_number_of_dots(parts: list[bytes]) -> None:
    data = b"".join((b"y" * 5000, *parts))
    wanted, behind = first_end(data)
    found, rest = read([data])
    assert rest == behind
    assert wanted.removeprefix(found) in ((b"",) if behind is not None else (b"", b".", b".\r"))


@examples(300)
@given(in_pieces(content))
def test_what_is_stuffed_has_no_end_in_it_and_comes_back_as_it_was(case: tuple[bytes, list[bytes]]) -> None:
    data, pieces = case
    wire = stuffed(pieces)
    assert wire == stuffed([data])
    assert END not in b"\r\n" + wire
    assert b"".join(unstuffed([wire])) == data


@examples(300)
@given(in_pieces(content))
def test_dots_are_taken_off_alike_in_any_split(case: tuple[bytes, list[bytes]]) -> None:
    wire, pieces = case
    assert b"".join(unstuffed(pieces)) == b"".join(unstuffed([wire]))


@examples(200)
@given(content, st.data())
def test_stuffed_content_travels_by_data_and_comes_back(original: bytes, data: st.DataObject) -> None:
    wire = stuffed([original])
    whole = wire + (b"" if wire.endswith(b"\r\n") or not wire else b"\r\n")
    found, behind = read(data.draw(pieces_of(whole + b".\r\nQUIT\r\n")))
    assert behind == b"QUIT\r\n"
    assert b"".join(unstuffed([found])) == original + whole[len(wire) :]


@examples(400)
@given(in_pieces(content))
def test_repaired_content_has_no_bare_line_end_and_no_end_in_it(case: tuple[bytes, list[bytes]]) -> None:
    original, cuts = case
    wire = stuffed([original])
    found = repaired([wire])
    assert repaired(_cut_alike(wire, cuts)) == found
    assert b"\r" not in found.replace(b"\r\n", b"")
    assert b"\n" not in found.replace(b"\r\n", b"")
    assert END not in b"\r\n" + found
    wanted = original.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
    assert b"".join(unstuffed([found])) == wanted


def _cut_alike(data: bytes, cuts: list[bytes]) -> list[bytes]:
    """`data` in pieces as long as those of `cuts`, as far as they go."""
    at, pieces = 0, []
    for each in cuts:
        pieces.append(data[at : at + len(each)])
        at += len(each)
    return [*pieces, data[at:]]


@examples(200)
@given(clean_content, st.data())
def test_repair_leaves_clean_content_alone(original: bytes, data: st.DataObject) -> None:
    wire = stuffed([original])
    assert repaired(data.draw(pieces_of(wire))) == wire


def inspected(pieces: list[bytes], *, size: int = 1000, line: int = 1000, repair: bool = False) -> Inspector:
    inspector = Inspector(size, line, repair)
    for piece in pieces:
        inspector.look(piece)
    inspector.look(b"", True)
    return inspector


@examples(400)
@given(in_pieces(content))
def test_bare_line_ends_and_nul_are_found_in_any_split(case: tuple[bytes, list[bytes]]) -> None:
    data, pieces = case
    bare = b"\r" in data.replace(b"\r\n", b"") or b"\n" in data.replace(b"\r\n", b"")
    finding = inspected(pieces).finding
    assert (finding is not None) == (bare or b"\0" in data)
    assert finding is None or (finding.code, finding.enhanced) == (550, (5, 6, 0))
    if b"\0" not in data:
        assert inspected(pieces, repair=True).finding is None


@examples(300)
@given(clean_content, st.integers(0, 12), st.data())
def test_long_lines_are_found_in_any_split(text: bytes, limit: int, data: st.DataObject) -> None:
    longest = max(len(line) for line in text.split(b"\r\n"))
    last = len(text) - text.rfind(b"\r\n") - 2 if b"\r\n" in text else len(text)
    inspector = inspected(data.draw(pieces_of(text)), line=limit)
    if inspector.finding is None:
        # A last line without an end, possible by BDAT alone, may be two octets longer: its CRLF has not come.
        assert longest <= limit or (last == longest and last <= limit + 2)
    else:
        assert longest > limit
        assert (inspector.finding.code, inspector.finding.enhanced) == (554, (5, 6, 0))


@examples(200)
@given(clean_content, st.integers(0, 30), st.data())
def test_size_is_counted_in_any_split(text: bytes, limit: int, data: st.DataObject) -> None:
    finding = inspected(data.draw(pieces_of(text)), size=limit).finding
    assert (finding is not None) == (len(text) > limit)
    assert finding is None or (finding.code, finding.enhanced) == (552, (5, 3, 4))


def test_nothing_is_let_through_after_a_finding() -> None:
    inspector = Inspector(1000, 1000, repair=False)
    assert inspector.look(b"a\r\n") == b"a\r\n"
    assert inspector.look(b"\n") == b""
    assert inspector.look(b"b\r\n", True) == b""


@pytest.mark.parametrize(("octets", "fits"), [(10, True), (11, False)])
def test_a_line_may_be_as_long_as_the_limit(octets: int, fits: bool) -> None:
    for pieces in ([b"x" * octets + b"\r\n"], [b"x"] * octets + [b"\r", b"\n"], [b"a\r\n", b"x" * octets, b"\r\n"]):
        assert (inspected(pieces, line=10).finding is None) == fits
