"""Rewriting by pattern, Sender, and fields that are added and removed."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.mail.added import added_field
from waypost.mail.address_map import AddressMap, agree, matches
from waypost.mail.authors import read_authors
from waypost.mail.content import MemoryContent
from waypost.mail.dkim import body_start, broken_signatures
from waypost.mail.header import Header, read_header
from waypost.mail.rewrite import Rewrite, author_of, authors_of, is_aligned, rewritten
from waypost.smtp.address import NULL, Address, parse_mailbox

BODY = b"\r\nFrom: bob@old.example\r\n..\r\n"


def addresses(**pairs):
    """`old_example="*@new.example"` maps a domain; `every` is the pattern `*`."""
    return AddressMap(
        tuple(
            ("*" if name == "every" else f"*@{name.replace('_', '.')}", parse_mailbox(new))
            for name, new in pairs.items()
        )
    )


MOVED = Rewrite(author=addresses(old_example="*@new.example"))
ONE = Rewrite(author=addresses(every="me@new.example"))


def result(data, rewrite):
    change = rewritten(MemoryContent(data + BODY), rewrite)
    if change is None:
        return data
    out = b"".join(change.content.chunks())
    assert out.endswith(BODY)
    assert change.content.head(len(out)) == out
    return out.removesuffix(BODY)


# -- patterns


@pytest.mark.parametrize(
    ("pattern", "address", "fits"),
    [
        ("*", "a@b", True),
        ("*@b.example", "A@B.Example", True),
        ("b.example", "a@b.example", True),
        ("@b.example", "a@b.example.", True),
        ("*@b.example", "a@c.b.example", False),
        ("*@*.b.example", "a@c.b.example", True),
        ("*.b.example", "a@b.example", False),
        ("a@b.example", "A@b.example", True),
        ("a@b.example", "x@b.example", False),
        ('"a@b"@c.example', '"A@b"@c.example', True),
    ],
)
def test_patterns(pattern, address, fits):
    assert matches(pattern, parse_mailbox(address)) is fits


def test_the_first_pattern_that_matches_decides():
    mapped = addresses(a_example="*@b.example", every="x@y.example")
    assert mapped.of(Address("n", "a.example")) == Address("n", "b.example")
    assert mapped.of(Address("n", "c.example")) == Address("x", "y.example")
    assert mapped.of(NULL) == NULL
    assert mapped.fixed is None
    same = Address("n", "b.example")
    assert addresses(b_example="*@b.example").of(same) is same


def test_what_agrees():
    assert agree("a.example", "A.example.")
    assert agree("bounces.a.example", "a.example")
    assert agree("a.example", "bounces.a.example")
    assert not agree("xa.example", "a.example")
    assert not agree("b.example", "a.example")


# -- From


@pytest.mark.parametrize(
    ("value", "new"),
    [
        (b"Bob <bob@old.example>", b"Bob <bob@new.example>"),
        (b"bob@OLD.example (Bob)", b"bob@new.example (Bob)"),
        (
            b"A <a@old.example>, b@x.example, C <c@old.example>",
            b"A <a@new.example>,\r\n b@x.example,\r\n C <c@new.example>",
        ),
        (b"T: a@old.example, b@old.example;", b"a@new.example,\r\n b@new.example"),
        (b'"x, y" <"q@r"@old.example>, <bad address>', b'"x, y" <"q@r"@new.example>'),
        ("Böb <böb@old.example>".encode(), "Böb <böb@new.example>".encode()),
        (b"a@old.example, A@old.example", b"a@new.example"),
    ],
)
def test_authors_are_mapped_one_by_one(value, new):
    field = b"From: " + value + b"\r\n"
    assert result(field, MOVED) == b"From: " + new + b"\r\nReply-To: " + value + b"\r\n"


def test_several_from_fields_become_one_when_one_is_mapped():
    data = b"From: a@x.example\r\nSubject: x\r\nFrom: b@old.example\r\n"
    assert result(data, MOVED) == (b"From: a@x.example,\r\n b@new.example\r\nReply-To: a@x.example\r\nSubject: x\r\n")


@pytest.mark.parametrize(
    "data",
    [
        b"From: bob@x.example\r\n",
        b"From: Bob <bob@sub.old.example>\r\n",
        b"From: bob @ old.example\r\n",
        b"From: nobody\r\n",
        b"From: " + b"a@old.example, " * 400 + b"\r\n",  # longer than anybody reads
        b"Subject: a@old.example\r\n",
        b"",
    ],
)
def test_what_no_pattern_matches_stays(data):
    assert result(data, MOVED) == data


def test_the_original_is_dropped_where_that_is_wanted():
    rewrite = Rewrite(author=ONE.author, keep_reply_to=False)
    assert result(b"From: Bob <bob@x>\r\n", rewrite) == b"From: Bob <me@new.example>\r\n"


def test_a_name_on_a_line_of_just_the_length_that_is_allowed_stays_whole_among_others():
    long = b"n" * 990
    out = result(b"From:" + long + b" <a@x.example>, " + b"m" * 990 + b" <b@old.example>\r\n", MOVED)
    lines = out.split(b"\r\n")
    assert [field.name for field in Header(out).fields()] == [b"From", b"Reply-To"]
    assert all(line.startswith((b"From:", b"Reply-To:", b" ")) for line in lines[:-1])


# -- Sender


@pytest.mark.parametrize(
    ("rewrite", "before", "after"),
    [
        (ONE, b"From: a@x\r\nSender: b@x\r\n", b"From: me@new.example\r\nReply-To: a@x\r\n"),
        (MOVED, b"From: a@old.example\r\nSender: S <s@old.example>\r\n", None),
        (MOVED, b"Sender: s@x\r\n", b"Sender: s@x\r\n"),
        (MOVED, b"Sender: nobody\r\n", b"Sender: nobody\r\n"),
        (Rewrite(sender=addresses(every="s@y")), b"From: a@x\r\n", b"Sender: s@y\r\nFrom: a@x\r\n"),
        (Rewrite(sender=addresses(every="s@y")), b"From: s@y\r\n", b"From: s@y\r\n"),
        (Rewrite(sender=addresses(every="s@y")), b"Sender: S <o@x>\r\nsender: p@x\r\n", b"Sender: S <s@y>\r\n"),
        (Rewrite(sender=addresses(x="*@y")), b"From: a@x\r\n", b"From: a@x\r\n"),
        (Rewrite(sender=addresses(x="*@y")), b"From: a@x\r\nSender: b@x\r\n", b"From: a@x\r\nSender: b@y\r\n"),
    ],
)
def test_sender(rewrite, before, after):
    if after is None:
        after = b"From: a@new.example\r\nReply-To: a@old.example\r\nSender: S <s@new.example>\r\n"
    assert result(before, rewrite) == after


# -- added and removed


def test_fields_are_removed_before_others_are_added():
    rewrite = Rewrite(
        add=(b"Reply-To: desk@x\r\n", b"X-App: shop\r\n", b"Subject: none\r\n"), remove=("reply-to", "x-int*")
    )
    before = b"Received: 1\r\nX-Internal: 1\r\n folded\r\nFrom: a@b\r\nreply-to: c@d\r\nSubject: s\r\nX-INT-2: 3\r\n"
    assert result(before, rewrite) == (b"Received: 1\r\nReply-To: desk@x\r\nX-App: shop\r\nFrom: a@b\r\nSubject: s\r\n")


def test_a_reply_to_of_ours_does_not_join_the_author_s():
    rewrite = Rewrite(author=ONE.author, add=(b"Reply-To: desk@x\r\n",))
    assert result(b"From: a@b\r\n", rewrite) == b"From: me@new.example\r\nReply-To: a@b\r\n"


@pytest.mark.parametrize(
    ("data", "out"),
    [
        (b"\r\nbody", b"X: 1\r\n\r\nbody"),
        (b"", b""),
        (b"text\r\n\r\nmore", b"text\r\n\r\nmore"),
        (b"Received: 1\r\n\r\nbody", b"Received: 1\r\nX: 1\r\n\r\nbody"),
        (b"Received: 1", b"X: 1\r\nReceived: 1"),
        (b"DKIM-Signature: 1\r\nA: 1", b"DKIM-Signature: 1\r\nX: 1\r\nA: 1"),
    ],
)
def test_where_a_field_is_added(data, out):
    change = rewritten(MemoryContent(data), Rewrite(add=(b"X: 1\r\n",)))
    assert (data if change is None else b"".join(change.content.chunks())) == out


@pytest.mark.parametrize(
    "header",
    [
        b"x-a:\r\n" * 150_000,
        b"from: a@old.example\r\n" * 40_000,
        b"sender: a@old.example\r\n" * 40_000,
        b"DKIM-Signature: d=a; h=from:x-a\r\n" * 25_000,
        b"DKIM-Signature: a" + b"\r\n " * 300_000 + b"a\r\n",
        b"DKIM-Signature: " + b"a" * 900_000 + b"\r\n",
        b"DKIM-Signature: d=a; h=" + b"x:" * 200_000 + b"from\r\n" + b"x:\r\n" * 100_000,
        (b"From: " + b"[" * 4_000 + b"\r\n") * 240,
        (b"From: " + b'\\"' * 2_000 + b"\r\n") * 240,
        b"x-" + b"-a" * 400_000 + b": 1\r\n",
        b"From: " + b"a@old.example, " * 270 + b"\r\n",
    ],
)
def test_hostile_headers_cost_no_more_than_they_are_long(header):
    rewrite = Rewrite(author=MOVED.author, add=(b"X: 1\r\n",), remove=("x-*-*-*b", "x-a", "x*a"))
    content = MemoryContent(b"From: b@old.example\r\n" + header + BODY)
    began = time.process_time()
    change = rewritten(content, rewrite)
    broken_signatures(change.before, change.after)
    is_aligned(Address("x", "y.example"), change.after)
    authors_of(change.after)
    assert time.process_time() - began < 3  # seconds, on a machine that has other work


def test_fields_that_nobody_asks_for_cost_next_to_nothing():
    content = MemoryContent(b"From: b@old.example\r\n" + b"x-a:\r\n" * 150_000 + BODY)
    began = time.process_time()
    change = rewritten(content, MOVED)
    is_aligned(Address("x", "y.example"), change.after)
    authors_of(change.after)
    assert body_start(change.after)
    assert time.process_time() - began < 0.7  # seconds; with a step for each field it is two


def test_a_field_of_a_megabyte_is_no_trouble():
    large = b"X-Large: " + b"x" * 500_000 + b"\r\n"
    assert result(large + b"From: a@old.example\r\n" + large, MOVED) == (
        large + b"From: a@new.example\r\nReply-To: a@old.example\r\n" + large
    )
    beyond = b"X-Large: " + b"x" * 1_100_000 + b"\r\nFrom: a@old.example\r\n"
    assert result(beyond, MOVED) == beyond


@pytest.mark.parametrize("text", ["shop", "a b " * 60, "é" * 200, "x" * 900, "grüße an " * 30, "😀" * 50])
def test_added_fields_fit_their_lines(text):
    field = added_field("X-Application", text)
    assert field.isascii()
    assert field.endswith(b"\r\n")
    lines = field.removesuffix(b"\r\n").split(b"\r\n")
    assert all(line.startswith(b" ") and line.strip() for line in lines[1:])
    assert max(map(len, lines)) <= (78 if max(map(len, text.split())) < 60 or not text.isascii() else 998)
    from email import message_from_bytes, policy

    shown = message_from_bytes(field + b"\r\n", policy=policy.default)["X-Application"]
    assert "".join(shown.split()) == "".join(text.split())


# -- properties

FIELDS = st.lists(
    st.sampled_from(
        [
            b"From: a@old.example", b"from : Bob\r\n <b@old.example>", b"FROM:c@x", b"From: ", b"Sender: s@old.example",
            b"sender:x", b"Reply-To: r@x", b"Subject: s", b"X-Gone: 1\r\n\tmore", b"x-gone :", b"Received: x",
            b"..dot: 1", b"Z: \xff\x00", b"DKIM-Signature: v=1; d=a; h=from; b=",
        ]
    ),
    max_size=7,
).map(lambda lines: b"".join(line + b"\r\n" for line in lines))  # fmt: skip
REWRITES = st.builds(
    Rewrite,
    author=st.sampled_from([AddressMap(), MOVED.author, ONE.author]),
    sender=st.sampled_from([None, ONE.author, MOVED.author]),
    keep_reply_to=st.booleans(),
    add=st.sampled_from([(), (b"X-App: 1\r\n",), (b"Subject: 2\r\n", b"X-App: 1\r\n")]),
    remove=st.sampled_from([(), ("x-gone",), ("reply-to", "x-*")]),
)
TOUCHED = {b"from", b"sender", b"reply-to", b"x-gone", b"x-app", b"subject"}


@given(FIELDS, st.sampled_from([b"\r\n", b"\r\nFrom: x\r\n..\r\n", b"no field\r\nFrom: a@old.example\r\n"]), REWRITES)
def test_fields_that_are_not_touched_and_the_body_stay_octet_by_octet(header, rest, rewrite):
    data = header + rest
    change = rewritten(MemoryContent(data), rewrite)
    if change is None:
        return
    out = b"".join(change.content.chunks())
    assert out.endswith(rest)
    assert out != data
    after = Header(out[: -len(rest)] + b"\r\n")
    before = Header(header + b"\r\n")
    assert untouched(after) == untouched(before)
    names = [field.name.lower() for field in after.fields()]
    assert sum(field.end - field.start for field in after.fields()) == len(out) - len(rest)  # nothing else got in
    if rewrite.author.fixed:
        assert names.count(b"from") <= 1
    assert "x-gone" not in rewrite.remove or b"x-gone" not in names
    assert not re.search(rb"[^\r]\n|\r[^\n]", out.replace(b"\xff\x00", b""))
    # Nothing is left to be done: addresses are mapped once, even on the way through a second upstream like this.
    again = rewritten(change.content, Rewrite(author=rewrite.author, sender=rewrite.sender))
    assert again is None


def untouched(header):
    return [header.head[field.start : field.end] for field in header.fields() if field.name.lower() not in TOUCHED]


def test_alignment_of_a_message():
    header = read_header(MemoryContent(b"From: a@b.example\r\n\r\n"))
    assert author_of(header) == Address("a", "b.example")
    assert is_aligned(Address("x", "bounces.b.example"), header)
    assert not is_aligned(Address("x", "c.example"), header)
    assert is_aligned(NULL, header)
    assert is_aligned(Address("x", "c.example"), read_header(MemoryContent(b"Subject: x\r\n\r\n")))


@pytest.mark.parametrize("value", [b"[" * 4_000, b'\\"' * 2_000, b"[\\" * 2_000, b'"' + b'\\"' * 2_000])
def test_what_is_opened_and_never_closed_is_looked_for_once(value):
    began = time.process_time()
    for _ in range(50):
        read_authors(value)
    assert time.process_time() - began < 2  # seconds
