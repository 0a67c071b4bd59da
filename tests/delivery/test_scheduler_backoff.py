"""When a delivery is tried again, and what follows from an outcome."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.delivery.backoff import next_attempt_at
from waypost.delivery.spool import Delivery, Settlement
from waypost.delivery.verdict import BUSY_PAUSE, judge, postponed
from waypost.mail.content import MemoryContent
from waypost.mail.message import Client, Envelope, Message, Recipient
from waypost.mail.outcome import Answer, Attempt, Cause, Failure, Outcome, Phase, RecipientOutcome, Status
from waypost.routing.route import Backoff
from waypost.smtp.address import NULL, Address
from waypost.smtp.reply import reply

NOW = 1_000_000_000.0
STEADY = Backoff(jitter=0)
ANN, BOB, EVE = (Recipient(Address(name, "example.com")) for name in ("ann", "bob", "eve"))
OK = reply(250, "2.0.0", "OK")
LATER = reply(451, "4.3.0", "later")
NEVER = reply(550, "5.1.1", "nobody here")
REFUSED = Failure(Phase.CONNECT, Cause.UNREACHABLE, "connection refused")


@pytest.mark.parametrize(
    ("attempts", "interval"),
    [(1, 60), (2, 120), (3, 300), (4, 600), (5, 1200), (6, 1800), (7, 3600), (8, 3600), (1000, 3600)],
)
def test_intervals_grow_and_the_last_is_repeated(attempts: int, interval: float) -> None:
    assert next_attempt_at(STEADY, attempts, NOW, 0.5) == NOW + interval


@given(st.integers(1, 100), st.floats(0, 1), st.floats(0, 1))
def test_chance_spreads_within_the_jitter(attempts: int, jitter: float, chance: float) -> None:
    interval = next_attempt_at(STEADY, attempts, NOW, 0.5) - NOW
    at = next_attempt_at(Backoff(jitter=jitter), attempts, NOW, chance)
    assert interval * (1 - jitter) - 0.001 <= at - NOW <= interval * (1 + jitter) + 0.001


def delivery_to(*recipients: Recipient, attempts: int = 0, expires_at: float = NOW + 432_000) -> Delivery:
    message = Message("m1", NOW, Client("l", "::1", 1), Envelope(NULL, recipients), MemoryContent(b"x"))
    return Delivery(1, message, "new", "migration", attempts, expires_at)


def outcome_of(*fates: tuple[Recipient, Status, Answer], phase: Phase = Phase.DOT) -> Outcome:
    recipients = tuple(RecipientOutcome(r, status, answer, "new") for r, status, answer in fates)
    return Outcome(recipients, (Attempt("new", phase, fates[-1][2], "rule", 0.1),))


def test_relayed_to_all_is_done() -> None:
    delivery = delivery_to(ANN, BOB)
    verdict = judge(delivery, outcome_of((ANN, Status.RELAYED, OK), (BOB, Status.RELAYED, OK)), STEADY, NOW, 0.5)
    assert verdict.settlement == Settlement(delivery)
    assert (verdict.relayed, verdict.reached, verdict.deaths) == (True, True, ())


def test_each_recipient_has_a_fate_of_its_own() -> None:
    delivery = delivery_to(ANN, BOB, EVE)
    outcome = outcome_of((ANN, Status.RELAYED, OK), (BOB, Status.FAILED, NEVER), (EVE, Status.DEFERRED, LATER))
    verdict = judge(delivery, outcome, STEADY, NOW, 0.5)
    reason = "new: 550 5.1.1 nobody here"
    assert verdict.settlement == Settlement(delivery, (EVE,), NOW + 60, (BOB,), reason)
    assert verdict.deaths == (((BOB,), reason),)
    assert verdict.relayed


@pytest.mark.parametrize("status", [Status.DEFERRED, Status.IN_DOUBT])
def test_deferred_and_in_doubt_are_tried_again(status: Status) -> None:
    """At least once: a copy that may have arrived is sent again."""
    delivery = delivery_to(ANN, attempts=2)
    verdict = judge(delivery, outcome_of((ANN, status, LATER)), STEADY, NOW, 0.5)
    assert verdict.settlement == Settlement(delivery, (ANN,), NOW + 300, reason="new: 451 4.3.0 later")
    assert not verdict.relayed


def test_a_recipient_without_an_outcome_is_tried_again() -> None:
    verdict = judge(delivery_to(ANN, BOB), outcome_of((ANN, Status.RELAYED, OK)), STEADY, NOW, 0.5)
    assert verdict.settlement.again == (BOB,)


def test_the_last_attempt_is_made_when_the_time_is_over() -> None:
    delivery = delivery_to(ANN, attempts=9, expires_at=NOW + 100)
    verdict = judge(delivery, outcome_of((ANN, Status.DEFERRED, LATER)), STEADY, NOW, 0.5)
    assert verdict.settlement.at == NOW + 100


def test_what_is_expired_is_dead_with_the_last_answer() -> None:
    delivery = delivery_to(ANN, BOB, expires_at=NOW)
    outcome = outcome_of((ANN, Status.FAILED, NEVER), (BOB, Status.DEFERRED, LATER))
    verdict = judge(delivery, outcome, STEADY, NOW, 0.5)
    assert verdict.settlement.again == ()
    assert verdict.deaths == (((ANN,), "new: 550 5.1.1 nobody here"), ((BOB,), "expired: new: 451 4.3.0 later"))
    assert verdict.settlement.dead == (ANN, BOB)


@pytest.mark.parametrize(
    ("phase", "answer", "reached"),
    [
        (Phase.CONNECT, REFUSED, False),
        (Phase.GREETING, reply(554, None, "go away"), False),
        (Phase.AUTH, reply(535, "5.7.8", "no"), False),
        (Phase.MAIL, LATER, True),
        (Phase.DOT, Failure(Phase.DOT, Cause.TIMEOUT, "600 s"), True),
        (Phase.CONNECT, Failure(Phase.CONNECT, Cause.BUSY, "20 connections"), None),
        (Phase.DATA, Failure(Phase.DATA, Cause.SHUTDOWN, "stopping"), None),
    ],
)
def test_whether_the_target_was_reached(phase: Phase, answer: Answer, reached: bool | None) -> None:
    outcome = outcome_of((ANN, Status.DEFERRED, answer), phase=phase)
    assert judge(delivery_to(ANN), outcome, STEADY, NOW, 0.5).reached is reached


def test_busy_connections_are_no_attempt() -> None:
    busy = Failure(Phase.CONNECT, Cause.BUSY, "20 connections")
    settlement = judge(delivery_to(ANN), outcome_of((ANN, Status.DEFERRED, busy)), STEADY, NOW, 0.5).settlement
    assert (settlement.attempted, settlement.at) == (False, NOW + BUSY_PAUSE)


def test_what_could_not_be_tried_expires_too() -> None:
    assert postponed(delivery_to(ANN), "why", NOW, NOW + 60).settlement.again == (ANN,)
    assert postponed(delivery_to(ANN, expires_at=NOW), "why", NOW, NOW + 60).deaths == (((ANN,), "expired: why"),)
