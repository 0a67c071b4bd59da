"""What the client hears of the primary, and which upstream a transaction with several recipients ends up at."""

import re
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_network

import pytest

from rig.client import Answer, RawClient
from rig.faults import close, garbage, say
from rig.ports import free_port
from rig.running import RunningServer, relay_listener, settings, several_routes, single, upstream
from rig.sink import StoringSink
from rig.waiting import wait_until
from waypost.routing.health import State
from waypost.routing.route import Route, Routes, Rule

MakeSink = Callable[[StoringSink], StoringSink]
CONTENT = b"Subject: hello\r\n\r\nbody\r\n"
ANN = "MAIL FROM:<ann@example.com>"
BOB = "RCPT TO:<bob@example.org>"
CAROL = "RCPT TO:<carol@example.org>"
DAVE = "RCPT TO:<dave@example.org>"


@pytest.fixture
def second(make_sink: MakeSink) -> StoringSink:
    return make_sink(StoringSink(name="second.example"))


def shown(answer: Answer) -> str:
    return f"{answer.code} {' '.join(answer.lines)}"


def finish(client: RawClient, content: bytes = CONTENT) -> Answer:
    client.command("DATA", 354)
    client.send(content + b".\r\n")
    return client.answer()


# -- words


def answer_to_dot(sink: StoringSink, octets: bytes) -> tuple[Answer, str]:
    """What the client hears when the primary answers the dot with these octets; and our id of the message."""
    sink.on("dot", garbage(octets))
    port = free_port()
    with RunningServer(settings(port, upstream("first", sink.port))) as server, RawClient(port) as client:
        client.hello()
        answer = client.answer_to_message("ann@example.com", "bob@example.org", CONTENT)
        return answer, server.told("received")[0]["id"]


@pytest.mark.parametrize(
    ("said", "code", "lines"),
    [
        (b"250 2.6.0 Queued as 4711\r\n", 250, ("2.6.0 Queued as 4711 (id ID)",)),
        (b"250 OK\r\n", 250, ("OK (id ID)",)),
        (b"250\r\n", 250, ("(id ID)",)),
        (b"251 2.1.5 Will forward\r\n", 251, ("2.1.5 Will forward (id ID)",)),
        (b"550-5.7.1 First,\r\n550-5.7.1 second,\r\n550 5.7.1 third\r\n", 550,
         ("5.7.1 First,", "5.7.1 second,", "5.7.1 third (id ID)")),
        (b"452 4.3.1 Full\r\n", 452, ("4.3.1 Full (id ID)",)),
        (b"550 5.1.1 a\x07b\x1b[31mc\x00d\r\n", 550, ("5.1.1 a b [31mc d (id ID)",)),
        (b"550 5.1.1 gr\xc3\xbcn \xff\r\n", 550, ("5.1.1 grün \\xff (id ID)",)),
        (b"550 4.1.1 a class that does not fit\r\n", 550, ("4.1.1 a class that does not fit (id ID)",)),
        (b"550 5.1.1 " + b"x" * 1000 + b"\r\n", 550, ("5.1.1 " + "x" * 400 + " (id ID)",)),
        (b"421 4.3.2 Bye\r\n", 451, ("4.3.2 Bye (id ID)",)),
    ],
)  # fmt: skip
def test_the_answer_to_the_dot_is_the_primarys(
    said: bytes, code: int, lines: tuple[str, ...], sink: StoringSink
) -> None:
    answer, id_ = answer_to_dot(sink, said)
    assert answer == Answer(code, tuple(line.replace("ID", id_) for line in lines))


def test_the_id_is_that_of_the_received_field(sink: StoringSink) -> None:
    port = free_port()
    ids = []
    with RunningServer(settings(port, upstream("first", sink.port))) as server, RawClient(port) as client:
        client.hello()
        for message in range(2):
            answer = client.answer_to_message("ann@example.com", "bob@example.org", CONTENT)
            ids.append(answer.text.partition("(id ")[2].rstrip(")"))
            assert re.search(rf" id {ids[-1]}\b".encode(), sink.messages[message].trace)
        for event in ("received", "relayed"):
            assert [record["id"] for record in server.told(event)] == ids
    assert all(ids)
    assert len(set(ids)) == 2, "each message has its own"


# -- recipients


def test_rcpt_is_relayed_live(sink: StoringSink) -> None:
    sink.recipient_replies["bob@example.org"] = "550 5.1.1 No such user here"
    sink.recipient_replies["carol@example.org"] = "251 2.1.5 Carol has moved, will forward"
    port = free_port()
    with RunningServer(settings(port, upstream("first", sink.port))), RawClient(port) as client:
        client.hello()
        client.command(ANN, 250)
        assert shown(client.command(BOB, 550)) == "550 5.1.1 No such user here"
        assert shown(client.command(CAROL, 251)) == "251 2.1.5 Carol has moved, will forward"
        assert sink.verbs() == ["EHLO", "MAIL", "RCPT", "RCPT"], "asked before there was any content"
        assert finish(client).code == 250
    assert [message.recipients for message in sink.messages] == [("carol@example.org",)]


def test_without_any_recipient_there_is_no_content(sink: StoringSink) -> None:
    sink.recipient_replies["bob@example.org"] = "550 5.1.1 No such user here"
    port = free_port()
    with RunningServer(settings(port, upstream("first", sink.port))), RawClient(port) as client:
        client.hello()
        client.send(f"{ANN}\r\n{BOB}\r\nDATA\r\n".encode())
        client.expect(250)
        client.expect(550)
        assert client.answer().code in (503, 554)
        client.command("RSET", 250)
        client.command(ANN, 250)
        client.command(CAROL, 250)
        assert finish(client).code == 250
    assert [message.recipients for message in sink.messages] == [("carol@example.org",)]


@pytest.mark.parametrize("extensions", [("PIPELINING", "SIZE"), ()], ids=["pipelining", "one at a time"])
def test_every_recipient_gets_its_own_answer(extensions: tuple[str, ...], make_sink: MakeSink) -> None:
    """S11: one refused recipient does not fail the others."""
    sink = make_sink(StoringSink(extensions=extensions))
    names = [f"r{number}@example.org" for number in range(150)]
    for name in names[::3]:
        sink.recipient_replies[name] = f"550 5.1.1 no {name}"
    port = free_port()
    with RunningServer(settings(port, upstream("first", sink.port))), RawClient(port) as client:
        client.hello()
        client.send((f"{ANN}\r\n" + "".join(f"RCPT TO:<{name}>\r\n" for name in names)).encode())
        client.expect(250)
        for number, name in enumerate(names):
            answer = client.answer()
            assert shown(answer) == (f"550 5.1.1 no {name}" if number % 3 == 0 else "250 2.1.5 OK")
        assert finish(client).code == 250
    assert sink.messages[0].recipients == tuple(name for number, name in enumerate(names) if number % 3)


def test_a_recipient_refused_for_now_moves_the_transaction(sink: StoringSink, second: StoringSink) -> None:
    sink.recipient_replies["bob@example.org"] = "450 4.2.1 Greylisted"
    port = free_port()
    both = upstream("first", sink.port), upstream("second", second.port)
    with RunningServer(settings(port, *both)) as server, RawClient(port) as client:
        client.hello()
        client.command(ANN, 250)
        client.command(CAROL, 250)
        client.command(BOB, 250)
        client.command(DAVE, 250)
        assert finish(client).code == 250
        assert server.health("first") is State.CLOSED
        wait_until(lambda: "RSET" in sink.verbs(), "the first transaction to be reset")
    assert sink.messages == []
    assert [m.recipients for m in second.messages] == [("carol@example.org", "bob@example.org", "dave@example.org")]


def test_a_fallback_that_does_not_take_everybody_is_not_used(sink: StoringSink, second: StoringSink) -> None:
    sink.recipient_replies["bob@example.org"] = "450 4.2.1 Greylisted"
    second.recipient_replies["carol@example.org"] = "550 5.1.1 No Carol"
    port = free_port()
    both = upstream("first", sink.port), upstream("second", second.port)
    with RunningServer(settings(port, *both)), RawClient(port) as client:
        client.hello()
        client.command(ANN, 250)
        client.command(CAROL, 250)
        assert shown(client.command(BOB, 450)) == "450 4.2.1 Greylisted"
        assert finish(client).code == 250
    assert [message.recipients for message in sink.messages] == [("carol@example.org",)]
    assert second.messages == []


def test_a_recipient_that_two_upstreams_refuse_for_now_hears_the_first(sink: StoringSink, second: StoringSink) -> None:
    sink.recipient_replies["bob@example.org"] = "450 4.2.1 Greylisted"
    second.recipient_replies["bob@example.org"] = "451 4.7.1 Later"
    port = free_port()
    both = upstream("first", sink.port), upstream("second", second.port)
    with RunningServer(settings(port, *both)), RawClient(port) as client:
        client.hello()
        client.command(ANN, 250)
        assert shown(client.command(BOB, 450)) == "450 4.2.1 Greylisted"
        client.command(CAROL, 250)
        assert finish(client).code == 250
    assert len(sink.messages) + len(second.messages) == 1


@pytest.mark.parametrize("reply", ["452 4.5.3 Too many recipients", "552 5.5.3 too many recipients"])
def test_too_many_recipients_is_no_failure(reply: str, sink: StoringSink, second: StoringSink) -> None:
    sink.recipient_replies["carol@example.org"] = reply
    port = free_port()
    both = upstream("first", sink.port), upstream("second", second.port)
    with RunningServer(settings(port, *both)) as server, RawClient(port) as client:
        client.hello()
        client.command(ANN, 250)
        client.command(BOB, 250)
        answer = client.command(CAROL, 452)
        assert "oo many recipients" in answer.text
        assert finish(client).code == 250
        assert server.health("first") is State.CLOSED
    assert [message.recipients for message in sink.messages] == [("bob@example.org",)]
    assert second.sessions == 0


def test_a_recipient_with_another_route_has_to_come_alone(sink: StoringSink, second: StoringSink) -> None:
    port = free_port()
    here = Route("here", single(upstream("first", sink.port)))
    there = Route("there", single(upstream("second", second.port)))
    routes = {"here": here, "there": there}
    rules = (Rule("there", recipients=("carol@*",)), Rule("here"))
    with (
        RunningServer(several_routes(routes, Routes(rules, routes, {}), relay_listener(port))),
        RawClient(port) as client,
    ):
        client.hello()
        client.command(ANN, 250)
        client.command(BOB, 250)
        assert client.command(CAROL, 452).text.startswith("4.5.3 ")
        client.command(DAVE, 250)
        assert finish(client).code == 250
        client.command(ANN, 250)
        client.command(CAROL, 250)
        assert finish(client).code == 250
    assert [message.recipients for message in sink.messages] == [("bob@example.org", "dave@example.org")]
    assert [message.recipients for message in second.messages] == [("carol@example.org",)]


def test_a_client_that_no_rule_serves_is_refused_at_rcpt(sink: StoringSink) -> None:
    port = free_port()
    route = Route("inside", single(upstream("first", sink.port)))
    rule = Rule("inside", client_networks=(ip_network("10.0.0.0/8"),))
    with (
        RunningServer(several_routes({"inside": route}, Routes((rule,), {"inside": route}, {}), relay_listener(port))),
        RawClient(port) as client,
    ):
        client.hello()
        client.command(ANN, 250)
        assert client.command(BOB, 550).text.startswith("5.7.1 ")
    assert sink.sessions == 0


# -- the upstream goes between RCPT and content


def test_an_upstream_that_goes_before_the_content_is_replaced(sink: StoringSink, second: StoringSink) -> None:
    port = free_port()
    both = upstream("first", sink.port), upstream("second", second.port)
    with RunningServer(settings(port, *both)) as server, RawClient(port) as client:
        client.hello()
        client.command(ANN, 250)
        client.command(BOB, 250)
        client.command(CAROL, 250)
        sink.stop()
        assert finish(client).code == 250
        assert [record["upstream"] for record in server.told("attempted")] == ["first"]
    assert [message.recipients for message in second.messages] == [("bob@example.org", "carol@example.org")]


@pytest.mark.parametrize("refusal", ["450 4.2.1 Later", "550 5.1.1 No Carol"])
def test_a_replacement_must_take_everybody_whom_the_client_was_told(
    refusal: str, sink: StoringSink, second: StoringSink
) -> None:
    second.recipient_replies["carol@example.org"] = refusal
    port = free_port()
    both = upstream("first", sink.port), upstream("second", second.port)
    with RunningServer(settings(port, *both)), RawClient(port) as client:
        client.hello()
        client.command(ANN, 250)
        client.command(BOB, 250)
        client.command(CAROL, 250)
        sink.stop()
        answer = finish(client)
        assert answer.code // 100 == 4, shown(answer)
    assert second.messages == []


@pytest.mark.parametrize("phase", ["data", "dot"])
def test_after_a_temporary_refusal_of_the_content_the_replacement_must_take_everybody(
    phase: str, sink: StoringSink, second: StoringSink
) -> None:
    sink.on(phase, say("451 4.3.0 Not now"))  # type: ignore[arg-type]
    second.recipient_replies["carol@example.org"] = "550 5.1.1 No Carol"
    port = free_port()
    both = upstream("first", sink.port), upstream("second", second.port)
    with RunningServer(settings(port, *both)), RawClient(port) as client:
        client.hello()
        client.command(ANN, 250)
        client.command(BOB, 250)
        client.command(CAROL, 250)
        assert shown(finish(client)).startswith("451 4.3.0 Not now")
    assert (sink.messages, second.messages) == ([], [])


# -- clients that take their time


def test_a_silent_client_gives_the_connection_back(sink: StoringSink) -> None:
    port = free_port()
    scarce = upstream("first", sink.port, max_connections=1)
    with RunningServer(settings(port, scarce)) as server, RawClient(port) as slow, RawClient(port) as quick:
        slow.hello()
        slow.command(ANN, 250)
        slow.command(BOB, 250)
        slow.command(CAROL, 250)
        server.put_forward(31)
        sink.wait_for_verb("RSET")
        quick.hello()
        assert quick.answer_to_message("quick@example.com", "bob@example.org", CONTENT).code == 250
        assert finish(slow, b"at last\r\n").code == 250
    assert [message.reverse_path for message in sink.messages] == ["quick@example.com", "ann@example.com"]
    assert sink.messages[1].recipients == ("bob@example.org", "carol@example.org")
    assert sink.sessions == 1


def test_a_silent_client_whose_recipient_is_not_taken_any_more_hears_a_temporary_failure(sink: StoringSink) -> None:
    port = free_port()
    with RunningServer(settings(port, upstream("first", sink.port))) as server, RawClient(port) as slow:
        slow.hello()
        slow.command(ANN, 250)
        slow.command(BOB, 250)
        server.put_forward(31)
        sink.wait_for_verb("RSET")
        sink.recipient_replies["bob@example.org"] = "550 5.1.1 Bob has left meanwhile"
        answer = finish(slow)
        assert answer.code // 100 == 4, "it was told that Bob is accepted, and nobody may lose mail over that"
        assert "Bob has left meanwhile" in answer.text
    assert sink.messages == []


def test_a_client_that_only_thinks_keeps_its_transaction(sink: StoringSink) -> None:
    port = free_port()
    with RunningServer(settings(port, upstream("first", sink.port))) as server, RawClient(port) as client:
        client.hello()
        client.command(ANN, 250)
        client.command(BOB, 250)
        server.put_forward(20)
        client.command(CAROL, 250)
        server.put_forward(20)
        assert finish(client).code == 250
    assert sink.verbs().count("MAIL") == 1


def test_rset_and_quit_give_the_connection_back_reset(sink: StoringSink) -> None:
    """G5: a probe (MAIL, RCPT, QUIT) sends nothing."""
    port = free_port()
    with RunningServer(settings(port, upstream("first", sink.port))):
        for goodbye in ("RSET", "EHLO again.example", "QUIT", None):
            with RawClient(port) as client:
                client.hello()
                client.command(ANN, 250)
                client.command(BOB, 250)
                if goodbye is not None:
                    assert client.command(goodbye, 221 if goodbye == "QUIT" else 250)
        wait_until(lambda: sink.verbs().count("RSET") == 4, "four resets")
    assert sink.messages == []
    assert "DATA" not in sink.verbs()
    assert sink.sessions == 1


def test_a_connection_whose_reset_is_not_answered_is_given_up(sink: StoringSink) -> None:
    sink.on("rset", close())
    port = free_port()
    with RunningServer(settings(port, upstream("first", sink.port))) as server, RawClient(port) as client:
        client.hello()
        client.command(ANN, 250)
        client.command(BOB, 250)
        client.command("RSET", 250)
        assert client.answer_to_message("ann@example.com", "bob@example.org", CONTENT).code == 250
        assert server.told("attempted") == []
    assert sink.sessions == 2


def test_transactions_never_leak_into_one_another(sink: StoringSink) -> None:
    """G2: several messages on one connection, some of them abandoned, each with its own recipients."""
    port = free_port()
    with RunningServer(settings(port, upstream("first", sink.port))), RawClient(port) as client:
        client.hello()
        for number in range(10):
            client.command(f"MAIL FROM:<a{number}@example.com>", 250)
            client.command(f"RCPT TO:<r{number}@example.org>", 250)
            if number % 3 == 2:
                client.command("RSET" if number % 2 else "EHLO again.example", 250)
            else:
                assert finish(client, b"number %d\r\n" % number).code == 250
    expected = [number for number in range(10) if number % 3 != 2]
    assert [(m.reverse_path, m.recipients, m.untraced) for m in sink.messages] == [
        (f"a{number}@example.com", (f"r{number}@example.org",), b"number %d\r\n" % number) for number in expected
    ]
    assert sink.sessions == 1


def test_parameters_are_carried_through(sink: StoringSink) -> None:
    """G16, S23."""
    port = free_port()
    with RunningServer(settings(port, upstream("first", sink.port))), RawClient(port) as client:
        client.hello()
        client.command("MAIL FROM:<ann@example.com> SIZE=100 BODY=8BITMIME RET=HDRS ENVID=QQ+2B314 SMTPUTF8", 250)
        client.command("RCPT TO:<bob@example.org> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;bob+2Bx@example.org", 250)
        assert finish(client).code == 250
    [message] = sink.messages
    assert sorted(message.parameters) == ["BODY=8BITMIME", "ENVID=QQ+2B314", "RET=HDRS", "SIZE=100", "SMTPUTF8"]
    [parameters] = message.recipient_parameters
    assert sorted(parameters) == ["NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;bob+2Bx@example.org"]


def test_parameters_that_only_inform_are_left_out_where_they_are_not_offered(make_sink: MakeSink) -> None:
    sink = make_sink(StoringSink(extensions=("PIPELINING",)))
    port = free_port()
    with RunningServer(settings(port, upstream("first", sink.port))), RawClient(port) as client:
        client.hello()
        client.command("MAIL FROM:<ann@example.com> SIZE=100 BODY=7BIT RET=HDRS", 250)
        client.command("RCPT TO:<bob@example.org> NOTIFY=NEVER", 250)
        assert finish(client).code == 250
    [message] = sink.messages
    assert (message.parameters, message.recipient_parameters) == ((), ((),))


def test_an_old_server_is_spoken_to_with_helo(make_sink: MakeSink) -> None:
    sink = make_sink(StoringSink(esmtp=False))
    port = free_port()
    with RunningServer(settings(port, upstream("first", sink.port))), RawClient(port) as client:
        client.hello()
        assert client.answer_to_message("ann@example.com", "bob@example.org", CONTENT).code == 250
    assert sink.verbs()[:3] == ["EHLO", "HELO", "MAIL"]
    assert sink.messages[0].helo == "waypost.example"


def test_a_pool_that_is_used_up_answers_for_now(sink: StoringSink) -> None:
    port = free_port()
    scarce = upstream("first", sink.port, max_connections=1)
    hurried = replace(scarce, timeouts=replace(scarce.timeouts, connect=0.3))
    with RunningServer(settings(port, hurried)) as server, RawClient(port) as one, RawClient(port) as two:
        one.hello()
        one.command(ANN, 250)
        one.command(BOB, 250)
        two.hello()
        two.command(ANN, 250)
        assert shown(two.command(BOB, 451)).startswith("451 4.3.2 ")
        assert server.health("first") is State.CLOSED, "that it is busy is no fault of its"
        assert finish(one).code == 250
        two.command("RSET", 250)
        assert two.answer_to_message("two@example.com", "bob@example.org", CONTENT).code == 250
    assert sink.sessions == 1
