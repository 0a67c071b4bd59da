"""Any octets in any split: nothing but the engines' own errors, the same end, and bounded memory."""

import tracemalloc
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp.examples import examples, in_pieces, said_by_clients, said_by_servers
from smtp.serving import HELLO, OPTIONS, TRANSACTION, Decide, Question, Serving, codes
from waypost.smtp import commands as c
from waypost.smtp import events as e
from waypost.smtp.address import Address
from waypost.smtp.client import MAX_REPLY_LINE, MAX_REPLY_LINES, ClientEngine
from waypost.smtp.errors import LocalProtocolError, RemoteProtocolError
from waypost.smtp.order import ServerOptions
from waypost.smtp.reply import Reply, reply
from waypost.smtp.sasl_server import SERVER_MECHANISMS
from waypost.smtp.state import State

SERVERS = [
    replace(OPTIONS, max_errors=6, max_recipients=3, max_line=40, max_size=2000),
    replace(OPTIONS, auth=True, auth_required=True, allow_plaintext_auth=True, starttls=True, repair_line_ends=True),
    replace(OPTIONS, auth=True, allow_plaintext_auth=True, starttls=True, max_errors=1000, repair_line_ends=True),
    replace(OPTIONS, auth=True, allow_plaintext_auth=True, max_errors=1000, mechanisms=SERVER_MECHANISMS),
]

_LEGAL = {
    c.Mail: (250, 451, 550),
    c.Rcpt: (250, 251, 450, 550, 235),
    c.Data: (354, 451, 554),
    c.EndOfContent: (250, 451, 554, 421),
    e.Authenticate: (235, 454, 535),
    c.StartTls: (454,),  # 220 makes what follows TLS, in which the split does matter
}


def deciding(choices: list[int]) -> Decide:
    """Legal answers that depend on what is asked and how often it was, and not on how octets were cut."""
    asked: Counter[type] = Counter()

    def decide(question: Question) -> Reply:
        kind = type(question)
        if isinstance(question, e.Refused):
            return reply(550, "5.6.0", "Refused")
        legal, number = _LEGAL[kind], asked[kind]
        asked[kind] += 1
        return reply(legal[choices[number % len(choices)] % len(legal)], None, "Decided")

    return decide


choices = st.lists(st.sampled_from([0, 0, 0, 1, 2, 3, 4]), min_size=1, max_size=5)


@examples(500)
@given(in_pieces(said_by_clients), st.sampled_from(SERVERS), choices)
def test_a_server_raises_nothing_and_ends_alike_in_any_split(
    case: tuple[bytes, list[bytes]], options: ServerOptions, made: list[int]
) -> None:
    data, pieces = case
    whole, cut = Serving(options, deciding(made)), Serving(options, deciding(made))
    whole.feed(data)
    cut.feed(*pieces)
    assert [str(each) for each in cut.trace] == [str(each) for each in whole.trace]
    assert cut.messages == whole.messages
    assert codes(cut.output) == codes(whole.output)
    assert cut.engine.state is whole.engine.state


@examples(300)
@given(in_pieces(said_by_clients), choices)
def test_a_server_that_is_in_step_behind_any_octets_takes_the_next_command(
    case: tuple[bytes, list[bytes]], made: list[int]
) -> None:
    """Whatever was said, behind the end of whatever it began, the session goes on or is over."""
    _, pieces = case
    serving = Serving(SERVERS[2], deciding(made))
    serving.feed(HELLO, *pieces)
    # The rest of a chunk or line, the end of content, and of a challenge: then NOOP.
    serving.feed(b"\r\n" * 10, b"\r\n.\r\n", b"*\r\n", b"RSET\r\n")
    said = serving.feed(b"NOOP\r\n")
    if serving.is_closed or serving.engine.in_content:
        return
    assert codes(said) == [250]


@examples(400)
@given(in_pieces(said_by_servers), st.booleans())
def test_a_client_raises_only_its_own_error(case: tuple[bytes, list[bytes]], in_session: bool) -> None:
    _, pieces = case
    client = ClientEngine()
    steps = iter((c.Ehlo("c.example"), c.Mail(_A), c.Rcpt(_B), c.Rcpt(_B), c.Data(), c.EndOfContent(), c.Quit()))
    try:
        if in_session:
            client.receive(b"220 mx\r\n")
            client.send(next(steps))
            client.receive(b"250-mx\r\n250 PIPELINING\r\n")
        for piece in pieces:
            try:
                client.send(next(steps, c.Noop()))
            except LocalProtocolError:
                pass
            for command, answer in client.receive(piece):
                assert 200 <= answer.code < 600
                assert answer.text.isprintable()
                assert len(answer.text) <= 400 + len(answer.lines)
                assert command is not None
    except RemoteProtocolError:
        assert client.state is State.CLOSED
        with pytest.raises(RemoteProtocolError):
            client.receive(b"250 OK\r\n")


@examples(300)
@given(in_pieces(said_by_servers))
def test_a_client_reads_the_same_in_any_split(case: tuple[bytes, list[bytes]]) -> None:
    data, pieces = case
    assert _read([data]) == _read(pieces)


def _read(pieces: list[bytes]) -> tuple[State, list[Reply]] | None:
    """What a client understands of the answers to one group of commands; None when it gives up."""
    client = ClientEngine()
    client.receive(b"220 mx\r\n")
    client.send(c.Ehlo("c.example"))
    client.receive(b"250-mx\r\n250 PIPELINING\r\n")
    client.send(c.Mail(_A), c.Rcpt(_B), c.Rcpt(_B), c.Data())
    try:
        found = [answer for piece in pieces for _, answer in client.receive(piece)]
    except RemoteProtocolError:
        return None
    return client.state, found


_A = Address("a", "example.com")
_B = Address("b", "example.org")


def test_what_clients_send_costs_bounded_memory() -> None:
    """Endless lines, drained chunks and refused content are not kept."""
    serving = Serving(replace(OPTIONS, max_size=100_000))
    block = b"x" * 65536
    tracemalloc.start()
    try:
        for opening in (b"", b"\r\nBDAT 20000000\r\n", b"\r\nNOOP\n"):
            serving.feed(opening)
            for _ in range(160):
                serving.feed(block)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
    assert serving.feed(b"x" * 20_000_000) == b""
    assert not serving.is_closed


def _receive_many(client: ClientEngine, line: bytes, times: int) -> None:
    for _ in range(times):
        client.receive(line)


def test_an_endless_reply_costs_bounded_memory() -> None:
    for line in (b"250-" + b"x" * (MAX_REPLY_LINE - 6) + b"\r\n", b"x" * 1000):
        client = ClientEngine()
        tracemalloc.start()
        try:
            with pytest.raises(RemoteProtocolError):
                _receive_many(client, line, 10 * MAX_REPLY_LINES)
            assert tracemalloc.get_traced_memory()[1] < 2 * MAX_REPLY_LINE * MAX_REPLY_LINES
        finally:
            tracemalloc.stop()


def test_many_tiny_chunks_are_one_message() -> None:
    serving = Serving()
    serving.feed(HELLO, TRANSACTION.removesuffix(b"DATA\r\n"))
    chunks = 20_000
    said = serving.feed(b"BDAT 1\r\nx" * chunks + b"BDAT 0 LAST\r\n")
    assert codes(said) == [250] * (chunks + 1)
    assert serving.messages[0].content == b"x" * chunks
