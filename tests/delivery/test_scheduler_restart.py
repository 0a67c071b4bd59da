"""The scheduler on a spool that outlives it: what is left is found again, and what waits has its turn."""

import asyncio
from pathlib import Path

from rig.stage import LATER, OK, Stage, wait_until
from waypost.delivery.spool import Settlement
from waypost.store.sqlite import SqliteSpool


async def test_a_restart_delivers_what_was_left_g7(tmp_path: Path) -> None:
    first = Stage(SqliteSpool(tmp_path / "spool"))
    await first.spool.open()
    await first.scheduler.start()
    first.gates["new"] = asyncio.Event()
    first.answers["archive"] = LATER
    await first.queue("m1", "m2", to=("new", "archive"))
    await wait_until(lambda: first.running["new"] == 2 and len(first.times("archive")) == 2)
    await first.scheduler.stop(0)
    await first.spool.close()

    second = Stage(SqliteSpool(tmp_path / "spool"))
    await second.spool.open()
    await second.scheduler.start()
    await wait_until(lambda: len(second.events) == 2)
    assert sorted(second.tried) == [("new", "m1", 0), ("new", "m2", 0)]
    second.clock.advance(60)
    await wait_until(lambda: len(second.events) == 4)
    assert sorted(second.tried)[:2] == [("archive", "m1", 60), ("archive", "m2", 60)]
    assert await second.queued() == {}
    await second.scheduler.stop(1)
    await second.spool.close()


async def test_what_has_waited_gets_its_turn_among_new_ones(tmp_path: Path) -> None:
    """A retry is not put off until there is nothing new any more, nor what is new until there are no retries."""
    stage = Stage(SqliteSpool(tmp_path / "spool"))
    stage.limit("new", 1)
    await stage.spool.open()
    await stage.scheduler.start()
    stage.answers["new"] = LATER
    old = [f"old{number}" for number in range(100)]
    await stage.queue(*old)
    await wait_until(lambda: len(stage.events) == 100)
    stage.answers["new"] = OK
    stage.events.clear()
    stage.tried.clear()
    stage.gates["new"] = asyncio.Event()
    stage.clock.advance(60)
    await stage.queue(*(f"new{number}" for number in range(200)))
    stage.gates["new"].set()
    await wait_until(lambda: len(stage.tried) == 300)
    order = [id_ for _, id_, _ in stage.tried]
    for half in (order[:100], order[:200]):
        share = sum(id_ in old for id_ in half) / len(half)
        assert 0.3 < share < 0.7, "they take turns, as long as there are both"
    await stage.scheduler.stop(1)
    await stage.spool.close()


async def test_an_intent_outlives_the_process_and_is_said_to_be_in_doubt(tmp_path: Path) -> None:
    first = Stage(SqliteSpool(tmp_path / "spool"))
    await first.spool.open()
    await first.accept("m1", "m2")
    m1, _m2 = await first.spool.claim("primary:migration", first.clock.time(), 10)
    await first.spool.intend(m1, "old")
    await first.spool.close()

    second = Stage(SqliteSpool(tmp_path / "spool"))
    await second.spool.open()
    await second.scheduler.start()
    await wait_until(lambda: len(second.events) == 3)
    assert sorted(second.events) == [
        ("in doubt", "m1 at old: local at dot: no outcome was recorded before the restart"),
        ("relayed", "m1"),
        ("relayed", "m2"),
    ]
    await second.scheduler.stop(1)
    await second.spool.close()


async def test_what_was_claimed_and_not_begun_is_not_in_doubt_after_a_stop(tmp_path: Path) -> None:
    first = Stage(SqliteSpool(tmp_path / "spool"))
    first.announces = True
    first.limit("new", 2)
    await first.spool.open()
    await first.queue("m0", "m1", "m2", "m3", "m4", "m5")
    first.gates["new"] = asyncio.Event()
    await first.scheduler.start()
    await wait_until(lambda: first.running["new"] == 2)
    await first.scheduler.stop(0)
    await first.spool.close()

    second = Stage(SqliteSpool(tmp_path / "spool"))
    await second.spool.open()
    await second.scheduler.start()
    await wait_until(lambda: sum(what == "copied" for what, _ in second.events) == 6)
    doubted = {told.split()[0] for what, told in second.events if what == "in doubt"}
    assert doubted == {id_ for _, id_, _ in first.tried}, "the two that were cut off, and no others"
    await second.scheduler.stop(1)
    await second.spool.close()


async def test_mail_that_came_in_while_the_clock_was_ahead_is_delivered_when_it_is_right_again(tmp_path: Path) -> None:
    month = 30 * 86400.0
    first = Stage(SqliteSpool(tmp_path / "spool"))
    first.clock.advance(month)
    await first.spool.open()
    await first.accept("m1", "m2")
    for delivery in await first.spool.claim("primary:migration", first.clock.time(), 1):
        again = delivery.message.envelope.recipients
        first.spool.settle(Settlement(delivery, again, at=first.clock.time() + 60))
    await first.spool.close()

    second = Stage(SqliteSpool(tmp_path / "spool"))
    await second.spool.open()
    await second.scheduler.start()
    await wait_until(lambda: len(second.events) == 2)
    assert sorted(second.events) == [("relayed", "m1"), ("relayed", "m2")]
    await second.scheduler.stop(1)
    await second.spool.close()
