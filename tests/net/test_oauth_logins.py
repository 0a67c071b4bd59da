"""XOAUTH2 and OAUTHBEARER: an upstream, a token endpoint, and all that can go wrong between the two."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from rig.certificates import Certificates
from rig.client import Answer, RawClient
from rig.faults import close, hang
from rig.ports import free_port
from rig.running import HASTY, RunningServer, settings, upstream
from rig.sasl import Accounts
from rig.sink import StoringSink
from rig.token_endpoint import TokenEndpoint
from waypost.routing.health import State
from waypost.routing.login import Login, OAuth2
from waypost.smtp.sasl import Secret

MAILBOX = "me@example.com"
CONTENT = b"Subject: x\r\n\r\nHello\r\n"


class House:
    """Waypost, an upstream that takes tokens, a second one that takes everything, and the endpoint."""

    def __init__(self, stack: ExitStack, endpoint: TokenEndpoint, sink: StoringSink, second: StoringSink) -> None:
        self.stack = stack
        self.endpoint = endpoint
        self.sink = sink
        self.second = second
        self.port = 0
        self.server: RunningServer | None = None
        self.client: RawClient | None = None

    def open(self, *, alone: bool = False, connections: int = 20, **more: Any) -> "House":
        fields: dict[str, Any] = {
            "token_url": f"{self.endpoint.url}/token",
            "client_id": "waypost",
            "refresh_token": Secret("refresh"),
            "ca_file": str(self.endpoint.certificates.ca_file),
        }
        login = {name: more.pop(name) for name in ("username", "authorize_as", "mechanism") if name in more}
        fields |= {name: more.pop(name) for name in ("timeout",) if name in more}
        oauth2 = OAuth2(**fields)
        first = upstream(
            "first",
            self.sink.port,
            credentials=Login(**({"username": MAILBOX} | login), oauth2=oauth2),
            allow_plaintext_auth=True,
            max_connections=connections,
            **({"max_messages": 1} | more),  # 1: so that every message needs a login
        )
        port = self.port = free_port()
        upstreams = (first,) if alone else (first, upstream("second", self.second.port))
        self.server = self.stack.enter_context(RunningServer(settings(port, *upstreams)))
        self.client = self.stack.enter_context(RawClient(port))
        self.client.hello()
        return self

    def send(self) -> Answer:
        assert self.client is not None
        return self.client.answer_to_message("ann@example.com", "bob@example.org", CONTENT)

    def operational(self, event: str) -> list[Any]:
        assert self.server is not None
        return [record for record in self.server.operational if record["event"] == event]

    def told(self) -> Any:
        assert self.server is not None
        return self.server.told("attempted")

    def health(self) -> State:
        assert self.server is not None
        return self.server.health("first")


@pytest.fixture
def house(
    certificates: Certificates, make_sink: Callable[[StoringSink], StoringSink], sink: StoringSink
) -> Iterator[House]:
    with ExitStack() as stack:
        endpoint = stack.enter_context(TokenEndpoint(certificates))
        endpoint.refresh_tokens["refresh"] = MAILBOX
        logins = Accounts({}, tokens=endpoint.issued)
        first = make_sink(StoringSink(logins=logins, mechanisms=("PLAIN", "XOAUTH2", "OAUTHBEARER")))
        yield House(stack, endpoint, first, sink)


@pytest.mark.parametrize("mechanism", [None, "XOAUTH2", "OAUTHBEARER"])
def test_a_token_opens_many_sessions(house: House, mechanism: str | None) -> None:
    house.open(mechanism=mechanism)
    for _ in range(4):
        assert house.send().code == 250
    assert [message.username for message in house.sink.messages] == [MAILBOX] * 4
    assert house.sink.logins is not None
    assert {used for used, _ in house.sink.logins.logins} == {mechanism or "OAUTHBEARER"}
    assert len(house.endpoint.asked) == 1
    assert house.server is not None
    assert 'waypost_oauth_token_requests_total{outcome="fetched",upstream="first"} 1.0' in house.server.metrics()
    [fetched] = house.operational("token_fetched")
    assert (fetched["upstream"], fetched["lifetime"]) == ("first", 3600)


def test_its_end_is_seen_to_before_it_comes(house: House) -> None:
    house.open()
    house.send()
    assert house.server is not None
    house.server.put_forward(3600)
    assert house.send().code == 250
    assert len(house.endpoint.asked) == 2
    assert len(house.sink.messages) == 2


@pytest.mark.parametrize("mechanism", ["XOAUTH2", "OAUTHBEARER"])
@pytest.mark.parametrize("leaves", [False, True])
def test_a_token_that_is_revoked_early_is_replaced_once(house: House, mechanism: str, leaves: bool) -> None:
    """The retry goes over the same connection, or over a new one when the upstream has hung up."""
    house.open(mechanism=mechanism)
    assert house.send().code == 250
    house.endpoint.issued["access-1"] = "nobody"
    if leaves:
        house.sink.on("auth", close(b"535 5.7.8 Username and Password not accepted\r\n"))
    assert house.send().code == 250
    assert len(house.sink.messages) == 2
    assert len(house.endpoint.asked) == 2
    assert house.sink.sessions == (3 if leaves else 2)
    assert house.health() is State.CLOSED
    assert not house.second.messages


@pytest.mark.parametrize("leaves", [False, True])
def test_a_token_that_is_revoked_before_a_client_is_announced_is_replaced_too(house: House, leaves: bool) -> None:
    """Behind XCLIENT the session starts over, AUTH included: the same connection, another client, an old token."""
    house.sink.extensions = (*house.sink.extensions, "XCLIENT NAME ADDR PORT PROTO HELO LOGIN")
    house.open(client_address="xclient", max_messages=100)
    assert house.send().code == 250
    house.endpoint.issued["access-1"] = "nobody"
    if leaves:
        house.sink.on("auth", close(b"535 5.7.8 Username and Password not accepted\r\n"))
    assert house.server is not None
    with RawClient(house.port) as other:
        other.hello("other.example")
        assert other.answer_to_message("ann@example.com", "bob@example.org", CONTENT).code == 250
    assert len(house.sink.messages) == 2
    assert house.sink.sessions == (2 if leaves else 1)
    assert not house.second.messages
    assert len(house.endpoint.asked) == 2
    assert house.health() is State.CLOSED


def test_when_the_second_token_is_refused_too_the_upstream_sleeps(house: House) -> None:
    house.open()
    house.send()
    assert house.sink.logins is not None
    house.sink.logins.tokens = {}
    assert house.send().code == 250
    assert len(house.second.messages) == 1
    assert len(house.endpoint.asked) == 2
    assert house.sink.verbs().count("AUTH") == 3
    [attempt] = house.told()
    assert (attempt["classification"], attempt["code"], attempt["phase"]) == ("login-refused", 535, "auth")
    # The JSON of the challenge that came before the 535, without the token that it repeats.
    assert "status 400, schemes Bearer, scope https://mail.example/, seen (secret)" in attempt["text"]
    assert house.health() is State.ASLEEP
    [down] = house.operational("upstream_down")
    assert down["log_level"] == "error"
    assert house.send().code == 250
    assert len(house.endpoint.asked) == 2, "while it sleeps nobody asks for tokens"


def test_a_revoked_grant_fails_over_and_says_what_to_do(house: House) -> None:
    house.endpoint.refresh_tokens.clear()
    house.open()
    assert house.send().code == 250
    assert len(house.second.messages) == 1
    assert house.sink.sessions == 0, "without a token there is nothing to connect for"
    [attempt] = house.told()
    assert attempt["classification"] == "login-impossible"
    assert (attempt["cause"], attempt["phase"]) == ("login", "auth")
    assert "invalid_grant: Token has been expired or revoked." in attempt["text"]
    assert house.health() is State.ASLEEP
    [failed] = house.operational("token_not_fetched")
    assert failed["log_level"] == "error"
    assert "waypost oauth login first" in failed["advice"]
    assert house.server is not None
    assert 'waypost_oauth_token_requests_total{outcome="revoked",upstream="first"} 1.0' in house.server.metrics()


def test_a_revoked_grant_after_the_token_was_refused(house: House) -> None:
    house.open()
    house.send()
    house.endpoint.issued.clear()
    house.endpoint.refresh_tokens.clear()
    assert house.send().code == 250
    assert "invalid_grant" in house.told()[0]["text"]
    assert len(house.second.messages) == 1


def test_a_slow_endpoint_fails_over(house: House) -> None:
    house.endpoint.silent = threading.Event()
    house.open(timeout=0.3)
    assert house.send().code == 250
    assert len(house.second.messages) == 1
    assert "no answer within 0.3 s" in house.told()[0]["text"]
    assert house.health() is State.ASLEEP


@pytest.mark.parametrize("mechanism", ["XOAUTH2", "OAUTHBEARER"])
def test_an_upstream_that_is_slow_to_judge_a_token_fails_over_and_the_token_is_kept(
    house: House, mechanism: str
) -> None:
    house.sink.on("auth", hang())
    house.open(mechanism=mechanism, timeouts=HASTY)
    assert house.send().code == 250
    assert [(each["phase"], each["classification"]) for each in house.told()] == [("auth", "timeout")]
    assert (len(house.sink.messages), len(house.second.messages)) == (0, 1)
    assert house.health() is State.CLOSED, "one failure of health, and no refused login"
    assert house.send().code == 250
    assert len(house.sink.messages) == 1
    assert len(house.endpoint.asked) == 1, "it was not refused, so no other was asked for"


def test_alone_it_is_a_temporary_failure_without_a_word_of_the_endpoint_lost(house: House) -> None:
    house.endpoint.plan(b"<html>", b"<html>")
    house.open(alone=True)
    answer = house.send()
    assert answer.code == 451
    assert "it answers 200, and nothing that makes sense" in answer.text


def test_the_delegate_of_a_shared_mailbox(house: House) -> None:
    house.endpoint.refresh_tokens["refresh"] = "shared@example.com"
    house.open(username="delegate@example.com", authorize_as="shared@example.com")
    assert house.send().code == 250
    assert house.sink.messages[0].username == "shared@example.com"


def test_an_upstream_without_a_mechanism_for_tokens(house: House) -> None:
    house.sink.mechanisms = ("PLAIN", "LOGIN")
    house.open()
    assert house.send().code == 250
    assert "AUTH is offered with PLAIN, LOGIN" in house.told()[0]["text"]
    assert "AUTH" not in house.sink.verbs()


def test_no_token_is_in_any_record(house: House) -> None:
    house.open()
    house.send()
    house.endpoint.issued["access-1"] = "nobody"
    house.send()
    assert house.server is not None
    said = f"{house.server.operational} {house.server.records} {house.server.metrics()}"
    for secret in ("access-1", "access-2", 'refresh"'):
        assert secret not in said
