"""The rigs, held against programs that are not ours: what stands on them is worth no more than they are."""

import smtplib
import socket
import threading

import pytest

from rig.certificates import Certificates
from rig.client import RawClient
from rig.faults import close, garbage, hang, say
from rig.ports import free_port
from rig.postfix import PostfixInstance
from rig.programs import run, transcript
from rig.sink import StoringSink

CONTENT = b"Subject: dots\r\n\r\n.\r\n..\r\n.dot at the start\r\n\xe4\xf6 eight bits\r\n" + b"x" * 5000 + b"\r\n"


def test_the_sink_keeps_what_smtplib_sent(sink: StoringSink) -> None:
    with smtplib.SMTP(sink.host, sink.port) as client:
        client.sendmail("a@example.com", ["b@example.org", "c@example.org"], CONTENT, ["BODY=8BITMIME"])
    [message] = sink.wait_for(1)
    assert message.content == CONTENT
    assert message.recipients == ("b@example.org", "c@example.org")
    assert "BODY=8BITMIME" in message.parameters


@pytest.mark.parametrize("content", [b"", b"\r\n", b".\r\n", b"..\r\n\r\n", b"a\n.\nb\r\n", b"a\r.\r\r\n"])
def test_the_sink_ends_content_at_a_dot_between_line_ends_only(sink: StoringSink, content: bytes) -> None:
    stuffed = b"." + content if content.startswith(b".") else content
    with RawClient(sink.port) as client:
        client.hello()
        client.mail("a@example.com", "b@example.org")
        for octet in stuffed + b".\r\n":
            client.send(bytes([octet]))
        client.expect(250)
        client.command("QUIT", 221)
        client.expect_end()
    assert [message.content for message in sink.messages] == [content]


def test_the_sink_takes_chunks_and_pipelined_commands(sink: StoringSink) -> None:
    with RawClient(sink.port) as client:
        client.hello()
        client.send(b"MAIL FROM:<> RET=HDRS\r\nRCPT TO:<b@example.org> NOTIFY=NEVER\r\n")
        client.send(b"BDAT 3\r\n.\r\nBDAT 5 LAST\r\n.\r\nno")
        assert [client.answer().code for _ in range(4)] == [250] * 4
    [message] = sink.messages
    assert message.content == b".\r\n.\r\nno"
    assert (message.reverse_path, message.parameters) == ("", ("RET=HDRS",))
    assert message.recipient_parameters == (("NOTIFY=NEVER",),)


def test_the_sink_knows_tls_and_passwords(certificates: Certificates) -> None:
    with StoringSink(tls=certificates.server_context(), accounts={"me": "secret"}) as sink:
        with smtplib.SMTP("localhost", sink.port) as client:
            with pytest.raises(smtplib.SMTPSenderRefused, match="authentication required"):
                client.sendmail("a@example.com", ["b@example.org"], CONTENT)
            client.starttls(context=certificates.client_context())
            with pytest.raises(smtplib.SMTPAuthenticationError):
                client.login("me", "wrong")
            client.login("me", "secret")
            client.sendmail("a@example.com", ["b@example.org"], CONTENT)
        [message] = sink.wait_for(1)
    assert (message.tls, message.username, message.content) == (True, "me", CONTENT)


def test_the_sink_misbehaves_on_order(sink: StoringSink) -> None:
    sink.recipient_replies["nobody@example.org"] = "550 5.1.1 no such user"
    sink.on("mail", say("451 4.3.0 later"))
    sink.on("rcpt", garbage(b"\x00\xff\r\n"))
    sink.on("stored", close(b"2"))
    with RawClient(sink.port) as client:
        client.hello()
        client.command("MAIL FROM:<a@example.com>", 451)
        client.command("MAIL FROM:<a@example.com>", 250)
        with pytest.raises(UnicodeDecodeError):
            client.command("RCPT TO:<b@example.org>", 250)
        client.command("RCPT TO:<nobody@example.org>", 550)
        client.command("RCPT TO:<c@example.org>", 250)
        client.command("DATA", 354)
        client.send(b"x\r\n.\r\n")
        with pytest.raises(AssertionError, match="closed in the middle"):
            client.answer()
    [message] = sink.messages
    assert (message.recipients, message.content) == (("c@example.org",), b"x\r\n")


def test_the_sink_can_be_stopped_in_mid_session_and_started_again(sink: StoringSink) -> None:
    sink.on("dot", hang())
    with RawClient(sink.port) as client:
        client.hello()
        client.mail("a@example.com", "b@example.org")
        client.send(b"x\r\n.\r\n")
        stopping = threading.Thread(target=sink.stop)
        stopping.start()
        client.expect_end()
        stopping.join()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((sink.host, sink.port), timeout=5)
    sink.start()
    with smtplib.SMTP(sink.host, sink.port) as again:
        again.sendmail("a@example.com", ["b@example.org"], CONTENT)
    assert [message.content for message in sink.messages] == [CONTENT]


def test_free_ports_differ() -> None:
    assert len({free_port() for _ in range(20)}) == 20


@pytest.mark.foreign
def test_swaks_reaches_the_sink(sink: StoringSink) -> None:
    result = run(f"swaks --server {sink.address} --from a@example.com --to b@example.org --body hello")
    assert result.returncode == 0, transcript(result)
    [message] = sink.messages
    assert b"\r\n\r\nhello\r\n" in message.content


@pytest.mark.foreign
def test_postfix_relays_to_the_sink_over_one_connection(sink: StoringSink) -> None:
    with PostfixInstance(
        transport={"example.org": f"smtp:[127.0.0.1]:{sink.port}"},
        main={"smtp_connection_cache_destinations": "static:all"},
    ) as postfix:
        for number in range(3):
            with smtplib.SMTP("127.0.0.1", postfix.port) as client:
                client.sendmail("a@example.com", [f"b{number}@example.org"], b"Subject: x\r\n\r\nbody\r\n")
        messages = sink.wait_for(3)
        postfix.wait_for_log("status=sent", count=3)
        assert postfix.queued() == 0
    assert sink.sessions == 1
    assert sorted(message.recipients for message in messages) == [(f"b{number}@example.org",) for number in range(3)]
