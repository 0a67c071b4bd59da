"""What one listener bears, and how it says that it is enough."""

from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

import pytest

from rig.ports import has_ipv6
from waypost.net.settings import Limits, SessionTimeouts

CONTENT = b"Subject: hello\r\n\r\nbody\r\n"
MakePlace = Callable[..., Any]


def test_connections_per_address(place: MakePlace) -> None:
    it = place(limits=Limits(connections_per_address=2))
    first = it.client()
    first.hello()
    it.client().hello()
    third = it.client()
    answer = third.expect(421)
    assert answer.text.startswith("4.7.0 ")
    third.expect_end()
    assert it.server.told("limited")
    first.command("QUIT", 221)
    first.expect_end()
    it.server.wait_for("closed", 2)
    it.client().hello()


def test_connections_in_all(place: MakePlace) -> None:
    it = place(limits=Limits(connections=1))
    it.client().hello()
    it.client().expect(421)


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
def test_one_address_cannot_shut_out_the_others(place: MakePlace) -> None:
    """Whoever is told that there are too many of it takes no place while it is being told."""
    it = place(host="", limits=Limits(connections=3, connections_per_address=2))
    for _ in range(2):
        it.client().hello()
    greedy = [it.client() for _ in range(5)]
    for client in greedy:
        assert "from your address" in client.expect(421).text
    it.client(host="::1").hello()
    assert "from your address" not in it.client(host="::1").expect(421).text


def test_recipients(place: MakePlace) -> None:
    it = place(limits=Limits(recipients=3))
    client = it.client()
    client.hello()
    client.command("MAIL FROM:<ann@example.com>", 250)
    client.send(b"".join(b"RCPT TO:<r%d@example.org>\r\n" % number for number in range(5)))
    assert [client.answer().code for _ in range(5)] == [250, 250, 250, 452, 452]
    client.command("DATA", 354)
    client.send(CONTENT + b".\r\n")
    client.expect(250)
    assert len(it.sink.messages[0].recipients) == 3


def test_too_many_errors(place: MakePlace) -> None:
    it = place(limits=Limits(errors=5))
    client = it.client()
    client.hello()
    for _ in range(4):
        client.command("WHAT", 500)
    client.send(b"WHAT\r\n" * 10)
    client.expect(500)
    assert client.expect(421).text.startswith("4.7.0 ")
    client.expect_end()


def test_a_relay_listener_is_for_trusted_networks_only(place: MakePlace) -> None:
    it = place(trusted_networks=(ip_network("10.0.0.0/8"),))
    client = it.client()
    assert client.expect(554).text.startswith("5.7.1 ")
    client.expect_end()
    assert it.sink.sessions == 0


# -- silence


def silence(**more: float) -> dict[str, Any]:
    return {"timeouts": SessionTimeouts(**({"command": 20, "content": 20, "handshake": 20} | more))}


def test_silence_before_any_command(place: MakePlace) -> None:
    client = place(**silence(command=0.2)).client()
    client.expect(220)
    assert client.expect(421).text.startswith("4.4.2 ")
    client.expect_end()


def test_silence_in_a_transaction_gives_the_upstream_back(place: MakePlace) -> None:
    it = place(**silence(command=0.2))
    client = it.client()
    client.hello()
    client.send(b"MAIL FROM:<ann@example.com>\r\nRCPT TO:<bob@example.org>\r\n")
    client.expect(250)
    client.expect(250)
    client.expect(421)
    it.sink.wait_for_verb("RSET")
    assert not it.server.told("closed"), "the farewell goes on, and the upstream is free already"


def test_silence_in_the_middle_of_a_command(place: MakePlace) -> None:
    client = place(**silence(command=0.2)).client()
    client.expect(220)
    client.send(b"EHLO clie")
    client.expect(421)


@pytest.mark.parametrize("by", ["DATA", "BDAT"])
def test_silence_in_the_content(by: str, place: MakePlace) -> None:
    it = place(**silence(content=0.2))
    client = it.client()
    client.hello()
    client.command("MAIL FROM:<ann@example.com>", 250)
    client.command("RCPT TO:<bob@example.org>", 250)
    if by == "DATA":
        client.command("DATA", 354)
        client.send(b"half a li")
    else:
        client.send(b"BDAT 100 LAST\r\nhalf")
    assert client.expect(421).text.startswith("4.4.2 ")
    client.expect_end()
    it.server.wait_for("abandoned")
    assert it.sink.messages == []


def test_silence_after_starttls(place: MakePlace) -> None:
    it = place(tls=True, **silence(handshake=0.2))
    client = it.client()
    client.hello()
    client.command("STARTTLS", 220)
    client.expect_end()
    assert it.server.told("tls_failed")


def test_silence_where_tls_comes_first(place: MakePlace) -> None:
    it = place(tls=True, implicit_tls=True, **silence(handshake=0.2))
    it.client().expect_end()
    assert it.server.told("tls_failed")


def test_a_client_that_never_reads_is_given_up(place: MakePlace) -> None:
    """Its answers are queued to a limit; then it is silent in its own way."""
    it = place(limits=Limits(errors=10_000_000), **silence(content=0.3, command=0.3))
    client = it.client(seconds=5)
    client.hello()
    try:
        for _ in range(3000):
            client.send(b"NOOP\r\n" * 1000)
    except OSError:
        pass  # it does not take more, or has closed: that is what is wanted
    it.server.wait_for("closed", why="silent")
