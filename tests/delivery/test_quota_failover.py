"""Quotas and identities over real sockets: who takes over when one is spent, who waits, and what is remembered."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rig.client import RawClient
from rig.faults import close, hang, hold, say
from rig.ports import free_port
from rig.running import HASTY, RunningServer, settings, single, upstream
from rig.sink import StoringSink
from rig.waiting import wait_until
from rig.waypost import WaypostProcess
from waypost.config.settings import Settings, SpoolSettings
from waypost.delivery.spool import Filter
from waypost.routing.health import State
from waypost.routing.quota import Quota
from waypost.routing.route import Copy, Member, Pool, Upstream

MakeSink = Callable[[StoringSink], StoringSink]
CONTENT = b"Subject: hello\r\n\r\nbody\r\n"
DAY = 86400.0


@pytest.fixture
def second(make_sink: MakeSink) -> StoringSink:
    return make_sink(StoringSink(name="second.example"))


def limited(sink: StoringSink, *quotas: Quota, name: str = "first", **more: Any) -> Upstream:
    return upstream(name, sink.port, quotas=quotas, **more)


def daily(limit: int, **more: Any) -> Quota:
    return Quota(limit, "day", **more)


def stored(made: Settings, folder: Path) -> Settings:
    return replace(made, spool=SpoolSettings(str(folder), allow_temporary=True))


def send(port: int, *recipients: str, sender: str = "ann@example.com", count: int = 1) -> str:
    """As many messages; the first refusal, or what the client is told of the last."""
    commands = [f"MAIL FROM:<{sender}>", *(f"RCPT TO:<{each}>" for each in recipients or ("bob@example.org",)), "DATA"]
    steps = [*(f"{line}\r\n".encode() for line in commands), CONTENT + b".\r\n"]
    with RawClient(port) as client:
        client.hello()
        for step in steps * count:
            client.send(step)
            answer = client.answer()
            if answer.code >= 400:
                break
    return f"{answer.code} {' '.join(answer.lines)}"


def test_when_it_is_spent_the_next_takes_over_and_the_first_comes_back(sink: StoringSink, second: StoringSink) -> None:
    port = free_port()
    made = settings(port, limited(sink, daily(3)), upstream("second", second.port))
    with RunningServer(made) as server:
        send(port, count=5)
        assert (len(sink.messages), len(second.messages)) == (3, 2)
        wanted = 'waypost_quota_{}{{upstream="first",window="messages/day"}} 3.0'
        assert all(wanted.format(name) in server.metrics() for name in ("used", "limit"))
        server.put_forward(DAY * 61 / 60)
        send(port)
        assert (len(sink.messages), len(second.messages)) == (4, 2)
        assert wanted.format("used").replace("3.0", "1.0") in server.metrics()
    events = [r["event"] for r in server.operational if r["event"].startswith("quota")]
    assert events == ["quota_spent", "quota_renewed"]


def test_alone_and_spent_the_client_is_told_so(sink: StoringSink) -> None:
    port = free_port()
    with RunningServer(settings(port, limited(sink, daily(1)))) as server:
        assert send(port).startswith("250 ")
        commands = len(sink.commands)
        said = send(port)
        assert said.startswith("451 4.7.1 the quota of 1 message per day is spent, and there is room again in 24 h")
        assert sink.verbs()[commands:] in ([], ["RSET"]), "it is not asked"
        [attempted] = server.told("attempted")
        assert (attempted["classification"], attempted["cause"]) == ("own-quota", "quota")


@pytest.mark.parametrize(
    ("phase", "fault"), [("mail", say("450 4.2.0 no")), ("rcpt", say("550 5.1.1 no")), ("dot", say("554 5.6.0 no"))]
)
def test_what_is_refused_is_not_counted(phase: Any, fault: Any, sink: StoringSink) -> None:
    port = free_port()
    sink.on(phase, fault, 3)
    with RunningServer(settings(port, limited(sink, daily(1), daily(1, of="recipients")))) as server:
        for _ in range(3):
            assert not send(port).startswith("250 ")
        assert 'waypost_quota_used{upstream="first",window="messages/day"} 0.0' in server.metrics()
        assert send(port).startswith("250 ")


@pytest.mark.parametrize("fault", [hang(), close()], ids=["silence", "end"])
def test_what_is_in_doubt_is_counted(fault: Any, sink: StoringSink) -> None:
    port = free_port()
    sink.on("dot", fault)
    with RunningServer(settings(port, limited(sink, daily(5), timeouts=HASTY))) as server:
        assert send(port).startswith("451 4.4.2")
        assert 'waypost_quota_used{upstream="first",window="messages/day"} 1.0' in server.metrics()


def test_recipients_are_counted_as_they_are_accepted(sink: StoringSink, second: StoringSink) -> None:
    port = free_port()
    made = settings(port, limited(sink, daily(5, of="recipients")), upstream("second", second.port))
    with RunningServer(made) as server:
        send(port, "a@example.org", "b@example.org", "c@example.org")
        send(port, "d@example.org", "e@example.org", "f@example.org")
        send(port, "g@example.org", "h@example.org")
        assert [len(message.recipients) for message in sink.messages] == [3, 2]
        assert [len(message.recipients) for message in second.messages] == [3]
        assert 'waypost_quota_used{upstream="first",window="recipients/day"} 5.0' in server.metrics()


def codes(port: int, *recipients: str, pipelined: bool = False) -> list[int]:
    """What is answered to each RCPT of one message, and to its content."""
    with RawClient(port) as client:
        client.hello()
        client.command("MAIL FROM:<ann@example.com>", 250)
        lines = [f"RCPT TO:<{each}>\r\n".encode() for each in recipients]
        answers = []
        for group in [b"".join(lines)] if pipelined else lines:
            client.send(group)
            answers += [client.answer().code for _ in range(group.count(b"\n"))]
        client.command("DATA", 354)
        client.send(CONTENT + b".\r\n")
        return [*answers, client.answer().code]


ADDRESSES = [f"r{number}@example.org" for number in range(7)]


@pytest.mark.parametrize("pipelined", [False, True])
def test_more_recipients_than_a_quota_allows_at_all_go_in_another_transaction(
    sink: StoringSink, pipelined: bool
) -> None:
    port = free_port()
    with RunningServer(settings(port, limited(sink, daily(3, of="recipients")))) as server:
        assert codes(port, *ADDRESSES, pipelined=pipelined) == [250, 250, 250, 452, 452, 452, 452, 250]
        assert 'waypost_quota_used{upstream="first",window="recipients/day"} 3.0' in server.metrics()
    assert [list(message.recipients) for message in sink.messages] == [ADDRESSES[:3]]


@pytest.mark.parametrize("acceptance", ["hybrid", "spool", "copy"])
def test_and_what_is_ours_does_so_when_there_is_room(
    acceptance: Any, sink: StoringSink, second: StoringSink, tmp_path: Path
) -> None:
    port = free_port()
    first = limited(sink, daily(3, of="recipients"))
    if acceptance == "copy":
        made = settings(port, upstream("second", second.port), copies=(Copy(single(first)),))
    else:
        made = settings(port, first, acceptance=acceptance)
    with RunningServer(stored(made, tmp_path)) as server:
        assert codes(port, *ADDRESSES, pipelined=True) == [250] * 8
        for count in (1, 2, 3):
            wait_until(lambda: len(sink.messages) == count, f"{count} of them")  # noqa: B023
            server.put_forward(DAY * 61 / 60)
            server.put_forward(7200)
    assert sorted(each for message in sink.messages for each in message.recipients) == ADDRESSES
    assert max(len(message.recipients) for message in sink.messages) == 3


@pytest.mark.parametrize("acceptance", ["hybrid", "spool"])
def test_what_is_ours_waits_for_the_turn_of_the_window(acceptance: str, sink: StoringSink, tmp_path: Path) -> None:
    port = free_port()
    made = stored(settings(port, limited(sink, daily(2)), acceptance=acceptance), tmp_path)
    with RunningServer(made) as server:
        assert send(port, count=5).startswith("250 ")
        wait_until(lambda: len(sink.messages) == 2, "what there is room for")
        spool = server.server.spool  # type: ignore[union-attr]
        assert spool is not None

        def states() -> list[str]:
            return sorted(entry.state for entry in server.call(lambda: spool.find(Filter())))

        wait_until(lambda: states() == ["queued"] * 3, "the rest waits, and can be seen and altered")
        server.put_forward(3600)
        assert len(sink.messages) == 2
        server.put_forward(DAY)
        wait_until(lambda: len(sink.messages) == 4, "the next two")
        server.put_forward(DAY * 61 / 60)
        wait_until(lambda: len(sink.messages) == 5, "the last")


def test_a_copy_waits_too_and_keeps_nobody(sink: StoringSink, second: StoringSink, tmp_path: Path) -> None:
    port = free_port()
    copy = Copy(single(limited(second, daily(1), name="archive")))
    with RunningServer(stored(settings(port, upstream("old", sink.port), copies=(copy,)), tmp_path)) as server:
        send(port, count=3)
        assert len(sink.messages) == 3
        wait_until(lambda: len(second.messages) == 1, "one copy")
        server.put_forward(DAY * 61 / 60)
        wait_until(lambda: len(second.messages) == 2, "another one")
        assert len(sink.messages) == 3


def test_a_restart_forgets_nothing_and_loses_nothing(sink: StoringSink, second: StoringSink, tmp_path: Path) -> None:
    port = free_port()
    made = stored(settings(port, limited(sink, daily(100)), upstream("second", second.port)), tmp_path)
    for sent in (40, 80, 100):
        with RunningServer(made):
            send(port, count=40)
            assert len(sink.messages) == sent
    assert len(second.messages) == 20


def test_what_a_provider_says_of_its_limit_outlives_a_restart(
    sink: StoringSink, second: StoringSink, tmp_path: Path
) -> None:
    port = free_port()
    made = stored(settings(port, upstream("first", sink.port), upstream("second", second.port)), tmp_path)
    sink.on("mail", say("454 4.7.0 Rate limit exceeded, try again in 3 hours"))
    with RunningServer(made) as server:
        assert send(port).startswith("250 ")
        assert server.health("first") is State.ASLEEP
    with RunningServer(made) as server:
        assert send(port).startswith("250 ")
        assert sink.sessions == 1, "it is left alone after the restart as well"
        server.put_forward(3 * 3600)
        assert send(port).startswith("250 ")
        assert len(sink.messages) == 1
    with RunningServer(made):
        assert send(port).startswith("250 ")
        assert (len(sink.messages), len(second.messages)) == (2, 2)


def test_a_process_that_is_killed_has_counted_what_it_sent(
    sink: StoringSink, second: StoringSink, tmp_path: Path
) -> None:
    port = free_port()
    process = WaypostProcess(
        tmp_path,
        {
            "hostname": "mx.example.com",
            "listeners": [{"address": f"127.0.0.1:{port}", "mode": "relay"}],
            "upstreams": {
                "first": {"address": sink.address, "quota": ["60/day"]},
                "second": {"address": second.address},
            },
            "pools": {"providers": {"upstreams": ["first", "second"]}},
            "routes": {"all": {"primary": "providers"}},
            "spool": {"path": str(tmp_path / "spool"), "allow_temporary": True},
        },
        ports=[port],
    )
    with process:
        send(port, count=25)
        process.kill()
        process.start()
        send(port, count=50)
    assert 58 <= len(sink.messages) <= 60, "never over; what was leased and not used is lost"
    assert len(sink.messages) + len(second.messages) == 75


def test_it_goes_nowhere_where_its_sender_would_be_refused(sink: StoringSink, second: StoringSink) -> None:
    port = free_port()
    first = limited(sink, senders=("*@example.com",))
    other = limited(second, name="second", senders=("*@example.net",))
    with RunningServer(settings(port, first, other)) as server:
        assert send(port, sender="ann@example.net").startswith("250 ")
        assert (len(sink.messages), len(second.messages)) == (0, 1)
        assert server.told("attempted") == [], "the first was not even tried"
        sink.on("dot", say("450 4.2.0 later"))
        assert send(port).startswith("450 "), "it does not fail over to one that would refuse it"
        assert len(second.messages) == 1
        said = send(port, sender="eve@example.org")
        assert said == "550 5.7.1 first does not send for <eve@example.org> (`senders`)"
        assert send(port, sender="").startswith("250 "), "the null reverse-path is nobody's"


def written_by(author: str, port: int, sender: str = "ann@example.com") -> str:
    """What the client is told of a message with this From field."""
    content = f"{author}Subject: hello\r\n\r\nbody\r\n".encode("utf-8", "surrogateescape")
    with RawClient(port) as client:
        client.hello()
        answer = client.answer_to_message(sender, "bob@example.org", content)
    return f"{answer.code} {' '.join(answer.lines)}"


FOREIGN = [
    "From: Eve <eve@example.net>\r\n",
    "From: Ann <ann@example.com>, eve@example.net\r\n",
    "From: ann@example.com\r\nfrom : =?utf-8?q?Ann?=\r\n <eve@\r\n example.NET>\r\n",
    'From: "ann@example.com" <eve@(c)example.net>\r\n',
    "From: ann@example.com.\udcff\r\n",
]
OWN = [
    "",
    "From: Reports <reports@example.com>\r\n",
    'From: "eve@example.net" <ann@EXAMPLE.com>\r\n',
    "From: undisclosed:;\r\n",
    "Sender: eve@example.net\r\n",
]


@pytest.mark.parametrize("author", FOREIGN)
def test_nor_where_its_author_would_be(author: str, sink: StoringSink, second: StoringSink) -> None:
    """Issue 4: an upstream may say which From domains it can send for."""
    port = free_port()
    first = limited(sink, daily(1), senders=("ann@example.com",))
    with RunningServer(settings(port, first, upstream("second", second.port))) as server:
        assert written_by(author, port).startswith("250 ")
        assert (len(sink.messages), len(second.messages)) == (0, 1)
        [attempt] = server.told("attempted")
        assert (attempt["upstream"], attempt["classification"]) == ("first", "own-senders")
        for author in OWN[:1]:
            assert written_by(author, port).startswith("250 "), "nothing of its quota is gone"
        assert len(sink.messages) == 1


@pytest.mark.parametrize("author", OWN)
def test_an_author_of_its_own_may_pass(author: str, sink: StoringSink) -> None:
    port = free_port()
    with RunningServer(settings(port, limited(sink, senders=("ann@example.com",)))):
        assert written_by(author, port).startswith("250 ")


def test_an_author_that_nobody_sends_for_is_refused(sink: StoringSink) -> None:
    port = free_port()
    with RunningServer(settings(port, limited(sink, senders=("*@example.com",)))):
        said = written_by("From: eve@example.net\r\n", port)
        why = "first does not send for example.net, the domain in the From field (`senders`)"
        assert said.startswith(f"550 5.7.1 {why}")
        assert written_by("From: eve@example.net\r\n", port, sender="").startswith("250 ")


def test_out_of_the_spool_an_upstream_is_not_even_asked(sink: StoringSink, second: StoringSink, tmp_path: Path) -> None:
    port = free_port()
    first = limited(sink, senders=("*@example.com",))
    made = stored(settings(port, first, upstream("second", second.port), acceptance="spool"), tmp_path)
    with RunningServer(made):
        assert written_by("From: eve@example.net\r\n", port).startswith("250 ")
        wait_until(lambda: len(second.messages) == 1, "it")
        assert sink.sessions == 0
        assert written_by("From: ann@example.com\r\n", port).startswith("250 ")
        wait_until(lambda: len(sink.messages) == 1, "the other one")


def pooled(port: int, strategy: Any, *members: Upstream) -> Settings:
    made = settings(port, *members)
    pool = Pool("providers", tuple(map(Member, members)), strategy)
    route = replace(made.routes.routes["all"], primary=pool)
    return replace(made, routes=replace(made.routes, routes={"all": route}), pools={"providers": pool})


def test_least_loaded_spends_quotas_evenly(sink: StoringSink, second: StoringSink) -> None:
    port = free_port()
    members = (limited(sink, daily(30)), limited(second, daily(10), name="second"))
    with RunningServer(pooled(port, "least_loaded", *members)):
        send(port, count=20)
    assert abs(len(sink.messages) - 15) <= 1
    assert len(sink.messages) + len(second.messages) == 20


@pytest.mark.parametrize("phase", ["mail", "dot"])
def test_fastest_does_not_begin_with_one_that_puts_everything_off(
    phase: Any, sink: StoringSink, second: StoringSink
) -> None:
    port = free_port()
    sink.on(phase, say("451 4.3.0 later"), times=None)
    with RunningServer(pooled(port, "fastest", upstream("first", sink.port), upstream("second", second.port))):
        assert send(port, count=10).startswith("250 ")
    assert len(second.messages) == 10
    assert sink.verbs().count("MAIL") == 2


def test_fastest_avoids_the_slow_one_once_it_is_known(sink: StoringSink, second: StoringSink) -> None:
    port = free_port()
    slowly = threading.Event()
    sink.on("dot", hold(slowly))
    threading.Timer(0.3, slowly.set).start()
    with RunningServer(pooled(port, "fastest", upstream("first", sink.port), upstream("second", second.port))):
        send(port, count=12)
    assert len(sink.messages) == 1
    assert len(second.messages) == 11


def test_cheapest_goes_on_to_the_dear_one_when_the_cheap_one_is_spent(sink: StoringSink, second: StoringSink) -> None:
    port = free_port()
    members = (limited(sink, cost=1.0), limited(second, daily(4), name="second", cost=0.1))
    with RunningServer(pooled(port, "cheapest", *members)):
        send(port, count=6)
    assert (len(sink.messages), len(second.messages)) == (2, 4)


def test_sticky_keeps_a_recipient_with_its_upstream(sink: StoringSink, second: StoringSink) -> None:
    port = free_port()
    members = (upstream("first", sink.port), upstream("second", second.port))
    people = [f"u{number}@example.org" for number in range(12)]
    with RunningServer(pooled(port, "sticky", *members)):
        for person in people * 2:
            send(port, person)
    seen = {name: {m.recipients[0] for m in one.messages} for name, one in (("first", sink), ("second", second))}
    assert not seen["first"] & seen["second"]
    assert seen["first"] | seen["second"] == set(people)
    assert all(seen.values())
