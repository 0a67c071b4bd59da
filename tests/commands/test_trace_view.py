"""The life of a message as a person reads it, from records that the mail log has made."""

import json
from collections.abc import Callable

import pytest

from waypost.commands.trace_fate import fate
from waypost.commands.trace_view import render
from waypost.mail.content import MemoryContent
from waypost.mail.message import Client, Envelope, Message, Recipient
from waypost.mail.outcome import Attempt, Cause, Failure, Phase, Role
from waypost.observe.maillog import MailLog
from waypost.observe.metrics import Metrics
from waypost.smtp.address import NULL, Address
from waypost.smtp.reply import reply

START = 1_767_225_600.25  # 2026-01-01T00:00:00.250Z
CLIENT = Client("127.0.0.1:2525", "192.0.2.7", 40001, "cloud.example.com", "ESMTPSA", "nextcloud", "TLSv1.3 X")
ANN = Address("ann", "example.com")
BOB, EVE = Recipient(Address("bob", "example.net")), Recipient(Address("eve", "example.org"))
MESSAGE = Message(
    "06H02FAVX47CCNYM",
    START,
    CLIENT,
    Envelope(ANN, (BOB, EVE)),
    MemoryContent(b"Message-ID: <1@example.com>\r\n\r\n" + b"x" * 1000 + b"\r\n"),
    bytes(range(32)),
)
NOTICE = Message("06H0NOTICE000001", START, CLIENT, Envelope(NULL, (Recipient(ANN),)), MemoryContent(b"x\r\n"))
PHASES = ((Phase.MAIL, 0.0021), (Phase.RCPT, 0.0034), (Phase.DOT, 0.0305))
TAKEN = Attempt(
    "ses", Phase.DOT, reply(250, "2.0.0", "Ok: queued as 4XyzAB12"), "accepted", 0.036, False, "TLSv1.3 Y", PHASES
)
GREYLISTED = Attempt("gmail", Phase.RCPT, reply(451, "4.7.1", "Greylisted, try again"), "transient", 0.0123, True)
SILENT = Attempt("ses", Phase.DOT, Failure(Phase.DOT, Cause.TIMEOUT, "no answer in 600 s"), "in-doubt", 600.0)
UNREACHABLE = Attempt(
    "old", Phase.CONNECT, Failure(Phase.CONNECT, Cause.UNREACHABLE, "connection refused"), "unreachable", 0.0002
)
FORGOTTEN = Attempt(
    "ses", Phase.DOT, Failure(Phase.DOT, Cause.LOCAL, "no outcome was recorded before the restart"), "in-doubt", 0.0
)


class Life:
    """A mail log with a clock that is set by hand, and the records of the first message in it."""

    def __init__(self) -> None:
        self.now = START
        self.records: list[dict[str, object]] = []
        self.others: list[dict[str, object]] = []
        self.log = MailLog(self._take, Metrics(process=False), clock=lambda: self.now)

    def _take(self, line: str) -> None:
        record = json.loads(line)
        (self.records if not self.records or record["id"] == self.records[0]["id"] else self.others).append(record)

    def at(self, seconds: float) -> MailLog:
        self.now = START + seconds
        return self.log

    def shown(self, width: int = 80) -> str:
        return render(self.records, width=width)


@pytest.fixture
def life() -> Life:
    made = Life()
    made.log.received(MESSAGE, "apps", "waypost.yaml:12:5", "hybrid")
    return made


def test_a_message_that_was_put_off_and_delivered_later(life: Life) -> None:
    life.at(0.0132).attempted(MESSAGE.id, GREYLISTED, Role.PRIMARY)
    life.at(0.025).queued(MESSAGE, ["apps"], (BOB, EVE), "451 4.7.1 Greylisted, try again")
    life.at(60.5).relayed(MESSAGE, TAKEN, (BOB, EVE))
    life.at(60.75).copied(MESSAGE, TAKEN, (BOB,), target="archive")

    assert life.shown() == (
        """\
06H02FAVX47CCNYM
  when       2026-01-01 00:00:00.250 UTC
  from       192.0.2.7 (cloud.example.com) on 127.0.0.1:2525, account nextcloud,
             TLSv1.3 X
  sender     ann@example.com
  recipients bob@example.net, eve@example.org
  content    1,033 octets, SHA-256
             000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f
  Message-ID <1@example.com>
  route      apps, by rule waypost.yaml:12:5, mode hybrid

  +0.000     came in whole
  +0.013     gmail did not take it, at rcpt: 451 4.7.1 Greylisted, try again
             12.3 ms, connection reused, rule transient
  +0.025     taken into the spool: ours from here on, because 451 4.7.1
             Greylisted, try again
  +1m 00s    ses took it: 250 2.0.0 Ok: queued as 4XyzAB12
             its id 4XyzAB12, 36.0 ms (mail 2.1 ms, rcpt 3.4 ms, dot 30.5 ms),
             new connection, rule accepted
             TLSv1.3 Y
  +1m 00s    ses took the copy: 250 2.0.0 Ok: queued as 4XyzAB12
             for bob@example.net
             its id 4XyzAB12, 36.0 ms (mail 2.1 ms, rcpt 3.4 ms, dot 30.5 ms),
             new connection, rule accepted
             TLSv1.3 Y

Now: delivered, ses has it; copy for archive: delivered, ses has it.
"""
    )


Story = Callable[[Life], object]


def told(*steps: Story) -> list[Story]:
    return list(steps)


@pytest.mark.parametrize(
    ("steps", "now"),
    [
        (told(), "on its way."),
        (
            told(lambda life: life.at(1).relayed(MESSAGE, TAKEN, (BOB,))),
            "for bob@example.net delivered, ses has it; for eve@example.org on its way.",
        ),
        (
            told(lambda life: life.at(1).queued(MESSAGE, ["apps"], (BOB, EVE), "mode spool")),
            "in the spool, to be delivered.",
        ),
        (
            told(
                lambda life: life.at(1).queued(MESSAGE, ["apps"], (BOB, EVE), "mode spool"),
                lambda life: life.at(2).deferred(MESSAGE, "apps", (EVE,), SILENT.answer, START + 60, Role.PRIMARY),
                lambda life: life.at(2).relayed(MESSAGE, TAKEN, (BOB,)),
            ),
            "for bob@example.net delivered, ses has it; for eve@example.org waiting until 2026-01-01 00:01:00 UTC.",
        ),
        (
            told(lambda life: life.at(1).deferred(MESSAGE, "apps", (BOB, EVE), GREYLISTED.answer, None, Role.PRIMARY)),
            "put off: it is the client that tries again.",
        ),
        (
            told(
                lambda life: life.at(1).refused(
                    CLIENT, "content", reply(552, "5.3.4", "Too big"), message_id=MESSAGE.id
                )
            ),
            "refused with 552 5.3.4 Too big.",
        ),
        (
            told(
                lambda life: life.at(1).refused(CLIENT, "content", reply(451, "4.3.0", "Disk"), message_id=MESSAGE.id)
            ),
            "refused with 451 4.3.0 Disk: it is the client that tries again.",
        ),
        (told(lambda life: life.at(600).in_doubt(MESSAGE, SILENT, Role.PRIMARY)), "in doubt whether ses has it."),
        (
            told(
                lambda life: life.at(600).in_doubt(MESSAGE, SILENT, Role.PRIMARY),
                lambda life: life.at(700).relayed(MESSAGE, TAKEN, (BOB, EVE)),
            ),
            "delivered, ses has it.",
        ),
        (
            told(
                lambda life: life.at(1).failed(MESSAGE, "apps", (EVE,), reply(550, "5.1.1", "Who?"), Role.PRIMARY),
                lambda life: life.at(1).relayed(MESSAGE, TAKEN, (BOB,)),
                lambda life: life.at(2).notified(MESSAGE, NOTICE, "failed", (EVE,)),
            ),
            "for bob@example.net delivered, ses has it; for eve@example.org failed for good: 550 5.1.1 Who?.",
        ),
        (
            told(lambda life: life.at(9).dead(MESSAGE, "apps", (BOB, EVE), "no notification: NEVER", Role.PRIMARY)),
            "dead letter: no notification: NEVER.",
        ),
        (
            told(
                lambda life: life.at(1).relayed(MESSAGE, TAKEN, (BOB, EVE)),
                lambda life: life.at(2).dead(MESSAGE, "archive", (BOB,), "expired", Role.COPY),
                lambda life: life.at(3).altered(MESSAGE.id, "hold", 1, Role.COPY, "new", ["bob@example.net"], "root"),
                lambda life: life.at(4).not_taken(MESSAGE, "third", "the disk is full"),
            ),
            "delivered, ses has it; copy for archive: dead letter: expired; copy for new: held until somebody releases"
            " it; copy for third: not made: the disk is full.",
        ),
        (
            told(
                lambda life: life.at(1).queued(MESSAGE, ["apps"], (BOB, EVE), "mode spool"),
                lambda life: life.at(3).altered(
                    MESSAGE.id, "delete", 1, Role.PRIMARY, "apps", ["bob@example.net", "eve@example.org"], "root"
                ),
            ),
            "deleted by hand.",
        ),
    ],
)
def test_the_last_sentence_says_where_it_is_now(life: Life, steps: list[Story], now: str) -> None:
    for step in steps:
        step(life)

    assert fate(life.records) == now
    assert " ".join(life.shown().split("\nNow: ")[1].split()) == now


def test_a_message_that_never_came_in() -> None:
    life = Life()
    life.log.refused(
        CLIENT, "rcpt", reply(550, "5.1.1", "Who?"), reverse_path=ANN, recipient=EVE.address, message_id="4Z"
    )
    life.at(3).abandoned(CLIENT, ANN, "4Z", "closed after 17 octets")

    shown = life.shown()

    assert "  +0.000     rcpt refused for eve@example.org: 550 5.1.1 Who?\n" in shown
    assert "  +3.000     the client went away in mid-content: closed after 17 octets\n" in shown
    assert shown.endswith("\nNow: refused with 550 5.1.1 Who?.\n")


def test_a_message_that_came_again() -> None:
    life = Life()
    life.log.answered_from_ledger(CLIENT, MESSAGE.envelope, "4Z", reply(250, "2.0.0", "OK (id 3Z)"))

    assert "came again, answered as the first time: 250 2.0.0 OK (id 3Z)\n" in life.shown()
    assert life.shown().endswith("\nNow: not sent, for it had been sent before.\n")


def test_the_life_of_a_notification(life: Life) -> None:
    life.at(1).notified(MESSAGE, NOTICE, "failed", (EVE,))

    assert "  +1.000     sender notified (failed), by message 06H0NOTICE000001\n" in life.shown()

    shown = render(life.others, width=80)

    assert "  from       Waypost itself, about message 06H02FAVX47CCNYM\n" in shown
    assert "  sender     <>\n" in shown
    assert "  +0.000     composed, to report: failed\n" in shown


def test_everything_that_can_happen_is_told_in_words(life: Life) -> None:
    life.at(1).in_doubt(MESSAGE, SILENT, Role.COPY)
    life.at(61).in_doubt(MESSAGE, FORGOTTEN, Role.PRIMARY)
    life.at(3700).dead(MESSAGE, "new", (BOB, EVE), "expired", Role.COPY)
    life.at(3600).attempted(MESSAGE.id, UNREACHABLE, Role.PRIMARY)
    life.at(3600).deferred(MESSAGE, "apps", (BOB, EVE), UNREACHABLE.answer, START + 7200, Role.PRIMARY)
    life.at(90061).altered(MESSAGE.id, "retry", 65537, Role.COPY, "new", ["bob@example.net"], "uid 0")
    life.at(0.25).advised(MESSAGE.id, "mine", "providers", ["ses", "gmail"])
    life.at(0.5).advised(MESSAGE.id, "mine", "providers", reply(550, "5.7.1", "No"))
    life.at(0.75).not_advised(MESSAGE.id, "mine", "providers", "timeout", "no answer within 0.25 s")
    life.at(-1.5).notice_suppressed(MESSAGE, 20)
    life.records.append(life.records[-1] | {"event": "teleported", "whither": "moon"})
    del life.records[-1]["reason"]

    for line in (
        "  +1.000     in doubt whether ses has it as a copy: no answer in 600 s (timeout\n             at dot)",
        "  +1m 01s    in doubt whether ses has it: no outcome was recorded before the",
        "  +1h 00m    old did not take it, at connect: connection refused",
        "  +1h 00m    put off (apps): connection refused (unreachable at connect)\n"
        "             next attempt 2026-01-01 02:00:00 UTC",
        "  +1h 01m    dead letter (copy for new): expired",
        "  +0.250     plugin mine chose for providers: ses, gmail",
        "  +0.500     plugin mine stopped it: 550 5.7.1 No",
        "  +0.750     plugin mine had no usable answer for providers: no answer within\n             0.25 s",
        "  +1d 01h    retry by hand (copy for new): delivery 65537, by uid 0",
        "  -1.500     sender not notified: it has had 20 notifications in this hour,",
        "  -1.500     teleported, reverse_path=ann@example.com, whither=moon",
    ):
        assert f"\n{line}\n" in life.shown()
    assert "connection" not in life.shown().split("before the")[1].split("+1h")[0], "nobody saw that attempt"


@pytest.mark.parametrize("width", [30, 60, 80, 132])
def test_it_keeps_within_the_width_and_lets_no_control_characters_through(life: Life, width: int) -> None:
    hostile = Attempt("old", Phase.DOT, reply(250, None, "\x1b[2J\x9b" + "word " * 60 + "x" * 300), "r\x1b", 1.5, True)
    many = [Recipient(Address(f"recipient{number}", "example.net")) for number in range(1000)]
    life.at(1).relayed(MESSAGE, hostile, many)
    life.at(2).dead(MESSAGE, "new\x07", many, "\u202e" + "because " * 40)

    lines = life.shown(width).split("\n")

    assert max(map(len, lines)) <= max(width, 33)
    assert all(line.isprintable() for line in lines)
    assert len(lines) < 120 if width >= 60 else lines


def test_without_records_there_is_nothing_to_show() -> None:
    assert render([], width=80) == ""
