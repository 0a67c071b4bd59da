"""Attempts out of the spool: failover, the intent before the content, and what is done about a doubt."""

import errno
from collections.abc import Iterator, Sequence

import pytest

from rig.stage import ANN, BOB, BUSY, DOWN, EVE, LATER, NEVER, OK, SILENT, message_of
from waypost.clock import FakeClock
from waypost.delivery.availability import SLEEP, Availability
from waypost.delivery.candidates import Candidates
from waypost.delivery.sender import Fit
from waypost.delivery.spool import Delivery, Note, SpoolError, copy_lane, primary_lane
from waypost.delivery.transfer import AT_ONCE, Carrier
from waypost.mail.content import Content, MemoryContent
from waypost.mail.message import Client, Recipient
from waypost.mail.outcome import (
    Answer,
    Attempt,
    Cause,
    Failure,
    Outcome,
    Phase,
    RecipientOutcome,
    Role,
    Status,
    Stopped,
)
from waypost.routing.health import State
from waypost.routing.route import InDoubtPolicy, Member, Pool, StrategyName, Upstream
from waypost.smtp import commands as c
from waypost.smtp.client import Extensions
from waypost.smtp.reply import reply

R, D, F, I = Status.RELAYED, Status.DEFERRED, Status.FAILED, Status.IN_DOUBT  # noqa: E741
NOT_YOURS = reply(550, "5.7.60", "Client does not have permissions to send as this sender")
QUOTA = reply(550, "5.4.5", "Daily user sending limit exceeded; try again after 3600 seconds")
CROWDED = reply(452, "4.5.3", "Too many recipients")


class Upstreams:
    """The `Sender`: what each upstream answers to MAIL, RCPT and the dot; and the trace of what was done."""

    def __init__(self) -> None:
        self.mail: dict[str, Answer] = {}
        self.rcpt: dict[tuple[str, Recipient], Answer] = {}
        self.dot: dict[str, Answer | Exception] = {}
        self.each: dict[str, Sequence[Answer]] = {}  # after the content, for each recipient
        self.chunking: set[str] = set()
        self.unanswered: set[str] = set()
        """Upstreams that are sent everything at once, and close without an answer."""
        self.room = 100
        self.trace: list[str] = []

    async def begin(
        self, upstream: Upstream, fit: Fit, *, client: Client, background: bool, content: Content | None = None
    ) -> "Begun | Stopped":
        assert background
        name = upstream.name
        fitted = fit(Extensions(dsn=name in self.chunking, chunking=name in self.chunking))
        assert not isinstance(fitted, Failure)
        answer = self.mail.get(name, OK)
        if isinstance(answer, Failure) or not answer.is_positive:
            self.trace.append(f"{name} refuses")
            return Stopped(answer.phase if isinstance(answer, Failure) else Phase.MAIL, answer)
        if name in self.unanswered:
            return Stopped(Phase.DOT, GONE)
        answers = [self._answer(name, command, place) for place, command in enumerate(fitted[1])]
        lent = Lent(self, upstream, fitted[0])
        if content is not None and name in self.chunking:
            b"".join(content.chunks())  # all of it is read before anything is written
            return Begun(lent, answers, (await lent.send(content))[1])
        return Begun(lent, answers, None)

    def _answer(self, name: str, command: c.Rcpt, place: int) -> Answer:
        if place >= self.room:
            return CROWDED
        return next((a for (n, r), a in self.rcpt.items() if n == name and r.address == command.forward_path), OK)


class Lent:
    reused = False
    tls = None
    phases = ()
    is_closed = False

    def __init__(self, upstreams: Upstreams, upstream: Upstream, mail: c.Mail) -> None:
        self.upstreams = upstreams
        self.name = upstream.name
        self.extensions = Extensions(dsn=upstream.name in upstreams.chunking)

    async def add(self, recipients: Sequence[c.Rcpt]) -> Sequence[Answer]:
        raise AssertionError("nobody comes later")

    async def send(self, content: Content) -> tuple[Phase, Answer]:
        answer = self.upstreams.dot.get(self.name, OK)
        if isinstance(answer, Exception):
            raise answer
        try:
            size = sum(map(len, content.chunks()))
        except OSError as error:
            self.upstreams.trace.append(f"{self.name} is cut off")
            return Phase.CONTENT, Failure(Phase.CONTENT, Cause.LOCAL, str(error))
        self.upstreams.trace.append(f"{self.name} gets {size}")
        return answer.phase if isinstance(answer, Failure) else Phase.DOT, answer

    def verdicts(self, answer: Answer) -> Sequence[Answer]:
        return self.upstreams.each.get(self.name, ())

    def release(self) -> None:
        pass


class Begun:
    def __init__(self, lent: Lent, recipients: Sequence[Answer], dot: Answer | None) -> None:
        self.lent = lent
        self.recipients = recipients
        self.dot = dot


class Office:
    """A carrier and everything around it."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.upstreams = Upstreams()
        self.trace = self.upstreams.trace
        self.slept: list[tuple[str, float]] = []
        self.availability = Availability(self.clock, self.on_sleep)
        self.candidates = Candidates(self.upstreams, self.clock, lambda: 0.5, availability=self.availability)
        self.broken: Exception | None = None
        self.carrier = Carrier(self.candidates, self.intend, self, self.clock)

    def on_sleep(self, upstream: str, until: float, reason: str) -> None:
        self.slept.append((upstream, until - self.clock.time() if until else 0))

    async def intend(self, delivery: Delivery, upstream: str) -> None:
        if self.broken is not None:
            raise self.broken
        self.trace.append(f"intend {upstream}")

    def attempted(self, message_id: str, attempt: Attempt, role: Role) -> None:
        self.trace.append(f"log {attempt.upstream} {role}")

    async def recorded(self) -> None:
        pass

    def in_doubt(self, delivery: Delivery, attempt: Attempt) -> None:
        self.trace.append(f"doubt {attempt.upstream}")

    def relayed(self, delivery: Delivery, recipients: Sequence[Recipient], attempt: Attempt) -> None:
        raise AssertionError("told of by the lane")

    def deferred(self, delivery: Delivery, waiting: Sequence[RecipientOutcome], at: float) -> None:
        raise AssertionError("told of by the lane")

    def failed(self, delivery: Delivery, failed: Sequence[RecipientOutcome]) -> None:
        raise AssertionError("told of by the lane")

    def dead(self, delivery: Delivery, recipients: Sequence[Recipient], reason: str) -> None:
        raise AssertionError("told of by the lane")

    def delivery(self, *recipients: Recipient, lane: str = primary_lane("apps"), id_: int = 1) -> Delivery:
        message = message_of(f"m{id_}", self.clock.time(), *(recipients or (ANN,)))
        return Delivery(id_, message, lane, "apps", 0, self.clock.time() + 1000)

    async def deliver(
        self,
        *recipients: Recipient,
        pool: Pool | None = None,
        policy: InDoubtPolicy = "retry-same",
        doubt: str | None = None,
        content: Content | None = None,
        lane: str = primary_lane("apps"),
    ) -> Outcome:
        message = message_of("m1", self.clock.time(), *(recipients or (ANN,)))
        if content is not None:
            message = type(message)("m1", message.received_at, message.client, message.envelope, content)
        delivery = Delivery(1, message, lane, "apps", 0, self.clock.time() + 1000, doubt)
        outcome = await self.carrier.deliver(delivery, pool or pool_of("a", "b"), policy)
        self.carrier.settled(delivery)
        return outcome


def pool_of(*names: str, strategy: StrategyName = "ordered", **more: float) -> Pool:
    upstreams = (Upstream(name, "localhost", 25, **more) for name in names)  # type: ignore[arg-type]
    return Pool("pool", tuple(map(Member, upstreams)), strategy)


def fates(outcome: Outcome) -> list[tuple[Recipient, Status, str]]:
    return [(each.recipient, each.status, each.upstream) for each in outcome.recipients]


@pytest.fixture
def office() -> Office:
    return Office()


# -- the intent


async def test_the_intent_is_recorded_before_the_content_goes(office: Office) -> None:
    assert fates(await office.deliver()) == [(ANN, R, "a")]
    assert office.trace == ["intend a", "a gets 7"]


async def test_a_copy_that_leaves_in_one_write_is_intended_before_anything_is_sent(office: Office) -> None:
    office.upstreams.chunking.add("a")
    outcome = await office.deliver(lane=copy_lane("pool"))
    assert fates(outcome) == [(ANN, R, "a")]
    assert office.trace == ["intend a", "a gets 7"]
    assert outcome.attempts[0].dsn, "as the upstream offers it"


async def test_a_large_copy_is_intended_when_its_recipients_are_accepted(office: Office) -> None:
    office.upstreams.chunking.add("a")
    office.upstreams.mail["a"] = LATER
    content = MemoryContent(b"x" * AT_ONCE + b"\r\n")
    assert fates(await office.deliver(lane=copy_lane("pool"), content=content)) == [(ANN, R, "b")]
    assert office.trace == ["a refuses", "log a copy", "intend b", f"b gets {AT_ONCE + 2}"]


async def test_nothing_is_sent_when_the_intent_cannot_be_recorded(office: Office) -> None:
    office.broken = SpoolError("disk full")
    [fate] = (await office.deliver()).recipients
    assert (fate.status, str(fate.answer)) == (D, "local at content: the spool cannot be written: disk full")
    assert office.trace == []


async def test_each_upstream_that_gets_content_was_intended(office: Office) -> None:
    office.upstreams.dot["a"] = LATER
    assert fates(await office.deliver()) == [(ANN, R, "b")]
    assert office.trace == ["intend a", "a gets 7", "log a primary", "intend b", "b gets 7"]


async def test_an_intent_is_not_recorded_twice(office: Office) -> None:
    assert fates(await office.deliver(doubt="a")) == [(ANN, R, "a")]
    assert office.trace == ["a gets 7"], "it was on record already"


async def test_the_intents_of_copies_are_recorded_together(office: Office) -> None:
    office.upstreams.chunking.add("a")
    alone = pool_of("a")
    m1, m2 = (office.delivery(lane=copy_lane("a"), id_=number) for number in (1, 2))
    await office.carrier.announce([m1, m2], alone)
    assert office.trace == ["intend a", "intend a"]
    for delivery in (m1, m2):
        assert fates(await office.carrier.deliver(delivery, alone, "retry-same")) == [(ANN, R, "a")]
        office.carrier.settled(delivery)
    assert office.trace[2:] == ["a gets 7", "a gets 7"]
    assert office.carrier.on_record == {}
    await office.carrier.announce([m1, m2], pool_of("a", "b"))
    assert office.carrier.on_record == {}, "which of them is tried is not known yet"


async def test_intents_that_could_not_be_recorded_together_are_tried_one_by_one(office: Office) -> None:
    delivery = office.delivery(lane=copy_lane("a"))
    office.broken = SpoolError("disk full")
    await office.carrier.announce([delivery], pool_of("a"))
    office.broken = None
    await office.carrier.deliver(delivery, pool_of("a"), "retry-same")
    assert office.trace == ["intend a", "a gets 7"]


async def test_a_delivery_that_found_no_connection_is_not_intended_again(office: Office) -> None:
    office.upstreams.mail["a"] = BUSY
    delivery = office.delivery(lane=copy_lane("a"))
    for _ in range(3):
        await office.carrier.deliver(delivery, pool_of("a"), "retry-same")
    assert office.trace.count("intend a") == 1


# -- in doubt


@pytest.mark.parametrize("policy", ["retry-same", "tempfail"])
async def test_what_is_in_doubt_stays_with_the_upstream_that_may_have_it(office: Office, policy: InDoubtPolicy) -> None:
    office.upstreams.dot["a"] = SILENT
    assert fates(await office.deliver(policy=policy)) == [(ANN, I, "a")]
    assert office.trace == ["intend a", "a gets 7", "doubt a"]
    office.trace.clear()
    office.upstreams.mail["a"] = DOWN
    assert fates(await office.deliver(policy=policy, doubt="a")) == [(ANN, I, "a")]
    assert office.trace == ["a refuses", "log a primary"], "nobody else was asked"
    del office.upstreams.mail["a"]
    office.upstreams.dot["a"] = OK
    assert fates(await office.deliver(policy=policy, doubt="a")) == [(ANN, R, "a")]


async def test_the_others_may_be_asked_once_it_has_answered(office: Office) -> None:
    office.upstreams.dot["a"] = LATER
    assert fates(await office.deliver(doubt="a")) == [(ANN, D, "a")], "not in doubt any more"
    office.upstreams.mail["a"] = NOT_YOURS
    assert fates(await office.deliver(doubt="a")) == [(ANN, D, "a")], "refused there: the others next time"
    assert fates(await office.deliver(doubt="a", pool=pool_of("a"))) == [(ANN, F, "a")], "there are no others"
    office.upstreams.mail["a"] = LATER
    assert fates(await office.deliver(doubt="a")) == [(ANN, I, "a")], "it has not answered for the content"


async def test_when_the_doubted_upstream_has_gone_the_others_are_asked(office: Office) -> None:
    assert fates(await office.deliver(doubt="gone")) == [(ANN, R, "a")]
    office.upstreams.dot["a"] = office.upstreams.dot["b"] = LATER
    assert fates(await office.deliver(doubt="gone")) == [(ANN, I, "gone")], "it may come back"


async def test_failover_asks_the_others_at_once(office: Office) -> None:
    office.upstreams.dot["a"] = SILENT
    assert fates(await office.deliver(policy="failover")) == [(ANN, R, "b")]
    assert office.trace == ["intend a", "a gets 7", "doubt a", "intend b", "b gets 7"]
    office.upstreams.dot["b"] = LATER
    assert fates(await office.deliver(policy="failover")) == [(ANN, I, "a")]
    assert fates(await office.deliver(policy="failover", doubt="b"))[0][1] is I


async def test_a_doubt_ends_the_attempt_for_everybody(office: Office) -> None:
    """Else there could be two upstreams that may have it, of which one would be forgotten."""
    office.upstreams.rcpt["a", BOB] = LATER
    office.upstreams.dot["a"] = SILENT
    assert sorted(fates(await office.deliver(ANN, BOB)), key=str) == sorted([(ANN, I, "a"), (BOB, D, "a")], key=str)
    assert "intend b" not in office.trace


GONE = Failure(Phase.MAIL, Cause.CLOSED, "the upstream closed the connection")


@pytest.mark.parametrize("phase", [Phase.MAIL, Phase.RCPT])
async def test_a_copy_that_was_sent_at_once_and_not_answered_for_is_in_doubt(office: Office, phase: Phase) -> None:
    office.upstreams.chunking.add("a")
    if phase is Phase.MAIL:
        office.upstreams.unanswered.add("a")
    else:
        office.upstreams.rcpt["a", ANN] = GONE
        office.upstreams.dot["a"] = SILENT
    assert fates(await office.deliver(lane=copy_lane("pool"))) == [(ANN, I, "a")]
    assert office.trace[-1] == "doubt a"
    assert "intend b" not in office.trace


async def test_a_break_after_the_intent_leaves_a_doubt(office: Office) -> None:
    office.upstreams.dot["a"] = RuntimeError("a defect")
    assert fates(await office.deliver()) == [(ANN, I, "a")]
    office.upstreams.dot["a"] = ConnectionResetError("a defect, and not of the content")
    assert fates(await office.deliver()) == [(ANN, I, "a")]


# -- content that cannot be read


class Lost(MemoryContent):
    """Spooled content whose file is gone, or the rest of it."""

    def __init__(self, error: OSError, whole: bytes = b"") -> None:
        super().__init__(whole or b"x" * 100)
        self.error = error

    def chunks(self, start: int = 0) -> Iterator[bytes]:
        yield b"x"
        raise self.error


@pytest.mark.parametrize("lane", [primary_lane("apps"), copy_lane("pool")])
@pytest.mark.parametrize("chunking", [False, True])
async def test_content_that_is_gone_ends_the_delivery(office: Office, lane: str, chunking: bool) -> None:
    if chunking:
        office.upstreams.chunking.add("a")
    [fate] = (await office.deliver(lane=lane, content=Lost(OSError("m1 ends at octet 1 of 100")))).recipients
    assert (fate.recipient, fate.status) == (ANN, F)
    assert str(fate.answer) == "local at content: the content cannot be read: m1 ends at octet 1 of 100"
    assert not any("gets" in step for step in office.trace), "nobody was given a part of it for the whole"
    assert "intend b" not in office.trace
    health = office.availability.health["a"]
    assert health.state(office.clock.monotonic()) is State.CLOSED


async def test_content_that_cannot_be_read_for_now_is_read_again(office: Office) -> None:
    [fate] = (await office.deliver(content=Lost(OSError(errno.EMFILE, "Too many open files")))).recipients
    assert fate.status is D


# -- several upstreams, several recipients


async def test_every_recipient_has_its_own_way(office: Office) -> None:
    office.upstreams.rcpt["a", BOB] = LATER
    office.upstreams.rcpt["a", EVE] = NEVER
    outcome = await office.deliver(ANN, BOB, EVE)
    assert set(fates(outcome)) == {(ANN, R, "a"), (BOB, R, "b"), (EVE, F, "a")}
    assert [attempt.upstream for attempt in outcome.attempts] == ["a", "b"]


async def test_too_many_recipients_go_in_several_transactions(office: Office) -> None:
    office.upstreams.room = 1
    assert [fate[1:] for fate in fates(await office.deliver(ANN, BOB, EVE))] == [(R, "a")] * 3
    assert office.trace.count("a gets 7") == 3


async def test_when_nobody_takes_it_one_transient_answer_defers(office: Office) -> None:
    office.upstreams.mail |= {"a": NOT_YOURS, "b": LATER}
    outcome = await office.deliver()
    assert fates(outcome) == [(ANN, D, "a")]
    assert outcome.recipients[0].answer == NOT_YOURS, "in the words of the first choice"
    office.upstreams.mail["b"] = NOT_YOURS
    assert fates(await office.deliver()) == [(ANN, F, "a")]


# -- pace


async def test_an_upstream_that_has_spent_its_pace_is_passed_over(office: Office) -> None:
    pool = pool_of("a", "b", rate=2)
    assert [fates(await office.deliver(pool=pool))[0][2] for _ in range(4)] == ["a", "a", "b", "b"]
    assert office.carrier.pause(pool) == pytest.approx(0.5)
    office.clock.advance(0.5)
    assert office.carrier.pause(pool) == 0
    assert fates(await office.deliver(pool=pool))[0][2] == "a"


async def test_one_that_is_ill_does_not_hold_the_pace_of_the_others(office: Office) -> None:
    office.upstreams.mail["a"] = DOWN
    for _ in range(3):
        await office.deliver(pool=pool_of("a"))
    pool = pool_of("a", "b", rate=1)
    assert fates(await office.deliver(pool=pool)) == [(ANN, R, "b")]
    assert office.carrier.pause(pool) == pytest.approx(1), "the tokens of one that may not be tried do not count"


# -- sleep


async def test_sleep_is_told_and_restored(office: Office) -> None:
    office.upstreams.mail["a"] = QUOTA
    await office.deliver()
    assert office.slept == [("a", 3600)]
    other = Office()
    until = other.clock.time() + 3600
    other.availability.restore([Note(SLEEP, "a", "spent", until), Note("unheard", "b", "{}", until)])
    assert other.availability.health["a"].state(other.clock.monotonic()) is State.ASLEEP
    assert "b" not in other.availability.health
    assert fates(await other.deliver()) == [(ANN, R, "b")]
    other.availability.restore([Note(SLEEP, "a", "", 0)])
    assert other.availability.health["a"].state(other.clock.monotonic()) is State.CLOSED
    assert fates(await other.deliver()) == [(ANN, R, "a")]
    assert other.slept == [], "what others told is not told again"


async def test_a_sleep_that_was_noted_by_a_wrong_clock_ends_within_a_day(office: Office) -> None:
    office.availability.restore([Note(SLEEP, "a", "spent", office.clock.time() + 400 * 86400)])
    assert fates(await office.deliver()) == [(ANN, R, "b")]
    office.clock.advance(86400)
    assert fates(await office.deliver()) == [(ANN, R, "a")]


async def test_a_pool_sleeps_when_all_of_it_does(office: Office) -> None:
    office.upstreams.mail["a"] = QUOTA
    await office.deliver()
    assert office.carrier.sleeps(pool_of("a"))
    assert not office.carrier.sleeps(pool_of("a", "b"))
    office.clock.advance(3601)
    assert not office.carrier.sleeps(pool_of("a"))


async def test_waking_up_is_told(office: Office) -> None:
    office.upstreams.mail["a"] = QUOTA
    await office.deliver()
    del office.upstreams.mail["a"]
    office.clock.advance(3601)
    await office.deliver()
    assert office.slept == [("a", 3600), ("a", 0)]


async def test_a_note_that_comes_late_does_not_close_what_is_ill(office: Office) -> None:
    office.upstreams.mail["a"] = DOWN
    for _ in range(3):
        await office.deliver()
    office.availability.restore([Note(SLEEP, "a", "", 0)])
    assert office.availability.health["a"].state(office.clock.monotonic()) is State.OPEN


# -- an answer for each recipient


async def test_each_is_settled_by_its_own_answer(office: Office) -> None:
    office.upstreams.each["a"] = (OK, LATER, NEVER)
    outcome = await office.deliver(ANN, BOB, EVE)
    assert fates(outcome) == [(ANN, R, "a"), (EVE, F, "a"), (BOB, R, "b")]
    assert office.trace[:2] == ["intend a", "a gets 7"]
    assert [attempt.answer for attempt in outcome.attempts][:3] == [OK, LATER, NEVER]
    assert [attempt.rule for attempt in outcome.attempts][:3] == [
        "accepted",
        "recipient-transient",
        "recipient-permanent",
    ]


async def test_those_without_an_answer_are_in_doubt_alone(office: Office) -> None:
    office.upstreams.each["a"] = (OK, GONE, LATER)
    outcome = await office.deliver(ANN, BOB, EVE)
    assert fates(outcome) == [(ANN, R, "a"), (BOB, I, "a"), (EVE, D, "a")]
    assert "doubt a" in office.trace
    assert "b gets 7" not in office.trace, "what is in doubt waits for the one that may have it"


async def test_a_full_mailbox_puts_no_upstream_to_sleep(office: Office) -> None:
    full = reply(452, "4.2.2", "Over quota")
    office.upstreams.each["a"] = (full,)
    assert fates(await office.deliver(pool=pool_of("a"))) == [(ANN, D, "a")]
    assert office.slept == []
    office.upstreams.each.clear()
    office.upstreams.dot["a"] = full
    await office.deliver(pool=pool_of("a"))
    assert office.slept, "as an answer for the message it would"
