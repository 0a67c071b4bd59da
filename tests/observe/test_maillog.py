"""Each event's record, as somebody who parses the log gets it, and the metrics that move with it."""

from dataclasses import replace

import pytest

from waypost.mail.content import MemoryContent
from waypost.mail.message import Envelope, Recipient
from waypost.mail.outcome import Attempt, Cause, Failure, Phase, Role
from waypost.observe.events import EVENTS
from waypost.observe.maillog import message_id_field
from waypost.smtp.address import NULL, Address
from waypost.smtp.reply import reply
from waypost.smtp.sasl import Credentials, Secret

CLIENT = {
    "listener": "127.0.0.1:2525",
    "client": "192.0.2.7",
    "client_name": "mail.example.com",
    "account": "nextcloud",
    "client_tls": "TLSv1.3 X",
}
OWED = {
    "id": "4Zk8s2d",
    "target": "new",
    "reverse_path": "a@example.com",
    "recipients": ["b@example.net", "c@example.net"],
}
TIMEOUT = Failure(Phase.CONNECT, Cause.TIMEOUT, "no answer within 10 s")


def head(level, event):
    return {"time": "2026-01-01T00:00:00.250Z", "level": level, "event": event}


def test_received(told, message):
    told.log.received(message, "migration", "waypost.yaml:12:5")

    assert told.last() == head("info", "received") | CLIENT | {
        "id": "4Zk8s2d",
        "reverse_path": "a@example.com",
        "recipients": ["b@example.net", "c@example.net"],
        "recipient_count": 2,
        "size": 55,
        "route": "migration",
        "rule": "waypost.yaml:12:5",
        "message_id_field": "<1@example.com>",
    }
    assert told.metric('waypost_messages_received_total{listener="127.0.0.1:2525"} 1.0')


def test_received_with_all_that_is_known(told, message):
    told.log.received(replace(message, digest=bytes(range(32))), "apps", "waypost.yaml:12:5", "hybrid")

    record = told.last()
    assert record["digest"] == "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
    assert record["acceptance"] == "hybrid"


def test_queued(told, message):
    told.log.queued(message, ["apps", "lists"], message.envelope.recipients, "451 4.3.0 later")

    assert told.last() == head("info", "queued") | {
        "id": "4Zk8s2d",
        "reverse_path": "a@example.com",
        "recipients": ["b@example.net", "c@example.net"],
        "routes": ["apps", "lists"],
        "reason": "451 4.3.0 later",
    }
    assert told.metric('waypost_messages_queued_total{route="lists"} 1.0')


def test_answered_from_ledger(told, client, message):
    told.log.answered_from_ledger(client, message.envelope, "5Zk8s2d", reply(250, "2.0.0", "OK"))

    assert told.last() == head("info", "answered_from_ledger") | CLIENT | {
        "id": "5Zk8s2d",
        "reverse_path": "a@example.com",
        "recipients": ["b@example.net", "c@example.net"],
        "code": 250,
        "enhanced": "2.0.0",
        "text": "OK",
    }
    assert told.metric('waypost_messages_answered_from_ledger_total{listener="127.0.0.1:2525"} 1.0')


def test_refused(told, client):
    told.log.refused(
        client,
        "RCPT",
        reply(550, "5.1.1", "No such user"),
        reverse_path=NULL,
        recipient=Address("x", "example.net"),
        message_id="4Zk8s2d",
        rule="urgent (w.yaml:1:5)",
    )

    assert told.last() == head("info", "refused") | CLIENT | {
        "id": "4Zk8s2d",
        "rule": "urgent (w.yaml:1:5)",
        "command": "rcpt",
        "reverse_path": "",
        "recipient": "x@example.net",
        "code": 550,
        "enhanced": "5.1.1",
        "text": "No such user",
    }
    labels = 'class="permanent",command="rcpt",listener="127.0.0.1:2525"'
    assert told.metric(f"waypost_messages_refused_total{{{labels}}} 1.0")


def test_a_command_that_the_client_invented_is_neither_a_label_nor_a_field(told, client):
    told.log.refused(client, "X" * 400, reply(500, "5.5.2", "What?"))

    assert told.last()["command"] == "other"
    assert told.metric(
        'waypost_messages_refused_total{class="permanent",command="other",listener="127.0.0.1:2525"} 1.0'
    )


def test_abandoned(told, client):
    told.log.abandoned(client, Address("a", "example.com"), None, "closed after 17 octets")

    assert told.last() == head("info", "abandoned") | CLIENT | {
        "reverse_path": "a@example.com",
        "reason": "closed after 17 octets",
    }


def test_attempted_without_a_reply(told):
    told.log.attempted("4Zk8s2d", Attempt("old", Phase.CONNECT, TIMEOUT, "no-answer", 10.00049), "primary")

    assert told.last() == head("warning", "attempted") | {
        "id": "4Zk8s2d",
        "role": "primary",
        "upstream": "old",
        "phase": "connect",
        "cause": "timeout",
        "text": "no answer within 10 s",
        "classification": "no-answer",
        "duration": 10.0005,
        "reused": False,
    }
    assert told.metric('waypost_attempts_failed_total{phase="connect",role="primary",upstream="old"} 1.0')
    assert told.metric('waypost_attempt_duration_seconds_bucket{le="10.0",role="primary",upstream="old"} 0.0')
    assert told.metric('waypost_attempt_duration_seconds_bucket{le="30.0",role="primary",upstream="old"} 1.0')
    assert told.metric('waypost_attempt_duration_seconds_count{role="primary",upstream="old"} 1.0')


def test_attempted_with_a_reply_that_has_no_enhanced_code(told):
    attempt = Attempt("old", Phase.MAIL, reply(451, None, "later", "please"), "transient", 0.5)

    told.log.attempted("4Zk8s2d", attempt, "copy")

    record = told.last()
    assert (record["code"], record["text"], record["phase"]) == (451, "later please", "mail")
    assert "enhanced" not in record


@pytest.mark.parametrize(("event", "role"), [("relayed", "primary"), ("copied", "copy")])
def test_relayed_and_copied(told, message, attempt, event, role):
    getattr(told.log, event)(message, attempt, message.envelope.recipients[:1])

    assert told.last() == head("info", event) | {
        "id": "4Zk8s2d",
        "role": role,
        "upstream": "old",
        "reverse_path": "a@example.com",
        "recipients": ["b@example.net"],
        "delay": 2.5,
        "code": 250,
        "enhanced": "2.0.0",
        "text": "OK queued as 4Xyz17",
        "phase": "dot",
        "classification": "accepted",
        "duration": 0.0123,
        "reused": True,
        "tls": "TLSv1.2 Y",
        "phases": {"mail": 0.0021, "dot": 0.0102},
        "queue_id": "4Xyz17",
    }
    assert told.metric(f'waypost_deliveries_total{{outcome="{event}",role="{role}",upstream="old"}} 1.0')
    assert told.metric(f'waypost_attempt_duration_seconds_count{{role="{role}",upstream="old"}} 1.0')


def test_deferred_says_when_it_is_tried_again(told, message):
    told.log.deferred(message, "new", message.envelope.recipients, TIMEOUT, 1_767_225_660.0, "copy")

    assert told.last() == head("warning", "deferred") | OWED | {
        "role": "copy",
        "cause": "timeout",
        "phase": "connect",
        "text": "no answer within 10 s",
        "next_attempt_at": "2026-01-01T00:01:00.000Z",
    }
    assert told.metric('waypost_deliveries_total{outcome="deferred",role="copy",upstream="new"} 1.0')


def test_deferred_to_the_client_names_no_time(told, message):
    told.log.deferred(message, "new", message.envelope.recipients, TIMEOUT, None, "primary")

    assert "next_attempt_at" not in told.last()


def test_failed(told, message):
    told.log.failed(message, "new", message.envelope.recipients, reply(554, "5.7.1", "no"), "copy")

    answer = {"code": 554, "enhanced": "5.7.1", "text": "no"}
    assert told.last() == head("warning", "failed") | OWED | answer | {"role": "copy"}


def test_in_doubt(told, message, attempt):
    silent = replace(attempt, answer=Failure(Phase.DOT, Cause.TIMEOUT, "no answer"), rule="in-doubt", tls=None)

    told.log.in_doubt(message, silent, "primary")

    assert told.last() == head("warning", "in_doubt") | {
        "id": "4Zk8s2d",
        "role": "primary",
        "upstream": "old",
        "reverse_path": "a@example.com",
        "recipients": ["b@example.net", "c@example.net"],
        "cause": "timeout",
        "phase": "dot",
        "text": "no answer",
        "classification": "in-doubt",
        "duration": 0.0123,
        "reused": True,
        "phases": {"mail": 0.0021, "dot": 0.0102},
    }
    assert told.metric('waypost_deliveries_total{outcome="in_doubt",role="primary",upstream="old"} 1.0')


def test_an_attempt_that_nobody_saw_is_not_measured(told, message, attempt):
    forgotten = replace(attempt, answer=Failure(Phase.DOT, Cause.LOCAL, "no outcome was recorded"), duration=0.0)

    told.log.in_doubt(message, forgotten, Role.PRIMARY)

    assert told.last()["text"] == "no outcome was recorded"
    assert "waypost_attempt_duration_seconds_count{" not in told.metrics.render().decode()
    assert told.metric('waypost_deliveries_total{outcome="in_doubt",role="primary",upstream="old"} 1.0')


def test_notified(told, message):
    sender = Recipient(message.envelope.reverse_path)
    notice = replace(message, id="6Zk8s2d", envelope=Envelope(NULL, (sender,)), content=MemoryContent(b"x\r\n"))

    told.log.notified(message, notice, "delayed", message.envelope.recipients[:1])

    of_the_message, of_the_notice = told.records
    assert of_the_message == head("info", "notified") | {
        "id": "4Zk8s2d",
        "notice": "6Zk8s2d",
        "action": "delayed",
        "reverse_path": "a@example.com",
        "recipients": ["b@example.net"],
    }
    assert of_the_notice == head("info", "composed") | {
        "id": "6Zk8s2d",
        "about": "4Zk8s2d",
        "action": "delayed",
        "reverse_path": "",
        "recipients": ["a@example.com"],
        "recipient_count": 1,
        "size": 3,
    }
    assert told.metric('waypost_notices_total{action="delayed"} 1.0')


def test_a_notice_too_many_is_told_of_and_counted(told, message):
    told.log.notice_suppressed(message, 20)

    assert told.last() == head("warning", "notice_suppressed") | {
        "id": "4Zk8s2d",
        "reverse_path": "a@example.com",
        "reason": "it has had 20 notifications in this hour, which is all that an address gets",
    }
    assert told.metric('waypost_notices_total{action="suppressed"} 1.0')


def test_altered_by_hand(told):
    told.log.altered("4Zk8s2d", "release", 65537, Role.PRIMARY, "apps", ["b@example.net"], "uid 0")

    assert told.last() == head("info", "altered") | {
        "id": "4Zk8s2d",
        "role": "primary",
        "target": "apps",
        "recipients": ["b@example.net"],
        "delivery": 65537,
        "action": "release",
        "by": "uid 0",
    }
    assert told.metric('waypost_altered_total{action="release"} 1.0')


def test_a_dead_letter_is_an_error(told, message):
    told.log.dead(message, "new", message.envelope.recipients, "refused: 554 5.7.1 no")

    reason = {"role": "copy", "reason": "refused: 554 5.7.1 no"}
    assert told.last() == head("error", "dead") | OWED | reason
    assert told.metric('waypost_deliveries_total{outcome="dead",role="copy",upstream="new"} 1.0')


def test_a_copy_that_could_not_be_stored_is_an_error(told, message):
    told.log.not_taken(message, "new", "the disk is full")

    assert told.last() == head("error", "not_taken") | OWED | {"role": "copy", "reason": "the disk is full"}
    assert told.metric('waypost_deliveries_total{outcome="not_taken",role="copy",upstream="new"} 1.0')


@pytest.mark.parametrize("event", ["connected", "closed", "auth_succeeded", "tls_failed", "told"])
def test_sessions_are_told_of_only_when_debugging_but_always_counted(told, chatty, client, event):
    for log in (told.log, chatty.log):
        log.session(client, event, messages=3)

    assert told.text == ""
    assert chatty.last() == head("debug", event) | CLIENT | {"messages": 3}
    assert told.metric(f'waypost_session_events_total{{event="{event}",listener="127.0.0.1:2525"}} 1.0')


@pytest.mark.parametrize("event", ["auth_failed", "proxy_failed", "limited"])
def test_a_client_turned_away_is_always_told_of(told, client, event):
    told.log.session(client, event, reason="too many")

    assert told.last() == head("warning", event) | CLIENT | {"reason": "too many"}


def test_no_record_has_a_field_that_the_reference_does_not_list(chatty, client, message, attempt):
    log, recipients = chatty.log, message.envelope.recipients
    log.received(replace(message, digest=b"x" * 32), "r", "f:1:1", "hybrid", ("example.com/s1",))
    for place in ("route", "upstream"):
        log.rewritten("i", place, "r", Address("a", "b"), NULL, aligned=True, signed=("example.com/s1",))
        log.signature_broken("i", place, "r", ["a.example"])
    no = reply(550, "5.6.0", "no")
    log.refused(client, "content", no, reverse_path=NULL, recipient=NULL, message_id="i", rule="f:1:1")
    log.abandoned(client, NULL, "i", "gone")
    for answer in (attempt.answer, TIMEOUT):
        judged = replace(attempt, answer=answer)
        log.attempted("i", judged, "primary")
        log.relayed(message, judged, recipients)
        log.copied(message, judged, recipients, target="t")
        log.in_doubt(message, judged, "copy", target="t")
        log.deferred(message, "t", recipients, answer, 0.0, "copy")
        log.failed(message, "t", recipients, answer, "copy")
    log.dead(message, "t", recipients, "why")
    log.not_taken(message, "t", "why")
    log.queued(message, ["r"], recipients, "why")
    log.answered_from_ledger(client, message.envelope, "i", reply(250, "2.0.0", "OK"))
    log.notified(message, message, "failed", recipients)
    log.notice_suppressed(message, 20)
    log.altered("i", "hold", 7, Role.COPY, "t", ["b@example.net"], "root")
    log.advised("i", "mine", "p", ["a", "b"])
    log.advised("i", "mine", "p", reply(550, "5.7.1", "No"))
    log.not_advised("i", "mine", "p", "crash", "it ended with exit code 1")
    for event in (
        "connected",
        "closed",
        "auth_failed",
        "auth_succeeded",
        "tls_failed",
        "proxy_failed",
        "told",
        "limited",
    ):
        log.session(client, event)

    assert {record["event"] for record in chatty.records} == set(EVENTS)
    for name, event in EVENTS.items():
        records = [record for record in chatty.records if record["event"] == name]
        assert {key for record in records for key in record} == {"time", "level", "event", *event.fields}
        assert {record["level"] for record in records} == {event.level}


def test_neither_content_nor_secrets_get_into_a_record(chatty, client, message, attempt):
    secret = Secret("swordfish")
    credentials = Credentials("me", secret)

    chatty.log.received(message, "r", "f:1:1")
    chatty.log.relayed(message, attempt, message.envelope.recipients)
    chatty.log.session(client, "auth_failed", reason=secret, given=credentials)  # type: ignore[arg-type]

    assert "hush" not in chatty.text
    assert "content\r" not in chatty.text
    assert "swordfish" not in chatty.text
    assert chatty.last()["given"] == "<Credentials>"


def test_what_a_client_said_stays_on_one_line_of_ascii(told, client):
    told.log.refused(replace(client, name="m\u2028x\x85\r\n\udcff\x1b[31m"), "ehlo", reply(501, "5.5.4", "no"))

    assert told.text.count("\n") == 1
    assert told.text.isascii()
    assert told.last()["client_name"] == "m\u2028x\x85\r\n\udcff\x1b[31m"


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"Message-Id: <a@b>\r\n\r\n", "<a@b>"),
        (b"Subject: x\r\nMessage-ID:\r\n <folded@b>\r\n\r\n", "<folded@b>"),
        (b"Subject: x\r\n\r\nMessage-ID: <in.the.text@b>\r\n", None),
        (b"\r\nMessage-ID: <no.header@b>\r\n", None),
        (b"Message-ID: none\r\n\r\n", None),
        (b"Message-ID: <caf\xc3\xa9@b>\r\n\r\n", None),
        (b"X-Message-ID: <x@b>\r\n\r\n", None),
        (b"", None),
    ],
)
def test_the_message_id_field(content, found):
    assert message_id_field(MemoryContent(content)) == found
