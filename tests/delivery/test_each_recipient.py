"""Upstreams that answer for each recipient (LMTP, PRDR), clients that hear that, and those that do not."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rig.certificates import Certificates
from rig.client import RawClient
from rig.faults import hang, hold
from rig.lmtp import EachSink
from rig.ports import free_port
from rig.running import RunningServer, relay_listener, settings, several_routes, single, upstream
from rig.running_sink import RunningSink
from rig.sink import StoringSink
from rig.waiting import wait_until
from waypost.config.settings import SpoolSettings
from waypost.net.settings import ServerTls
from waypost.routing.health import State
from waypost.routing.route import Copy, Route, Routes, Rule, Upstream, UpstreamTls
from waypost.smtp.order import ServerOptions

CONTENT = b"Subject: hello\r\nMessage-ID: <one@example.com>\r\n\r\nbody\r\n"
MIXED = {"full@x.example": "452 4.2.2 Over quota", "gone@x.example": "550 5.2.1 Mailbox closed"}
THREE = ("bob@x.example", "full@x.example", "gone@x.example")


class Scene:
    """A listener, by LMTP or SMTP, one route, and a copy target."""

    def __init__(self, stack: ExitStack, folder: Path, *upstreams: Upstream, lmtp: bool = False, **more: Any) -> None:
        self.port = free_port()
        self.archive = stack.enter_context(StoringSink(name="archive.example"))
        copies = more.pop("copies", (Copy(single(upstream("archive", self.archive.port))),))
        made = settings(self.port, *upstreams, copies=copies, listener=relay_listener(self.port, lmtp=lmtp), **more)
        self.server = stack.enter_context(
            RunningServer(replace(made, spool=SpoolSettings(str(folder), allow_temporary=True)))
        )

    def client(self, hello: str = "EHLO") -> RawClient:
        client = RawClient(self.port)
        client.expect(220)
        client.command(f"{hello} client.example", 250)
        return client

    def lmtp(self, *recipients: str) -> list[str]:
        """A message by LMTP: the reply for each recipient."""
        with self.client("LHLO") as client:
            client.mail("ann@a.example", *recipients)
            client.send(CONTENT + b".\r\n")
            return [heard(client) for _ in recipients]

    def smtp(self, *recipients: str, mail: str = "") -> str:
        """A message by SMTP: the reply to it."""
        with self.client() as client:
            client.command(f"MAIL FROM:<ann@a.example>{mail}", 250)
            for recipient in recipients:
                client.command(f"RCPT TO:<{recipient}>", 250)
            client.command("DATA", 354)
            client.send(CONTENT + b".\r\n")
            return heard(client)

    def queued(self) -> dict[str, list[str]]:
        """Whom what is owed is for, by lane."""
        spool = self.server.server.spool  # type: ignore[union-attr]
        assert spool is not None
        counts = self.server.call(spool.lanes)
        return {count.lane: count.queued for count in counts if count.queued}  # type: ignore[misc]


def heard(client: RawClient) -> str:
    answer = client.answer()
    return f"{answer.code} {answer.text.partition(' (id ')[0]}"


def lmtp(name: str, sink: EachSink, **more: Any) -> Upstream:
    return upstream(name, sink.port, lmtp=sink.protocol == "lmtp", **more)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def each(stack: ExitStack) -> EachSink:
    return stack.enter_context(EachSink(verdicts=dict(MIXED)))


@pytest.fixture
def scene(stack: ExitStack, tmp_path: Path) -> Callable[..., Scene]:
    return lambda *upstreams, **more: Scene(stack, tmp_path / "spool", *upstreams, **more)


# -- pass


def test_an_lmtp_client_hears_what_the_lmtp_upstream_says_of_each(scene: Callable[..., Scene], each: EachSink) -> None:
    it = scene(lmtp("box", each), lmtp=True)
    assert it.lmtp(*THREE) == ["250 2.0.0 Saved", "452 4.2.2 Over quota", "550 5.2.1 Mailbox closed"]
    [got] = each.got
    assert got.recipients == ("bob@x.example",)
    assert got.content.endswith(CONTENT)
    [relayed] = it.server.told("relayed")
    [deferred] = it.server.told("deferred")
    [failed] = it.server.told("failed")
    assert [relayed["recipients"], deferred["recipients"], failed["recipients"]] == [[who] for who in THREE]
    assert relayed["classification"] == "accepted"
    [copy] = it.archive.wait_for(1)
    assert copy.recipients == ("bob@x.example",), "a copy goes to whom the primary accepted"
    assert it.server.health("box") is State.CLOSED, "a full mailbox says nothing of the upstream"
    assert "LMTP" in got.content.decode()


def test_a_plain_client_names_one_recipient_at_a_time(scene: Callable[..., Scene], each: EachSink) -> None:
    each.refusals["nobody@x.example"] = "550 5.1.1 No such user"
    it = scene(lmtp("box", each))
    with it.client() as client:
        client.command("MAIL FROM:<ann@a.example>", 250)
        client.command("RCPT TO:<nobody@x.example>", 550)
        client.send(b"RCPT TO:<full@x.example>\r\nRCPT TO:<bob@x.example>\r\nDATA\r\n")
        client.expect(250)
        assert heard(client).startswith("452 4.5.3 ")
        client.expect(354)
        client.send(CONTENT + b".\r\n")
        assert heard(client) == "452 4.2.2 Over quota", "the upstream's own words, and nothing is ours"
        client.mail("ann@a.example", "bob@x.example")
        client.send(CONTENT + b".\r\n")
        assert heard(client) == "250 2.0.0 Saved"
    assert [got.recipients for got in each.got] == [("bob@x.example",)]
    assert it.server.health("box") is State.CLOSED


def test_a_client_that_says_prdr_hears_of_each(scene: Callable[..., Scene], each: EachSink) -> None:
    it = scene(lmtp("box", each))
    with it.client() as client:
        client.command("MAIL FROM:<ann@a.example> PRDR", 250)
        for recipient in THREE:
            client.command(f"RCPT TO:<{recipient}>", 250)
        client.command("DATA", 354)
        client.send(CONTENT + b".\r\n")
        client.expect(353)
        assert [heard(client) for _ in THREE] == [
            "250 2.0.0 Saved",
            "452 4.2.2 Over quota",
            "550 5.2.1 Mailbox closed",
        ]
        assert heard(client) == "250 2.0.0 Saved"
    assert " PRDR" not in each.got[0].mail, "LMTP has no use for it"


def test_in_front_of_an_ordinary_upstream_every_recipient_gets_its_answer(
    scene: Callable[..., Scene], sink: StoringSink
) -> None:
    it = scene(upstream("plain", sink.port), lmtp=True)
    sink.recipient_replies["nobody@x.example"] = "550 5.1.1 No such user"
    with it.client("LHLO") as client:
        client.send(b"MAIL FROM:<ann@a.example>\r\n")
        for recipient in ("bob@x.example", "nobody@x.example", "carol@x.example"):
            client.send(f"RCPT TO:<{recipient}>\r\n".encode())
        client.send(b"DATA\r\n")
        assert [client.answer().code for _ in range(5)] == [250, 250, 550, 250, 354]
        client.send(CONTENT + b".\r\nNOOP\r\n")
        first, second = heard(client), heard(client)
        assert first == second
        assert first.startswith("250 ")
        client.expect(250)


@pytest.mark.parametrize(
    ("overall", "wanted"),
    [
        ("250 2.0.0 Accepted for some", ["250 2.0.0 Saved", "452 4.2.2 Over quota", "550 5.2.1 Mailbox closed"]),
        ("451 4.3.0 After all not", ["451 4.3.0 After all not", "452 4.2.2 Over quota", "550 5.2.1 Mailbox closed"]),
        ("554 5.7.1 A virus", ["554 5.7.1 A virus", "554 5.7.1 A virus", "550 5.2.1 Mailbox closed"]),
    ],
)
def test_prdr_upstream(scene: Callable[..., Scene], each: EachSink, overall: str, wanted: list[str]) -> None:
    each.protocol, each.overall = "prdr", overall
    it = scene(lmtp("box", each), lmtp=True)
    assert it.lmtp(*THREE) == wanted
    assert " PRDR" in next(line for line in each.lines if line.startswith("MAIL"))


def test_prdr_is_not_asked_for_when_our_client_did_not(scene: Callable[..., Scene], each: EachSink) -> None:
    each.protocol = "prdr"
    it = scene(lmtp("box", each))
    assert it.smtp(*THREE) == "250 2.0.0 Accepted for some"
    assert " PRDR" not in each.got[0].mail


def test_who_is_refused_for_now_goes_on_to_the_next_upstream(
    scene: Callable[..., Scene], each: EachSink, stack: ExitStack
) -> None:
    second = stack.enter_context(EachSink())
    it = scene(lmtp("box", each), lmtp("second", second), lmtp=True)
    assert it.lmtp(*THREE) == ["250 2.0.0 Saved", "250 2.0.0 Saved", "550 5.2.1 Mailbox closed"]
    assert [got.recipients for got in second.got] == [("full@x.example",)]
    assert sorted(it.archive.wait_for(1)[0].recipients) == ["bob@x.example", "full@x.example"]


def test_the_first_choice_has_the_word_when_all_put_it_off(
    scene: Callable[..., Scene], each: EachSink, stack: ExitStack
) -> None:
    second = stack.enter_context(EachSink(verdicts={"full@x.example": "451 4.3.2 Not now either"}))
    it = scene(lmtp("box", each), lmtp("second", second), lmtp=True)
    assert it.lmtp(*THREE)[1] == "452 4.2.2 Over quota"


# -- hostile


def test_who_was_not_answered_for_is_in_doubt_alone(scene: Callable[..., Scene], each: EachSink) -> None:
    each.answers = 1
    it = scene(lmtp("box", each), lmtp=True)
    first, second, third = it.lmtp("bob@x.example", "carol@x.example", "dave@x.example")
    assert first == "250 2.0.0 Saved"
    assert second == third
    assert second.startswith("451 4.4.2 ")
    [doubt] = it.server.told("in_doubt")
    assert doubt["recipients"] == ["carol@x.example", "dave@x.example"]


@pytest.mark.parametrize("protocol", ["lmtp", "prdr"])
def test_one_answer_too_many_leaves_all_in_doubt(scene: Callable[..., Scene], each: EachSink, protocol: str) -> None:
    each.protocol, each.extra = protocol, "250 2.0.0 And another"
    it = scene(lmtp("box", each), lmtp=True)
    answers = it.lmtp(*THREE)
    assert len(set(answers)) == 1
    assert answers[0].startswith("451 4.4.2 ")


def test_353_that_nobody_asked_for_leaves_it_in_doubt(scene: Callable[..., Scene], each: EachSink) -> None:
    each.protocol, each.overall, each.extra = "smtp", "353 Wait for it", "250 2.0.0 OK"
    it = scene(lmtp("box", each))
    assert it.smtp("bob@x.example").startswith("451 4.4.2 ")


def test_prdr_without_its_last_reply_leaves_those_in_doubt_who_were_told_yes(
    scene: Callable[..., Scene], each: EachSink
) -> None:
    each.protocol, each.answers = "prdr", 3
    it = scene(lmtp("box", each), lmtp=True)
    first, *others = it.lmtp(*THREE)
    assert first.startswith("451 4.4.2 ")
    assert others == ["452 4.2.2 Over quota", "550 5.2.1 Mailbox closed"]


# -- hybrid and spool


def dsn_recipients(sink: EachSink, count: int) -> list[tuple[str, ...]]:
    return [got.recipients for got in sink.wait_for(count) if "multipart/report" in got.content.decode()]


def test_hybrid_keeps_what_is_temporary_and_notifies_of_what_is_not(
    scene: Callable[..., Scene], each: EachSink
) -> None:
    it = scene(lmtp("box", each), acceptance="hybrid")
    assert it.smtp(*THREE) == "250 2.0.0 Queued"
    assert it.archive.wait_for(1)[0].recipients == ("bob@x.example",)
    [failed] = it.server.wait_for("failed")
    assert failed["recipients"] == ["gone@x.example"]
    assert dsn_recipients(each, 2) == [("ann@a.example",)]
    each.verdicts.clear()
    it.server.put_forward(120)
    got = each.wait_for(3)
    assert got[2].recipients == ("full@x.example",), "for that one alone"
    wait_until(lambda: not it.queued(), "an empty spool")
    copies = {copy.recipients for copy in it.archive.wait_for(3)}
    assert copies == {("bob@x.example",), ("full@x.example",), ("ann@a.example",)}, "the notification has one as well"


def test_hybrid_for_a_client_that_hears_of_each(scene: Callable[..., Scene], each: EachSink) -> None:
    it = scene(lmtp("box", each), acceptance="hybrid", lmtp=True)
    assert it.lmtp(*THREE) == ["250 2.0.0 Saved", "250 2.0.0 Queued", "550 5.2.1 Mailbox closed"]
    [queued] = it.server.told("queued")
    assert queued["recipients"] == ["full@x.example"]
    each.verdicts.clear()
    it.server.put_forward(120)
    assert [got.recipients for got in each.wait_for(2)] == [("bob@x.example",), ("full@x.example",)]
    wait_until(lambda: not it.queued(), "an empty spool")
    assert not it.server.told("notified"), "the client was told, so nobody else is"


def test_hybrid_with_nothing_left_keeps_nothing(scene: Callable[..., Scene], each: EachSink) -> None:
    it = scene(lmtp("box", each), acceptance="hybrid", lmtp=True)
    assert it.lmtp("bob@x.example", "gone@x.example") == ["250 2.0.0 Saved", "550 5.2.1 Mailbox closed"]
    assert it.archive.wait_for(1)[0].recipients == ("bob@x.example",)
    wait_until(lambda: not it.queued(), "an empty spool")
    assert not it.server.told("queued")
    assert it.lmtp("gone@x.example", "gone@x.example") == ["550 5.2.1 Mailbox closed"] * 2


def test_hybrid_in_doubt_for_some(scene: Callable[..., Scene], each: EachSink) -> None:
    each.answers = 1
    it = scene(lmtp("box", each), acceptance="hybrid", lmtp=True)
    assert it.lmtp("bob@x.example", "carol@x.example") == ["250 2.0.0 Saved", "250 2.0.0 Queued"]
    each.answers = None
    it.server.put_forward(120)
    assert [got.recipients for got in each.wait_for(2)] == [("bob@x.example",), ("carol@x.example",)]


def test_what_is_known_of_some_outlasts_the_budget(
    scene: Callable[..., Scene], each: EachSink, sink: StoringSink
) -> None:
    """The first upstream has answered; the next is asked for those who were put off, and says nothing in time."""
    sink.on("rcpt", hang())
    it = scene(
        lmtp("box", each), upstream("slow", sink.port), acceptance="hybrid", lmtp=True, sync_budget=1.0, copies=()
    )
    assert it.lmtp(*THREE) == ["250 2.0.0 Saved", "250 2.0.0 Queued", "550 5.2.1 Mailbox closed"]
    assert it.server.told("queued")[0]["recipients"] == ["full@x.example"]
    each.verdicts.clear()
    it.server.put_forward(120)
    assert [got.recipients for got in each.wait_for(2)] == [("bob@x.example",), ("full@x.example",)]


def test_an_answer_that_comes_late_settles_whom_it_is_about(
    scene: Callable[..., Scene], each: EachSink, sink: StoringSink
) -> None:
    late = threading.Event()
    sink.on("stored", hold(late, b"250 2.0.0 At last\r\n"))
    it = scene(lmtp("box", each), upstream("slow", sink.port), acceptance="hybrid", sync_budget=1.0, copies=())
    assert it.smtp(*THREE) == "250 2.0.0 Queued"
    assert [who for record in it.server.told("relayed") for who in record["recipients"]] == ["bob@x.example"]
    late.set()
    relayed = it.server.wait_for("relayed", 2)
    assert relayed[1]["recipients"] == ["full@x.example"]
    assert it.server.wait_for("failed")[0]["recipients"] == ["gone@x.example"]
    assert len(sink.messages) == 1
    assert [got.recipients for got in each.got if b"report" not in got.content] == [("bob@x.example",)]


def test_a_client_that_hears_of_each_on_several_routes(stack: ExitStack, tmp_path: Path, each: EachSink) -> None:
    other = stack.enter_context(EachSink())
    routes = {
        "a": Route("a", single(lmtp("box", each)), acceptance="hybrid"),
        "b": Route("b", single(lmtp("other", other)), acceptance="hybrid"),
        "c": Route("c", single(lmtp("third", other)), acceptance="spool"),
    }
    rules = (Rule("b", recipients=("*@b.example",)), Rule("c", recipients=("*@c.example",)), Rule("a"))
    port = free_port()
    made = several_routes(routes, Routes(rules, routes, {}), relay_listener(port, lmtp=True))
    spool = SpoolSettings(str(tmp_path / "spool"), allow_temporary=True)
    other.verdicts["dan@b.example"] = "550 5.7.1 Not to Dan"
    with RunningServer(replace(made, spool=spool)) as server, RawClient(port) as client:
        client.expect(220)
        client.command("LHLO client.example", 250)
        client.mail(
            "ann@a.example", "bob@x.example", "dan@b.example", "eve@c.example", "full@x.example", "fay@b.example"
        )
        client.send(CONTENT + b".\r\n")
        assert [heard(client) for _ in range(5)] == [
            "250 2.0.0 Saved",
            "550 5.7.1 Not to Dan",
            "250 2.0.0 Queued",
            "250 2.0.0 Queued",
            "250 2.0.0 Saved",
        ]
        server.wait_for("relayed", 3)
    assert [got.recipients for got in other.got] == [("fay@b.example",), ("eve@c.example",)]


def test_in_doubt_for_some_and_tried_elsewhere_by_failover(
    scene: Callable[..., Scene], each: EachSink, stack: ExitStack
) -> None:
    second = stack.enter_context(EachSink())
    each.answers = 1
    it = scene(lmtp("box", each), lmtp("second", second), lmtp=True, in_doubt="failover")
    assert it.lmtp("bob@x.example", "carol@x.example") == ["250 2.0.0 Saved"] * 2
    assert [got.recipients for got in second.got] == [("carol@x.example",)]


def test_in_doubt_for_some_and_asked_again(scene: Callable[..., Scene], each: EachSink, stack: ExitStack) -> None:
    each.answers = 1
    it = scene(lmtp("box", each), lmtp=True, in_doubt="retry-same")
    assert it.lmtp("bob@x.example", "carol@x.example") == ["250 2.0.0 Saved"] * 2, "carol alone, the second time"
    assert [got.recipients for got in each.got] == [("bob@x.example",), ("carol@x.example",)]


def test_in_doubt_for_some_and_assumed(scene: Callable[..., Scene], each: EachSink) -> None:
    each.answers = 1
    it = scene(lmtp("box", each), lmtp=True, in_doubt="assume-sent")
    first, second = it.lmtp("bob@x.example", "carol@x.example")
    assert first == "250 2.0.0 Saved"
    assert second.startswith("250 2.0.0 Sent, and taken for delivered")


def test_lmtp_with_tls_on_both_sides(stack: ExitStack, certificates: Certificates, each: EachSink) -> None:
    tls = ServerTls(str(certificates.certificate), str(certificates.key))
    port, options = free_port(), ServerOptions("box.example", lmtp=True)
    box = stack.enter_context(RunningSink("verdict=550 No to:gone@*", options=options, tls=tls))
    how = UpstreamTls("starttls", ca_file=str(certificates.ca_file), server_name="localhost")
    target = upstream("box", box.port, lmtp=True, tls=how)
    stack.enter_context(RunningServer(settings(port, target, listener=relay_listener(port, lmtp=True, tls=tls))))
    with RawClient(port) as client:
        client.expect(220)
        assert "STARTTLS" in client.command("LHLO client.example", 250).lines
        client.command("STARTTLS", 220)
        client.start_tls(certificates.client_context())
        client.command("LHLO client.example", 250)
        client.mail("ann@a.example", "bob@x.example", "gone@x.example")
        client.send(CONTENT + b".\r\n")
        assert heard(client).startswith("250 2.0.0 Kept for bob@x.example")
        assert heard(client) == "550 No"
    [message] = box.running.messages
    assert message.tls
    assert message.recipients == ("bob@x.example",)
    assert b"with LMTPS id" in message.content


def test_spool_settles_each_by_its_own_answer(scene: Callable[..., Scene], each: EachSink) -> None:
    it = scene(lmtp("box", each), acceptance="spool")
    assert it.smtp(*THREE) == "250 2.0.0 Queued"
    [relayed] = it.server.wait_for("relayed")
    assert relayed["recipients"] == ["bob@x.example"]
    [deferred] = it.server.wait_for("deferred")
    assert deferred["recipients"] == ["full@x.example"]
    [failed] = it.server.wait_for("failed")
    assert failed["recipients"] == ["gone@x.example"]
    assert dsn_recipients(each, 2) == [("ann@a.example",)]


def test_a_message_of_ours_asks_for_prdr(scene: Callable[..., Scene], each: EachSink) -> None:
    each.protocol = "prdr"
    it = scene(lmtp("box", each), acceptance="spool")
    assert it.smtp(*THREE) == "250 2.0.0 Queued"
    assert it.server.wait_for("failed")[0]["recipients"] == ["gone@x.example"]
    assert " PRDR" in each.got[0].mail


def test_copies_to_an_lmtp_upstream(scene: Callable[..., Scene], each: EachSink, sink: StoringSink) -> None:
    copies = (Copy(single(lmtp("box", each))),)
    it = scene(upstream("primary", sink.port), copies=copies)
    assert it.smtp(*THREE).startswith("250 ")
    assert each.wait_for(1)[0].recipients == ("bob@x.example",)
    assert it.server.wait_for("copied")[0]["recipients"] == ["bob@x.example"]
    assert it.server.wait_for("dead")[0]["recipients"] == ["gone@x.example"]
    each.verdicts.clear()
    it.server.put_forward(120)
    assert each.wait_for(2)[1].recipients == ("full@x.example",)


# -- what was not heard


def test_replies_that_were_not_heard_are_given_again(scene: Callable[..., Scene], each: EachSink) -> None:
    it = scene(lmtp("box", each), lmtp=True)
    with it.client("LHLO") as client:
        client.mail("ann@a.example", *THREE)
        client.send(CONTENT + b".\r\n")
        client.reset()
    it.server.wait_for("relayed")
    assert it.lmtp(*reversed(THREE)) == ["550 5.2.1 Mailbox closed", "452 4.2.2 Over quota", "250 2.0.0 Saved"]
    assert len(each.got) == 1, "and nothing is sent again"
    assert it.server.told("answered_from_ledger")


# -- unix sockets


def test_unix_sockets_on_both_sides(stack: ExitStack, tmp_path: Path, each: EachSink) -> None:
    path, box = tmp_path / "in", stack.enter_context(EachSink(path=tmp_path / "out"))
    target = upstream("box", 0, host=str(box.path), lmtp=True)
    listener = relay_listener(0, name=f"unix:{path}", host=str(path), lmtp=True, socket_mode=0o600)
    server = stack.enter_context(RunningServer(settings(0, target, listener=listener)))
    assert path.stat().st_mode & 0o777 == 0o600
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(20)
        connection.connect(str(path))
        with connection.makefile("rwb") as wire:
            assert wire.readline().startswith(b"220 waypost.example LMTP ")
            wire.write(b"LHLO c.example\r\nMAIL FROM:<a@a.example>\r\nRCPT TO:<bob@x.example>\r\nDATA\r\n")
            wire.flush()
            while not (line := wire.readline()).startswith(b"354"):
                assert line[:1] == b"2", line
            wire.write(CONTENT + b".\r\nQUIT\r\n")
            wire.flush()
            assert wire.readline().startswith(b"250 2.0.0 Saved")
    assert box.got[0].recipients == ("bob@x.example",)
    assert server.told("received")[0]["client"] == "unix"
    server.stop()
    assert not path.exists()


def test_each_reply_is_kept_by_address() -> None:
    from waypost.delivery.indoubt import _read, _written
    from waypost.delivery.told import Told
    from waypost.smtp.reply import reply

    told = Told(reply(250, "2.0.0", "OK"), {"a@x": reply(452, "4.2.2", "Full"), "b@x": reply(250, None, "OK", "two")})
    assert _read(_written(told)) == told
    assert _read(_written(Told(told.reply))) == Told(told.reply)
    assert json.loads(_written(Told(told.reply))) == [250, ["OK"], [2, 0, 0]], "as before there were several"
