"""Defects S4 (every line that begins `From: ` was rewritten), S5 and S6 (logins as senders, lost null senders)."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.mail.address_map import AddressMap
from waypost.mail.content import MemoryContent
from waypost.mail.header import Header
from waypost.mail.rewrite import Rewrite
from waypost.mail.rewrite import rewritten as apply
from waypost.smtp.address import NULL, Address

NEW = Address("me", "provider.example")
BODY = b"\r\nFrom: the body\r\nfrom: too\r\n..\r\n"


def rewritten(data, address=NEW):
    """The message, from `address` instead of its author."""
    return changed(data, everybody(address))


def everybody(address):
    addresses = AddressMap((("*", address),))
    return Rewrite(envelope=addresses, author=addresses)


def changed(data, rewrite):
    change = apply(MemoryContent(data), rewrite)
    return data if change is None else b"".join(change.content.chunks())


def result(field):
    """What becomes of one From field in the midst of others."""
    before, after = b"Subject: hello\r\n", b"To: x@y\r\n" + BODY
    out = rewritten(before + field + after)
    assert out.startswith(before)
    assert out.endswith(after)
    return out[len(before) : -len(after)]


def test_s4_only_the_header_section_is_rewritten():
    data = b"From: bob@x\r\n\r\nFrom: bob@x\r\n>From: bob@x\r\n\r\nFrom: bob@x\r\n"
    assert rewritten(data) == b"From: me@provider.example\r\nReply-To: bob@x\r\n" + data[len(b"From: bob@x\r\n") :]


def test_s4_a_folded_field_is_replaced_as_a_whole():
    assert result(b"From: Bob\r\n the Builder\r\n\t<bob@x>\r\n") == (
        b"From: Bob\r\n the Builder <me@provider.example>\r\nReply-To: Bob\r\n the Builder\r\n\t<bob@x>\r\n"
    )


def test_s4_any_spelling_of_the_name_is_the_field():
    for name in (b"from:", b"FROM:", b"From :", b"From\t:", b"From: "):
        assert result(name + b"bob@x\r\n").startswith(b"From: me@provider.example\r\nReply-To:")
    assert (
        result(b"From-Line: x\r\nX-From: y\r\nResent-From: z@z\r\n")
        == b"From-Line: x\r\nX-From: y\r\nResent-From: z@z\r\n"
    )


def test_s5_only_an_address_replaces_an_address():
    for login in (Address("apikey", ""), NULL):
        with pytest.raises(ValueError, match="not a whole address"):
            everybody(login).reverse_path(Address("bob", "x"))
        with pytest.raises(ValueError, match="not a whole address"):
            rewritten(b"From: bob@x\r\n\r\n", login)
    assert everybody(NEW).reverse_path(Address("bob", "x")) == NEW


def test_s6_the_null_reverse_path_stays_null():
    assert everybody(NEW).reverse_path(NULL) == NULL


@pytest.mark.parametrize(
    ("value", "author"),
    [
        (b"Bob <bob@x>", b"Bob <me@provider.example>"),
        (b"<bob@x>", b"me@provider.example"),
        (b"bob@x", b"me@provider.example"),
        (b'"Bob, \\"B\\"" <bob@x>', b'"Bob, \\"B\\"" <me@provider.example>'),
        (b"=?utf-8?q?B=C3=B6b=2C?= <bob@x>", b"=?utf-8?q?B=C3=B6b=2C?= <me@provider.example>"),
        ("Böb <bob@x>".encode(), "Böb <me@provider.example>".encode()),
        (b"bob@x (Bob (the) Builder)", b"me@provider.example (Bob (the) Builder)"),
        (b"(Bob) bob@x", b"me@provider.example (Bob)"),
        (b"(Bob) <bob@x>", b"me@provider.example (Bob)"),
        (b"Bob (at work) <bob@x> (really)", b"Bob (at work) <me@provider.example>"),
        (b"(Dr.) Bob <bob@x>", b"(Dr.) Bob <me@provider.example>"),
        (b"J. R. Bob <bob@x>", b"J. R. Bob <me@provider.example>"),
        (b"a@x, Bob <bob@x>, Cy <c@x>", b"Bob <me@provider.example>"),
        (b"Team: Bob <bob@x>, c@x;", b"Team <me@provider.example>"),
        (b'Bob <"a>, b"@x>', b"Bob <me@provider.example>"),
        (b"bob@x <bob@x>", b'"bob@x" <me@provider.example>'),
        (b"Re: Bob <bob@x>", b'"Re: Bob" <me@provider.example>'),
        (b'"Bob <bob@x>', b'"Bob" <me@provider.example>'),
        (b"(Bob <bob@x>", b'"(Bob" <me@provider.example>'),
        (b"Bob <bob@x", b"Bob <me@provider.example>"),
        (b"Bob\\ <bob@x>", b'"Bob" <me@provider.example>'),
    ],
)
def test_the_display_name_is_kept_and_the_old_value_becomes_reply_to(value, author):
    assert result(b"From: " + value + b"\r\n") == b"From: " + author + b"\r\nReply-To: " + value + b"\r\n"


@pytest.mark.parametrize("value", [b"", b" ", b"nobody", b"<>", b"undisclosed:;", b"<apikey>", b",,,", b"((("])
def test_a_value_without_an_address_is_no_reply_to(value):
    assert b"Reply-To" not in result(b"From: " + value + b"\r\n")


def test_a_reply_to_of_the_author_stays():
    for name in (b"Reply-To: ", b"reply-to : "):
        old = b"Subject: x\r\nFrom: Bob <bob@x>\r\n" + name + b"list@x\r\n" + BODY
        assert rewritten(old) == old.replace(b"Bob <bob@x>", b"Bob <me@provider.example>")


def test_further_from_fields_are_dropped():
    data = b"A: 1\r\nFrom: bob@x\r\nB: 2\r\nfrom: cy@x\r\n folded\r\nC: 3\r\nFROM: d@x\r\nD: 4\r\n" + BODY
    assert rewritten(data) == (
        b"A: 1\r\nFrom: me@provider.example\r\nReply-To: bob@x\r\nB: 2\r\nC: 3\r\nD: 4\r\n" + BODY
    )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\r\nFrom: bob@x\r\n",
        b"Hello,\r\nFrom: bob@x\r\n\r\n",
        b"Subject: x\r\n\r\nFrom: bob@x\r\n",
        b"Subject: x\r\ngarbage\r\nFrom: bob@x\r\n\r\n",
        b"From: Me <ME@Provider.example>\r\n" + BODY,
    ],
)
def test_a_message_without_a_from_field_or_with_the_right_one_stays_the_same(data):
    assert apply(MemoryContent(data), everybody(NEW)) is None


def test_a_header_only_and_a_last_line_without_crlf():
    assert rewritten(b"From: bob@x\r\n") == b"From: me@provider.example\r\nReply-To: bob@x\r\n"
    assert rewritten(b"From: bob@x") == b"From: me@provider.example\r\nReply-To: bob@x\r\n"
    assert apply(MemoryContent(b"From: bob@x"), everybody(NEW)).content.ends_line


def test_lines_that_fitted_still_fit():
    for value in (b"b" * 990 + b"@x", b" " + b"n" * 980 + b" <b@x>", b" a@x,\r\n " + b"n" * 980 + b"\r\n <b@x>"):
        out = result(b"From:" + value + b"\r\n")
        assert max(map(len, out.split(b"\r\n"))) <= 998
        assert [f.name for f in Header(out).fields()] == [b"From", b"Reply-To"]


def test_hostile_values_are_read_in_no_time():
    for part in (b"(", b'"', b"[", b"<", b"\\", b'"\\', b"(\\", b":", b",", b"()", b"=?", b"\r\n "):
        for count in (1000, 500_000):
            result(b"From: " + part * count + b"bob@x\r\n")


OTHERS = st.lists(
    st.sampled_from(
        [b"To: x", b"..dotted: 1", b"X:", b"Y: 1\r\n From: fold", b"Fromage: 1", b"Z: \xff\x00", b"Z: a\rb"]
    )
).map(lambda lines: b"".join(line + b"\r\n" for line in lines))
VALUES = st.one_of(
    st.binary(max_size=60),
    st.text('ab@<>"\\(),;: \r\n.=?\0', max_size=60).map(str.encode),
)


@given(OTHERS, st.sampled_from([b"From:", b"from :"]), VALUES, OTHERS, st.binary(max_size=40))
def test_every_octet_outside_stays_and_what_is_new_is_well_formed(before, name, value, after, body):
    # A value is anything that does not end the field: folds go on with white space.
    value = re.sub(rb"\r\n(?![ \t])", b"\r\n ", value + b"\r\n")[:-3]
    tail = after + b"\r\n" + body
    out = rewritten(before + name + value + b"\r\n" + tail)
    assert out.startswith(before)
    assert out.endswith(tail)
    new = out[len(before) : len(out) - len(tail)]
    assert new.endswith(b"\r\n")
    lines = new[:-2].split(b"\r\n")
    if new != name + value + b"\r\n":  # else the address was the right one already
        assert not any(b"\r" in line or b"\n" in line for line in lines)
        assert not any(line.startswith(b".") or not line for line in lines)
        assert [f.name for f in Header(new).fields()] in ([b"From"], [b"From", b"Reply-To"])
        assert new.count(b"me@provider.example") == 1
