"""Plugins that need the content, asked while the client waits: what it hears at RCPT, and at the end of content."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rig.client import Answer, RawClient
from rig.faults import hold, say
from rig.ports import free_port
from rig.running import RunningServer, relay_listener, several_routes, single, upstream
from rig.sink import StoringSink
from rig.waiting import wait_until
from waypost.config.settings import SpoolSettings
from waypost.plugins.port import Definition
from waypost.routing.condition import FieldPatterns
from waypost.routing.route import Copy, Member, Pool, Route, Routes, Rule

PYTHON = """
from waypost.plugins import defer, refuse

def choose(question):
    tenant = question.header.get("x-tenant")
    assert question.background or question.size == 44 + len(tenant)
    match tenant:
        case "blue":
            return ["second", "first"]
        case "none":
            return refuse("No tenant like that", 554, "5.7.0")
        case "later":
            return ["first"] if question.background else defer("Not now")
    return ["first", "second"]
"""
EXEC = f"""#!{sys.executable}
import json, sys

for line in sys.stdin:
    asked = json.loads(line)
    question = asked["question"]
    tenant = dict(question["header"])["X-Tenant"]
    assert question["background"] or question["size"] == 44 + len(tenant)
    answer = {{"order": ["first", "second"]}}
    if tenant == "blue":
        answer = {{"order": ["second", "first"]}}
    elif tenant == "none":
        answer = {{"refuse": {{"text": "No tenant like that", "code": 554, "enhanced": "5.7.0"}}}}
    elif tenant == "later":
        answer = {{"order": ["first"]}} if question["background"] else {{"defer": "Not now"}}
    print(json.dumps(answer | {{"id": asked["id"]}}), flush=True)
"""


def content(tenant: str) -> bytes:
    return b"Subject: hello\r\nX-Tenant: %b\r\n\r\nhow are you?\r\n" % tenant.encode()


class Scene:
    """Mail goes by the route `asked`, whose plugin looks at the header; that to `plain.example` by a hybrid one."""

    def __init__(self, stack: ExitStack, folder: Path, kind: str, mode: str, **more: Any) -> None:
        names = ("first", "second", "plain", "archive")
        sinks = (stack.enter_context(StoringSink(name=f"{name}.example")) for name in names)
        self.first, self.second, self.plain, self.archive = sinks
        file = folder / "chooser.py"
        file.write_text(PYTHON if kind == "python" else EXEC)
        file.chmod(0o755)
        # A busy machine must not look like a hung plugin.
        definition = Definition("chooser", kind, (str(file),), timeout=5.0, memory=128 << 20, needs="content")  # type: ignore[arg-type]
        members = tuple(Member(upstream(s.name.partition(".")[0], s.port)) for s in (self.first, self.second))
        pool = Pool("two", members, plugin="chooser", needs_content=True)
        copies = (Copy(single(upstream("archive", self.archive.port))),) if more.get("copies") else ()
        routes = {
            "asked": Route("asked", pool, copies, acceptance=mode),  # type: ignore[arg-type]
            "plain": Route("plain", single(upstream("plain", self.plain.port)), acceptance="hybrid"),
        }
        rules = more.get("rules", (Rule("plain", recipients=("plain.example",)), Rule("asked")))
        self.port = free_port()
        made = several_routes(routes, Routes(rules, routes, {}), relay_listener(self.port))
        if more.get("spool", True):
            made = replace(made, spool=SpoolSettings(str(folder / "spool"), allow_temporary=True))
        self.server = stack.enter_context(RunningServer(replace(made, plugins={"chooser": definition})))

    def send(self, tenant: str, *recipients: str) -> Answer:
        """A message, and what its client is told at the end."""
        with RawClient(self.port) as client:
            client.hello()
            client.mail("ann@example.com", *(recipients or ("bob@example.org",)))
            client.send(content(tenant) + b".\r\n")
            return client.answer()


MakeScene = Callable[..., Scene]


@pytest.fixture(params=["python", "exec"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[MakeScene]:
    with ExitStack() as stack:
        yield lambda kind="python", mode="pass", **more: Scene(stack, tmp_path, kind, mode, **more)


@pytest.mark.parametrize("mode", ["pass", "hybrid"])
def test_the_header_chooses_the_upstream(scene: MakeScene, kind: str, mode: str) -> None:
    it = scene(kind, mode, spool=mode == "hybrid")
    with RawClient(it.port) as client:
        client.hello()
        for tenant in ("blue", "red", "blue"):
            client.command("MAIL FROM:<ann@example.com>", 250)
            assert client.command("RCPT TO:<bob@example.org>", 250).text.startswith("2.1.5 ")
            client.send(b"BDAT 5\r\n" + content(tenant)[:5])
            client.expect(250)
            client.send(b"BDAT %d LAST\r\n" % (len(content(tenant)) - 5) + content(tenant)[5:])
            client.expect(250)
    assert [m.untraced for m in it.second.messages] == [content("blue")] * 2
    assert [m.untraced for m in it.first.messages] == [content("red")]
    assert it.server.told("not_advised") == []
    assert [record["route"] for record in it.server.told("received")] == ["asked"] * 3


def test_in_pass_there_is_one_recipient(scene: MakeScene, kind: str) -> None:
    it = scene(kind)
    with RawClient(it.port) as client:
        client.hello()
        client.command("MAIL FROM:<ann@example.com>", 250)
        client.send(b"".join(b"RCPT TO:<%b@example.org>\r\n" % name for name in (b"bob", b"carol", b"dave")))
        answers = [client.answer() for _ in range(3)]
        assert [answer.code for answer in answers] == [250, 452, 452]
        assert answers[1].text.startswith("4.5.3 ")
        client.command("RCPT TO:<eve@plain.example>", 452)
        assert it.first.verbs() + it.second.verbs() == []  # nobody was asked
        client.command("DATA", 354)
        client.send(content("blue") + b".\r\n")
        client.expect(250)
    assert [list(m.recipients) for m in it.second.messages] == [["bob@example.org"]]


def test_in_hybrid_recipients_share_a_message(scene: MakeScene, kind: str) -> None:
    it = scene(kind, "hybrid")
    assert it.send("blue", "bob@example.org", "eve@plain.example", "carol@example.org").code == 250
    assert [list(m.recipients) for m in it.second.wait_for(1)] == [["bob@example.org", "carol@example.org"]]
    assert [list(m.recipients) for m in it.plain.wait_for(1)] == [["eve@plain.example"]]
    assert len(it.server.told("advised")) == 1


@pytest.mark.parametrize("mode", ["pass", "hybrid"])
def test_a_refusal_is_the_answer_to_the_content(scene: MakeScene, kind: str, mode: str) -> None:
    it = scene(kind, mode, copies=True)
    answer = it.send("none")
    assert (answer.code, answer.text[:29]) == (554, "5.7.0 No tenant like that (id")
    assert it.first.verbs() + it.second.verbs() + it.archive.verbs() == []
    [refused] = it.server.told("refused")
    assert (refused["command"], refused["recipient"]) == ("content", "bob@example.org")
    assert it.server.told("received") == []
    assert it.send("blue").code == 250


def test_a_deferral_is_heard_in_pass(scene: MakeScene, kind: str) -> None:
    it = scene(kind)
    answer = it.send("later")
    assert (answer.code, answer.text[:14]) == (451, "4.7.1 Not now ")
    assert it.first.verbs() == []


def test_a_deferral_is_kept_in_hybrid(scene: MakeScene, kind: str) -> None:
    it = scene(kind, "hybrid")
    assert it.send("later", "bob@example.org", "carol@example.org").code == 250
    it.server.wait_for("queued")
    assert it.first.verbs() == []
    it.server.put_forward(120)
    assert [list(m.recipients) for m in it.first.wait_for(1)] == [["bob@example.org", "carol@example.org"]]


def test_in_hybrid_the_sender_is_told_of_a_refusal_of_some(scene: MakeScene, kind: str) -> None:
    it = scene(kind, "hybrid")
    assert it.send("none", "bob@example.org", "eve@plain.example").code == 250
    assert [list(m.recipients) for m in it.plain.wait_for(1)] == [["eve@plain.example"]]
    [failed] = it.server.wait_for("failed")
    assert failed["recipients"] == ["bob@example.org"]
    assert (failed["code"], failed["text"]) == (554, "No tenant like that")


@pytest.mark.parametrize("mode", ["pass", "hybrid"])
@pytest.mark.parametrize("step", ["mail", "rcpt", "data", "dot"])
def test_it_fails_over_as_the_plugin_wants(scene: MakeScene, mode: str, step: str) -> None:
    it = scene("python", mode, copies=True)
    it.second.on(step, say("451 4.3.2 Not now"))
    assert it.send("blue").code == 250
    assert [m.untraced for m in it.first.wait_for(1)] == [content("blue")]
    assert [m.untraced for m in it.archive.wait_for(1)] == [content("blue")]
    assert len(it.server.told("advised")) == 1


def test_a_plugin_and_a_rule_may_both_wait(scene: MakeScene) -> None:
    red = Rule("plain", fields=(FieldPatterns("x-tenant", ("red",)),))
    it = scene("python", "pass", rules=(red, Rule("asked")))
    assert [it.send(tenant).code for tenant in ("red", "blue", "none")] == [250, 250, 554]
    assert (len(it.plain.messages), len(it.second.messages), len(it.first.messages)) == (1, 1, 0)


def test_without_a_spool_hybrid_promises_nothing(scene: MakeScene) -> None:
    it = scene("python", "hybrid", spool=False)
    with RawClient(it.port) as client:
        client.hello()
        client.command("MAIL FROM:<ann@example.com>", 250)
        assert client.command("RCPT TO:<bob@example.org>", 451).text.startswith("4.3.5 ")


def test_who_left_hears_the_outcome_when_it_comes_again(scene: MakeScene) -> None:
    it = scene()
    answer_now = threading.Event()
    it.second.on("dot", hold(answer_now))
    with RawClient(it.port) as client:
        client.hello()
        client.mail("ann@example.com", "bob@example.org")
        client.send(content("blue") + b".\r\n")
        wait_until(lambda: "DATA" in it.second.verbs(), "the content")
        client.reset()
    answer_now.set()
    it.server.wait_for("relayed")
    assert it.send("blue").code == 250
    assert len(it.server.wait_for("answered_from_ledger")) == 1
    assert len(it.second.messages) == 1
