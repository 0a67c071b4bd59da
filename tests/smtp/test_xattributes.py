"""The attributes of XCLIENT and XFORWARD."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from waypost.smtp import commands as c
from waypost.smtp.wire import CommandError, encode, parse
from waypost.smtp.xattributes import (
    AttributeSyntaxError,
    address_text,
    known,
    parse_address,
    parse_attributes,
    parse_port,
)

NAMES = st.sampled_from(["NAME", "ADDR", "PORT", "PROTO", "HELO", "LOGIN", "SOURCE", "IDENT"])
VALUES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60).filter(str.isprintable)


@given(st.dictionaries(NAMES, VALUES, min_size=1))
@example({"LOGIN": "a+b=c d", "HELO": "caf\u00e9.example"})
def test_what_is_written_is_read(attributes: dict[str, str]) -> None:
    for make in (c.Xclient, c.Xforward):
        command = make(tuple(attributes.items()))
        line = encode(command)
        assert line.endswith(b"\r\n")
        assert line[:-2].isascii()
        assert parse(line[:-2]) == command


PIECES = st.sampled_from(["ADDR=", "+41", "+", "=", " ", "x", "\u0663", "[UNAVAILABLE]"])


@given(st.text(max_size=80) | st.lists(PIECES).map("".join))
def test_no_text_raises_anything_else(text: str) -> None:
    for read in (parse_attributes, parse_address, parse_port):
        try:
            read(text)
        except AttributeSyntaxError:
            pass
    try:
        parse(b"XCLIENT " + text.encode("utf-8", "backslashreplace"))
    except CommandError:
        pass


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8::7", "IPV6:2001:db8::7"),
        ("fe80::7%eth0", "IPV6:fe80::7"),
        ("", ""),
        ("unknown", ""),
    ],
)
def test_addresses(address: str, text: str) -> None:
    assert address_text(address) == text
    if text:
        assert parse_address(text) == address.partition("%")[0]
    assert parse_address("IPv6:::ffff:192.0.2.7") == "192.0.2.7"


@pytest.mark.parametrize("text", [None, "", "[UNAVAILABLE]", "[TEMPUNAVAIL]"])
def test_what_is_not_known(text: str | None) -> None:
    assert known(text) is None
    assert known("x") == "x"
