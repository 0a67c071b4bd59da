"""An upstream that answers for each recipient, by LMTP or by PRDR: scripted, and with no engine of Waypost's in it."""

import contextlib
import socket
import threading
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from rig.waiting import wait_until

OK = "250 2.0.0 Saved"


@dataclass(frozen=True, slots=True)
class Got:
    """Content with those whom the upstream said yes to."""

    recipients: tuple[str, ...]
    content: bytes
    mail: str  # the line


@dataclass
class EachSink:
    """One server on loopback, or at `path`. What it answers is said in its fields, which may be changed at any time."""

    protocol: str = "lmtp"  # or prdr, or smtp: then there is one answer to the content
    path: Path | None = None
    verdicts: dict[str, str] = field(default_factory=dict)  # after the content, by address
    refusals: dict[str, str] = field(default_factory=dict)  # at RCPT
    overall: str = "250 2.0.0 Accepted for some"
    answers: int | None = None  # so many verdicts; then the connection is closed
    extra: str = ""  # a reply that nobody asked for, behind the last
    got: list[Got] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        if self.path is not None:
            self._server = socket.socket(socket.AF_UNIX)
            self._server.bind(str(self.path))
            self._server.listen(8)
        else:
            self._server = socket.create_server(("127.0.0.1", 0))
        self._connections: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each in (self._server, *self._connections):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.getsockname()[1])

    def wait_for(self, count: int) -> list[Got]:
        """What it got, as soon as that is so much."""
        return wait_until(lambda: self.got if len(self.got) >= count else [], f"{count} messages at an EachSink")

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._server.accept()
                self._connections.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        # What is closed at the end of a test may have somebody waiting on it.
        with contextlib.suppress(OSError, ValueError), connection, connection.makefile("rwb") as wire:
            self._say(wire, "220 each.example")
            mail, recipients = "", []
            while line := wire.readline().decode().strip():
                self.lines.append(line)
                verb = line[:4].upper()
                if verb in ("EHLO", "LHLO"):
                    fits = (verb == "LHLO") == (self.protocol == "lmtp")
                    offers = "PRDR" if self.protocol == "prdr" else "DSN"
                    self._say(
                        wire, f"250-each.example\r\n250-PIPELINING\r\n250 {offers}" if fits else "500 5.5.1 What?"
                    )
                elif verb == "RCPT":
                    address = line.partition("<")[2].partition(">")[0]
                    answer = self.refusals.get(address, "250 2.1.5 OK")
                    recipients += [address] if answer[0] == "2" else []
                    self._say(wire, answer)
                elif verb == "DATA":
                    self._say(wire, "354 Go on" if recipients else "503 5.5.1 Nobody")
                    if recipients:
                        self._content(connection, wire, mail, recipients)
                elif verb == "QUIT":
                    return
                else:
                    mail, recipients = (line, []) if verb in ("MAIL", "RSET") else (mail, recipients)
                    self._say(wire, "250 2.0.0 OK")

    def _content(self, connection, wire, mail: str, recipients: list[str]) -> None:  # type: ignore[no-untyped-def]
        content = b""
        while (line := wire.readline()) != b".\r\n":
            if not line:  # the client has gone
                return
            content += line
        told = [self.verdicts.get(each, OK) for each in recipients]
        each = self.protocol == "lmtp" or (self.protocol == "prdr" and " PRDR" in mail)
        if not each:
            has = tuple(recipients) if self.overall[0] == "2" else ()
            said = [self.overall]
        else:
            count = len(told) if self.answers is None else self.answers
            has = tuple(who for who, answer in zip(recipients[:count], told, strict=False) if answer[0] == "2")
            said = told[:count]
            if self.protocol == "prdr":
                said = ["353 each of them", *said, *([self.overall] if self.answers is None else [])]
                has = has if self.overall[0] == "2" else ()
        if has:
            self.got.append(Got(has, content, mail))
        said += [self.extra] if self.extra else []
        if said:
            self._say(wire, "\r\n".join(said))
        if self.answers is not None:
            connection.shutdown(socket.SHUT_RDWR)

    def _say(self, wire, text: str) -> None:  # type: ignore[no-untyped-def]
        wire.write(text.encode() + b"\r\n")
        wire.flush()
