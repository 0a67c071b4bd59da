"""HAProxy in front: it announces clients with the PROXY protocol, and looks whether Waypost is well."""

import smtplib
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rig.client import RawClient
from rig.ports import free_port
from rig.programs import require
from rig.settings import relaying
from rig.sink import StoringSink
from rig.waiting import wait_until
from rig.waypost import WaypostProcess

Start = Callable[[dict[str, Any]], WaypostProcess]


@contextmanager
def haproxy(folder: Path, port: int, send: str) -> Iterator[int]:
    """HAProxy on a free port, in front of `port` on this machine."""
    front = free_port()
    status = folder / "haproxy.sock"
    configuration = folder / "haproxy.cfg"
    configuration.write_text(
        f"global\n  stats socket {status}\n"
        "defaults\n  mode tcp\n  timeout connect 10s\n  timeout client 30s\n  timeout server 30s\n"
        f"listen smtp\n  bind 127.0.0.1:{front}\n  option smtpchk EHLO haproxy.example\n"
        f"  server waypost 127.0.0.1:{port} source 127.0.0.2 {send} check check-send-proxy inter 200ms\n"
    )
    with subprocess.Popen([require("haproxy"), "-db", "-f", configuration], stdin=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: _answers(front), "HAProxy and Waypost behind it", 30)
            yield front
        finally:
            process.kill()


def _answers(port: int) -> bool:
    try:
        with smtplib.SMTP("127.0.0.1", port, timeout=10):
            return True
    except OSError:
        return False


@pytest.mark.parametrize("send", ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id"])
def test_the_client_of_haproxy_is_the_client(
    start: Start, port: int, sink: StoringSink, tmp_path: Path, send: str
) -> None:
    settings = relaying(port, sink.address)
    settings["listeners"][0] |= {"proxy_protocol": ["127.0.0.2"], "trusted_networks": ["127.0.0.1", "127.0.0.2"]}
    settings["log"] = {"level": "debug"}
    waypost = start(settings)
    with haproxy(tmp_path, port, send) as front, RawClient(front) as client:
        client.hello()
        answer = client.answer_to_message("ann@example.com", "bob@example.org", b"Subject: x\r\n\r\nHello\r\n")
        assert answer.code == 250
    [message] = sink.wait_for(1)
    assert b"from client.example ([127.0.0.1])" in message.trace
    # Its checks are connections of its own, and are served as such.
    waypost.wait_for_record("closed", client="127.0.0.2", why="quit")
