"""Mail that is ours from the start, over real sockets: doubts by policy, lost content, upstreams side by side."""

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rig.client import RawClient
from rig.control import Asker
from rig.faults import Phase, close, hold, say
from rig.ports import free_port
from rig.running import RunningServer, relay_listener, several_routes, single, upstream
from rig.sink import StoringSink
from rig.waiting import wait_until
from waypost.config.settings import Settings, SpoolSettings
from waypost.delivery.spool import Entry, Filter, State
from waypost.routing.classify import ReplyRules
from waypost.routing.failover import TRANSACTION
from waypost.routing.health import State as Health
from waypost.routing.route import Backoff, Copy, Member, Pool, Route, Routes, Rule
from waypost.routing.verdict import Kind, ReplyRule, verdict

CONTENT = b"Subject: hello\r\n\r\nbody\r\n"
LARGE = CONTENT + (b"x" * 998 + b"\r\n") * 200
LARGER = CONTENT + (b"x" * 998 + b"\r\n") * 16_000


class Post:
    """A relay listener whose mail is spooled, for a pool of two upstreams, with a copy for an archive."""

    def __init__(self, folder: Path, first: StoringSink, second: StoringSink, archive: StoringSink) -> None:
        self.folder = folder
        self.first, self.second, self.archive = first, second, archive
        self.port = free_port()
        self.pool = Pool("pool", (Member(upstream("first", first.port)), Member(upstream("second", second.port))))
        self.server = RunningServer(self.settings())

    def settings(self, **route: Any) -> Settings:
        copies = (Copy(single(upstream("archive", self.archive.port))),)
        fields: dict[str, Any] = {"acceptance": "spool", "backoff": Backoff((60,), jitter=0)} | route
        routes = {"apps": Route("apps", self.pool, copies, **fields)}
        made = several_routes(routes, Routes((Rule("apps"),), routes, {}), relay_listener(self.port))
        return replace(made, spool=SpoolSettings(str(self.folder), allow_temporary=True))

    def use(self, **route: Any) -> None:
        """Starts the server, with this on the route."""
        self.server = RunningServer(self.settings(**route))
        self.server.__enter__()

    def send(self, content: bytes = CONTENT, *recipients: str) -> None:
        with RawClient(self.port) as client:
            client.hello()
            client.mail("ann@example.com", *(recipients or ("bob@example.org",)))
            client.send(content + b".\r\n")
            client.expect(250)

    def entries(self, *states: State) -> list[Entry]:
        spool = self.server.server.spool  # type: ignore[union-attr]
        assert spool is not None
        where = Filter(states=frozenset(states) or None)
        return list(self.server.call(lambda: spool.find(where)))

    def wait_until_done(self) -> None:
        wait_until(lambda: not self.entries(State.QUEUED, State.RUNNING), "an empty queue")


@pytest.fixture
def post(tmp_path: Path) -> Iterator[Post]:
    with StoringSink(name="first") as first, StoringSink(name="second") as second, StoringSink(name="archive") as third:
        made = Post(tmp_path / "spool", first, second, third)
        try:
            yield made
        finally:
            made.server.stop()


# -- in doubt: the content was taken, and the connection closed without an answer


@pytest.mark.parametrize("policy", [None, "retry-same", "tempfail"])
def test_in_doubt_the_same_upstream_is_asked_until_it_answers(post: Post, policy: str | None) -> None:
    post.use(in_doubt=policy)
    post.first.on("stored", close())
    post.send()
    post.server.wait_for("in_doubt", upstream="first", role="primary")
    post.first.on("connect", close(), None)
    for round_ in (1, 2):
        post.server.wait_for("deferred", round_)
        post.server.put_forward(61)
    post.server.wait_for("deferred", 3)
    post.first.behave()
    post.server.put_forward(61)
    post.server.wait_for("relayed", upstream="first")
    post.archive.wait_for(1)
    post.wait_until_done()
    assert not post.second.messages
    assert len(post.server.told("in_doubt")) == 1


def test_in_doubt_another_upstream_is_asked_at_once_where_the_route_says_so(post: Post) -> None:
    post.use(in_doubt="failover")
    post.first.on("stored", close())
    post.send()
    [relayed] = post.server.wait_for("relayed")
    assert relayed["upstream"] == "second"
    assert [doubt["upstream"] for doubt in post.server.told("in_doubt")] == ["first"]
    post.archive.wait_for(1)
    post.wait_until_done()


def test_in_doubt_nobody_is_asked_again_where_that_is_assumed(post: Post) -> None:
    post.use(in_doubt="assume-sent")
    post.first.on("stored", close())
    post.send()
    post.archive.wait_for(1)
    post.wait_until_done()
    assert len(post.first.messages) == 1
    assert not post.second.messages
    assert post.server.told("in_doubt")


@pytest.mark.parametrize("phase", ["mail", "stored"])
def test_a_copy_in_doubt_is_sent_again_and_said_to_be(post: Post, phase: Phase) -> None:
    """A small copy leaves in one write: wherever the connection breaks, the target may have it."""
    post.use()
    post.archive.on(phase, close())
    post.send()
    post.server.wait_for("in_doubt", upstream="archive", role="copy")
    post.server.wait_for("deferred", role="copy")
    post.server.put_forward(61)
    post.server.wait_for("copied")
    post.wait_until_done()


# -- what a reply means


@pytest.mark.parametrize("phase", ["mail", "rcpt", "dot"])
@pytest.mark.parametrize(("kind", "taken_by"), [(Kind.TRANSIENT, "second"), (Kind.PERMANENT, None)])
def test_rules_on_replies_hold_for_what_was_queued_too(
    phase: Phase, kind: Kind, taken_by: str | None, post: Post
) -> None:
    """An upstream that says something of its own when it means the contrary of what is built in."""
    words = "550 5.1.1 Come again later" if kind is Kind.TRANSIENT else "550 5.4.5 Daily sending limit exceeded"
    rule = ReplyRule(verdict(kind, "mine"), TRANSACTION, frozenset({550}), frozenset(), None)
    one = upstream("first", post.first.port, replies=ReplyRules((rule,)))
    post.pool = Pool("pool", (Member(one), Member(upstream("second", post.second.port))))
    post.first.on(phase, say(words), None)
    post.use()
    post.send()
    if taken_by is None:
        post.server.wait_for("failed")
        assert not post.second.messages
    else:
        assert post.server.wait_for("relayed", role="primary")[0]["upstream"] == taken_by
    if phase != "rcpt":  # what is said of single recipients is no attempt that failed
        assert post.server.told("attempted", upstream="first")[0]["classification"] == "mine"
    assert post.server.health("first") is Health.CLOSED


# -- content that is lost


@pytest.mark.parametrize("loss", ["gone", "cut"])
def test_content_that_is_lost_ends_one_delivery_and_the_rest_goes_on(post: Post, loss: str) -> None:
    post.use()
    for sink in (post.first, post.second):
        sink.on("connect", say("421 4.3.2 not now"), None)
    content = LARGE if loss == "gone" else LARGER
    post.send(content)
    post.server.wait_for("deferred")
    [file] = list((post.folder / "content").iterdir())
    if loss == "gone":
        file.unlink()
    else:
        with file.open("r+b") as opened:
            opened.truncate(file.stat().st_size - 1000)
    post.send()
    post.server.wait_for("deferred", 2)
    post.first.behave()
    post.second.behave()
    post.server.put_forward(3601)
    post.server.put_forward(61)
    [relayed] = post.server.wait_for("relayed", recipients=["bob@example.org"])
    [failed] = post.server.wait_for("failed")
    assert failed["id"] != relayed["id"]
    assert "the content cannot be read" in failed["text"]
    stored = [m.untraced for m in (*post.first.messages, *post.second.messages) if m.recipients == ("bob@example.org",)]
    assert stored == [CONTENT], "no part of the other was taken for the whole"


# -- side by side


def test_a_copy_target_that_hangs_delays_neither_primary_nor_others(post: Post) -> None:
    post.use()
    go_on = threading.Event()
    post.archive.on("connect", hold(go_on), None)
    try:
        for _ in range(10):
            post.send()
        post.first.wait_for(10)
        wait_until(lambda: {entry.lane for entry in post.entries()} == {"copy:archive"}, "nothing but copies")
    finally:
        post.archive.behave()
        go_on.set()
    post.archive.wait_for(10)


# -- by hand


def test_a_retry_by_hand_does_not_wait_for_the_next_trial(post: Post) -> None:
    post.use()
    post.archive.on("connect", close(), None)
    post.send()
    for round_ in range(1, 8):  # the pause between two trials is as long as it gets
        post.server.wait_for("deferred", round_, role="copy")
        post.server.put_forward(61)
    post.server.wait_for("deferred", 8, role="copy")
    post.archive.behave()
    touched, _ = asyncio.run(Asker(post.folder / "control.sock").act("retry", all=True))
    assert [each["done"] for each in touched] == [True]
    post.archive.wait_for(1)
    post.wait_until_done()
