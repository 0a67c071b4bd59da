"""The scheduler, with a spool in memory, a clock that stands still, and upstreams that do as they are told."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest
from structlog.testing import capture_logs

from rig.stage import ANN, BOB, BUSY, DOWN, LATER, NEVER, OK, SILENT, Stage, outcome_of, pool_of
from waypost.delivery.lane import PREFETCH
from waypost.delivery.memory_spool import MemorySpool
from waypost.delivery.pace import Pace
from waypost.delivery.spool import Delivery, Filter, Settlement, State
from waypost.delivery.trials import LONGEST_PAUSE
from waypost.delivery.verdict import BUSY_PAUSE, FAULT_PAUSE
from waypost.mail.outcome import Outcome
from waypost.routing.route import Backoff, InDoubtPolicy, Pool


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    made = Stage(MemorySpool())
    await made.scheduler.start()
    yield made
    for gate in made.gates.values():
        gate.set()
    await made.scheduler.stop(1)


async def test_what_is_committed_is_delivered_at_once(stage: Stage) -> None:
    await stage.queue("m1", to=("new", "archive"))
    await stage.calm()
    assert sorted(stage.tried) == [("archive", "m1", 0), ("new", "m1", 0)]
    assert stage.events == [("copied", "m1")] * 2
    assert await stage.queued() == {}
    assert stage.clock.next_timer is None, "nothing to do, nothing to wait for"


async def test_a_deferred_copy_follows_its_backoff(stage: Stage) -> None:
    stage.answers["new"] = LATER
    await stage.queue("m1")
    await stage.calm()
    await stage.pass_time(8000)
    assert stage.times() == [0, 60, 180, 480, 1080, 2280, 4080, 7680]
    stage.answers["new"] = OK
    await stage.pass_time(3600)
    assert stage.events[-1] == ("copied", "m1")
    assert await stage.queued() == {}


async def test_a_new_backoff_holds_from_the_next_attempt(stage: Stage) -> None:
    stage.answers["new"] = LATER
    await stage.queue("m1")
    await stage.calm()
    stage.set_route("migration", backoff=Backoff((7,), jitter=0))
    await stage.pass_time(75)
    assert stage.times() == [0, 60, 67, 74]


async def test_a_refused_copy_is_a_dead_letter_and_not_tried_again_g20(stage: Stage) -> None:
    stage.answers["new"] = NEVER
    await stage.queue("m1")
    await stage.calm()
    await stage.pass_time(100_000)
    assert stage.times() == [0]
    assert stage.events == [("dead", "m1: new: 550 5.1.1 nobody here")]
    assert await stage.reasons() == ["new: 550 5.1.1 nobody here"]


async def test_a_copy_expires_with_its_last_answer(stage: Stage) -> None:
    stage.answers["new"] = LATER
    await stage.queue("m1", lifetime=200)
    await stage.calm()
    await stage.pass_time(1000)
    assert stage.times() == [0, 60, 180, 200]
    assert stage.events[-1] == ("dead", "m1: expired: new: 451 4.3.0 later")


@pytest.mark.parametrize("fault", ["hangs", "is down", "defers", "breaks"])
async def test_a_dead_upstream_delays_nobody_g7(stage: Stage, fault: str) -> None:
    if fault == "hangs":
        stage.gates["dead"] = asyncio.Event()
    stage.answers["dead"] = {"is down": DOWN, "defers": LATER, "breaks": RuntimeError("a defect")}.get(fault, OK)
    ids = [f"m{number}" for number in range(100)]
    for id_ in ids:
        await stage.queue(id_, to=("dead", "new"))
    await stage.calm()
    assert sorted(id_ for target, id_, at in stage.tried if target == "new") == sorted(ids)
    assert set(stage.times()) == {0}
    assert await stage.queued() == {"copy:dead": 100}


async def test_no_target_gets_more_than_its_limit(stage: Stage) -> None:
    stage.gates["new"] = asyncio.Event()
    stage.limit("new", 3)
    await stage.queue(*(f"m{number}" for number in range(50)))
    await stage.calm()
    assert stage.running["new"] == 3
    stage.gates["new"].set()
    await stage.calm()
    assert stage.most["new"] == 3
    assert len(stage.tried) == 50


async def test_a_backlog_uses_every_connection(stage: Stage) -> None:
    stage.pools["new"] = None
    await stage.queue(*(f"m{number}" for number in range(3 * PREFETCH)))
    await stage.calm()
    assert stage.tried == []
    stage.gates["new"] = asyncio.Event()
    stage.limit("new", 10)
    await stage.pass_time(FAULT_PAUSE)
    assert stage.running["new"] == 10


async def test_a_limit_that_shrinks_leaves_somebody_working(stage: Stage) -> None:
    stage.gates["new"] = asyncio.Event()
    await stage.queue(*(f"m{number}" for number in range(60)))
    await stage.calm()
    assert stage.running["new"] == 20
    stage.limit("new", 2)
    stage.gates["new"].set()
    await stage.calm()
    assert len(stage.tried) == 60


async def test_a_backlog_is_not_burnt_on_a_target_that_is_down(stage: Stage) -> None:
    """One trial at a time, after growing pauses; then everything at once."""
    stage.answers["new"] = DOWN
    stage.limit("new", 5)
    await stage.queue(*(f"m{number}" for number in range(40)))
    await stage.calm()
    assert len(stage.tried) <= 5
    await stage.pass_time(600)
    assert len(stage.tried) <= 25
    pauses = [b - a for a, b in zip(stage.times()[5:], stage.times()[6:], strict=False)]
    assert max(pauses) == 60
    assert stage.most["new"] <= 5
    stage.answers["new"] = OK
    stage.tried.clear()
    await stage.pass_time(60)
    untried = {f"m{number}" for number in range(40)}
    assert len({id_ for _, id_, _ in stage.tried}) >= len(untried) - 25
    await stage.pass_time(3600)
    assert await stage.queued() == {}


async def test_a_backlog_is_not_burnt_on_upstreams_that_are_asleep(stage: Stage) -> None:
    """A quota is spent: what is owed keeps its place, and one trial at a time finds out when there is a new one."""
    stage.answers["new"] = LATER
    stage.sleeping.add("new")
    stage.limit("new", 5)
    await stage.queue(*(f"m{number}" for number in range(40)))
    await stage.calm()
    assert len(stage.tried) <= 5
    await stage.pass_time(600)
    assert len(stage.tried) <= 25
    stage.answers["new"] = OK
    stage.sleeping.clear()
    await stage.pass_time(4000)
    assert await stage.queued() == {}


async def test_what_waits_for_a_target_that_is_down_is_not_running(stage: Stage) -> None:
    stage.answers["new"] = DOWN
    await stage.queue(*(f"m{number}" for number in range(50)))
    for _ in range(3):
        await stage.calm()
        assert await stage.spool.find(Filter(states=frozenset({State.RUNNING}))) == []
        await stage.pass_time(20)
    assert len(await stage.reasons(State.QUEUED)) == 50


async def test_who_retries_by_hand_does_not_wait_for_the_next_trial(stage: Stage) -> None:
    stage.answers["new"] = DOWN
    await stage.queue("m1", "m2", "m3")
    await stage.calm()
    await stage.pass_time(300)
    found = [entry.id for entry in await stage.spool.find(Filter())]
    for expected, answer in ((1, DOWN), (1, DOWN), (3, OK)):
        stage.answers["new"] = answer
        stage.tried.clear()
        now = stage.clock.time()
        assert list(await stage.spool.alter(found, "retry", now, now)) == found
        stage.scheduler.hasten("copy:new")
        await stage.calm()
        assert len(stage.tried) == expected, "one trial while it is down, then all of them"
    assert await stage.queued() == {}


async def test_a_backlog_expires_while_its_target_is_down(stage: Stage) -> None:
    stage.answers["new"] = DOWN
    await stage.queue(*(f"m{number}" for number in range(200)), lifetime=100)
    await stage.calm()
    await stage.pass_time(4000)
    assert len(await stage.reasons()) == 200
    assert len(stage.tried) < 60
    assert set(await stage.reasons()) == {"expired: new: unreachable at connect: connection refused"}


async def test_a_backlog_whose_time_went_by_in_a_pause_is_tried_once_it_is_resumed(stage: Stage) -> None:
    stage.answers["new"] = DOWN
    await stage.queue(*(f"m{number}" for number in range(50)), lifetime=1000)
    await stage.calm()
    await stage.pass_time(100)
    stage.pauses["new"] = stage.clock.monotonic() + 1e6
    stage.scheduler.hasten("copy:new")
    await stage.pass_time(2000)
    assert len(await stage.reasons(State.QUEUED)) == 50
    stage.answers["new"] = OK
    stage.pauses.clear()
    stage.scheduler.hasten("copy:new")
    await stage.calm()
    await stage.pass_time(4000)
    assert await stage.queued() == {}
    assert await stage.reasons() == [], "nothing has expired untried"


async def test_mail_for_a_pool_that_is_gone_waits(stage: Stage) -> None:
    stage.pools["new"] = None
    await stage.queue("m1")
    await stage.calm()
    await stage.pass_time(10 * FAULT_PAUSE)
    assert stage.tried == []
    stage.limit("new", 20)
    await stage.pass_time(FAULT_PAUSE)
    assert len(stage.tried) == 1


async def test_mail_of_a_route_that_is_gone_waits(stage: Stage) -> None:
    stage.routes["migration"] = None
    await stage.queue("m1")
    await stage.calm()
    await stage.pass_time(10 * FAULT_PAUSE)
    assert stage.tried == []
    stage.set_route("migration")
    stage.answers["new"] = LATER
    await stage.pass_time(FAULT_PAUSE)
    assert stage.events == [("deferred", "m1 by 60")], "what was not tried does not count"


async def test_a_defect_in_delivering_does_not_cost_the_message(stage: Stage) -> None:
    stage.answers["new"] = RuntimeError("a defect")
    await stage.queue("m1")
    await stage.calm()
    assert len(stage.tried) == 1
    stage.answers["new"] = OK
    await stage.pass_time(FAULT_PAUSE)
    assert stage.events == [("copied", "m1")]


async def test_nothing_is_sent_until_the_spool_can_be_written(stage: Stage) -> None:
    stage.pools["new"] = None
    await stage.queue("m1")
    stage.limit("new", 20)
    stage.spool.broken = "disk full"
    stage.scheduler.wake("copy:new")
    await stage.calm()
    assert stage.tried == []
    stage.spool.broken = None
    await stage.pass_time(FAULT_PAUSE)
    assert len(stage.tried) == 1


async def test_stop_lets_running_deliveries_end_and_begins_no_others(stage: Stage) -> None:
    stage.gates["new"] = asyncio.Event()
    stage.limit("new", 2)
    await stage.queue(*(f"m{number}" for number in range(10)))
    await stage.calm()
    stopping = asyncio.ensure_future(stage.scheduler.stop(60))
    await stage.calm()
    assert not stopping.done()
    stage.gates["new"].set()
    await stopping
    assert len(stage.tried) == 2
    assert len(stage.events) == 2
    assert await stage.queued() == {"copy:new": 8}


async def test_stop_cancels_what_takes_too_long_and_it_stays_queued(stage: Stage) -> None:
    stage.gates["new"] = asyncio.Event()
    await stage.queue("m1")
    await stage.calm()
    await stage.scheduler.stop(0)
    assert stage.running["new"] == 0
    assert stage.events == []
    assert await stage.queued() == {"copy:new": 1}
    await stage.queue("m2")
    await stage.calm()
    assert len(stage.tried) == 1, "a stopped scheduler begins nothing"


# -- when there is no connection, or no more may be sent


async def test_busy_connections_cost_the_spool_nothing(stage: Stage) -> None:
    stage.answers["new"] = BUSY
    settled = settlements_of(stage)
    await stage.queue("m1", "m2")
    await stage.calm()
    await stage.pass_time(BUSY_PAUSE * 10)
    assert len(stage.times()) >= 10
    assert settled == []
    assert stage.events == []
    stage.answers["new"] = OK
    await stage.pass_time(BUSY_PAUSE)
    assert stage.events == [("copied", "m1"), ("copied", "m2")]


async def test_what_finds_no_connection_expires_all_the_same(stage: Stage) -> None:
    stage.answers["new"] = BUSY
    await stage.queue("m1", lifetime=100)
    await stage.calm()
    await stage.pass_time(200)
    assert await stage.reasons() == ["expired: new: busy at connect: 20 connections"]


async def test_a_lane_without_pace_sleeps_and_claims_nothing(stage: Stage) -> None:
    stage.pauses["new"] = 7
    claims = claims_of(stage)
    await stage.queue("m1")
    await stage.calm()
    await stage.pass_time(6.9)
    assert (stage.tried, claims) == ([], [])
    await stage.pass_time(0.2)
    assert stage.times() == [7]


async def test_a_rate_is_kept_and_used() -> None:
    stage = Stage(MemorySpool())
    stage.pools["new"] = pool_of("new", rate=5.0)
    pace = Pace(stage.clock)
    upstream = stage.pool("new").members[0].upstream  # type: ignore[union-attr]
    stage.pause = lambda pool: pace.wait(upstream)  # type: ignore[method-assign]
    deliver = stage.deliver

    async def paced(delivery: Delivery, pool: Pool, policy: InDoubtPolicy) -> Outcome:
        pace.take(upstream)
        return await deliver(delivery, pool, policy)

    stage.deliver = paced  # type: ignore[method-assign]
    await stage.scheduler.start()
    claims = claims_of(stage)
    await stage.queue(*(f"m{number}" for number in range(50)))
    await stage.calm()
    assert stage.times() == [0] * 5, "one second's worth at once"
    assert {limit for _, limit in claims} == {5}, "nor is more claimed than can be sent soon"
    await stage.pass_time(4)
    assert len(stage.times()) == 25
    await stage.pass_time(5.01)
    assert len(stage.times()) == 50
    await stage.scheduler.stop(1)


async def test_a_target_that_is_back_is_ramped_up(stage: Stage) -> None:
    stage.answers["new"] = DOWN
    await stage.queue(*(f"m{number}" for number in range(60)))
    await stage.calm()
    stage.answers["new"] = OK
    stage.gates["new"] = turnstile = Turnstile()
    running = []
    for _ in range(7):
        await stage.pass_time(LONGEST_PAUSE if not running else 0)
        await stage.calm()
        running.append(stage.running["new"])
        turnstile.release()
        await stage.calm()
    assert running == [1, 2, 4, 8, 16, 20, 20]


class Turnstile(asyncio.Event):
    """A gate that lets one through for each call of `release`."""

    def __init__(self) -> None:
        super().__init__()
        self._turns = asyncio.Semaphore(0)
        self.release = self._turns.release

    async def wait(self) -> bool:  # type: ignore[override]
        return await self._turns.acquire()

    def set(self) -> None:
        for _ in range(1000):
            self.release()


# -- primary deliveries


async def test_a_primary_follows_its_route_as_it_is_now(stage: Stage) -> None:
    stage.answers["old"] = LATER
    await stage.accept("m1")
    await stage.calm()
    assert stage.times("old") == [0]
    stage.set_route("migration", primary=pool_of("other"), backoff=Backoff((7,), jitter=0))
    await stage.pass_time(60)
    assert stage.times("other") == [60]
    assert stage.events == [("deferred", "m1 by 60"), ("relayed", "m1")]


async def test_a_primary_whose_route_is_gone_waits_and_that_is_said_once(stage: Stage) -> None:
    stage.routes["migration"] = None
    with capture_logs() as said:
        await stage.accept("m1", "m2")
        await stage.calm()
        await stage.pass_time(10 * FAULT_PAUSE)
    assert stage.tried == []
    assert len([record for record in said if "its route is not configured any more" in record["event"]]) == 1
    stage.set_route("migration")
    await stage.pass_time(FAULT_PAUSE)
    assert len(stage.times("old")) == 2


async def test_the_copies_of_a_primary_are_delivered_once_it_is(stage: Stage) -> None:
    stage.set_route("migration", "new", "archive")
    stage.answers["old"] = LATER
    await stage.accept("m1")
    await stage.calm()
    assert await stage.queued() == {"primary:migration": 1}
    stage.answers["old"] = OK
    await stage.pass_time(60)
    assert stage.events == [("deferred", "m1 by 60"), ("relayed", "m1"), ("copied", "m1"), ("copied", "m1")]
    assert (stage.times("new"), stage.times("archive")) == ([60], [60])
    assert await stage.queued() == {}


async def test_a_primary_that_fails_is_told_of_and_the_notice_is_delivered(stage: Stage) -> None:
    stage.answers["old"] = NEVER
    stage.set_route("notices", primary=pool_of("mailer"))
    await stage.accept("m1")
    await stage.calm()
    assert stage.notifier.asked == [("failed", "m1", (ANN,)), ("relayed", "dsn", (BOB,))]
    assert stage.events == [("failed", "m1"), ("relayed", "dsn")]
    assert await stage.reasons() == []


async def test_a_primary_that_fails_unheard_is_a_dead_letter(stage: Stage) -> None:
    stage.answers["old"] = NEVER
    stage.notifier.silent = True
    await stage.accept("m1")
    await stage.calm()
    assert await stage.reasons() == ["old: 550 5.1.1 nobody here"]


async def test_the_sender_is_told_once_of_a_delay(stage: Stage) -> None:
    stage.answers["old"] = LATER
    stage.set_route("migration", delay_warning=400.0)
    stage.set_route("notices", primary=pool_of("mailer"))
    await stage.accept("m1", lifetime=5000)
    await stage.calm()
    await stage.pass_time(5100)
    assert [asked[:2] for asked in stage.notifier.asked] == [
        ("delayed", "m1"),
        ("relayed", "delay"),
        ("failed", "m1"),
        ("relayed", "dsn"),
    ]


# -- attempts that were begun elsewhere


async def test_an_outcome_that_is_there_is_settled_at_once(stage: Stage) -> None:
    delivery = await stage.begin("m1")
    stage.scheduler.adopt(delivery, outcome_of([ANN], LATER, "old"))
    assert stage.events == [("deferred", "m1 by 60")]
    await stage.pass_time(60)
    assert stage.events == [("deferred", "m1 by 60"), ("relayed", "m1")]


async def test_a_late_outcome_is_settled_when_it_is_there(stage: Stage) -> None:
    stage.set_route("migration", "new")
    delivery = await stage.begin("m1", doubt="old")
    late: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    stage.scheduler.adopt(delivery, late)
    await stage.calm()
    assert await stage.queued() == {"primary:migration": 1}
    assert stage.tried == []
    late.set_result(outcome_of([ANN], OK, "old"))
    await stage.calm()
    assert stage.events == [("relayed", "m1"), ("copied", "m1")]
    assert await stage.queued() == {}


async def test_an_attempt_that_was_adopted_counts_in_its_lane(stage: Stage) -> None:
    stage.set_route("migration", primary=pool_of("old", limit=2))
    stage.gates["old"] = asyncio.Event()
    late: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    stage.scheduler.adopt(await stage.begin("m1"), late)
    await stage.accept("m2", "m3")
    await stage.calm()
    assert stage.running["old"] == 1
    late.set_result(outcome_of([ANN], OK, "old"))
    await stage.calm()
    assert stage.running["old"] == 2


async def test_stop_waits_for_an_adopted_attempt(stage: Stage) -> None:
    late: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    stage.scheduler.adopt(await stage.begin("m1"), late)
    stopping = asyncio.ensure_future(stage.scheduler.stop(60))
    await stage.calm()
    assert not stopping.done()
    late.set_result(outcome_of([ANN], OK, "old"))
    await stopping
    assert stage.events == [("relayed", "m1")]


async def test_an_adopted_attempt_that_takes_too_long_stays_in_doubt() -> None:
    spool = MemorySpool()
    stage = Stage(spool)
    await stage.scheduler.start()
    late: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    stage.scheduler.adopt(await stage.begin("m1", doubt="old"), late)
    await stage.scheduler.stop(0)
    assert late.cancelled()
    after = Stage(spool.after_crash())
    await after.scheduler.start()
    await after.calm()
    assert after.events == [
        ("in doubt", "m1 at old: local at dot: no outcome was recorded before the restart"),
        ("relayed", "m1"),
    ]


async def test_what_is_adopted_after_the_stop_is_settled_or_broken_off(stage: Stage) -> None:
    await stage.scheduler.stop(0)
    stage.scheduler.adopt(await stage.begin("m1"), outcome_of([ANN], LATER, "old"))
    late: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    stage.scheduler.adopt(await stage.begin("m2"), late)
    await stage.scheduler.stop(0)
    assert late.cancelled()
    await stage.pass_time(100)
    assert stage.events == [("deferred", "m1 by 60")]
    assert stage.tried == []


async def test_a_log_that_breaks_does_not_undo_what_was_settled(stage: Stage) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a defect of the log")

    stage.relayed = broken  # type: ignore[method-assign]
    await stage.queue("m1", "m2")
    await stage.calm()
    await stage.pass_time(10 * FAULT_PAUSE)
    assert stage.times() == [0, 0]
    assert await stage.queued() == {}


async def test_an_adopted_attempt_that_breaks_is_made_again(stage: Stage) -> None:
    late: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    stage.scheduler.adopt(await stage.begin("m1"), late)
    late.set_exception(RuntimeError("a defect"))
    await stage.calm()
    await stage.pass_time(FAULT_PAUSE)
    assert stage.events == [("relayed", "m1")]


# -- in doubt


async def test_a_doubt_of_before_the_restart_is_said_once(stage: Stage) -> None:
    stage.answers["old"] = SILENT
    await stage.accept("m1", doubt="old")
    await stage.calm()
    await stage.pass_time(1000)
    assert [what for what, _ in stage.events].count("in doubt") == 1
    assert stage.events[0] == ("in doubt", "m1 at old: local at dot: no outcome was recorded before the restart")


async def test_a_doubt_is_assumed_to_be_sent_where_the_route_says_so(stage: Stage) -> None:
    stage.set_route("migration", "new", in_doubt="assume-sent")
    await stage.accept("m1", doubt="old")
    await stage.calm()
    assert stage.times("old") == []
    assert [what for what, _ in stage.events] == ["in doubt", "relayed", "copied"]
    stage.answers["old"] = SILENT
    await stage.accept("m2")
    await stage.calm()
    assert stage.times("old") == [0]
    assert [what for what, _ in stage.events[3:]] == ["relayed", "copied"]
    assert await stage.queued() == {}


async def test_copies_are_always_sent_at_least_once(stage: Stage) -> None:
    stage.set_route("migration", in_doubt="assume-sent")
    stage.answers["new"] = SILENT
    await stage.queue("m1")
    await stage.calm()
    stage.answers["new"] = OK
    await stage.pass_time(60)
    assert stage.events == [("deferred", "m1 by 60"), ("copied", "m1")]
    assert set(stage.policies) == {"retry-same"}


@pytest.mark.parametrize(
    ("configured", "policy"),
    [(None, "retry-same"), ("tempfail", "tempfail"), ("failover", "failover"), ("retry-same", "retry-same")],
)
async def test_the_policy_is_the_routes(stage: Stage, configured: str | None, policy: str) -> None:
    stage.set_route("migration", in_doubt=configured)
    await stage.accept("m1")
    await stage.calm()
    assert stage.policies == [policy]


def settlements_of(stage: Stage) -> list[Settlement]:
    """What is settled from now on."""
    settled: list[Settlement] = []
    settle = stage.spool.settle

    def remember(settlement: Settlement) -> None:
        settled.append(settlement)
        settle(settlement)

    stage.spool.settle = remember  # type: ignore[method-assign]
    return settled


def claims_of(stage: Stage) -> list[tuple[str, int]]:
    """The lanes that are claimed from, from now on, and how much at the most."""
    claimed: list[tuple[str, int]] = []
    claim = stage.spool.claim

    async def remember(lane: str, now: float, limit: int) -> Sequence[Delivery]:
        claimed.append((lane, limit))
        return await claim(lane, now, limit)

    stage.spool.claim = remember  # type: ignore[method-assign]
    return claimed
