"""Plugins in the way of mail, over real sockets: who is tried, what clients hear, and that mail flows."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rig.client import RawClient
from rig.faults import say
from rig.ports import free_port
from rig.running import RunningServer, settings, upstream
from rig.sink import StoringSink
from rig.waiting import wait_until
from waypost.config.settings import Settings, SpoolSettings
from waypost.plugins.port import Definition
from waypost.routing.login import Login
from waypost.routing.quota import Quota
from waypost.routing.route import Copy, Member, Pool, Routes
from waypost.smtp.sasl import Secret

MakeSink = Callable[[StoringSink], StoringSink]
CONTENT = b"Subject: hello\r\nX-Tenant: blue\r\n\r\nbody\r\n"
SECRET = "Igelstachel-99"

BY_SENDER = """
import os, time
from waypost.plugins import defer, refuse

def choose(question):
    what = question.reverse_path.partition("@")[0]
    match what:
        case "refuse":
            return refuse("Not from there", 554, "5.7.0")
        case "defer":
            return defer("Not now")
        case "hang":
            time.sleep(600)
        case "die":
            os._exit(3)
        case "lie":
            return ["second", "nobody"]
        case "twice":
            return ["second", "second"]
        case "hungry":
            return [bytearray(4 << 20) for _ in range(1000)]
        case "first":
            return ["first"]
    return ["second", "first"]
"""


@pytest.fixture
def second(make_sink: MakeSink) -> StoringSink:
    return make_sink(StoringSink(name="second.example"))


@pytest.fixture
def plugin(tmp_path: Path) -> Callable[..., Definition]:
    def make(text: str = BY_SENDER, **more: Any) -> Definition:
        file = tmp_path / "chooser.py"
        file.write_text(text)
        # A busy machine must not look like a hung plugin.
        return Definition("chooser", "python", (str(file),), **({"timeout": 5.0, "memory": 128 << 20} | more))

    return make


def with_plugin(made: Settings, definition: Definition) -> Settings:
    """The same settings, with the plugin for every pool."""
    asked = {"plugin": definition.name, "needs_content": definition.needs == "content"}
    pools = {name: replace(pool, **asked) for name, pool in made.pools.items()}
    routes = {
        name: replace(
            route,
            primary=pools[route.primary.name],
            copies=tuple(replace(copy, to=pools[copy.to.name]) for copy in route.copies),
        )
        for name, route in made.routes.routes.items()
    }
    return replace(
        made,
        pools=pools,
        routes=Routes(made.routes.rules, routes, made.routes.accounts),
        plugins={definition.name: definition},
    )


def stored(made: Settings, folder: Path) -> Settings:
    return replace(made, spool=SpoolSettings(str(folder), allow_temporary=True))


def send(port: int, sender: str = "ann@example.com", content: bytes = CONTENT) -> str:
    """The first refusal, or what the client is told of the content."""
    with RawClient(port) as client:
        client.hello()
        for line in (f"MAIL FROM:<{sender}>".encode(), b"RCPT TO:<bob@example.org>", b"DATA", content + b"."):
            client.send(line + b"\r\n")
            answer = client.answer()
            if answer.code >= 400:
                break
    return f"{answer.code} {' '.join(answer.lines)}"


def test_the_plugin_s_order_is_tried(sink: StoringSink, second: StoringSink, plugin: Callable[..., Definition]) -> None:
    port = free_port()
    made = with_plugin(settings(port, upstream("first", sink.port), upstream("second", second.port)), plugin())
    with RunningServer(made) as server:
        assert send(port).startswith("250 ")
        assert send(port, "first@example.com").startswith("250 ")
        assert (len(sink.messages), len(second.messages)) == (1, 1)
        assert [r["order"] for r in server.told("advised", target="providers")] == [["second", "first"], ["first"]]
        second.on("mail", say("451 4.3.2 Not now"))
        assert send(port).startswith("250 ")  # it fails over as the plugin wants
        assert len(sink.messages) == 2
        assert 'waypost_plugin_answers_total{outcome="ok",plugin="chooser"} 3.0' in server.metrics()


def test_who_is_left_out_is_not_tried(
    sink: StoringSink, second: StoringSink, plugin: Callable[..., Definition]
) -> None:
    port = free_port()
    made = with_plugin(settings(port, upstream("first", sink.port), upstream("second", second.port)), plugin())
    sink.on("mail", say("451 4.3.2 Not now"))
    with RunningServer(made):
        assert send(port, "first@example.com").startswith("451 4.3.2 Not now")
    assert second.commands == []


def test_a_refusal_and_a_deferral_are_what_the_client_hears(
    sink: StoringSink, plugin: Callable[..., Definition]
) -> None:
    """Of a pool with one upstream as well."""
    port = free_port()
    with RunningServer(with_plugin(settings(port, upstream("first", sink.port)), plugin())) as server:
        assert send(port, "refuse@example.com") == "554 5.7.0 Not from there"
        assert send(port, "defer@example.com") == "451 4.7.1 Not now"
        assert [r["text"] for r in server.told("refused", command="rcpt")] == ["Not from there", "Not now"]
    assert sink.commands == []
    stopped = server.told("advised", plugin="chooser")
    assert [(r["code"], r["text"]) for r in stopped] == [(554, "Not from there"), (451, "Not now")]


@pytest.mark.parametrize(
    ("sender", "reason"),
    [("die", "crash"), ("lie", "nonsense"), ("twice", "nonsense"), ("hungry", "nonsense"), ("hang", "timeout")],
)
def test_whatever_goes_wrong_mail_flows_by_the_default_order(
    sink: StoringSink, second: StoringSink, plugin: Callable[..., Definition], sender: str, reason: str
) -> None:
    port = free_port()
    made = settings(port, upstream("first", sink.port), upstream("second", second.port))
    with RunningServer(with_plugin(made, plugin(timeout=1.5 if sender == "hang" else 5.0))) as server:
        assert send(port, f"{sender}@example.com").startswith("250 ")
        assert (len(sink.messages), len(second.messages)) == (1, 0)
        assert f'waypost_plugin_answers_total{{outcome="{reason}",plugin="chooser"}} 1.0' in server.metrics()
    [failed] = server.told("not_advised")
    assert (failed["plugin"], failed["cause"]) == ("chooser", reason)
    assert failed["id"] == server.told("relayed")[0]["id"]


def test_health_comes_before_the_plugin_s_wishes(
    sink: StoringSink, second: StoringSink, plugin: Callable[..., Definition]
) -> None:
    port = free_port()
    made = settings(port, upstream("first", sink.port), upstream("second", second.port))
    second.on("mail", say("550 5.4.5 Daily user sending limit exceeded"))
    with RunningServer(with_plugin(made, plugin())):
        assert send(port).startswith("250 ")
        assert send(port).startswith("250 ")
    assert sum(line.startswith(b"MAIL") for _, line in second.commands) == 1
    assert len(sink.messages) == 2


def test_many_messages_at_once(sink: StoringSink, second: StoringSink, plugin: Callable[..., Definition]) -> None:
    port = free_port()
    made = settings(port, upstream("first", sink.port), upstream("second", second.port))
    with RunningServer(with_plugin(made, plugin(at_once=2))), ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: send(port), range(40)))
    assert all(answer.startswith("250 ") for answer in answers)
    assert len(second.messages) == 40


@pytest.mark.parametrize("acceptance", ["spool", "hybrid"])
def test_from_the_spool_a_refusal_is_final_and_a_deferral_waits(
    sink: StoringSink, plugin: Callable[..., Definition], tmp_path: Path, acceptance: str
) -> None:
    port = free_port()
    made = settings(port, upstream("first", sink.port), acceptance=acceptance)
    with RunningServer(stored(with_plugin(made, plugin()), tmp_path)) as server:
        assert send(port, "defer@example.com").startswith("250 ")
        [deferred] = server.wait_for("deferred")
        assert deferred["text"] == "Not now"
        refused = send(port, "refuse@example.com")
        if acceptance == "hybrid":
            assert refused.startswith("554 ")
        else:
            [failed] = server.wait_for("failed")
            assert (failed["code"], failed["text"]) == (554, "Not from there")
            [notified] = server.wait_for("notified")
            assert notified["action"] == "failed"
    assert not any(b"refuse@" in message.content for message in sink.messages if message.reverse_path)


def test_copies_are_chosen_for_too(
    sink: StoringSink, second: StoringSink, make_sink: MakeSink, plugin: Callable[..., Definition], tmp_path: Path
) -> None:
    primary = make_sink(StoringSink())
    port = free_port()
    to = Pool("archives", (Member(upstream("first", sink.port)), Member(upstream("second", second.port))))
    text = "def choose(q):\n    return ['main'] if q.pool == 'providers' else ['second']\n"
    made = settings(port, upstream("main", primary.port), copies=(Copy(to),))
    with RunningServer(stored(with_plugin(made, plugin(text)), tmp_path)) as server:
        assert send(port).startswith("250 ")
        server.wait_for("copied")
    assert (len(primary.messages), len(sink.messages), len(second.messages)) == (1, 0, 1)


def test_with_the_content_it_sees_the_header(
    sink: StoringSink, second: StoringSink, plugin: Callable[..., Definition], tmp_path: Path
) -> None:
    text = """
def choose(question):
    blue = question.header.get("x-tenant") == "blue" and question.size > 30 and question.background
    return ["second"] if blue else ["first"]
"""
    port = free_port()
    made = settings(port, upstream("first", sink.port), upstream("second", second.port), acceptance="spool")
    with RunningServer(stored(with_plugin(made, plugin(text, needs="content")), tmp_path)) as server:
        send(port)
        server.wait_for("relayed")
        send(port, content=CONTENT.replace(b"blue", b"red"))
        server.wait_for("relayed", count=2)
    assert (len(sink.messages), len(second.messages)) == (1, 1)


def test_s13_it_sees_the_message_s_facts_and_the_upstreams_but_no_password(
    make_sink: MakeSink, second: StoringSink, plugin: Callable[..., Definition], tmp_path: Path
) -> None:
    """S3 as well: whatever a plugin is told is searched for what was confided to us."""
    seen = tmp_path / "seen"
    text = f"""
import dataclasses, json
def choose(question):
    with open({str(seen)!r}, "a") as file:
        print(json.dumps(dataclasses.asdict(question), default=lambda header: list(header)), file=file)
    return ["second", "first"]
"""
    first = make_sink(StoringSink(accounts={"me": SECRET}))
    login = Login("me", Secret(SECRET))
    port = free_port()
    members = (
        upstream("first", first.port, credentials=login, allow_plaintext_auth=True, quotas=(Quota(10, "day"),), cost=2),
        upstream("second", second.port),
    )
    with RunningServer(with_plugin(settings(port, *members), plugin(text))):
        for _ in range(2):
            assert send(port).startswith("250 ")
        second.on("mail", say("451 4.3.2 Not now"))
        assert send(port).startswith("250 ")  # by the one with the password
        assert send(port).startswith("250 ")
    assert len(first.messages) == 1
    said = seen.read_text()
    assert SECRET not in said
    asked = json.loads(said.split("\n")[-2])
    assert asked["recipients"] == ["bob@example.org"]
    assert asked["client_address"] == "127.0.0.1"
    assert (asked["route"], asked["pool"], asked["background"], asked["header"]) == ("all", "providers", False, None)
    facts = {each["name"]: each for each in asked["upstreams"]}
    assert facts["first"]["login"] == "me"
    assert (facts["first"]["quota_left"], facts["first"]["quota_used"], facts["first"]["cost"]) == (9, 0.1, 2)
    assert facts["second"]["latency"] > 0
    assert facts["second"]["quota_left"] is None


def test_a_plugin_is_reloaded_while_mail_flows(
    sink: StoringSink, second: StoringSink, plugin: Callable[..., Definition]
) -> None:
    port = free_port()
    made = settings(port, upstream("first", sink.port), upstream("second", second.port))
    with RunningServer(with_plugin(made, plugin("def choose(question):\n    return ['second']\n"))):
        assert send(port).startswith("250 ")
        assert len(second.messages) == 1
        plugin("def choose(question):\n    return ['first']\n")
        wait_until(lambda: send(port).startswith("250 ") and sink.messages, "a message by the new plugin")
