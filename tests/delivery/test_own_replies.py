"""What the user says that refusals mean, over real sockets: who is asked next, who sleeps, what the client hears."""

from collections.abc import Iterator
from typing import Any

import pytest

from rig.client import Answer, RawClient
from rig.faults import say
from rig.ports import free_port
from rig.running import RunningServer, settings, upstream
from rig.sink import StoringSink
from waypost.config.schema_replies import ReplySection
from waypost.routing.classify import ReplyRules
from waypost.routing.health import State

CONTENT = b"Subject: hello\r\n\r\nbody\r\n"


@pytest.fixture
def second() -> Iterator[StoringSink]:
    with StoringSink(name="second") as started:
        yield started


def rules(**fields: Any) -> ReplyRules:
    """As the configuration makes them."""
    return ReplyRules([ReplySection(**{"name": "mine"} | fields).rule("replies[0]")])


def send(client: RawClient) -> Answer:
    return client.answer_to_message("ann@example.com", "bob@example.org", CONTENT)


@pytest.mark.parametrize("phase", ["mail", "rcpt", "data", "dot"])
@pytest.mark.parametrize(
    ("means", "moves_on", "alone"),
    [
        ("transient", True, 451),
        ("sender", True, 550),
        ("permanent", False, 550),
        ("login", True, 451),
        ("unavailable", True, 451),
        ("quota", True, 451),
    ],
)
def test_what_a_5yz_means(
    phase: Any, means: str, moves_on: bool, alone: int, sink: StoringSink, second: StoringSink
) -> None:
    words = "550 5.1.1 Our own words for it"
    own = rules(code="550", text="own*words", means=means)
    for others in ((), (upstream("second", second.port),)):
        sink.on(phase, say(words))
        port = free_port()
        with (
            RunningServer(settings(port, upstream("first", sink.port, replies=own), *others)) as server,
            RawClient(port) as client,
        ):
            client.hello()
            answer = send(client)
            assert answer.code == (250 if others and moves_on else alone), answer
            if (phase, means) != ("rcpt", "permanent"):  # which is told as the client's own refusal
                [attempt] = server.told("attempted")
                assert (attempt["upstream"], attempt["classification"]) == ("first", "mine")
            expected = {"login": State.ASLEEP, "quota": State.ASLEEP}.get(means, State.CLOSED)
            assert server.health("first") is expected
        if not others or not moves_on:
            assert "own words" in answer.text, "the client hears the upstream's reasons"
    assert len(second.messages) == moves_on
    assert sink.messages == []


def test_a_quota_sleeps_as_long_as_its_rule_says(sink: StoringSink, second: StoringSink) -> None:
    sink.on("dot", say("550 5.0.0 Enough for now"))
    own = rules(text="enough", means="quota", sleep="24h")
    port = free_port()
    both = upstream("first", sink.port, replies=own), upstream("second", second.port)
    with RunningServer(settings(port, *both)) as server, RawClient(port) as client:
        client.hello()
        assert send(client).code == 250
        server.put_forward(24 * 3600 - 60)
        assert server.health("first") is State.ASLEEP
        assert send(client).code == 250
        assert len(second.messages) == 2
        server.put_forward(61)
        assert send(client).code == 250
    assert len(sink.messages) == 1


def test_the_upstreams_own_word_on_when_to_come_again_is_better(sink: StoringSink, second: StoringSink) -> None:
    sink.on("dot", say("450 4.7.1 Enough for now, try again in 60 seconds"))
    own = rules(text="enough", means="quota", sleep="24h")
    port = free_port()
    both = upstream("first", sink.port, replies=own), upstream("second", second.port)
    with RunningServer(settings(port, *both)) as server, RawClient(port) as client:
        client.hello()
        assert send(client).code == 250
        assert server.health("first") is State.ASLEEP
        server.put_forward(61)
        assert send(client).code == 250
    assert len(sink.messages) == 1


def test_a_rule_is_for_its_upstream_alone(sink: StoringSink, second: StoringSink) -> None:
    for each in (sink, second):
        each.on("rcpt", say("550 5.1.1 Our own words for it"))
    port = free_port()
    own = rules(text="own words", means="transient")
    both = upstream("first", sink.port, replies=own), upstream("second", second.port)
    with RunningServer(settings(port, *both)) as server, RawClient(port) as client:
        client.hello()
        assert send(client).code == 550, "the second one's refusal is final"
        assert [attempt["classification"] for attempt in server.told("attempted")] == ["mine"]
