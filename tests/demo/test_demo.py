"""The demonstration: what it shows when all is well, and that it notices when something is not."""

import asyncio
import dataclasses
import os
import pty
import re
import select
import signal
import smtplib
import subprocess
import sys
import time

import pytest

from waypost.commands.demo import show_tour
from waypost.demo.play import play
from waypost.demo.stage import Records, Stage
from waypost.demo.table import COLUMNS, Table
from waypost.demo.tour import tour

PROGRAM = [sys.executable, "-m", "waypost", "demo"]


def rows(shown):
    """The cells of each row of the table, its lines joined."""
    found = []
    starts = [3]
    for _, width in COLUMNS[:-1]:
        starts.append(starts[-1] + width + 2)
    _, _, table = shown.partition("why\n")
    for line in table.partition("\n\n")[0].split("\n")[1:]:
        ends = [*(start - 2 for start in starts[1:]), None]
        cells = [line[start:end].strip() for start, end in zip(starts, ends, strict=True)]
        if line[:2].strip():
            found.append([line[:2].strip(), *cells])
        else:
            found[-1][1:] = [f"{before} {cell}".strip() for before, cell in zip(found[-1][1:], cells, strict=True)]
    return found


def test_once_shows_where_every_message_went(tmp_path):
    began = time.monotonic()
    done = subprocess.run([*PROGRAM, "--once"], capture_output=True, timeout=60, cwd=tmp_path)
    spent = time.monotonic() - began

    shown = done.stdout.decode()
    assert (done.returncode, done.stderr) == (0, b""), shown
    found = [[mark, title, told.partition(" (id")[0], went, why] for mark, title, told, went, why in rows(shown)]
    delay = re.compile(r"[\d.]+ m?s later")
    assert [[*row[:4], delay.sub("N later", row[4])] for row in found] == [
        ["✓", "plain text", "250 2.0.0 Kept as message 1", "provider-a", "first in its pool"],
        ["✓", "8-bit text", "250 2.0.0 Kept as message 2", "provider-a", "first in its pool"],
        ["✓", "large: 3 MB", "250 2.0.0 Kept as message 3", "provider-a", "first in its pool"],
        ["✓", "three recipients", "250 2.0.0 Kept as message 4", "provider-a", "first in its pool"],
        [
            "✓",
            "provider-a refuses for now",
            "250 2.0.0 Kept as message 1",
            "provider-b",
            "provider-a said 451 Too busy now: so provider-b",
        ],
        ["✓", "provider-a is down", "250 2.0.0 Kept as message 2", "provider-b", "provider-a is down: so provider-b"],
        [
            "✓",
            "content refused for good",
            "554 5.7.1 This is spam",
            "nobody",
            "the content was refused for good: no failover",
        ],
        ["✓", "old and new server", "250 2.0.0 Kept as message 1", "old, new", "old answered; new got a copy N later"],
        [
            "✓",
            "new server is down",
            "250 2.0.0 Kept as message 2",
            "old, new",
            "old answered; new got it when back, N later",
        ],
        [
            "✓",
            "no such recipient",
            "550 5.1.1 No such user",
            "nobody",
            "the recipient was refused for good: no failover",
        ],
    ]
    assert "All 10 messages ended where they should" in shown
    assert [line for line in shown.split("\n") if len(line) > 80] == []
    assert "\x1b" not in shown
    assert spent < 30  # seconds; alone on a machine it is two
    assert list(tmp_path.iterdir()) == []


def test_output_that_knows_ascii_only_and_a_log(tmp_path):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    log = tmp_path / "demo.log"
    done = subprocess.run([*PROGRAM, "--log", str(log)], capture_output=True, timeout=60, env=environment)

    assert done.returncode == 0, done
    assert b"ok plain text " in done.stdout
    assert done.stdout.isascii()
    events = log.read_text("utf-8")
    for event in ("listening", "received", "relayed", "attempted", "copied"):
        assert f'"event":"{event}"' in events


def test_a_log_that_cannot_be_written():
    done = subprocess.run([*PROGRAM, "--once", "--log", "/dev/null/x"], capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (1, b"waypost demo: --log /dev/null/x: Not a directory\n")


SABOTAGE = {
    "provider-b": (
        ["dot=451 4.3.0 Broken too"],
        ["provider-a refuses for now", "provider-b got it 0 times, not once"],
    ),
    "provider-a": (["mail=550 5.7.1 Not you"], ["plain text: the client was told 550"]),
    "old": ([], ["no such recipient: the client was told 250", "old got a message that is not for it"]),
}


@pytest.mark.parametrize("name", SABOTAGE)
async def test_what_does_not_end_where_it_should_is_named(capsys, name):
    faults, said = SABOTAGE[name]
    async with asyncio.timeout(60), Stage(Records(os.open(os.devnull, os.O_WRONLY))) as stage:
        stage.sinks[name].replace_faults(faults)
        fine = await show_tour(stage, Table(colours=False, plain=False))

    shown = " ".join(capsys.readouterr().out.split())
    assert not fine
    assert "Not every message ended where it should:" in shown
    for what in said:
        assert what in shown


async def test_damage_to_the_content_is_noticed(monkeypatch):
    acts = {act.title: act for act in tour()}
    async with Stage(Records(os.open(os.devnull, os.O_WRONLY))) as stage:
        spoilt = []
        keep = stage.sinks["provider-a"].mailbox.keep

        def spoil(message):
            spoilt.append(message)
            keep(dataclasses.replace(message, content=message.content.replace(b"\r\n..and", b"\r\n.and")))

        monkeypatch.setattr(stage.sinks["provider-a"].mailbox, "keep", spoil)
        result = await play(stage, acts["plain text"])

    assert len(spoilt) == 1
    assert result.differs == ("provider-a: the content is not byte for byte what was sent, behind one Received field",)


def test_on_a_terminal_it_stays_and_says_what_to_type():
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(TERM="xterm", COLUMNS="80")
        os.environ.pop("NO_COLOR", None)
        os.execv(PROGRAM[0], PROGRAM)
    shown = Shown(terminal)
    try:
        shown.until("Ctrl-C ends it.")
        assert "\x1b[32m" in shown.text
        port, relay = (
            int(shown.found(pattern)) for pattern in (r"swaks --server 127.0.0.1:(\d+)", r"Port (\d+) takes")
        )
        script = shown.found(r"(?s)python3 -c '(.*?)'\r?\n").replace("\r", "")
        assert subprocess.run([sys.executable, "-c", script], timeout=30).returncode == 0
        shown.until("hello\r\n")
        assert re.search(r"provider-a  <me@example.com> to <you@example.net> \(\d+ B\)  hello", shown.text)
        with smtplib.SMTP("127.0.0.1", port) as client:
            client.login("demo", "demo")
            client.sendmail("me@example.com", "busy@example.net", b"Subject: busy\r\n\r\nx\r\n")
        shown.until("busy\r\n")
        with smtplib.SMTP("127.0.0.1", relay) as client:
            client.sendmail("me@example.com", "you@example.net", b"Subject: both\r\n\r\nx\r\n")
        shown.until("new         <me@example.com> to <you@example.net>")
        assert "provider-b  <me@example.com> to <busy@example.net>" in shown.text
        assert "old         <me@example.com> to <you@example.net>" in shown.text
        os.write(terminal, b"\x03")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        pid = 0
    finally:
        if pid:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        os.close(terminal)


class Shown:
    """What a program writes to its terminal."""

    def __init__(self, terminal):
        self._terminal = terminal
        self.text = ""

    def until(self, words, seconds=30):
        deadline = time.monotonic() + seconds
        while words not in self.text:
            assert time.monotonic() < deadline, self.text
            if select.select([self._terminal], [], [], 0.2)[0]:
                self.text += os.read(self._terminal, 65536).decode()

    def found(self, pattern):
        match = re.search(pattern, self.text)
        assert match, self.text
        return match[1]
