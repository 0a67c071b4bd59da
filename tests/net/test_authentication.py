"""Who may submit: AUTH before MAIL, wrong passwords, and networks that need none."""

import base64
from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

import pytest

from rig.certificates import Certificates
from rig.client import RawClient
from rig.running import seconds_for

CONTENT = b"Subject: hello\r\n\r\nbody\r\n"
ACCOUNTS = {"me": "secret", "other": "pass:w\u00f6rd"}
ELSEWHERE = (ip_network("10.0.0.0/8"),)
MakePlace = Callable[..., Any]


def plain(name: str, password: str) -> str:
    return "AUTH PLAIN " + base64.b64encode(f"\0{name}\0{password}".encode()).decode()


@pytest.fixture
def submission(place: MakePlace) -> Any:
    return place(mode="submission", accounts=ACCOUNTS, trusted_networks=ELSEWHERE, allow_plaintext_auth=True)


def test_auth_is_required_before_mail(submission: Any) -> None:
    client = submission.client()
    assert "AUTH PLAIN LOGIN SCRAM-SHA-256" in client.hello().lines
    assert client.command("MAIL FROM:<ann@example.com>", 530).text.startswith("5.7.0 ")
    client.command(plain("me", "secret"), 235)
    assert client.answer_to_message("ann@example.com", "bob@example.org", CONTENT).code == 250
    assert b"with ESMTPA id" in submission.sink.messages[0].trace
    assert submission.server.told("received")[0]["account"] == "me"
    client.command(plain("me", "secret"), 503)


def test_login_and_passwords_that_are_not_ascii(submission: Any) -> None:
    client = submission.client()
    client.hello()
    client.command("AUTH LOGIN", 334)
    client.command(base64.b64encode(b"other").decode(), 334)
    client.command(base64.b64encode("pass:w\u00f6rd".encode()).decode(), 235)


@pytest.mark.parametrize(("name", "password"), [("me", "wrong"), ("me", ""), ("nobody", "secret"), ("ME", "secret")])
def test_wrong_credentials_are_answered_late(name: str, password: str, submission: Any) -> None:
    client = submission.client()
    client.hello()
    answers: list[Any] = []
    taken = seconds_for(lambda: answers.append(client.command(plain(name, password or "-"), 535)))
    assert answers[0].text.startswith("5.7.8 ")
    assert taken >= 0.45
    [record] = submission.server.told("auth_failed")
    assert record["username"] == name
    client.command("MAIL FROM:<ann@example.com>", 530)


def test_three_wrong_passwords_end_the_session(submission: Any) -> None:
    client = submission.client()
    client.hello()
    for _ in range(2):
        client.command(plain("me", "wrong"), 535)
    client.send(plain("me", "wrong").encode() + b"\r\n")
    client.expect(535)
    assert client.expect(421).text.startswith("4.7.0 ")
    client.expect_end()


def test_guessing_gets_slower_over_sessions(submission: Any) -> None:
    def guess() -> None:
        with RawClient(submission.port) as client:
            client.hello()
            client.command(plain("me", "wrong"), 535)

    times = [seconds_for(guess) for _ in range(4)]
    assert times[0] < 0.9
    assert times[3] > 1.4, times


def test_a_trusted_network_needs_no_password(place: MakePlace) -> None:
    it = place(mode="submission", accounts=ACCOUNTS)  # loopback is trusted
    client = it.client()
    client.hello()
    assert client.answer_to_message("ann@example.com", "bob@example.org", CONTENT).code == 250


def test_passwords_do_not_travel_in_the_clear(place: MakePlace, certificates: Certificates) -> None:
    it = place(mode="submission", accounts=ACCOUNTS, trusted_networks=ELSEWHERE, tls=True)
    client = it.client()
    assert "AUTH" not in client.hello().text
    assert client.command(plain("me", "secret"), 538).text.startswith("5.7.11 ")
    client.command("STARTTLS", 220)
    client.start_tls(certificates.client_context())
    assert "AUTH PLAIN LOGIN SCRAM-SHA-256" in client.command("EHLO again.example", 250).lines
    client.command(plain("me", "secret"), 235)
    assert client.answer_to_message("ann@example.com", "bob@example.org", CONTENT).code == 250
    assert b"with ESMTPSA id" in it.sink.messages[0].trace


def test_many_logins_at_once_are_each_answered(submission: Any) -> None:
    clients = [submission.client() for _ in range(20)]
    for client in clients:
        client.hello()
    for number, client in enumerate(clients):
        client.send(plain("me", "secret" if number % 2 else f"wrong{number}").encode() + b"\r\n")
    assert [client.answer().code for client in clients] == [235 if number % 2 else 535 for number in range(20)]


def test_argon2_passwords_are_checked(place: MakePlace) -> None:
    from argon2 import PasswordHasher

    hashed = PasswordHasher(time_cost=1, memory_cost=64).hash("secret")
    it = place(mode="submission", accounts={"me": hashed}, trusted_networks=ELSEWHERE, allow_plaintext_auth=True)
    client = it.client()
    client.hello()
    client.command(plain("me", hashed), 535)
    client.command(plain("me", "secret"), 235)
    again = it.client()
    again.hello()
    again.command(plain("me", "secret"), 235)
