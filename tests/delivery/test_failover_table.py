"""Every row of the table of what fails over (semantics, section 3), at every phase, by the faults of `waypost sink`.

Each session has all that a session can have: STARTTLS with a verified certificate, and AUTH. `test_failover` has the
same table against a sink that shares no code with Waypost, and more of its corners.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from rig.certificates import Certificates
from rig.client import Answer, RawClient
from rig.ports import free_port
from rig.running import HASTY, RunningServer, settings, upstream
from rig.running_sink import RunningSink
from waypost.config.settings import Settings, SpoolSettings
from waypost.net.settings import ServerTls
from waypost.routing.health import State
from waypost.routing.login import Login
from waypost.routing.route import Backoff, UpstreamTls
from waypost.smtp.sasl import Secret

CONTENT = b"Subject: hello\r\n\r\nbody\r\n"
LARGE = CONTENT + (b"x" * 998 + b"\r\n") * 16_000  # an upstream that ends in its middle is seen before the dot
COMMANDS = ("greeting", "ehlo", "starttls", "auth", "mail", "rcpt", "data")
BEFORE_MAIL = COMMANDS[:4]


@dataclass(frozen=True)
class Row:
    """What an upstream does, how that is judged, and what is thought of it after three such messages."""

    fault: str
    rule: str
    then: State = State.OPEN
    content: bytes = CONTENT

    def __str__(self) -> str:
        return self.fault

    @property
    def hasty(self) -> bool:
        return "hang" in self.fault


def anywhere(phase: str) -> list[Row]:
    """Any command before the final dot: 421, the end, a time-out, or what is no SMTP."""
    refused = "starttls-refused" if phase == "starttls" else "site-refused" if phase in BEFORE_MAIL else "transient"
    return [
        Row(f"{phase}=close-after 421 4.3.2 Going down", "closing"),
        Row(f"{phase}=close", "closed"),
        Row(f"{phase}=hang", "timeout"),
        *[Row(f"{phase}=garbage {kind}", "not-smtp") for kind in ("binary", "endless", "mismatch")],
        Row(f"{phase}=450 4.2.0 Not now", refused, State.OPEN if phase in BEFORE_MAIL else State.CLOSED),
    ]


DAILY = "550 5.4.5 Daily user sending limit exceeded"
RATE = "454 4.7.0 Throttling failure: maximum sending rate exceeded"
OURS = "452 4.2.2 Over quota"
FAIL_OVER = [
    Row("connect=close", "closed"),
    Row("connect=hang", "timeout"),
    *[row for phase in COMMANDS for row in anywhere(phase)],
    *[Row(f"{phase}=554 5.7.0 We do not like you", "site-refused") for phase in ("greeting", "ehlo")],
    Row("starttls=554 5.7.0 No", "starttls-refused"),
    *[Row(f"auth={text}", "login-refused", State.ASLEEP) for text in ("535 5.7.8 Wrong", "554 5.7.0 Locked")],
    Row("mail=553 5.7.1 Sender address rejected: not owned by user me", "sender-not-allowed", State.CLOSED),
    Row("mail=552 5.3.4 Message size exceeds fixed maximum", "too-large", State.CLOSED),
    Row("content=close", "closed", content=LARGE),
    Row("dot=450 4.2.0 Not now", "transient", State.CLOSED),
    Row("dot=close-after 421 4.3.2 Going down", "transient", State.CLOSED),
    *[Row(f"{phase}={DAILY}", "gmail-daily-limit", State.ASLEEP) for phase in (*COMMANDS, "dot")],
    *[Row(f"{phase}={RATE}", "periodic-limit", State.ASLEEP) for phase in (*COMMANDS, "dot")],
    *[Row(f"{phase}={OURS}", "quota-452", State.ASLEEP) for phase in ("mail", "data", "dot")],
]
FINAL = [
    "mail=550 5.7.1 No spam, please",
    "rcpt=550 5.1.1 No such user",
    "data=554 5.6.0 Never",
    "dot=554 5.7.1 Spam message rejected",
]


class House:
    """Two sinks, the first of which does wrong, and what a session with either needs."""

    def __init__(self, folder: Path, certificates: Certificates) -> None:
        self._folder = folder
        self._tls = UpstreamTls("starttls", ca_file=str(certificates.ca_file))
        more: dict[str, Any] = {
            "tls": ServerTls(str(certificates.certificate), str(certificates.key)),
            "accounts": {"me": "secret"},
        }
        self.first, self.second = RunningSink(**more), RunningSink(**more)
        self.port = free_port()

    def settings(self, *, alone: bool = False, hasty: bool = False, spooled: bool = False, **first: Any) -> Settings:
        common: dict[str, Any] = {"host": "localhost", "tls": self._tls, "credentials": Login("me", Secret("secret"))}
        timeouts = {"timeouts": HASTY, "background_timeouts": HASTY} if hasty else {}
        one = upstream("first", first.pop("port", self.first.port), **(common | timeouts | first))
        both = (one,) if alone else (one, upstream("second", self.second.port, **common))
        if not spooled:
            return settings(self.port, *both)
        made = settings(self.port, *both, acceptance="spool", backoff=Backoff((60,), jitter=0))
        return replace(made, spool=SpoolSettings(str(self._folder / "spool"), allow_temporary=True))

    def does(self, *faults: str) -> None:
        self.first.call(lambda sink: sink.replace_faults(faults))

    @property
    def messages(self) -> tuple[int, int]:
        return len(self.first.running.messages), len(self.second.running.messages)


@pytest.fixture
def house(tmp_path: Path, certificates: Certificates) -> Iterator[House]:
    made = House(tmp_path, certificates)
    with made.first, made.second:
        yield made


def send(client: RawClient, content: bytes = CONTENT) -> Answer:
    return client.answer_to_message("ann@example.com", "bob@example.org", content)


@pytest.mark.parametrize("row", FAIL_OVER, ids=str)
def test_it_fails_over(row: Row, house: House) -> None:
    house.does(row.fault)
    with RunningServer(house.settings(hasty=row.hasty)) as server, RawClient(house.port) as client:
        client.hello()
        for _ in range(3):
            assert send(client, row.content).code == 250
        attempts = [(each["upstream"], each["classification"]) for each in server.told("attempted")]
        assert attempts == [("first", row.rule)] * (1 if row.then is State.ASLEEP else 3)
        assert {each["upstream"] for each in server.told("relayed")} == {"second"}
        assert server.health("first") is row.then
    assert house.messages == (0, 3), "each once, and nowhere twice"


@pytest.mark.parametrize(
    "row", [row for row in FAIL_OVER if row.rule not in ("sender-not-allowed", "too-large")], ids=str
)
def test_alone_it_is_temporary_and_never_in_words_that_say_never(row: Row, house: House) -> None:
    house.does(row.fault)
    with RunningServer(house.settings(alone=True, hasty=row.hasty)), RawClient(house.port) as client:
        client.hello()
        answer = send(client, row.content)
        assert answer.code // 100 == 4, answer
        assert answer.code != 421, "our own session goes on"
        assert answer.text.startswith("4."), answer
        client.command("RSET", 250)
    assert house.messages == (0, 0)


@pytest.mark.parametrize("fault", FINAL)
def test_it_is_final(fault: str, house: House) -> None:
    house.does(fault)
    with RunningServer(house.settings()) as server, RawClient(house.port) as client:
        client.hello()
        answer = send(client)
        assert f"{answer.code} {answer.text}".startswith(fault.partition("=")[2])
        assert server.health("first") is State.CLOSED
    assert house.second.running.sessions == 0


def test_required_tls_that_is_not_offered_is_not_done_without(house: House) -> None:
    with (
        RunningSink(accounts={"me": "secret"}) as plain,
        RunningServer(house.settings(port=plain.port)) as server,
        RawClient(house.port) as client,
    ):
        client.hello()
        for _ in range(3):
            assert send(client).code == 250
        assert server.health("first") is State.OPEN
        assert {each["classification"] for each in server.told("attempted")} == {"tls"}
        assert not plain.running.messages
    assert house.messages == (0, 3)


def test_a_certificate_that_is_not_right_is_not_good_enough(house: House) -> None:
    wrong = UpstreamTls("starttls", fingerprints=("00" * 32,))
    with RunningServer(house.settings(tls=wrong)) as server, RawClient(house.port) as client:
        client.hello()
        for _ in range(3):
            assert send(client).code == 250
        assert server.health("first") is State.OPEN
        assert {each["classification"] for each in server.told("attempted")} == {"certificate"}
    assert house.messages == (0, 3)


@pytest.mark.parametrize("fault", ["dot=close", "after-dot=close", "dot=hang", "after-dot=hang"])
def test_a_dot_without_an_answer_is_in_doubt_and_goes_nowhere_else(fault: str, house: House) -> None:
    house.does(fault)
    with RunningServer(house.settings(hasty=True)) as server, RawClient(house.port) as client:
        client.hello()
        answer = send(client)
        assert f"{answer.code} {answer.text}".startswith("451 4.4.2")
        [record] = server.told("in_doubt")
        assert (record["upstream"], record["classification"]) == ("first", "in-doubt")
        assert server.told("relayed") == server.told("attempted") == []
    assert house.messages == (fault.startswith("after-dot"), 0)
    assert house.second.running.sessions == 0


@pytest.mark.parametrize("fault", ["mail=close-after 421 4.4.2 Idle for too long", "mail=close"])
def test_a_kept_connection_that_has_gone_is_made_anew_once_in_silence(fault: str, house: House) -> None:
    house.does(f"{fault} after:1 first:1")
    with RunningServer(house.settings()) as server, RawClient(house.port) as client:
        client.hello()
        for _ in range(2):
            assert send(client).code == 250
        assert server.told("attempted") == []
        assert server.health("first") is State.CLOSED
    assert house.messages == (2, 0)
    assert house.first.running.sessions == 2


def test_what_is_said_of_one_recipient_concerns_that_one(house: House) -> None:
    """4yz: on to the next upstream; 452 4.5.3: in another transaction to the same; 5yz: that was it."""
    house.does(
        "rcpt=450 4.2.0 Not now to:later@*",
        "rcpt=452 4.5.3 Too many to:more@* first:1",
        "rcpt=550 5.1.1 Who to:never@*",
    )
    with RunningServer(house.settings(spooled=True)) as server, RawClient(house.port) as client:
        client.hello()
        client.mail("ann@example.com", *(f"{name}@example.org" for name in ("now", "later", "more", "never")))
        client.send(CONTENT + b".\r\n")
        client.expect(250)
        [failed] = server.wait_for("failed")
        assert failed["recipients"] == ["never@example.org"]
        server.wait_for("relayed", 4)
    first, second = house.first.running.messages, house.second.running.messages
    notified = ("ann@example.com",)
    assert [message.recipients for message in first] == [("now@example.org",), ("more@example.org",), notified]
    assert [message.recipients for message in second] == [("later@example.org",)]


def test_after_2yz_to_the_dot_nothing_that_follows_matters(house: House) -> None:
    house.does("quit=554 5.0.0 No", "rset=554 5.0.0 No")
    with RunningServer(house.settings(max_messages=1)) as server, RawClient(house.port) as client:
        client.hello()
        for _ in range(2):
            assert send(client).code == 250
        assert server.told("attempted") == []
    assert house.messages == (2, 0)
