"""Group commit on PostgreSQL: what waits at the same time is written together."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from rig.postgres import new_database
from store.messages import ANN, NOW, claim_ids, claim_one, make_message, plans
from waypost.delivery.spool import Note, Settlement, SpoolFullError, State
from waypost.store.postgres import PostgresSpool
from waypost.store.postgres.connection import Server

LANE = "copy:new"


@pytest.fixture
def url() -> str:
    return new_database()


@pytest.fixture
async def spool(url: str) -> AsyncIterator[PostgresSpool]:
    made = PostgresSpool(url, instance="one")
    await made.open()
    yield made
    await made.close()


async def test_two_hundred_that_wait_cost_few_commits(spool: PostgresSpool) -> None:
    before = spool.commits
    await asyncio.gather(*(spool.prepare(make_message(f"m{n}"), plans(LANE)) for n in range(200)))
    assert spool.commits - before <= 5
    assert spool.stored == 200
    for n in range(200):
        spool.commit(f"m{n}")
    deliveries = []
    while claimed := await spool.claim(LANE, NOW, 50):
        deliveries += claimed
    await asyncio.gather(*(spool.intend(delivery, "new-1") for delivery in deliveries))
    for delivery in deliveries:
        spool.settle(Settlement(delivery))
    await spool.check()
    assert len(deliveries) == 200
    assert spool.commits - before <= 12


async def test_much_at_once_is_written_in_several_parts(spool: PostgresSpool) -> None:
    """Many that are large but not large enough for chunks: no statement may take too long."""
    ids = [f"m{n:03}" for n in range(150)]
    before = spool.commits
    await asyncio.gather(*(spool.accept(make_message(id_, b"x" * 60_000), plans(LANE)) for id_ in ids))
    assert 2 <= spool.commits - before <= 10
    assert await claim_ids(spool, LANE) == ids


async def test_what_nobody_waits_for_is_written_soon(spool: PostgresSpool, url: str) -> None:
    await spool.prepare(make_message("m1"), plans(LANE))
    spool.commit("m1")
    connection = await asyncpg.connect(url)
    async with asyncio.timeout(5):
        while not await connection.fetchval("SELECT count(*) FROM waypost.delivery"):
            await asyncio.sleep(0.005)  # the pace of asking
    await connection.close()


async def test_text_that_the_database_cannot_hold_stops_nothing(spool: PostgresSpool) -> None:
    await spool.accept(make_message("m1"), plans(LANE))
    delivery = await claim_one(spool, LANE)
    spool.settle(Settlement(delivery, (ANN,), NOW, reason="550 \x00\udcff\u2028 no"))
    spool.put(Note("unheard", "key\x00", "value\udcff", NOW + 10**10))
    await spool.check()
    found = await spool.read(delivery.id)
    assert found is not None
    assert found[0].state is State.QUEUED
    assert found[0].reason == "550 \N{REPLACEMENT CHARACTER}\\udcff\u2028 no"
    assert [note.value for note in await spool.notes()] == ["value\\udcff"]


def test_a_full_disk_is_told_from_other_trouble(url: str) -> None:
    with pytest.raises(SpoolFullError, match="could not extend file"), Server(url).explained():
        raise asyncpg.DiskFullError("could not extend file: No space left on device")
