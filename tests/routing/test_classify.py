"""The failover table, row by row; S7, S10 and G12 are among them."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.mail.outcome import Cause, Failure, Phase
from waypost.routing.classify import HealthEffect, Kind, ReplyRules, classify, quota_reset_in, summarise
from waypost.routing.failover import FAILURE_RULES, REPLY_RULES
from waypost.routing.verdict import reply_rule
from waypost.smtp.reply import MAX_TEXT, Reply, from_wire, reply

P = Phase
SESSION = [P.RESOLVE, P.CONNECT, P.TLS, P.GREETING, P.EHLO]
COMMANDS = [P.MAIL, P.RCPT, P.DATA, P.CONTENT]
TRANSACTION = [*COMMANDS, P.DOT]


def said(text):
    code, _, rest = text.partition(" ")
    return from_wire(int(code), [rest.encode()])


def kind(phase, text):
    return classify(phase, said(text)).kind


# Every row: the phases, the answers, and the kind in each phase that is named.
ROWS = [
    (SESSION, ["421 4.3.2 closing", "450 no", "554 5.7.1 go away"], Kind.SITE),
    ([P.STARTTLS], ["454 4.7.0 TLS not available", "502 5.5.1 what"], Kind.SECURITY),
    ([P.AUTH], ["454 4.7.0 Temporary authentication failure", "421 4.7.0 Too many login attempts"], Kind.SITE),
    ([P.AUTH], ["535 5.7.8 Bad credentials", "534 5.7.9 App password", "504 what", "530 5.7.0 no"], Kind.AUTH),
    (COMMANDS, ["421 4.4.2 timeout", "421 bye", "421 4.7.0 Error: too many connections"], Kind.SITE),
    ([P.DOT], ["421 4.4.2 timeout", "421 bye", "421 4.7.0 Error: too many connections"], Kind.TRANSIENT),
    (TRANSACTION, ["450 4.2.0 Greylisted", "451 4.3.0 try later", "452 4.3.1 no space", "455 no"], Kind.TRANSIENT),
    (TRANSACTION, ["550 5.7.1 Spam detected", "554 no", "501 5.1.7 syntax", "555 5.5.4 what"], Kind.PERMANENT),
    ([P.RCPT], ["550 5.1.1 User unknown", "550 5.7.1 Relaying denied"], Kind.PERMANENT),
    ([P.RCPT], ["452 4.5.3 no more", "452 Too many recipients", "552 too many recipients"], Kind.TOO_MANY_RECIPIENTS),
    ([P.RCPT], ["550 5.5.3 Too many recipients"], Kind.PERMANENT),
    ([P.DOT], ["452 4.5.3 Too many recipients"], Kind.TRANSIENT),
    ([P.MAIL], ["552 5.3.4 Message size exceeds fixed limit", "552 message too large", "552 5.2.3 no"], Kind.TOO_LARGE),
    ([P.RCPT, P.DATA, P.DOT], ["552 5.3.4 Message size exceeds fixed limit", "552 message too large"], Kind.PERMANENT),
    ([P.MAIL, P.RCPT, P.DATA], ["530 5.7.0 Authentication Required", "530 5.7.57 not authenticated"], Kind.AUTH),
    # The dot is judged by what it says alone.
    ([P.DOT], ["530 5.7.0 Authentication Required"], Kind.PERMANENT),
    # Senders that one provider does not take.
    ([P.MAIL], [
        "550 5.7.1 Sender address not allowed",
        "550 5.7.1 <a@b>: Sender address rejected: Access denied",
        "550 5.7.1 <a@b>: not permitted to use this From address",
        "553 5.7.1 <a@b>: denied",
        "550 5.1.8 Sender domain does not exist",
    ], Kind.SENDER_REFUSED),
    (TRANSACTION, [
        "550 5.7.60 SMTP; Client does not have permissions to send as this sender",
        "554 5.2.252 SendAsDenied; a@b not allowed to send as c@d",
        "554 Message rejected: Email address is not verified. The following identities failed the check: a@b",
        "553 5.7.1 <a@b>: Sender address rejected: not owned by user c",
        "550 5.7.1 The from address does not match a verified Sender Identity; sender is not verified",
    ], Kind.SENDER_REFUSED),
    # What looks like it and is about the recipient or the client's address.
    ([P.RCPT, P.DOT], [
        "550 5.7.1 sender not allowed to post to this list",
        "550 5.7.23 SPF: 192.0.2.1 is not allowed to send mail from example.com",
    ], Kind.PERMANENT),
    # Quotas and rates, in the words of providers.
    (list(Phase), [
        "550 5.4.5 Daily user sending limit exceeded. For more information on Gmail sending limits go to ...",
        "454 Throttling failure: Maximum sending rate exceeded.",
        "454 Throttling failure: Daily message quota exceeded.",
        "454 4.7.0 Rate limit exceeded",
        "421 4.7.0 Our system has detected an unusual rate of unsolicited mail",
        "421 4.7.28 Our system has detected an unusual rate",
        "451 4.7.500 Server busy. Please try again later",
        "450 4.7.1 Error: too much mail from 192.0.2.1",
        "550 5.7.232 Your message can't be sent",
        "550 5.1.90 Your message can't be sent because you've reached your daily limit for message recipients",
        "451 Authentication failed: Maximum credits exceeded",
        "550 Domain example.com has exceeded the max emails per hour (500/500) allowed",
        "552 relay quota exceeded",
        "550 Message quota exceeded",
        "550 5.7.1 User rate has been exceeded",
        "550 5.4.6 Unusual sending activity detected",
        "421 Domain not allowed to send: recipient limit exceeded per hour, try again after 3600 seconds",
    ], Kind.QUOTA),
    ([P.MAIL, P.DATA, P.DOT], ["452 4.2.2 Over quota"], Kind.QUOTA),
    # A mailbox has a quota too.
    ([P.RCPT], ["452 4.2.2 Over quota", "450 4.2.1 receiving mail at a rate that prevents more"], Kind.TRANSIENT),
    ([P.RCPT, P.DOT], [
        "452 4.2.2 The email account that you tried to reach is over quota",
        "452 4.2.2 <bob@x> Quota exceeded (mailbox for user is full)",
    ], Kind.TRANSIENT),
    ([P.RCPT], ["452 User quota exceeded", "451 bob is over quota"], Kind.TRANSIENT),
    ([P.RCPT], ["552 5.2.2 Over quota", "552 User quota exceeded"], Kind.PERMANENT),
    ([P.AUTH, P.MAIL, P.DOT], ["452 Account quota exceeded"], Kind.QUOTA),
    ([P.RCPT, P.DOT], ["552 5.2.2 <bob@x> Quota exceeded (mailbox for user is full)"], Kind.PERMANENT),
    # A verdict on content stays one, whatever else it mentions.
    ([P.DOT], [
        "554 5.7.1 Spam score exceeded the limit for outbound mail",
        "550 5.7.1 Message rejected as spam; the sending rate limit is 5 per hour and was exceeded",
        "552 5.7.0 This message contains blocked content: exceeds daily virus quota",
    ], Kind.PERMANENT),
    # Codes that are no answer.
    ([P.RESOLVE, P.CONNECT, P.TLS], ["220 hello", "250 OK", "354 go on"], Kind.NONSENSE),
    ([P.GREETING, P.EHLO, P.STARTTLS, P.MAIL, P.RCPT, P.CONTENT], ["354 go on", "150 what", "650 what"], Kind.NONSENSE),
    ([P.DATA], ["250 OK", "150 what", "999 what"], Kind.NONSENSE),
    ([P.AUTH], ["150 what", "600 what"], Kind.NONSENSE),
    ([P.DOT], ["354 go on", "150 what", "999 what"], Kind.IN_DOUBT),
    # Success.
    ([P.GREETING, P.STARTTLS], ["220 ready"], Kind.PROCEED),
    ([P.EHLO, P.MAIL, P.RCPT, P.CONTENT], ["250 2.1.0 OK"], Kind.PROCEED),
    ([P.RCPT], ["251 will forward"], Kind.PROCEED),
    ([P.AUTH], ["235 2.7.0 welcome", "334 VXNlcm5hbWU6"], Kind.PROCEED),
    ([P.DATA], ["354 go on"], Kind.PROCEED),
    ([P.DOT], ["250 2.0.0 queued as 123", "299 fine", "250 rate limit exceeded, but never mind"], Kind.ACCEPTED),
]  # fmt: skip
CASES = [(phase, answer, expected) for phases, answers, expected in ROWS for phase in phases for answer in answers]


@pytest.mark.parametrize(("phase", "answer", "expected"), CASES)
def test_the_table(phase, answer, expected):
    assert kind(phase, answer) is expected


# fail over, transient, health: the columns of the table.
CONSEQUENCES = {
    Kind.ACCEPTED: (False, False, HealthEffect.NONE),
    Kind.PROCEED: (False, False, HealthEffect.NONE),
    Kind.TRANSIENT: (True, True, HealthEffect.NONE),
    Kind.PERMANENT: (False, False, HealthEffect.NONE),
    Kind.SITE: (True, True, HealthEffect.FAILURE),
    Kind.SECURITY: (True, True, HealthEffect.FAILURE),
    Kind.AUTH: (True, True, HealthEffect.SLEEP_AUTH),
    Kind.SENDER_REFUSED: (True, False, HealthEffect.NONE),
    Kind.TOO_LARGE: (True, False, HealthEffect.NONE),
    Kind.TOO_MANY_RECIPIENTS: (False, True, HealthEffect.NONE),
    Kind.QUOTA: (True, True, HealthEffect.SLEEP_QUOTA),
    Kind.CAPABILITY: (True, False, HealthEffect.NONE),
    Kind.NONSENSE: (True, True, HealthEffect.FAILURE),
    Kind.IN_DOUBT: (False, True, HealthEffect.FAILURE),
    Kind.BUSY: (True, True, HealthEffect.NONE),
    Kind.LOCAL: (False, True, HealthEffect.NONE),
}
FAILURES = {
    Cause.UNREACHABLE: Kind.SITE,
    Cause.TIMEOUT: Kind.SITE,
    Cause.CLOSED: Kind.SITE,
    Cause.PROTOCOL: Kind.NONSENSE,
    Cause.TLS: Kind.SECURITY,
    Cause.CERTIFICATE: Kind.SECURITY,
    Cause.CAPABILITY: Kind.CAPABILITY,
    Cause.PLAINTEXT: Kind.SECURITY,
    Cause.LOGIN: Kind.AUTH,
    Cause.BUSY: Kind.BUSY,
    Cause.QUOTA: Kind.BUSY,
    Cause.PAUSED: Kind.BUSY,
    Cause.SENDER: Kind.CAPABILITY,
    Cause.SHUTDOWN: Kind.LOCAL,
    Cause.LOCAL: Kind.LOCAL,
}


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("cause", Cause)
def test_attempts_without_a_reply(phase, cause):
    judged = classify(phase, Failure(phase, cause, "x"))
    assert judged.kind is (Kind.IN_DOUBT if phase is Phase.DOT else FAILURES[cause])


def test_every_kind_has_its_consequences_and_occurs():
    seen = {classify(phase, said(answer)).kind for phase, answer, _ in CASES}
    seen |= {classify(Phase.CONNECT, Failure(Phase.CONNECT, cause, "x")).kind for cause in Cause}
    assert seen == set(Kind) == set(CONSEQUENCES)
    verdicts = [rule.verdict for rule in (*REPLY_RULES, *FAILURE_RULES)]
    verdicts += [classify(phase, said(answer)) for phase, answer, _ in CASES]
    for judged in verdicts:
        assert (judged.fail_over, judged.transient, judged.health) == CONSEQUENCES[judged.kind]
        assert judged.alert == (judged.kind in (Kind.AUTH, Kind.SECURITY))


def test_every_rule_is_reached_by_the_table_and_has_a_name_of_its_own():
    names = [rule.verdict.rule for rule in REPLY_RULES]
    assert len(set(names)) == len(names)
    used = {classify(phase, said(answer)).rule for phase, answer, _ in CASES}
    assert set(names) - used == {"periodic-limit-at-rcpt"}
    daily = said("552 5.2.2 Daily sending quota exceeded")
    assert classify(Phase.RCPT, daily).rule == "periodic-limit-at-rcpt"


def test_rules_of_the_user_come_first_but_cannot_touch_acceptance_or_doubt():
    mine = ReplyRules([reply_rule("mine", Kind.QUOTA, frozenset(Phase), text="come back")])
    assert classify(Phase.DOT, said("550 come back"), mine).rule == "mine"
    assert classify(Phase.DOT, said("550 go away"), mine).rule == "permanent"
    assert classify(Phase.DOT, said("250 come back"), mine).kind is Kind.ACCEPTED
    assert classify(Phase.DOT, said("354 come back"), mine).kind is Kind.IN_DOUBT


VOCABULARY = (
    "daily|sending rate|limit|quota|exceeded|mailbox|full|sender|not verified|not owned|spam|size|too many|too large"
    "|recipients|connections|per hour|send as|reached"
)
WORDS = st.lists(st.sampled_from(VOCABULARY.split("|"))).map(" ".join)
REPLIES = st.builds(
    lambda code, enhanced, words: Reply(code, (words,), enhanced and (code // 100, *enhanced)),
    st.integers(0, 999),
    st.one_of(st.none(), st.tuples(st.integers(0, 7), st.integers(0, 60))),
    st.one_of(WORDS, st.text(max_size=60)),
)
ANSWERS = st.one_of(REPLIES, st.builds(Failure, st.sampled_from(Phase), st.sampled_from(Cause), st.text(max_size=20)))
PHASES = st.sampled_from(Phase)


@given(PHASES, ANSWERS)
def test_any_answer_has_one_verdict_and_keeps_the_promises(phase, answer):
    judged = classify(phase, answer)
    assert judged == classify(phase, answer)
    is_reply = isinstance(answer, Reply)
    assert (judged.kind is Kind.ACCEPTED) == (phase is Phase.DOT and is_reply and answer.is_positive)
    if phase is Phase.DOT and not is_reply:
        assert judged.kind is Kind.IN_DOUBT
    if judged.kind in (Kind.IN_DOUBT, Kind.PERMANENT, Kind.ACCEPTED):
        assert not judged.fail_over
    if judged.kind in (Kind.PERMANENT, Kind.SENDER_REFUSED, Kind.TOO_LARGE):
        assert is_reply
        assert answer.severity == 5
        assert phase in TRANSACTION
    if phase not in TRANSACTION:
        assert judged.kind is Kind.PROCEED or judged.transient or judged.kind is Kind.CAPABILITY


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("421 limit exceeded, try again after 3600 seconds", 3600),
        ("450 Try again in 5 minutes", 300),
        ("450 retry in 2h", 7200),
        ("550 5.4.5 quota resets in 90 hours", 86400),
        ("450 rate limit 500 per hour, try again later", None),
        ("450 wait ٣٠ minutes", None),
    ],
)
def test_when_a_quota_resets(text, seconds):
    assert quota_reset_in(said(text)) == seconds


def test_no_reset_without_a_reply():
    assert quota_reset_in(Failure(Phase.MAIL, Cause.CLOSED, "try again after 60 seconds")) is None


def summary(*attempts):
    pairs = []
    for phase, answer in attempts:
        value = Failure(phase, answer, "the words") if isinstance(answer, Cause) else said(answer)
        pairs.append((value, classify(phase, value)))
    return str(summarise(pairs))


@pytest.mark.parametrize(
    ("attempts", "heard"),
    [
        # S7: everybody down is never permanent.
        ([(P.CONNECT, Cause.UNREACHABLE), (P.GREETING, "554 5.7.1 blocked")], "451 4.4.1 the words"),
        ([(P.GREETING, "554 5.7.1 blocked")], "451 4.4.1 blocked"),
        ([(P.AUTH, "535 5.7.8 Bad credentials")], "451 4.3.5 The upstream refuses our login: Bad credentials"),
        ([(P.AUTH, "454 4.7.0 Later")], "451 4.7.0 Later"),
        ([(P.MAIL, "550 5.4.5 Daily user sending limit exceeded")], "451 4.4.1 Daily user sending limit exceeded"),
        ([(P.MAIL, "454 4.7.0 Rate limit exceeded")], "454 4.7.0 Rate limit exceeded"),
        ([(P.RCPT, "450 4.2.0 Greylisted"), (P.RCPT, "550 5.1.1 Unknown")], "450 4.2.0 Greylisted"),
        ([(P.DOT, "451 no code")], "451 no code"),
        ([(P.MAIL, "421 4.3.2 Closing")], "451 4.3.2 Closing"),
        ([(P.DOT, "421 Closing")], "451 4.4.1 Closing"),
        # S10: a permanent refusal is passed on as it is.
        ([(P.RCPT, "550 5.1.1 Unknown")], "550 5.1.1 Unknown"),
        ([(P.DOT, "554 no code")], "554 no code"),
        ([(P.MAIL, "553 5.7.1 not yours"), (P.MAIL, "550 5.7.60 no")], "553 5.7.1 not yours"),
        ([(P.MAIL, "553 5.7.1 not yours"), (P.MAIL, "451 4.3.0 Later")], "451 4.4.1 not yours"),
        ([(P.DOT, Cause.TIMEOUT)], "451 4.4.2 the words"),
        ([(P.DOT, "354 Go on")], "451 4.4.2 Unexpected reply of the upstream: 354 Go on"),
        ([(P.MAIL, "354 Go on")], "451 4.5.0 Unexpected reply of the upstream: 354 Go on"),
        ([(P.CONNECT, Cause.BUSY)], "451 4.3.2 the words"),
        ([(P.TLS, Cause.CERTIFICATE)], "451 4.7.5 the words"),
        ([(P.MAIL, Cause.CAPABILITY), (P.CONNECT, Cause.TIMEOUT)], "451 4.3.3 the words"),
        ([(P.MAIL, Cause.CAPABILITY)], "554 5.6.3 the words"),
        ([(P.MAIL, Cause.CAPABILITY), (P.DOT, "550 5.7.1 Spam")], "554 5.6.3 the words"),
        ([], "451 4.3.0 No upstream is available"),
    ],
)
def test_what_the_client_hears(attempts, heard):
    assert summary(*attempts) == heard


@pytest.mark.parametrize(
    ("lacking", "heard"),
    [
        ("The upstream does not offer SMTPUTF8", "553 5.6.7"),
        ("The upstream does not offer 8BITMIME", "554 5.6.3"),
        ("The upstream takes 1000 octets (SIZE)", "552 5.3.4"),
    ],
)
def test_what_no_upstream_can_carry_is_refused(lacking, heard):
    failure = Failure(Phase.MAIL, Cause.CAPABILITY, lacking)
    assert str(summarise([(failure, classify(Phase.MAIL, failure))])) == f"{heard} {lacking}"


@given(st.lists(st.tuples(PHASES, ANSWERS), max_size=4))
def test_any_summary_is_a_refusal_that_a_client_can_hear(attempts):
    judged = [(answer, classify(phase, answer)) for phase, answer in attempts]
    judged = [(answer, verdict) for answer, verdict in judged if verdict.kind not in (Kind.ACCEPTED, Kind.PROCEED)]
    heard = summarise(judged)
    assert heard.code != 421
    temporary = not judged or any(verdict.transient for _, verdict in judged)
    assert heard.severity == (4 if temporary else 5)
    assert heard.enhanced is None or heard.enhanced[0] == heard.severity
    assert re.fullmatch(rb"(?:[45][0-9]{2}[ -][^\r\n]*\r\n|[45][0-9]{2}\r\n)+", heard.encode().replace(b"\0", b" "))


def test_a_failures_words_are_cleaned_and_cut():
    failure = Failure(Phase.CONNECT, Cause.TIMEOUT, "a\r\nb" + "é" * 1000)
    heard = summarise([(failure, classify(Phase.CONNECT, failure))])
    assert heard.text.startswith("a bé")
    assert len(heard.text.encode()) <= MAX_TEXT
    silent = Failure(Phase.CONNECT, Cause.TIMEOUT, "")
    assert summarise([(silent, classify(Phase.CONNECT, silent))]) == reply(451, "4.4.1", "timeout")
