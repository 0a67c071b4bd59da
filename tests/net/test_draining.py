"""Stopping: what is under way ends well, and nothing new begins."""

import os
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rig.client import RawClient
from rig.faults import hang, hold
from rig.ports import free_port
from rig.running import seconds_for
from rig.settings import relaying
from rig.sink import StoringSink
from rig.waiting import wait_until
from rig.waypost import WaypostProcess

CONTENT = b"Subject: hello\r\n\r\nbody\r\n"
MakePlace = Callable[..., Any]


def test_an_idle_session_is_told_and_nobody_is_let_in(place: MakePlace) -> None:
    it = place()
    client = it.client()
    client.hello()
    it.server.stop_soon()
    assert client.expect(421).text.startswith("4.3.2 ")
    client.expect_end()
    client.close()
    it.server.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", it.port), timeout=5)


def test_a_transaction_under_way_ends_and_then_the_session(place: MakePlace) -> None:
    it = place()
    client = it.client()
    client.hello()
    client.mail("ann@example.com", "bob@example.org")
    client.send(b"half of the ")
    it.server.stop_soon()
    wait_until(lambda: not _accepts(it.port), "the listener to close")
    client.send(b"content\r\n.\r\n")
    client.expect(250)
    assert client.expect(421).text.startswith("4.3.2 ")
    client.close()
    it.server.stop()
    assert [message.untraced for message in it.sink.messages] == [b"half of the content\r\n"]


def test_a_transaction_without_content_is_not_waited_for_in_vain(place: MakePlace) -> None:
    """It is under way, so it may end, within the time for stopping."""
    it = place(shutdown_timeout=0.5)
    client = it.client()
    client.hello()
    client.command("MAIL FROM:<ann@example.com>", 250)
    client.command("RCPT TO:<bob@example.org>", 250)
    assert seconds_for(it.server.stop) < 5
    it.sink.wait_for_verb("RSET")


def test_stopping_ends_in_time_whatever_the_upstream_does(place: MakePlace) -> None:
    it = place(shutdown_timeout=0.5)
    it.sink.on("dot", hang())
    client = it.client()
    client.hello()
    client.mail("ann@example.com", "bob@example.org")
    client.send(CONTENT + b".\r\n")
    it.server.wait_for("received")
    assert seconds_for(it.server.stop) < 5


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


# -- the installed program


def test_sigterm_lets_the_transaction_end(sink: StoringSink, tmp_path: Path) -> None:
    port = free_port()
    answered = threading.Event()
    sink.on("dot", hold(answered))
    waypost = WaypostProcess(tmp_path, relaying(port, sink.address), ports=[port])
    waypost.start()
    with RawClient(port) as client, RawClient(port) as idle:
        idle.hello()
        client.hello()
        client.mail("ann@example.com", "bob@example.org")
        client.send(CONTENT + b".\r\n")
        waypost.wait_for_record("received")
        os.kill(waypost.pid, signal.SIGTERM)
        idle.expect(421)
        answered.set()
        client.expect(250)
        client.expect(421)
    assert waypost.wait() == 0, waypost.output()
    assert len(sink.messages) == 1


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_second_signal_ends_at_once(name: str, sink: StoringSink, tmp_path: Path) -> None:
    port = free_port()
    sink.on("dot", hang())
    waypost = WaypostProcess(tmp_path, relaying(port, sink.address), ports=[port])
    waypost.start()
    with RawClient(port) as client:
        client.hello()
        client.mail("ann@example.com", "bob@example.org")
        client.send(CONTENT + b".\r\n")
        waypost.wait_for_record("received")
        number = getattr(signal, name)
        os.kill(waypost.pid, number)
        waypost.wait_for_record("stopping")
        assert seconds_for(lambda: waypost.stop(3)) < 3
