"""Replies for each recipient, read and said: in any pieces, and from upstreams that say too few or too many."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp.examples import examples
from smtp.serving import cut
from waypost.smtp import commands as c
from waypost.smtp.address import Address
from waypost.smtp.client import ClientEngine
from waypost.smtp.commands import Kind
from waypost.smtp.errors import LocalProtocolError, RemoteProtocolError
from waypost.smtp.order import ServerOptions
from waypost.smtp.parameters import MailParameters
from waypost.smtp.reply import Reply, reply
from waypost.smtp.server import ServerEngine
from waypost.smtp.state import State
from waypost.smtp.verdicts import overall, spoken

SENDER = Address("a", "example.com")
NAMES = ("b", "c", "d", "e")
CODES = (250, 251, 450, 452, 550, 554)


def at_the_dot(protocol: str, accepted: list[bool], *, bdat: bool = False) -> ClientEngine:
    """A client that has sent content for these recipients, of whom the upstream took some."""
    client = ClientEngine()
    client.receive(b"220 mx\r\n")
    client.send(c.Lhlo("c.example") if protocol == "lmtp" else c.Ehlo("c.example"))
    client.receive(b"250-mx\r\n250-PIPELINING\r\n250-CHUNKING\r\n250 PRDR\r\n")
    parameters = MailParameters(prdr=protocol == "prdr")
    client.send(c.Mail(SENDER, parameters), *(c.Rcpt(Address(name, "example.org")) for name in NAMES[: len(accepted)]))
    client.receive(b"250 OK\r\n" + b"".join(b"250 OK\r\n" if yes else b"550 No\r\n" for yes in accepted))
    if bdat:
        client.send(c.Bdat(0, last=True))
    else:
        client.send(c.Data())
        client.receive(b"354 Go on\r\n")
        client.send(c.EndOfContent())
    return client


def completed(client: ClientEngine, answer: Reply | str) -> list[int | str]:
    assert client.verdicts is not None
    return [each if isinstance(each, str) else each.code for each in client.verdicts.completed(answer)]


@examples(150)
@given(
    st.sampled_from(["lmtp", "prdr"]),
    st.lists(st.booleans(), min_size=1, max_size=4).filter(any),
    st.lists(st.sampled_from(CODES), min_size=4, max_size=4),
    st.sampled_from(CODES),
    st.lists(st.integers(0, 120), max_size=8),
    st.booleans(),
)
def test_each_recipient_gets_its_own_reply_however_they_are_cut(
    protocol: str, accepted: list[bool], codes: list[int], last: int, places: list[int], bdat: bool
) -> None:
    client = at_the_dot(protocol, accepted, bdat=bdat)
    said = codes[: sum(accepted)]
    wire = b"".join(b"%d-%d of\r\n%d them\r\n" % (code, number, code) for number, code in enumerate(said))
    if protocol == "prdr":
        wire = b"353 Each\r\n" + wire + b"%d overall\r\n" % last
    found = [pair for piece in cut(wire, places) for pair in client.receive(piece)]
    assert len(found) == 1
    [(command, answer)] = found
    assert command == (c.Bdat(0, last=True) if bdat else c.EndOfContent())
    assert client.is_idle
    assert client.state is State.READY
    told = completed(client, answer)
    if protocol == "lmtp" or last < 300:
        assert told == said
    elif last < 500:
        assert told == [last if code < 300 else code for code in said]
    else:
        assert told == [code if code >= 500 else last for code in said]
    client.send(c.Mail(SENDER))
    client.receive(b"250 OK\r\n")
    assert client.verdicts is None or not client.verdicts.replies, "the next transaction begins anew"


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_leave_the_others_to_whatever_stands_for_no_answer(count: int) -> None:
    client = at_the_dot("lmtp", [True, True, True])
    assert client.receive(b"250 OK\r\n" * count) == []
    assert not client.is_idle
    assert completed(client, "silence") == ([250] * count + ["silence"] * (3 - count) if count else [])


def test_prdr_without_its_last_reply_is_worth_nothing_to_those_who_were_told_yes() -> None:
    client = at_the_dot("prdr", [True, True, True])
    assert client.receive(b"353 Each\r\n250 OK\r\n550 No\r\n") == []
    assert completed(client, "silence") == ["silence", 550, "silence"]


@pytest.mark.parametrize("code", [250, 451, 554])
def test_prdr_may_be_answered_once(code: int) -> None:
    client = at_the_dot("prdr", [True, True])
    [(_, answer)] = client.receive(b"%d All\r\n" % code)
    assert answer.code == code
    assert completed(client, answer) == []


@pytest.mark.parametrize(
    ("protocol", "octets"),
    [
        ("lmtp", b"250 OK\r\n250 OK\r\n250 and another\r\n"),
        ("lmtp", b"353 Each\r\n"),
        ("lmtp", b"250 OK\r\n354 Go on\r\n"),
        ("lmtp", b"250 OK\r\nhello\r\n"),
        ("prdr", b"353 Each\r\n250 OK\r\n250 OK\r\n250 OK\r\n250 another\r\n"),
        ("prdr", b"353 Each\r\n353 Each\r\n"),
        ("prdr", b"354 Go on\r\n"),
        ("smtp", b"353 Each\r\n"),
        ("smtp", b"250 OK\r\n250 OK\r\n"),
    ],
)
def test_nonsense_leaves_nothing_that_could_be_paired_wrongly(protocol: str, octets: bytes) -> None:
    client = at_the_dot(protocol, [True, True])
    with pytest.raises(RemoteProtocolError):
        client.receive(octets)
    assert client.state is State.CLOSED
    assert client.verdicts is None or completed(client, "broken") == []


def test_421_holds_for_the_rest() -> None:
    client = at_the_dot("lmtp", [True, True, True])
    [(_, answer)] = client.receive(b"250 OK\r\n421 4.3.2 Going down\r\n")
    assert client.state is State.CLOSED
    assert completed(client, answer) == [250, 421, 421]


def test_content_pipelined_behind_recipients_that_were_all_refused_has_one_reply() -> None:
    client = ClientEngine()
    client.receive(b"220 mx\r\n")
    client.send(c.Lhlo("c.example"))
    client.receive(b"250-mx\r\n250-PIPELINING\r\n250 CHUNKING\r\n")
    client.send(c.Mail(SENDER), c.Rcpt(Address("b", "example.org")), c.Bdat(0, last=True))
    found = client.receive(b"250 OK\r\n550 No\r\n503 Nobody\r\n")
    assert [answer.code for _, answer in found] == [250, 550, 503]
    assert client.is_idle
    client.send(c.Rset())


@examples(100)
@given(st.lists(st.sampled_from(CODES), min_size=1, max_size=5), st.booleans())
def test_what_is_said_ends_in_a_yes_exactly_when_somebody_has_it(codes: list[int], lmtp: bool) -> None:
    replies = [reply(code, None, str(number)) for number, code in enumerate(codes)]
    said = list(spoken(Kind.END, replies, len(replies), lmtp=lmtp))
    assert overall(replies).is_positive == any(code < 300 for code in codes)
    if not any(code < 300 for code in codes):
        assert (overall(replies).severity == 4) == any(code < 500 for code in codes), "nobody is told never, wrongly"
    kinds = [kind for kind, _ in said]
    assert kinds[-1] is (Kind.LAST_VERDICT if lmtp or len(codes) > 1 else Kind.END)
    if lmtp:
        assert [answer for _, answer in said] == replies
        assert [answer for _, answer in spoken(Kind.END, replies[:1], 4, lmtp=True)] == [replies[0]] * 4
    elif len(codes) > 1:
        assert said[0][1].code == 353
        assert [answer for _, answer in said[1:-1]] == replies
        assert said[-1][1] == overall(replies)


def test_a_number_of_replies_that_does_not_fit_is_a_defect_of_ours() -> None:
    engine = ServerEngine(ServerOptions("mx", lmtp=True))
    engine.greet(reply(220, None, "mx"))
    engine.receive(b"LHLO c\r\nMAIL FROM:<a@example.com>\r\n")
    engine.next_event()
    engine.answer(reply(250, None))
    engine.receive(b"RCPT TO:<b@example.org>\r\nRCPT TO:<c@example.org>\r\nRCPT TO:<d@example.org>\r\n")
    engine.next_event()
    engine.answer(*[reply(250, None)] * 3)
    engine.receive(b"DATA\r\n")
    engine.next_event()
    engine.answer(reply(354, None))
    engine.receive(b".\r\n")
    while not isinstance(engine.next_event(), c.EndOfContent):
        pass
    with pytest.raises(LocalProtocolError, match="2 replies for 3 recipients"):
        engine.conclude([reply(250, None)] * 2)
