"""The clients: they send what a scenario says, and remember exactly what they were told.

Like any mail server, a client that was told 4yz, or nothing because the connection died, comes again. What it was told
for each try is the measure of everything that is found afterwards.
"""

import re
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from torture.scenario import Letter

_ID = re.compile(r"\(id ([0-9A-Za-z]+)\)")
_PATIENCE = 15.0  # seconds for one reply: longer than anything in a scenario takes
_PAUSE = 0.08  # seconds until the next try
_TRIES = 12
_PATIENT_TRIES = 120


@dataclass(frozen=True, slots=True)
class Try:
    """One try at one message: who was accepted at RCPT, and the final answer; None: there was none."""

    letter: int
    accepted: tuple[str, ...]
    code: int | None
    text: str = ""
    dotted: bool = False  # whether the end of content was sent

    @property
    def id(self) -> str | None:
        """The id that the answer names."""
        found = _ID.search(self.text)
        return None if found is None else found[1]


@dataclass(slots=True)
class Told:
    """What all clients of a scenario were told, in the order in which it happened."""

    tries: list[Try] = field(default_factory=list)
    refused: set[tuple[int, str]] = field(default_factory=set)
    """Message and recipient, refused for good at RCPT."""
    lock: threading.Lock = field(default_factory=threading.Lock)


def content_of(letter: Letter, seed: int) -> bytes:
    """The octets of a message, as its author means them: nobody else's, and no line starts with a dot by chance."""
    head = (
        f"From: <{letter.sender or 'nobody@sender.example'}>\r\nSubject: {seed}/{letter.number}\r\n"
        f"Message-ID: {message_id(letter.number, seed)}\r\n\r\n.dot\r\n"
    ).encode()
    line = f"{letter.number:04d} {seed} ".encode() + b"x" * 60 + b"\r\n"
    return head + line * max(1, (letter.size - len(head)) // len(line))


def message_id(number: int, seed: int) -> str:
    """The Message-ID of a message."""
    return f"<{number}.{seed}@torture.example>"


class Clients:
    """The clients of one wave, a thread for each connection; they come again until they are through."""

    def __init__(
        self, letters: Sequence[Letter], seed: int, ports: Sequence[int], told: Told, *, patient: bool = False
    ) -> None:
        self.told = told
        self._tries = _PATIENT_TRIES if patient else _TRIES
        self._seed = seed
        self._ports = list(ports)
        self._up = threading.Event()
        self._stopping = threading.Event()
        groups: dict[int, list[Letter]] = {}
        for letter in letters:
            groups.setdefault(letter.connection, []).append(letter)
        self._threads = [threading.Thread(target=self._send_all, args=[each], daemon=True) for each in groups.values()]

    def start(self) -> None:
        """Begins; nothing is sent before `up`."""
        for thread in self._threads:
            thread.start()

    def up(self, is_up: bool) -> None:
        """Whether there is anybody to connect to: saves the clients from knocking."""
        (self._up.set if is_up else self._up.clear)()

    @property
    def done(self) -> bool:
        """Whether every client is through."""
        return not any(thread.is_alive() for thread in self._threads)

    def stop(self) -> None:
        """Gives up, and waits for the threads."""
        self._stopping.set()
        self._up.set()
        for thread in self._threads:
            thread.join(_PATIENCE)

    def _send_all(self, letters: Sequence[Letter]) -> None:
        waiting = [(letter, letter.recipients, 0) for letter in letters]
        turn = 0
        while waiting and not self._stopping.is_set():
            self._up.wait(_PATIENCE)
            again: list[tuple[Letter, tuple[str, ...], int]] = []
            session: _Session | None = None
            for letter, recipients, tries in waiting:
                try:
                    if session is None:
                        session = _Session(self._ports[(turn + letter.connection) % len(self._ports)])
                    left = self._send(session, letter, recipients)
                except OSError:  # the connection could not be made: that is no try
                    session, left = None, recipients
                    again.append((letter, left, tries))
                    continue
                if session.lost:
                    session.close()
                    session = None
                if left and letter.stubborn and tries + 1 < self._tries:
                    again.append((letter, left, tries + 1))
            if session is not None:
                session.quit()
            waiting, turn = again, turn + 1  # the next time at the next port: this one may be gone for good
            if waiting:
                self._stopping.wait(_PAUSE)

    def _send(self, session: "_Session", letter: Letter, recipients: tuple[str, ...]) -> tuple[str, ...]:
        """One try; the recipients that are still to be sent to."""
        accepted: list[str] = []
        put_off: list[str] = []
        code, text, dotted = None, "", False
        try:
            code, text = session.ask(f"MAIL FROM:<{letter.sender}>")
            for recipient in recipients if code == 250 else ():
                answer, _ = session.ask(f"RCPT TO:<{recipient}>")
                if answer // 100 == 2:
                    accepted.append(recipient)
                elif answer // 100 == 4:
                    put_off.append(recipient)
                else:
                    with self.told.lock:
                        self.told.refused.add((letter.number, recipient))
            if accepted:
                code, text = session.ask("DATA")
                if code == 354:
                    code = None
                    wire = content_of(letter, self._seed).replace(b"\r\n.", b"\r\n..")
                    session.send(wire[:-700])
                    dotted = True
                    session.send(wire[-700:] + b".\r\n")
                    code, text = session.answer()
            elif code == 250:
                session.ask("RSET")
                return tuple(put_off)
        except OSError:
            code, text = None, ""
            session.lost = True
        with self.told.lock:
            self.told.tries.append(Try(letter.number, tuple(accepted), code, text, dotted))
        if code == 421:
            session.lost = True
        if code is None or code // 100 == 4:
            return (*accepted, *put_off) if accepted or put_off else recipients
        return tuple(put_off)


class _Session:
    """One connection, greeted. Raises OSError when it dies."""

    def __init__(self, port: int) -> None:
        self.lost = False
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE)
        self._file = self._socket.makefile("rb")
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self.answer()
            self.ask("EHLO client.example")
        except OSError:
            self.close()
            raise

    def ask(self, line: str) -> tuple[int, str]:
        """A command and its answer."""
        self.send(line.encode() + b"\r\n")
        return self.answer()

    def send(self, octets: bytes) -> None:
        """These octets."""
        self._socket.sendall(octets)

    def answer(self) -> tuple[int, str]:
        """The next reply: its code and its last line."""
        while True:
            line = self._file.readline()
            if not line.endswith(b"\r\n"):
                raise ConnectionResetError("closed instead of a reply")
            if line[3:4] != b"-":
                return int(line[:3]), line[4:-2].decode()

    def quit(self) -> None:
        """Leaves."""
        try:
            self.ask("QUIT")
        except OSError:
            pass
        self.close()

    def close(self) -> None:
        """Closes."""
        self._file.close()
        self._socket.close()
