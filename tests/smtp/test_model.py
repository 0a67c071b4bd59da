"""The server engine against an independent model of the order rules (RFC 5321 section 4.1.4 and the extensions)."""

from dataclasses import replace

import pytest
from hypothesis import stateful
from hypothesis import strategies as st

from smtp.examples import examples
from smtp.serving import OPTIONS, Question, Serving, accept, codes
from waypost.smtp import commands as c
from waypost.smtp import events as e
from waypost.smtp.errors import LocalProtocolError
from waypost.smtp.reply import Reply, reply
from waypost.smtp.server import ServerEngine

LIMIT = 2
PLAIN = "AGFubgBzZWNyZXQ="


class Session(stateful.RuleBasedStateMachine):
    """One session; the model is the handful of attributes below, and the `if`s in the rules."""

    @stateful.initialize(required=st.booleans(), tls=st.booleans())
    def connect(self, required: bool, tls: bool) -> None:
        options = replace(
            OPTIONS, auth=True, auth_required=required, max_recipients=LIMIT, max_errors=10_000, starttls=True
        )
        self.verdict: Reply | None = None
        self.serving = Serving(options, self.decide, tls=tls)
        self.required, self.tls = required, tls
        self.hello = self.esmtp = self.known = self.mail = self.chunks = False
        self.accepted = 0
        self.sent = 0

    def decide(self, question: Question) -> Reply:
        return accept(question) if self.verdict is None or isinstance(question, e.Refused) else self.verdict

    def say(self, line: str, *, verdict: int | None = None) -> int:
        """The code of the one reply to a line; `verdict` is what the caller of the engine would answer."""
        self.verdict = None if verdict is None else reply(verdict, None, "Decided")
        (code,) = codes(self.serving.feed(line.encode() + b"\r\n"))
        return code

    def reset(self) -> None:
        self.mail = self.chunks = False
        self.accepted = 0

    @stateful.rule(extended=st.booleans())
    def say_hello(self, extended: bool) -> None:
        assert self.say("EHLO c.example" if extended else "HELO c.example") == 250
        self.hello, self.esmtp = True, extended
        self.reset()

    @stateful.rule(line=st.sampled_from(["NOOP", "NOOP x", "HELP", "VRFY b", "EXPN l"]))
    def say_what_changes_nothing(self, line: str) -> None:
        assert self.say(line) == {"N": 250, "H": 214, "V": 252, "E": 502}[line[0]]

    @stateful.rule(line=st.sampled_from(["XYZZY", "", "DATA x", "MAIL a", "RCPT TO:b", "EHLO", "QUIT now", "é"]))
    def say_nonsense(self, line: str) -> None:
        assert self.say(line) in (500, 501)

    @stateful.rule()
    def say_rset(self) -> None:
        assert self.say("RSET") == 250
        self.reset()

    @stateful.rule(
        verdict=st.sampled_from([None, 451, 550]), size=st.sampled_from(["", " SIZE=1", " SIZE=99999999999"])
    )
    def say_mail(self, verdict: int | None, size: str) -> None:
        code = self.say(f"MAIL FROM:<a@example.com>{size}", verdict=verdict)
        if not self.hello or self.mail:
            assert code == 503
        elif self.required and not self.known:
            assert code == 530
        elif size and not self.esmtp:
            assert code == 555
        elif "9" in size:
            assert code == 552
        else:
            assert code == (verdict or 250)
            self.mail = verdict is None

    @stateful.rule(verdict=st.sampled_from([None, None, 450, 550]))
    def say_rcpt(self, verdict: int | None) -> None:
        code = self.say("RCPT TO:<b@example.org>", verdict=verdict)
        if not self.mail or self.chunks:
            assert code == 503
        elif self.accepted == LIMIT:
            assert code == 452
        else:
            assert code == (verdict or 250)
            self.accepted += verdict is None

    @stateful.rule(verdict=st.sampled_from([None, 451, 554]), good=st.booleans(), go_on=st.booleans())
    def send_data(self, verdict: int | None, good: bool, go_on: bool) -> None:
        code = self.say("DATA", verdict=None if go_on else 451)
        if not self.mail or self.chunks:
            assert code == 503
        elif not self.accepted:
            assert code == 554
        elif not go_on:
            assert code == 451
        else:
            assert code == 354
            code = self.say("text\r\n." if good else "te\nxt\r\n.", verdict=verdict)
            assert code == ((verdict or 250) if good else 550)
            self.sent += code == 250
            self.reset()

    @stateful.rule(last=st.booleans(), verdict=st.sampled_from([None, 451, 554]), good=st.booleans())
    def send_chunk(self, last: bool, verdict: int | None, good: bool) -> None:
        text = "QUIT\r\nRSET" if good else "QUIT\nRSET "
        code = self.say(f"BDAT {len(text) + 2}{' LAST' if last else ''}\r\n{text}", verdict=verdict)
        if not self.mail:
            assert code == 503
        elif not self.accepted:
            assert code == 554
        elif not good:
            assert code == 550
            self.reset()
        elif last:
            assert code == (verdict or 250)
            self.sent += code == 250
            self.reset()
        else:
            assert code == 250
            self.chunks = True

    @stateful.rule(
        verdict=st.sampled_from([None, 454, 535]), how=st.sampled_from(["initial", "asked", "no", "*", "bad"])
    )
    def authenticate(self, verdict: int | None, how: str) -> None:
        first = f"AUTH PLAIN {PLAIN}" if how == "initial" else "AUTH DIGEST-MD5" if how == "no" else "AUTH PLAIN"
        code = self.say(first, verdict=verdict)
        if not self.hello or self.mail or self.known:
            assert code == 503
        elif not self.tls:
            assert code == 538
        elif how == "no":
            assert code == 504
        else:
            if how != "initial":
                assert code == 334
                code = self.say({"asked": PLAIN, "*": "*", "bad": "!"}[how], verdict=verdict)
            if how in ("*", "bad"):
                assert code == 501
            else:
                assert code == (verdict or 235)
                self.known = verdict is None

    @stateful.rule(verdict=st.sampled_from([None, 454]))
    def start_tls(self, verdict: int | None) -> None:
        code = self.say("STARTTLS", verdict=verdict)
        if not self.hello or self.mail:
            assert code == 503
        elif self.tls:
            assert code == 502
        else:
            assert code == (verdict or 220)
            if verdict is None:
                self.serving.engine.tls_started()
                self.tls, self.hello = True, False

    @stateful.invariant()
    def the_engine_agrees(self) -> None:
        assert len(self.serving.messages) == self.sent
        assert self.serving.engine.authenticated == self.known
        assert not self.serving.is_closed

    def teardown(self) -> None:
        if hasattr(self, "serving"):
            assert self.say("QUIT") == 221
            assert self.serving.is_closed
            assert self.serving.trace[-1] == e.Closed()
            assert self.serving.feed(b"NOOP\r\n") == b""


@pytest.mark.filterwarnings("ignore::hypothesis.errors.NonInteractiveExampleWarning")
class TestSession(Session.TestCase):  # type: ignore[misc]
    """The machine as a test."""

    settings = examples(80)


def test_an_event_must_be_answered_and_nothing_else_can_be() -> None:
    """What the model cannot say: the caller's own mistakes are told to the caller."""
    engine = ServerEngine(OPTIONS)
    with pytest.raises(LocalProtocolError):
        engine.answer(reply(250, None, "OK"))
    engine.greet(reply(220, None, "mx"))
    engine.receive(b"EHLO c\r\nMAIL FROM:<>\r\n")
    assert isinstance(engine.next_event(), c.Mail)
    with pytest.raises(LocalProtocolError):
        engine.next_event()
    with pytest.raises(LocalProtocolError):
        engine.answer(reply(354, None, "Go on"))
    with pytest.raises(LocalProtocolError):
        engine.answer(reply(250, None, "OK"), reply(250, None, "OK"))
    engine.answer(reply(250, None, "OK"))
    with pytest.raises(LocalProtocolError):
        engine.tls_started()


def test_pipelined_recipients_are_one_question() -> None:
    """They are relayed live: a hundred at a time, in one write each way, instead of one after the other."""
    engine = ServerEngine(OPTIONS)
    engine.greet(reply(220, None, "mx"))
    engine.receive(b"EHLO c\r\nMAIL FROM:<>\r\n" + b"RCPT TO:<b@example.org>\r\n" * 250 + b"RCPT TO:<c@exam")
    assert isinstance(engine.next_event(), c.Mail)
    engine.answer(reply(250, None, "OK"))
    asked = []
    while (event := engine.next_event()) is not None:
        assert isinstance(event, e.Recipients)
        asked.append(len(event.commands))
        engine.answer(*[reply(250, None, "OK")] * len(event.commands))
    assert asked == [100, 100, 50]
