"""Every kind of fault, at every phase, as a client sees it."""

import asyncio
import base64
import time

import pytest

from rig.client import RawClient
from waypost.net.settings import ServerTls
from waypost.sink.answers import Watcher

BODY = b"Subject: x\r\n\r\nbody\r\n"


class Ends(Watcher):
    def __init__(self):
        self.ends = []

    def ended(self, session, why):
        self.ends.append(why)


def steps():
    """A session, each step with the phase whose answer it waits for."""
    yield "greeting", b""
    yield "ehlo", b"EHLO client.example\r\n"
    yield "mail", b"MAIL FROM:<a@example.com>\r\n"
    yield "rcpt", b"RCPT TO:<b@example.org>\r\n"
    yield "data", b"DATA\r\n"
    yield "dot", BODY + b".\r\n"
    yield "quit", b"QUIT\r\n"


PHASES = ("greeting", "ehlo", "mail", "rcpt", "data", "dot", "quit")


def up_to(client, phase):
    """Holds a session up to the answer of `phase`, which is still to be read."""
    for name, octets in steps():
        client.send(octets)
        if name == phase:
            return
        assert client.answer().code < 400


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("code", [450, 550])
def test_a_reply_is_replaced_at_every_phase(start_sink, phase, code):
    sink = start_sink(f"{phase}={code} {code // 100}.1.2 As you like")
    with RawClient(sink.port) as client:
        up_to(client, phase)
        answer = client.expect(code)
        assert answer.text == f"{code // 100}.1.2 As you like"
    assert len(sink.running.messages) == (phase == "quit")


def test_a_refused_command_leaves_the_session_as_it_was(start_sink):
    sink = start_sink("ehlo=550 first:1", "mail=550 first:1", "rcpt=550 first:1", "data=550 first:1", "dot=550 first:1")
    with RawClient(sink.port) as client:
        client.expect(220)
        for line, code in (("EHLO a.example", 250), ("MAIL FROM:<a@b.example>", 250), ("RCPT TO:<c@d.example>", 250)):
            client.command(line, 550)
            client.command(line, code)
        client.command("DATA", 550)
        client.command("DATA", 354)
        client.send(b"lost\r\n.\r\n")
        client.expect(550)
        client.mail("a@b.example", "c@d.example")
        client.send(BODY + b".\r\n")
        client.expect(250)
        client.command("QUIT", 221)
    assert [message.content for message in sink.running.messages] == [BODY]


@pytest.mark.parametrize(("phase", "code"), [("mail", 354), ("data", 250), ("dot", 354), ("rcpt", 334)])
def test_a_code_that_makes_no_sense_is_said_all_the_same(start_sink, phase, code):
    sink = start_sink(f"{phase}={code} first:1")
    with RawClient(sink.port) as client:
        up_to(client, phase)
        client.expect(code)
        client.command("RSET", 250)
    assert sink.running.messages == ()


def test_a_positive_reply_in_other_words_is_one(start_sink):
    sink = start_sink("ehlo=250 nothing.example", "mail=251 2.1.0 Fine", "dot=250 2.6.0 Ok id=42")
    with RawClient(sink.port) as client:
        client.expect(220)
        assert client.command("EHLO x.example", 250).lines == ("nothing.example",)
        client.command("MAIL FROM:<a@b.example>", 251)
        client.command("RCPT TO:<a@b.example>", 250)
        client.command("DATA", 354)
        client.send(BODY + b".\r\n")
        assert client.expect(250).text == "2.6.0 Ok id=42"
    assert len(sink.running.messages) == 1


def test_421_ends_the_session(start_sink):
    sink = start_sink("rcpt=421 4.3.2 Going down")
    with RawClient(sink.port) as client:
        up_to(client, "rcpt")
        client.expect(421)
        client.expect_end()


@pytest.mark.parametrize("phase", PHASES)
def test_hanging_up_without_an_answer(start_sink, phase):
    sink = start_sink(f"{phase}=close")
    with RawClient(sink.port) as client:
        up_to(client, phase)
        client.expect_end()
    assert len(sink.running.messages) == (phase == "quit")


def test_hanging_up_at_once(start_sink):
    with RawClient(start_sink("connect=close").port) as client:
        client.expect_end()


def test_hanging_up_in_mid_content(start_sink):
    sink = start_sink("content=close")
    with RawClient(sink.port) as client:
        up_to(client, "data")
        client.expect(354)
        client.send(b"only the beginning")
        client.expect_end()
    assert sink.running.messages == ()


def test_an_answer_in_mid_content(start_sink):
    sink = start_sink("content=close-after 421 4.3.2 Going down")
    with RawClient(sink.port) as client:
        up_to(client, "data")
        client.expect(354)
        client.send(b"only the beginning")
        client.expect(421)
        client.expect_end()


def test_the_answer_to_a_kept_message_is_lost(start_sink):
    sink = start_sink("after-dot=close")
    with RawClient(sink.port) as client:
        up_to(client, "dot")
        client.expect_end()
    assert [message.content for message in sink.running.messages] == [BODY]


def test_a_kept_message_is_answered_with_a_refusal(start_sink):
    sink = start_sink("after-dot=451 4.3.0 Who knows")
    with RawClient(sink.port) as client:
        up_to(client, "dot")
        client.expect(451)
    assert len(sink.running.messages) == 1


@pytest.mark.parametrize("phase", PHASES)
def test_an_answer_and_then_the_end(start_sink, phase):
    sink = start_sink(f"{phase}=close-after")
    with RawClient(sink.port) as client:
        up_to(client, phase)
        assert client.answer().code < 400
        client.expect_end()
    assert len(sink.running.messages) == (phase in ("dot", "quit"))


def test_another_answer_and_then_the_end(start_sink):
    sink = start_sink("dot=close-after 452 4.3.1 Full")
    with RawClient(sink.port) as client:
        up_to(client, "dot")
        client.expect(452)
        client.expect_end()
    assert sink.running.messages == ()


@pytest.mark.parametrize("phase", ["connect", *PHASES])
def test_hanging(start_sink, phase):
    recorder = Ends()
    sink = start_sink(f"{phase}=hang", watcher=recorder)
    with RawClient(sink.port, seconds=0.2) as client:
        up_to(client, "greeting" if phase == "connect" else phase)
        with pytest.raises(TimeoutError):
            client.answer()
        client.close()
        # The sink notices that the client has gone, and lets it go too.
        sink.call(lambda _: wait_for(lambda: recorder.ends))
    assert "as ordered" in recorder.ends[0]


async def wait_for(condition):
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


def test_a_sink_that_stops_reading(start_sink):
    sink = start_sink("content=hang")
    with RawClient(sink.port, seconds=0.5) as client:
        up_to(client, "data")
        client.expect(354)
        with pytest.raises(TimeoutError):
            client.send(b"x" * 50_000_000)


@pytest.mark.parametrize("phase", ["connect", *PHASES])
def test_a_late_answer(start_sink, phase):
    sink = start_sink(f"{phase}=delay 0.3")
    with RawClient(sink.port) as client:
        began = time.monotonic()
        up_to(client, "greeting" if phase == "connect" else phase)
        assert client.answer().code < 400
        assert time.monotonic() - began >= 0.3


def test_binary_garbage(start_sink):
    with RawClient(start_sink("mail=garbage").port) as client:
        up_to(client, "mail")
        with pytest.raises(UnicodeDecodeError):
            client.answer()


def test_codes_that_differ_in_one_reply(start_sink):
    with RawClient(start_sink("dot=garbage mismatch").port) as client:
        up_to(client, "dot")
        with pytest.raises(AssertionError, match="codes differ"):
            client.answer()


@pytest.mark.parametrize("phase", ["greeting", "ehlo", "rcpt"])
def test_an_answer_that_nobody_asked_for(start_sink, phase):
    with RawClient(start_sink(f"{phase}=garbage unsolicited").port) as client:
        up_to(client, phase)
        assert client.answer().code < 300
        assert client.expect(250).text == "2.0.0 Nobody asked for this"


@pytest.mark.parametrize("phase", ["greeting", "ehlo", "mail"])
def test_a_line_without_an_end(start_sink, phase):
    with RawClient(start_sink(f"{phase}=garbage endless").port) as client:
        up_to(client, phase)
        with pytest.raises(AssertionError, match="enough"):
            read_for_ever(client)


def read_for_ever(client):
    received = 0
    while received < 5_000_000:
        octets = client._receive()
        assert octets, "the sink ended the line"
        assert b"\n" not in octets
        received += len(octets)
    raise AssertionError("enough")


def test_faults_of_auth_and_starttls(start_sink, certificates):
    tls = ServerTls(str(certificates.certificate), str(certificates.key))
    sink = start_sink(
        "starttls=454 4.7.0 Not now first:1", "auth=454 4.7.0 Later first:1", tls=tls, accounts={"a": "b"}
    )
    with RawClient(sink.port) as client:
        client.hello()
        client.command("STARTTLS", 454)
        client.command("STARTTLS", 220)
        client.start_tls(certificates.client_context())
        client.command("EHLO again.example", 250)
        response = base64.b64encode(b"\0a\0b").decode()
        client.command(f"AUTH PLAIN {response}", 454)
        client.command("MAIL FROM:<a@b.example>", 530)
        client.command(f"AUTH PLAIN {response}", 235)
        client.command("MAIL FROM:<a@b.example>", 250)


def test_wrong_credentials_that_are_let_in_by_order(start_sink):
    with RawClient(start_sink("auth=235 2.7.0 Come in", accounts={"a": "b"}).port) as client:
        client.hello()
        client.command("AUTH LOGIN", 334)
        client.command(base64.b64encode(b"nobody").decode(), 334)
        client.command(base64.b64encode(b"wrong").decode(), 235)
        client.command("MAIL FROM:<a@b.example>", 250)
