"""The scheduler, with a spool in memory, a clock that stands still, and upstreams that do as they are told."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from rig.stage import DOWN, LATER, NEVER, OK, Stage
from waypost.delivery.lane import PREFETCH
from waypost.delivery.memory_spool import MemorySpool
from waypost.delivery.verdict import FAULT_PAUSE
from waypost.routing.route import Backoff


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


async def test_a_backlog_expires_while_its_target_is_down(stage: Stage) -> None:
    stage.answers["new"] = DOWN
    await stage.queue(*(f"m{number}" for number in range(200)), lifetime=100)
    await stage.calm()
    await stage.pass_time(4000)
    assert len(await stage.reasons()) == 200
    assert len(stage.tried) < 60
    assert set(await stage.reasons()) == {"expired: new: unreachable at connect: connection refused"}


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
