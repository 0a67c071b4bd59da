"""The database goes away, in several ways, and comes back."""

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator, Iterator, Sequence

import asyncpg
import pytest

from rig.postgres import PostgresCluster
from store.messages import ANN, NOW, claim_ids, claim_one, make_message, plans
from waypost.delivery.spool import Delivery, Instance, Note, Settlement, SpoolError
from waypost.observe.journal import JournalError
from waypost.store.postgres import PostgresJournal, PostgresSpool

LANE = "copy:new"
QUICKLY = 8
"""Seconds within which whoever asks must be refused."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[PostgresCluster]:
    """One of our own: others need theirs."""
    with PostgresCluster() as made:
        yield made


@pytest.fixture
def url(cluster: PostgresCluster) -> str:
    return cluster.url(cluster.create_database())


@pytest.fixture
async def spool(url: str) -> AsyncIterator[PostgresSpool]:
    made = PostgresSpool(url, instance="one")
    await made.open()
    yield made
    await made.close()


async def back_again(spool: PostgresSpool) -> None:
    """Waits until the spool can be written, by itself."""
    async with asyncio.timeout(20):
        while True:
            try:
                await spool.check()
                return
            except SpoolError:
                await asyncio.sleep(0.05)  # the pace of asking


async def gone(spool: PostgresSpool, why: str = "") -> None:
    """Waits until the spool has noticed that it cannot write, and why."""
    async with asyncio.timeout(QUICKLY):
        while True:
            try:
                await spool.check()
            except SpoolError as error:
                if why in str(error):
                    return
            await asyncio.sleep(0.01)  # likewise


async def test_outcomes_are_kept_until_the_database_is_back(cluster: PostgresCluster, spool: PostgresSpool) -> None:
    for id_ in ("done", "again", "intended", "prepared"):
        await (spool.prepare if id_ == "prepared" else spool.accept)(make_message(id_), plans(LANE))
    claimed = {delivery.message.id: delivery for delivery in await spool.claim(LANE, NOW, 10)}
    await spool.intend(claimed["intended"], "new-1")

    cluster.stop(signal.SIGQUIT)
    spool.commit("prepared")
    spool.settle(Settlement(claimed["done"]))
    spool.settle(Settlement(claimed["again"], (ANN,), NOW + 60, reason="451 later"))
    spool.put(Note("sleep", "upstream", "until noon", NOW + 10**10))
    await gone(spool)
    begun = time.monotonic()
    for refused in (
        spool.accept(make_message("refused"), plans(LANE)),
        spool.prepare(make_message("refused"), plans(LANE)),
        spool.claim(LANE, NOW, 10),
        spool.intend(claimed["intended"], "new-2"),
        spool.lanes(),
        spool.notes(),
        spool.instances(),
    ):
        with pytest.raises(SpoolError):
            await refused
    assert time.monotonic() - begun < QUICKLY

    cluster.start()
    await back_again(spool)
    assert await claim_ids(spool, LANE) == ["prepared"]
    assert await claim_ids(spool, LANE, NOW + 60) == ["again"]
    assert [note.key for note in await spool.notes()] == ["upstream"]
    spool.settle(Settlement(claimed["intended"]))
    await spool.check()
    assert [count.queued for count in await spool.lanes()] == [2]


async def test_notifications_are_heard_again(cluster: PostgresCluster, url: str, spool: PostgresSpool) -> None:
    due: asyncio.Queue[str] = asyncio.Queue()
    other = PostgresSpool(url, instance="two", on_due=due.put_nowait)
    await other.open()
    try:
        cluster.stop(signal.SIGQUIT)
        cluster.start()
        await back_again(spool)
        await back_again(other)
        await other.accept(make_message("m1"), plans("copy:first"))
        assert await due.get() == "copy:first"
        for n in range(50):
            await spool.accept(make_message(f"m{n}"), plans(f"copy:{n}"))
        heard: set[str] = set()
        async with asyncio.timeout(15):
            while len(heard) < 50:
                heard.add(await due.get())
    finally:
        await other.close()


async def test_what_was_accepted_is_there_once_and_what_was_refused_is_not(
    cluster: PostgresCluster, spool: PostgresSpool
) -> None:
    """The server dies again and again in the middle of commits."""
    accepted: set[str] = set()
    refused: set[str] = set()
    over = asyncio.Event()

    async def client(name: int) -> None:
        n = 0
        while not over.is_set():
            id_ = f"{name}-{n}"
            n += 1
            try:
                await spool.accept(make_message(id_, recipients=(ANN,)), plans(LANE))
                accepted.add(id_)
            except SpoolError:
                refused.add(id_)
                await asyncio.sleep(0.02)  # the client is not in a hurry either

    clients = [asyncio.create_task(client(name)) for name in range(10)]
    for _ in range(4):
        seen = len(accepted)
        async with asyncio.timeout(20):
            while len(accepted) < seen + 100:
                await asyncio.sleep(0.01)  # the pace of asking
        await asyncio.to_thread(cluster.stop, signal.SIGQUIT)
        await asyncio.to_thread(cluster.start)
    over.set()
    await asyncio.gather(*clients)
    await back_again(spool)
    assert refused
    assert await claim_ids(spool, LANE) == sorted(accepted)


async def test_instances_that_lost_the_database_together_do_not_take_over_from_each_other(
    cluster: PostgresCluster, url: str
) -> None:
    """Nor does one whose clock is far off."""
    lease = 1.0
    days = iter(range(1, 10**6))
    spools = [
        PostgresSpool(url, instance="one", lease=lease),
        PostgresSpool(url, instance="two", lease=lease, now=lambda: time.time() + 86400 * next(days)),
    ]
    for spool in spools:
        await spool.open()
    running = []
    for spool, id_ in zip(spools, ("m1", "m2"), strict=True):
        await spool.accept(make_message(id_), plans(LANE))
        running.append(await claim_one(spool, LANE))
        await spool.check()  # a durable commit: now the claim is so too
    before = await spools[0].instances()
    cluster.stop(signal.SIGQUIT)
    await asyncio.sleep(2 * lease)  # nothing tells that time has passed but time
    cluster.start()
    for spool in spools:
        await back_again(spool)
    async with asyncio.timeout(20):  # they go on to look at each other for a while
        while any(new.seen_at < old.seen_at + 4 * lease for new, old in zip(await seen(spools), before, strict=True)):
            await asyncio.sleep(0.05)  # the pace of asking
    for spool, delivery in zip(spools, running, strict=True):
        await spool.intend(delivery, "new-1")
        spool.settle(Settlement(delivery))
        await spool.check()
        await spool.close()


async def seen(spools: list[PostgresSpool]) -> Sequence[Instance]:
    """The instances, when they can be asked for."""
    return await spools[0].instances()


async def test_a_server_that_hangs_is_given_up_and_nothing_stays_of_what_was_refused(
    cluster: PostgresCluster, spool: PostgresSpool
) -> None:
    await spool.accept(make_message("m1"), plans(LANE))
    delivery = await claim_one(spool, LANE)
    cluster.signal_all(signal.SIGSTOP)
    try:
        begun = time.monotonic()
        with pytest.raises(SpoolError, match="in time"):
            await spool.accept(make_message("m2"), plans(LANE))
        assert time.monotonic() - begun < QUICKLY
        with pytest.raises(SpoolError):
            await spool.claim(LANE, NOW, 10)
        spool.settle(Settlement(delivery))
    finally:
        cluster.signal_all(signal.SIGCONT)
    await back_again(spool)
    assert await spool.lanes() == []


async def test_a_database_that_turns_read_only_is_not_written_until_it_is_writable_again(
    url: str, spool: PostgresSpool
) -> None:
    await spool.accept(make_message("m1"), plans(LANE))
    delivery = await claim_one(spool, LANE)
    name = url.rpartition("/")[2]
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> $1"
    admin = await asyncpg.connect(url)
    try:
        await admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        await admin.fetch(cut, admin.get_server_pid())
        spool.settle(Settlement(delivery))
        await gone(spool, "read-only")
        with pytest.raises(SpoolError):
            await spool.accept(make_message("m2"), plans(LANE))
        await admin.execute("SET default_transaction_read_only = off")
        await admin.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
        await admin.fetch(cut, admin.get_server_pid())
    finally:
        await admin.close()
    await back_again(spool)
    assert await spool.lanes() == []


async def test_the_journal_waits_for_the_database_and_nobody_for_the_journal(
    cluster: PostgresCluster, url: str
) -> None:
    journal = PostgresJournal(url)
    await journal.open()
    lines = [json.dumps({"time": f"2026-01-01T00:00:{n:02}.000Z", "event": "received", "n": n}) for n in range(20)]
    cluster.stop(signal.SIGQUIT)
    for line in lines:
        journal.write("m1", line, ["ann@example.com"])
    with pytest.raises(JournalError, match="cannot be read"):
        await journal.events("m1")
    cluster.start()
    async with asyncio.timeout(20):
        while not journal.written:
            await asyncio.sleep(0.05)  # the pace of asking
    assert [record["n"] for record in await journal.events("m1")] == list(range(20))
    assert (journal.written, journal.dropped) == (20, 0)

    cluster.stop(signal.SIGQUIT)
    journal.write("m2", lines[0])
    await journal.close()
    cluster.start()
    assert (journal.written, journal.dropped) == (20, 1)


async def test_a_spool_closed_while_the_database_is_away_says_what_is_not_recorded(
    cluster: PostgresCluster, url: str
) -> None:
    spool = PostgresSpool(url, instance="one")
    await spool.open()
    await spool.accept(make_message("m1"), plans(LANE))
    delivery: Delivery = await claim_one(spool, LANE)
    cluster.stop(signal.SIGQUIT)
    try:
        spool.settle(Settlement(delivery))
        with pytest.raises(SpoolError, match="1 outcomes could not be recorded"):
            await spool.close()
        with pytest.raises(SpoolError, match="cannot be reached"):
            await PostgresSpool(url, instance="two").open()
    finally:
        cluster.start()
