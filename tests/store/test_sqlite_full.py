"""The spool on SQLite when the disk is full: nothing is lost, and it goes on by itself."""

import asyncio
import os
import resource
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from store.messages import ANN, APPS, NEW, NOW, claim_one, make_message, octets, plan, plans
from store.sqlite_rig import LARGE, files, one_thread, wait_until
from store.sqlite_rig import queue_sized as queue
from waypost.delivery.spool import Settlement, SpoolError
from waypost.store.sqlite import SqliteSpool


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
    assert not await spool.orphans()


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
    assert not await spool.orphans()
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


async def test_a_settlement_with_copies_and_notices_is_kept_until_there_is_room(start, disk: Disk) -> None:
    spool = await start()
    await spool.accept(make_message("m1"), plans(APPS))
    await spool.accept(make_message("m2"), plans(APPS))
    first, second = await spool.claim(APPS, NOW, 2)
    await spool.intend(first, "ses")
    disk.fill()
    notice = make_message("n1", b"Subject: failed\r\n")
    copies = (plan(NEW, recipients=(ANN,)),)
    spool.settle(Settlement(first, copies=copies, notices=((notice, plan("primary:notices")),)))
    await wait_until(lambda: spool._writer._error is not None)
    with pytest.raises(SpoolError, match="cannot be written"):
        await spool.intend(second, "ses")
    with pytest.raises(SpoolError, match="cannot be written"):
        await spool.accept(make_message("m3"), plans(APPS))
    disk.free()
    await wait_until(lambda: spool._writer._error is None)
    await spool.check()
    spool = await start()
    assert (await claim_one(spool, NEW)).message.envelope.recipients == (ANN,)
    assert octets((await claim_one(spool, "primary:notices")).message.content) == b"Subject: failed\r\n"
    left = await claim_one(spool, APPS)
    assert (left.message.id, left.doubt) == ("m2", None)
