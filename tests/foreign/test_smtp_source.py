"""Postfix's load tools: `smtp-source` as client, `smtp-sink` as upstream."""

import os
import smtplib
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rig.client import RawClient
from rig.ports import free_port
from rig.programs import require, run, transcript
from rig.settings import relaying
from rig.sink import StoringSink
from rig.waiting import wait_until
from rig.waypost import WaypostProcess

Start = Callable[[dict[str, Any]], WaypostProcess]


@pytest.mark.usefixtures("relay")
@pytest.mark.parametrize("reuse", ["-d", ""], ids=["reused connections", "a connection per message"])
@pytest.mark.parametrize("lines", [10, 2000])
def test_every_message_of_many_sessions_arrives_once(
    port: int, sink: StoringSink, tmp_path: Path, reuse: str, lines: int
) -> None:
    content = b"Subject: exact\r\n\r\n" + b".\r\n..\r\n" + (b"0123456789" * 7 + b"\r\n") * lines + b"\r\n"
    # The last, empty line is smtp-source's own: it ends every file with one.
    (tmp_path / "message").write_bytes(content.replace(b"\r\n", b"\n").removesuffix(b"\n"))
    count = 120
    result = run(
        # -N numbers the recipients, so that messages can be told apart.
        f"smtp-source -s 6 -m {count} {reuse} -N -f a@example.com -t b@example.org -F",
        tmp_path / "message",
        f"127.0.0.1:{port}",
    )
    assert result.returncode == 0, transcript(result)
    messages = sink.wait_for(count)
    assert len({message.recipients for message in messages}) == len(messages) == count
    assert {(message.reverse_path, len(message.recipients)) for message in messages} == {("a@example.com", 1)}
    assert {message.untraced for message in messages} == {content}


@contextmanager
def smtp_sink(folder: Path, *options: str) -> Iterator[int]:
    """`smtp-sink` on a free port, which dumps every message into a file in `folder`."""
    folder.mkdir()
    port = free_port()
    command = [require("smtp-sink"), "-d", f"{folder}/%M.", *options]
    if os.geteuid() == 0:
        command += ["-u", "root"]  # it insists on being told, as root
    with subprocess.Popen([*command, f"127.0.0.1:{port}", "100"], stdin=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: _listens(port), "smtp-sink")
            yield port
        finally:
            process.kill()


def _listens(port: int) -> bool:
    try:
        with RawClient(port) as client:
            client.expect(220)
            return True
    except ConnectionRefusedError:
        return False


def dumps(folder: Path) -> list[bytes]:
    """What `smtp-sink` wrote for each message: its view of the envelope, then the content with LF line ends."""
    return [path.read_bytes() for path in sorted(folder.iterdir()) if path.stat().st_size]


@pytest.mark.parametrize(
    "options",
    [[], ["-p"], ["-8"], ["-e"], ["-a"]],
    ids=["everything offered", "no PIPELINING", "no 8BITMIME", "HELO only", "no EHLO keyword at all"],
)
def test_smtp_sink_gets_what_the_client_sent(start: Start, port: int, tmp_path: Path, options: Sequence[str]) -> None:
    content = b"Subject: exact\r\n\r\n.\r\n..\r\nbody\r\n"
    with smtp_sink(tmp_path / "dump", *options) as upstream:
        start(relaying(port, f"127.0.0.1:{upstream}"))
        with smtplib.SMTP("127.0.0.1", port) as client:
            for number in range(5):
                assert client.sendmail(f"a{number}@example.com", [f"b{number}@example.org"], content) == {}
        written = dumps(tmp_path / "dump")
    assert len(written) == 5
    for number in range(5):
        [dump] = [dump for dump in written if b"<a%d@example.com>" % number in dump]
        assert b"<b%d@example.org>" % number in dump
        assert dump.rstrip(b"\n").endswith(content.replace(b"\r\n", b"\n").rstrip(b"\n"))


@pytest.mark.parametrize(
    ("options", "answer"),
    [
        (["-f", "mail"], "554 5.7.1 not here"),
        (["-f", "rcpt"], "554 5.7.1 not here"),
        (["-f", "data"], "554 5.7.1 not here"),
        (["-f", "."], "554 5.7.1 not here"),
        (["-r", "rcpt"], "450 4.2.0 not now"),
        (["-r", "."], "450 4.2.0 not now"),
        (["-q", "rcpt"], "451 4.4."),
        (["-q", "."], "451 4.4.2"),
        (["-Q", "mail"], "451 4."),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_smtp_sink_says_reaches_the_client(
    start: Start, port: int, tmp_path: Path, options: Sequence[str], answer: str
) -> None:
    words = ("-B", "554 5.7.1 not here", "-b", "450 4.2.0 not now")
    with smtp_sink(tmp_path / "dump", *words, *options) as upstream:
        start(relaying(port, f"127.0.0.1:{upstream}"))
        with RawClient(port) as client:
            client.hello()
            heard = client.answer_to_message("a@example.com", "b@example.org", b"x\r\n")
            assert f"{heard.code} {heard.text}".startswith(answer)
            client.command("NOOP", 250)  # the session goes on


def test_smtp_source_into_smtp_sink(start: Start, port: int, tmp_path: Path) -> None:
    with smtp_sink(tmp_path / "dump") as upstream:
        start(relaying(port, f"127.0.0.1:{upstream}"))
        result = run(f"smtp-source -s 10 -m 200 -l 5000 -d -N -f a@example.com -t b@example.org 127.0.0.1:{port}")
        assert result.returncode == 0, transcript(result)
        assert len(dumps(tmp_path / "dump")) == 200
