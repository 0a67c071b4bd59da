"""The scheduler on a spool that outlives it: what is left is found again, and what waits has its turn."""

import asyncio
from pathlib import Path

from rig.stage import LATER, Stage, wait_until
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
