"""What only the spool on SQLite does: files, memory, rows."""

import asyncio
import sqlite3
from pathlib import Path

import pytest

from store.messages import ANN, BOB, EVE, NEW, NOW, claim_one, make_message, plan, plans
from store.sqlite_rig import LARGE, files, one_thread, query, wait_until
from store.sqlite_rig import queue_sized as queue
from waypost.delivery.spool import LaneCount, Note, Settlement
from waypost.store import held
from waypost.store.files import RESERVE
from waypost.store.spill import Spill


async def test_half_done_messages_are_recorded_without_a_further_call(start) -> None:
    spool = await start()
    await queue(spool, "m1", "new", "archive")
    spool.settle(Settlement(await claim_one(spool, "new")))
    await wait_until(lambda: not spool._fresh._halves and not spool._fresh._old_halves)
    await spool.check()
    spool = await start()
    assert [count.lane for count in await spool.lanes()] == ["archive"]


@pytest.mark.parametrize("size", [10, LARGE])
async def test_a_message_is_kept_for_its_dead_letter(start, size: int) -> None:
    spool = await start()
    await queue(spool, "m1", "new", "archive", size=size)
    spool.settle(Settlement(await claim_one(spool, "new"), dead=(ANN, BOB, EVE), reason="550 no"))
    spool.settle(Settlement(await claim_one(spool, "archive")))
    await spool.close()
    rows = query(spool, "SELECT message_id, lane, attempts, reason, died_at FROM delivery WHERE state = 2")
    assert rows == [("m1", "new", 1, "550 no", NOW)]
    spool = await start()
    assert len(files(spool)) == (1 if size == LARGE else 0)
    assert await spool.lanes() == [LaneCount("new", 0, 0, 1, None)]


async def test_content_collected_in_the_spool_is_renamed_not_copied(start) -> None:
    spool = await start()
    spill = Spill(spool.incoming, 1024 * 1024, 64 * 1024)
    assert spill.write(b"x" * LARGE) is None
    content = await spill.finish()
    number = content.path.stat().st_ino
    await spool.prepare(make_message(content=content), plans("new"))
    content.close()
    (kept,) = (spool.incoming.parent / "content").iterdir()
    assert kept.stat().st_ino == number
    assert kept.stat().st_mode & 0o777 == 0o600
    assert list(spool.incoming.iterdir()) == []
    await spool.abort("m1")
    assert files(spool) == []


async def test_the_start_sweeps_what_a_crash_left(start) -> None:
    spool = await start()
    await queue(spool, "m1", "new", size=LARGE)
    await spool.check()
    (spool.incoming / "tmp123").write_bytes(b"half a message")
    (spool.incoming.parent / "content" / "999").write_bytes(b"its row was never written")
    (kept,) = [name for name in files(spool) if name != "999"]
    spool = await start()
    assert files(spool) == [kept]
    assert list(spool.incoming.iterdir()) == []


async def test_the_folder_is_for_us_alone(start) -> None:
    spool = await start()
    await queue(spool, "m1", "new", size=LARGE)
    for path in [spool.incoming.parent, *spool.incoming.parent.rglob("*")]:
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


async def test_the_reserve_is_taken_given_up_and_taken_again(start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("waypost.store.database._RESERVE_PAUSE", 0)
    spool = await start()
    reserve = spool.incoming.parent / "reserve"
    assert reserve.stat().st_size == RESERVE
    await spool._writer.read(lambda database: database.make_room())
    assert reserve.stat().st_size == RESERVE, "there was room, so it came back with the next write"
    assert list(spool.incoming.iterdir()) == []


async def test_keys_are_not_used_twice(start) -> None:
    spool = await start()
    await queue(spool, "m1", "new")
    first = await claim_one(spool, "new")
    spool.settle(Settlement(first, dead=(ANN,), reason="no"))
    await spool.check()
    spool = await start()
    await queue(spool, "m2", "new")
    assert (await claim_one(spool, "new")).id != first.id


async def test_a_prepare_that_is_cancelled_leaves_nothing(start) -> None:
    spool = await start()
    threads = one_thread()
    for size in (10, LARGE):
        task = asyncio.ensure_future(spool.prepare(make_message("m1", b"x" * size), plans("new")))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await threads()
    await spool.check()
    spool = await start()
    assert not await spool.orphans()
    assert files(spool) == []


async def test_memory_is_bounded_by_rows(start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the bounds nothing is lost, counted twice or delivered twice."""
    monkeypatch.setattr("waypost.store.fresh.FRESH", 20)
    monkeypatch.setattr("waypost.store.fresh.HELD_OCTETS", 30 * (held.OVERHEAD + 1000))
    spool = await start()
    for number in range(200):
        await queue(spool, f"m{number}", "new", "archive", size=1000)
    assert spool._fresh._octets <= 30 * (held.OVERHEAD + 1000)
    for target in ("new", "archive"):
        seen = []
        while claimed := await spool.claim(target, NOW, 7):
            for delivery in claimed:
                assert delivery.message.content.size == 1000
                spool.settle(Settlement(delivery))
                seen.append(delivery.message.id)
        assert sorted(seen) == sorted(f"m{number}" for number in range(200))
    assert await spool.lanes() == []
    assert spool._fresh._octets == 0
    assert not spool._fresh._messages
    await spool.close()
    assert query(spool, "SELECT count(*) FROM message") == [(0,)]
    assert query(spool, "SELECT count(*) FROM delivery") == [(0,)]
    assert query(spool, "SELECT count(*) FROM whole") == [(0,)]


@pytest.mark.parametrize("count", [20_000])
async def test_a_large_backlog_is_claimed_at_a_steady_rate(start, tmp_path: Path, count: int) -> None:
    """What a claim reads is bounded, however much is queued: no question goes over the whole table."""
    await (await start()).close()
    with sqlite3.connect(tmp_path / "spool" / "spool.db") as database:
        record = '[["l","::1",1,"c","SMTP",null,null,false],["",""],null,[["ann","example.com"]],[["new","r",9e9]],""]'
        database.executemany(
            "INSERT INTO message VALUES (?, ?, 1, ?, 'x', NULL, 0, 1)", [(n, f"m{n}", record) for n in range(1, count)]
        )
        database.executemany(
            "INSERT INTO delivery VALUES (?, 'new', 'r', 0, 1, ?, 1, 9e9, 'm', NULL, '', NULL, 0, NULL)",
            [(n << 16, n % 97) for n in range(1, count)],
        )
    database.close()
    spool = await start()
    steps = 0

    def count_steps() -> None:
        nonlocal steps
        steps += 1

    costs = []
    await spool._writer.read(lambda database: database._connection.set_progress_handler(count_steps, 100))
    for _ in range(20):
        before = steps
        for delivery in await spool.claim("new", NOW, 20):
            spool.settle(Settlement(delivery))
        costs.append(steps - before)
    await spool._writer.read(lambda database: database._connection.set_progress_handler(None, 0))
    assert await spool.lanes() == [LaneCount("new", count - 1 - 400, 0, 0, 1)]
    assert max(costs[1:]) < 100, "under 10,000 instructions for 20 deliveries"


async def test_messages_that_come_together_share_a_commit(start) -> None:
    spool = await start()
    before = spool.commits
    await asyncio.gather(*(spool.accept(make_message(f"m{number}"), plans(NEW)) for number in range(100)))
    assert spool.stored == 100
    assert spool.commits - before <= 3, "the first goes at once, the others with the next one"


async def test_a_message_that_is_done_at_once_costs_no_rows_of_deliveries(start) -> None:
    spool = await start()
    seen: list[str] = []
    await spool._writer.read(lambda database: database._connection.set_trace_callback(seen.append))
    await spool.accept(make_message(), plans(NEW))
    delivery = await claim_one(spool, NEW)
    await spool.intend(delivery, "new")
    spool.settle(Settlement(delivery))
    await spool.check()
    await spool._writer.read(lambda database: database._connection.set_trace_callback(None))
    words = [" ".join(statement.split()[:3]) for statement in seen if statement[:6] in ("REPLAC", "DELETE")]
    assert words == [
        "REPLACE INTO message",
        "REPLACE INTO whole",
        "REPLACE INTO intent",
        "REPLACE INTO probe",
        "DELETE FROM intent",
        "DELETE FROM message",
        "DELETE FROM whole",
    ]


async def test_what_is_only_prepared_cannot_run(start) -> None:
    """Nobody would be given it by the commit."""
    spool = await start()
    with pytest.raises(ValueError, match="m1"):
        await spool.prepare(make_message(), [plan(NEW, running=True)])


async def test_notes_whose_time_is_over_are_removed_with_old_dead_letters(start) -> None:
    spool = await start()
    for number in range(3):
        spool.put(Note("unheard", str(number), "", NOW + number))
    assert await spool.purge(NOW) == 0
    await spool.close()
    assert query(spool, "SELECT key FROM note") == [("1",), ("2",)]


async def test_a_settlement_is_one_transaction_however_much_is_pending(start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the number of changes nor a lack of memory comes between its parts."""
    monkeypatch.setattr("waypost.store.writer.MANY", 1)
    monkeypatch.setattr("waypost.store.fresh.HELD_OCTETS", 3 * held.OVERHEAD)
    spool = await start()
    await spool.accept(make_message("m1"), plans(NEW, "copy:other"))
    await spool.accept(make_message("m2"), plans("copy:slow"))
    await spool.accept(make_message("m3"), plans("copy:slow"))
    delivery = await claim_one(spool, NEW)
    seen: list[str] = []
    await spool._writer.read(lambda database: database._connection.set_trace_callback(seen.append))
    notices = tuple((make_message(f"n{number}", b"x" * 3000), plan("primary:notices")) for number in range(3))
    spool.settle(Settlement(delivery, dead=(BOB,), reason="no", copies=(plan(NEW),), notices=notices))
    await spool.check()
    await spool._writer.read(lambda database: database._connection.set_trace_callback(None))
    transactions = "\n".join(seen).split("BEGIN IMMEDIATE")[1:]
    (settled,) = [text for text in transactions if "550 no" in text or "'no'" in text]
    assert all(f"'n{number}'" in settled for number in range(3))
