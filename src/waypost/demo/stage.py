"""The set-up: two providers, an old and a new mail server, and Waypost in front. All ports are chosen by the system.

an application --> submission listener --> provider-a, else provider-b
another MTA    --> relay listener      --> old, and a copy to new
"""

import asyncio
import json
import socket
from collections import deque
from collections.abc import Callable
from ipaddress import ip_network
from types import TracebackType
from typing import Self

from waypost.app import Server
from waypost.config.settings import Settings
from waypost.delivery.memory_spool import MemorySpool
from waypost.net.settings import ListenerSettings
from waypost.observe.output import Output
from waypost.observe.record import Record, json_line
from waypost.routing.route import (
    Account,
    Backoff,
    Copy,
    Member,
    Pool,
    Route,
    Routes,
    Rule,
    Timeouts,
    Upstream,
    UpstreamTls,
)
from waypost.sink.answers import Watcher
from waypost.sink.server import Sink, SinkSettings
from waypost.smtp.order import ServerOptions

SUBMISSION = "submission"
RELAY = "relay"

USERNAME = "demo"
PASSWORD = "demo"  # noqa: S105 # it is shown on the screen; the account ends with the demonstration

BUSY, SPAM, NOBODY = "busy@example.net", "spam@example.net", "nobody@example.net"

FAULTS = {
    "provider-a": ("dot=451 4.3.2 Too busy now to:busy@*", "dot=554 5.7.1 This is spam to:spam@*"),
    "provider-b": (),
    "old": ("rcpt=550 5.1.1 No such user to:nobody@*",),
    "new": (),
}
"""The servers behind Waypost, and what each does on purpose."""

_HOST = "127.0.0.1"
_TIMEOUTS = Timeouts(connect=5, greeting=5, command=5, data=5, block=5, dot=10)
_BACKOFF = Backoff(intervals=(0.2,), jitter=0, lifetime=3600)
_REMEMBERED = 1000


class Records(Output):
    """The log, written to `fd`; its last records can be looked at."""

    def __init__(self, fd: int) -> None:
        super().__init__(fd, json_line)
        self.last: deque[Record] = deque(maxlen=_REMEMBERED)
        self._changed = asyncio.Event()

    def emit(self, record: Record | str) -> None:
        self.last.append(json.loads(record) if isinstance(record, str) else record)
        super().emit(record)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def wait_for(self, event: str) -> None:
        """Returns when there is a record of this event among the last."""
        while not any(record["event"] == event for record in self.last):
            await self._changed.wait()


class Stage:
    """Everything that takes part, from `async with` to its end."""

    def __init__(self, records: Records, watch: Callable[[str], Watcher] = lambda _: Watcher()) -> None:
        """`watch` gives the watcher of each server, by its name."""
        self.records = records
        self.sinks = {
            name: Sink(
                SinkSettings(((_HOST, 0),), ServerOptions(f"{name}.example")), faults=faults, watcher=watch(name)
            )
            for name, faults in FAULTS.items()
        }
        self._server: Server | None = None
        self._held: dict[str, socket.socket] = {}

    @property
    def ports(self) -> dict[str, int]:
        """The ports of the two listeners, by their names."""
        return {} if self._server is None else {name: port for name, (_, port) in self._server.addresses.items()}

    async def __aenter__(self) -> Self:
        try:
            for sink in self.sinks.values():
                await sink.start()
            spool = MemorySpool()
            server = Server(
                _settings({name: sink.port for name, sink in self.sinks.items()}), self.records, spool=spool
            )
            spool.on_due = server.wake
            await server.start()
            self._server = server
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    async def _stop(self) -> None:
        if self._server is not None:
            await self._server.stop(1)
        for held in self._held.values():
            held.close()
        for sink in self.sinks.values():
            await sink.stop()

    async def take_down(self, name: str) -> None:
        """A server dies: its sessions end, and connections are refused."""
        sink = self.sinks[name]
        await sink.stop()
        # Bound and not listening: connections are refused, and nobody else is given the port meanwhile.
        held = self._held[name] = socket.socket(socket.AF_INET)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind((_HOST, sink.port))

    async def bring_up(self, name: str) -> None:
        """It is back, on the same port."""
        held = self._held.pop(name, None)
        if held is not None:
            held.close()
            await self.sinks[name].start()


def _settings(ports: dict[str, int]) -> Settings:
    """The configuration that a file would have held."""
    plain = UpstreamTls("off")
    upstreams = {
        name: Upstream(name, _HOST, port, plain, timeouts=_TIMEOUTS, background_timeouts=_TIMEOUTS)
        for name, port in ports.items()
    }
    pools = {name: Pool(name, (Member(upstream),)) for name, upstream in upstreams.items()}
    pools["providers"] = Pool("providers", (Member(upstreams["provider-a"]), Member(upstreams["provider-b"])))
    routes = {
        "apps": Route("apps", pools["providers"]),
        "migration": Route("migration", pools["old"], (Copy(pools["new"]),), backoff=_BACKOFF),
    }
    rules = (Rule("apps", listeners=frozenset({SUBMISSION})), Rule("migration", listeners=frozenset({RELAY})))
    loopback = ip_network("127.0.0.0/8")
    return Settings(
        hostname="waypost.example",
        listeners=(
            # The password goes over loopback in the clear: a certificate would have to be made first.
            ListenerSettings(SUBMISSION, _HOST, 0, "submission", allow_plaintext_auth=True),
            ListenerSettings(RELAY, _HOST, 0, "relay", trusted_networks=(loopback,)),
        ),
        routes=Routes(rules, routes, {USERNAME: Account(USERNAME, PASSWORD)}),
        upstreams=upstreams,
        pools=pools,
        spool=None,
        admin=None,
    )
