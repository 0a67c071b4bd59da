"""What the lines of the mail log promise whatever is in them, and what the journal gets of them."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.mail.content import MemoryContent
from waypost.mail.message import Client, Envelope, Message, Recipient
from waypost.mail.outcome import Attempt, Cause, Failure, Phase, Role
from waypost.observe.maillog import MailLog
from waypost.observe.metrics import Metrics
from waypost.smtp.address import NULL, Address
from waypost.smtp.reply import Reply, reply

ANY = st.text(max_size=30)
CLIENT = Client("127.0.0.1:25", "192.0.2.7", 4, "mail.example.com")


class Kept(list[tuple[str, dict[str, Any], list[str]]]):
    """What a journal was handed: id, record, keys."""

    written = dropped = 0

    def write(self, message_id: str, line: str, keys: tuple[str, ...] = ()) -> None:
        self.append((message_id, json.loads(line), sorted(keys)))


def message_to(*recipients: str, reverse_path: Address = NULL, content: bytes = b"\r\nx\r\n") -> Message:
    envelope = Envelope(reverse_path, tuple(Recipient(Address(*each.split("@"))) for each in recipients))
    return Message("4Z", 0.0, CLIENT, envelope, MemoryContent(content))


@given(ANY, ANY, ANY, ANY, st.lists(ANY, min_size=1, max_size=3), st.floats(0, 1e6))
def test_every_line_is_one_object_of_ascii_with_just_what_was_said(
    word: str, name: str, local: str, said: str, lines: list[str], seconds: float
) -> None:
    written: list[str] = []
    log = MailLog(written.append, Metrics(process=False), debug=True, clock=lambda: 1_767_225_600.25)
    client = Client(word, name, 1, name, account=word, tls=said)
    recipient = Recipient(Address(local, "example.com"))
    message = Message(word, 0.0, client, Envelope(Address(local, said), (recipient, recipient)), MemoryContent(b""))
    answers = (Reply(250, tuple(lines), (2, 0, 0)), Reply(250, tuple(lines)), Failure(Phase.DOT, Cause.CLOSED, said))
    for answer in answers:
        attempt = Attempt(word, Phase.DOT, answer, name, seconds, tls=said, phases=((Phase.DOT, seconds),))
        log.attempted(word, attempt, Role.COPY)
        log.relayed(message, attempt, (recipient,))
        log.copied(message, attempt, (recipient,), target=name)
        log.in_doubt(message, attempt, Role.PRIMARY)
        log.deferred(message, name, (recipient,), answer, seconds, Role.COPY)
        log.failed(message, name, (), answer, Role.COPY)
    log.received(message, name, word, said)
    log.queued(message, [name, word], (recipient,), said)
    log.answered_from_ledger(client, message.envelope, word, answers[0])
    log.refused(client, word, answers[0], reverse_path=Address(local, said), recipient=Address(local, said))
    log.advised(word, name, said, lines)
    log.advised(word, name, said, answers[1])
    log.not_advised(word, name, said, "crash", local)
    log.abandoned(client, Address(local, said), word, said)
    log.not_taken(message, name, said)
    log.dead(message, name, (recipient,), said)
    log.notified(message, message, word, (recipient,))
    log.notice_suppressed(message, 3)
    log.altered(word, name, 7, Role.COPY, said, [local], word)
    log.session(client, "closed", why=said, count=3, ratio=0.5, known=None)

    given_texts = {word, name, said, local, *lines, " ".join(lines), str(Address(local, said)), f"{local}@example.com"}
    for line in written:
        assert line.isascii()
        assert "\n" not in line
        pairs = json.loads(line, object_pairs_hook=lambda found: found)
        assert len(dict(pairs)) == len(pairs), "a field is there twice"
        assert [name for name, _ in pairs[:3]] == ["time", "level", "event"]
        for field in ("text", "rule", "classification", "upstream", "target", "client", "account", "tls", "id"):
            found = dict(pairs).get(field)
            assert found is None or found in given_texts


@pytest.mark.parametrize(
    ("message", "keys"),
    [
        (message_to("Bob@Example.NET"), ["bob@example.net"]),
        (message_to("b@example.net", "postmaster@"), ["b@example.net", "postmaster"]),
        (message_to("b@example.net", reverse_path=Address("Änn", "Exämple.COM")), ["b@example.net", "änn@exämple.com"]),
        (message_to("b@example.net", content=b"Message-ID: <A@b>\r\n\r\n"), ["<A@b>", "b@example.net"]),
    ],
)
def test_a_message_that_came_in_is_found_by_its_message_id_and_its_addresses_in_lower_case(
    message: Message, keys: list[str]
) -> None:
    kept = Kept()
    MailLog(lambda _: None, Metrics(process=False), journal=kept).received(message, "r", "f:1:1")

    [(id_, record, given_keys)] = kept
    assert (id_, record["event"], given_keys) == ("4Z", "received", keys)


def test_what_was_refused_or_given_up_is_found_by_its_addresses_too() -> None:
    kept = Kept()
    log = MailLog(lambda _: None, Metrics(process=False), journal=kept)
    ann, bob = Address("ann", "example.com"), Address("bob", "example.net")
    log.refused(CLIENT, "rcpt", reply(550, "5.1.1", "Who?"), reverse_path=ann, recipient=bob, message_id="4Z")
    log.abandoned(CLIENT, ann, "5Z", "gone")
    log.answered_from_ledger(CLIENT, Envelope(ann, (Recipient(bob),)), "6Z", reply(250, "2.0.0", "OK"))

    assert [(id_, keys) for id_, _, keys in kept] == [
        ("4Z", ["ann@example.com", "bob@example.net"]),
        ("5Z", ["ann@example.com"]),
        ("6Z", ["ann@example.com", "bob@example.net"]),
    ]


def test_a_notification_has_a_life_of_its_own_in_the_journal() -> None:
    kept = Kept()
    log = MailLog(lambda _: None, Metrics(process=False), journal=kept)
    message = message_to("b@example.net", reverse_path=Address("ann", "example.com"))
    log.notified(message, replace(message_to("ann@example.com"), id="5Z"), "failed", message.envelope.recipients)

    assert [(id_, record["event"], keys) for id_, record, keys in kept] == [
        ("4Z", "notified", []),
        ("5Z", "composed", ["ann@example.com"]),
    ]


def test_the_journal_gets_no_record_without_a_message() -> None:
    kept = Kept()
    log = MailLog(lambda _: None, Metrics(process=False), journal=kept, debug=True)
    log.session(CLIENT, "connected")
    log.refused(CLIENT, "mail", reply(550, "5.7.1", "No"), reverse_path=NULL)
    log.abandoned(CLIENT, NULL, None, "gone")

    assert kept == []


def test_a_client_whose_place_in_memory_is_taken_by_another_is_not_mistaken_for_it() -> None:
    """Pieces are kept by the object: it must live as long as its piece."""
    written: list[str] = []
    log = MailLog(written.append, Metrics(process=False), debug=True)
    for number in range(5000):
        log.session(Client("listener", str(number), number), "connected")

    assert [json.loads(line)["client"] for line in written] == [str(number) for number in range(5000)]
