"""Postfix on every side of Waypost: as its client through `transport_maps`, as its primary, as a copy target."""

import smtplib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rig.faults import close, hang, say
from rig.ports import free_port
from rig.postfix import PostfixInstance
from rig.settings import relaying
from rig.sink import StoringSink
from rig.waypost import WaypostProcess

REUSE = {"smtp_connection_cache_destinations": "static:all"}
CONTENT = (
    b"From: a@example.com\r\nTo: b@example.org\r\nSubject: exact\r\nDate: Sun, 22 Nov 2026 10:00:00 +0000\r\n"
    b"Message-ID: <1@example.com>\r\n\r\n.\r\n..\r\nbody\r\n"
)

Start = Callable[[dict[str, Any]], WaypostProcess]
MakeSink = Callable[[StoringSink], StoringSink]


def submit(port: int, reverse_path: str, *recipients: str, content: bytes = CONTENT) -> dict[str, tuple[int, bytes]]:
    """Hands a message to the server on `port`; what it refused."""
    with smtplib.SMTP("127.0.0.1", port, timeout=30) as client:
        return client.sendmail(reverse_path, recipients, content)


@pytest.fixture
def in_front(port: int) -> dict[str, str]:
    """A transport map that sends one domain through Waypost."""
    return {"example.org": f"smtp:[127.0.0.1]:{port}"}


@pytest.mark.usefixtures("relay")
def test_messages_over_one_cached_connection_keep_their_own_recipients(
    port: int, sink: StoringSink, in_front: dict[str, str]
) -> None:
    """Defect G2: all but the last message lost, and the last sent to everybody's recipients."""
    with PostfixInstance(REUSE, in_front) as postfix:
        for number in range(8):
            submit(postfix.port, f"a{number}@example.com", f"b{number}@example.org", f"c{number}@example.org")
        messages = sink.wait_for(8)
        postfix.wait_for_log("status=sent", count=16)
        assert postfix.wait_for_log("conn_use="), "Postfix never reused its connection: the test shows nothing"
        assert postfix.queued() == 0
    assert sorted((message.reverse_path, message.recipients) for message in messages) == [
        (f"a{number}@example.com", (f"b{number}@example.org", f"c{number}@example.org")) for number in range(8)
    ]
    for message in messages:
        assert b"by waypost.example" in message.trace.replace(b"\r\n\t", b" ")
        assert message.untraced.startswith(b"Received: from ")  # Postfix's own, next
        assert message.untraced.endswith(b"\r\n\r\n.\r\n..\r\nbody\r\n")


@pytest.mark.usefixtures("relay")
def test_what_the_primary_says_is_what_postfix_hears(port: int, sink: StoringSink, in_front: dict[str, str]) -> None:
    """Defect G1: 250 before anything is relayed, and the primary's refusal never reported."""
    sink.recipient_replies["nobody@example.org"] = "550 5.1.1 no such user here"
    with PostfixInstance(REUSE, in_front) as postfix:
        submit(postfix.port, "a@example.com", "b@example.org", "nobody@example.org")
        [bounced] = postfix.wait_for_log("to=<nobody@example.org>", "status=bounced")
        [sent] = postfix.wait_for_log("to=<b@example.org>", "status=sent")
    assert "550 5.1.1 no such user here" in bounced
    assert "dsn=5.1.1" in bounced
    assert "250 2." in sent
    assert [message.recipients for message in sink.messages] == [("b@example.org",)]


@pytest.mark.usefixtures("relay")
@pytest.mark.parametrize("phase", ["mail", "rcpt", "data", "dot"])
def test_postfix_keeps_and_repeats_what_the_primary_could_not_take_yet(
    port: int, sink: StoringSink, in_front: dict[str, str], phase: Any
) -> None:
    sink.on(phase, say("451 4.3.0 not now"))
    with PostfixInstance(REUSE, in_front) as postfix:
        submit(postfix.port, "a@example.com", "b@example.org")
        [deferred, *_] = postfix.wait_for_log("status=deferred")
        assert "451 4.3.0 not now" in deferred
        postfix.wait_for_log("status=sent")
    assert [message.recipients for message in sink.messages] == [("b@example.org",)]


@pytest.mark.usefixtures("relay")
def test_postfix_keeps_its_mail_while_the_primary_is_down(
    port: int, sink: StoringSink, in_front: dict[str, str]
) -> None:
    sink.stop()
    with PostfixInstance(REUSE, in_front) as postfix:
        submit(postfix.port, "a@example.com", "b@example.org")
        [deferred, *_] = postfix.wait_for_log("status=deferred")
        assert "dsn=4." in deferred
        assert postfix.queued() == 1
        sink.start()
        postfix.wait_for_log("status=sent", seconds=60)
    assert len(sink.messages) == 1


@pytest.mark.usefixtures("relay")
def test_the_null_reverse_path_stays(port: int, sink: StoringSink, in_front: dict[str, str]) -> None:
    with PostfixInstance(REUSE, in_front) as postfix:
        submit(postfix.port, "", "b@example.org")
        [message] = sink.wait_for(1)
    assert message.reverse_path == ""


def test_postfix_as_primary(start: Start, port: int, sink: StoringSink) -> None:
    refuse = {"smtpd_recipient_restrictions": "check_recipient_access inline:{nobody@example.org=REJECT}, permit"}
    with PostfixInstance(refuse, {"example.org": f"smtp:[127.0.0.1]:{sink.port}"}) as postfix:
        start(relaying(port, postfix.address))
        refused = submit(port, "a@example.com", "b@example.org", "nobody@example.org", "c@example.org")
        [message] = sink.wait_for(1)
        [line] = postfix.wait_for_log("reject: RCPT", "nobody@example.org")
    assert list(refused) == ["nobody@example.org"]
    code, text = refused["nobody@example.org"]
    assert code == 554
    assert b"5.7.1 <nobody@example.org>: Recipient address rejected: Access denied" in text
    assert text.decode() in line
    assert message.recipients == ("b@example.org", "c@example.org")
    # Postfix's Received comes first, ours is the second, and then what the client sent.
    ours = message.untraced
    assert ours.startswith(b"Received: from ")
    assert ours.endswith(CONTENT)
    assert ours.removesuffix(CONTENT).count(b"Received:") == 1


def test_postfix_as_copy_target(
    start: Start, port: int, sink: StoringSink, make_sink: MakeSink, tmp_path: Path
) -> None:
    behind = make_sink(StoringSink(name="behind"))
    with PostfixInstance(None, {"example.org": f"smtp:[127.0.0.1]:{behind.port}"}) as postfix:
        start(relaying(port, sink.address, postfix.address, spool=tmp_path / "spool"))
        submit(port, "a@example.com", "b@example.org", "c@example.org")
        [primary] = sink.messages
        [copy] = behind.wait_for(1)
        postfix.wait_for_log("status=sent", count=2)
    assert copy.untraced == primary.content  # apart from Postfix's own Received, the same octets
    assert copy.recipients == primary.recipients
    assert copy.reverse_path == "a@example.com"
    # A copy must never bounce to the author (G20): Postfix passes on what it was told.
    assert "NOTIFY=NEVER" in copy.recipient_parameters[0]


DUPLICATOR = """\
smtp:
  listen: "127.0.0.1:{port}"
  domain: "dup.example"
relay:
  destination_primary: "{primary}"
  destination_backups: ["{backup}"]
  timeout_seconds: 10
"""


def test_the_migration_of_gosmtp_dup(
    tmp_path: Path, port: int, sink: StoringSink, make_sink: MakeSink, in_front: dict[str, str]
) -> None:
    """Postfix, Waypost in GoSMTP-dup's place with its file and variables, a primary and two copies."""
    copies = [make_sink(StoringSink(name=name)) for name in ("new", "archive")]
    sink.recipient_replies["gone@example.org"] = "550 5.1.1 no longer here"
    unused = free_port()
    # The file names another port and a single backup: the variables stand above it.
    file = DUPLICATOR.format(port=unused, primary=sink.address, backup=f"127.0.0.1:{unused}")
    (tmp_path / "config.yaml").write_text(file)
    environment = {
        "SMTP_DUP_SMTP_LISTEN": f"127.0.0.1:{port}",
        "SMTP_DUP_RELAY_DESTINATION_BACKUPS": ",".join(copy.address for copy in copies),  # defect G10
        "STATE_DIRECTORY": str(tmp_path / "state"),
    }
    with (
        WaypostProcess(tmp_path, None, ports=[port], env=environment) as process,
        PostfixInstance(REUSE, in_front) as postfix,
    ):
        for number in range(4):
            submit(postfix.port, f"a{number}@example.com", f"b{number}@example.org", "gone@example.org")
        postfix.wait_for_log("status=sent", count=4)
        postfix.wait_for_log("to=<gone@example.org>", "status=bounced", count=4)
        primary = sink.wait_for(4)
        for copy in copies:
            copied = copy.wait_for(4)
            assert sorted(message.content for message in copied) == sorted(message.content for message in primary)
            # Not to the recipient whom the primary refused, and never with a bounce to the author (G20).
            assert sorted(message.recipients for message in copied) == [(f"b{n}@example.org",) for n in range(4)]
            assert all("NOTIFY=NEVER" in message.recipient_parameters[0] for message in copied)
    assert {message.helo for message in primary} == {"dup.example"}
    assert "body" not in process.output(), "content in the log (G9)"


def test_a_dead_and_a_hanging_copy_delay_nobody_and_survive_a_restart(
    tmp_path: Path, port: int, sink: StoringSink, make_sink: MakeSink, in_front: dict[str, str]
) -> None:
    """Defect G7: copies in memory, lost with the process, one hung server blocking the others."""
    dead, hanging, fine = (make_sink(StoringSink(name=name)) for name in ("dead", "hanging", "fine"))
    dead.stop()
    hanging.on("connect", hang(), times=None)
    addresses = (dead.address, hanging.address, fine.address)
    process = WaypostProcess(tmp_path, relaying(port, sink.address, *addresses, spool=tmp_path / "spool"), ports=[port])
    with PostfixInstance(REUSE, in_front) as postfix:
        with process:
            for number in range(3):
                submit(postfix.port, "a@example.com", f"b{number}@example.org")
            postfix.wait_for_log("status=sent", count=3)
            assert len(fine.wait_for(3)) == 3
            process.kill()
        hanging.stop()
        hanging.behave()
        dead.start()
        hanging.start()
        with process:
            for late in (dead, hanging):
                late.wait_for(3, seconds=30)
    expected = sorted(message.content for message in sink.messages)
    for copy in (dead, hanging, fine):
        assert sorted({message.content for message in copy.messages}) == expected  # at least once


@pytest.mark.usefixtures("relay")
def test_a_primary_that_hangs_up_in_mid_content_is_no_acceptance(
    port: int, sink: StoringSink, in_front: dict[str, str]
) -> None:
    sink.on("content", close())
    with PostfixInstance(REUSE, in_front) as postfix:
        submit(postfix.port, "a@example.com", "b@example.org")
        postfix.wait_for_log("status=deferred")
        postfix.wait_for_log("status=sent")
    assert len(sink.messages) == 1
