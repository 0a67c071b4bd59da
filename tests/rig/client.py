"""A client that sends exactly what it is told, for dialogues that no well-behaved library would hold."""

import re
import socket
import ssl
import struct
from dataclasses import dataclass
from types import TracebackType
from typing import Self

_REPLY_LINE = re.compile(r"[2-5][0-9]{2}(?:[ -].*)?", re.ASCII | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Answer:
    """One reply: its code, and its lines without the code."""

    code: int
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        """All lines, one below the other."""
        return "\n".join(self.lines)


class RawClient:
    """A blocking connection to a server on loopback.

    with RawClient(port) as client:
        client.expect(220)
        client.command("EHLO client.example", 250)
        client.send(b"MAIL FROM:<a@example.com>\\r\\nRCPT TO:<b@example.org>\\r\\n")
        client.expect(250)
    """

    def __init__(self, port: int, host: str = "127.0.0.1", seconds: float = 20) -> None:
        self._socket: socket.socket = socket.create_connection((host, port), timeout=seconds)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""

    def send(self, octets: bytes) -> None:
        """These octets, as they are."""
        self._socket.sendall(octets)

    def expect(self, code: int) -> Answer:
        """The next reply, which must have this code."""
        answer = self.answer()
        assert answer.code == code, f"expected {code}, got {answer.code} {answer.text}"
        return answer

    def command(self, line: str, code: int) -> Answer:
        """Sends a line and expects a code."""
        self.send(line.encode() + b"\r\n")
        return self.expect(code)

    def answer(self) -> Answer:
        """The next reply. All of its lines must have one code."""
        lines: list[str] = []
        while True:
            line = self._line().decode()
            assert _REPLY_LINE.fullmatch(line), f"not a reply line: {line!r}"
            lines.append(line)
            assert line[:3] == lines[0][:3], f"codes differ in one reply: {lines}"
            if line[3:4] != "-":
                return Answer(int(line[:3]), tuple(line[4:] for line in lines))

    def hello(self, name: str = "client.example") -> Answer:
        """Greeting and EHLO."""
        self.expect(220)
        return self.command(f"EHLO {name}", 250)

    def mail(self, reverse_path: str, *recipients: str) -> None:
        """MAIL, RCPT and DATA up to the 354; every recipient has to be accepted."""
        self.command(f"MAIL FROM:<{reverse_path}>", 250)
        for recipient in recipients:
            self.command(f"RCPT TO:<{recipient}>", 250)
        self.command("DATA", 354)

    def answer_to_message(self, reverse_path: str, recipient: str, content: bytes) -> Answer:
        """Sends a whole message, one command at a time, and gives the first answer that is not positive, or the last.

        `content` has to be stuffed already and to end with CRLF.
        """
        steps = (f"MAIL FROM:<{reverse_path}>", f"RCPT TO:<{recipient}>", "DATA")
        for step in (*(f"{line}\r\n".encode() for line in steps), content + b".\r\n"):
            self.send(step)
            answer = self.answer()
            if answer.code >= 400:
                break
        return answer

    def expect_end(self) -> None:
        """The server closes, and says nothing more."""
        assert not self._buffer, f"more was said: {self._buffer!r}"
        rest = self._receive()
        assert not rest, f"more was said: {rest!r}"

    def start_tls(self, context: ssl.SSLContext, name: str = "localhost") -> None:
        """The handshake, after a STARTTLS that was accepted."""
        assert not self._buffer, f"text before the handshake: {self._buffer!r}"
        self._socket = context.wrap_socket(self._socket, server_hostname=name)

    def finish_sending(self) -> None:
        """Half-closes: the server reads an end, and can still answer."""
        self._socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Ends the connection with a TCP reset, as a host does that crashed or a client that gave up."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def close(self) -> None:
        """Closes without QUIT."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _line(self) -> bytes:
        while (end := self._buffer.find(b"\r\n")) < 0:
            octets = self._receive()
            assert octets, f"the server closed in the middle of a reply: {self._buffer!r}"
            self._buffer += octets
        line, self._buffer = self._buffer[:end], self._buffer[end + 2 :]
        return line

    def _receive(self) -> bytes:
        try:
            return self._socket.recv(65536)
        except ConnectionResetError:
            return b""  # closed while something of ours was unread: an end all the same
