"""What arrives is what was sent, octet for octet, with one `Received` field in front; or nothing arrives at all."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from rig.client import RawClient
from rig.ports import free_port, has_ipv6
from rig.running import PATIENT, RunningServer, relay_listener, settings, single, upstream
from rig.sink import EXTENSIONS, StoringSink
from rig.waiting import wait_until
from waypost.app import instance_of
from waypost.config.settings import SpoolSettings
from waypost.net.settings import Limits
from waypost.routing.route import Account, Copy, Routes

MakeSink = Callable[[StoringSink], StoringSink]

EVERY_OCTET = bytes(octet for octet in range(256) if octet not in (0, 10, 13))
CONTENTS = {
    "ordinary": b"Subject: hello\r\n\r\nbody\r\n",
    "empty": b"",
    "one line end": b"\r\n",
    "dots": b".\r\n..\r\n...\r\n.x\r\n. \r\n",
    "a dot first": b".dot\r\n",
    "dots after text": b"a.\r\n.\r\n\r\n.\r\n",
    "no header": b"\r\nbody\r\n",
    "eight bits": b"Subject: \xe4\r\n\r\n" + EVERY_OCTET + b"\r\n",
    "spaces at ends": b"Subject: x \t\r\n \r\n\r\n \r\n\t\r\n",
    "From line": b"From ann@example.com Sat Jan  3 01:05:34 1996\r\nFrom: ann\r\n\r\n>From here\r\nFrom there\r\n",
    "folded": b"Subject: a\r\n b\r\n\tc\r\nX:\r\n\r\n",
    "a megabyte in a line": b"x" * 1_048_576 + b"\r\n.\r\n" + b"y" * 1_048_576 + b"\r\n",
    "many lines": b"0123456789\r\n" * 20_000,
    "line separators of Unicode": "a\u2028b\u2029c\u0085d\x0be\x0cf\x1cg\r\n".encode(),
}


def stuffed(content: bytes) -> bytes:
    return (b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:]


@pytest.mark.parametrize("name", CONTENTS)
def test_primary_and_copy_get_what_was_sent(name: str, sink: StoringSink, make_sink: MakeSink, tmp_path: Path) -> None:
    content = CONTENTS[name]
    archive = make_sink(StoringSink(name="archive.example"))
    port = free_port()
    made = settings(port, upstream("first", sink.port), copies=(Copy(single(upstream("archive", archive.port))),))
    with RunningServer(replace(made, spool=SpoolSettings(str(tmp_path)))), RawClient(port) as client:
        client.hello()
        client.mail("ann@example.com", "bob@example.org")
        client.send(stuffed(content) + b".\r\n")
        client.expect(250)
        [copy] = archive.wait_for(1)
        client.command("MAIL FROM:<ann@example.com> BODY=8BITMIME", 250)
        client.command("RCPT TO:<bob@example.org>", 250)
        middle = len(content) // 2
        client.send(b"BDAT %d\r\n" % middle + content[:middle])
        client.expect(250)
        client.send(b"BDAT %d LAST\r\n" % (len(content) - middle) + content[middle:])
        client.expect(250)
        archive.wait_for(2)
    by_data, by_bdat = sink.messages
    assert by_data.untraced == content
    assert by_bdat.untraced == content
    assert by_data.content == copy.content
    assert [message.content for message in archive.messages] == [message.content for message in sink.messages]


@pytest.mark.parametrize("chunking", [True, False])
@pytest.mark.parametrize(
    "content", [b"no end", b"line\r\n.", b".", b"x" * 300_000, b".\r\n" * 100_000 + b"."], ids=lambda c: f"{len(c)}"
)
def test_content_without_a_last_line_end(content: bytes, chunking: bool, make_sink: MakeSink, tmp_path: Path) -> None:
    """Only BDAT can carry it. To an upstream without CHUNKING the line end that DATA needs is added."""
    extensions = tuple(each for each in EXTENSIONS if chunking or each != "CHUNKING")
    sinks = [make_sink(StoringSink(extensions=extensions)) for _ in range(2)]
    port = free_port()
    made = settings(port, upstream("first", sinks[0].port), copies=(Copy(single(upstream("archive", sinks[1].port))),))
    with RunningServer(replace(made, spool=SpoolSettings(str(tmp_path)))), RawClient(port) as client:
        client.hello()
        client.command("MAIL FROM:<ann@example.com>", 250)
        client.command("RCPT TO:<bob@example.org>", 250)
        client.send(b"BDAT %d LAST\r\n" % len(content) + content)
        client.expect(250)
        for sink in sinks:
            [message] = sink.wait_for(1)
            assert message.untraced == content + (b"" if chunking else b"\r\n")
        assert sinks[0].messages[0].content == sinks[1].messages[0].content


def test_fifty_megabytes(sink: StoringSink, make_sink: MakeSink, tmp_path: Path) -> None:
    content = b"Subject: large\r\n\r\n" + (b".%073d\r\n" % 7) * 660_000
    archive = make_sink(StoringSink(name="archive.example"))
    port = free_port()
    made = settings(
        port,
        upstream("first", sink.port),
        copies=(Copy(single(upstream("archive", archive.port))),),
        listener=relay_listener(port, limits=Limits(message_size=60_000_000)),
    )
    with RunningServer(replace(made, spool=SpoolSettings(str(tmp_path)))), RawClient(port) as client:
        client.hello()
        client.mail("ann@example.com", "bob@example.org")
        client.send(stuffed(content) + b".\r\n")
        client.expect(250)
        archive.wait_for(1)
    assert sink.messages[0].untraced == content
    assert archive.messages[0].content == sink.messages[0].content


def test_content_may_come_octet_by_octet(sink: StoringSink) -> None:
    content = b".\r\n..a\r\n\r\n.b"
    port = free_port()
    with RunningServer(settings(port, upstream("first", sink.port))), RawClient(port) as client:
        client.hello()
        client.mail("ann@example.com", "bob@example.org")
        for octet in stuffed(content + b"\r\n") + b".\r\n":
            client.send(bytes([octet]))
        client.expect(250)
    assert sink.messages[0].untraced == content + b"\r\n"


# -- what is refused is not sent


REFUSED = {
    "bare LF": (b"a\nb\r\n", 550, "5.6.0"),
    "bare CR": (b"a\rb\r\n", 550, "5.6.0"),
    "a false end": (b"a\n.\nMAIL FROM:<evil@example.com>\r\n", 550, "5.6.0"),
    "another false end": (b"a\r\n.\rMAIL FROM:<evil@example.com>\r\n", 550, "5.6.0"),
    "NUL": (b"a\0b\r\n", 550, "5.6.0"),
    "too large": (b"x" * 70_000 + b"\r\n", 552, "5.3.4"),
    "a line too long": (b"x" * 5_000 + b"\r\n", 554, "5.6.0"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("by", ["DATA", "BDAT"])
def test_what_may_not_pass_is_refused_whole_and_the_session_stays_in_step(
    name: str, by: str, sink: StoringSink
) -> None:
    """G6, S2: never cut and relayed. Whatever follows the real end is a command again, and nothing before it is."""
    content, code, enhanced = REFUSED[name]
    port = free_port()
    listener = relay_listener(port, limits=Limits(message_size=60_000, line_length=4096))
    if name == "too large":
        listener = relay_listener(port, limits=Limits(message_size=60_000))
    with (
        RunningServer(settings(port, upstream("first", sink.port), listener=listener)) as server,
        RawClient(port) as client,
    ):
        client.hello()
        client.command("MAIL FROM:<ann@example.com>", 250)
        client.command("RCPT TO:<bob@example.org>", 250)
        if by == "DATA":
            client.command("DATA", 354)
            client.send(content + b".\r\n")
        else:
            client.send(b"BDAT %d LAST\r\n" % len(content) + content)
        assert client.expect(code).text.startswith(enhanced)
        assert client.answer_to_message("ann@example.com", "bob@example.org", b"fine\r\n").code == 250
        assert server.told("refused", command="content")[0]["code"] == code
    assert [message.untraced for message in sink.messages] == [b"fine\r\n"]


def test_a_size_that_is_declared_too_large_is_refused_at_mail(sink: StoringSink) -> None:
    port = free_port()
    listener = relay_listener(port, limits=Limits(message_size=60_000))
    with (
        RunningServer(settings(port, upstream("first", sink.port), listener=listener)),
        RawClient(port) as client,
    ):
        assert "SIZE 60000" in client.hello().lines
        assert client.command("MAIL FROM:<ann@example.com> SIZE=60001", 552).text.startswith("5.3.4")
        client.command("MAIL FROM:<ann@example.com> SIZE=60000", 250)
    assert sink.sessions == 0


@pytest.mark.parametrize("size", [100, 3_000_000])
@pytest.mark.parametrize("by", ["DATA", "BDAT"])
def test_a_client_that_disappears_leaves_nothing_behind(
    size: int, by: str, sink: StoringSink, make_sink: MakeSink, tmp_path: Path
) -> None:
    """G4, S1: half a message goes nowhere."""
    archive = make_sink(StoringSink(name="archive.example"))
    port = free_port()
    made = settings(port, upstream("first", sink.port), copies=(Copy(single(upstream("archive", archive.port))),))
    with RunningServer(replace(made, spool=SpoolSettings(str(tmp_path)))) as server:
        with RawClient(port) as client:
            client.hello()
            client.command("MAIL FROM:<ann@example.com>", 250)
            client.command("RCPT TO:<bob@example.org>", 250)
            if by == "DATA":
                client.command("DATA", 354)
            else:
                client.send(b"BDAT %d LAST\r\n" % (size * 2))
            client.send((b"x" * 98 + b"\r\n") * (size // 100))
        [record] = server.wait_for("abandoned")
        assert record["reverse_path"] == "ann@example.com"
        wait_until(lambda: not list((tmp_path / "incoming").iterdir()), "the end of the temporary file")
        assert server.told("received") == []
    assert "DATA" not in sink.verbs()
    assert (sink.messages, archive.messages) == ([], [])


# -- trace and loops


FIELD = re.compile(
    rb"Received: from client\.example \(\[127\.0\.0\.1\]\)\r\n"
    rb" by waypost\.example \(Waypost [0-9a-f]{8}\) with ESMTP id [0-9A-Z]{16}\r\n"
    rb" for <bob@example\.org>;\r\n"
    rb" (Mon|Tue|Wed|Thu|Fri|Sat|Sun), [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} \+0000\r\n"
)


def test_the_received_field(sink: StoringSink) -> None:
    port = free_port()
    with RunningServer(settings(port, upstream("first", sink.port))), RawClient(port) as client:
        client.hello()
        client.answer_to_message("ann@example.com", "bob@example.org", b"x\r\n")
        client.mail("ann@example.com", "bob@example.org", "carol@example.org")
        client.send(b"x\r\n.\r\n")
        client.expect(250)
        client.command("HELO old.example", 250)
        client.answer_to_message("ann@example.com", "bob@example.org", b"x\r\n")
    one, two, old = sink.messages
    assert FIELD.fullmatch(one.trace)
    assert b" for " not in two.trace, "one recipient is not told of the other"
    assert b"with SMTP id" in old.trace
    assert b"from old.example" in old.trace


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
def test_the_received_field_of_an_ipv6_client(make_sink: MakeSink) -> None:
    """G17, S21: IPv6 works on both sides."""
    sink = make_sink(StoringSink(host="::1"))
    port = free_port()
    listener = relay_listener(port, host="::1")
    primary = upstream("first", sink.port, host="::1")
    with RunningServer(settings(port, primary, listener=listener)), RawClient(port, host="::1") as client:
        client.hello()
        assert client.answer_to_message("ann@example.com", "bob@example.org", b"x\r\n").code == 250
    assert sink.messages[0].trace.startswith(b"Received: from client.example ([IPv6:::1])\r\n")


def test_a_message_that_goes_in_circles_is_refused(sink: StoringSink) -> None:
    port = free_port()
    made = settings(port, upstream("first", sink.port))
    own = f"Received: from a by b (Waypost {instance_of(made)}) with SMTP id X; now\r\n".encode()
    other = b"Received: from a by b (Waypost 00000000) with SMTP id X; now\r\n"
    with RunningServer(made), RawClient(port) as client:
        client.hello()
        for front, code in (
            (other * 100, 250),
            (other * 101, 554),
            (own, 250),
            (own + other + own, 554),
            (b"Subject: x\r\n\r\n" + own * 200, 250),  # in the body it is only text
        ):
            answer = client.answer_to_message("ann@example.com", "bob@example.org", front + b"\r\nbody\r\n")
            assert answer.code == code, answer
            if code == 554:
                assert answer.text.startswith("5.4.6 ")
                client.command("RSET", 250)


def test_a_real_loop_ends(sink: StoringSink) -> None:
    """Two servers that send everything to each other: the configuration check cannot see that."""
    ports = free_port(), free_port()
    few = {"max_connections": 3, "timeouts": replace(PATIENT, connect=0.3)}
    with (
        RunningServer(settings(ports[0], upstream("other", ports[1], **few))) as server,
        RunningServer(settings(ports[1], upstream("one", ports[0], **few))),
        RawClient(ports[0]) as client,
    ):
        client.hello()
        answer = client.answer_to_message("ann@example.com", "bob@example.org", b"x\r\n")
        assert answer.code == 451, "each asks the other about the recipient, until one has no connection left"
        assert server.told("received") == []


MISSING = [
    (b"Subject: x\r\n\r\nbody\r\n", True, True),
    (b"Date: today\r\n\r\nbody\r\n", False, True),
    (b"MESSAGE-id: <1@example.com>\r\n\r\nbody\r\n", True, False),
    (b"Date: today\r\nMessage-ID:\r\n <1@example.com>\r\n\r\n", False, False),
    (b"\r\nDate: in the body\r\nMessage-ID: <1@example.com>\r\n", True, True),
    (b"", True, True),
]


@pytest.mark.parametrize(("content", "date", "message_id"), MISSING)
def test_date_and_message_id_are_added_on_submission_only_when_missing(
    content: bytes, date: bool, message_id: bool, sink: StoringSink
) -> None:
    ports = free_port(), free_port()
    made = settings(ports[0], upstream("first", sink.port))
    submission = relay_listener(ports[1], name="submission", mode="submission")
    made = replace(
        made,
        listeners=(*made.listeners, submission),
        routes=Routes((), made.routes.routes, {"me": Account("me", "secret")}),
    )
    with RunningServer(made):
        for port in ports:
            with RawClient(port) as client:
                client.hello()
                assert client.answer_to_message("ann@example.com", "bob@example.org", content).code == 250
    relayed, submitted = sink.messages
    assert relayed.untraced == content
    added = submitted.untraced[: len(submitted.untraced) - len(content)]
    assert submitted.untraced.endswith(content)
    assert added.startswith(b"Date: ") == date
    assert (b"Message-ID: <" in added) == message_id
    assert added.count(b"\r\n") == date + message_id
