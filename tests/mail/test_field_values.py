"""What rules see of header fields: ordinary ones, encoded ones, and those that were made to hurt."""

import base64
import encodings
import quopri

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from waypost.mail.field_values import LONGEST, MOST, FieldValues, decoded
from waypost.mail.header import Header, unfolded


def values(head: bytes, name: str) -> tuple[str, ...]:
    return FieldValues(Header(head)).of(name)


@pytest.mark.parametrize(
    ("written", "seen"),
    [
        (b"hello", "hello"),
        (b"  spaces around \t", "spaces around"),
        (b"folded\r\n and\r\n\tagain", "folded and\tagain"),
        ("smörgås".encode(), "smörgås"),
        (b"sm\xf6rg\xe5s", "smörgås"),
        (b"=?utf-8?Q?sm=C3=B6rg=C3=A5s_bord?=", "smörgås bord"),
        (b"=?UTF-8?b?c23DtnJnw6Vz?= now", "smörgås now"),
        (b"=?iso-8859-1?q?a?= =?iso-8859-1?q?b?=", "ab"),  # white space between words is not theirs
        (b"=?utf-8?q?a?=\r\n =?utf-8?b?Yg==?= c =?utf-8?q?d?=", "ab c d"),
        (b"=?utf-8?b?w7Y?=", "ö"),  # without its padding
        (b"=?utf-8?b?w?=",) * 2,
        (b"=?utf-8?q?=C3?= =?utf-8?q?=B6?=", "ö"),  # one letter over two words: wrong, and everywhere
        (b"=?utf-8*de?q?hallo?=", "hallo"),  # RFC 2231 section 5
        (b"=?gb2312?b?xOO6ww==?=", "你好"),
        (b"=?ks_c_5601-1987?b?vsiz5w==?=", "안녕"),
        (b"=?no-such-set?q?x?=", "=?no-such-set?q?x?="),
        (b"=?hex?q?78?= =?rot13?q?uryyb?= =?unicode_escape?q?=5Cx41?=",) * 2,
        (b"=?utf-8?x?abc?=",) * 2,
        (b"=?utf-8?b?!!!?=",) * 2,
        (b"=?utf-8?q?a b?=",) * 2,
        (b"=?utf-8?q?=FF=zz?=", "\xff=zz"),
        (b"a=?utf-8?q?b?=c", "abc"),
        (b"=?utf-8?q??=", ""),
        (b"", ""),
    ],
)
def test_a_value(written: bytes, seen: str | bytes) -> None:
    expected = seen.decode() if isinstance(seen, bytes) else seen
    assert values(b"Subject: " + written + b"\r\n\r\n", "subject") == (expected,)


def test_every_field_of_a_name_counts_in_any_case_and_no_line_behind_the_header() -> None:
    head = b"X-A: 1\r\nx-a : 2\r\nX-B: 3\r\nX-A:\r\n 4\r\n\r\nX-A: 5\r\n"
    found = FieldValues(Header(head))
    assert found.of("x-a") == ("1", "2", "4")
    assert found.of("x-b") == ("3",)
    assert found.of("x-c") == ()


def test_no_codec_is_looked_for_that_a_stranger_names() -> None:
    before = set(encodings._cache)  # type: ignore[attr-defined]  # there is no other way to see what was looked for
    for number in range(50):
        assert decoded(b"=?made-up-%d?q?x?=" % number) == f"=?made-up-{number}?q?x?="
    assert set(encodings._cache) == before  # type: ignore[attr-defined]


PIECES = [
    b"A",
    b"x-b",
    b":",
    b" ",
    b"\t",
    b"\r",
    b"\n",
    b"\r\n",
    b"\r\n ",
    b".",
    b"..",
    b"\xff",
    b"\0",
    b"A: b\r\n",
    b"\r\n\r\n",
]


@settings(max_examples=1000)
@given(st.lists(st.sampled_from(PIECES), max_size=20).map(b"".join), st.booleans())
def test_the_fields_are_those_of_the_header(head: bytes, whole: bool) -> None:
    header = Header(head, whole=whole)
    found: dict[str, tuple[str, ...]] = {}
    for field in header.fields():
        value = decoded(unfolded(head[field.value : field.end]))
        name = field.name.decode().lower()
        found[name] = (*found.get(name, ()), value)
    values = FieldValues(header)
    assert {name: values.of(name) for name in {*found, "a", "x-b", ".a"}} == found | {
        name: found.get(name, ()) for name in ("a", "x-b", ".a")
    }


@given(st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=40), st.sampled_from("bq"))
def test_what_was_encoded_is_seen(text: str, encoding: str) -> None:
    octets = text.encode()
    if encoding == "b":
        word = base64.b64encode(octets)
    else:
        word = quopri.encodestring(octets, quotetabs=True, header=True).replace(b"=\n", b"").replace(b"?", b"=3F")
    assert decoded(b"=?utf-8?" + encoding.encode() + b"?" + word + b"?=") == text


@given(
    st.lists(
        st.sampled_from([b"=?", b"?=", b"?", b"utf-8", b"q", b"b", b"=C3", b"w7Y=", b" ", b"x", b"\xff", b"\r\n "])
    )
)
def test_nothing_makes_it_fail(parts: list[bytes]) -> None:
    head = b"Subject: " + b"".join(parts) + b"\r\n\r\n"
    for value in values(head, "subject"):
        assert isinstance(value, str)


def test_what_is_looked_at_is_bounded() -> None:
    head = b"".join(b"X-A: %d\r\n" % number for number in range(1000)) + b"X-B: " + b"x" * 100_000 + b"\r\n\r\n"
    found = FieldValues(Header(head))
    assert found.of("x-a") == tuple(map(str, range(MOST)))
    assert len(found.of("x-b")[0]) == LONGEST - 1  # the space before it is not its own


@pytest.mark.parametrize("part", [b"a:\r\n", b"a:\r\n b\r\n", b"x: =?utf-8?q?y?=\r\n", b"a", b"a: \r", b"\r\n"])
def test_a_header_of_a_mebibyte_takes_a_moment(part: bytes) -> None:
    found = FieldValues(Header(b"X-A: 1\r\n" + part * (1_000_000 // len(part)), whole=False))
    assert found.of("x-a")[:1] in ((), ("1",))
    assert found.of("x-b") == ()


@pytest.mark.parametrize("part", [b"=?", b"=?a?b?", b"=?utf-8?q?x", b"=?utf-8?q?x?=", b"?=", b"=", b" "])
def test_a_long_value_takes_a_time_in_proportion(part: bytes) -> None:
    decoded(part * (1_000_000 // len(part)))


def test_what_strangers_order_is_bounded_for_all_fields_of_a_name_together() -> None:
    line = b"X-A: " + b"a" * 40_000 + b"\r\n"
    found = FieldValues(Header(line * 20))
    assert [len(value) for value in found.of("x-a")] == [40_000, LONGEST - 40_001 - 1]
