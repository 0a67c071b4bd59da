"""The dot was sent and no answer came: the four policies, late outcomes, repetitions, and copies that wait."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from rig.client import Answer, RawClient
from rig.faults import close, garbage, hang, hold, say
from rig.ports import free_port
from rig.running import HASTY, RunningServer, settings, single, upstream
from rig.sink import StoringSink
from waypost.config.settings import SpoolSettings
from waypost.routing.health import State
from waypost.routing.route import Copy

MakeSink = Callable[[StoringSink], StoringSink]
CONTENT = b"Subject: hello\r\n\r\nbody\r\n"
IN_DOUBT = "451 4.4.2 The upstream did not say whether it took the message"


@dataclass
class Scene:
    """A server in front of two upstreams and one copy target, and a client."""

    server: RunningServer
    port: int
    first: StoringSink
    second: StoringSink
    archive: StoringSink

    def send(self, content: bytes = CONTENT, recipient: str = "bob@example.org") -> Answer:
        """A message of a client that waits for its answer."""
        with RawClient(self.port) as client:
            client.hello()
            return client.answer_to_message("ann@example.com", recipient, content)

    def send_and_leave(self, content: bytes = CONTENT, *, reset: bool = False) -> None:
        """A message of a client that does not wait for the answer to the dot."""
        with RawClient(self.port) as client:
            client.hello()
            client.mail("ann@example.com", "bob@example.org")
            client.send(content + b".\r\n")
            self.server.wait_for("received")
            if reset:
                client.reset()
        for _ in range(3):  # turns of the server's loop, in which it sees that the client has gone
            self.server.call(lambda: asyncio.sleep(0))

    def stored(self) -> tuple[int, int, int]:
        """How many messages each has."""
        return len(self.first.messages), len(self.second.messages), len(self.archive.messages)


@pytest.fixture
def scene(make_sink: MakeSink, tmp_path: Path) -> Iterator[Callable[..., Scene]]:
    with contextlib.ExitStack() as stack:

        def started(in_doubt: Any = "tempfail", *, hasty: bool = False, second: bool = True, **more: Any) -> Scene:
            sinks = [make_sink(StoringSink(name=f"{name}.example")) for name in ("first", "second", "archive")]
            quick = {"timeouts": HASTY} if hasty else {}
            members = [upstream("first", sinks[0].port, **quick), upstream("second", sinks[1].port)]
            copies = (Copy(single(upstream("archive", sinks[2].port))),)
            port = free_port()
            made = settings(port, *members[: 1 + second], copies=copies, in_doubt=in_doubt, **more)
            server = stack.enter_context(RunningServer(replace(made, spool=SpoolSettings(str(tmp_path)))))
            return Scene(server, port, *sinks)

        yield started


def shown(answer: Answer) -> str:
    return f"{answer.code} {' '.join(answer.lines)}"


UNCLEAR = [("dot", close()), ("stored", close()), ("dot", garbage(b"\xff what\r\n")), ("dot", garbage(b"354 more\r\n"))]


@pytest.mark.parametrize(("phase", "fault"), UNCLEAR)
def test_tempfail_says_so_and_sends_to_nobody_else(scene: Callable[..., Scene], phase: Any, fault: Any) -> None:
    it = scene("tempfail")
    it.first.on(phase, fault)
    assert shown(it.send()).startswith(IN_DOUBT)
    assert it.stored()[1] == 0
    [record] = it.server.told("in_doubt")
    assert record["upstream"] == "first"


def test_tempfail_after_a_silence(scene: Callable[..., Scene]) -> None:
    it = scene("tempfail", hasty=True)
    it.first.on("dot", hang())
    assert shown(it.send()).startswith(IN_DOUBT)
    assert it.stored() == (0, 0, 0)


def test_in_doubt_counts_against_the_upstream(scene: Callable[..., Scene]) -> None:
    it = scene("tempfail")
    it.first.on("dot", close(), None)
    for number in range(3):
        assert it.send(b"%d\r\n" % number).code == 451
    assert it.server.health("first") is State.OPEN


@pytest.mark.parametrize(("phase", "fault"), UNCLEAR)
def test_failover_sends_to_the_next_at_once(scene: Callable[..., Scene], phase: Any, fault: Any) -> None:
    it = scene("failover")
    it.first.on(phase, fault)
    assert it.send().code == 250
    assert it.stored()[1] == 1
    it.archive.wait_for(1)
    assert [record["upstream"] for record in it.server.told("in_doubt")] == ["first"], "a second arrival has its reason"


@pytest.mark.parametrize(("phase", "before"), [("dot", 0), ("stored", 1)])
def test_retry_same_asks_the_same_upstream_again(scene: Callable[..., Scene], phase: Any, before: int) -> None:
    it = scene("retry-same")
    it.first.on(phase, close())
    assert it.send().code == 250
    assert it.stored()[:2] == (before + 1, 0)
    contents = {message.content for message in it.first.messages}
    assert len(contents) == 1, "the same bytes"
    assert [record["upstream"] for record in it.server.told("in_doubt")] == ["first"]


def test_retry_same_that_stays_unclear_is_temporary(scene: Callable[..., Scene]) -> None:
    it = scene("retry-same")
    it.first.on("dot", close(), None)
    assert shown(it.send()).startswith(IN_DOUBT)
    assert it.first.verbs().count("DATA") == 2
    assert it.stored()[1] == 0


@pytest.mark.parametrize("second_answer", ["450 4.2.0 later", "550 5.7.1 never"])
@pytest.mark.parametrize("phase", ["connect", "mail", "rcpt", "data", "dot"])
def test_retry_same_never_turns_doubt_into_a_refusal(
    scene: Callable[..., Scene], phase: Any, second_answer: str
) -> None:
    """The first try may have been accepted: a refusal of the second one is no proof that it was not."""
    it = scene("retry-same")
    fine = {"connect": b"220 hello\r\n", "data": b"354 go on\r\n"}
    it.first.on(phase, garbage(fine.get(phase, b"250 2.0.0 OK\r\n")))
    it.first.on("stored", close())
    if phase == "dot":  # what is said there is said in place of `stored`
        it.first.behave()
        it.first.on("dot", close())
    it.first.on(phase, say(second_answer))
    assert shown(it.send()).startswith(IN_DOUBT)
    assert it.stored()[1] == 0
    assert it.first.sessions == 2


def test_assume_sent_answers_250(scene: Callable[..., Scene]) -> None:
    it = scene("assume-sent")
    it.first.on("stored", close())
    assert it.send().code == 250
    assert it.stored()[:2] == (1, 0)
    it.archive.wait_for(1)


# -- the client goes, and the answer comes


@pytest.mark.parametrize("leave", ["close", "reset"])
def test_a_late_acceptance_is_told_when_the_client_comes_again(scene: Callable[..., Scene], leave: str) -> None:
    it = scene("tempfail")
    answered = threading.Event()
    it.first.on("dot", hold(answered))
    it.send_and_leave(reset=leave == "reset")
    answered.set()
    it.server.wait_for("relayed")
    it.archive.wait_for(1)
    it.server.wait_for("closed")
    assert it.send().code == 250, "what it should have heard"
    assert it.stored() == (1, 0, 1), "and nothing was sent twice"
    assert it.send().code == 250
    it.archive.wait_for(2)
    assert it.stored() == (2, 0, 2), "a repetition after an answer that was heard is a new message"


@pytest.mark.parametrize("leave", ["close", "reset"])
def test_a_client_that_comes_again_too_early_waits_for_the_first_answer(
    scene: Callable[..., Scene], leave: str
) -> None:
    it = scene("tempfail")
    answered = threading.Event()
    it.first.on("stored", hold(answered))
    it.send_and_leave(reset=leave == "reset")
    with RawClient(it.port) as second, RawClient(it.port) as third:
        for client in (second, third):
            client.hello()
            client.mail("ann@example.com", "bob@example.org")
            client.send(CONTENT + b".\r\n")
            it.server.call(lambda: asyncio.sleep(0.05))
        it.send(b"Subject: another\r\n\r\n")  # keeps nobody else waiting
        second.reset()
        answered.set()
        third.expect(250)
    it.archive.wait_for(2)
    contents = [message.untraced for message in it.first.messages]
    assert contents == [CONTENT, b"Subject: another\r\n\r\n"], "and nothing was sent twice"


def test_a_repetition_that_waited_for_a_temporary_failure_is_tried(scene: Callable[..., Scene]) -> None:
    it = scene("tempfail", second=False)
    answered = threading.Event()
    it.first.on("dot", hold(answered, b"450 4.2.0 Later\r\n"))
    it.send_and_leave()
    with RawClient(it.port) as client:
        client.hello()
        client.mail("ann@example.com", "bob@example.org")
        client.send(CONTENT + b".\r\n")
        answered.set()
        client.expect(250)
    assert it.stored()[0] == 1


def test_the_same_message_from_two_who_are_both_there_is_two_messages(scene: Callable[..., Scene]) -> None:
    it = scene("tempfail")
    answered = threading.Event()
    it.first.on("dot", hold(answered))
    with RawClient(it.port) as client:
        client.hello()
        client.mail("ann@example.com", "bob@example.org")
        client.send(CONTENT + b".\r\n")
        it.server.wait_for("received")
        assert it.send().code == 250
        answered.set()
        client.expect(250)
    assert it.stored()[0] == 2


def test_a_late_refusal_aborts_the_copies_and_is_told_once(scene: Callable[..., Scene]) -> None:
    it = scene("tempfail")
    answered = threading.Event()
    it.first.on("dot", hold(answered, b"550 5.7.1 Never\r\n"))
    it.send_and_leave()
    answered.set()
    it.server.wait_for("failed")
    it.server.wait_for("closed")
    assert shown(it.send()).startswith("550 5.7.1 Never")
    assert it.first.verbs().count("DATA") == 1
    assert it.send().code == 250
    [copy] = it.archive.wait_for(1)
    assert copy.content == it.first.messages[0].content, "only what was accepted is copied"


def test_a_late_temporary_failure_is_simply_tried_again(scene: Callable[..., Scene]) -> None:
    it = scene("tempfail", second=False)
    answered = threading.Event()
    it.first.on("dot", hold(answered, b"450 4.2.0 Later\r\n"))
    it.send_and_leave()
    answered.set()
    it.server.wait_for("deferred")
    it.server.wait_for("closed")
    assert it.send().code == 250


def test_another_message_is_not_taken_for_the_one_whose_answer_was_not_heard(scene: Callable[..., Scene]) -> None:
    it = scene("tempfail")
    answered = threading.Event()
    it.first.on("dot", hold(answered))
    it.send_and_leave()
    answered.set()
    it.server.wait_for("closed")
    assert it.send(b"Subject: another\r\n\r\n").code == 250
    assert it.send(recipient="carol@example.org").code == 250
    assert it.stored()[0] == 3
    it.server.put_forward(25 * 3600)
    assert it.send().code == 250
    assert it.stored()[0] == 4, "after a day it is not the same message any more"


def test_a_client_that_only_stops_sending_hears_the_answer(scene: Callable[..., Scene]) -> None:
    it = scene("tempfail")
    answered = threading.Event()
    it.first.on("dot", hold(answered))
    with RawClient(it.port) as client:
        client.hello()
        client.mail("ann@example.com", "bob@example.org")
        client.send(CONTENT + b".\r\n")
        client.finish_sending()
        answered.set()
        client.expect(250)
    assert it.send().code == 250
    assert it.stored()[0] == 2, "it has heard its answer: this is a new message"


# -- copies that wait


def test_copies_of_a_message_in_doubt_wait_and_give_way_to_the_repetition(scene: Callable[..., Scene]) -> None:
    it = scene("tempfail")
    it.first.on("stored", close())
    assert it.send().code == 451
    assert it.send().code == 250
    it.archive.wait_for(1)
    it.server.put_forward(2 * 3600)
    it.send(b"Subject: the next\r\n\r\n")
    it.archive.wait_for(2)
    contents = [message.untraced for message in it.archive.messages]
    assert contents == [CONTENT, b"Subject: the next\r\n\r\n"], "the first try's copies were dropped"
    [_, accepted] = it.first.messages[:2]
    assert it.archive.messages[0].content == accepted.content, "the copy is that of the try that was accepted"


def test_copies_of_a_message_in_doubt_are_sent_when_nobody_comes_again(scene: Callable[..., Scene]) -> None:
    it = scene("tempfail", in_doubt_hold=1800)
    it.first.on("stored", close())
    assert it.send().code == 451
    it.server.put_forward(1700)
    assert it.send(b"Subject: another\r\n\r\n").code == 250
    it.archive.wait_for(1)
    assert [message.untraced for message in it.archive.messages] == [b"Subject: another\r\n\r\n"]
    it.server.put_forward(200)
    it.archive.wait_for(2)
    assert it.archive.messages[1].untraced == CONTENT


def test_copies_that_wait_survive_a_refused_repetition(scene: Callable[..., Scene]) -> None:
    """The first try may have been accepted all the same: a copy too many beats a copy too few."""
    it = scene("tempfail", in_doubt_hold=1800)
    it.first.on("stored", close())
    assert it.send().code == 451
    it.first.on("dot", say("550 5.6.0 I have this one already"))
    assert it.send().code == 550
    assert it.stored()[2] == 0
    it.server.put_forward(1900)
    it.archive.wait_for(1)
