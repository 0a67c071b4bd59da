"""The admin address, asked over real sockets."""

import asyncio
import http.client
import json
import signal
import socket

import pytest

from waypost.admin.api import make_app
from waypost.admin.server import MAX_HEAD, AdminServer, bind
from waypost.observe.metrics import Facts, Metrics


class Parts:
    """What the composition root would hand in, with knobs."""

    def __init__(self):
        self.checks = {"listener 127.0.0.1:2525": None, "spool": None, "draining": None}
        self.metrics = Metrics(process=False)
        self.metrics.facts = self.ask
        self.hang = False

    async def readiness(self):
        if self.hang:
            await asyncio.Event().wait()
        return self.checks

    async def ask(self):
        return Facts(sessions={"127.0.0.1:2525": 4})


class Admin:
    def __init__(self, parts, **options):
        self.listening = bind("127.0.0.1", 0)
        self.port = self.listening.getsockname()[1]
        self.server = AdminServer(make_app(parts.readiness, parts.metrics.scrape, patience=0.05), **options)

    async def __aenter__(self):
        self.task = asyncio.create_task(self.server.serve(self.listening))
        return self

    async def __aexit__(self, *_):
        self.server.stop()
        await asyncio.wait_for(self.task, 5)

    async def ask(self, path, method="GET"):
        return await asyncio.to_thread(self._ask, path, method)

    def _ask(self, path, method):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        connection.request(method, path)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer.status, body, answer.headers


@pytest.fixture
def parts():
    return Parts()


@pytest.fixture
async def admin(parts):
    async with Admin(parts) as started:
        yield started


@pytest.mark.parametrize("path", ["/livez", "/healthz"])
async def test_alive(admin, path):
    status, body, headers = await admin.ask(path)

    assert (status, body) == (200, b"alive\n")
    assert headers["Content-Type"].startswith("text/plain")
    assert headers["Date"]
    assert "Server" not in headers


async def test_ready(admin):
    status, body, _ = await admin.ask("/readyz")

    assert status == 200
    assert json.loads(body) == {
        "ready": True,
        "failing": {},
        "fine": ["listener 127.0.0.1:2525", "spool", "draining"],
    }


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("draining", "stopping: no new mail is accepted"),
        ("listener 127.0.0.1:2525", "not bound"),
        ("spool", "the disk is full"),
    ],
)
async def test_not_ready_says_what_is_wrong(admin, parts, name, why):
    parts.checks[name] = why

    status, body, _ = await admin.ask("/readyz")

    assert status == 503
    assert json.loads(body)["failing"] == {name: why}
    assert (await admin.ask("/livez"))[0] == 200


async def test_a_check_that_hangs_is_not_ready(admin, parts):
    parts.hang = True

    status, body, _ = await admin.ask("/readyz")

    assert status == 503
    assert json.loads(body)["failing"] == {"readiness": "no answer within 0.05 s"}


async def test_metrics(admin, parts):
    parts.metrics.messages_received["127.0.0.1:2525",] += 1

    status, body, headers = await admin.ask("/metrics")

    assert status == 200
    assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert b'waypost_messages_received_total{listener="127.0.0.1:2525"} 1.0\n' in body
    assert b'waypost_sessions{listener="127.0.0.1:2525"} 4.0\n' in body


async def test_other_paths_and_methods(admin):
    status, body, headers = await admin.ask("/etc/passwd")
    assert (status, body) == (404, b"Not Found")
    assert headers["Content-Type"].startswith("text/plain")

    status, body, headers = await admin.ask("/readyz", "POST")
    assert (status, body) == (405, b"Method Not Allowed")
    assert "GET" in headers["Allow"]

    assert (await admin.ask("/livez", "HEAD"))[:2] == (200, b"")


async def test_a_head_that_does_not_end_is_refused(admin):
    reader, writer = await asyncio.open_connection("127.0.0.1", admin.port)
    writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\nX: " + b"x" * (MAX_HEAD + 65536))

    assert (await asyncio.wait_for(reader.read(), 5)).startswith(b"HTTP/1.1 400 ")
    writer.close()


@pytest.mark.parametrize("said", [b"", b"GET /livez HTTP/1.1\r\nHost:"])
async def test_a_client_that_asks_nothing_is_closed(parts, said):
    async with Admin(parts, request_within=0.05) as admin:
        reader, writer = await asyncio.open_connection("127.0.0.1", admin.port)
        writer.write(said)

        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()


async def test_signals_stay_with_the_program_and_the_socket_is_closed_at_the_end(parts):
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    async with Admin(parts) as admin:
        await admin.ask("/livez")
        assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before

    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", admin.port), timeout=5)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_stopping_before_starting_ends_at_once(parts):
    admin = Admin(parts)
    admin.server.stop()

    await asyncio.wait_for(admin.server.serve(admin.listening), 5)


def test_an_address_in_use_is_an_error_of_the_system():
    with bind("127.0.0.1", 0) as taken, pytest.raises(OSError):
        bind("127.0.0.1", taken.getsockname()[1])


def test_without_a_host_both_families_are_served():
    with bind("", 0) as listening:
        port = listening.getsockname()[1]
        for address in ("127.0.0.1", "::1") if socket.has_dualstack_ipv6() else ("127.0.0.1",):
            socket.create_connection((address, port), timeout=5).close()
