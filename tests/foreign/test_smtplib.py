"""Python's smtplib as a client: what most small applications submit with."""

import smtplib
from email.message import EmailMessage
from pathlib import Path

import pytest

from rig.certificates import Certificates
from rig.settings import PASSWORD, USERNAME, submitting
from rig.sink import StoringSink
from rig.waypost import WaypostProcess

HEAD = (
    b"From: a@example.com\r\nTo: b@example.org\r\nSubject: exact\r\n"
    b"Date: Sun, 22 Nov 2026 10:00:00 +0000\r\nMessage-ID: <1@example.com>\r\n\r\n"
)

CONTENTS = {
    "plain": HEAD + b"hello\r\n",
    "no header": b"just a line\r\n",
    "empty line": b"\r\n",
    "dots": HEAD + b".\r\n..\r\n.hidden\r\nend.\r\n.\r\n",
    "dot first": b".at once\r\n",
    "trailing spaces": HEAD + b"line \t\r\n \r\n\r\n\r\n",
    "control characters": HEAD + bytes(octet for octet in range(1, 32) if octet not in b"\r\n") + b"\x7f\r\n",
    "long line": HEAD + b"x" * 300_000 + b"\r\n",
    "two megabytes": HEAD + b"0123456789abcdef\r\n" * 120_000,
}


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS.keys())
def test_content_arrives_octet_for_octet(relay: WaypostProcess, port: int, sink: StoringSink, content: bytes) -> None:
    with smtplib.SMTP("127.0.0.1", port) as client:
        refused = client.sendmail("a@example.com", ["b@example.org"], content)
    assert refused == {}
    [message] = sink.messages
    assert message.untraced == content
    assert message.trace.startswith(b"Received: from ")
    assert (message.reverse_path, message.recipients) == ("a@example.com", ("b@example.org",))


def test_eight_bit_content_arrives_as_such(relay: WaypostProcess, port: int, sink: StoringSink) -> None:
    content = HEAD + bytes(range(128, 256)) + "Grüße, 世界\r\n".encode()
    with smtplib.SMTP("127.0.0.1", port) as client:
        client.sendmail("a@example.com", ["b@example.org"], content, ["BODY=8BITMIME"])
    [message] = sink.messages
    assert message.untraced == content
    assert "BODY=8BITMIME" in message.parameters


def test_an_address_outside_ascii_arrives_with_smtputf8(relay: WaypostProcess, port: int, sink: StoringSink) -> None:
    message = EmailMessage()
    message["From"] = "jörg@exämple.com"
    message["To"] = "用户@例子.广告"
    message["Subject"] = "Grüße"
    message.set_content("hello\n")
    with smtplib.SMTP("127.0.0.1", port) as client:
        assert client.send_message(message) == {}
    [stored] = sink.messages
    assert (stored.reverse_path, stored.recipients) == ("jörg@exämple.com", ("用户@例子.广告",))
    assert "SMTPUTF8" in stored.parameters
    assert "Subject: Grüße\r\n".encode() in stored.untraced


def test_dsn_parameters_arrive(relay: WaypostProcess, port: int, sink: StoringSink) -> None:
    with smtplib.SMTP("127.0.0.1", port) as client:
        client.sendmail(
            "a@example.com",
            ["b@example.org"],
            CONTENTS["plain"],
            mail_options=["RET=HDRS", "ENVID=QQ+2B314159"],
            rcpt_options=["NOTIFY=FAILURE,DELAY", "ORCPT=rfc822;first@example.net"],
        )
    [message] = sink.messages
    assert {"RET=HDRS", "ENVID=QQ+2B314159"} <= set(message.parameters)
    [parameters] = message.recipient_parameters
    assert set(parameters) == {"NOTIFY=FAILURE,DELAY", "ORCPT=rfc822;first@example.net"}


def test_a_refused_recipient_is_told_of_and_the_others_get_theirs(
    relay: WaypostProcess, port: int, sink: StoringSink
) -> None:
    sink.recipient_replies["nobody@example.org"] = "550 5.1.1 no such user here"
    recipients = ["b@example.org", "nobody@example.org", "c@example.org"]
    with smtplib.SMTP("127.0.0.1", port) as client:
        refused = client.sendmail("a@example.com", recipients, CONTENTS["plain"])
    assert refused == {"nobody@example.org": (550, b"5.1.1 no such user here")}
    [message] = sink.messages
    assert message.recipients == ("b@example.org", "c@example.org")


def test_messages_on_one_connection_keep_their_own_recipients(
    relay: WaypostProcess, port: int, sink: StoringSink
) -> None:
    with smtplib.SMTP("127.0.0.1", port) as client:
        for number in range(20):
            client.sendmail(
                f"a{number}@example.com",
                [f"b{number}@example.org", f"c{number}@example.org"],
                HEAD + b"%d\r\n" % number,
            )
    assert [(message.reverse_path, message.recipients, message.untraced) for message in sink.messages] == [
        (f"a{number}@example.com", (f"b{number}@example.org", f"c{number}@example.org"), HEAD + b"%d\r\n" % number)
        for number in range(20)
    ]


@pytest.mark.parametrize("method", ["auth_plain", "auth_login"])
@pytest.mark.parametrize("initial", [True, False], ids=["initial response", "challenged"])
def test_an_account_submits_inside_starttls(
    submission: WaypostProcess,
    port: int,
    sink: StoringSink,
    certificates: Certificates,
    method: str,
    initial: bool,
) -> None:
    with smtplib.SMTP("localhost", port) as client:
        client.starttls(context=certificates.client_context())
        client.ehlo()
        client.user, client.password = USERNAME, PASSWORD
        mechanism = method.removeprefix("auth_").upper()
        assert client.auth(mechanism, getattr(client, method), initial_response_ok=initial)[0] == 235
        client.sendmail("a@example.com", ["b@example.org"], CONTENTS["dots"])
    [message] = sink.messages
    assert message.untraced == CONTENTS["dots"]
    assert message.username is None  # G3: no credentials configured for the upstream, none invented
    assert PASSWORD not in submission.output()


def test_an_account_submits_inside_implicit_tls(
    tmp_path: Path, port: int, sink: StoringSink, certificates: Certificates
) -> None:
    settings = submitting(port, sink.address, certificates, tls="implicit")
    with (
        WaypostProcess(tmp_path, settings, tls_ports=[port]),
        smtplib.SMTP_SSL("localhost", port, context=certificates.client_context()) as client,
    ):
        client.login(USERNAME, PASSWORD)
        client.sendmail("a@example.com", ["b@example.org"], CONTENTS["plain"])
    assert [message.untraced for message in sink.messages] == [CONTENTS["plain"]]


def test_a_wrong_password_and_no_password_get_nowhere(
    submission: WaypostProcess, port: int, sink: StoringSink, certificates: Certificates
) -> None:
    with smtplib.SMTP("localhost", port) as client:
        with pytest.raises(smtplib.SMTPNotSupportedError):
            client.login(USERNAME, PASSWORD)  # not offered without TLS
        client.starttls(context=certificates.client_context())
        with pytest.raises(smtplib.SMTPAuthenticationError) as wrong:
            client.login(USERNAME, "wrong")
        assert wrong.value.smtp_code == 535
        with pytest.raises(smtplib.SMTPSenderRefused) as without:
            client.sendmail("a@example.com", ["b@example.org"], CONTENTS["plain"])
        assert without.value.smtp_code == 530
    assert sink.messages == []
