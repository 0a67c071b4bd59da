"""Upstreams that are paused, over real sockets: who takes over, who waits, and for how long that is known."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rig.client import RawClient
from rig.faults import hold, say
from rig.ports import free_port
from rig.running import RunningServer, settings, single, upstream
from rig.sink import StoringSink
from rig.waiting import wait_until
from waypost.config.settings import Settings, SpoolSettings
from waypost.delivery.paused import PAUSE, Pause, Paused
from waypost.delivery.spool import Note
from waypost.routing.health import State
from waypost.routing.route import Copy

MakeSink = Callable[[StoringSink], StoringSink]
CONTENT = b"Subject: hello\r\n\r\nbody\r\n"


@pytest.fixture
def second(make_sink: MakeSink) -> StoringSink:
    return make_sink(StoringSink(name="second.example"))


def stored(made: Settings, folder: Path) -> Settings:
    return replace(made, spool=SpoolSettings(str(folder), allow_temporary=True))


def send(port: int) -> str:
    with RawClient(port) as client:
        client.hello()
        answer = client.answer_to_message("ann@example.com", "bob@example.org", CONTENT)
    return f"{answer.code} {' '.join(answer.lines)}"


def pause(server: RunningServer, name: str = "first") -> bool:
    return server.call(lambda: server.server._availability.pause(name, "root"))  # type: ignore[union-attr]


def resume(server: RunningServer, name: str = "first") -> bool:
    return server.call(lambda: server.server._availability.resume(name, "root"))  # type: ignore[union-attr]


def events(server: RunningServer) -> list[Any]:
    return [r["event"] for r in server.operational if r["event"] in ("upstream_paused", "upstream_resumed")]


@pytest.mark.parametrize("strategy", ["ordered", "round_robin", "fastest", "sticky"])
def test_the_others_take_over(strategy: Any, sink: StoringSink, second: StoringSink) -> None:
    port = free_port()
    made = settings(port, upstream("first", sink.port), upstream("second", second.port))
    [route] = made.routes.routes.values()
    route = replace(route, primary=replace(route.primary, strategy=strategy))
    made = replace(made, routes=replace(made.routes, routes={"all": route}))
    with RunningServer(made) as server:
        assert pause(server)
        assert not pause(server)
        assert all(send(port).startswith("250 ") for _ in range(4))
        assert (len(sink.messages), len(second.messages)) == (0, 4)
        assert sink.sessions == 0
        assert 'waypost_upstream_paused{upstream="first"} 1.0' in server.metrics()
        assert resume(server)
        assert not resume(server)
        assert pause(server, "second")
        assert send(port).startswith("250 ")
        assert len(sink.messages) == 1
        assert events(server) == ["upstream_paused", "upstream_resumed", "upstream_paused"]


def test_alone_and_paused_the_client_hears_451_and_nobody_is_asked(sink: StoringSink) -> None:
    port = free_port()
    with RunningServer(settings(port, upstream("first", sink.port))) as server:
        pause(server)
        assert send(port) == "451 4.3.2 first is paused"
        assert sink.sessions == 0
        assert server.health("first") is State.CLOSED
        [attempt] = server.told("attempted")
        assert attempt["classification"] == "paused"


def test_what_is_under_way_ends(sink: StoringSink) -> None:
    port = free_port()
    with RunningServer(settings(port, upstream("first", sink.port))) as server, RawClient(port) as client:
        client.hello()
        for line in (b"MAIL FROM:<a@example.com>\r\n", b"RCPT TO:<b@example.org>\r\n"):
            client.send(line)
            assert client.answer().code == 250
        pause(server)
        client.send(b"DATA\r\n")
        assert client.answer().code == 354
        client.send(CONTENT + b".\r\n")
        assert client.answer().code == 250
    assert len(sink.messages) == 1


def test_mail_waits_in_the_spool_over_a_restart_and_goes_when_it_is_resumed(sink: StoringSink, tmp_path: Path) -> None:
    port = free_port()
    made = stored(settings(port, upstream("first", sink.port), acceptance="spool"), tmp_path)
    with RunningServer(made) as server:
        pause(server)
        assert send(port).startswith("250 ")
    with RunningServer(made) as server:
        assert events(server) == ["upstream_paused"]
        assert send(port).startswith("250 ")
        server.put_forward(3600)
        assert sink.sessions == 0
        resume(server)
        sink.wait_for(2)
    with RunningServer(made) as server:
        assert events(server) == []


def test_copies_wait_and_the_backlog_is_given_back(sink: StoringSink, make_sink: MakeSink, tmp_path: Path) -> None:
    import threading

    copied = make_sink(StoringSink(name="copy.example"))
    port, go_on = free_port(), threading.Event()
    to = upstream("archive", copied.port, max_connections=1)
    made = stored(settings(port, upstream("first", sink.port), copies=(Copy(single(to)),)), tmp_path)
    copied.on("content", hold(go_on, b""), times=1)
    with RunningServer(made) as server:
        for _ in range(10):
            assert send(port).startswith("250 ")
        wait_until(lambda: copied.sessions, "the first copy on its way")
        pause(server, "archive")
        go_on.set()
        copied.wait_for(1)
        server.wait_for("copied")
        waiting = wait_until(
            lambda: [lane.queued for lane in server.call(server.server.spool.lanes) if lane.lane == "copy:archive"],  # type: ignore[union-attr]
            "the lane",
        )
        assert waiting == [9]
        assert len(copied.messages) == 1
        assert not server.told("attempted")
        resume(server, "archive")
        copied.wait_for(10)


def test_resuming_wakes_one_that_sleeps(sink: StoringSink, tmp_path: Path) -> None:
    port = free_port()
    made = stored(settings(port, upstream("first", sink.port)), tmp_path)
    sink.on("mail", say("452 4.2.2 Over quota"))
    with RunningServer(made) as server:
        assert send(port).startswith("452 ")
        assert server.health("first") is State.ASLEEP
    with RunningServer(made) as server:
        assert server.health("first") is State.ASLEEP
        assert resume(server)
        assert server.health("first") is State.CLOSED
    with RunningServer(made) as server:
        assert "first" not in server.server.health  # type: ignore[union-attr]


def test_notes_of_another_instance() -> None:
    told: list[tuple[str, Note | None, bool]] = []
    paused = Paused()
    paused.on_change = lambda name, note, here: told.append((name, note, here))
    note = Note(PAUSE, "ses", json.dumps({"since": 17.0, "by": "ann"}), 1e10)
    paused.learn(note)
    paused.learn(note)
    assert dict(paused) == {"ses": Pause(17.0, "ann")}
    paused.learn(Note(PAUSE, "ses", "", 0))
    paused.learn(Note(PAUSE, "ses", "", 0))
    paused.learn(Note("sleep", "ses", "", 1e10))
    assert not paused
    assert told == [("ses", note, False), ("ses", None, False)]
    for garbage in ("", "[]", "{}", '{"since": [], "by": 1}', "17"):
        paused.learn(Note(PAUSE, garbage or "x", garbage, 1e10))
    assert set(paused.values()) == {Pause(0.0, "somebody")}
