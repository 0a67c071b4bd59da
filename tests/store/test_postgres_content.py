"""Content in PostgreSQL: large content in pieces, in flat memory, and gone with its message."""

import hashlib
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from rig.postgres import new_database
from store.messages import ANN, NOW, claim_one, make_message, octets, plan, plans, queue
from waypost.delivery.spool import Settlement, primary_lane
from waypost.store.postgres import PostgresSpool
from waypost.store.postgres.content import INLINE

LANE = "copy:new"
LARGE = b"0123456789abcde\n" * 2**16  # a mebibyte


@pytest.fixture
def url() -> str:
    return new_database()


@pytest.fixture
async def spool(url: str, tmp_path: Path) -> AsyncIterator[PostgresSpool]:
    made = PostgresSpool(url, instance="one", directory=tmp_path)
    await made.open()
    yield made
    await made.close()


async def rows(url: str, sql: str) -> list[Any]:
    connection = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await connection.fetch(sql)]
    finally:
        await connection.close()


async def nothing_is_left(url: str) -> bool:
    tables = ("message", "chunk", "upload", "prepared", "delivery")
    return await rows(url, " UNION ALL ".join(f"SELECT 1 FROM waypost.{table}" for table in tables)) == []


@pytest.mark.parametrize("size", [INLINE, INLINE + 1, len(LARGE)])
async def test_content_goes_with_the_last_delivery(spool: PostgresSpool, url: str, size: int) -> None:
    await queue(spool, make_message("m1", LARGE[:size]), LANE, "copy:archive")
    for lane in ("copy:archive", LANE):
        delivery = await claim_one(spool, lane)
        assert octets(delivery.message.content) == LARGE[:size]
        delivery.message.content.close()
        spool.settle(Settlement(delivery))
    await spool.check()
    assert await nothing_is_left(url)


async def test_chunks_go_with_a_message_that_is_aborted(spool: PostgresSpool, url: str) -> None:
    await spool.prepare(make_message("m1", LARGE), plans(LANE))
    assert await rows(url, "SELECT count(*), max(length(data)) FROM waypost.chunk") == [(4, 262144)]
    await spool.abort("m1")
    assert await nothing_is_left(url)


async def test_a_large_notification_is_stored_with_the_settlement(spool: PostgresSpool, url: str) -> None:
    await spool.accept(make_message("m1"), plans(LANE))
    notice = (make_message("n1", LARGE), plan(primary_lane("notices")))
    spool.settle(Settlement(await claim_one(spool, LANE), notices=(notice,)))
    await spool.close()

    again = PostgresSpool(url, instance="one")
    await again.open()
    delivery = await claim_one(again, primary_lane("notices"))
    assert octets(delivery.message.content) == LARGE
    assert not await again.claim(LANE, NOW, 10)
    delivery.message.content.close()
    again.settle(Settlement(delivery))
    await again.close()
    assert await nothing_is_left(url)


async def test_large_content_is_fetched_one_by_one(spool: PostgresSpool) -> None:
    for number, content in enumerate((b"1", b"2", LARGE, LARGE, b"5")):
        await spool.accept(make_message(f"m{number}", content, received_at=NOW - 50 + number), plans(LANE))
    claimed = [[d.message.id for d in await spool.claim(LANE, NOW, 20)] for _ in range(4)]
    assert claimed == [["m0", "m1", "m2"], ["m3", "m4"][:1], ["m4"], []]


async def test_missing_content_concerns_its_delivery_only(spool: PostgresSpool, url: str) -> None:
    await spool.accept(make_message("m1", LARGE), plans(LANE))
    await spool.accept(make_message("m2", LARGE), plans(LANE))
    await rows(url, "DELETE FROM waypost.chunk WHERE number = 2 AND message = (SELECT min(key) FROM waypost.message)")
    damaged, sound = (await claim_one(spool, LANE), await claim_one(spool, LANE))
    with pytest.raises(OSError, match="ends at octet"):
        list(damaged.message.content.chunks())
    assert octets(sound.message.content) == LARGE
    spool.settle(Settlement(damaged, dead=(ANN,), reason="its content is damaged"))
    sound.message.content.close()


_MEASURED = """
import asyncio, hashlib, sys
from pathlib import Path
from store.messages import NOW, claim_one, make_message, plans
from waypost.store.files import FileContent
from waypost.store.postgres import PostgresSpool

def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))

async def run(url, path):
    spool = PostgresSpool(url, instance="one", directory=Path(path).parent)
    await spool.open()
    await spool.accept(make_message("warm", b"x" * 300_000), plans("copy:warm"))
    (await claim_one(spool, "copy:warm")).message.content.close()
    before = peak()
    content = FileContent(Path(path), Path(path).stat().st_size, True)
    await spool.prepare(make_message("m1", content), plans("copy:new"))
    content.close()
    spool.commit("m1")
    delivery = await claim_one(spool, "copy:new")
    digest = hashlib.sha256()
    for piece in delivery.message.content.chunks():
        digest.update(piece)
    print(digest.hexdigest(), peak() - before)
    await spool.close()

asyncio.run(run(*sys.argv[1:]))
"""


def test_fifty_megabytes_cost_little_memory(url: str, tmp_path: Path) -> None:
    path, digest = tmp_path / "large", hashlib.sha256()
    with path.open("wb") as file:
        for number in range(50):
            piece = f"{number:015}\n".encode() * 2**16
            digest.update(piece)
            file.write(piece)
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, url, path],
        env={"PYTHONPATH": str(Path(__file__).parent.parent), "PATH": "/usr/bin"},
        capture_output=True,
        timeout=60,
        check=True,
    )
    said, kibibytes = done.stdout.split()
    assert said.decode() == digest.hexdigest()
    assert int(kibibytes) < 6 * 1024
