"""Copies, end to end: durable before the 250, for those whom the primary accepted, and never in anybody's way."""

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from rig.client import Answer, RawClient
from rig.faults import close, hang, hold, say
from rig.ports import free_port
from rig.running import RunningServer, seconds_for, settings, single, upstream
from rig.settings import relaying
from rig.sink import EXTENSIONS, StoringSink
from rig.waiting import wait_until
from rig.waypost import WaypostProcess
from waypost.config.settings import SpoolSettings
from waypost.delivery.memory_spool import MemorySpool
from waypost.delivery.spool import SpoolError, SpoolFullError
from waypost.routing.route import Backoff, Copy

CONTENT = b"Subject: hello\r\n\r\nbody\r\n"
QUICK = Backoff(intervals=(0.2,), jitter=0)


@dataclass
class Scene:
    """A server in front of a primary and copy targets."""

    server: RunningServer
    port: int
    primary: StoringSink
    targets: list[StoringSink]

    def send(self, *recipients: str, content: bytes = CONTENT) -> Answer:
        """A message; recipients may be refused, as long as one is not."""
        with RawClient(self.port) as client:
            client.hello()
            client.command("MAIL FROM:<ann@example.com> RET=FULL", 250)
            for recipient in recipients or ("bob@example.org",):
                client.send(f"RCPT TO:<{recipient}> NOTIFY=SUCCESS,FAILURE\r\n".encode())
                client.answer()
            client.command("DATA", 354)
            client.send(content + b".\r\n")
            return client.answer()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Callable[..., Scene]]:
    with ExitStack() as stack:

        def made(
            count: int = 1,
            *,
            extensions: tuple[str, ...] = EXTENSIONS,
            target: dict[str, Any] | None = None,
            spool: MemorySpool | None = None,
            copy: dict[str, Any] | None = None,
            **route: Any,
        ) -> Scene:
            primary = stack.enter_context(StoringSink(name="primary.example"))
            sinks = [stack.enter_context(StoringSink(extensions=extensions)) for _ in range(count)]
            copies = tuple(
                Copy(single(upstream(f"copy{number}", sink.port, **(target or {}))), **(copy or {}))
                for number, sink in enumerate(sinks, 1)
            )
            port = free_port()
            one = settings(port, upstream("first", primary.port), copies=copies, **({"backoff": QUICK} | route))
            if spool is None:
                one = replace(one, spool=SpoolSettings(str(tmp_path)))
            server = stack.enter_context(RunningServer(one, spool=spool))
            return Scene(server, port, primary, sinks)

        yield made


def test_every_target_gets_its_copy(scene: Callable[..., Scene]) -> None:
    it = scene(3)
    assert it.send("bob@example.org", "carol@example.org").code == 250
    for target in it.targets:
        [copy] = target.wait_for(1)
        assert copy.content == it.primary.messages[0].content
        assert (copy.reverse_path, copy.recipients) == ("ann@example.com", ("bob@example.org", "carol@example.org"))
        assert copy.recipient_parameters == (("NOTIFY=NEVER",),) * 2, "G20: a copy never notifies the author"
    assert it.primary.messages[0].recipient_parameters == (("NOTIFY=SUCCESS,FAILURE",),) * 2
    assert len(it.server.wait_for("copied", 3)) == 3


def test_copies_go_to_those_only_whom_the_primary_accepted(scene: Callable[..., Scene]) -> None:
    it = scene()
    it.primary.recipient_replies["nobody@example.org"] = "550 5.1.1 No such user"
    assert it.send("nobody@example.org", "bob@example.org").code == 250
    [copy] = it.targets[0].wait_for(1)
    assert copy.recipients == ("bob@example.org",)


@pytest.mark.parametrize("answer", ["550 5.7.1 Spam", "451 4.3.0 Later"])
@pytest.mark.parametrize("phase", ["data", "dot"])
def test_what_the_primary_refuses_is_not_copied(phase: Any, answer: str, scene: Callable[..., Scene]) -> None:
    it = scene()
    it.primary.on(phase, say(answer))
    assert it.send().code == int(answer[:3])
    assert it.send(content=b"Subject: the next\r\n\r\n").code == 250
    [copy] = it.targets[0].wait_for(1)
    assert copy.untraced == b"Subject: the next\r\n\r\n"


def test_the_client_waits_for_no_copy(scene: Callable[..., Scene]) -> None:
    """G7: a dead target and a hung one delay neither the primary nor the other targets."""
    it = scene(3)
    it.targets[0].stop()
    it.targets[1].on("connect", hang(), None)
    for number in range(10):
        assert seconds_for(lambda number=number: it.send(content=b"%d\r\n" % number)) < 5  # type: ignore[misc]
    assert len(it.targets[2].wait_for(10)) == 10
    it.targets[0].start()
    assert sorted(m.untraced for m in it.targets[0].wait_for(10)) == [b"%d\r\n" % number for number in range(10)]


def test_a_target_that_recovers_gets_everything(scene: Callable[..., Scene]) -> None:
    it = scene()
    for phase, fault in (("mail", say("450 4.2.0 later")), ("dot", say("452 4.3.1 full")), ("stored", close())):
        it.targets[0].on(phase, fault)  # type: ignore[arg-type]
    for number in range(3):
        assert it.send(content=b"%d\r\n" % number).code == 250
    target = it.targets[0]
    wait_until(lambda: {m.untraced for m in target.messages} == {b"0\r\n", b"1\r\n", b"2\r\n"}, "all three")
    assert len(target.messages) in (3, 4), "at least once, and only the one in doubt twice"


@pytest.mark.parametrize("phase", ["mail", "rcpt", "dot"])
def test_a_refused_copy_is_a_dead_letter_and_nobody_is_bothered(phase: Any, scene: Callable[..., Scene]) -> None:
    it = scene()
    it.targets[0].on(phase, say("550 5.7.1 I never take this"))
    assert it.send().code == 250
    [record] = it.server.wait_for("dead")
    assert record["target"] == "copy1"
    assert "I never take this" in record["reason"]
    metrics = it.server.metrics()
    assert any("dead" in line and "copy1" in line and line.endswith(" 1.0") for line in metrics.split("\n")), metrics
    assert len(it.primary.messages) == 1, "no notification is sent to anybody"


def test_one_recipient_that_the_target_refuses_costs_the_others_nothing(scene: Callable[..., Scene]) -> None:
    it = scene()
    it.targets[0].recipient_replies["bob@example.org"] = "550 5.1.1 not here"
    it.targets[0].recipient_replies["dave@example.org"] = "450 4.2.1 later"
    assert it.send("bob@example.org", "carol@example.org", "dave@example.org").code == 250
    it.targets[0].wait_for(1)
    [record] = it.server.wait_for("dead")
    assert record["recipients"] == ["bob@example.org"]
    it.targets[0].recipient_replies.clear()
    it.targets[0].wait_for(2)
    assert [m.recipients for m in it.targets[0].messages] == [("carol@example.org",), ("dave@example.org",)]


def test_a_target_without_dsn_is_asked_for_nothing(scene: Callable[..., Scene]) -> None:
    it = scene(extensions=("PIPELINING",))
    assert it.send().code == 250
    [copy] = it.targets[0].wait_for(1)
    assert (copy.parameters, copy.recipient_parameters) == ((), ((),))


def test_a_copy_expires(scene: Callable[..., Scene]) -> None:
    it = scene(backoff=Backoff(intervals=(0.2,), jitter=0, lifetime=3600))
    it.targets[0].on("mail", say("450 4.2.0 later"), None)
    assert it.send().code == 250
    it.server.wait_for("deferred")
    it.server.put_forward(3700)
    [record] = it.server.wait_for("dead")
    assert record["reason"].startswith("expired: ")


@pytest.mark.parametrize(
    ("error", "said"), [(SpoolFullError("no room"), "452 4.3.1 "), (SpoolError("the disk is broken"), "451 4.3.0 ")]
)
def test_without_room_for_a_required_copy_there_is_no_250(
    scene: Callable[..., Scene], error: SpoolError, said: str
) -> None:
    spool = MemorySpool()
    it = scene(spool=spool)
    spool.broken = error
    answer = it.send()
    assert f"{answer.code} {answer.text}".startswith(said)
    assert it.primary.messages == []
    assert "DATA" not in it.primary.verbs()
    assert it.server.told("not_taken")[0]["target"] == "copy1"
    spool.broken = None
    assert it.send().code == 250


def test_a_copy_that_is_not_required_is_counted_as_not_taken(scene: Callable[..., Scene]) -> None:
    spool = MemorySpool()
    it = scene(spool=spool, copy={"required": False})
    spool.broken = "the disk is full"
    assert it.send().code == 250
    assert len(it.primary.messages) == 1
    assert it.server.told("not_taken")[0]["reason"] == "the disk is full"


def test_a_sample_is_a_sample(scene: Callable[..., Scene]) -> None:
    it = scene(copy={"sample": 0.5})
    for number in range(60):
        assert it.send(content=b"%d\r\n" % number).code == 250
    it.server.stop()
    copied = len(it.server.told("copied")) + len(it.server.told("deferred", role="copy"))
    assert len(it.primary.messages) == 60
    assert 10 <= copied <= 50, "outside this one run in ten million would fall"


def test_stopping_leaves_what_is_owed(scene: Callable[..., Scene], tmp_path: Path) -> None:
    it = scene()
    it.targets[0].stop()
    for number in range(5):
        assert it.send(content=b"%d\r\n" % number).code == 250
    it.server.stop()
    it.targets[0].start()
    port = free_port()
    copies = (Copy(single(upstream("copy1", it.targets[0].port))),)
    again = settings(port, upstream("first", it.primary.port), copies=copies, backoff=QUICK)
    with RunningServer(replace(again, spool=SpoolSettings(str(tmp_path)))):
        assert sorted(m.untraced for m in it.targets[0].wait_for(5)) == [b"%d\r\n" % number for number in range(5)]


# -- the installed program, killed


@pytest.mark.parametrize("seed", range(4))
def test_what_was_answered_250_is_copied_though_the_process_was_killed(
    seed: int, sink: StoringSink, make_sink: Callable[[StoringSink], StoringSink], tmp_path: Path
) -> None:
    chance = random.Random(seed)
    archive = make_sink(StoringSink(name="archive.example"))
    archive.stop()
    port = free_port()
    waypost = WaypostProcess(
        tmp_path,
        relaying(port, sink.address, archive.address, spool=tmp_path / "spool", in_doubt_hold="1s"),
        ports=[port],
    )
    accepted: list[bytes] = []
    for round_number in range(2):
        waypost.start()
        with RawClient(port) as client:
            client.hello()
            for number in range(chance.randrange(1, 6)):
                size = chance.choice((10, 1000, 70_000, 2_000_000))
                content = b"%d %d %d\r\n" % (seed, round_number, number) + b"0123456789\r\n" * (size // 12)
                assert client.answer_to_message("ann@example.com", "bob@example.org", content).code == 250
                accepted.append(content)
            waypost.kill()
    archive.start()
    with waypost:
        wait_until(lambda: {m.untraced for m in archive.messages} >= set(accepted), "every copy", 30)


def test_a_kill_before_the_answer_makes_a_copy_rather_than_none(
    sink: StoringSink, make_sink: Callable[[StoringSink], StoringSink], tmp_path: Path
) -> None:
    """The primary has the message and its answer was never recorded: a copy too many beats a copy too few."""
    archive = make_sink(StoringSink(name="archive.example"))
    port = free_port()
    never = threading.Event()
    sink.on("stored", hold(never))
    waypost = WaypostProcess(
        tmp_path,
        relaying(port, sink.address, archive.address, spool=tmp_path / "spool", in_doubt_hold="1s"),
        ports=[port],
    )
    waypost.start()
    with RawClient(port) as client:
        client.hello()
        client.mail("ann@example.com", "bob@example.org")
        client.send(CONTENT + b".\r\n")
        wait_until(lambda: "DATA" in sink.verbs(), "the content to be on its way, and the copy durable")
        waypost.kill()
    never.set()
    with waypost:
        [copy] = archive.wait_for(1)
        assert copy.untraced == CONTENT
        assert waypost.records("copies_held")
