"""What follows from an outcome: verdicts, and the settlements made of them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rig.stage import ANN, BOB, BUSY, DOWN, EVE, LATER, NEVER, OK, SENDER, SILENT, message_of, pool_of
from waypost.delivery.notices import NoNotices, Notices
from waypost.delivery.settling import Follower
from waypost.delivery.spool import Delivery, Planned, Settlement, copy_lane, primary_lane
from waypost.delivery.verdict import BUSY_PAUSE, FAULT_PAUSE, Verdict, expired, judge, postponed
from waypost.mail.message import Recipient
from waypost.mail.outcome import Answer, Attempt, Cause, Failure, Outcome, Phase, RecipientOutcome, Role, Status
from waypost.routing.route import Backoff, Copy, Route
from waypost.smtp.reply import reply

NOW = 1_000_000_000.0
STEADY = Backoff(jitter=0)
R, D, F, I = Status.RELAYED, Status.DEFERRED, Status.FAILED, Status.IN_DOUBT  # noqa: E741


def delivery_to(
    *recipients: Recipient,
    lane: str = "copy:new",
    attempts: int = 0,
    expires_at: float = NOW + 432_000,
    doubt: str | None = None,
    warned: bool = False,
) -> Delivery:
    return Delivery(1, message_of("m1", NOW, *recipients), lane, "migration", attempts, expires_at, doubt, warned)


def outcome_of(*fates: tuple[Recipient, Status, Answer], phase: Phase = Phase.DOT) -> Outcome:
    recipients = tuple(RecipientOutcome(r, status, answer, "new") for r, status, answer in fates)
    return Outcome(recipients, (Attempt("new", phase, fates[-1][2], "rule", 0.1),))


def named(fates: Sequence[RecipientOutcome]) -> tuple[Recipient, ...]:
    return tuple(fate.recipient for fate in fates)


# -- verdicts


def test_relayed_to_all_is_done() -> None:
    verdict = judge(delivery_to(ANN, BOB), outcome_of((ANN, R, OK), (BOB, R, OK)), STEADY, NOW, 0.5)
    assert named(verdict.relayed) == (ANN, BOB)
    assert (verdict.again, verdict.failed, verdict.reached, verdict.doubt) == ((), (), True, None)


def test_each_recipient_has_a_fate_of_its_own() -> None:
    outcome = outcome_of((ANN, R, OK), (BOB, F, NEVER), (EVE, D, LATER))
    verdict = judge(delivery_to(ANN, BOB, EVE), outcome, STEADY, NOW, 0.5)
    assert (named(verdict.relayed), named(verdict.failed), named(verdict.again)) == ((ANN,), (BOB,), (EVE,))
    assert verdict.at == NOW + 60


def test_deferred_is_tried_again() -> None:
    verdict = judge(delivery_to(ANN, attempts=2), outcome_of((ANN, D, LATER)), STEADY, NOW, 0.5)
    assert (named(verdict.again), verdict.at, verdict.doubt) == ((ANN,), NOW + 300, None)


def test_in_doubt_is_tried_again_and_remembered() -> None:
    verdict = judge(delivery_to(ANN, BOB), outcome_of((ANN, I, SILENT), (BOB, D, LATER)), STEADY, NOW, 0.5)
    assert (named(verdict.again), verdict.at, verdict.doubt) == ((ANN, BOB), NOW + 60, "new")


def test_in_doubt_is_done_where_it_is_assumed_to_be_sent() -> None:
    verdict = judge(delivery_to(ANN), outcome_of((ANN, I, SILENT)), STEADY, NOW, 0.5, assume_sent=True)
    assert (named(verdict.relayed), verdict.again, verdict.doubt) == ((ANN,), (), None)


def test_a_recipient_without_an_outcome_is_tried_again() -> None:
    verdict = judge(delivery_to(ANN, BOB), outcome_of((ANN, R, OK)), STEADY, NOW, 0.5)
    assert named(verdict.again) == (BOB,)


def test_the_last_attempt_is_made_when_the_time_is_over() -> None:
    delivery = delivery_to(ANN, attempts=9, expires_at=NOW + 100)
    assert judge(delivery, outcome_of((ANN, D, LATER)), STEADY, NOW, 0.5).at == NOW + 100


def test_when_the_time_is_over_it_is_given_up_with_the_last_answer() -> None:
    outcome = outcome_of((ANN, F, NEVER), (BOB, D, LATER))
    verdict = judge(delivery_to(ANN, BOB, expires_at=NOW), outcome, STEADY, NOW, 0.5)
    assert verdict.again == ()
    assert [(fate.recipient, fate.status, fate.answer) for fate in verdict.failed] == [(ANN, F, NEVER), (BOB, D, LATER)]


@pytest.mark.parametrize(
    ("phase", "answer", "reached"),
    [
        (Phase.CONNECT, DOWN, False),
        (Phase.GREETING, reply(554, None, "go away"), False),
        (Phase.AUTH, reply(535, "5.7.8", "no"), False),
        (Phase.MAIL, LATER, True),
        (Phase.DOT, SILENT, True),
        (Phase.CONNECT, BUSY, None),
        (Phase.DATA, Failure(Phase.DATA, Cause.SHUTDOWN, "stopping"), None),
        (Phase.CONTENT, Failure(Phase.CONTENT, Cause.LOCAL, "no room"), None),
    ],
)
def test_whether_the_target_was_reached(phase: Phase, answer: Answer, reached: bool | None) -> None:
    outcome = outcome_of((ANN, D, answer), phase=phase)
    assert judge(delivery_to(ANN), outcome, STEADY, NOW, 0.5).reached is reached


def test_content_that_cannot_be_read_says_nothing_of_the_upstream() -> None:
    fault = Failure(Phase.CONTENT, Cause.LOCAL, "the content cannot be read")
    assert judge(delivery_to(ANN), outcome_of((ANN, F, fault)), STEADY, NOW, 0.5).reached is None


def test_busy_connections_are_no_attempt() -> None:
    verdict = judge(delivery_to(ANN), outcome_of((ANN, D, BUSY)), STEADY, NOW, 0.5)
    assert (verdict.is_busy, verdict.at) == (True, NOW + BUSY_PAUSE)
    mixed = judge(delivery_to(ANN, BOB), outcome_of((ANN, D, BUSY), (BOB, R, OK)), STEADY, NOW, 0.5)
    assert not mixed.is_busy, "somebody was served: that has to be recorded"
    late = judge(delivery_to(ANN, expires_at=NOW), outcome_of((ANN, D, BUSY)), STEADY, NOW, 0.5)
    assert not late.is_busy
    assert named(late.failed) == (ANN,)


def test_what_could_not_be_tried_keeps_its_doubt_and_expires_too() -> None:
    waiting = postponed(delivery_to(ANN, doubt="old"), "why", NOW)
    assert (named(waiting.again), waiting.at, waiting.doubt) == ((ANN,), NOW + FAULT_PAUSE, "old")
    assert named(postponed(delivery_to(ANN, expires_at=NOW), "why", NOW).failed) == (ANN,)


# -- settlements


class Log:
    """Remembers who was told of."""

    def __init__(self) -> None:
        self.told: list[tuple[str, tuple[Recipient, ...]]] = []

    def attempted(self, message_id: str, attempt: Attempt, role: Role) -> None:
        self.told.append(("attempted", ()))

    async def recorded(self) -> None:
        pass

    def in_doubt(self, delivery: Delivery, attempt: Attempt) -> None:
        self.told.append(("in doubt", ()))

    def relayed(self, delivery: Delivery, recipients: Sequence[Recipient], attempt: Attempt) -> None:
        self.told.append(("relayed", tuple(recipients)))

    def deferred(self, delivery: Delivery, waiting: Sequence[RecipientOutcome], at: float) -> None:
        self.told.append(("deferred", named(waiting)))

    def failed(self, delivery: Delivery, failed: Sequence[RecipientOutcome]) -> None:
        self.told.append(("failed", named(failed)))

    def dead(self, delivery: Delivery, recipients: Sequence[Recipient], reason: str) -> None:
        self.told.append((f"dead: {reason}", tuple(recipients)))


class Picky(NoNotices):
    """Tells the senders of these recipients, and of no others."""

    def __init__(self, *told: Recipient) -> None:
        self.told = told
        self.delays = 0

    def failed(
        self, delivery: Delivery, outcomes: Sequence[RecipientOutcome], now: float
    ) -> tuple[Notices, tuple[Recipient, ...]]:
        silent = tuple(each.recipient for each in outcomes if each.recipient not in self.told)
        told = len(silent) < len(outcomes)
        return ((notice("dsn"),) if told else (), silent)

    def delayed(self, delivery: Delivery, outcomes: Sequence[RecipientOutcome], now: float) -> Notices:
        self.delays += 1
        return (notice("delay"),)


def notice(id_: str) -> tuple[object, Planned]:  # type: ignore[misc]
    return message_of(id_, NOW, Recipient(SENDER)), Planned("primary:notices", "notices", NOW)


ROUTE = Route("migration", pool_of("old"), (Copy(pool_of("new")), Copy(pool_of("archive"), sample=0.5)))


def settled(
    delivery: Delivery,
    verdict: Verdict,
    outcome: Outcome,
    *,
    route: Route | None = ROUTE,
    told: Sequence[Recipient] = (),
) -> tuple[Settlement, Log]:
    log = Log()
    follower = Follower(Picky(*told), log, lambda: 0.7)
    settlement = follower.settle(delivery, delivery.role, verdict, outcome, route, NOW)
    assert log.told == [], "before it is recorded"
    follower.tell(delivery, verdict, outcome, settlement)
    return settlement, log


def settle(
    delivery: Delivery,
    *fates: tuple[Recipient, Status, Answer],
    route: Route | None = ROUTE,
    told: Sequence[Recipient] = (),
) -> tuple[Settlement, Log]:
    outcome = outcome_of(*fates)
    return settled(delivery, judge(delivery, outcome, STEADY, NOW, 0.5), outcome, route=route, told=told)


def test_a_copy_that_arrived_is_done() -> None:
    delivery = delivery_to(ANN)
    settlement, log = settle(delivery, (ANN, R, OK))
    assert settlement == Settlement(delivery)
    assert log.told == [("relayed", (ANN,))]


def test_a_copy_that_fails_is_a_dead_letter_and_nobody_is_told_of_it() -> None:
    settlement, log = settle(delivery_to(ANN, BOB), (ANN, F, NEVER), (BOB, D, LATER), told=(ANN, BOB))
    assert (settlement.dead, settlement.again, settlement.notices) == ((ANN,), (BOB,), ())
    assert settlement.reason == "new: 550 5.1.1 nobody here"
    assert log.told == [("deferred", (BOB,)), ("dead: new: 550 5.1.1 nobody here", (ANN,))]


def test_an_expired_copy_says_so() -> None:
    settlement, log = settle(delivery_to(ANN, BOB, expires_at=NOW), (ANN, F, NEVER), (BOB, D, LATER))
    assert settlement.reason == "new: 550 5.1.1 nobody here; expired: new: 451 4.3.0 later"
    assert log.told[-1] == ("dead: expired: new: 451 4.3.0 later", (BOB,))


def test_a_primary_makes_copies_for_exactly_those_that_it_relayed() -> None:
    primary = delivery_to(ANN, BOB, EVE, lane="primary:migration")
    settlement, _ = settle(primary, (ANN, R, OK), (BOB, F, NEVER), (EVE, D, LATER), told=(BOB,))
    lifetime = ROUTE.backoff.lifetime
    assert settlement.copies == (Planned("copy:new", "migration", NOW + lifetime, (ANN,)),), "not one by the sample"
    assert settle(primary, (ANN, R, OK), (BOB, R, OK), (EVE, R, OK))[0].copies[0].recipients == (ANN, BOB, EVE)
    assert settle(primary, (ANN, D, LATER), (BOB, F, NEVER), (EVE, I, SILENT))[0].copies == ()
    assert settle(primary, (ANN, R, OK), (BOB, R, OK), (EVE, R, OK), route=None)[0].copies == ()
    without = replace(ROUTE, copies=())
    assert settle(primary, (ANN, R, OK), (BOB, R, OK), (EVE, R, OK), route=without)[0] == Settlement(primary)


def test_a_primary_that_fails_is_told_of_or_a_dead_letter() -> None:
    primary = delivery_to(ANN, BOB, lane="primary:migration")
    settlement, log = settle(primary, (ANN, F, NEVER), (BOB, F, NEVER), told=(ANN,))
    assert [message.id for message, _ in settlement.notices] == ["dsn"]
    assert settlement.dead == (BOB,)
    assert log.told == [("failed", (ANN, BOB)), ("dead: new: 550 5.1.1 nobody here", (BOB,))]


def test_a_late_primary_is_told_of_once() -> None:
    route = replace(ROUTE, delay_warning=3600.0)
    late = replace(delivery_to(ANN, lane="primary:migration"), message=message_of("m1", NOW - 3600, ANN))
    settlement, _ = settle(late, (ANN, D, LATER), route=route)
    assert ([message.id for message, _ in settlement.notices], settlement.warned) == (["delay"], True)
    again, _ = settle(replace(late, warned=True), (ANN, D, LATER), route=route)
    assert (again.notices, again.warned) == ((), True)
    early = replace(late, message=message_of("m1", NOW - 3599, ANN))
    assert settle(early, (ANN, D, LATER), route=route)[0].notices == ()
    assert settle(late, (ANN, D, LATER))[0].notices == (), "not asked for by the route"
    assert settle(late, (ANN, R, OK), route=route)[0].notices == ()
    assert settle(replace(late, lane="copy:new"), (ANN, D, LATER), route=route)[0].notices == ()


def test_a_notifier_that_breaks_does_not_cost_the_outcome() -> None:
    class Broken(NoNotices):
        def failed(
            self, delivery: Delivery, outcomes: Sequence[RecipientOutcome], now: float
        ) -> tuple[Notices, tuple[Recipient, ...]]:
            raise RuntimeError("a defect")

    primary = delivery_to(ANN, BOB, lane="primary:migration")
    outcome = outcome_of((ANN, R, OK), (BOB, F, NEVER))
    verdict = judge(primary, outcome, STEADY, NOW, 0.5)
    settlement = Follower(Broken(), Log(), lambda: 0.7).settle(primary, Role.PRIMARY, verdict, outcome, ROUTE, NOW)
    assert settlement.dead == (BOB,)
    assert settlement.copies[0].recipients == (ANN,)


def test_who_was_relayed_where_is_told_apart() -> None:
    first, second = reply(250, None, "queued as 1"), reply(250, None, "queued as 2")
    fates = (RecipientOutcome(ANN, R, first, "a"), RecipientOutcome(BOB, R, second, "b"))
    attempts = (Attempt("a", Phase.DOT, first, "accepted", 0.1), Attempt("b", Phase.DOT, second, "accepted", 0.1))
    delivery = delivery_to(ANN, BOB)
    outcome = Outcome(fates, attempts)
    _, log = settled(delivery, judge(delivery, outcome, STEADY, NOW, 0.5), outcome)
    assert log.told == [("relayed", (ANN,)), ("relayed", (BOB,))]


# -- every recipient, exactly once

RECIPIENTS = st.sampled_from([ANN, BOB, EVE, Recipient(SENDER)])
ANSWERS = st.sampled_from([OK, LATER, NEVER, DOWN, BUSY, SILENT])
FATES = st.builds(RecipientOutcome, RECIPIENTS, st.sampled_from(list(Status)), ANSWERS, st.sampled_from(["a", "b", ""]))
ATTEMPTS = st.builds(
    Attempt, st.sampled_from(["a", "b"]), st.sampled_from(list(Phase)), ANSWERS, st.just("r"), st.just(0.1)
)


@given(
    owed=st.lists(RECIPIENTS, min_size=1, max_size=4),
    fates=st.lists(FATES, max_size=6),
    attempts=st.lists(ATTEMPTS, max_size=3),
    lane=st.sampled_from([copy_lane("new"), primary_lane("migration")]),
    left=st.sampled_from([-1.0, 0.0, 10.0, 1e6]),
    assume_sent=st.booleans(),
    told=st.lists(RECIPIENTS),
)
def test_every_recipient_ends_in_exactly_one_way(
    owed: list[Recipient],
    fates: list[RecipientOutcome],
    attempts: list[Attempt],
    lane: str,
    left: float,
    assume_sent: bool,
    told: list[Recipient],
) -> None:
    delivery = delivery_to(*owed, lane=lane, expires_at=NOW + left)
    outcome = Outcome(tuple(fates), tuple(attempts))
    verdict = judge(delivery, outcome, STEADY, NOW, 0.5, assume_sent=assume_sent)
    settlement, log = settled(delivery, verdict, outcome, told=told)
    ends = Counter(named(verdict.relayed) + settlement.again + settlement.dead)
    if delivery.role is Role.PRIMARY:
        ends += Counter(each.recipient for each in verdict.failed if each.recipient not in settlement.dead)
        assert bool(settlement.notices) == bool(set(named(verdict.failed)) & set(told))
        copied = settlement.copies[0].recipients if settlement.copies else ()
        assert copied == named(verdict.relayed)
    else:
        assert (settlement.notices, settlement.copies) == ((), ())
        assert set(settlement.dead) == set(named(verdict.failed))
    assert set(ends) == set(owed)
    if len(set(owed)) == len(owed):
        assert set(ends.values()) == {1}
    relayed = {r for what, recipients in log.told if what == "relayed" for r in recipients}
    assert relayed == set(named(verdict.relayed)), "what is done is what the log says is done"
    claimed = {fate.recipient for fate in fates if fate.status is R or (assume_sent and fate.status is I)}
    assert relayed <= claimed, "nothing is done that nobody has taken"
    if settlement.again:
        assert NOW < settlement.at <= max(delivery.expires_at, NOW)
    if settlement.dead:
        assert settlement.reason


def test_expiry_without_an_attempt_names_everybody() -> None:
    verdict = expired(delivery_to(ANN, BOB), RecipientOutcome(ANN, D, DOWN, "new"))
    assert [(each.recipient, each.answer) for each in verdict.failed] == [(ANN, DOWN), (BOB, DOWN)]
