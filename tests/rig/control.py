"""A control API in this process, with a spool in memory behind it, and what it is asked with."""

import asyncio
import http.client
import json
import socket
from dataclasses import replace

import pytest

from waypost.admin.control import Control
from waypost.admin.queue import Queue
from waypost.admin.upstreams import Upstreams
from waypost.clock import FakeClock
from waypost.delivery.candidates import Candidates
from waypost.delivery.memory_spool import MemorySpool
from waypost.delivery.spool import Planned, Settlement
from waypost.mail.content import MemoryContent
from waypost.mail.ids import make_id
from waypost.mail.message import Client, Envelope, Message, Recipient
from waypost.routing.destination import Compass, Door
from waypost.routing.route import Account, Member, Pool, Route, Routes, Upstream
from waypost.routing.rules import Router
from waypost.smtp.address import NULL, parse_mailbox

DAY = 86400.0
LANES = {"new": frozenset({"copy:new"}), "old": frozenset({"primary:all"}), "idle": frozenset()}


def id_of(number, at=1_000_000_000.0):
    """The id of the message with this number."""
    return make_id(int(at * 1000), number)


class Nobody:
    """The sender of a Waypost that sends nothing."""


class Parts:
    """What the composition root would hand in, and what came of it."""

    def __init__(self, folder):
        self.clock = FakeClock()
        self.spool = MemorySpool(now=self.clock.time)
        self.path = folder / "control.sock"
        self.journal = None
        self.altered = []
        self.candidates = Candidates(Nobody(), self.clock, lambda: 0.5)
        self.found = {}
        self.certificates = {}
        configured = {name: Upstream(name, f"{name}.example", 25) for name in ("old", "new")}
        self.pools = {name: Pool(name, (Member(upstream),)) for name, upstream in configured.items()}
        self.pools["both"] = Pool("both", tuple(map(Member, configured.values())))
        self.upstreams = Upstreams(
            *(configured, self.candidates, self.clock),
            pools=self.pools,
            connections=lambda: {"old": (1, 2)},
            found=lambda: self.found,
            certificates=lambda: self.certificates,
        )
        accounts = {name: Account(name, "x", route="all") for name in ("nextcloud", "wiki")}
        routes = Routes((), {"all": Route("all", Pool("old", (Member(configured["old"]),)))}, accounts)
        self.compass = Compass(Router(routes), routes, {"127.0.0.1:25": Door(True)})
        self.count = 0

    def control(self):
        return Control(
            self.path,
            None if self.spool is None else Queue(self.spool, self.clock, self.lifetime, self.note_altered),
            self.journal,
            self.clock,
            lanes_of=LANES.get,
            upstreams=self.upstreams,
            compass=self.compass,
        )

    def lifetime(self, route):
        return {"all": 5 * DAY}.get(route, DAY)

    def note_altered(self, action, entry, by):
        self.altered.append((action, entry.id, entry.message_id, by))

    async def put(self, *lanes, sender="app@example.com", to=("bob@example.net",), content=b"Subject: x\r\n\r\nHi\r\n"):
        """Accepts a message, due now, with a delivery in each of these lanes; its id."""
        self.count += 1
        reverse_path = NULL if sender == "<>" else parse_mailbox(sender)
        message = Message(
            id_of(self.count, self.clock.time()),
            self.clock.time(),
            Client("127.0.0.1:25", "192.0.2.7", 4000, "app.example.com", "ESMTPA", "nextcloud"),
            Envelope(reverse_path, tuple(Recipient(parse_mailbox(each)) for each in to)),
            MemoryContent(content),
        )
        planned = [Planned(lane, "all", self.clock.time() + DAY) for lane in lanes or ("copy:new",)]
        await self.spool.accept(message, planned)
        return message.id

    async def fail(self, lane="copy:new", reason="451 4.3.2 later", *, dead=False, count=1000, after=600):
        """Claims what is due in the lane, and settles it as failed."""
        for delivery in await self.spool.claim(lane, self.clock.time(), count):
            recipients = delivery.message.envelope.recipients
            settlement = Settlement(delivery, reason=reason, at=self.clock.time() + after)
            self.spool.settle(replace(settlement, dead=recipients) if dead else replace(settlement, again=recipients))


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket, told by path."""

    def __init__(self, path):
        super().__init__("waypost", timeout=10)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10)
        self.sock.connect(str(self.path))


class Asker:
    """Asks the control API without blocking its loop."""

    def __init__(self, path):
        self.path = path

    async def __call__(self, path, body=None, method=None):
        """Status, and the lines of the answer read as JSON."""
        status, octets = await self.octets(path, body, method)
        return status, [json.loads(line) for line in octets.split(b"\n") if line]

    async def octets(self, path, body=None, method=None):
        """Status, and the answer."""
        return await asyncio.to_thread(self._ask, path, body, method)

    async def act(self, action, *, all=False, dry_run=False, **where):
        """The lines about single deliveries, and the last one."""
        body = {"action": action, "filter": where, "all": all, "dry_run": dry_run}
        status, lines = await self("/api/queue/actions", body)
        assert status == 200, lines
        return lines[:-1], lines[-1]

    async def numbers(self, query=""):
        """The numbers of the deliveries that are listed."""
        status, lines = await self(f"/api/queue{query}")
        assert status == 200, lines
        return [line["number"] for line in lines]

    def _ask(self, path, body, method):
        connection = UnixConnection(self.path)
        try:
            octets = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
            connection.request(method or ("GET" if body is None else "POST"), path, octets)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


@pytest.fixture
def parts(tmp_path):
    """A control API's parts, for tests that want one: their `conftest` imports these three."""
    return Parts(tmp_path)


@pytest.fixture
async def control(parts):
    """The parts, with the API running."""
    running = parts.control()
    running.start()
    yield running
    await running.stop()


@pytest.fixture
def ask(parts, control):
    """Whoever asks it."""
    return Asker(parts.path)
