"""Several instances on one database: what one leaves when it is killed or held up, and what they tell each other."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, TypeVar

import asyncpg
import pytest

from rig.postgres import new_database
from store.messages import ANN, NOW, make_message, plans
from store.postgres_child import ChildSpool
from waypost.delivery.paused import PAUSE, Pause, Paused
from waypost.delivery.spool import Delivery, Filter, Note, Settlement, SpoolError, State
from waypost.store.postgres import PostgresSpool

LANE = "copy:new"
LEASE = 0.6
"""Seconds: short, and long enough for a machine that is busy."""

T = TypeVar("T")
Opened = Callable[..., Awaitable[PostgresSpool]]


@pytest.fixture
def url() -> str:
    return new_database()


@pytest.fixture
async def opened(url: str) -> AsyncIterator[Opened]:
    async with AsyncExitStack() as stack:

        async def make(name: str, lease: float = LEASE, **more: Any) -> PostgresSpool:
            spool = PostgresSpool(url, instance=name, lease=lease, **more)
            await spool.open()
            stack.push_async_callback(spool.close)
            return spool

        yield make


async def wait_for(condition: Callable[[], Awaitable[T]], what: str, seconds: float = 10) -> T:
    """The first true value of `condition`."""
    try:
        async with asyncio.timeout(seconds):
            while not (value := await condition()):
                await asyncio.sleep(0.02)  # the pace of asking
    except TimeoutError:
        raise AssertionError(f"waited {seconds} seconds in vain for {what}") from None
    return value


async def claimed_by(spool: PostgresSpool, count: int) -> dict[str, Delivery]:
    """Deliveries by message, as soon as there are so many; claimed."""
    found: dict[str, Delivery] = {}

    async def enough() -> bool:
        found.update({delivery.message.id: delivery for delivery in await spool.claim(LANE, NOW, 100)})
        return len(found) >= count

    await wait_for(enough, f"{count} deliveries")
    return found


async def rows(url: str, sql: str) -> list[Any]:
    connection = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await connection.fetch(sql)]
    finally:
        await connection.close()


async def test_what_a_killed_instance_ran_comes_back_in_doubt_where_it_had_an_intent(url: str, opened: Opened) -> None:
    spool = await opened("survivor")
    for id_ in ("m1", "m2", "m3"):
        await spool.accept(make_message(id_), plans(LANE))
    with ChildSpool(url, "killed", LEASE) as child:
        assert child.do("claim", lane=LANE, limit=2) == ["m1", "m2"]
        assert child.do("intend", id="m1", upstream="new-1") is None
        assert list(await claimed_by(spool, 1)) == ["m3"], "what another runs is not ours"
        child.kill()
        back = await claimed_by(spool, 2)

    assert {id_: delivery.doubt for id_, delivery in back.items()} == {"m1": "new-1", "m2": None}
    assert [instance.name for instance in await spool.instances()] == ["survivor"]
    for delivery in back.values():
        spool.settle(Settlement(delivery))
    assert [count.queued for count in await spool.lanes()] == [1]


async def test_what_a_killed_instance_had_prepared_is_an_orphan_of_one_other(url: str, opened: Opened) -> None:
    spools = [await opened("b"), await opened("c")]
    with ChildSpool(url, "a", LEASE) as child:
        child.do("prepare", id="m1", lanes=[LANE, "copy:archive"])
        child.do("prepare", id="m2", lanes=[LANE])
        child.do("commit", id="m2")
        assert [await spool.orphans() for spool in spools] == [(), ()]
        await wait_for(lambda: spools[0].next_due(LANE), "the commit")
        child.kill()

    async def found() -> list[tuple[PostgresSpool, Any]]:
        return [(spool, orphan) for spool in spools for orphan in await spool.orphans()]

    ((heir, orphan),) = await wait_for(found, "an orphan")
    assert orphan.message.id == "m1"
    assert [plan.lane for plan in orphan.planned] == [LANE, "copy:archive"]
    assert not await found()
    heir.commit("m1")
    assert set(await claimed_by(spools[0], 2)) == {"m1", "m2"}


async def test_a_restart_under_the_same_name_does_not_wait_for_the_lease(url: str, opened: Opened) -> None:
    with ChildSpool(url, "mx1", 300) as child:
        child.do("prepare", id="m1", lanes=[LANE])
        child.do("accept", id="m2", lanes=[LANE])
        child.do("claim", lane=LANE, limit=1)
        child.do("intend", id="m2", upstream="new-1")
        child.kill()
        spool = await opened("mx1", lease=300)
    assert [orphan.message.id for orphan in await spool.orphans()] == ["m1"]
    (delivery,) = await spool.claim(LANE, NOW, 10)
    assert (delivery.message.id, delivery.doubt) == ("m2", "new-1")


async def test_two_that_run_under_the_same_name_leave_each_other_alone(opened: Opened) -> None:
    one = await opened("mx1", lease=300)
    await one.accept(make_message("m1"), plans(LANE))
    (delivery,) = await one.claim(LANE, NOW, 10)
    two = await opened("mx1", lease=300)
    assert not await two.claim(LANE, NOW, 10)
    await one.intend(delivery, "new-1")


async def test_an_instance_that_was_held_up_neither_sends_nor_settles_what_is_no_longer_its_own(
    url: str, opened: Opened
) -> None:
    spool = await opened("busy")
    with ChildSpool(url, "held up", LEASE) as child:
        for id_ in ("m1", "m2"):
            child.do("accept", id=id_, lanes=[LANE])
        child.do("claim", lane=LANE, limit=2)
        child.do("intend", id="m2", upstream="new-1")
        child.pause()
        back = await claimed_by(spool, 2)
        child.resume()
        assert "taken over" in child.do("intend", id="m1", upstream="new-1")
        assert child.do("settle", id="m2") is None
        await spool.intend(back["m1"], "new-2")
        states = {entry.message_id: entry.state for entry in await spool.find(Filter())}
        assert states == {"m1": State.RUNNING, "m2": State.RUNNING}
        for delivery in back.values():
            spool.settle(Settlement(delivery, (ANN,), NOW))
        # It is there again, under a new number, and works.
        assert sorted(child.do("claim", lane=LANE, limit=10) + list(await claimed_by(spool, 0))) == ["m1", "m2"]


async def test_a_claim_that_a_crash_of_the_database_undid_is_not_made_twice_here(url: str, opened: Opened) -> None:
    """Claims are not awaited on disk: what runs may be queued again, while its attempt goes on."""
    spool = await opened("one")
    await spool.accept(make_message("m1"), plans(LANE))
    (delivery,) = await spool.claim(LANE, NOW, 1)
    await rows(url, "UPDATE waypost.delivery SET state = 'queued', owner = NULL RETURNING id")
    assert not await spool.claim(LANE, NOW, 1)
    with pytest.raises(SpoolError, match="taken over"):
        await spool.intend(delivery, "new-1")
    spool.settle(Settlement(delivery))
    (again,) = await spool.claim(LANE, NOW, 1)
    await spool.intend(again, "new-1")


async def test_nothing_is_claimed_by_two(opened: Opened) -> None:
    spools = [await opened(name) for name in "abc"]
    count = 400
    await asyncio.gather(
        *(spools[n % 3].accept(make_message(f"m{n}", recipients=(ANN,)), plans(LANE)) for n in range(count))
    )
    seen: list[str] = []

    async def work(spool: PostgresSpool) -> None:
        while claimed := await spool.claim(LANE, NOW, 7):
            for delivery in claimed:
                seen.append(delivery.message.id)
                await spool.intend(delivery, "new-1")
                spool.settle(Settlement(delivery))

    await asyncio.gather(*(work(spool) for spool in spools for _ in range(4)))
    assert sorted(seen) == sorted(f"m{n}" for n in range(count))
    for spool in spools:
        await spool.check()
    assert await spools[0].lanes() == []


async def test_a_message_goes_when_two_instances_end_its_last_deliveries_at_once(url: str, opened: Opened) -> None:
    one, two = await opened("one"), await opened("two")
    for n in range(30):
        await one.accept(make_message(f"m{n}"), plans(LANE, "copy:archive"))
    ours, theirs = await one.claim(LANE, NOW, 100), await two.claim("copy:archive", NOW, 100)
    assert len(ours) == len(theirs) == 30
    for mine, other in zip(ours, theirs, strict=True):
        one.settle(Settlement(mine))
        two.settle(Settlement(other))
        await asyncio.gather(one.check(), two.check())
    assert await rows(url, "SELECT id FROM waypost.message") == []


async def test_others_hear_at_once_of_what_is_due_and_of_notes(opened: Opened) -> None:
    due: asyncio.Queue[str] = asyncio.Queue()
    notes: asyncio.Queue[Note] = asyncio.Queue()
    own: list[Note] = []
    one = await opened("one", lease=300, on_note=own.append)
    await opened("two", lease=300, on_due=due.put_nowait, on_note=notes.put_nowait)
    async with asyncio.timeout(4):  # sooner than the next look at what is due
        await wait_for(lambda: _knows_of_others(one), "the other instance")
        await one.accept(make_message("m1"), plans(LANE))
        assert await due.get() == LANE
        note = Note("sleep", "upstream", "until noon", NOW + 10**10)
        one.put(note)
        assert await notes.get() == note
        one.drop("sleep", "upstream")
        assert await notes.get() == Note("sleep", "upstream", "until noon", 0)
    assert own == []


async def test_what_one_pauses_is_paused_for_the_others_until_somebody_resumes_it(url: str, opened: Opened) -> None:
    paused, others = Paused(), Paused()
    one = await opened("one", lease=300)
    await opened("two", lease=300, on_note=others.learn)
    paused.on_change = lambda name, note, here: one.drop(PAUSE, name) if note is None else one.put(note)

    async def heard(names: set[str]) -> bool:
        return set(others) == names

    await wait_for(lambda: _knows_of_others(one), "the other instance")
    paused.pause("ses", "ann", NOW)
    await wait_for(lambda: heard({"ses"}), "the pause")
    assert others["ses"] == Pause(NOW, "ann")
    third = await opened("three", lease=300)
    assert [note.key for note in await third.notes() if note.kind == PAUSE] == ["ses"]
    paused.resume("ses", "ann")
    await wait_for(lambda: heard(set()), "the resume")


async def _knows_of_others(spool: PostgresSpool) -> bool:
    return len(await spool.instances()) > 1


async def test_what_was_said_while_the_listening_connection_was_cut_is_found_out(url: str, opened: Opened) -> None:
    due: asyncio.Queue[str] = asyncio.Queue()
    notes: asyncio.Queue[Note] = asyncio.Queue()
    one = await opened("one", lease=300)
    await opened("two", lease=300, on_due=due.put_nowait, on_note=notes.put_nowait)
    cut = (
        "WITH cut AS (SELECT DISTINCT l.pid FROM pg_locks l WHERE l.locktype = 'advisory'"
        " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()))"
        " SELECT pg_terminate_backend(pid) FROM cut"
    )
    assert len(await rows(url, cut)) == 2
    note = Note("sleep", "upstream", "until noon", NOW + 10**10)
    one.put(note)
    await one.accept(make_message("m1"), plans(LANE))
    async with asyncio.timeout(4):
        assert await due.get() == LANE
        assert await notes.get() == note


async def test_what_falls_due_is_found_by_looking(opened: Opened) -> None:
    """No notification says that a time has come."""
    clock = [NOW]
    due: asyncio.Queue[str] = asyncio.Queue()
    one = await opened("one")
    await opened("two", on_due=due.put_nowait, now=lambda: clock[0])
    await one.accept(make_message("m1"), plans(LANE))
    await due.get()
    (delivery,) = await one.claim(LANE, NOW, 1)
    one.settle(Settlement(delivery, (ANN,), NOW + 60))
    await one.check()
    while not due.empty():
        due.get_nowait()
    clock[0] = NOW + 61
    async with asyncio.timeout(5):
        assert await due.get() == LANE


async def test_a_claim_that_nobody_waited_for_comes_back(opened: Opened) -> None:
    spool = await opened("one")
    for n in range(20):
        await spool.accept(make_message(f"m{n}"), plans(LANE))

    async def cancelled(after: float) -> None:
        claim = asyncio.create_task(spool.claim(LANE, NOW, 2))
        await asyncio.sleep(after)  # cancelled at any moment of it
        claim.cancel()
        try:
            for delivery in await claim:
                spool.settle(Settlement(delivery, (ANN,), NOW))
        except asyncio.CancelledError:
            pass

    for step in range(12):
        await cancelled(step / 4000)
    assert len(await claimed_by(spool, 20)) == 20


async def test_when_an_instance_closes_what_it_runs_is_queued_at_once(opened: Opened) -> None:
    one, two = await opened("one", lease=300), await opened("two", lease=300)
    for id_ in ("m1", "m2"):
        await one.accept(make_message(id_), plans(LANE))
    deliveries = await one.claim(LANE, NOW, 10)
    await one.intend(deliveries[0], "new-1")
    await one.close()
    assert [(d.message.id, d.doubt) for d in await two.claim(LANE, NOW, 10)] == [("m1", "new-1"), ("m2", None)]
    with pytest.raises(SpoolError):
        await one.accept(make_message("m3"), plans(LANE))


async def test_upload_of_a_killed_instance_is_removed(url: str, opened: Opened) -> None:
    with ChildSpool(url, "killed", LEASE) as child:
        child.do("begin_upload", size=2**20)
        child.kill()
        await opened("survivor")

        async def gone() -> bool:
            return not await rows(url, "SELECT 1 FROM waypost.chunk") and not await rows(
                url, "SELECT 1 FROM waypost.upload"
            )

        await wait_for(gone, "the chunks to go")
