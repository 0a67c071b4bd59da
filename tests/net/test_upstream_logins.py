"""Logins at upstreams, over sockets: every mechanism, what is chosen, and what is found out."""

import ssl
from collections.abc import Callable
from typing import Any

import pytest

from rig.certificates import Certificates
from rig.client import RawClient
from rig.faults import say
from rig.ports import free_port
from rig.running import RunningServer, settings, upstream
from rig.sasl import Accounts
from rig.sink import StoringSink
from waypost.net.channel_binding import server_end_point, signature_algorithm
from waypost.routing.health import State
from waypost.routing.login import Login
from waypost.routing.route import Upstream, UpstreamTls
from waypost.smtp.mechanisms import WITH_PASSWORD
from waypost.smtp.sasl import Secret

MakeSink = Callable[[StoringSink], StoringSink]
CONTENT = b"Subject: x\r\n\r\nHello\r\n"
PASSWORD = "s3cret"


def accounts(**more: Any) -> Accounts:
    return Accounts({"me": PASSWORD}, **more)


def secured(sink: StoringSink, certificates: Certificates, **more: Any) -> Upstream:
    """With verified TLS."""
    tls = UpstreamTls("starttls", ca_file=str(certificates.ca_file))
    login = Login("me", Secret(PASSWORD), **more)
    return upstream("first", sink.port, host="localhost", tls=tls, credentials=login)


def in_the_clear(sink: StoringSink, **more: Any) -> Upstream:
    return upstream("first", sink.port, credentials=Login("me", Secret(PASSWORD), **more), allow_plaintext_auth=True)


def sent(*upstreams: Upstream, code: int = 250, count: int = 1) -> RunningServer:
    """The server, after it has sent `count` messages."""
    port = free_port()
    with RunningServer(settings(port, *upstreams)) as server, RawClient(port) as client:
        client.hello()
        for _ in range(count):
            answer = client.answer_to_message("ann@example.com", "bob@example.org", CONTENT)
            assert answer.code == code, answer
        server.seen_metrics = server.metrics()  # type: ignore[attr-defined]
        server.seen_health = server.health("first")  # type: ignore[attr-defined]
    return server


def reasons(server: RunningServer) -> str:
    return " ".join(str(record["text"]) for record in server.told("attempted"))


@pytest.mark.parametrize("mechanism", WITH_PASSWORD)
def test_each_mechanism_where_it_is_the_only_one(
    mechanism: str, make_sink: MakeSink, certificates: Certificates
) -> None:
    leaf, end, _ = certificates.certificate.read_text().partition("-----END CERTIFICATE-----\n")
    der = ssl.PEM_cert_to_DER_cert(leaf + end)
    known = accounts(certificate=der if mechanism.endswith("-PLUS") else None)
    sink = make_sink(StoringSink(logins=known, mechanisms=(mechanism,), tls=certificates.server_context()))
    server = sent(secured(sink, certificates))
    assert known.logins == [(mechanism, "me")]
    assert [message.username for message in sink.messages] == ["me"]
    said = [record for record in server.operational if record["event"] == "upstream_login"]
    assert [(record["mechanism"], record["outcome"]) for record in said] == [(mechanism, "succeeded")]
    counted = f'waypost_upstream_logins_total{{mechanism="{mechanism}",outcome="succeeded",upstream="first"}} 1.0'
    assert counted in server.seen_metrics  # type: ignore[attr-defined]


def test_plain_scram_as_configured_where_binding_is_offered_too(
    make_sink: MakeSink, certificates: Certificates
) -> None:
    """The server can bind, so a client that says it missed the offer is taken for one that was lied to."""
    leaf, end, _ = certificates.certificate.read_text().partition("-----END CERTIFICATE-----\n")
    known = accounts(certificate=ssl.PEM_cert_to_DER_cert(leaf + end))
    offered = ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256")
    sink = make_sink(StoringSink(logins=known, mechanisms=offered, tls=certificates.server_context()))
    sent(secured(sink, certificates, mechanism="SCRAM-SHA-256"))
    assert known.logins == [("SCRAM-SHA-256", "me")]


@pytest.mark.parametrize(
    ("offered", "expected"),
    [
        (("LOGIN", "PLAIN", "CRAM-MD5", "SCRAM-SHA-256"), "SCRAM-SHA-256"),
        (("CRAM-MD5", "LOGIN", "PLAIN"), "PLAIN"),
    ],
)
def test_the_best_that_is_offered(
    offered: tuple[str, ...], expected: str, make_sink: MakeSink, certificates: Certificates
) -> None:
    known = accounts()
    sink = make_sink(StoringSink(logins=known, mechanisms=offered, tls=certificates.server_context()))
    sent(secured(sink, certificates))
    assert known.logins == [(expected, "me")]


def test_where_somebody_may_listen_the_password_stays_here(make_sink: MakeSink) -> None:
    known = accounts()
    sink = make_sink(StoringSink(logins=known, mechanisms=("PLAIN", "LOGIN", "CRAM-MD5")))
    sent(in_the_clear(sink))
    assert known.logins == [("CRAM-MD5", "me")]


@pytest.mark.parametrize("mechanism", [name for name in WITH_PASSWORD if not name.endswith("-PLUS")])
def test_no_mechanism_goes_in_the_clear_unless_allowed(mechanism: str, make_sink: MakeSink, sink: StoringSink) -> None:
    """CRAM-MD5 and SCRAM do not show the password, but let whoever listens guess it at leisure."""
    first = make_sink(StoringSink(logins=accounts(), mechanisms=(mechanism,)))
    login = Login("me", Secret(PASSWORD), mechanism=mechanism)
    server = sent(upstream("first", first.port, credentials=login), upstream("second", sink.port))
    assert server.told("attempted")[0]["classification"] == "plaintext"
    assert "AUTH" not in first.verbs()


def test_the_one_that_is_configured(make_sink: MakeSink) -> None:
    known = accounts()
    sink = make_sink(StoringSink(logins=known, mechanisms=("PLAIN", "SCRAM-SHA-256", "LOGIN")))
    sent(in_the_clear(sink, mechanism="LOGIN"))
    assert known.logins == [("LOGIN", "me")]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"mechanism": "CRAM-MD5"}, "AUTH is offered with PLAIN, LOGIN, not CRAM-MD5"),
        ({"authorize_as": "shared", "mechanism": None}, "which we cannot use with these credentials"),
    ],
)
def test_nothing_in_common_puts_the_upstream_to_sleep(
    more: dict[str, Any], words: str, make_sink: MakeSink, sink: StoringSink
) -> None:
    offered = ("LOGIN",) if "authorize_as" in more else ("PLAIN", "LOGIN")
    first = make_sink(StoringSink(logins=accounts(), mechanisms=offered))
    server = sent(in_the_clear(first, **more), upstream("second", sink.port))
    assert words in reasons(server)
    assert server.told("attempted")[0]["classification"] == "login-impossible"
    assert server.seen_health is State.ASLEEP  # type: ignore[attr-defined]
    assert "AUTH" not in first.verbs()


def test_a_server_that_only_pretends_to_know_the_password_gets_no_mail(make_sink: MakeSink, sink: StoringSink) -> None:
    forger = make_sink(StoringSink(logins=accounts(forged=True), mechanisms=("SCRAM-SHA-256", "PLAIN")))
    server = sent(in_the_clear(forger), upstream("second", sink.port))
    assert "its signature is wrong" in reasons(server)
    assert not forger.messages
    assert forger.verbs().count("AUTH") == 1, "the password would have gone to the forger"


def test_yes_without_the_proof_is_none(make_sink: MakeSink, sink: StoringSink) -> None:
    forger = make_sink(StoringSink(logins=accounts(hasty=True), mechanisms=("SCRAM-SHA-256",)))
    server = sent(in_the_clear(forger), upstream("second", sink.port))
    assert "says yes without having proven" in reasons(server)
    assert not forger.messages


def test_an_upstream_that_offers_what_it_cannot_do_is_taken_by_its_word_once(
    make_sink: MakeSink, certificates: Certificates
) -> None:
    """Cyrus SASL in front of PAM offers SCRAM, and has only PLAIN to check passwords by."""
    known = accounts()
    sink = make_sink(
        StoringSink(logins=known, mechanisms=("SCRAM-SHA-256", "PLAIN"), tls=certificates.server_context())
    )
    sink.on("auth", say("535 5.7.8 no secret for that"), 1)
    server = sent(secured(sink, certificates))
    assert known.logins[-1] == ("PLAIN", "me")
    assert len(sink.messages) == 1
    assert sink.sessions == 1
    [warned] = [record for record in server.operational if record["event"] == "mechanism_in_vain"]
    assert "mechanism: PLAIN" in warned["advice"]


def test_but_not_where_somebody_else_may_hear_it(make_sink: MakeSink, sink: StoringSink) -> None:
    first = make_sink(StoringSink(logins=accounts(), mechanisms=("SCRAM-SHA-256", "PLAIN")))
    first.on("auth", say("535 5.7.8 no secret for that"), 1)
    server = sent(in_the_clear(first), upstream("second", sink.port))
    assert first.verbs().count("AUTH") == 1
    assert server.told("attempted")[0]["classification"] == "login-refused"
    [warned] = [record for record in server.operational if record["event"] == "mechanism_in_vain"]
    assert "verified TLS, or `mechanism: PLAIN`" in warned["advice"]


def test_iterations_without_end_are_not_carried_out(make_sink: MakeSink, sink: StoringSink) -> None:
    greedy = make_sink(StoringSink(logins=accounts(), mechanisms=("SCRAM-SHA-256",)))
    greedy.logins.iterations = 900_000_000  # type: ignore[union-attr]
    server = sent(in_the_clear(greedy), upstream("second", sink.port))
    assert "900000000 iterations" in reasons(server)


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256"])
def test_the_delegate_of_a_shared_mailbox(mechanism: str, make_sink: MakeSink) -> None:
    known = accounts(delegates={"shared@example.com": "me"})
    sink = make_sink(StoringSink(logins=known, mechanisms=(mechanism, "LOGIN")))
    sent(in_the_clear(sink, authorize_as="shared@example.com"))
    assert known.logins == [(mechanism, "shared@example.com")]


def test_one_login_serves_many_messages(make_sink: MakeSink) -> None:
    known = accounts()
    sink = make_sink(StoringSink(logins=known, mechanisms=("SCRAM-SHA-256",)))
    sent(in_the_clear(sink), count=5)
    assert len(known.logins) == 1
    assert len(sink.messages) == 5


@pytest.mark.parametrize("octets", [b"", b"0", b"0\x84\xff\xff\xff\xff", b"\x30\x80\x00\x00", b"0" * 64])
def test_a_certificate_that_is_none_has_no_binding(octets: bytes) -> None:
    assert signature_algorithm(octets) is None
    assert server_end_point(octets) is None
    assert server_end_point(None) is None
