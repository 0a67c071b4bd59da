"""The client engine and upstreams that are broken or hostile: a failed attempt, never a wrong pairing."""

import pytest

from waypost.smtp import commands as c
from waypost.smtp.address import Address
from waypost.smtp.client import MAX_REPLY_LINE, MAX_REPLY_LINES, NONE, ClientEngine, Extensions
from waypost.smtp.errors import LocalProtocolError, RemoteProtocolError
from waypost.smtp.reply import MAX_TEXT, Reply
from waypost.smtp.state import State

MAIL = c.Mail(Address("a", "example.com"))
RCPT = c.Rcpt(Address("b", "example.org"))
OTHER = c.Rcpt(Address("c", "example.org"))
STEPS = (c.Ehlo("c.example"), MAIL, RCPT, c.Data(), c.EndOfContent(), c.Quit())
GOOD = (b"220 mx\r\n", b"250-mx\r\n250 PIPELINING\r\n", b"250 OK\r\n", b"250 OK\r\n", b"354 Go on\r\n", b"250 OK\r\n")


def advanced(count: int) -> ClientEngine:
    """A client that has had `count` good answers, and has said the next thing."""
    client = ClientEngine()
    for answer, step in zip(GOOD[:count], STEPS, strict=False):
        client.receive(answer)
        client.send(step)
    return client


def answers(client: ClientEngine, octets: bytes) -> list[int]:
    return [answer.code for _, answer in client.receive(octets)]


NEVER = [
    b"\r\n", b"\n", b" \r\n", b"-\r\n", b"hello\r\n", b"2\r\n", b"25\r\n", b"2500 OK\r\n", b"250_OK\r\n",
    b"250\tOK\r\n",
    b"150 OK\r\n", b"050 OK\r\n", b"650 OK\r\n", b"999 OK\r\n", b" 250 OK\r\n", b"\xff\xfe\x00\r\n", b"\0\r\n",
    b"-250 OK\r\n",
    b"25\xb2 OK\r\n", "٢٥٠ OK\r\n".encode(), b"\x16\x03\x01\x02\r\n", b"HTTP/1.1 400 Bad Request\r\n", b"+OK POP3\r\n",
    b"* OK IMAP\r\n", b"250-a\r\n550 b\r\n", b"250-a\r\n251 b\r\n", b"250-a\r\n\r\n", b"250-a\r\nb\r\n",
    b"251-a\r\n250-b\r\n",
    b"x" * (MAX_REPLY_LINE + 1), b"250 " + b"x" * MAX_REPLY_LINE + b"\r\n", b"250-" + b"x" * MAX_REPLY_LINE,
    b"250-x\r\n" * (MAX_REPLY_LINES + 1), b"399 odd\r\n", b"334 what\r\n",
]  # fmt: skip


@pytest.mark.parametrize("octets", NEVER, ids=[repr(octets[:20])[2:-1] for octets in NEVER])
@pytest.mark.parametrize("count", range(6))
def test_what_is_no_reply_ends_it_at_every_point(count: int, octets: bytes) -> None:
    client = advanced(count)
    with pytest.raises(RemoteProtocolError):
        client.receive(octets)
    assert client.state is State.CLOSED
    for command in (*STEPS, c.Rset()):
        with pytest.raises(LocalProtocolError):
            client.send(command)


@pytest.mark.parametrize(
    ("count", "reply"),
    [
        (0, b"354 go on\r\n"),
        (1, b"354 go on\r\n"),
        (2, b"354 go on\r\n"),
        (3, b"354 go on\r\n"),
        (4, b"250 OK\r\n"),
        (4, b"200 OK\r\n"),
        (4, b"355 go on\r\n"),
        (5, b"354 go on\r\n"),
    ],
)
def test_codes_that_make_no_sense(count: int, reply: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="makes no sense"):
        advanced(count).receive(reply)


@pytest.mark.parametrize("count", range(6))
def test_421_closes_at_every_point(count: int) -> None:
    client = advanced(count)
    assert answers(client, b"421 4.3.2 going down\r\n") == [421]
    assert client.state is State.CLOSED


@pytest.mark.parametrize("count", range(6))
@pytest.mark.parametrize("code", [450, 550])
def test_refusals_are_understood_at_every_point(count: int, code: int) -> None:
    client = advanced(count)
    assert answers(client, b"%d no\r\n" % code) == [code]
    assert client.is_idle


@pytest.mark.parametrize("count", range(6))
def test_replies_that_nobody_asked_for(count: int) -> None:
    client = advanced(count)
    with pytest.raises(RemoteProtocolError, match="nobody asked for"):
        client.receive(b"550 no\r\n550 no\r\n")


def test_an_answer_that_comes_before_its_command_is_seen() -> None:
    client = advanced(2)
    client.receive(b"250 OK\r\n")
    with pytest.raises(RemoteProtocolError, match="nobody asked for"):
        client.receive(b"421 idle for too long\r\n")


def grouped() -> ClientEngine:
    client = advanced(1)
    client.receive(GOOD[1])
    client.send(MAIL, RCPT, OTHER, c.Data())
    return client


@pytest.mark.parametrize(
    ("octets", "codes", "state"),
    [
        (b"250 a\r\n250 b\r\n550 c\r\n354 d\r\n", [250, 250, 550, 354], State.CONTENT),
        (b"550 a\r\n503 b\r\n503 c\r\n503 d\r\n", [550, 503, 503, 503], State.READY),
        (b"250 a\r\n550 b\r\n550 c\r\n554 d\r\n", [250, 550, 550, 554], State.MAIL),
        (b"250 a\r\n450 b\r\n250 c\r\n451 d\r\n", [250, 450, 250, 451], State.RCPT),
        (b"421 a\r\n", [421], State.CLOSED),
        (b"250 a\r\n421 b\r\n", [250, 421], State.CLOSED),
    ],
)
def test_a_group_is_paired_in_order(octets: bytes, codes: list[int], state: State) -> None:
    for pieces in ([octets], [octets[at : at + 1] for at in range(len(octets))]):
        client = grouped()
        found = [pair for piece in pieces for pair in client.receive(piece)]
        assert [command for command, _ in found] == [MAIL, RCPT, OTHER, c.Data()][: len(codes)]
        assert [answer.code for _, answer in found] == codes
        assert client.state is state


@pytest.mark.parametrize(
    "octets",
    [
        b"250 a\r\n354 b\r\n",  # one answer is missing: the pairing cannot be right
        b"550 a\r\n250 b\r\n",  # a recipient accepted without a transaction
        b"250 a\r\n250 b\r\n250 c\r\n250 d\r\n",
        b"550 a\r\n503 b\r\n503 c\r\n354 d\r\n",
        b"250 a\r\n250 b\r\n250 c\r\n354 d\r\n250 e\r\n",  # accepted before the content came
        b"421 a\r\n250 b\r\n",
    ],
)
def test_wrong_pairings_are_seen(octets: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        grouped().receive(octets)


def test_nothing_is_pipelined_that_must_not_be() -> None:
    client = advanced(1)
    client.receive(b"250 mx\r\n")  # no PIPELINING
    with pytest.raises(LocalProtocolError, match="must wait"):
        client.send(MAIL, RCPT)
    client = grouped()
    with pytest.raises(LocalProtocolError, match="must wait"):
        client.send(c.EndOfContent())
    with pytest.raises(LocalProtocolError, match="not allowed"):
        _greeted().send(MAIL)


def _greeted() -> ClientEngine:
    client = ClientEngine()
    client.receive(b"220 mx\r\n")
    return client


def test_text_behind_the_answer_to_starttls() -> None:
    for octets in (b"220 go\r\n250-mx", b"220 go\r\n2", b"220 go\r\n250-mx\r\n"):
        client = _greeted()
        client.send(c.Ehlo("c"))
        client.receive(b"250-mx\r\n250 STARTTLS\r\n")
        client.send(c.StartTls())
        client.receive(octets)
        with pytest.raises(RemoteProtocolError, match="plain text"):
            client.tls_started()
    client = _greeted()
    client.send(c.Ehlo("c"))
    client.receive(b"250-mx\r\n250 STARTTLS\r\n")
    client.send(c.StartTls())
    with pytest.raises(RemoteProtocolError):
        client.receive(b"220 go\r\n250-mx\r\n250 AUTH PLAIN\r\n")


def test_what_was_offered_in_the_clear_is_forgotten_inside_tls() -> None:
    client = _greeted()
    client.send(c.Ehlo("c"))
    client.receive(b"250-mx\r\n250-AUTH PLAIN\r\n250 STARTTLS\r\n")
    assert client.extensions.auth == ("PLAIN",)
    client.send(c.StartTls())
    client.receive(b"220 go\r\n")
    client.tls_started()
    assert client.extensions == NONE
    with pytest.raises(LocalProtocolError):
        client.send(MAIL)


def test_the_handshake_has_to_be_agreed_on() -> None:
    with pytest.raises(LocalProtocolError):
        _greeted().tls_started()


@pytest.mark.parametrize(
    ("offered", "wanted"),
    [
        (b"", NONE),
        (b"PIPELINING", Extensions(pipelining=True)),
        (b"pipelining", Extensions(pipelining=True)),
        (b"SIZE 1000", Extensions(size=1000)),
        (b"SIZE", Extensions(size=0)),
        (b"SIZE 0", Extensions(size=0)),
        (b"SIZE x", Extensions(size=0)),
        (b"SIZE -1", Extensions(size=0)),
        (b"SIZE 1_0", Extensions(size=0)),
        (b"SIZE " + b"9" * 400, Extensions(size=0)),
        ("SIZE ١٢".encode(), Extensions(size=0)),
        (b"AUTH PLAIN LOGIN", Extensions(auth=("PLAIN", "LOGIN"))),
        (b"AUTH=PLAIN", Extensions(auth=("PLAIN",))),
        (b"AUTH", NONE),
        (b"AUTH plain plain", Extensions(auth=("PLAIN",))),
        (b"XPIPELINING", NONE),
        (b"8BITMIME\xff", NONE),
        (b"\xff\xfe\0", NONE),
        (b"   ", NONE),
        (b"STARTTLS\0", NONE),
        ("ſIZE 10".encode(), NONE),
    ],
)
def test_garbage_in_the_answer_to_ehlo_offers_nothing(offered: bytes, wanted: Extensions) -> None:
    client = _greeted()
    client.send(c.Ehlo("c"))
    client.receive(b"250-PIPELINING mx\r\n250 " + offered + b"\r\n")
    assert client.extensions == wanted


def test_an_answer_to_helo_offers_nothing() -> None:
    client = _greeted()
    client.send(c.Helo("c"))
    client.receive(b"250-mx\r\n250 PIPELINING\r\n")
    assert client.extensions == NONE
    assert client.state is State.READY


def test_a_refused_ehlo_takes_back_what_was_offered() -> None:
    client = advanced(1)
    client.receive(GOOD[1])
    assert client.extensions.pipelining
    client.send(c.Ehlo("again"))
    client.receive(b"502-no\r\n502 PIPELINING\r\n")
    assert client.extensions == NONE


@pytest.mark.parametrize(
    ("octets", "wanted"),
    [
        (b"550 5.1.1 no such mailbox\r\n", Reply(550, ("no such mailbox",), (5, 1, 1))),
        (b"550-5.1.1 no such\r\n550 5.1.1 mailbox\r\n", Reply(550, ("no such", "mailbox"), (5, 1, 1))),
        (b"550-5.1.1 see\r\n550 5.1.10 there\r\n", Reply(550, ("see", "5.1.10 there"), (5, 1, 1))),
        (b"550 4.1.1 no\r\n", Reply(550, ("4.1.1 no",))),
        (b"550 5.1.1\r\n", Reply(550, ("",), (5, 1, 1))),
        (b"550 5.1.1x\r\n", Reply(550, ("5.1.1x",))),
        (b"550 5.1234.1 no\r\n", Reply(550, ("5.1234.1 no",))),
        (b"550\r\n", Reply(550, ("",))),
        (b"550 \r\n", Reply(550, ("",))),
        (b"550 bare LF\n", Reply(550, ("bare LF",))),
        (b"550 a\x1b[31mb\rc\0d\r\n", Reply(550, ("a [31mb c d",))),
        (b"550 \xff\r\n", Reply(550, ("\\xff",))),
        ("550 ü\u2028x\x85y\r\n".encode(), Reply(550, ("ü x y",))),
    ],
)
def test_an_upstreams_words_are_data(octets: bytes, wanted: Reply) -> None:
    client = advanced(2)
    ((command, answer),) = client.receive(octets)
    assert command == MAIL
    assert answer == wanted
    assert b"\r" not in answer.encode().replace(b"\r\n", b"")
    assert b"\n" not in answer.encode().replace(b"\r\n", b"")


def test_long_words_are_cut() -> None:
    for line in (b"x" * 4000, "ü".encode() * 1000, b"\xff" * 1000):
        client = advanced(2)
        ((_, answer),) = client.receive(b"550-" + line + b"\r\n550 " + line + b"\r\n")
        assert len("".join(answer.lines).encode()) <= MAX_TEXT
