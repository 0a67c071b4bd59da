"""One session of the storing sink: a blocking loop with one function per verb."""

import base64
import re
import socket
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rig import sasl
from rig.faults import Phase
from rig.stored import StoredMessage

if TYPE_CHECKING:
    from rig.sink import StoringSink


class Hangup(Exception):  # noqa: N818 - the ordinary end of a session is no error
    """The client has gone, or the order was to hang up."""


@dataclass(slots=True)
class _Transaction:
    reverse_path: str
    parameters: tuple[str, ...]
    recipients: list[str] = field(default_factory=list)
    recipient_parameters: list[tuple[str, ...]] = field(default_factory=list)
    chunks: list[bytes] = field(default_factory=list)


_PATH = re.compile(rb"(?:FROM|TO):<([^>]*)>((?: [^ ]+)*)", re.IGNORECASE)


class SinkSession:
    """Reads commands until QUIT, and answers as the sink has been told."""

    def __init__(self, sink: "StoringSink", number: int, connection: socket.socket) -> None:
        self._sink = sink
        self._number = number
        self._socket = connection
        self._buffer = b""
        self._transaction: _Transaction | None = None
        self._helo = ""
        self._username: str | None = None

    def run(self) -> None:
        """The session, from greeting to end. Raises `Hangup` and `OSError` for its ordinary ends."""
        if self._sink.implicit_tls:
            self._secure()
        self._answer("connect", f"220 {self._sink.name} ESMTP")
        while True:
            line = self._line()
            self._sink.record(self._number, line)
            verb, _, rest = line.partition(b" ")
            match verb.upper():
                case b"EHLO" | b"HELO":
                    self._hello(verb.upper(), rest)
                case b"STARTTLS" if self._sink.tls is not None:
                    self._starttls()
                case b"AUTH" if self._sink.logins:
                    self._auth(rest)
                case b"MAIL":
                    self._mail(rest)
                case b"RCPT":
                    self._rcpt(rest)
                case b"DATA":
                    self._data()
                case b"BDAT":
                    self._bdat(rest)
                case b"RSET":
                    self._transaction = None
                    self._answer("rset", "250 2.0.0 OK")
                case b"NOOP":
                    self._say(b"250 2.0.0 OK\r\n")
                case b"QUIT":
                    self._answer("quit", "221 2.0.0 bye")
                    return
                case _:
                    self._say(b"500 5.5.2 unknown command\r\n")

    def interrupt(self) -> None:
        """Wakes the session's thread out of whatever it waits for; it ends by itself."""
        try:
            # Not SSLSocket.shutdown, which takes the TLS layer away under a thread that reads from it.
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
        except OSError:
            pass  # already disconnected

    def close(self) -> None:
        """Closes the socket."""
        self._socket.close()

    @property
    def _is_tls(self) -> bool:
        return isinstance(self._socket, ssl.SSLSocket)

    def _secure(self) -> None:
        assert self._sink.tls is not None
        secured = self._sink.tls.wrap_socket(self._socket, server_side=True, do_handshake_on_connect=False)
        self._socket = secured
        secured.do_handshake()

    def _hello(self, verb: bytes, name: bytes) -> None:
        self._transaction = None
        self._helo = name.decode("utf-8", "backslashreplace")
        if verb == b"EHLO" and not self._sink.esmtp:
            self._answer("ehlo", "502 5.5.1 what is EHLO?")
            return
        lines = [self._sink.name]
        if verb == b"EHLO":
            lines += self._sink.extensions
            if self._sink.tls is not None and not self._is_tls:
                lines.append("STARTTLS")
            if self._sink.logins:
                lines.append(f"AUTH {' '.join(self._sink.mechanisms)}")
        self._answer("ehlo", *[f"250-{line}" for line in lines[:-1]], f"250 {lines[-1]}")

    def _starttls(self) -> None:
        if self._answer("starttls", "220 2.0.0 go ahead"):
            assert not self._buffer, "the client sent text together with STARTTLS"
            self._secure()
            self._helo = ""
            self._transaction = None

    def _auth(self, rest: bytes) -> None:
        mechanism, _, initial = rest.partition(b" ")
        if mechanism.decode().upper() not in self._sink.mechanisms:
            self._say(b"504 5.5.4 that mechanism is not known\r\n")
            return
        assert self._sink.logins is not None
        first = base64.b64decode(b"" if initial == b"=" else initial) if initial else None
        identity = sasl.serve(self._sink.logins, mechanism.decode().upper(), first, self._ask)
        refusal = "535 5.7.8 wrong"
        if self._answer("auth", refusal if identity is None else "235 2.7.0 welcome"):
            self._username = identity

    def _ask(self, challenge: bytes) -> bytes:
        self._say(b"334 " + base64.b64encode(challenge) + b"\r\n")
        response = self._line()
        if response == b"*":
            self._say(b"501 5.7.0 cancelled\r\n")
            raise Hangup
        return base64.b64decode(response, validate=True)

    def _mail(self, rest: bytes) -> None:
        found = _PATH.fullmatch(rest)
        if found is None:
            self._say(b"501 5.5.4 not a path\r\n")
        elif self._transaction is not None:
            self._say(b"503 5.5.1 one MAIL at a time\r\n")
        elif self._sink.logins and self._username is None:
            self._say(b"530 5.7.0 authentication required\r\n")
        elif self._answer("mail", "250 2.1.0 OK"):
            self._transaction = _Transaction(found[1].decode(), _words(found[2]))

    def _rcpt(self, rest: bytes) -> None:
        found = _PATH.fullmatch(rest)
        if self._transaction is None:
            self._say(b"503 5.5.1 MAIL first\r\n")
        elif found is None:
            self._say(b"501 5.5.4 not a path\r\n")
        else:
            recipient = found[1].decode()
            if self._answer("rcpt", self._sink.recipient_replies.get(recipient, "250 2.1.5 OK")):
                self._transaction.recipients.append(recipient)
                self._transaction.recipient_parameters.append(_words(found[2]))

    def _data(self) -> None:
        if self._transaction is None:
            self._say(b"503 5.5.1 MAIL first\r\n")
        elif not self._transaction.recipients:
            self._say(b"554 5.5.1 no valid recipients\r\n")
        elif self._answer("data", "354 go ahead"):
            self._buffer = self._buffer or self._receive()
            self._strike("content")
            self._transaction.chunks.append(self._content())
            self._finish(self._transaction)

    def _bdat(self, rest: bytes) -> None:
        size, _, last = rest.partition(b" ")
        chunk = self._exactly(int(size))
        if self._transaction is None or not self._transaction.recipients:
            self._say(b"503 5.5.1 no valid recipients\r\n")
            return
        self._strike("content")
        self._transaction.chunks.append(chunk)
        if last.upper() == b"LAST":
            self._finish(self._transaction)
        else:
            self._say(b"250 2.0.0 chunk taken\r\n")

    def _finish(self, transaction: _Transaction) -> None:
        self._transaction = None
        message = StoredMessage(
            reverse_path=transaction.reverse_path,
            parameters=transaction.parameters,
            recipients=tuple(transaction.recipients),
            recipient_parameters=tuple(transaction.recipient_parameters),
            content=b"".join(transaction.chunks),
            session=self._number,
            helo=self._helo,
            tls=self._is_tls,
            username=self._username,
        )
        answered = self._strike("dot")
        if answered is None:
            self._answer("stored", f"250 2.0.0 stored as {self._sink.keep(message)}")
        elif answered[:1] == b"2":
            self._sink.keep(message)

    def _answer(self, phase: Phase, *lines: str) -> bool:
        """Says `lines`, or what was ordered instead. Whether the answer was positive (2yz, 3yz)."""
        answered = self._strike(phase)
        if answered is None:
            answered = "".join(f"{line}\r\n" for line in lines).encode()
            self._say(answered)
        return answered[:1] in (b"2", b"3")

    def _strike(self, phase: Phase) -> bytes | None:
        """Carries out what was ordered for this phase, and gives what was said; None when nothing was ordered."""
        ordered = self._sink.next_fault(phase)
        if ordered is None:
            return None
        if ordered.until is not None:
            while not ordered.until.wait(0.02) and not self._sink.stopping.is_set():
                pass
            if not ordered.said:
                return None
        self._say(ordered.said)
        if ordered.then == "hang":
            while not self._sink.stopping.is_set():
                self._receive()  # whatever comes, until the client goes away
        if ordered.then in ("close", "hang"):
            raise Hangup
        return ordered.said

    def _say(self, octets: bytes) -> None:
        self._socket.sendall(octets)

    def _receive(self) -> bytes:
        octets = self._socket.recv(262144)
        if not octets:
            raise Hangup
        return octets

    def _line(self) -> bytes:
        """One line, which ends with CRLF and nothing else; without its end."""
        while (end := self._buffer.find(b"\r\n")) < 0:
            self._buffer += self._receive()
        line, self._buffer = self._buffer[:end], self._buffer[end + 2 :]
        return line

    def _exactly(self, size: int) -> bytes:
        chunks, missing = [self._buffer], size - len(self._buffer)
        while missing > 0:
            chunks.append(self._receive())
            missing -= len(chunks[-1])
        octets = b"".join(chunks)
        self._buffer = octets[size:]
        return octets[:size]

    def _content(self) -> bytes:
        """The octets up to CRLF.CRLF and nothing else, unstuffed (RFC 5321 section 4.5.2)."""
        wire = bytearray(b"\r\n" + self._buffer)  # DATA's own line end counts: a dot at once is empty content
        start = 0
        while (end := wire.find(b"\r\n.\r\n", start)) < 0:
            start = max(0, len(wire) - 4)
            wire += self._receive()
        self._buffer = bytes(wire[end + 5 :])
        return bytes(wire[: end + 2]).replace(b"\r\n.", b"\r\n")[2:]


def _words(text: bytes) -> tuple[str, ...]:
    return tuple(word.decode() for word in text.split())
