"""The sink itself: bound addresses, their sessions, and the messages that came."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from waypost.net.certificates import ServerCertificate
from waypost.net.settings import ServerTls
from waypost.net.stream import Stream
from waypost.net.unix_socket import listen, remove
from waypost.sink.answers import House, Watcher
from waypost.sink.faults import Fault, Faults
from waypost.sink.grammar import parse_fault
from waypost.sink.session import SinkSession
from waypost.sink.stored import Mailbox, StoredMessage
from waypost.smtp.order import ServerOptions

_MIB = 1024 * 1024
_OPTIONS = ServerOptions("sink.example")


@dataclass(frozen=True, slots=True)
class SinkSettings:
    """What a sink is like. `accounts` are passwords by user name; with any, AUTH is offered and required.

    A port 0 is chosen by the system, and kept when the sink is started again. A host that begins with a slash is the
    path of a unix socket.
    """

    addresses: tuple[tuple[str, int], ...] = (("127.0.0.1", 0),)
    options: ServerOptions = _OPTIONS
    tls: ServerTls | None = None
    implicit_tls: bool = False
    accounts: Mapping[str, str] = field(default_factory=dict, repr=False)
    keep: int = 1000
    max_memory: int = 256 * _MIB  # octets
    timeout: float = 300  # seconds that a client may be silent
    seed: int = 1


class Sink:
    """A test server, for as long as it is started.

    async with Sink(faults=["rcpt=550 5.1.1 No such user to:*@nowhere.example"]) as sink:
        ...  # send to sink.port
        [message] = await sink.wait_for(1)
    """

    def __init__(
        self,
        settings: SinkSettings = SinkSettings(),
        *,
        faults: Iterable[str | Fault] = (),
        watcher: Watcher | None = None,
    ) -> None:
        """Raises `FaultError` for a rule, and `CertificateError` for a certificate, that cannot be used."""
        self.settings = settings
        self._addresses = settings.addresses
        self._mailbox = Mailbox(settings.keep, settings.max_memory)
        self._faults = Faults(_rules(faults), settings.seed)
        self._certificate = None if settings.tls is None else ServerCertificate(settings.tls)
        self._watcher = watcher or Watcher()
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.sessions = 0
        """Sessions ever begun."""

    # -- what it got

    @property
    def messages(self) -> Sequence[StoredMessage]:
        """What is kept, oldest first."""
        return tuple(self._mailbox)

    @property
    def mailbox(self) -> Mailbox:
        """Where it is kept."""
        return self._mailbox

    async def wait_for(self, total: int, timeout: float = 10) -> Sequence[StoredMessage]:
        """What is kept, as soon as `total` messages have come. Raises `TimeoutError` after `timeout` seconds."""
        return await self._mailbox.wait_for(total, timeout)

    # -- what it does wrong

    @property
    def faults(self) -> Sequence[Fault]:
        """The rules in force."""
        return self._faults.rules

    def replace_faults(self, faults: Iterable[str | Fault]) -> None:
        """Puts other rules in force, for sessions under way too. Raises `FaultError` and changes nothing."""
        self._faults.replace(_rules(faults))

    # -- life

    @property
    def addresses(self) -> Sequence[tuple[str, int]]:
        """Host and port of each bound address."""
        return self._addresses

    @property
    def port(self) -> int:
        """The port of the first address."""
        return self._addresses[0][1]

    async def start(self) -> None:
        """Binds. Raises `OSError`, with nothing left open."""
        loop = asyncio.get_running_loop()
        bound = []
        try:
            for host, port in self._addresses:
                if host.startswith("/"):
                    listening = listen(Path(host), 0o666, own_folder=False)
                    self._servers.append(await loop.create_unix_server(self._accept, sock=listening))
                    bound.append((host, 0))
                    continue
                server = await loop.create_server(self._accept, host or None, port, reuse_address=True)
                self._servers.append(server)
                bound.append((host, server.sockets[0].getsockname()[1]))
        except OSError:
            await self.stop()
            raise
        self._addresses = tuple(bound)

    async def stop(self) -> None:
        """Closes the addresses and every session at once. What was kept stays; `start` binds the same ports."""
        for host, _ in self._addresses if self._servers else ():
            if host.startswith("/"):
                remove(Path(host))
        for server in self._servers:
            server.close()
        self._servers.clear()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(tuple(self._tasks))

    async def __aenter__(self) -> "Sink":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def _accept(self) -> Stream:
        return _Accepted(self._connected)

    def _connected(self, stream: Stream) -> None:
        settings = self.settings
        self.sessions += 1
        options = replace(
            settings.options,
            max_line=settings.options.max_size,
            starttls=settings.tls is not None and not settings.implicit_tls,
            auth=bool(settings.accounts),
            auth_required=bool(settings.accounts),
            allow_plaintext_auth=True,
        )
        context = None if self._certificate is None else self._certificate.context()
        house = House(
            options,
            settings.accounts,
            context,
            settings.implicit_tls,
            self._mailbox,
            self._faults,
            self._watcher,
            settings.timeout,
        )
        task = asyncio.get_running_loop().create_task(SinkSession(house, stream, self.sessions).run())
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # A defect of ours, told at once: a task's own complaint comes when it is collected, or never.
            fault = {"message": "a session of the sink broke", "exception": error, "task": task}
            task.get_loop().call_exception_handler(fault)


class _Accepted(Stream):
    """A stream that says when it is connected."""

    def __init__(self, connected: Callable[[Stream], None]) -> None:
        super().__init__()
        self._connected = connected

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._connected(self)


def _rules(faults: Iterable[str | Fault]) -> list[Fault]:
    return [rule if isinstance(rule, Fault) else parse_fault(rule) for rule in faults]
