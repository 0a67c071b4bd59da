"""The table of what fails over, row by row and phase by phase, over real sockets.

Each case makes the first upstream misbehave in one way. With a second one behind it, the message must arrive
there, once, or must not; with none, the client must be told what the table says.
"""

import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from rig.certificates import Certificates, make_certificates
from rig.client import Answer, RawClient
from rig.faults import Fault, Phase, close, garbage, hang, hold, say
from rig.ports import free_port
from rig.running import HASTY, RunningServer, settings, upstream
from rig.sink import EXTENSIONS, StoringSink
from waypost.net.certificates import fingerprint
from waypost.routing.health import State
from waypost.routing.login import Login
from waypost.routing.route import UpstreamTls
from waypost.smtp.sasl import Secret

MakeSink = Callable[[StoringSink], StoringSink]
CONTENT = b"Subject: hello\r\n\r\nbody\r\n"
LARGE = CONTENT + (b"x" * 998 + b"\r\n") * 16_000
"""More than fits into the kernel's buffers: an upstream that ends in the middle is seen before the dot is sent."""
BINARY = garbage(b"\x00\xff\xfe not SMTP\r\n")
ENDLESS = hang(b"250-" + b"x" * 100_000)
CROSSED = garbage(b"250-one code\r\n550 another\r\n")
UNASKED = garbage(b"250 2.0.0 OK\r\n250 2.0.0 and OK again\r\n")
RETRYING = say("450 4.2.0 Not now")
LEAVING = say("421 4.3.2 Going down")
REFUSING = say("554 5.7.0 We do not like you")


@dataclass(frozen=True)
class Case:
    """One way to fail: what an upstream does where, how that is judged, and what the client hears if it is alone."""

    phase: Phase
    fault: Fault
    rule: str
    told: str
    hasty: bool = False
    failure: bool = True  # it counts against the upstream's health
    content: bytes = CONTENT
    name: str = field(default="")

    def __str__(self) -> str:
        return f"{self.phase}-{self.name}"


def silences(phase: Phase, enhanced: str = "4.4.1") -> Case:
    return Case(phase, hang(), "timeout", f"451 {enhanced} no answer within", hasty=True, name="silence")


def site(phase: Phase) -> list[Case]:
    """What can go wrong wherever a command has been sent, and means that the upstream is not well."""
    return [
        Case(phase, LEAVING, "closing", "451 4.3.2 Going down", name="421"),
        Case(phase, close(), "closed", "451 4.4.2 the upstream closed the connection", name="end"),
        Case(phase, close(b"250 half a rep"), "closed", "451 4.4.2 the upstream closed", name="half a line"),
        silences(phase),
        Case(phase, BINARY, "not-smtp", "451 4.5.0 ", name="binary"),
        Case(phase, ENDLESS, "not-smtp", "451 4.5.0 a line of the reply is endless", name="endless line"),
        Case(phase, CROSSED, "not-smtp", "451 4.5.0 a reply changes its code", name="two codes"),
    ]


CASES = [
    *site("connect"),
    Case("connect", RETRYING, "site-refused", "451 4.2.0 Not now", name="4yz"),
    Case("connect", REFUSING, "site-refused", "451 4.4.1 We do not like you", name="5yz"),
    Case("connect", garbage(b"354 go ahead\r\n"), "not-smtp", "451 4.5.0 ", name="wrong code"),
    *site("ehlo"),
    Case("ehlo", RETRYING, "site-refused", "451 4.2.0 Not now", name="4yz"),
    Case("ehlo", REFUSING, "site-refused", "451 4.4.1 We do not like you", name="5yz"),
    *site("mail"),
    Case("mail", RETRYING, "transient", "450 4.2.0 Not now", failure=False, name="4yz"),
    Case("mail", garbage(b"334 what\r\n"), "not-smtp", "451 4.5.0 ", name="wrong code"),
    *site("rcpt"),
    Case("rcpt", RETRYING, "transient", "450 4.2.0 Not now", failure=False, name="4yz"),
    *site("data"),
    Case("data", RETRYING, "transient", "450 4.2.0 Not now", failure=False, name="4yz"),
    Case("data", garbage(b"250 2.0.0 no 354\r\n"), "not-smtp", "451 4.5.0 ", name="wrong code"),
    Case("content", close(), "closed", "451 4.4.2 the upstream closed", content=LARGE, name="end"),
    Case("dot", RETRYING, "transient", "450 4.2.0 Not now", failure=False, name="4yz"),
    Case("dot", LEAVING, "transient", "451 4.3.2 Going down", failure=False, name="421"),
]  # fmt: skip


def quotas() -> list[Case]:
    daily = "550 5.4.5 Daily user sending limit exceeded"
    return [
        Case(phase, say(text), rule, "451 ", failure=False, name=text[:9])
        for phase in ("mail", "rcpt", "data", "dot")
        for text, rule in (
            (daily, "gmail-daily-limit"),
            ("454 4.7.0 Throttling failure: maximum sending rate exceeded", "periodic-limit"),
        )
    ]


@pytest.fixture
def second(make_sink: MakeSink) -> StoringSink:
    return make_sink(StoringSink(name="second.example"))


def timeouts_of(case: Case) -> dict[str, Any]:
    return {"timeouts": HASTY} if case.hasty else {}


def send(client: RawClient, content: bytes = CONTENT) -> Answer:
    return client.answer_to_message("ann@example.com", "bob@example.org", content)


def shown(answer: Answer) -> str:
    return f"{answer.code} {' '.join(answer.lines)}"


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_next_upstream_takes_what_the_first_fails_at(case: Case, sink: StoringSink, second: StoringSink) -> None:
    sink.on(case.phase, case.fault, None)
    port = free_port()
    first = upstream("first", sink.port, **timeouts_of(case))
    with (
        RunningServer(settings(port, first, upstream("second", second.port))) as server,
        RawClient(port) as client,
    ):
        client.hello()
        answer = send(client, case.content)
        assert answer.code == 250, shown(answer)
        assert answer.lines[-1].startswith("2.0.0 stored as 1 (id ")
        attempts = server.told("attempted")
        assert [(a["upstream"], a["classification"]) for a in attempts] == [("first", case.rule)]
        [relayed] = server.told("relayed")
        assert relayed["upstream"] == "second"
        # Two more failures open it; an answer about this message does not.
        for _ in range(2):
            assert send(client, case.content).code == 250
        assert server.health("first") is (State.OPEN if case.failure else State.CLOSED)
    assert sink.messages == []
    assert [message.recipients for message in second.messages] == [("bob@example.org",)] * 3


@pytest.mark.parametrize("case", CASES, ids=str)
def test_alone_its_failure_is_told_as_temporary(case: Case, sink: StoringSink) -> None:
    sink.on(case.phase, case.fault)
    port = free_port()
    with RunningServer(settings(port, upstream("first", sink.port, **timeouts_of(case)))) as server:
        with RawClient(port) as client:
            client.hello()
            answer = send(client, case.content)
            assert shown(answer).startswith(case.told)
            # The session goes on, and so does the upstream when it is well again.
            client.command("RSET", 250)
            sink.behave()
            assert send(client).code == 250
        assert len(server.told("relayed")) == 1
    assert len(sink.messages) == 1


@pytest.mark.parametrize("case", quotas(), ids=str)
def test_a_spent_quota_fails_over_and_puts_the_upstream_to_sleep(
    case: Case, sink: StoringSink, second: StoringSink
) -> None:
    sink.on(case.phase, case.fault)
    port = free_port()
    both = upstream("first", sink.port), upstream("second", second.port)
    with RunningServer(settings(port, *both)) as server, RawClient(port) as client:
        client.hello()
        assert send(client).code == 250
        assert server.told("attempted")[0]["classification"] == case.rule
        assert server.health("first") is State.ASLEEP
        assert send(client).code == 250
        assert len(second.messages) == 2
        server.put_forward(24 * 3600)
        assert send(client).code == 250
        assert server.health("first") is State.CLOSED
    assert len(sink.messages) == 1


FINAL = [
    ("mail", "550 5.7.1 No spam, please"),
    ("mail", "555 5.5.4 What is this parameter"),
    ("rcpt", "550 5.1.1 No such user"),
    ("rcpt", "552 5.2.2 Mailbox full"),
    ("data", "554 5.6.0 Never"),
    ("dot", "554 5.7.1 Spam message rejected"),
    ("dot", "552 5.3.4 Message too big"),
]


@pytest.mark.parametrize(("phase", "text"), FINAL)
def test_a_permanent_refusal_is_final(phase: Phase, text: str, sink: StoringSink, second: StoringSink) -> None:
    sink.on(phase, say(text))
    port = free_port()
    both = upstream("first", sink.port), upstream("second", second.port)
    with RunningServer(settings(port, *both)) as server, RawClient(port) as client:
        client.hello()
        assert shown(send(client)).startswith(text)
        assert server.health("first") is State.CLOSED
    assert second.sessions == 0, "nobody else was even asked"


@pytest.mark.parametrize(("phase", "text"), FINAL)
def test_a_permanent_refusal_is_passed_through_though_an_earlier_upstream_was_down(
    phase: Phase, text: str, sink: StoringSink
) -> None:
    """Decided so: who was asked and said no for good has answered; that somebody else was down changes nothing."""
    sink.on(phase, say(text))
    port = free_port()
    with (
        RunningServer(settings(port, upstream("down", free_port()), upstream("up", sink.port))),
        RawClient(port) as client,
    ):
        client.hello()
        assert shown(send(client)).startswith(text)


@pytest.mark.parametrize(
    "text",
    [
        "553 5.7.1 <ann@example.com>: Sender address rejected: not owned by user me",
        "554 5.7.1 Message rejected: Email address is not verified",
        "550 5.7.60 SMTP; Client does not have permissions to send as this sender",
    ],
)
def test_a_sender_that_one_provider_does_not_know_is_tried_at_the_next(
    text: str, sink: StoringSink, second: StoringSink
) -> None:
    sink.on("mail", say(text), None)
    port = free_port()
    both = upstream("first", sink.port), upstream("second", second.port)
    with RunningServer(settings(port, *both)) as server, RawClient(port) as client:
        client.hello()
        assert send(client).code == 250
        assert server.health("first") is State.CLOSED
        second.on("mail", say(text), None)
        assert shown(send(client)).startswith(text), "nobody takes it, and that is permanent"
    assert len(second.messages) == 1


def test_a_message_too_large_for_one_goes_to_one_with_more_room(make_sink: MakeSink, sink: StoringSink) -> None:
    small = make_sink(StoringSink(extensions=("PIPELINING", "SIZE 1000")))
    surprised = make_sink(StoringSink())
    surprised.on("mail", say("552 5.3.4 Message size exceeds fixed maximum message size"), None)
    port = free_port()
    pool = [upstream("small", small.port), upstream("surprised", surprised.port), upstream("large", sink.port)]
    with RunningServer(settings(port, *pool)) as server, RawClient(port) as client:
        client.hello()
        client.command("MAIL FROM:<ann@example.com> SIZE=5000", 250)
        client.command("RCPT TO:<bob@example.org>", 250)
        client.command("DATA", 354)
        client.send(b"x" * 4000 + b"\r\n.\r\n")
        client.expect(250)
        assert server.health("small") is State.CLOSED
    assert "MAIL" not in small.verbs(), "it said beforehand that it has no room"
    assert [message.parameters for message in sink.messages] == [("SIZE=5000",)]


def test_a_message_too_large_for_everybody_is_refused_for_good(make_sink: MakeSink) -> None:
    small = make_sink(StoringSink(extensions=("SIZE 1000",)))
    port = free_port()
    with RunningServer(settings(port, upstream("small", small.port))), RawClient(port) as client:
        client.hello()
        client.command("MAIL FROM:<ann@example.com> SIZE=5000", 250)
        assert client.command("RCPT TO:<bob@example.org>", 552).text.startswith("5.3.4 ")


LACKING = [
    ("8BITMIME", "MAIL FROM:<ann@example.com> BODY=8BITMIME", "RCPT TO:<bob@example.org>", 554, "5.6.3"),
    ("SMTPUTF8", "MAIL FROM:<ann@example.com> SMTPUTF8", "RCPT TO:<bøb@example.org>", 553, "5.6.7"),
]


@pytest.mark.parametrize(("extension", "mail", "rcpt", "code", "enhanced"), LACKING)
def test_what_needs_an_extension_goes_where_it_is_offered(
    extension: str, mail: str, rcpt: str, code: int, enhanced: str, make_sink: MakeSink, sink: StoringSink
) -> None:
    lacking = make_sink(StoringSink(extensions=tuple(each for each in EXTENSIONS if each != extension)))
    port, alone = free_port(), free_port()
    both = upstream("lacking", lacking.port), upstream("able", sink.port)
    with RunningServer(settings(port, *both)) as server, RawClient(port) as client:
        client.hello()
        for line in (mail, rcpt):
            client.command(line, 250)
        client.command("DATA", 354)
        client.send("grüße\r\n.\r\n".encode())
        client.expect(250)
        assert server.health("lacking") is State.CLOSED
    with RunningServer(settings(alone, both[0])), RawClient(alone) as client:
        client.hello()
        client.command(mail, 250)
        assert client.command(rcpt, code).text.startswith(enhanced)
    assert "MAIL" not in lacking.verbs()
    assert sink.messages[0].untraced == "grüße\r\n".encode()


def test_undeclared_8_bit_content_goes_where_8bitmime_is_offered(make_sink: MakeSink, sink: StoringSink) -> None:
    lacking = make_sink(StoringSink(extensions=("PIPELINING",)))
    port, alone = free_port(), free_port()
    both = upstream("lacking", lacking.port), upstream("able", sink.port)
    with RunningServer(settings(port, *both)), RawClient(port) as client:
        client.hello()
        assert send(client, b"\xe4\r\n").code == 250
    with RunningServer(settings(alone, both[0])), RawClient(alone) as client:
        client.hello()
        answer = send(client, b"\xe4\r\n")
        assert (answer.code, answer.text[:5]) == (554, "5.6.3")
    assert lacking.messages == []
    assert "DATA" not in lacking.verbs()


@pytest.mark.parametrize(("text", "moves_on"), [("450 4.2.0 Not now", True), ("552 5.3.4 That is too much", False)])
def test_an_answer_in_the_middle_of_the_content_is_heard(
    text: str, moves_on: bool, sink: StoringSink, second: StoringSink
) -> None:
    sink.on("content", hang(f"{text}\r\n".encode()))
    port = free_port()
    both = upstream("first", sink.port), upstream("second", second.port)
    with RunningServer(settings(port, *both)) as server, RawClient(port) as client:
        client.hello()
        answer = send(client, LARGE)
        assert answer.code == 250 if moves_on else shown(answer).startswith(text)
        assert server.told("attempted")[0]["text"] == text[10:]
    assert len(second.messages) == moves_on


def test_an_upstream_that_takes_no_more_content_is_left(sink: StoringSink, second: StoringSink) -> None:
    never = threading.Event()
    sink.on("content", hold(never))
    port = free_port()
    both = upstream("first", sink.port, timeouts=HASTY), upstream("second", second.port)
    try:
        with RunningServer(settings(port, *both)) as server, RawClient(port) as client:
            client.hello()
            assert send(client, LARGE).code == 250, "the dot was never sent, so there is no doubt"
            [attempt] = server.told("attempted")
            assert (attempt["phase"], attempt["classification"]) == ("content", "timeout")
    finally:
        never.set()
    assert sink.messages == []
    assert len(second.messages) == 1


# -- TLS


def tls(mode: Any, **more: Any) -> dict[str, Any]:
    return {"tls": UpstreamTls(mode, **more), "host": "localhost"}


def through_tls(sink: StoringSink, second: StoringSink, **fields: Any) -> list[dict[str, Any]]:
    """Sends one message past an upstream that cannot be used, and gives the attempts that failed."""
    port = free_port()
    with (
        RunningServer(
            settings(port, upstream("first", sink.port, **fields), upstream("second", second.port))
        ) as server,
        RawClient(port) as client,
    ):
        client.hello()
        for _ in range(3):
            assert send(client).code == 250
        assert server.health("first") is State.OPEN
        attempts = server.told("attempted")
        assert len(attempts) == 3
    assert sink.messages == []
    assert "MAIL" not in sink.verbs(), "nothing was sent where TLS is not as it must be"
    assert len(second.messages) == 3
    return attempts


def test_starttls_that_is_required_and_absent_is_never_done_without(sink: StoringSink, second: StoringSink) -> None:
    assert through_tls(sink, second, **tls("starttls"))[0]["text"] == "STARTTLS is required and not offered"


@pytest.mark.parametrize(
    ("fault", "rule"),
    [
        (say("454 4.7.0 TLS not available"), "starttls-refused"),
        (say("502 5.5.1 No"), "starttls-refused"),
        (LEAVING, "closing"),
        (close(), "closed"),
        (hang(), "timeout"),
        (BINARY, "not-smtp"),
        (garbage(b"220 2.0.0 go ahead\r\n250 2.0.0 injected\r\n"), "not-smtp"),
        (garbage(b"220 2.0.0 go ahead\r\nthis is no handshake, and never will be\r\n"), "not-smtp"),
        (hang(b"220 2.0.0 go ahead\r\n"), "timeout"),
    ],
)
def test_starttls_that_goes_wrong_fails_over(
    fault: Fault, rule: str, certificates: Certificates, make_sink: MakeSink, second: StoringSink
) -> None:
    sink = make_sink(StoringSink(tls=certificates.server_context()))
    sink.on("starttls", fault, None)
    hasty = {"timeouts": HASTY} if fault.then == "hang" else {}
    [first, *_] = through_tls(sink, second, **tls("starttls", ca_file=str(certificates.ca_file)), **hasty)
    assert first["classification"] == rule


@pytest.mark.parametrize("mode", ["starttls", "implicit"])
@pytest.mark.parametrize("wrong", ["authority", "name", "fingerprint"])
def test_a_certificate_that_is_not_right_fails_over(
    mode: str,
    wrong: str,
    certificates: Certificates,
    make_sink: MakeSink,
    second: StoringSink,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    sink = make_sink(StoringSink(tls=certificates.server_context(), implicit_tls=mode == "implicit"))
    fields = tls(mode, ca_file=str(certificates.ca_file))
    if wrong == "authority":
        stranger = make_certificates(tmp_path_factory.mktemp("stranger"))
        fields = tls(mode, ca_file=str(stranger.ca_file))
    elif wrong == "name":
        fields = tls(mode, ca_file=str(certificates.ca_file), server_name="smtp.example.com")
    else:
        fields = tls(mode, fingerprints=("0" * 64,))
    [first, *_] = through_tls(sink, second, **fields)
    assert (first["classification"], first["phase"]) == ("certificate", "tls")


def test_implicit_tls_at_a_plain_port_fails_over(sink: StoringSink, second: StoringSink) -> None:
    hasty = {"timeouts": HASTY}
    [first, *_] = through_tls(sink, second, **tls("implicit"), **hasty)
    assert first["phase"] == "tls"


def der_of(certificates: Certificates) -> bytes:
    return ssl.PEM_cert_to_DER_cert(certificates.certificate.read_text("ascii"))


@pytest.mark.parametrize("mode", ["starttls", "implicit"])
@pytest.mark.parametrize("trust", ["own authority", "fingerprint", "no check"])
def test_a_certificate_that_is_trusted_is_used(
    mode: str, trust: str, certificates: Certificates, make_sink: MakeSink
) -> None:
    sink = make_sink(StoringSink(tls=certificates.server_context(), implicit_tls=mode == "implicit"))
    how = {
        "own authority": {"ca_file": str(certificates.ca_file)},
        "fingerprint": {"fingerprints": ("0" * 64, fingerprint(der_of(certificates)))},
        "no check": {"verify": False},
    }
    port = free_port()
    with (
        RunningServer(settings(port, upstream("first", sink.port, **tls(mode, **how[trust])))) as server,
        RawClient(port) as client,
    ):
        client.hello()
        assert send(client).code == 250
        assert server.told("relayed")[0]["tls"].startswith("TLSv1.")
    assert [message.tls for message in sink.messages] == [True]


def test_opportunistic_tls_takes_what_is_there(certificates: Certificates, make_sink: MakeSink) -> None:
    offering = make_sink(StoringSink(tls=certificates.server_context()))
    refusing = make_sink(StoringSink(tls=certificates.server_context()))
    refusing.on("starttls", say("454 4.7.0 TLS not available"), None)
    silent = make_sink(StoringSink())
    for sink, secured in ((offering, True), (refusing, False), (silent, False)):
        port = free_port()
        fields = tls("opportunistic")
        with RunningServer(settings(port, upstream("any", sink.port, **fields))), RawClient(port) as client:
            client.hello()
            assert send(client).code == 250
        assert [message.tls for message in sink.messages] == [secured]


# -- AUTH

LOGIN = Login("me", Secret("secret"))


def with_login(name: str, sink: StoringSink, **more: Any) -> Any:
    return upstream(name, sink.port, credentials=LOGIN, allow_plaintext_auth=True, **more)


@pytest.mark.parametrize(
    ("fault", "rule"),
    [
        (say("454 4.7.0 Temporary authentication failure"), "site-refused"),
        (LEAVING, "closing"),
        (close(), "closed"),
        (hang(), "timeout"),
        (BINARY, "not-smtp"),
    ],
)
def test_auth_that_fails_for_now_fails_over(fault: Fault, rule: str, make_sink: MakeSink, second: StoringSink) -> None:
    sink = make_sink(StoringSink(accounts={"me": "secret"}))
    sink.on("auth", fault, None)
    port = free_port()
    hasty = {"timeouts": HASTY} if fault.then == "hang" else {}
    both = with_login("first", sink, **hasty), upstream("second", second.port)
    with RunningServer(settings(port, *both)) as server, RawClient(port) as client:
        client.hello()
        for _ in range(3):
            assert send(client).code == 250
        assert server.told("attempted")[0]["classification"] == rule
        assert server.health("first") is State.OPEN
    assert len(second.messages) == 3


def test_a_refused_login_puts_the_upstream_to_sleep_and_is_never_permanent(
    make_sink: MakeSink, second: StoringSink
) -> None:
    sink = make_sink(StoringSink(accounts={"me": "another"}))
    port = free_port()
    both = with_login("first", sink), upstream("second", second.port)
    with RunningServer(settings(port, *both)) as server, RawClient(port) as client:
        client.hello()
        assert send(client).code == 250
        assert server.told("attempted")[0]["classification"] == "login-refused"
        assert server.health("first") is State.ASLEEP
        asked = sink.sessions
        assert send(client).code == 250
        assert sink.sessions == asked, "while it sleeps it is not tried"
        server.put_forward(61)
        assert send(client).code == 250
        assert sink.sessions == asked + 1
        server.put_forward(61)
        assert send(client).code == 250
        assert sink.sessions == asked + 1, "the second sleep is twice as long"
        second.on("connect", close(), None)
        server.put_forward(31)  # what is idle in the pool is given up, and everybody fails
        answer = send(client)
        assert answer.code // 100 in (2, 4)
    alone = free_port()
    with RunningServer(settings(alone, both[0])), RawClient(alone) as client:
        client.hello()
        answer = send(client)
        assert shown(answer).startswith("451 4."), shown(answer)


def test_credentials_do_not_go_over_plain_text_unless_allowed(make_sink: MakeSink, second: StoringSink) -> None:
    sink = make_sink(StoringSink(accounts={"me": "secret"}))
    port = free_port()
    first = upstream("first", sink.port, credentials=LOGIN)
    with RunningServer(settings(port, first, upstream("second", second.port))) as server, RawClient(port) as client:
        client.hello()
        assert send(client).code == 250
        assert server.told("attempted")[0]["classification"] == "plaintext"
    assert "AUTH" not in sink.verbs()


@pytest.mark.parametrize("offer", ["AUTH PLAIN LOGIN", "AUTH LOGIN", "AUTH=LOGIN"])
def test_credentials_are_used_as_the_upstream_offers(offer: str, make_sink: MakeSink) -> None:
    sink = make_sink(StoringSink(accounts={"me": "secret"}))
    sink.on("ehlo", garbage(f"250-sink.example\r\n250 {offer}\r\n".encode()), None)
    port = free_port()
    with RunningServer(settings(port, with_login("first", sink))), RawClient(port) as client:
        client.hello()
        assert send(client).code == 250
    assert [message.username for message in sink.messages] == ["me"]


def test_without_credentials_there_is_no_auth(make_sink: MakeSink) -> None:
    sink = make_sink(StoringSink(extensions=(*EXTENSIONS, "AUTH PLAIN LOGIN")))
    port = free_port()
    with RunningServer(settings(port, upstream("first", sink.port))), RawClient(port) as client:
        client.hello()
        assert send(client).code == 250
    assert "AUTH" not in sink.verbs()


# -- the end of the list


def test_when_all_fail_one_temporary_failure_makes_it_temporary(make_sink: MakeSink) -> None:
    first, other = make_sink(StoringSink()), make_sink(StoringSink())
    first.on("mail", say("553 5.7.1 Sender address rejected: not owned by user me"), None)
    other.on("mail", say("450 4.3.0 Greylisted"), None)
    port = free_port()
    with (
        RunningServer(settings(port, upstream("first", first.port), upstream("other", other.port))),
        RawClient(port) as client,
    ):
        client.hello()
        answer = send(client)
        assert answer.code == 451
        assert "Sender address rejected: not owned by user me" in answer.text, "in the words of the first choice"
        client.command("RSET", 250)
        first.behave()
        first.on("mail", say("450 4.7.1 Come again"), None)
        assert shown(send(client)).startswith("450 4.7.1 Come again")


def test_three_failures_open_an_upstream_and_one_trial_closes_it(sink: StoringSink, second: StoringSink) -> None:
    sink.on("ehlo", LEAVING, 4)
    port = free_port()
    both = upstream("first", sink.port), upstream("second", second.port)
    with RunningServer(settings(port, *both)) as server, RawClient(port) as client:
        client.hello()
        for _ in range(5):
            assert send(client).code == 250
        assert sink.sessions == 3, "open: not tried any more"
        assert server.health("first") is State.OPEN
        server.put_forward(5.1)
        assert server.health("first") is State.HALF_OPEN
        assert send(client).code == 250
        assert sink.sessions == 4, "one trial, which failed"
        server.put_forward(5.1)
        assert server.health("first") is State.OPEN, "for twice as long"
        server.put_forward(5.1)
        assert send(client).code == 250
        assert server.health("first") is State.CLOSED
    assert (len(sink.messages), len(second.messages)) == (1, 6)


def test_when_everybody_is_unwell_the_best_is_tried_anyway(sink: StoringSink, second: StoringSink) -> None:
    sink.on("ehlo", LEAVING, 3)
    second.on("ehlo", LEAVING, 3)
    port = free_port()
    both = upstream("first", sink.port), upstream("second", second.port)
    with RunningServer(settings(port, *both)) as server, RawClient(port) as client:
        client.hello()
        for _ in range(3):
            assert shown(send(client)).startswith("451 4.3.2 Going down")
            client.command("RSET", 250)
        assert server.health("first") is State.OPEN
        assert server.health("second") is State.OPEN
        assert send(client).code == 250
    assert len(sink.messages) + len(second.messages) == 1


# -- connections that were kept


@pytest.mark.parametrize("fault", [LEAVING, close()], ids=["421", "end"])
def test_a_kept_connection_that_went_stale_is_replaced_in_silence(fault: Fault, sink: StoringSink) -> None:
    port = free_port()
    with RunningServer(settings(port, upstream("first", sink.port))) as server, RawClient(port) as client:
        client.hello()
        assert send(client).code == 250
        sink.on("mail", fault)
        assert send(client).code == 250
        assert server.told("attempted") == [], "nobody's fault, and nobody needs to know"
        assert server.health("first") is State.CLOSED
    assert sink.sessions == 2
    assert len(sink.messages) == 2


def test_a_kept_connection_is_replaced_once_only(sink: StoringSink, second: StoringSink) -> None:
    port = free_port()
    both = upstream("first", sink.port), upstream("second", second.port)
    with RunningServer(settings(port, *both)) as server, RawClient(port) as client:
        client.hello()
        assert send(client).code == 250
        sink.on("mail", close(), None)
        assert send(client).code == 250
        assert [a["classification"] for a in server.told("attempted")] == ["closed"]
    assert sink.sessions == 2
    assert len(second.messages) == 1


def test_silence_on_a_kept_connection_is_a_failure(sink: StoringSink, second: StoringSink) -> None:
    port = free_port()
    both = upstream("first", sink.port, timeouts=HASTY), upstream("second", second.port)
    with RunningServer(settings(port, *both)) as server, RawClient(port) as client:
        client.hello()
        assert send(client).code == 250
        sink.on("mail", hang(), None)
        assert send(client).code == 250
        assert [a["classification"] for a in server.told("attempted")] == ["timeout"]
    assert len(second.messages) == 1


def test_an_error_at_quit_is_nobody_s_business(sink: StoringSink, second: StoringSink) -> None:
    """G12, S8: the answer to the dot is the outcome, whatever the upstream does afterwards."""
    sink.on("quit", close(), None)
    port = free_port()
    both = upstream("first", sink.port, max_messages=1), upstream("second", second.port)
    with RunningServer(settings(port, *both)) as server, RawClient(port) as client:
        client.hello()
        for _ in range(2):
            assert send(client).code == 250
        assert server.told("attempted") == []
    assert len(sink.messages) == 2
    assert second.sessions == 0


@pytest.mark.parametrize("pipelined", [False, True])
def test_an_upstream_that_does_not_take_all_who_were_accepted_before_is_no_fallback(
    sink: StoringSink, second: StoringSink, pipelined: bool
) -> None:
    """Semantics section 4: who was told 250 must not be forgotten because the connection ended behind it."""
    second.recipient_replies["ann@example.org"] = "550 5.1.1 nobody of that name"
    port = free_port()
    with (
        RunningServer(settings(port, upstream("first", sink.port), upstream("second", second.port))),
        RawClient(port) as client,
    ):
        client.hello()
        client.command("MAIL FROM:<eve@example.com>", 250)
        client.command("RCPT TO:<ann@example.org>", 250)
        sink.on("rcpt", close())
        more = ["bob@example.org", "carl@example.org"] if pipelined else ["bob@example.org"]
        client.send(b"".join(f"RCPT TO:<{each}>\r\n".encode() for each in more))
        assert [client.answer().code for _ in more] == [451] * len(more)
        client.command("DATA", 354)
        client.send(CONTENT + b".\r\n")
        client.expect(451)
    assert not sink.messages
    assert not second.messages


def test_nor_is_it_the_same_one_when_its_connection_was_given_back_meanwhile(sink: StoringSink) -> None:
    port = free_port()
    with RunningServer(settings(port, upstream("first", sink.port))) as server, RawClient(port) as client:
        client.hello()
        client.command("MAIL FROM:<eve@example.com>", 250)
        client.command("RCPT TO:<ann@example.org>", 250)
        server.put_forward(31)
        sink.wait_for_verb("RSET")
        sink.recipient_replies["ann@example.org"] = "450 4.2.0 not now"
        client.command("RCPT TO:<bob@example.org>", 451)
        client.command("DATA", 354)
        client.send(CONTENT + b".\r\n")
        client.expect(450)
    assert not sink.messages


def test_an_upstream_that_takes_all_of_them_is_one(sink: StoringSink, second: StoringSink) -> None:
    port = free_port()
    with (
        RunningServer(settings(port, upstream("first", sink.port), upstream("second", second.port))),
        RawClient(port) as client,
    ):
        client.hello()
        client.command("MAIL FROM:<eve@example.com>", 250)
        client.command("RCPT TO:<ann@example.org>", 250)
        sink.on("rcpt", close())
        client.command("RCPT TO:<bob@example.org>", 250)
        client.command("DATA", 354)
        client.send(CONTENT + b".\r\n")
        client.expect(250)
    assert [message.recipients for message in second.messages] == [("ann@example.org", "bob@example.org")]
