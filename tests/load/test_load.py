"""Many at once, large at once, and as slow as can be: the installed program, watched through /proc."""

import os
import selectors
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from rig.client import Answer, RawClient
from rig.ports import free_port
from rig.settings import relaying
from rig.sink import StoringSink
from rig.waiting import wait_until
from rig.waypost import WaypostProcess

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc"),
]

MakeSink = Callable[[StoringSink], StoringSink]


def high_water_mark(pid: int) -> int:
    """The most memory that a process ever had resident, in octets."""
    for line in Path(f"/proc/{pid}/status").read_text("ascii").split("\n"):
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmHWM")


def cpu_seconds(pid: int) -> float:
    """CPU time that a process has used, in user and kernel mode."""
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class CountingUpstream(threading.Thread):
    """Accepts messages and keeps their sizes only: the memory of this process is not what is being measured."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"
        self._stopping = False

    def __enter__(self) -> "CountingUpstream":
        self.start()
        return self

    def __exit__(self, *why: object) -> None:
        self._stopping = True
        socket.create_connection(self._listening.getsockname()).close()
        self.join(20)
        self._listening.close()

    def run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listening, selectors.EVENT_READ)
            while not self._stopping:
                for key, _ in selector.select():
                    if key.data is None:
                        accepted, _ = self._listening.accept()
                        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                        accepted.sendall(b"220 counting.example\r\n")
                        selector.register(accepted, selectors.EVENT_READ, [b"", -1])
                    elif not self._serve(key.fileobj, key.data):  # type: ignore[arg-type]
                        selector.unregister(key.fileobj)
                        key.fileobj.close()  # type: ignore[union-attr]
            for key in list(selector.get_map().values()):
                if key.data is not None:
                    key.fileobj.close()  # type: ignore[union-attr]

    def _serve(self, connection: socket.socket, state: list[Any]) -> bool:
        try:
            octets = connection.recv(1_048_576)
        except OSError:
            return False
        buffer: bytes = state[0] + octets
        while octets:
            if state[1] >= 0:  # in content
                end = buffer.find(b"\r\n.\r\n")
                if end < 0:
                    state[1] += max(0, len(buffer) - 4)
                    state[0] = buffer[-4:]
                    return True
                self.sizes.append(state[1] + end + 2)
                state[1], buffer = -1, buffer[end + 5 :]
                connection.sendall(b"250 2.0.0 counted\r\n")
                continue
            line, found, rest = buffer.partition(b"\r\n")
            if not found:
                break
            buffer = rest
            if line.upper().startswith(b"DATA"):
                state[1] = 0
                connection.sendall(b"354 go on\r\n")
            elif line.upper().startswith(b"EHLO"):
                connection.sendall(b"250-counting.example\r\n250-PIPELINING\r\n250-SIZE\r\n250 8BITMIME\r\n")
            else:
                connection.sendall(b"250 2.0.0 OK\r\n")
        state[0] = buffer
        return bool(octets)


def send(port: int, number: int, content: bytes) -> Answer:
    with RawClient(port, seconds=100) as client:
        client.hello()
        return client.answer_to_message("ann@example.com", f"r{number}@example.org", content)


def test_five_hundred_sessions_at_once(tmp_path: Path) -> None:
    port = free_port()
    content = b"Subject: one of many\r\n\r\n" + b"x" * 72 + b"\r\n"
    with CountingUpstream() as upstream:
        made = relaying(port, upstream.address) | {"limits": {"connections_per_address": 600}}
        with WaypostProcess(tmp_path, made, ports=[port]) as waypost:
            clients = [RawClient(port, seconds=100) for _ in range(500)]
            for client in clients:
                client.hello()
            # All of them are in content at the same time before any of them ends.
            for number, client in enumerate(clients):
                client.send(b"MAIL FROM:<ann@example.com>\r\n")
                client.expect(250)
                if number < 20:  # more than the upstream may have connections would wait for one another
                    client.command("RCPT TO:<bob@example.org>", 250)
                    client.command("DATA", 354)
            for client in clients[:20]:
                client.send(content + b".\r\n")
            for client in clients[:20]:
                client.expect(250)
            for client in clients[20:]:
                client.send(b"RCPT TO:<bob@example.org>\r\nDATA\r\n")
                client.expect(250)
                client.expect(354)
                client.send(content + b".\r\n")
                client.expect(250)
            for client in clients:
                client.close()
            assert high_water_mark(waypost.pid) < 120 * 1024 * 1024
        assert len(upstream.sizes) == 500


def test_many_clients_side_by_side(tmp_path: Path) -> None:
    port = free_port()
    with CountingUpstream() as upstream:
        made = relaying(port, upstream.address) | {"limits": {"connections_per_address": 600}}
        with WaypostProcess(tmp_path, made, ports=[port]), ThreadPoolExecutor(50) as executor:
            answers = list(executor.map(lambda n: send(port, n, b"x" * (n % 900) + b"\r\n"), range(500)))
        assert [answer.code for answer in answers] == [250] * 500
        assert len(upstream.sizes) == 500


@pytest.mark.parametrize("copies", [0, 2])
def test_twenty_messages_of_fifty_megabytes_at_once(copies: int, tmp_path: Path) -> None:
    """Within 300 MiB of memory, and every octet arrives."""
    port = free_port()
    content = b"Subject: large\r\n\r\n" + (b"0123456789abcdef" * 4 + b"\r\n") * 790_000  # 49.7 MiB
    with CountingUpstream() as upstream:
        made = relaying(port, upstream.address, *[upstream.address] * copies, spool=tmp_path / "spool")
        with WaypostProcess(tmp_path, made, ports=[port]) as waypost:
            with ThreadPoolExecutor(20) as executor:
                answers = list(executor.map(lambda number: send(port, number, content), range(20)))
            assert [answer.code for answer in answers] == [250] * 20, answers
            if copies:
                waypost.wait_for_record("copied", 20 * copies, seconds=60)
            assert high_water_mark(waypost.pid) < 300 * 1024 * 1024
        assert len(upstream.sizes) == 20 * (1 + copies)
        assert min(upstream.sizes) > len(content), "whole, with a Received field in front"
        assert max(upstream.sizes) < len(content) + 400


def test_a_client_that_sends_an_octet_at_a_time_costs_nothing(sink: StoringSink, tmp_path: Path) -> None:
    """One octet a second is a slow client, not an attack; here the seconds are short."""
    port = free_port()
    dialogue = (
        b"EHLO slow.example\r\n",
        b"MAIL FROM:<ann@example.com>\r\n",
        b"RCPT TO:<bob@example.org>\r\n",
        b"DATA\r\n",
        b"Subject: slow\r\n\r\n..\r\n.\r\n",
    )
    with WaypostProcess(tmp_path, relaying(port, sink.address), ports=[port]) as waypost:
        with RawClient(port) as client:
            client.expect(220)
            before, began = cpu_seconds(waypost.pid), time.monotonic()
            for step in dialogue:
                for octet in step:
                    client.send(bytes([octet]))
                    time.sleep(0.01)  # the client's pace, which is what is being tested
                assert client.answer().code in (250, 354)
            used, took = cpu_seconds(waypost.pid) - before, time.monotonic() - began
        assert used < took / 5, f"{used} s of CPU in {took} s"
    assert sink.messages[0].untraced == b"Subject: slow\r\n\r\n.\r\n"


def test_clients_that_never_read_cost_little_and_nobody_else(sink: StoringSink, tmp_path: Path) -> None:
    port = free_port()
    with WaypostProcess(tmp_path, relaying(port, sink.address), ports=[port]) as waypost:
        deaf = [socket.create_connection(("127.0.0.1", port)) for _ in range(5)]
        for one in deaf:
            one.setblocking(False)
            try:
                while True:
                    one.sendall(b"NOOP\r\n" * 10_000)
            except OSError:
                pass  # BlockingIOError: it takes no more, as it should
        assert send(port, 1, b"x\r\n").code == 250

        def is_calm() -> bool:
            before = cpu_seconds(waypost.pid)
            time.sleep(0.5)  # nothing happens, and that is what is measured
            return cpu_seconds(waypost.pid) - before < 0.1

        wait_until(is_calm, "an end of what the kernel let through before it was full", 30)
        assert high_water_mark(waypost.pid) < 200 * 1024 * 1024
        for one in deaf:
            one.close()


def test_a_client_that_floods_commands_leaves_the_others_their_turn(sink: StoringSink, tmp_path: Path) -> None:
    port = free_port()
    ended = threading.Event()

    def flood() -> None:
        with socket.create_connection(("127.0.0.1", port)) as greedy:
            reader = threading.Thread(target=read, args=[greedy])
            reader.start()
            while not ended.is_set():
                greedy.sendall(b"NOOP\r\n" * 10_000)
            greedy.shutdown(socket.SHUT_RDWR)
            reader.join()

    def read(greedy: socket.socket) -> None:
        while greedy.recv(1_048_576):
            pass

    with WaypostProcess(tmp_path, relaying(port, sink.address), ports=[port]), RawClient(port) as client:
        client.hello()
        flooding = threading.Thread(target=flood)
        flooding.start()
        try:
            slowest = 0.0
            for _ in range(20):
                began = time.monotonic()
                assert client.answer_to_message("ann@example.com", "bob@example.org", b"x\r\n").code == 250
                slowest = max(slowest, time.monotonic() - began)
        finally:
            ended.set()
            flooding.join()
        assert slowest < 2, slowest
