"""Postfix as the upstream that is told who the client is, by each of its protocols; swaks as a client that tells us."""

import smtplib
from collections.abc import Callable
from typing import Any

import pytest

from rig.postfix import PostfixInstance
from rig.programs import run, transcript
from rig.settings import relaying
from rig.sink import StoringSink
from rig.waypost import WaypostProcess

Start = Callable[[dict[str, Any]], WaypostProcess]

WAYS = {
    "proxy-v1": {"smtpd_upstream_proxy_protocol": "haproxy"},
    "proxy-v2": {"smtpd_upstream_proxy_protocol": "haproxy"},
    "xclient": {"smtpd_authorized_xclient_hosts": "127.0.0.1"},
    "xforward": {"smtpd_authorized_xforward_hosts": "127.0.0.1"},
}


@pytest.mark.parametrize("way", WAYS)
def test_postfix_knows_the_client_of_each_message(start: Start, port: int, way: str) -> None:
    settings = relaying(port, "")
    with PostfixInstance({"default_transport": "discard:", **WAYS[way]}) as postfix:
        settings["upstreams"]["primary"] = {"address": postfix.address, "client_address": way, "tls": "off"}
        start(settings)
        clients = ("127.0.0.5", "127.0.0.5", "127.0.0.6", "127.0.0.5")
        for number, address in enumerate(clients):
            with smtplib.SMTP("127.0.0.1", port, source_address=(address, 0), timeout=30) as client:
                client.sendmail(f"a{number}@example.com", ["b@example.org"], b"Subject: x\r\n\r\nHello\r\n")
        word = "orig_client=" if way == "xforward" else "client="
        told = postfix.wait_for_log(f" {word}", "[127.0.0.", count=4)
        assert [line.partition(f" {word}")[2].partition("[")[2].partition("]")[0] for line in told] == [*clients]
        sessions = [line for line in postfix.log().split("\n") if "]: connect from " in line]
    # With XFORWARD a connection carries everybody's mail. With a PROXY header it is one client's, and so with
    # XCLIENT, which Postfix does not offer any more to whom it has been told of.
    assert len(sessions) == (2 if way == "xforward" else 3)  # with the one that looked whether it is up


def test_swaks_announces_a_client_by_xclient(start: Start, port: int, sink: StoringSink) -> None:
    settings = relaying(port, sink.address)
    settings["listeners"][0] |= {"xclient": ["127.0.0.1"], "trusted_networks": ["127.0.0.1", "192.0.2.0/24"]}
    start(settings)
    told = "--xclient-addr 192.0.2.7 --xclient-port 4711 --xclient-proto ESMTP --xclient-helo one.example"
    words = "--from a@example.com --to b@example.org --helo two.example"
    result = run(f"swaks --server 127.0.0.1:{port} {words} {told}")
    assert result.returncode == 0, transcript(result)
    [message] = sink.wait_for(1)
    assert b"Received: from two.example ([192.0.2.7])" in message.trace
