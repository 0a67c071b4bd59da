"""AUTH over sockets: SCRAM, certificates, files that change, limits."""

import ssl
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import trustme

from rig.certificates import Certificates
from rig.client import RawClient
from rig.faults import say
from rig.waiting import wait_until
from smtp.test_scram_server import Client, b64, un64
from waypost.config.settings import SpoolSettings
from waypost.net.client_certificates import certificate_name
from waypost.net.settings import AccountsFile, LoginLimits, ServerTls
from waypost.routing.route import Account, Allowance

MakePlace = Callable[..., Any]
ELSEWHERE = {"mode": "submission", "trusted_networks": (ip_network("10.0.0.0/8"),)}
OPEN = {**ELSEWHERE, "allow_plaintext_auth": True}
CONTENT = b"Subject: hello\r\n\r\nbody\r\n"
SHA = "$5$abc$sCOGUciM.GdmYMCUvmUcgu03oRH87O0clF96.9mwWGB"  # of x


def plain(name: str, password: str) -> str:
    return "AUTH PLAIN " + b64(f"\0{name}\0{password}")


def scram(client: RawClient, name: str, password: str) -> int:
    """Goes through SCRAM-SHA-256; the last code."""
    peer = Client(name, password)
    challenge = client.command(f"AUTH SCRAM-SHA-256 {b64(peer.first)}", 334).text
    client.send(b64(peer.final(un64(challenge))).encode() + b"\r\n")
    answer = client.answer()
    if answer.code != 334:
        return answer.code
    assert un64(answer.text) == f"v={b64(peer.server_signature)}"
    client.send(b"\r\n")
    return client.answer().code


def test_scram(place: MakePlace) -> None:
    it = place(accounts={"me": "secret", "other": "x"}, **OPEN)
    client = it.client()
    assert "AUTH PLAIN LOGIN SCRAM-SHA-256" in client.hello().lines
    assert scram(client, "me", "wrong") == 535
    assert scram(client, "nobody", "secret") == 535
    assert scram(client, "me", "secret") == 235
    assert client.answer_to_message("ann@example.com", "bob@example.org", CONTENT).code == 250
    assert it.server.told("received")[0]["account"] == "me"
    assert [record["username"] for record in it.server.told("auth_failed")] == ["me", "nobody"]
    assert it.server.told("auth_succeeded")[0]["mechanism"] == "SCRAM-SHA-256"


def test_scram_is_not_offered_where_an_account_cannot_use_it(place: MakePlace) -> None:
    it = place(accounts={"me": "secret", "hashed": SHA}, **OPEN)
    client = it.client()
    assert "AUTH PLAIN LOGIN" in client.hello().lines
    client.command("AUTH SCRAM-SHA-256", 504)


def test_a_listener_offers_what_it_is_told_to(place: MakePlace) -> None:
    it = place(accounts={"me": "secret", "hashed": SHA}, mechanisms=("SCRAM-SHA-256",), **OPEN)
    client = it.client()
    assert "AUTH SCRAM-SHA-256" in client.hello().lines
    client.command(plain("me", "secret"), 504)
    assert scram(client, "me", "secret") == 235


def test_too_many_guesses_at_once_hear_454(place: MakePlace) -> None:
    it = place(accounts={"me": "secret"}, settings_too={"login": LoginLimits(1, 0.2, 600)}, **OPEN)
    for _ in range(2):
        with RawClient(it.port) as client:
            client.hello()
            client.command(plain("me", "wrong"), 535)
    clients = [it.client() for _ in range(6)]
    for client in clients:
        client.hello()
    for client in clients:
        client.send(plain("me", "wrong").encode() + b"\r\n")
    answers = [client.answer() for client in clients]
    assert [answer.code for answer in answers].count(454) == 4
    assert {answer.text for answer in answers if answer.code == 454} == {
        "4.7.0 Too many attempts to authenticate have failed; try again later"
    }
    assert len(it.server.told("limited", mechanism="PLAIN", username="me")) == 4
    listener = it.server.told("limited")[0]["listener"]
    assert f'waypost_session_events_total{{event="limited",listener="{listener}"}} 4.0' in it.server.metrics()
    wait_until(lambda: _knows(it, "secret"), "the right password to work after the delay")


def _knows(it: Any, password: str) -> bool:
    with RawClient(it.port) as client:
        client.hello()
        client.send(plain("me", password).encode() + b"\r\n")
        return client.answer().code == 235


def test_a_file_that_changes(place: MakePlace, tmp_path: Path) -> None:
    users = tmp_path / "users"
    users.write_text(f"ann:{SHA}\n")
    more = {"accounts_file": AccountsFile(str(users), "htpasswd")}
    it = place(settings_too=more, **OPEN)
    client = it.client()
    assert "AUTH PLAIN LOGIN" in client.hello().lines
    client.command(plain("ann", "x"), 235)
    new = tmp_path / "new"
    new.write_text("ann:{SHA}broken\nbob:{SHA}EfatjsUqKYSrqv18O1FlA3hcIHI=\n")
    new.replace(users)
    it.server.put_forward(2)
    client = it.client()
    client.hello()
    client.command(plain("ann", "x"), 535)
    client.command(plain("bob", "x"), 235)
    [refused] = [record for record in it.server.operational if record["event"] == "account_refused"]
    assert (refused["file"], refused["account"]) == (f"{users}:1", "ann")


def test_accounts_are_limited(place: MakePlace) -> None:
    limits = (Allowance("messages", 2, 86400), Allowance("recipients", 3, 86400))
    it = place(accounts={"me": Account("me", "secret", limits=limits)}, **OPEN)
    client = it.client()
    client.hello()
    client.command(plain("me", "secret"), 235)
    client.command("MAIL FROM:<ann@example.com>", 250)
    for number in range(3):
        client.command(f"RCPT TO:<b{number}@example.org>", 250)
    assert client.command("RCPT TO:<b4@example.org>", 452).text.startswith("4.7.1 This account may send 3 recipients")
    client.command("RSET", 250)
    it.sink.recipient_replies["nobody@example.org"] = "550 5.1.1 no such user"
    client.command("MAIL FROM:<ann@example.com>", 250)
    client.send(b"".join(b"RCPT TO:<%b@example.org>\r\n" % name for name in (b"nobody", b"a", b"b", b"c")))
    assert [client.answer().code for _ in range(4)] == [550, 250, 250, 452]
    client.command("DATA", 354)
    client.send(CONTENT + b".\r\n")
    client.expect(250)
    assert client.answer_to_message("ann@example.com", "bob@example.org", CONTENT).code == 250
    assert client.command("MAIL FROM:<ann@example.com>", 450).text.startswith("4.7.1 This account may send 2 messages")
    assert sorted(record["code"] for record in it.server.told("refused", account="me")) == [450, 452, 452, 550]
    assert 'waypost_allowances_spent_total{account="me",what="recipients"} 2.0' in it.server.metrics()
    assert len(it.sink.messages) == 2
    it.server.put_forward(86400)
    client.command("MAIL FROM:<ann@example.com>", 250)


def test_a_message_that_was_refused_does_not_count(place: MakePlace) -> None:
    it = place(accounts={"me": Account("me", "secret", limits=(Allowance("messages", 1, 86400),))}, **OPEN)
    client = it.client()
    client.hello()
    client.command(plain("me", "secret"), 235)
    it.sink.on("dot", say("554 5.7.1 spam"))
    assert client.answer_to_message("ann@example.com", "bob@example.org", CONTENT).code == 554
    client.command("MAIL FROM:<ann@example.com>", 250)
    client.command("RSET", 250)
    with RawClient(it.port) as other:
        other.hello()
        other.command(plain("me", "secret"), 235)
        other.command("MAIL FROM:<ann@example.com>", 250)
        assert client.command("MAIL FROM:<ann@example.com>", 450)
    wait_until(lambda: _may_send(client), "the share of a client that has gone to be given back")


def test_limits_outlive_a_restart(place: MakePlace, tmp_path: Path) -> None:
    account = Account("me", "secret", limits=(Allowance("messages", 1, 86400),))
    kept = {"spool": SpoolSettings(str(tmp_path), allow_temporary=True)}
    for number in range(2):
        it = place(accounts={"me": account}, settings_too=kept, **OPEN)
        client = it.client()
        client.hello()
        client.command(plain("me", "secret"), 235)
        if number == 0:
            assert client.answer_to_message("ann@example.com", "bob@example.org", CONTENT).code == 250
            client.command("QUIT", 221)
            it.server.stop()
        else:
            client.command("MAIL FROM:<ann@example.com>", 450)


def _may_send(client: RawClient) -> bool:
    client.send(b"MAIL FROM:<ann@example.com>\r\n")
    return client.answer().code == 250


# -- certificates


class Showing:
    """An authority for clients, a certificate of it, and one of somebody else."""

    def __init__(self, folder: Path, certificates: Certificates) -> None:
        self._folder = folder
        self._server = certificates
        self.authority = trustme.CA()
        self.ca_file = folder / "clients.pem"
        self.authority.cert_pem.write_to_path(self.ca_file)

    def tls(self, *, required: bool = False) -> ServerTls:
        return ServerTls(str(self._server.certificate), str(self._server.key), str(self.ca_file), required)

    def context(self, email: str | None = "printer@example.com", authority: trustme.CA | None = None) -> ssl.SSLContext:
        """For a client that shows a certificate, or none."""
        context = self._server.client_context()
        if email is not None:
            issued = (authority or self.authority).issue_cert(email, organization_name="Example")
            path = self._folder / "client.pem"
            issued.private_key_and_cert_chain_pem.write_to_path(path)
            context.load_cert_chain(path)
        return context


@pytest.fixture
def showing(tmp_path: Path, certificates: Certificates) -> Showing:
    """Certificates of clients."""
    return Showing(tmp_path, certificates)


PRINTER = Account("printer", certificates=("printer@example.com",))
BY_SUBJECT = Account("printer", certificates=(certificate_name("O=Example"),))


def secured(it: Any, context: ssl.SSLContext) -> tuple[RawClient, tuple[str, ...]]:
    """A client after STARTTLS, and what it was offered."""
    client = it.client()
    client.hello()
    client.command("STARTTLS", 220)
    client.start_tls(context)
    return client, client.command("EHLO printer.example", 250).lines


@pytest.mark.parametrize("account", [PRINTER, BY_SUBJECT])
def test_a_certificate_stands_for_its_account(place: MakePlace, showing: Showing, account: Account) -> None:
    it = place(accounts={"printer": account}, tls=showing.tls(), **ELSEWHERE)
    client, offered = secured(it, showing.context())
    assert "AUTH EXTERNAL" in offered
    assert client.answer_to_message("ann@example.com", "bob@example.org", CONTENT).code == 250
    assert it.server.told("received")[0]["account"] == "printer"
    assert it.server.told("auth_succeeded")[0]["mechanism"] == "certificate"
    assert b"with ESMTPS id" in it.sink.messages[0].trace


def test_auth_external(place: MakePlace, showing: Showing) -> None:
    it = place(accounts={"printer": PRINTER, "me": "secret"}, tls=showing.tls(), **ELSEWHERE)
    client, offered = secured(it, showing.context())
    assert "AUTH PLAIN LOGIN SCRAM-SHA-256 EXTERNAL" in offered
    client.command(f"AUTH EXTERNAL {b64('me')}", 535)
    client.command(f"AUTH EXTERNAL {b64('printer')}", 235)
    assert client.answer_to_message("ann@example.com", "bob@example.org", CONTENT).code == 250
    assert b"with ESMTPSA id" in it.sink.messages[0].trace
    client, _ = secured(it, showing.context())
    client.command("AUTH EXTERNAL", 334)
    client.command("", 235)
    client, _ = secured(it, showing.context())
    client.command(plain("me", "secret"), 235)
    assert client.answer_to_message("ann@example.com", "bob@example.org", CONTENT).code == 250
    assert it.server.told("received")[1]["account"] == "me"


def test_without_a_certificate_of_an_account_a_password_is_needed(place: MakePlace, showing: Showing) -> None:
    it = place(accounts={"printer": PRINTER, "me": "secret"}, tls=showing.tls(), **ELSEWHERE)
    for email in (None, "other@example.com"):
        client, offered = secured(it, showing.context(email))
        assert "AUTH PLAIN LOGIN SCRAM-SHA-256" in offered
        client.command("AUTH EXTERNAL =", 504)
        client.command("MAIL FROM:<ann@example.com>", 530)
        client.command(plain("me", "secret"), 235)


def test_a_certificate_of_a_strange_authority_ends_the_handshake(place: MakePlace, showing: Showing) -> None:
    it = place(accounts={"printer": PRINTER}, tls=showing.tls(), **ELSEWHERE)
    client = it.client()
    client.hello()
    client.command("STARTTLS", 220)
    with pytest.raises((ssl.SSLError, ConnectionError, EOFError, AssertionError)):
        _greet(client, showing.context(authority=trustme.CA()))
    it.server.wait_for("tls_failed")
    assert not it.server.told("auth_succeeded")


def test_where_certificates_are_required_nothing_goes_without(place: MakePlace, showing: Showing) -> None:
    it = place(accounts={"me": "secret"}, tls=showing.tls(required=True), mode="submission")
    client = it.client()
    client.hello()
    assert client.command("MAIL FROM:<ann@example.com>", 530).text == "5.7.0 TLS is required: say STARTTLS first"
    client, _ = secured(it, showing.context("other@example.com"))
    assert client.answer_to_message("ann@example.com", "bob@example.org", CONTENT).code == 250
    client = it.client()
    client.hello()
    client.command("STARTTLS", 220)
    with pytest.raises((ssl.SSLError, ConnectionError, EOFError, AssertionError)):
        _greet(client, showing.context(None))


def _greet(client: RawClient, context: ssl.SSLContext) -> None:
    """In TLS 1.3 a client hears that its certificate was refused when it reads next."""
    client.start_tls(context)
    client.command("EHLO printer.example", 250)


def test_certificates_with_implicit_tls(place: MakePlace, showing: Showing) -> None:
    it = place(accounts={"printer": PRINTER}, tls=showing.tls(), implicit_tls=True, **ELSEWHERE)
    client = it.client()
    client.start_tls(showing.context())
    client.expect(220)
    assert "AUTH EXTERNAL" in client.command("EHLO printer.example", 250).lines
    assert client.answer_to_message("ann@example.com", "bob@example.org", CONTENT).code == 250


def test_may_send_as_holds_for_certificates_and_auth_is_only_carried(place: MakePlace, showing: Showing) -> None:
    account = replace(PRINTER, may_send_as=("*@example.com",))
    it = place(accounts={"printer": account}, tls=showing.tls(), **ELSEWHERE)
    client, _ = secured(it, showing.context())
    assert client.command("MAIL FROM:<eve@example.net> AUTH=ann@example.com", 553).text.startswith("5.7.1 ")
    client.command("MAIL FROM:<ann@example.com> AUTH=eve@example.net", 250)
    client.command("RSET", 250)
    client.command("MAIL FROM:<>", 250)
