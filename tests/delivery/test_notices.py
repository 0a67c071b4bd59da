"""Who is notified, of what, how often, and by what kind of message."""

from dataclasses import replace

import pytest

from waypost.delivery.notices import Notices, Notifier
from waypost.delivery.notifications import HourlyCap, NoticePolicy, Notifications
from waypost.delivery.spool import Delivery, copy_lane, primary_lane
from waypost.mail.content import MemoryContent
from waypost.mail.ids import LENGTH, read_id
from waypost.mail.message import Client, Envelope, Message, Recipient
from waypost.mail.notification import Action
from waypost.mail.outcome import Attempt, Cause, Failure, Phase, RecipientOutcome, Status
from waypost.smtp.address import NULL, Address
from waypost.smtp.parameters import MailParameters, RcptParameters
from waypost.smtp.reply import Reply, reply
from waypost.store.rows import decode_record, encode_record

NOW = 1_000_000_000.0
ANN = Address("ann", "example.com")
NOBODY = reply(550, "5.1.1", "nobody here")
LATER = reply(451, "4.3.0", "later")
OK = reply(250, "2.0.0", "OK")


def recipient(name: str, *notify: str) -> Recipient:
    return Recipient(Address(name, "example.org"), RcptParameters(notify or None))


def delivery(
    *recipients: Recipient, reverse_path: Address = ANN, content: bytes = b"Subject: x\r\n\r\n", copy: bool = False
) -> Delivery:
    client = Client("submission", "192.0.2.7", 4000, "app", "ESMTPSA", "nextcloud", "TLSv1.3 X", True)
    message = Message("ID0", NOW - 60, client, Envelope(reverse_path, recipients), MemoryContent(content))
    return Delivery(1, message, copy_lane("new") if copy else primary_lane("apps"), "apps", 1, NOW + 900)


def outcomes(to: Delivery, status: Status, answer: Reply | Failure) -> list[RecipientOutcome]:
    return [RecipientOutcome(each, status, answer, "provider") for each in to.message.envelope.recipients]


class Desk:
    """Notifications, with the record of what the log was told."""

    def __init__(self, **changes: object) -> None:
        self.capped_for: list[str] = []
        self.told: list[tuple[str, str, Action, list[str]]] = []
        policy = NoticePolicy("relay.example.net", 20, lambda route: {"apps": 500, "other": 700}[route])
        self.notifier: Notifier = Notifications(replace(policy, **changes), self, lambda: 7)

    def notified(self, message: Message, notice: Message, action: Action, recipients: list[Recipient]) -> None:
        self.told.append((message.id, notice.id, action, [each.address.local for each in recipients]))

    def capped(self, message: Message, per_hour: int) -> None:
        self.capped_for.append(f"{message.envelope.reverse_path} {per_hour}")

    def failed(self, to: Delivery, now: float = NOW) -> tuple[Notices, list[str]]:
        notices, silent = self.notifier.failed(to, outcomes(to, Status.FAILED, NOBODY), now)
        return notices, [each.address.local for each in silent]

    def delayed(self, to: Delivery) -> Notices:
        return self.notifier.delayed(to, outcomes(to, Status.DEFERRED, LATER), NOW)

    def relayed(self, to: Delivery, *, dsn: bool = False, answer: Reply | Failure = OK) -> Notices:
        attempt = Attempt("provider", Phase.DOT, answer, "accepted", 0.1, dsn=dsn)
        return self.notifier.relayed(to, outcomes(to, Status.RELAYED, answer), attempt, NOW)


def content(notices: Notices) -> bytes:
    (message, _), = notices  # fmt: skip
    return b"".join(message.content.chunks())


def test_one_notification_tells_of_all_that_failed() -> None:
    desk = Desk(hosts={"provider": "mx.example.org"})
    notices, silent = desk.failed(delivery(recipient("bob"), recipient("cy", "FAILURE"), recipient("dot", "DELAY")))
    assert silent == ["dot"]
    said = content(notices)
    assert said.count(b"\r\nFinal-Recipient: ") == 2
    assert b"bob@example.org" in said
    assert b"cy@example.org" in said
    assert b"dot@example.org" not in said
    assert b"\r\nRemote-MTA: dns; mx.example.org\r\n" in said
    assert desk.told == [("ID0", notices[0][0].id, Action.FAILED, ["bob", "cy"])]


def test_the_envelope_of_a_notification_brings_no_other() -> None:
    ((message, planned),), silent = Desk().failed(delivery(recipient("bob")))
    assert silent == []
    assert message.envelope == Envelope(NULL, (Recipient(ANN, RcptParameters(("NEVER",))),))
    assert message.client == Client("submission", "", 0, "relay.example.net", "local", "nextcloud")
    assert (message.received_at, message.digest) == (NOW, b"")
    assert len(message.id) == LENGTH
    assert read_id(message.id) == (int(NOW * 1000), 7)
    assert (planned.lane, planned.route, planned.expires_at) == (primary_lane("apps"), "apps", NOW + 500)
    assert (planned.recipients, planned.running, planned.doubt) == (None, False, None)
    again = delivery(*message.envelope.recipients, reverse_path=NULL, content=content(((message, planned),)))
    assert Desk().failed(again) == ((), ["ann"])


def test_a_notification_survives_the_store() -> None:
    eve = Address("ève", "exämple.com")
    ((message, planned),), _ = Desk().failed(delivery(recipient("bob"), reverse_path=eve))
    client, envelope, plans, *_ = decode_record(encode_record(message, [planned]))
    assert (client, envelope, plans) == (message.client, message.envelope, (planned,))


def test_a_notification_goes_its_own_way_where_there_is_one() -> None:
    asked: list[Message] = []

    def route_of(notice: Message) -> str | None:
        asked.append(notice)
        return "other"

    ((message, planned),), _ = Desk(route_of=route_of).failed(delivery(recipient("bob")))
    assert (planned.lane, planned.route, planned.expires_at) == (primary_lane("other"), "other", NOW + 700)
    assert asked == [message]


def test_what_it_takes_to_carry_a_notification() -> None:
    eve = Address("ève", "exämple.com")
    ((message, _),), _ = Desk().failed(delivery(recipient("bob"), reverse_path=eve))
    assert message.envelope.parameters == MailParameters(body="8BITMIME", smtputf8=True)
    assert message.envelope.needs_smtputf8
    whole = delivery(recipient("bob"), content=b"Subject: x\r\n\r\n\xfc\r\n")
    parameters = MailParameters(ret="FULL", smtputf8=True, body="8BITMIME", envid="x", size=5)
    envelope = replace(whole.message.envelope, parameters=parameters)
    whole = replace(whole, message=replace(whole.message, envelope=envelope))
    ((message, _),), _ = Desk().failed(whole)
    assert message.envelope.parameters == MailParameters(body="8BITMIME"), "nothing else of the original's"
    assert not message.content.is_ascii


def test_the_sender_can_be_chosen() -> None:
    assert b"\r\nFrom: Mail delivery <MAILER-DAEMON@relay.example.net>\r\n" in content(
        Desk().failed(delivery(recipient("bob")))[0]
    )
    notices, _ = Desk(sender="postmaster@example.com").failed(delivery(recipient("bob")))
    assert b"\r\nFrom: Mail delivery <postmaster@example.com>\r\n" in content(notices)


@pytest.mark.parametrize(
    ("notify", "failed", "delayed", "relayed"),
    [
        ((), True, True, False),
        (("NEVER",), False, False, False),
        (("FAILURE",), True, False, False),
        (("DELAY",), False, True, False),
        (("SUCCESS",), False, False, True),
        (("SUCCESS", "FAILURE"), True, False, True),
        (("FAILURE", "DELAY"), True, True, False),
    ],
)
def test_notify_is_honoured(notify: tuple[str, ...], failed: bool, delayed: bool, relayed: bool) -> None:
    to = delivery(recipient("bob", *notify))
    notices, silent = Desk().failed(to)
    assert (len(notices), silent) == ((1, []) if failed else (0, ["bob"]))
    assert len(Desk().delayed(to)) == delayed
    assert len(Desk().relayed(to)) == relayed
    assert Desk().relayed(to, dsn=True) == (), "the upstream answers for it"


def test_what_is_only_assumed_to_be_sent_is_not_called_relayed() -> None:
    silence = Failure(Phase.DOT, Cause.TIMEOUT, "no answer")
    assert Desk().relayed(delivery(recipient("bob", "SUCCESS")), answer=silence) == ()


def test_a_delay_says_until_when() -> None:
    said = content(Desk().delayed(delivery(recipient("bob"))))
    assert b"\r\nAction: delayed\r\n" in said
    assert b"\r\nWill-Retry-Until: Sun, 09 Sep 2001 02:01:40 +0000\r\n" in said


@pytest.mark.parametrize("to", [delivery(recipient("bob", "SUCCESS", "FAILURE", "DELAY"), reverse_path=NULL),
                                delivery(recipient("bob", "SUCCESS", "FAILURE", "DELAY"), copy=True)],
                         ids=["null reverse-path", "copy"])  # fmt: skip
def test_nobody_hears_of_these(to: Delivery) -> None:
    desk = Desk()
    assert desk.failed(to) == ((), ["bob"])
    assert desk.delayed(to) == ()
    assert desk.relayed(to) == ()
    assert desk.told == desk.capped_for == []


def test_content_that_cannot_be_read_is_no_reason_to_be_silent() -> None:
    class Gone(MemoryContent):
        def head(self, limit: int) -> bytes:
            raise OSError("input/output error")

    to = delivery(recipient("bob"))
    to = replace(to, message=replace(to.message, content=Gone(b"")))
    assert b"\r\nAction: failed\r\n" in content(Desk().failed(to)[0])


def test_an_address_gets_so_many_in_an_hour() -> None:
    desk = Desk(per_hour=2)
    hour = NOW - NOW % 3600
    to = delivery(recipient("bob"))
    same = delivery(recipient("bob"), reverse_path=Address("ann", "EXAMPLE.com"))
    other = delivery(recipient("bob"), reverse_path=Address("ben", "example.com"))
    assert [desk.failed(to, hour + minute)[1] for minute in (0, 1)] == [[], []]
    assert [desk.failed(same, hour + minute) for minute in (2, 3599)] == [((), ["bob"]), ((), ["bob"])]
    assert desk.capped_for == ["ann@EXAMPLE.com 2"], "once in an hour"
    assert desk.failed(other, hour + 3599)[1] == []
    assert [desk.failed(to, hour + 3600)[1] for _ in range(3)] == [[], [], ["bob"]]
    assert desk.capped_for == ["ann@EXAMPLE.com 2", "ann@example.com 2"]
    assert len(desk.told) == 5


def test_all_kinds_count_together() -> None:
    desk = Desk(per_hour=1)
    to = delivery(recipient("bob", "FAILURE", "DELAY"))
    assert len(desk.delayed(to)) == 1
    assert desk.failed(to) == ((), ["bob"])
    assert len(desk.capped_for) == 1


def test_none_is_none_and_needs_no_word() -> None:
    desk = Desk(per_hour=0)
    assert desk.failed(delivery(recipient("bob"))) == ((), ["bob"])
    assert desk.delayed(delivery(recipient("bob"))) == ()
    assert desk.capped_for == []


def test_the_count_is_bounded_and_forgets_the_earliest() -> None:
    cap = HourlyCap(1)
    for number in range(10_000):
        assert cap.count(Address(f"a{number}", "x"), NOW) == 0
    assert cap.count(Address("a9999", "x"), NOW) == 1
    assert cap.count(Address("new", "x"), NOW) == 0
    assert cap.count(Address("a0", "x"), NOW) == 0, "it was forgotten"
    assert cap.count(Address("a9999", "x"), NOW) == 2
    assert cap.count(Address("a9999", "x"), NOW - 7200) == 0, "a clock that was put back is another hour"
