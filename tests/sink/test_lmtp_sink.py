"""A sink that speaks LMTP, and one whose client says PRDR: faults for single recipients."""

import pytest

from rig.client import RawClient
from rig.running_sink import RunningSink
from waypost.smtp.order import ServerOptions

LMTP = ServerOptions("sink.example", lmtp=True)


def transaction(client: RawClient, hello: str, *recipients: str, more: str = "") -> None:
    client.expect(220)
    client.command(f"{hello} client.example", 250)
    client.command(f"MAIL FROM:<a@example.com>{more}", 250)
    for recipient in recipients:
        client.command(f"RCPT TO:<{recipient}@example.org>", 250)
    client.command("DATA", 354)
    client.send(b"Subject: x\r\n\r\nHello\r\n.\r\n")


def kept(sink: RunningSink) -> list[tuple[str, ...]]:
    return [message.recipients for message in sink.running.messages]


def test_each_recipient_may_have_a_fault_of_its_own() -> None:
    with RunningSink("verdict=452 4.2.2 Full to:b@*", options=LMTP) as sink, RawClient(sink.port) as client:
        transaction(client, "LHLO", "a", "b", "c")
        assert client.expect(250).text == "2.0.0 Kept for a@example.org"
        assert client.expect(452).text == "4.2.2 Full"
        client.expect(250)
        assert kept(sink) == [("a@example.org", "c@example.org")]
        client.command("QUIT", 221)


@pytest.mark.parametrize("fault", ["close-after 250 Yes", "close"])
def test_the_session_may_end_in_the_middle(fault: str) -> None:
    with RunningSink(f"verdict={fault} to:b@*", options=LMTP) as sink, RawClient(sink.port) as client:
        transaction(client, "LHLO", "a", "b", "c")
        client.expect(250)
        if fault != "close":
            assert client.expect(250).text == "Yes"
        client.expect_end()
        sink.call(lambda it: it.wait_for(1))
        assert kept(sink) == [("a@example.org",) if fault == "close" else ("a@example.org", "b@example.org")]


def test_one_answer_too_many() -> None:
    with RunningSink("verdict=garbage unsolicited to:b@*", options=LMTP) as sink, RawClient(sink.port) as client:
        transaction(client, "LHLO", "a", "b")
        assert [client.answer().code for _ in range(3)] == [250, 250, 250]


def test_a_fault_at_the_dot_is_everybodys() -> None:
    with RunningSink("dot=554 5.7.1 Spam", options=LMTP) as sink, RawClient(sink.port) as client:
        transaction(client, "LHLO", "a", "b")
        assert [client.answer().code for _ in range(2)] == [554, 554]
        client.command("NOOP", 250)
        assert kept(sink) == []


def test_prdr() -> None:
    with RunningSink("verdict=550 5.2.1 Closed to:b@*") as sink, RawClient(sink.port) as client:
        transaction(client, "EHLO", "a", "b", more=" PRDR")
        assert [client.answer().code for _ in range(4)] == [353, 250, 550, 250]
        assert kept(sink) == [("a@example.org",)]
    with RunningSink("verdict=550 5.2.1 Closed to:b@*") as sink, RawClient(sink.port) as client:
        transaction(client, "EHLO", "a", "b")
        client.expect(250)
        assert kept(sink) == [("a@example.org", "b@example.org")], "who does not ask has one answer for all"
