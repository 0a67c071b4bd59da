"""What a client sees of a sink: mail that is kept exactly, and every kind of fault at its phase."""

import base64
import smtplib
import threading
import time

import pytest

from rig.client import RawClient
from waypost.net.settings import ServerTls
from waypost.sink.answers import Watcher
from waypost.smtp.order import ServerOptions

CONTENT = b"Subject: dots\r\n\r\n.\r\n..\r\n.dot\r\n\xe4\xf6\r\n" + b"x" * 70_000 + b"\r\n"
BODY = b"Subject: x\r\n\r\nbody\r\n"


class Recorder(Watcher):
    def __init__(self):
        self.lines = []

    def said(self, session, who, line):
        self.lines.append((who, line))


def stuffed(content):
    return content.replace(b"\r\n.", b"\r\n..")


def test_everything_about_a_message_is_kept(start_sink):
    sink = start_sink()
    before = time.time()
    with RawClient(sink.port) as client:
        client.hello("me.example")
        client.command(f"MAIL FROM:<a@example.com> SIZE={len(CONTENT)} BODY=8BITMIME RET=HDRS ENVID=QQ1", 250)
        client.command("RCPT TO:<b@example.org> NOTIFY=NEVER", 250)
        client.command("RCPT TO:<c@example.org>", 250)
        client.command("DATA", 354)
        client.send(stuffed(CONTENT) + b".\r\n")
        assert client.expect(250).text == "2.0.0 Kept as message 1"
        client.command("QUIT", 221)
        client.expect_end()

    [message] = sink.running.messages
    assert message.content == CONTENT
    assert message.reverse_path == "a@example.com"
    assert message.parameters == (f"SIZE={len(CONTENT)}", "BODY=8BITMIME", "RET=HDRS", "ENVID=QQ1")
    assert message.recipients == ("b@example.org", "c@example.org")
    assert message.recipient_parameters == (("NOTIFY=NEVER",), ())
    assert (message.client, message.client_name, message.esmtp) == ("127.0.0.1", "me.example", True)
    assert (message.tls, message.username, message.session, message.id) == (None, None, 1, 1)
    assert before <= message.received_at <= time.time()


@pytest.mark.parametrize("size", [1, 2, 3, 7, 4096])
def test_content_is_exact_whatever_the_pieces(start_sink, size):
    sink = start_sink()
    content = b".\r\n..a\r\n\r\n.\r\n\r\n"
    octets = (
        b"MAIL FROM:<>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n." + stuffed(content) + b".\r\nMAIL FROM:<x@y.example>\r\n"
    )
    with RawClient(sink.port) as client:
        client.hello()
        for at in range(0, len(octets), size):
            client.send(octets[at : at + size])
        assert [client.answer().code for _ in range(5)] == [250, 250, 354, 250, 250]

    [message] = sink.running.messages
    assert message.content == content
    assert message.reverse_path == ""


def test_pipelining_chunks_and_several_messages(start_sink):
    sink = start_sink()
    with RawClient(sink.port) as client:
        client.hello()
        one = b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nBDAT 3\r\n.\r\nBDAT 6 LAST\r\n.\r\nend"
        client.send(one + one + b"RSET\r\nNOOP\r\n")
        assert [client.answer().code for _ in range(10)] == [250] * 10

    assert [message.content for message in sink.running.messages] == [b".\r\n.\r\nend"] * 2


def test_recipients_of_one_transaction_do_not_leak_into_the_next(start_sink):
    sink = start_sink("rcpt=550 to:bad@*")
    with RawClient(sink.port) as client:
        client.hello()
        client.command("MAIL FROM:<a@example.com>", 250)
        client.command("RCPT TO:<left@example.org>", 250)
        client.command("RSET", 250)
        client.command("MAIL FROM:<b@example.com>", 250)
        client.command("RCPT TO:<bad@example.org>", 550)
        client.command("RCPT TO:<right@example.org>", 250)
        client.command("DATA", 354)
        client.send(BODY + b".\r\n")
        client.expect(250)

    [message] = sink.running.messages
    assert (message.reverse_path, message.recipients) == ("b@example.com", ("right@example.org",))


def test_tls_and_passwords(start_sink, certificates):
    tls = ServerTls(str(certificates.certificate), str(certificates.key))
    sink = start_sink(tls=tls, accounts={"me": "secret"})
    with smtplib.SMTP("localhost", sink.port) as client:
        client.starttls(context=certificates.client_context())
        with pytest.raises(smtplib.SMTPSenderRefused):
            client.sendmail("a@example.com", ["b@example.org"], BODY)
        with pytest.raises(smtplib.SMTPAuthenticationError):
            client.login("me", "wrong")
        client.login("me", "secret")
        client.sendmail("a@example.com", ["b@example.org"], BODY)

    [message] = sink.running.messages
    assert message.username == "me"
    assert message.tls is not None
    assert message.tls.startswith("TLSv1.")


def test_implicit_tls(start_sink, certificates):
    sink = start_sink(tls=ServerTls(str(certificates.certificate), str(certificates.key)), implicit_tls=True)
    with smtplib.SMTP_SSL("localhost", sink.port, context=certificates.client_context()) as client:
        assert not client.has_extn("starttls")
        client.sendmail("a@example.com", ["b@example.org"], BODY)

    assert len(sink.running.messages) == 1


def test_text_behind_starttls_is_refused(start_sink, certificates):
    sink = start_sink(tls=ServerTls(str(certificates.certificate), str(certificates.key)))
    with RawClient(sink.port) as client:
        client.hello()
        client.send(b"STARTTLS\r\nMAIL FROM:<a@example.com>\r\n")
        client.expect(554)
        client.expect_end()


@pytest.mark.parametrize(
    ("switch", "keyword", "line", "code"),
    [
        ("pipelining", "PIPELINING", "NOOP", 250),
        ("eightbitmime", "8BITMIME", "MAIL FROM:<a@b.example> BODY=8BITMIME", 555),
        ("smtputf8", "SMTPUTF8", "MAIL FROM:<a@b.example> SMTPUTF8", 555),
        ("chunking", "CHUNKING", "BDAT 0 LAST", 503),
        ("dsn", "DSN", "MAIL FROM:<a@b.example> RET=FULL", 555),
    ],
)
def test_what_is_not_offered_is_not_taken(start_sink, switch, keyword, line, code):
    offering = start_sink()
    lacking = start_sink(options=ServerOptions("sink.example", **{switch: False}))
    with RawClient(offering.port) as client:
        assert keyword in client.hello().lines
    with RawClient(lacking.port) as client:
        assert keyword not in client.hello().lines
        client.command(line, code)


def test_without_chunking_a_chunk_is_read_and_refused(start_sink):
    sink = start_sink(options=ServerOptions("sink.example", chunking=False, dsn=False))
    with RawClient(sink.port) as client:
        client.hello()
        client.command("MAIL FROM:<a@b.example>", 250)
        client.command("RCPT TO:<a@b.example> NOTIFY=NEVER", 555)
        client.command("RCPT TO:<a@b.example>", 250)
        client.send(b"BDAT 6 LAST\r\nQUIT\r\nNOOP\r\n")
        client.expect(502)
        client.expect(250)
    assert sink.running.messages == ()


def test_the_dialogue_is_told_without_secrets_and_content(start_sink):
    recorder = Recorder()
    sink = start_sink(watcher=recorder, accounts={"me": "secret"})
    with smtplib.SMTP("127.0.0.1", sink.port) as client:
        client.login("me", "secret")
        client.sendmail("a@example.com", ["b@example.org"], b"Subject: private\r\n\r\nprivate\r\n")
    shown = b"\n".join(line for _, line in recorder.lines)
    assert ("client", b"mail FROM:<a@example.com> size=29") in recorder.lines
    assert ("sink", b"250 2.0.0 Kept as message 1") in recorder.lines
    for secret in (b"secret", b"private", base64.b64encode(b"\0me\0secret")):
        assert secret not in shown


# -- the sink as a whole


def test_bounds_of_memory(start_sink):
    sink = start_sink(keep=3, max_memory=10_000)
    with RawClient(sink.port) as client:
        client.hello()

        def send(content):
            client.mail("a@b.example", "c@d.example")
            client.send(content + b"\r\n.\r\n")
            client.expect(250)
            return [message.id for message in sink.running.messages]

        for _ in range(4):
            kept = send(b"x")
        assert kept == [2, 3, 4]
        assert send(b"x" * 9_990) == [3, 4, 5]
        assert send(b"y" * 20_000) == [6]
        assert sink.running.mailbox.total == 6


def test_stopped_and_started_again_on_the_same_port(start_sink):
    sink = start_sink()
    port = sink.port
    with RawClient(port) as client:
        client.hello()
        client.mail("a@b.example", "c@d.example")
        client.send(BODY + b".\r\n")
        client.expect(250)
        sink.call(lambda running: running.stop())
        client.expect_end()
    with pytest.raises(ConnectionRefusedError):
        RawClient(port)
    sink.call(lambda running: running.start())
    with RawClient(port) as client:
        client.hello()
    assert (sink.port, len(sink.running.messages)) == (port, 1)


def test_waiting_for_messages(start_sink):
    sink = start_sink()
    with pytest.raises(TimeoutError, match=r"0 of 1 messages came within 0\.01 s"):
        sink.call(lambda running: running.wait_for(1, 0.01))

    def send():
        with smtplib.SMTP("127.0.0.1", sink.port) as client:
            client.sendmail("a@example.com", ["b@example.org"], BODY)

    sender = threading.Thread(target=send)
    sender.start()
    [message] = sink.call(lambda running: running.wait_for(1))
    sender.join()
    assert message.content == BODY


def test_a_folder_that_cannot_be_written_is_told_to_the_client(start_sink):
    class Full(Watcher):
        def kept(self, message):
            raise OSError(28, "No space left on device")

    sink = start_sink(watcher=Full())
    with RawClient(sink.port) as client:
        client.hello()
        client.mail("a@b.example", "c@d.example")
        client.send(BODY + b".\r\n")
        assert client.expect(452).text == "4.3.1 The message cannot be kept: No space left on device"
    assert sink.running.messages == ()
