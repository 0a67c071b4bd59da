"""Clients that a trusted client announces, by XCLIENT."""

from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

import pytest

from net.conftest import Place
from rig.certificates import Certificates
from rig.client import RawClient
from waypost.net.settings import Limits
from waypost.routing.route import Account

MakePlace = Callable[..., Place]
HERE = (ip_network("127.0.0.0/8"),)
CLIENTS = (*HERE, ip_network("192.0.2.0/24"), ip_network("2001:db8::/32"))
CONTENT = b"Subject: x\r\n\r\nHello\r\n"
FULL = "XCLIENT NAME=[UNAVAILABLE] ADDR=IPV6:2001:db8::7 PORT=4711 PROTO=ESMTP HELO=client.example"


def relay(place: MakePlace, **more: Any) -> tuple[Place, RawClient]:
    """A relay listener, and a client that may announce others; it has said EHLO."""
    it = place(**({"announcers": HERE, "trusted_networks": CLIENTS} | more))
    client = it.client()
    assert "XCLIENT NAME ADDR PORT PROTO HELO" in client.hello("proxy.example").lines
    return it, client


def test_the_session_starts_over_for_the_announced_client(place: MakePlace) -> None:
    it, client = relay(place)
    client.command(FULL, 220)
    client.command("MAIL FROM:<ann@example.com>", 503)
    client.command("EHLO client.example", 250)
    assert client.answer_to_message("ann@example.com", "bob@example.org", CONTENT).code == 250
    assert b"from client.example ([IPv6:2001:db8::7])" in it.sink.messages[0].trace
    assert it.server.wait_for("received")[0]["client"] == "2001:db8::7"
    [told] = it.server.told("told")
    assert (told["client"], told["proxy"]) == ("2001:db8::7", "127.0.0.1")
    client.command("XCLIENT ADDR=192.0.2.7", 220)
    client.command("EHLO other.example", 250)
    assert client.answer_to_message("ann@example.com", "bob@example.org", CONTENT).code == 250
    assert b"from other.example ([192.0.2.7])" in it.sink.messages[1].trace


def test_nobody_else_may_say_so(place: MakePlace) -> None:
    it = place(announcers=CLIENTS[1:])
    client = it.client()
    assert "XCLIENT" not in client.hello().text
    client.command("XCLIENT ADDR=192.0.2.7", 550)
    assert client.answer_to_message("ann@example.com", "bob@example.org", CONTENT).code == 250
    assert b"([127.0.0.1])" in it.sink.messages[0].trace


def test_a_client_that_the_listener_does_not_trust_is_turned_away(place: MakePlace) -> None:
    it, client = relay(place)
    client.command("XCLIENT ADDR=198.51.100.7", 554)
    client.expect_end()
    assert it.server.told("limited")[0]["client"] == "198.51.100.7"


@pytest.mark.parametrize(
    "words",
    [
        "",
        " ADDR",
        " ADDR=nobody",
        " ADDR=192.0.2.7%25eth0",
        " ADDR=192.0.2.7 ADDR=192.0.2.8",
        " ADDR=192.0.2.7 PORT=65536",
        " ADDR=192.0.2.7 PORT=+D9+A1",
        " ADDR=192.0.2.7 HELO=+0D+0A",
        " ADDR=192.0.2.7 HELO=+ff",
        " ADDR=192.0.2.7 COLOUR=blue",
        " ADDR=192.0.2.7 LOGIN=me",  # nobody authenticates on a relay listener
        f" ADDR=192.0.2.7 HELO={'x' * 256}",
    ],
)
def test_what_is_not_valid_changes_nothing(place: MakePlace, words: str) -> None:
    it, client = relay(place)
    client.command(f"XCLIENT{words}", 501)
    assert client.answer_to_message("ann@example.com", "bob@example.org", CONTENT).code == 250
    assert b"from proxy.example ([127.0.0.1])" in it.sink.messages[0].trace


def test_not_within_a_transaction(place: MakePlace) -> None:
    _, client = relay(place)
    client.command("MAIL FROM:<ann@example.com>", 250)
    client.command("XCLIENT ADDR=192.0.2.7", 503)


def test_limits_per_address_are_about_the_announced_one(place: MakePlace) -> None:
    it, first = relay(place, limits=Limits(connections_per_address=1))
    first.command("XCLIENT ADDR=192.0.2.7", 220)
    second = it.client()  # our own place is free again
    second.hello()
    second.command("XCLIENT ADDR=192.0.2.7", 421)
    second.expect_end()
    first.command("XCLIENT ADDR=192.0.2.8", 220)
    first.command("XCLIENT ADDR=192.0.2.8", 220)
    third = it.client()
    third.hello()
    third.command("XCLIENT ADDR=192.0.2.7", 220)


def test_login_is_believed_and_forgotten_with_the_next_client(place: MakePlace, certificates: Certificates) -> None:
    it = place(mode="submission", accounts={"a+me": "secret"}, announcers=HERE, tls=True)
    client = it.client()
    assert "LOGIN" in client.hello().text
    client.command("STARTTLS", 220)
    client.start_tls(certificates.client_context())
    client.command("EHLO proxy.example", 250)
    client.command("XCLIENT ADDR=198.51.100.7 LOGIN=somebody", 501)
    client.command("XCLIENT ADDR=198.51.100.7 LOGIN=a+2Bme", 220)
    client.command("EHLO client.example", 250)
    assert client.answer_to_message("ann@example.com", "bob@example.org", CONTENT).code == 250
    [received] = it.server.wait_for("received")
    assert (received["account"], received["client"]) == ("a+me", "198.51.100.7")
    assert b"with ESMTPSA id" in it.sink.messages[0].trace
    client.command("XCLIENT ADDR=198.51.100.8 LOGIN=[UNAVAILABLE]", 220)
    client.command("EHLO client.example", 250)
    client.command("MAIL FROM:<ann@example.com>", 530)


def test_trust_is_judged_anew(place: MakePlace) -> None:
    it = place(mode="submission", accounts={"me": "secret"}, announcers=HERE, trusted_networks=CLIENTS[1:2])
    client = it.client()
    client.hello()
    client.command("MAIL FROM:<ann@example.com>", 530)
    client.command("XCLIENT ADDR=192.0.2.7", 220)
    client.command("EHLO client.example", 250)
    client.command("MAIL FROM:<ann@example.com>", 250)


def test_failed_logins_of_one_client_are_not_the_next_ones(place: MakePlace) -> None:
    it = place(mode="submission", accounts={"me": "secret"}, announcers=HERE, allow_plaintext_auth=True)
    client = it.client()
    client.hello()
    for last in range(1, 4):
        client.command(f"XCLIENT ADDR=198.51.100.{last}", 220)
        client.command("EHLO client.example", 250)
        for _ in range(2):
            client.command("AUTH PLAIN AG1lAHdyb25n", 535)
    client.command("AUTH PLAIN AG1lAHdyb25n", 535)
    assert client.answer().code == 421


def test_login_may_be_that_of_an_account_without_a_password(place: MakePlace) -> None:
    accounts = {"me": "secret", "printer": Account("printer", certificates=("0" * 64,))}
    it = place(mode="submission", accounts=accounts, announcers=HERE, allow_plaintext_auth=True)
    client = it.client()
    client.hello()
    client.command("XCLIENT ADDR=198.51.100.7 LOGIN=printer", 220)
    client.command("EHLO client.example", 250)
    client.command("MAIL FROM:<ann@example.com>", 250)
