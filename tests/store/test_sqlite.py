"""What only the durable spool does: restart, folder, damage, a full disk."""

import asyncio
import os
import resource
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from store.messages import ANN, BOB, EVE, NOW, RECEIVED_AT, make_message, octets, plans
from waypost.delivery.spool import Delivery, LaneCount, Settlement, SpoolError
from waypost.store import held
from waypost.store.files import RESERVE
from waypost.store.spill import Spill
from waypost.store.sqlite import SqliteSpool

LARGE = 100_000


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Callable[[], "asyncio.Future[SqliteSpool]"]]:
    """Starts the spool, and ends the one that was started before without `close`: as a crash does."""
    running: list[SqliteSpool] = []

    async def end() -> None:
        while running:
            spool = running.pop()
            writer = spool._writer  # the test stands in for the kernel here
            if writer._database is not None:
                await writer._ask(writer._database._connection.close)
                writer._join()

    async def begin() -> SqliteSpool:
        await end()
        spool = SqliteSpool(tmp_path / "spool", now=lambda: NOW)
        await spool.open()
        spool.left = await spool.orphans()  # type: ignore[attr-defined]
        running.append(spool)
        return spool

    yield begin
    await end()


async def queue(spool: SqliteSpool, id_: str, *targets: str, size: int = 10) -> None:
    await spool.prepare(make_message(id_, b"x" * size), plans(*targets))
    spool.commit(id_)


async def claim_one(spool: SqliteSpool, target: str, now: float = NOW) -> Delivery:
    (delivery,) = await spool.claim(target, now, 10)
    return delivery


def files(spool: SqliteSpool) -> list[str]:
    return sorted(path.name for path in (spool.incoming.parent / "content").iterdir())


def one_thread() -> Callable[[], Awaitable[None]]:
    """Lets background work be done in order from here on; what is returned waits for all of it."""
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(1))
    return lambda: loop.run_in_executor(None, lambda: None)


async def wait_until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("size", [10, LARGE])
async def test_copies_are_still_owed_after_a_restart_g7(start, size: int) -> None:
    spool = await start()
    await queue(spool, "m1", "new", "archive", size=size)
    await spool.check()  # what was committed before is durable by now
    spool = await start()
    assert spool.left == []
    assert await spool.lanes() == [
        LaneCount("archive", 1, 0, 0, RECEIVED_AT),
        LaneCount("new", 1, 0, 0, RECEIVED_AT),
    ]
    for target in ("new", "archive"):
        delivery = await claim_one(spool, target)
        assert delivery.message.envelope == make_message().envelope
        assert octets(delivery.message.content) == b"x" * size
        spool.settle(Settlement(delivery))
    await spool.check()
    spool = await start()
    assert await spool.lanes() == []
    assert files(spool) == []


async def test_what_was_in_flight_is_owed_again(start) -> None:
    spool = await start()
    await queue(spool, "m1", "new")
    await claim_one(spool, "new")
    await spool.check()
    spool = await start()
    assert (await claim_one(spool, "new")).message.id == "m1"


async def test_what_is_done_of_a_message_stays_done(start) -> None:
    spool = await start()
    await queue(spool, "m1", "new", "archive")
    spool.settle(Settlement(await claim_one(spool, "new")))
    await spool.close()
    spool = await start()
    assert [count.lane for count in await spool.lanes()] == ["archive"]


async def test_half_done_messages_are_recorded_without_a_further_call(start) -> None:
    spool = await start()
    await queue(spool, "m1", "new", "archive")
    spool.settle(Settlement(await claim_one(spool, "new")))
    await wait_until(lambda: not spool._fresh._halves and not spool._fresh._old_halves)
    await spool.check()
    spool = await start()
    assert [count.lane for count in await spool.lanes()] == ["archive"]


async def test_deferred_and_dead_recipients_survive(start) -> None:
    spool = await start()
    await queue(spool, "m1", "new", "archive")
    delivery = await claim_one(spool, "new")
    spool.settle(Settlement(delivery, again=(ANN,), at=NOW + 60, dead=(BOB,), reason="550 no"))
    await spool.check()
    spool = await start()
    assert await spool.next_due("new") == NOW + 60
    again = await claim_one(spool, "new", NOW + 60)
    assert (again.attempts, again.message.envelope.recipients) == (1, (ANN,))
    assert await spool.lanes() == [
        LaneCount("archive", 1, 0, 0, RECEIVED_AT),
        LaneCount("new", 1, 0, 1, RECEIVED_AT),
    ]


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


@pytest.mark.parametrize("size", [10, LARGE])
async def test_what_was_left_prepared_is_given_back(start, size: int) -> None:
    spool = await start()
    for id_ in ("m1", "m2"):
        await spool.prepare(make_message(id_, b"x" * size), plans("new"))
    spool = await start()
    assert [prepared.message.id for prepared in spool.left] == ["m1", "m2"]
    assert octets(spool.left[0].message.content) == b"x" * size
    assert await spool.lanes() == []
    spool.commit("m1")
    await spool.abort("m2")
    assert (await claim_one(spool, "new")).message.id == "m1"
    assert len(files(spool)) == (1 if size == LARGE else 0)


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
    assert spool.left == []
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


def query(spool: SqliteSpool, sql: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(spool.incoming.parent / "spool.db")
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


async def test_a_second_process_is_refused(start, tmp_path: Path) -> None:
    await start()
    script = (
        "import asyncio, pathlib, sys; from waypost.store.sqlite import SqliteSpool;"
        "asyncio.run(SqliteSpool(pathlib.Path(sys.argv[1])).open())"
    )
    second = subprocess.run([sys.executable, "-c", script, tmp_path / "spool"], capture_output=True, text=True)
    assert second.returncode != 0
    assert "in use by another process" in second.stderr
    with pytest.raises(SpoolError, match="in use by another process"):
        await SqliteSpool(tmp_path / "spool").open()


async def test_a_newer_schema_is_refused_with_both_versions(start, tmp_path: Path) -> None:
    await (await start()).close()
    path = tmp_path / "spool" / "spool.db"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(SpoolError, match=r"newer Waypost.*version 99,.*up to 1\."):
        await SqliteSpool(tmp_path / "spool").open()
    assert path.read_bytes() == before


async def test_a_database_of_another_program_is_refused(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()
    connection = sqlite3.connect(tmp_path / "spool" / "spool.db")
    connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    with pytest.raises(SpoolError, match="another program"):
        await SqliteSpool(tmp_path / "spool").open()


@pytest.mark.parametrize("offset", [0, 4096])
async def test_a_damaged_database_is_refused_and_not_touched(start, tmp_path: Path, offset: int) -> None:
    spool = await start()
    for number in range(50):
        await queue(spool, f"m{number}", "new", size=LARGE if number == 0 else 500)
    await spool.close()
    path = tmp_path / "spool" / "spool.db"
    data = bytearray(path.read_bytes())
    data[offset : offset + 4096 * 3] = b"\x5a" * 4096 * 3
    path.write_bytes(data)
    with pytest.raises(SpoolError, match=r"(?s)damaged.*Nothing was changed.*\.recover"):
        await SqliteSpool(tmp_path / "spool").open()
    assert path.read_bytes() == data
    assert len(files(spool)) == 1


async def test_a_path_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolError, match="cannot open the spool"):
        await SqliteSpool(tmp_path / "file" / "spool").open()


async def test_a_closed_spool_says_so(tmp_path: Path) -> None:
    spool = SqliteSpool(tmp_path / "spool")
    with pytest.raises(SpoolError, match="not open"):
        await spool.check()
    await spool.open()
    await spool.close()
    with pytest.raises(SpoolError, match="not open"):
        await spool.prepare(make_message(), plans("new"))


class Disk:
    """A disk that can be full: no file of this process may grow beyond a size."""

    def __init__(self) -> None:
        self._soft, self._hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1, self._hard))

    def free(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (self._soft, self._hard))


@pytest.fixture
async def disk() -> AsyncIterator[Disk]:
    made = Disk()
    yield made
    made.free()


@pytest.mark.parametrize("size", [10, LARGE])
async def test_no_room_for_a_message_is_an_error_of_that_message(start, disk: Disk, size: int) -> None:
    spool = await start()
    threads = one_thread()
    disk.fill()
    with pytest.raises(SpoolError):
        await spool.prepare(make_message("m1", b"x" * size), plans("new"))
    with pytest.raises(SpoolError):
        await spool.check()
    disk.free()
    await spool.check()
    await queue(spool, "m2", "new", size=size)
    await spool.check()
    await threads()
    assert len(files(spool)) == (1 if size == LARGE else 0)
    spool = await start()
    assert spool.left == []


async def test_when_outcomes_cannot_be_recorded_nothing_is_sent_and_nothing_lost(start, disk: Disk) -> None:
    spool = await start()
    due: list[str] = []
    spool.on_due = due.append
    for number in range(3):
        await queue(spool, f"m{number}", "new")
    await spool.prepare(make_message("m3"), plans("new"))
    first, second = await spool.claim("new", NOW, 2)
    await spool.check()
    disk.fill()
    spool.settle(Settlement(first))
    spool.settle(Settlement(second, again=(ANN,), at=NOW + 60))
    await wait_until(lambda: spool._writer._error is not None)
    with pytest.raises(SpoolError, match="cannot be written"):
        await spool.claim("new", NOW, 10)
    with pytest.raises(SpoolError, match="cannot be written"):
        await spool.prepare(make_message("m4"), plans("new"))
    with pytest.raises(SpoolError, match="cannot be written"):
        await spool.check()
    spool.commit("m3")
    due.clear()
    disk.free()
    await wait_until(lambda: bool(due))
    await spool.check()
    spool = await start()
    assert spool.left == []
    assert sorted(d.message.id for d in await spool.claim("new", NOW, 10)) == ["m2", "m3"]
    assert [d.message.id for d in await spool.claim("new", NOW + 60, 10)] == ["m1"]


async def test_a_disk_that_is_full_indeed(tmp_path: Path) -> None:
    """On a file system of twelve megabytes: everything that was accepted can be delivered, and makes room."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", small], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"mount is not possible here: {mounted.stderr.strip()}")
    try:
        spool = SqliteSpool(small / "spool", allow_temporary=True)
        await spool.open()
        accepted = []
        try:
            while True:
                id_ = f"m{len(accepted)}"
                await spool.prepare(make_message(id_, b"x" * 20_000), plans("new"))
                accepted.append(id_)
                spool.commit(id_)
        except SpoolError as error:
            assert "full" in str(error)  # noqa: PT017  # how many get in depends on the page cache
        assert accepted
        delivered = []
        async with asyncio.timeout(20):
            while len(delivered) < len(accepted):
                try:
                    claimed = await spool.claim("new", NOW, 10)
                except SpoolError:
                    await asyncio.sleep(0.01)
                    continue
                for delivery in claimed:
                    delivered.append(delivery.message.id)
                    spool.settle(Settlement(delivery))
        assert sorted(delivered) == sorted(accepted)
        async with asyncio.timeout(20):
            while True:
                try:
                    await spool.check()
                    break
                except SpoolError:
                    await asyncio.sleep(0.01)
        await queue(spool, "after", "new", size=20_000)
        await spool.close()
    finally:
        subprocess.run(["umount", "--lazy", small], check=True)
