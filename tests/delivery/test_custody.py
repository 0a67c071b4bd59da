"""Acceptance modes `hybrid` and `spool`: what the client is told, and what becomes of mail that is ours."""

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rig.client import RawClient
from rig.faults import close, hang, hold, say
from rig.ports import free_port
from rig.running import PATIENT, RunningServer, relay_listener, settings, several_routes, single, upstream
from rig.sink import StoringSink
from rig.waiting import wait_until
from waypost.config.settings import SpoolSettings
from waypost.delivery.memory_spool import MemorySpool
from waypost.delivery.spool import Delivery, Planned, SpoolError
from waypost.routing.route import Copy, Member, Pool, Route, Routes, Rule, Upstream

CONTENT = b"Subject: hello\r\nMessage-ID: <one@example.com>\r\n\r\nbody\r\n"
MakeSink = Callable[[StoringSink], StoringSink]


class Scene:
    """A relay listener; `*@a.example` goes to the route a, everything else to the route b."""

    def __init__(self, stack: contextlib.ExitStack, folder: Path, route: dict[str, Any], **more: Any) -> None:
        self.a, self.b, self.second, self.archive = (
            stack.enter_context(StoringSink(name=f"{name}.example")) for name in ("a", "b", "second", "archive")
        )
        self.port = free_port()
        pool_a = Pool(
            "pool-a",
            tuple(
                Member(upstream(s.name, s.port, timeouts=more.get("timeouts", PATIENT))) for s in (self.a, self.second)
            ),
        )
        copies = (Copy(single(upstream("archive", self.archive.port))),) if more.get("copies", True) else ()
        fields = {"acceptance": "hybrid", "in_doubt_hold": 60.0} | route
        routes = {
            "a": Route("a", pool_a, copies, **fields),
            "b": Route("b", single(upstream("b", self.b.port)), (), **(fields | more.get("b", {}))),
        }
        rules = (Rule("a", recipients=("*@a.example",)), Rule("b"))
        made = several_routes(routes, Routes(rules, routes, {}), relay_listener(self.port))
        self.settings = replace(
            made,
            spool=SpoolSettings(str(folder), allow_temporary=True),
            shutdown_timeout=more.get("shutdown_timeout", 5),
        )
        self._stack = stack
        self.server = stack.enter_context(RunningServer(self.settings))

    def restart(self) -> None:
        """Stops the server, and starts another one on the same spool."""
        self.server.stop()
        self.server = self._stack.enter_context(RunningServer(self.settings))

    def send(self, *recipients: str, content: bytes = CONTENT, reverse_path: str = "ann@a.example") -> str:
        """A message, and what its client is told at the end."""
        with RawClient(self.port) as client:
            client.hello()
            client.mail(reverse_path, *recipients)
            client.send(content + b".\r\n")
            answer = client.answer()
            return f"{answer.code} {answer.text}"

    def owed(self) -> dict[str, int]:
        """Deliveries that are queued, by lane."""
        spool = self.server.server.spool  # type: ignore[union-attr]
        assert spool is not None
        return {count.lane: count.queued for count in self.server.call(spool.lanes) if count.queued}

    def wait_until_done(self) -> None:
        """Returns as soon as nothing is owed."""
        wait_until(lambda: not self.owed(), "an empty spool")


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Callable[..., Scene]]:
    with contextlib.ExitStack() as stack:
        yield lambda route=None, **more: Scene(stack, tmp_path / "spool", route or {}, **more)


def test_an_answer_at_once_is_the_primarys(scene: Callable[..., Scene]) -> None:
    it = scene()
    it.a.on("stored", say("250 2.6.0 queued as 4XYZ"))
    assert it.send("bob@a.example").startswith("250 2.6.0 queued as 4XYZ (id ")
    assert [m.untraced for m in it.archive.wait_for(1)] == [CONTENT]
    assert len(it.a.messages) == 1
    it.wait_until_done()


def test_a_refusal_at_once_is_the_primarys(scene: Callable[..., Scene]) -> None:
    it = scene()
    it.a.on("dot", say("554 5.7.1 no spam here"))
    assert it.send("bob@a.example").startswith("554 5.7.1 no spam here")
    assert it.owed() == {}
    assert not it.archive.messages


def test_a_recipient_that_is_refused_for_good_is_refused_at_once(scene: Callable[..., Scene]) -> None:
    it = scene()
    it.a.recipient_replies["nobody@a.example"] = "550 5.1.1 no such user"
    with RawClient(it.port) as client:
        client.hello()
        client.command("MAIL FROM:<ann@a.example>", 250)
        client.command("RCPT TO:<nobody@a.example>", 550)
        client.command("RCPT TO:<bob@a.example>", 250)
        client.command("DATA", 354)
        client.send(CONTENT + b".\r\n")
        client.expect(250)
    [message] = it.archive.wait_for(1)
    assert message.recipients == ("bob@a.example",)


@pytest.mark.parametrize("phase", ["connect", "mail", "rcpt", "data", "dot"])
def test_what_all_upstreams_put_off_is_ours(scene: Callable[..., Scene], phase: Any) -> None:
    it = scene()
    for sink in (it.a, it.second):
        sink.on(phase, say("451 4.3.0 later"))
    assert it.send("bob@a.example").startswith("250 2.0.0 Queued")
    assert it.owed() == {"primary:a": 1}
    assert not it.archive.messages, "a copy goes to those whom the primary accepted"
    it.server.wait_for("deferred")
    it.server.put_forward(70)
    wait_until(lambda: len(it.a.messages) + len(it.second.messages) == 1, "the message at one of them")
    [copy] = it.archive.wait_for(1)
    assert copy.untraced == CONTENT
    assert copy.recipients == ("bob@a.example",)
    it.wait_until_done()


def test_a_message_nobody_can_be_reached_for_outlives_a_restart(scene: Callable[..., Scene]) -> None:
    it = scene()
    it.a.stop()
    it.second.stop()
    assert it.send("bob@a.example").startswith("250 2.0.0 Queued")
    it.restart()
    it.a.start()
    it.server.put_forward(7200)
    [message] = it.a.wait_for(1)
    assert message.untraced == CONTENT
    it.archive.wait_for(1)


def test_an_upstream_that_takes_longer_than_the_budget_is_not_sent_it_again(scene: Callable[..., Scene]) -> None:
    it = scene({"sync_budget": 0.3})
    go_on = threading.Event()
    it.a.on("stored", hold(go_on))
    assert it.send("bob@a.example").startswith("250 2.0.0 Queued")
    assert it.owed() == {"primary:a": 1}
    go_on.set()
    it.archive.wait_for(1)
    it.wait_until_done()
    assert len(it.a.messages) == 1
    assert not it.second.messages


@pytest.mark.parametrize("phase", ["connect", "rcpt", "data", "dot"])
def test_who_waits_when_we_are_stopped_is_answered(scene: Callable[..., Scene], phase: Any) -> None:
    it = scene(shutdown_timeout=1.0)
    for sink in (it.a, it.second):
        sink.on(phase, hang(), times=None)
    with RawClient(it.port) as client:
        client.hello()
        client.command("MAIL FROM:<ann@a.example>", 250)
        client.send(b"RCPT TO:<bob@a.example>\r\n")
        if phase in ("connect", "rcpt"):
            wait_until(lambda: it.a.sessions, "somebody to connect")
            it.server.stop_soon()
        client.expect(250)
        client.command("DATA", 354)
        client.send(CONTENT + b".\r\n")
        if phase in ("data", "dot"):
            it.a.wait_for_verb("DATA")
            it.server.stop_soon()
        assert client.answer().text.startswith("2.0.0 Queued")
        assert client.expect(421).text.startswith("4.3.2 ")
    for sink in (it.a, it.second):
        sink.behave()
    it.restart()
    it.server.put_forward(7200)
    wait_until(lambda: len(it.a.messages) + len(it.second.messages) == 1, "the message at one of them")
    it.wait_until_done()


def test_an_upstream_has_ten_minutes_for_its_answer_whoever_waits() -> None:
    """RFC 5321 section 4.5.3.2.6: one that says 250 after nine minutes has accepted, and is not sent it again."""
    for timeouts in (Upstream("a", "a.example", 25).timeouts, Upstream("a", "a.example", 25).background_timeouts):
        assert timeouts.dot >= 600


def test_an_upstream_that_stays_silent_is_asked_again_itself(scene: Callable[..., Scene]) -> None:
    it = scene({"sync_budget": 0.3})
    go_on = threading.Event()
    it.a.on("stored", hold(go_on, b"451 4.3.0 after all not\r\n"))
    assert it.send("bob@a.example").startswith("250 2.0.0 Queued")
    go_on.set()
    it.server.wait_for("deferred")
    it.server.put_forward(70)
    it.archive.wait_for(1)
    it.wait_until_done()


def test_in_doubt_goes_to_the_same_upstream_only(scene: Callable[..., Scene]) -> None:
    it = scene()
    it.a.on("stored", close())
    assert it.send("bob@a.example").startswith("250 2.0.0 Queued")
    it.server.put_forward(70)
    it.archive.wait_for(1)
    assert len(it.a.messages) == 2, "in doubt, so the same upstream was given it again"
    assert not it.second.messages
    assert it.server.told("in_doubt")


def test_upstreams_that_hang_before_the_dot_cost_the_budget_and_no_more(scene: Callable[..., Scene]) -> None:
    it = scene({"sync_budget": 0.5})
    it.a.on("rcpt", hang(), None)
    it.second.on("rcpt", hang(), None)
    assert it.send("bob@a.example", "cyd@a.example").startswith("250 2.0.0 Queued")
    it.a.behave()
    it.second.behave()
    it.server.put_forward(700)
    wait_until(lambda: len(it.a.messages) + len(it.second.messages) >= 1, "the message")
    it.archive.wait_for(1)


def test_one_message_may_become_several_deliveries(scene: Callable[..., Scene]) -> None:
    it = scene()
    it.b.on("dot", say("451 4.3.0 later"))
    assert it.send("bob@a.example", "eve@b.example").startswith("250 2.0.0 Queued")
    assert [m.recipients for m in it.a.messages] == [("bob@a.example",)]
    assert [m.recipients for m in it.archive.wait_for(1)] == [("bob@a.example",)]
    it.server.wait_for("deferred")
    it.server.put_forward(70)
    assert [m.recipients for m in it.b.wait_for(1)] == [("eve@b.example",)]
    it.wait_until_done()
    assert len(it.a.messages) == len(it.archive.messages) == 1


def test_what_is_refused_after_others_were_accepted_is_told_by_mail(scene: Callable[..., Scene]) -> None:
    it = scene()
    it.b.on("dot", say("554 5.7.1 no spam here"))
    assert it.send("bob@a.example", "eve@b.example").startswith("250 ")
    notice = next(m for m in it.a.wait_for(2) if m.reverse_path == "")
    assert notice.recipients == ("ann@a.example",)
    assert b"multipart/report" in notice.content
    assert b"eve@b.example" in notice.content
    assert b"554 5.7.1 no spam here" in notice.content
    it.wait_until_done()


@pytest.mark.parametrize(("phase", "said"), [("stored", "250 2.6.0 queued as 4XYZ"), ("dot", "554 5.7.1 no spam here")])
def test_a_route_without_recipients_does_not_hide_the_primarys_answer(
    scene: Callable[..., Scene], phase: Any, said: str
) -> None:
    it = scene()
    it.a.recipient_replies["nobody@a.example"] = "550 5.1.1 no such user"
    it.b.on(phase, say(said))
    with RawClient(it.port) as client:
        client.hello()
        client.command("MAIL FROM:<ann@a.example>", 250)
        client.command("RCPT TO:<nobody@a.example>", 550)
        client.command("RCPT TO:<eve@b.example>", 250)
        client.command("DATA", 354)
        client.send(CONTENT + b".\r\n")
        answer = client.answer()
    assert f"{answer.code} {answer.text}".startswith(said)
    assert it.owed() == {}
    assert not it.server.told("queued")


def test_a_route_that_spends_the_budget_does_not_delay_another(scene: Callable[..., Scene]) -> None:
    it = scene({"sync_budget": 0.3})
    it.a.on("rcpt", hang())
    assert it.send("bob@a.example", "eve@b.example").startswith("250 2.0.0 Queued")
    assert [m.recipients for m in it.b.wait_for(1)] == [("eve@b.example",)], "nobody had asked, so it is due at once"


def test_recipients_beyond_what_the_upstream_takes_go_at_once_in_another_transaction(
    scene: Callable[..., Scene],
) -> None:
    it = scene()
    it.second.stop()
    it.a.recipient_replies["cyd@a.example"] = "452 4.5.3 too many recipients"
    with RawClient(it.port) as client:
        client.hello()
        client.mail("ann@a.example", "bob@a.example", "cyd@a.example")
        it.a.behave()
        client.send(CONTENT + b".\r\n")
        client.expect(250)
    assert [m.recipients for m in it.a.wait_for(2)] == [("bob@a.example",), ("cyd@a.example",)]
    it.archive.wait_for(2)
    it.wait_until_done()
    assert sorted(m.recipients for m in it.archive.messages) == [("bob@a.example",), ("cyd@a.example",)]


def test_a_recipient_of_a_route_that_passes_needs_a_transaction_of_its_own(scene: Callable[..., Scene]) -> None:
    it = scene(b={"acceptance": "pass"})
    with RawClient(it.port) as client:
        client.hello()
        client.command("MAIL FROM:<ann@a.example>", 250)
        client.command("RCPT TO:<bob@a.example>", 250)
        client.command("RCPT TO:<eve@b.example>", 452)
        client.command("RSET", 250)
        client.command("MAIL FROM:<ann@a.example>", 250)
        client.command("RCPT TO:<eve@b.example>", 250)
        client.command("RCPT TO:<bob@a.example>", 452)


def test_spool_asks_nobody_before_it_says_250(scene: Callable[..., Scene]) -> None:
    it = scene({"acceptance": "spool"})
    it.a.on("mail", hang())
    it.b.stop()
    assert it.send("bob@a.example", "eve@b.example").startswith("250 2.0.0 Queued")
    it.b.start()
    it.server.put_forward(400)
    it.b.wait_for(1)


def test_spool_copies_what_the_primary_accepted_and_reports_the_rest(scene: Callable[..., Scene]) -> None:
    it = scene({"acceptance": "spool"})
    it.a.recipient_replies["nobody@a.example"] = "550 5.1.1 no such user"
    assert it.send("bob@a.example", "nobody@a.example").startswith("250 2.0.0 Queued")
    [copy] = it.archive.wait_for(1)
    assert copy.recipients == ("bob@a.example",)
    notice = next(m for m in it.a.wait_for(2) if m.reverse_path == "")
    assert notice.recipients == ("ann@a.example",)
    assert b"nobody@a.example" in notice.content
    it.wait_until_done()
    assert len(it.archive.messages) == 2, "the notice is mail for this route, so it is copied like any other"


def test_nobody_is_told_of_the_failure_of_a_notice(scene: Callable[..., Scene]) -> None:
    it = scene({"acceptance": "spool"})
    it.a.recipient_replies["nobody@a.example"] = "550 5.1.1 no such user"
    assert it.send("nobody@a.example", reverse_path="").startswith("250 2.0.0 Queued")
    [record] = it.server.wait_for("dead")
    assert record["recipients"] == ["nobody@a.example"]
    assert not it.a.messages


def test_a_full_spool_says_so_and_stores_nothing(scene: Callable[..., Scene], tmp_path: Path) -> None:
    it = scene({"acceptance": "spool"})
    spool = it.server.server.spool  # type: ignore[union-attr]
    (tmp_path / "spool" / "content").rename(tmp_path / "away")
    answer = it.send("bob@a.example", content=b"Subject: x\r\n\r\n" + b"0123456789\r\n" * 20_000)
    assert answer.startswith(("451 4.3.0", "452 4.3.1"))
    (tmp_path / "away").rename(tmp_path / "spool" / "content")
    assert spool is not None
    assert it.owed() == {}
    assert not it.a.messages


class Unrecorded(MemorySpool):
    """Stores what comes, and cannot record what became of it."""

    def __init__(self) -> None:
        super().__init__()
        self.aborted: list[str] = []

    async def commit_as(self, message_id: str, planned: Sequence[Planned]) -> Sequence[Delivery]:
        raise SpoolError("the disk is full")

    async def abort(self, message_id: str) -> None:
        await super().abort(message_id)
        self.aborted.append(message_id)


def test_what_cannot_be_recorded_is_left_to_the_client_alone(tmp_path: Path) -> None:
    port, spool = free_port(), Unrecorded()
    with StoringSink() as sink, StoringSink() as archive:
        sink.on("dot", say("451 4.3.0 later"))
        copies = (Copy(single(upstream("archive", archive.port))),)
        made = settings(port, upstream("a", sink.port), copies=copies, acceptance="hybrid")
        with RunningServer(made, spool=spool) as server, RawClient(port) as client:
            client.hello()
            client.mail("ann@a.example", "bob@a.example")
            client.send(CONTENT + b".\r\n")
            client.expect(451)
            [received] = server.told("received")
            assert spool.aborted == [received["id"]], "it comes again: this try's copies would be too many"


def test_a_client_that_did_not_hear_queued_is_not_sent_twice(scene: Callable[..., Scene]) -> None:
    it = scene()
    go_on = threading.Event()
    it.a.on("dot", hold(go_on, b"451 4.3.0 later\r\n"))
    it.second.on("connect", say("421 4.3.2 not now"))
    with RawClient(it.port) as client:
        client.hello()
        client.mail("ann@a.example", "bob@a.example")
        client.send(CONTENT + b".\r\n")
        it.server.wait_for("received")
        client.reset()
    go_on.set()
    it.server.wait_for("queued")
    wait_until(lambda: it.server.call(it.server.server.spool.notes), "a note")  # type: ignore[union-attr]
    it.restart()
    assert it.send("bob@a.example").startswith("250 2.0.0 Queued")
    assert it.owed() == {"primary:a": 1}
    assert it.server.told("answered_from_ledger")
