"""SMTP smuggling: the second message never exists, whatever is taken elsewhere for an end of content.

The variants are those of 2023 and 2024 (CVE-2023-51764 Postfix, -51765 Sendmail, -51766 Exim, CVE-2024-27305
aiosmtpd) and their neighbours. Inbound they go through the server engine with the options of a relay and of a
submission listener; outbound, whatever was accepted goes through a strict and through a lenient reader of what
the next server would be sent.
"""

import re
from dataclasses import replace

import pytest
from hypothesis import given

from smtp.examples import content, examples
from smtp.serving import HELLO, OPTIONS, TRANSACTION, Serving, codes, lines
from waypost.mail.content import MemoryContent
from waypost.smtp import commands as c
from waypost.smtp.address import Address
from waypost.smtp.client import ClientEngine
from waypost.smtp.content import unstuffed
from waypost.smtp.order import ServerOptions

RELAY = OPTIONS
SUBMISSION = replace(OPTIONS, repair_line_ends=True)
LISTENERS = pytest.mark.parametrize("options", [RELAY, SUBMISSION], ids=["relay", "submission"])

VARIANTS = [
    b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r.\r\n", b"\r\n.\r", b"\r.\n", b"\n.\r", b"\n.\r\r\n",
    b"\r\n.\r\r\n",
    b"\r\r\n.\r\r\n", b"\r\n\0.\r\n", b"\r\n.\0\r\n", b"\r\n.\r\0\n", b"\r\0\n.\r\n", b"\0\r\n.\n", b"\n\n.\n\n",
    b"\n.\0\n", b"\r\n. \r\n", b"\r\n.\t\r\n", b"\r\n \r\n.\n", b"\x85.\x85", b"\x0b.\x0b", b"\x0c.\x0c",
    b"\xe2\x80\xa8.\xe2\x80\xa8", b"\r\n..\r\n", b"\r\n.\n.\r\n", b"\n\r.\n\r", b"\r\r.\r\r", b"\r\n.\r\n"[:4],
]  # fmt: skip
each_variant = pytest.mark.parametrize("variant", VARIANTS, ids=[repr(variant)[2:-1] for variant in VARIANTS])

SECOND = lines("MAIL FROM:<boss@example.com>", "RCPT TO:<victim@example.org>", "DATA", "Subject: smuggled", "", "x")
FIRST = lines("Subject: first", "", "text")

# What takes any of these for the end: every tolerance that was exploited.
LENIENT_END = re.compile(rb"(?:\r\n|\n|\r)\.(?:\r\n|\n|\r)")


def conversation(variant: bytes) -> bytes:
    return FIRST[:-2] + variant + SECOND


@LISTENERS
@each_variant
@pytest.mark.parametrize("split", [False, True], ids=["whole", "split"])
def test_the_second_message_never_exists(variant: bytes, options: ServerOptions, split: bool) -> None:
    serving = Serving(options)
    serving.feed(HELLO, TRANSACTION)
    serving.output = b""
    data = conversation(variant)
    serving.feed(*([data[at : at + 1] for at in range(len(data))] if split else [data]))
    assert serving.output == b"", "an answer before the real end"
    said = serving.feed(b"\r\n.\r\nNOOP\r\n")
    # One answer for the one message, and the session is in step behind it.
    faulty = b"\0" in variant or (options is RELAY and _bare(variant))
    assert codes(said) == [550 if faulty else 250, 250]
    assert len(serving.messages) == (0 if faulty else 1)
    assert sum(isinstance(each, c.Mail) for each in serving.trace) == 1
    if not faulty:
        assert b"smuggled" in serving.messages[0].content
        assert serving.messages[0].recipients[0].local == "b"


def _bare(data: bytes) -> bool:
    rest = data.replace(b"\r\n", b"")
    return b"\r" in rest or b"\n" in rest


def sent_upstream(wire: bytes) -> bytes:
    """What goes upstream for content that was accepted, by DATA: content, line end where it lacks one, dot."""
    content = MemoryContent(wire)
    client = ClientEngine()
    for answer, command in (
        (b"220 mx\r\n", c.Ehlo("c")), (b"250 mx\r\n", c.Mail(Address("a", "b.c"))),
        (b"250 OK\r\n", c.Rcpt(Address("a", "b.c"))), (b"250 OK\r\n", c.Data()), (b"354 go on\r\n", None),
    ):  # fmt: skip
        client.receive(answer)
        if command is not None:
            client.send(command)
    return b"".join(content.chunks()) + (b"" if content.ends_line else b"\r\n") + client.send(c.EndOfContent())


def accepted(octets: bytes, options: ServerOptions, *, by_chunk: bool) -> bytes | None:
    """The wire form of content that a listener accepted, or None when it was refused."""
    serving = Serving(options)
    serving.feed(HELLO, TRANSACTION.removesuffix(b"DATA\r\n"))
    if by_chunk:
        said = serving.feed(b"BDAT %d LAST\r\n" % len(octets), octets)
    else:
        serving.feed(b"DATA\r\n")
        said = serving.feed(octets + b"\r\n.\r\n")
    assert len(codes(said)) == 1
    wire = next((each for each in serving.trace if isinstance(each, bytes)), None)
    assert (wire is not None) == (len(serving.messages) == 1) == (codes(said) == [250])
    return wire


@LISTENERS
@each_variant
@pytest.mark.parametrize("by_chunk", [False, True], ids=["DATA", "BDAT"])
def test_no_end_is_in_what_goes_upstream(variant: bytes, options: ServerOptions, by_chunk: bool) -> None:
    wire = accepted(conversation(variant), options, by_chunk=by_chunk)
    if wire is None:
        return
    whole = b"\r\n" + sent_upstream(wire)
    (end,) = LENIENT_END.finditer(whole)
    assert end.end() == len(whole)


@examples(300)
@given(content)
def test_no_end_is_in_anything_that_goes_upstream(octets: bytes) -> None:
    for by_chunk in (True, False):
        if not by_chunk and b"\r\n.\r\n" in b"\r\n" + octets + b"\r\n":
            continue  # then the content ends there, and the rest is commands
        for options in (RELAY, SUBMISSION):
            wire = accepted(octets, options, by_chunk=by_chunk)
            if wire is None:
                continue
            whole = b"\r\n" + sent_upstream(wire)
            assert [found.end() for found in LENIENT_END.finditer(whole)] == [len(whole)]
            if by_chunk and options is RELAY:
                assert b"".join(unstuffed([wire])) == octets


def test_content_by_bdat_may_hold_an_end_of_content_and_it_stays_content() -> None:
    """BDAT counts octets, so CRLF.CRLF is content there; by DATA it has to be stuffed to stay so."""
    octets = FIRST + b".\r\n" + SECOND
    wire = accepted(octets, RELAY, by_chunk=True)
    assert wire is not None
    assert b"\r\n.\r\n" not in wire
    whole = sent_upstream(wire)
    assert whole.find(b"\r\n.\r\n") == len(whole) - 5
    assert b"".join(unstuffed([wire])) == octets


def test_the_real_end_is_an_end() -> None:
    """The table would pass if nothing ever ended content: two messages, pipelined, are two."""
    serving = Serving(RELAY)
    serving.feed(HELLO, TRANSACTION, FIRST + b".\r\n" + SECOND)
    serving.feed(b".\r\n")
    assert [each.recipients[0].local for each in serving.messages] == ["b", "victim"]


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\n\r", b"\r\r\n", b"\0\r\n"])
def test_commands_end_with_crlf_alone(end: bytes) -> None:
    """A line end that is none hides no command: nothing behind it is carried out."""
    serving = Serving(RELAY)
    serving.feed(HELLO)
    serving.output = b""
    serving.feed(
        end.join([b"MAIL FROM:<a@example.com>", b"RCPT TO:<b@example.org>", b"DATA", b"x", b".", b""]) + b"\r\n"
    )
    assert not serving.messages
    assert not [each for each in serving.trace if isinstance(each, c.Mail)]
    assert set(codes(serving.output)) <= {500}
