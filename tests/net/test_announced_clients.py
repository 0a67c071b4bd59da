"""Clients that a proxy in front announces: by the PROXY protocol."""

import socket
import ssl
from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

import pytest

from net.conftest import Place
from rig.certificates import Certificates
from rig.client import RawClient
from rig.waiting import wait_until
from waypost.net.proxy_protocol import encode_v1, encode_v2
from waypost.net.settings import Limits, SessionTimeouts

MakePlace = Callable[..., Place]
HERE = (ip_network("127.0.0.0/8"),)
CLIENTS = (ip_network("192.0.2.0/24"),)
CLIENT, SERVER = ("192.0.2.7", 4711), ("198.51.100.1", 25)
CONTENT = b"Subject: x\r\n\r\nHello\r\n"


def behind(place: MakePlace, **more: Any) -> Place:
    """A relay listener for the clients of a proxy on this machine."""
    return place(**({"proxies": HERE, "trusted_networks": CLIENTS} | more))


@pytest.mark.parametrize("encode", [encode_v1, encode_v2])
def test_the_announced_address_is_the_clients(place: MakePlace, encode: Any) -> None:
    it = behind(place)
    client = it.client()
    client.send(encode(CLIENT, SERVER))
    client.hello()
    assert client.answer_to_message("ann@example.com", "bob@example.org", CONTENT).code == 250
    assert b"Received: from client.example ([192.0.2.7])" in it.sink.messages[0].trace
    [received] = it.server.wait_for("received")
    assert received["client"] == "192.0.2.7"
    [connected] = it.server.told("connected")
    assert connected["proxy"] == "127.0.0.1"


@pytest.mark.parametrize("encode", [encode_v1, encode_v2])
def test_a_header_octet_by_octet(place: MakePlace, encode: Any) -> None:
    client = behind(place).client()
    for octet in encode(CLIENT, SERVER):
        client.send(bytes((octet,)))
    client.hello()
    client.command("QUIT", 221)


def test_a_client_that_the_listener_does_not_trust_is_turned_away_though_its_proxy_is(place: MakePlace) -> None:
    it = behind(place, trusted_networks=HERE)
    client = it.client()
    client.send(encode_v2(CLIENT, SERVER))
    assert client.expect(554).text.startswith("5.7.1 ")
    client.expect_end()
    [limited] = it.server.told("limited")
    assert limited["client"] == "192.0.2.7"


@pytest.mark.parametrize("header", [encode_v1(None, None), encode_v2(None, None)])
def test_a_proxy_that_announces_nobody_is_the_client_itself(place: MakePlace, header: bytes) -> None:
    client = behind(place, trusted_networks=HERE).client()
    client.send(header)
    client.hello()
    stranger = behind(place).client()
    stranger.send(header)
    stranger.expect(554)


def test_limits_per_address_are_about_the_announced_one(place: MakePlace) -> None:
    it = behind(place, limits=Limits(connections_per_address=1))
    for address, code in (("192.0.2.7", 220), ("192.0.2.8", 220), ("192.0.2.7", 421)):
        client = it.client()
        client.send(encode_v2((address, 1), SERVER))
        client.expect(code)


@pytest.mark.parametrize(
    "octets",
    [b"EHLO client.example\r\n", b"PROXY TCP4 nobody 192.0.2.1 1 2\r\n", encode_v2(CLIENT, SERVER)[:-1] + b"?"],
)
def test_a_proxy_that_sends_no_valid_header_is_closed_without_a_word(place: MakePlace, octets: bytes) -> None:
    it = behind(place, trusted_networks=HERE)
    client = it.client()
    client.send(octets)
    client.expect_end()
    [failed] = it.server.told("proxy_failed")
    assert failed["client"] == "127.0.0.1"
    assert failed["level"] == "warning"


def test_a_proxy_that_sends_nothing_is_closed_in_time(place: MakePlace) -> None:
    it = behind(place, trusted_networks=HERE, timeouts=SessionTimeouts(handshake=0.2))
    for octets in (b"", b"PROXY "):
        client = it.client()
        client.send(octets)
        client.expect_end()
    assert [record["error"] for record in it.server.wait_for("proxy_failed", 2)] == ["it did not come in time"] * 2


def test_a_connection_that_only_looks_is_not_complained_of(place: MakePlace) -> None:
    it = behind(place)
    it.client().close()
    client = it.client()
    client.send(encode_v2(CLIENT, SERVER))
    client.hello()
    assert not it.server.told("proxy_failed")


@pytest.mark.parametrize("wait", [False, True], ids=["at once", "after the greeting"])
@pytest.mark.parametrize("header", [encode_v1(CLIENT, SERVER), encode_v2(CLIENT, SERVER)], ids=["v1", "v2"])
def test_a_header_of_somebody_else_ends_the_session(place: MakePlace, header: bytes, wait: bool) -> None:
    it = place(proxies=CLIENTS)
    client = it.client()
    codes = []
    if wait:
        client.expect(220)
    client.send(header + b"EHLO client.example\r\n")
    while not codes or codes[-1] not in (554, 421):
        codes.append(client.answer().code)
    client.expect_end()
    assert 250 not in codes


def test_speaking_before_the_greeting_is_refused_behind_a_header_as_well(place: MakePlace) -> None:
    client = behind(place).client()
    client.send(encode_v2(CLIENT, SERVER) + b"EHLO client.example\r\n")
    client.expect(554)
    client.expect_end()


def test_a_stop_does_not_wait_for_a_header(place: MakePlace) -> None:
    it = behind(place, shutdown_timeout=60)
    client = it.client()
    client.send(b"PROXY ")
    later = it.client()  # connections are taken in the order in which they come
    later.send(encode_v1(CLIENT, SERVER))
    later.hello()
    it.server.stop_soon()
    client.expect_end()
    later.close()
    it.server.stop()


@pytest.mark.parametrize("encode", [encode_v1, encode_v2])
def test_a_header_and_a_client_hello_in_one_segment(place: MakePlace, certificates: Certificates, encode: Any) -> None:
    it = behind(place, tls=True, implicit_tls=True)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = certificates.client_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with socket.create_connection(("127.0.0.1", it.port), timeout=20) as connection:

        def until_done(step: Callable[[], Any], first: bytes = b"") -> Any:
            while True:
                try:
                    result = step()
                except ssl.SSLWantReadError:
                    connection.sendall(first + outgoing.read())
                    first = b""
                    incoming.write(connection.recv(65536))
                else:
                    connection.sendall(outgoing.read())
                    return result

        until_done(tls.do_handshake, encode(CLIENT, SERVER))
        assert until_done(lambda: tls.read(1000)).startswith(b"220 ")
        tls.write(b"EHLO client.example\r\n")
        assert b"PIPELINING" in until_done(lambda: tls.read(1000))
    wait_until(lambda: it.server.told("closed", client="192.0.2.7"), "the end of the session")


def test_starttls_behind_a_header(place: MakePlace, certificates: Certificates) -> None:
    it = behind(place, tls=True)
    client: RawClient = it.client()
    client.send(encode_v2(CLIENT, SERVER))
    client.hello()
    client.command("STARTTLS", 220)
    client.start_tls(certificates.client_context())
    client.command("EHLO client.example", 250)
    assert client.answer_to_message("ann@example.com", "bob@example.org", CONTENT).code == 250
