"""A stop-and-wait client that measures how long each message takes: `smtp-source` does not tell.

One process, non-blocking sockets and epoll, a handful of calls per command, so that little of the client is in the
figure. With `--reuse` a message counts from MAIL to the reply to its final dot; else from the connect. QUIT is sent
and not counted. Prints a JSON list of seconds.

    python -m bench.latency --port 2525 --sessions 1 --messages 500 --size 1024 --reuse
"""

import argparse
import json
import select
import socket
import sys
import time
from collections.abc import Iterator

LINE = b"X" * 78 + b"\r\n"


def content(size: int) -> bytes:
    """A small header, `size` octets of text in lines of 80, and the final dot."""
    lines, rest = divmod(size, len(LINE))
    body = LINE * lines + (b"X" * (rest - 2) + b"\r\n" if rest > 2 else b"")
    return b"From: <foo@client.bench.test>\r\nSubject: latency\r\n\r\n" + body + b".\r\n"


class RefusedError(Exception):
    """The server said something else than the one reply that leads on."""


class Session:
    """One client that sends its share of the messages one after the other."""

    def __init__(self, port: int, numbers: Iterator[int], body: bytes, reuse: bool, took: list[float]) -> None:
        self._port = port
        self._numbers = numbers
        self._body = body
        self._reuse = reuse
        self._took = took
        self._input = b""
        self._output = memoryview(b"")
        self._steps = self._talk()
        self.socket = self._connect()

    def _connect(self) -> socket.socket:
        self._begun = time.perf_counter()
        connection = socket.create_connection(("127.0.0.1", self._port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setblocking(False)
        self._expected = next(self._steps)[0]
        return connection

    def _talk(self) -> Iterator[tuple[bytes, bytes]]:
        """Pairs of the reply code that must come next and, once it has come, what is sent then."""
        yield b"220", b""
        yield b"250", b"EHLO client.bench.test\r\n"
        for number in self._numbers:
            if self._reuse:
                self._begun = time.perf_counter()
            yield b"250", b"MAIL FROM:<foo@client.bench.test>\r\n"
            yield b"250", b"RCPT TO:<%dbar@bench.test>\r\n" % number
            yield b"354", b"DATA\r\n"
            yield b"250", self._body
            self._took.append(time.perf_counter() - self._begun)
            if not self._reuse:
                break
        yield b"221", b"QUIT\r\n"

    def readable(self) -> bool:
        """Takes what came in; False when the connection is done."""
        got = self.socket.recv(65536)
        if not got:
            raise RefusedError("the server hung up")
        self._input += got
        last = self._input[self._input.rfind(b"\n", 0, -1) + 1 :]
        if not last.endswith(b"\n") or last[3:4] == b"-":
            return True
        if last[:3] != self._expected:
            raise RefusedError(f"expected {self._expected.decode()}, got {last!r}")
        self._input = b""
        step = next(self._steps, None)
        if step is None:
            self.socket.close()
            return False
        self._expected, order = step
        self._output = memoryview(order)
        self.writable()
        return True

    def writable(self) -> bool:
        """Sends what can be sent; True when something is left."""
        try:
            sent = self.socket.send(self._output)
        except BlockingIOError:
            sent = 0
        self._output = self._output[sent:]
        return bool(self._output)

    @property
    def pending(self) -> bool:
        """Whether something waits to be sent."""
        return bool(self._output)


def measure(port: int, sessions: int, messages: int, size: int, reuse: bool) -> list[float]:
    """Sends `messages` over `sessions` connections at once; seconds for each message."""
    took: list[float] = []
    body = content(size)
    numbers = iter(range(messages))
    poll = select.epoll()
    active: dict[int, Session] = {}

    def begin() -> None:
        session = Session(port, numbers, body, reuse, took)
        active[session.socket.fileno()] = session
        poll.register(session.socket, select.EPOLLIN)

    opened = min(sessions, messages)
    for _ in range(opened):
        begin()
    while active:
        events = poll.poll(60)
        if not events:
            raise RefusedError("no answer within 60 seconds")
        for number, event in events:
            session = active[number]
            if event & select.EPOLLOUT and not session.writable():
                poll.modify(number, select.EPOLLIN)
            if event & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
                if not session.readable():
                    del active[number]
                    if not reuse and opened < messages:
                        opened += 1
                        begin()
                elif session.pending:
                    poll.modify(number, select.EPOLLIN | select.EPOLLOUT)
    return took


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(prog="python -m bench.latency", description="Seconds that each message takes.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--sessions", type=int, default=1)
    parser.add_argument("--messages", type=int, default=500)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--reuse", action="store_true")
    options = parser.parse_args()
    try:
        took = measure(options.port, options.sessions, options.messages, options.size, options.reuse)
    except (OSError, RefusedError) as error:
        sys.exit(f"latency client: {error}")
    json.dump(took, sys.stdout)


if __name__ == "__main__":
    main()
