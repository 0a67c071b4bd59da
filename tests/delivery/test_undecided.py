"""Recipients that the content routes: what the client hears at RCPT, and what at the end of content."""

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from waypost.app.lists import EVERY
from waypost.config.lists import read_list
from waypost.config.load import load
from waypost.config.settings import SpoolSettings
from waypost.routing.condition import FieldPatterns, SizeRange
from waypost.routing.route import Copy, Member, Pool, Route, Routes, Rule

URGENT = b"Subject: =?utf-8?q?very_urgent?=\r\n\r\nhurry\r\n"
CALM = b"Subject: hello\r\n\r\nno hurry\r\n"
IS_URGENT = (FieldPatterns("subject", ("very *",)),)
RULES = (Rule("fast", "urgent", "w.yaml:1:5", fields=IS_URGENT), Rule("slow"))


class Scene:
    """Urgent messages go by the route `fast`, to a and then to second; all others by `slow`, to b."""

    def __init__(self, stack: contextlib.ExitStack, folder: Path, fast: str, slow: str, **more: Any) -> None:
        self.a, self.b, self.second, self.archive = (
            stack.enter_context(StoringSink(name=f"{name}.example")) for name in ("a", "b", "second", "archive")
        )
        self.port = free_port()
        pool = Pool("two", tuple(Member(upstream(s.name.partition(".")[0], s.port)) for s in (self.a, self.second)))
        copies = (Copy(single(upstream("archive", self.archive.port))),) if more.get("copies") else ()
        routes = {
            "fast": Route("fast", pool, copies, acceptance=fast),  # type: ignore[arg-type]
            "slow": Route("slow", single(upstream("b", self.b.port)), acceptance=slow),  # type: ignore[arg-type]
        }
        if more.get("third"):
            routes["slow2"] = replace(routes["slow"], name="slow2")
        made = several_routes(
            routes,
            Routes(more.get("rules", RULES), routes, {}, lists=more.get("lists", {})),
            relay_listener(self.port, lmtp=more.get("lmtp", False)),
        )
        if more.get("spool", True):
            made = replace(made, spool=SpoolSettings(str(folder), allow_temporary=True))
        self.server = stack.enter_context(RunningServer(made))

    def send(self, content: bytes, *recipients: str, reverse_path: str = "ann@example.com") -> Answer:
        """A message, and what its client is told at the end."""
        with RawClient(self.port) as client:
            client.hello()
            client.mail(reverse_path, *recipients)
            client.send(content + b".\r\n")
            return client.answer()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Callable[..., Scene]]:
    with contextlib.ExitStack() as stack:
        yield lambda fast="pass", slow="pass", **more: Scene(stack, tmp_path / "spool", fast, slow, **more)


def delivered(*sinks: StoringSink) -> list[str]:
    return [name for sink in sinks for message in sink.messages for name in message.recipients]


def by_data(client: RawClient, content: bytes) -> Answer:
    client.command("DATA", 354)
    client.send(content + b".\r\n")
    return client.answer()


def by_bdat(client: RawClient, content: bytes) -> Answer:
    client.send(b"BDAT 5\r\n" + content[:5])
    client.expect(250)
    client.send(b"BDAT %d LAST\r\n" % (len(content) - 5) + content[5:])
    return client.answer()


def by_chunks_in_one_go(client: RawClient, content: bytes) -> Answer:
    client.send(b"BDAT 5\r\n" + content[:5] + b"BDAT %d\r\n" % (len(content) - 5) + content[5:] + b"BDAT 0 LAST\r\n")
    client.expect(250)
    client.expect(250)
    return client.answer()


@pytest.mark.parametrize("way", [by_data, by_bdat, by_chunks_in_one_go])
@pytest.mark.parametrize("mode", ["pass", "hybrid", "spool"])
def test_the_content_decides_on_the_route(
    scene: Callable[..., Scene], mode: str, way: Callable[[RawClient, bytes], Answer]
) -> None:
    it = scene(mode, mode)
    with RawClient(it.port) as client:
        client.hello()
        for content in (URGENT, CALM, URGENT):
            client.command("MAIL FROM:<ann@example.com>", 250)
            assert client.command("RCPT TO:<bob@example.org>", 250).text.startswith("2.1.5 ")
            assert way(client, content).code == 250
    assert [m.untraced for m in it.a.wait_for(2)] == [URGENT, URGENT]
    assert [m.untraced for m in it.b.wait_for(1)] == [CALM]
    assert [(record["route"], record["rule"]) for record in it.server.told("received")] == [
        ("fast", "urgent (w.yaml:1:5)"),
        ("slow", "rule 2"),
        ("fast", "urgent (w.yaml:1:5)"),
    ]


def test_nobody_is_asked_before_the_content_is_there(scene: Callable[..., Scene]) -> None:
    it = scene()
    with RawClient(it.port) as client:
        client.hello()
        client.mail("ann@example.com", "bob@example.org")
        assert it.a.verbs() + it.b.verbs() == []
        client.send(URGENT + b".\r\n")
        client.expect(250)
    assert "RCPT" in it.a.verbs()
    assert it.b.verbs() == []


@pytest.mark.parametrize("pipelined", [True, False])
@pytest.mark.parametrize("modes", [("pass", "pass"), ("pass", "spool"), ("hybrid", "pass")])
def test_where_a_primary_may_answer_there_is_one_recipient(
    scene: Callable[..., Scene], modes: tuple[str, str], pipelined: bool
) -> None:
    it = scene(*modes)
    with RawClient(it.port) as client:
        client.hello()
        client.command("MAIL FROM:<ann@example.com>", 250)
        commands = [f"RCPT TO:<{name}@example.org>" for name in ("bob", "carol", "dave")]
        if pipelined:
            client.send("".join(f"{command}\r\n" for command in commands).encode())
            answers = [client.answer() for _ in commands]
        else:
            answers = [client.command(commands[0], 250), *(client.command(each, 452) for each in commands[1:])]
        assert [answer.code for answer in answers] == [250, 452, 452]
        assert answers[1].text.startswith("4.5.3 ")
        assert by_data(client, CALM).code == 250
    assert [list(m.recipients) for m in it.b.wait_for(1)] == [["bob@example.org"]]


def test_who_is_decided_at_once_does_not_mix_with_who_is_not(scene: Callable[..., Scene]) -> None:
    rules = (Rule("slow", recipients=("slow.example",)), *RULES)
    it = scene("pass", "spool", rules=rules)
    with RawClient(it.port) as client:
        client.hello()
        client.command("MAIL FROM:<ann@example.com>", 250)
        client.command("RCPT TO:<bob@slow.example>", 250)
        assert client.command("RCPT TO:<bob@example.org>", 452).text.startswith("4.5.3 ")
        client.command("RSET", 250)
        client.command("MAIL FROM:<ann@example.com>", 250)
        client.command("RCPT TO:<bob@example.org>", 250)
        assert client.command("RCPT TO:<bob@slow.example>", 452).text.startswith("4.5.3 ")
        assert by_data(client, URGENT).code == 250
    it.a.wait_for(1)
    assert it.b.messages == []


def test_a_decided_primary_keeps_the_undecided_away(scene: Callable[..., Scene]) -> None:
    rules = (Rule("fast", recipients=("fast.example",)), Rule("slow", size=SizeRange(over=10)), Rule("slow2"))
    it = scene("pass", "spool", rules=(*rules[:2], Rule("slow", recipients=("example.org",)), Rule("fast")))
    with RawClient(it.port) as client:
        client.hello()
        client.mail("ann@example.com", "bob@fast.example")
        client.send(CALM + b".\r\n")
        client.expect(250)
        client.command("MAIL FROM:<ann@example.com>", 250)
        client.command("RCPT TO:<bob@fast.example>", 250)
        client.command("RCPT TO:<bob@elsewhere.example>", 452)
        # One route, whatever the size: that is decided at once, and goes another way.
        client.command("RCPT TO:<bob@example.org>", 452)


@pytest.mark.parametrize("way", [by_data, by_bdat])
def test_the_primarys_refusal_of_the_recipient_is_the_answer_to_the_content(
    scene: Callable[..., Scene], way: Callable[[RawClient, bytes], Answer]
) -> None:
    it = scene(copies=True)
    it.a.on("rcpt", say("550 5.1.1 nobody here by that name"))
    with RawClient(it.port) as client:
        client.hello()
        client.command("MAIL FROM:<ann@example.com>", 250)
        client.command("RCPT TO:<bob@example.org>", 250)
        answer = way(client, URGENT)
        assert answer.code == 550
        assert answer.text.startswith("5.1.1 nobody here by that name (id ")
        client.command("MAIL FROM:<ann@example.com>", 250)
        client.command("RCPT TO:<carol@example.org>", 250)
        assert way(client, URGENT).code == 250
    assert [list(m.recipients) for m in it.archive.wait_for(1)] == [["carol@example.org"]]
    assert it.second.messages == []
    [refused] = it.server.told("refused")
    assert (refused["command"], refused["recipient"]) == ("content", "bob@example.org")
    assert refused["rule"] == "urgent (w.yaml:1:5)"
    assert len(it.server.told("received")) == 1


def test_a_temporary_refusal_of_the_recipient_goes_on_to_the_next_upstream(scene: Callable[..., Scene]) -> None:
    it = scene(copies=True)
    it.a.on("rcpt", say("450 4.2.0 greylisted"))
    assert it.send(URGENT, "bob@example.org").code == 250
    it.second.wait_for(1)
    assert [m.untraced for m in it.archive.wait_for(1)] == [URGENT]
    assert it.a.messages == []


def test_what_all_upstreams_put_off_is_put_off(scene: Callable[..., Scene]) -> None:
    it = scene()
    for sink in (it.a, it.second):
        sink.on("rcpt", say("450 4.2.0 greylisted"))
    answer = it.send(URGENT, "bob@example.org")
    assert (answer.code, answer.text[:16]) == (450, "4.2.0 greylisted")


@pytest.mark.parametrize("mode", ["pass", "hybrid", "spool"])
def test_a_refusal_by_rules_at_the_end_of_content(scene: Callable[..., Scene], mode: str) -> None:
    it = scene(mode, mode, rules=RULES[:1])
    with RawClient(it.port) as client:
        client.hello()
        client.command("MAIL FROM:<ann@example.com>", 250)
        client.command("RCPT TO:<bob@example.org>", 250)
        client.command("RCPT TO:<carol@example.org>", 452)
        answer = by_data(client, CALM)
        assert answer.code == 550
        assert answer.text.startswith("5.7.1 Relaying denied")
        client.mail("ann@example.com", "bob@example.org")
        client.send(URGENT + b".\r\n")
        client.expect(250)
    it.a.wait_for(1)


@pytest.mark.parametrize("modes", [("spool", "spool"), ("hybrid", "hybrid"), ("spool", "hybrid")])
def test_recipients_part_where_the_content_says_so(scene: Callable[..., Scene], modes: tuple[str, str]) -> None:
    big = Rule("fast", size=SizeRange(over=10), recipients=("big.example",))
    it = scene(*modes, rules=(big, *RULES), copies=True)
    assert it.send(CALM, "bob@big.example", "carol@example.org", "dave@big.example").code == 250
    assert [list(m.recipients) for m in it.a.wait_for(1)] == [["bob@big.example", "dave@big.example"]]
    assert [list(m.recipients) for m in it.b.wait_for(1)] == [["carol@example.org"]]
    assert [list(m.recipients) for m in it.archive.wait_for(1)] == [["bob@big.example", "dave@big.example"]]


def test_in_hybrid_the_sender_is_told_of_whom_an_upstream_refuses_after_all(scene: Callable[..., Scene]) -> None:
    it = scene("hybrid", "hybrid")
    it.a.on("rcpt", say("550 5.1.1 nobody here by that name"))
    assert it.send(URGENT, "bob@example.org", "carol@example.org").code == 250
    [message] = [m for m in it.a.wait_for(1) if m.reverse_path]
    assert list(message.recipients) == ["carol@example.org"]
    [notice] = it.b.wait_for(1)  # whose subject begins with other words
    assert (notice.reverse_path, list(notice.recipients)) == ("", ["ann@example.com"])
    assert b"nobody here by that name" in notice.content
    [failed] = it.server.wait_for("failed")
    assert failed["recipients"] == ["bob@example.org"]


def test_in_hybrid_the_refusal_of_all_is_told_the_client(scene: Callable[..., Scene]) -> None:
    it = scene("hybrid", "hybrid")
    it.a.on("rcpt", say("550 5.1.1 nobody here by that name"), times=2)
    answer = it.send(URGENT, "bob@example.org", "carol@example.org")
    assert (answer.code, answer.text[:12]) == (550, "5.1.1 nobody")
    assert it.send(URGENT, "bob@example.org").code == 250
    assert [list(m.recipients) for m in it.a.wait_for(1)] == [["bob@example.org"]]
    assert it.b.messages == []


@pytest.mark.parametrize("tested", ["some", "all"])
def test_a_client_that_hears_of_each_hears_who_is_refused_after_all(scene: Callable[..., Scene], tested: str) -> None:
    it = scene("hybrid", "hybrid", lmtp=True)
    it.a.on("rcpt", say("550 5.1.1 nobody here by that name"))
    if tested == "all":
        it.a.on("rcpt", say("550 5.2.1 closed"))
    with RawClient(it.port) as client:
        client.expect(220)
        client.command("LHLO client.example", 250)
        client.mail("ann@example.com", "bob@example.org", "carol@example.org")
        client.send(URGENT + b".\r\n")
        answers = [client.answer() for _ in range(2)]
        client.command("NOOP", 250)
    last = (250, "2.0.0 st") if tested == "some" else (550, "5.2.1 cl")
    assert [(answer.code, answer.text[:8]) for answer in answers] == [(550, "5.1.1 no"), last]
    assert delivered(it.a) == (["carol@example.org"] if tested == "some" else [])
    refused = [record["recipient"] for record in it.server.told("refused")]
    assert refused[:1] == ["bob@example.org"]
    assert it.server.told("failed") == it.server.told("queued") == []  # so nobody is notified


def test_in_hybrid_what_is_put_off_is_kept(scene: Callable[..., Scene]) -> None:
    it = scene("hybrid", "hybrid")
    for sink in (it.a, it.second):
        sink.on("rcpt", say("450 4.2.0 greylisted"))
    assert it.send(URGENT, "bob@example.org", "carol@example.org").code == 250
    it.server.wait_for("queued")
    it.server.put_forward(120)
    wait_until(lambda: len(delivered(it.a, it.second)) == 2, "both recipients")
    assert sorted(delivered(it.a, it.second)) == ["bob@example.org", "carol@example.org"]


def test_without_a_spool_nothing_is_promised_that_would_be_stored(scene: Callable[..., Scene]) -> None:
    it = scene("hybrid", "spool", spool=False)
    with RawClient(it.port) as client:
        client.hello()
        client.command("MAIL FROM:<ann@example.com>", 250)
        assert client.command("RCPT TO:<bob@example.org>", 451).text.startswith("4.3.5 ")
    mixed = scene("pass", "spool", spool=False)
    assert mixed.send(CALM, "bob@example.org").text.startswith("4.3.5 ")
    assert mixed.send(URGENT, "bob@example.org").code == 250


def test_rset_and_a_new_hello_leave_nothing_behind(scene: Callable[..., Scene]) -> None:
    it = scene()
    with RawClient(it.port) as client:
        client.hello()
        client.command("MAIL FROM:<ann@example.com>", 250)
        client.command("RCPT TO:<bob@example.org>", 250)
        client.command("RSET", 250)
        client.mail("ann@example.com", "carol@example.org")
        client.send(URGENT + b".\r\n")
        client.expect(250)
        client.command("MAIL FROM:<ann@example.com>", 250)
        client.command("RCPT TO:<bob@example.org>", 250)
        client.send(b"BDAT 3\r\nabc")
        client.expect(250)
        client.command("RSET", 250)
        client.command("EHLO again.example", 250)
        client.mail("ann@example.com", "dave@example.org")
        client.send(CALM + b".\r\n")
        client.expect(250)
    assert [list(m.recipients) for m in it.a.messages] == [["carol@example.org"]]
    assert [list(m.recipients) for m in it.b.messages] == [["dave@example.org"]]


def test_the_true_size_decides_and_not_the_declared_one(scene: Callable[..., Scene]) -> None:
    it = scene(rules=(Rule("fast", size=SizeRange(over=1000)), Rule("slow")))
    with RawClient(it.port) as client:
        client.hello()
        for declared, content in ((5000, CALM), (10, CALM + b"x" * 70 + b"\r\n" * 1000)):
            client.command(f"MAIL FROM:<ann@example.com> SIZE={declared}", 250)
            client.command("RCPT TO:<bob@example.org>", 250)
            assert by_data(client, content).code == 250
    assert len(it.a.messages) == len(it.b.messages) == 1
    assert it.b.messages[0].untraced == CALM


def test_a_client_that_goes_before_the_end_leaves_nothing_behind(scene: Callable[..., Scene]) -> None:
    it = scene("spool", "pass")
    with RawClient(it.port) as client:
        client.hello()
        client.mail("ann@example.com", "bob@example.org")
        client.send(URGENT)
    it.server.wait_for("abandoned")
    assert it.a.messages + it.b.messages == []


def test_a_list_is_read_again_when_it_changes(scene: Callable[..., Scene], tmp_path: Path) -> None:
    file = tmp_path / "domains"
    file.write_text("one.example\n")
    it = scene(
        rules=(Rule("fast", recipient_files=(str(file),)), Rule("slow")), lists={str(file): read_list(str(file))}
    )

    def goes_to(domain: str) -> str:
        before = len(it.a.messages)
        assert it.send(CALM, f"bob@{domain}").code == 250
        return "a" if len(it.a.messages) > before else "b"

    def put(text: str) -> None:
        (tmp_path / "new").write_text(text)
        (tmp_path / "new").replace(file)

    def is_listed(domain: str) -> bool:
        it.server.put_forward(EVERY)
        return goes_to(domain) == "a"

    def unread(count: int) -> Sequence[Mapping[str, Any]]:
        """What was said of a list that could not be read, when it was said so often."""
        it.server.put_forward(EVERY)
        said = [each for each in it.server.operational if each["event"] == "list_not_read"]
        return said if len(said) >= count else ()

    assert (goes_to("one.example"), goes_to("two.example")) == ("a", "b")
    put("two.example\n# and one less\n")
    wait_until(lambda: is_listed("two.example"), "the new list")
    assert goes_to("one.example") == "b"
    put("one.example\nnot a domain\n")
    [bad] = wait_until(lambda: unread(1), "the mistake")
    assert bad["reason"].startswith("line 2: 'not a domain' has a space")
    file.unlink()
    assert wait_until(lambda: unread(2), "that the list is gone")[-1]["file"] == str(file)
    assert (goes_to("one.example"), goes_to("two.example")) == ("b", "a")
    put("one.example\n")
    wait_until(lambda: is_listed("one.example"), "the list that came back")
    assert len(unread(2)) == 2  # each is said once


def was_read(it: Scene) -> bool:
    it.server.put_forward(EVERY)
    return any(each["event"] == "list_read" for each in it.server.operational)


def test_who_was_to_share_a_message_does_not_share_a_primarys_answer(
    scene: Callable[..., Scene], tmp_path: Path
) -> None:
    """A list that changes while the content comes may lead where only one recipient may go: nobody is lost by that."""
    file = tmp_path / "domains"
    file.write_text("other.example\n")
    listed = Rule("fast", recipient_files=(str(file),))
    lists = {str(file): read_list(str(file))}
    it = scene("pass", "hybrid", rules=(listed, Rule("slow", fields=IS_URGENT), Rule("slow2")), lists=lists, third=True)
    it.a.on("rcpt", say("550 5.1.1 nobody here by that name"))
    with RawClient(it.port) as client:
        client.hello()
        client.command("MAIL FROM:<ann@example.com>", 250)
        for name in ("bob", "carol"):
            assert client.command(f"RCPT TO:<{name}@example.org>", 250).text.startswith("2.1.5 Accepted; the content")
        (tmp_path / "new").write_text("example.org\n")
        (tmp_path / "new").replace(file)
        wait_until(lambda: was_read(it), "the new list")
        assert by_data(client, URGENT).text.startswith("4.3.0 The rules have changed")
    assert delivered(it.a, it.b) == []


def test_a_client_that_left_while_the_primary_was_asked_hears_the_outcome_when_it_comes_again(
    scene: Callable[..., Scene],
) -> None:
    it = scene()
    answer_now = threading.Event()
    it.a.on("rcpt", hold(answer_now))
    with RawClient(it.port) as client:
        client.hello()
        client.mail("ann@example.com", "bob@example.org")
        client.send(URGENT + b".\r\n")
        it.a.wait_for_verb("RCPT")
        client.reset()
    answer_now.set()
    it.a.wait_for(1)
    it.server.wait_for("relayed")
    assert it.send(URGENT, "bob@example.org").code == 250
    assert len(it.server.wait_for("answered_from_ledger")) == 1
    assert len(it.a.messages) == 1


def test_from_a_configuration_as_people_write_it(tmp_path: Path) -> None:
    port = free_port()
    with StoringSink() as large, StoringSink() as rest:
        (tmp_path / "domains").write_text("listed.example\n")
        (tmp_path / "waypost.yaml").write_text(
            f"hostname: mx.example.com\nlisteners: [{{address: '127.0.0.1:{port}', mode: relay}}]\n"
            f"upstreams:\n  a: {{address: '{large.address}', tls: off}}\n  b: {{address: '{rest.address}', tls: off}}\n"
            "routes: {large: {primary: a}, rest: {primary: b}}\nrules:\n"
            f"  - {{recipient_file: {tmp_path}/domains, size: over 1KB, helo: client.*, route: large}}\n"
            '  - any: [{header: {X-Stream: "bulk*"}}, {header: {Precedence: bulk}}]\n'
            '    not: {header: {X-No: "*"}}\n    time: mon-sun Europe/Berlin\n    percent: 100\n    route: large\n'
            "  - {route: rest}\n"
        )
        with RunningServer(load(str(tmp_path / "waypost.yaml"), {"HOME": str(tmp_path)})), RawClient(port) as client:
            client.hello("client.example")
            for content, recipient in (
                (CALM + b"x\r\n" * 400, "one@listed.example"),
                (CALM, "two@listed.example"),
                (CALM + b"x\r\n" * 400, "three@example.org"),
                (b"Precedence: bulk\r\n" + CALM, "four@example.org"),
                (b"X-No: yes\r\nX-Stream: bulk 7\r\n" + CALM, "five@example.org"),
                (b"x-stream: Bulk 7\r\n" + CALM, "six@example.org"),
            ):
                client.command("MAIL FROM:<ann@example.com>", 250)
                client.command(f"RCPT TO:<{recipient}>", 250)
                assert by_data(client, content).code == 250
        assert [name.partition("@")[0] for name in delivered(large)] == ["one", "four", "six"]
        assert [name.partition("@")[0] for name in delivered(rest)] == ["two", "three", "five"]


def test_routes_that_rewrite_differently_share_no_transaction(tmp_path: Path) -> None:
    port = free_port()
    with StoringSink() as a, StoringSink() as b:
        (tmp_path / "waypost.yaml").write_text(
            f"hostname: mx.example.com\nlisteners:\n  - {{address: '127.0.0.1:{port}', mode: submission, "
            f"trusted_networks: 127.0.0.0/8}}\nspool: {{path: {tmp_path}/spool, allow_temporary: true}}\n"
            f"upstreams:\n  a: {{address: '{a.address}', tls: off}}\n  b: {{address: '{b.address}', tls: off}}\n"
            "routes:\n  fast: {primary: a, acceptance: spool, rewrite: fast@example.com}\n"
            "  slow: {primary: b, acceptance: spool}\n"
            "rules:\n  - {header: {Subject: very *}, route: fast}\n  - {route: slow}\n"
        )
        with RunningServer(load(str(tmp_path / "waypost.yaml"), {"HOME": str(tmp_path)})), RawClient(port) as client:
            client.hello()
            for content in (URGENT, CALM):
                client.command("MAIL FROM:<ann@example.com>", 250)
                client.command("RCPT TO:<bob@example.org>", 250)
                client.command("RCPT TO:<carol@example.org>", 452)
                assert by_data(client, b"From: ann@example.com\r\n" + content).code == 250
            assert [message.reverse_path for message in a.wait_for(1)] == ["fast@example.com"]
            assert [message.reverse_path for message in b.wait_for(1)] == ["ann@example.com"]
