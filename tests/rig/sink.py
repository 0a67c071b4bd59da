"""An upstream that keeps exactly what it gets, and misbehaves on order.

A thread per session, blocking sockets, one function per verb: as different from Waypost's own engine as two
servers for one protocol can be.

    with StoringSink() as sink:
        sink.on("rcpt", say("450 4.2.1 busy"))     # the next RCPT only; `times=None` for all of them
        ...
        [message] = sink.wait_for(1)
        assert message.untraced == b"..."
"""

import socket
import ssl
import threading
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from rig.faults import Fault, Phase
from rig.sasl import Accounts
from rig.sink_session import Hangup, SinkSession
from rig.stored import StoredMessage

EXTENSIONS = ("PIPELINING", "SIZE 104857600", "8BITMIME", "SMTPUTF8", "CHUNKING", "ENHANCEDSTATUSCODES", "DSN")


@dataclass(slots=True)
class _Order:
    fault: Fault
    left: int | None  # None: for ever


@dataclass(slots=True, eq=False)
class StoringSink:
    """A server on loopback that stores. To be used with `with`; everything is closed at the end."""

    host: str = "127.0.0.1"
    port: int = 0
    name: str = "sink.example"
    extensions: tuple[str, ...] = EXTENSIONS
    accounts: Mapping[str, str] | None = None
    """Names and passwords; AUTH is offered, and required before MAIL, when there are any."""
    mechanisms: tuple[str, ...] = ("PLAIN", "LOGIN")
    logins: Accounts | None = None
    """Accounts with all that `rig.sasl` knows of them, in the place of `accounts`."""
    tls: ssl.SSLContext | None = None
    implicit_tls: bool = False
    esmtp: bool = True
    """Without it EHLO is refused, as by a server from before 1995."""

    messages: list[StoredMessage] = field(default_factory=list, init=False)
    commands: list[tuple[int, bytes]] = field(default_factory=list, init=False)
    """Every command line with the number of its session, in the order of arrival."""
    sessions: int = field(default=0, init=False)
    recipient_replies: dict[str, str] = field(default_factory=dict, init=False)
    """Answers for particular recipients: {"nobody@example.com": "550 5.1.1 no such user"}."""
    stopping: threading.Event = field(default_factory=threading.Event, init=False)

    _changed: threading.Condition = field(default_factory=threading.Condition, init=False)
    _orders: dict[str, list[_Order]] = field(default_factory=lambda: defaultdict(list), init=False)
    _listening: socket.socket | None = field(default=None, init=False)
    _acceptor: threading.Thread | None = field(default=None, init=False)
    _open: dict[SinkSession, threading.Thread] = field(default_factory=dict, init=False)
    _failures: list[BaseException] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        if self.accounts and self.logins is None:
            self.logins = Accounts(self.accounts)

    @property
    def address(self) -> str:
        """As configurations write it: `127.0.0.1:2525`, `[::1]:2525`."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def on(self, phase: Phase, fault: Fault, times: int | None = 1) -> None:
        """Orders a fault for the next `times` passages of a phase, after those ordered before; None: for ever."""
        with self._changed:
            self._orders[phase].append(_Order(fault, times))

    def behave(self) -> None:
        """Forgets all faults."""
        with self._changed:
            self._orders.clear()
            self.recipient_replies.clear()

    def wait_for(self, count: int, seconds: float = 15) -> list[StoredMessage]:
        """The messages, as soon as there are at least `count`."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.messages) >= count, seconds):
                raise AssertionError(f"{len(self.messages)} of {count} messages came to {self.address}")
            return list(self.messages)

    def wait_for_verb(self, verb: str, seconds: float = 15) -> None:
        """Returns as soon as `verb` has been received once."""
        with self._changed:
            if not self._changed.wait_for(lambda: verb in self.verbs(), seconds):
                raise AssertionError(f"{verb} never came to {self.address}: {self.verbs()}")

    def verbs(self) -> list[str]:
        """The verbs of all commands, in the order of arrival."""
        with self._changed:
            return [line.split(b" ")[0].decode("ascii", "backslashreplace").upper() for _, line in self.commands]

    def start(self) -> Self:
        """Listens; on the same port again after `stop`, with everything that was stored."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        self._listening = socket.create_server((self.host, self.port), family=family, backlog=512)
        self.port = self._listening.getsockname()[1]
        self.stopping.clear()
        self._acceptor = threading.Thread(target=self._accept, args=[self._listening])
        self._acceptor.start()
        return self

    def stop(self) -> None:
        """Closes the port and every session, and waits for their ends. Idempotent."""
        self.stopping.set()
        if self._listening is None or self._acceptor is None:
            return
        # A blocked accept() is woken portably by a connection only.
        socket.create_connection((self.host, self.port), timeout=10).close()
        self._acceptor.join(10)
        self._listening.close()
        self._listening = None
        with self._changed:
            running = dict(self._open)
        for session, thread in running.items():
            session.interrupt()
            thread.join(10)
            assert not thread.is_alive(), "a session of the sink does not end"

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if kind is None and self._failures:
            raise AssertionError(f"a session of the sink at {self.address} failed") from self._failures[0]

    # What sessions call.

    def next_fault(self, phase: Phase) -> Fault | None:
        """What was ordered for this passage of `phase`."""
        with self._changed:
            for order in self._orders[phase]:
                if order.left is None:
                    return order.fault
                if order.left > 0:
                    order.left -= 1
                    return order.fault
        return None

    def keep(self, message: StoredMessage) -> int:
        """Stores a message, wakes who waits for it, and gives its number."""
        with self._changed:
            self.messages.append(message)
            self._changed.notify_all()
            return len(self.messages)

    def record(self, session: int, line: bytes) -> None:
        """Notes a command."""
        with self._changed:
            self.commands.append((session, line))
            self._changed.notify_all()

    def _accept(self, listening: socket.socket) -> None:
        while True:
            connection, _ = listening.accept()
            if self.stopping.is_set():
                connection.close()
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._changed:
                self.sessions += 1
                session = SinkSession(self, self.sessions, connection)
                thread = threading.Thread(target=self._serve, args=[session])
                self._open[session] = thread
            thread.start()

    def _serve(self, session: SinkSession) -> None:
        try:
            session.run()
        except (Hangup, OSError):
            pass  # the client or the sink has gone: the ordinary end of a session
        except Exception as error:  # raised where the test can see it: at the end of the `with`
            self._failures.append(error)
        finally:
            session.close()
            with self._changed:
                del self._open[session]
