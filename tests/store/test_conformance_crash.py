"""What every spool remembers when the process that used it has died."""

import asyncio

import pytest

from store.implementations import Store
from store.messages import (
    ANN,
    APPS,
    ARCHIVE,
    BOB,
    EVE,
    NEW,
    NOW,
    RECEIVED_AT,
    claim_ids,
    claim_one,
    make_message,
    octets,
    plan,
    plans,
    queue,
)
from waypost.delivery.spool import LaneCount, Settlement, Spool

LARGE = 100_000


async def restarted(store: Store) -> Spool:
    await store.kill()
    return await store.start()


@pytest.mark.parametrize("size", [10, LARGE])
async def test_deliveries_are_still_owed_after_a_crash_g7(spool: Spool, store: Store, size: int) -> None:
    await queue(spool, make_message("m1", b"x" * size), NEW, ARCHIVE)
    await spool.check()  # what was committed before is durable by now
    spool = await restarted(store)
    assert not await spool.orphans()
    assert list(await spool.lanes()) == [
        LaneCount(ARCHIVE, 1, 0, 0, RECEIVED_AT),
        LaneCount(NEW, 1, 0, 0, RECEIVED_AT),
    ]
    for lane in (NEW, ARCHIVE):
        delivery = await claim_one(spool, lane)
        assert delivery.message.envelope == make_message().envelope
        assert octets(delivery.message.content) == b"x" * size
        delivery.message.content.close()
        spool.settle(Settlement(delivery))
    await spool.check()
    spool = await restarted(store)
    assert not await spool.lanes()


@pytest.mark.parametrize("size", [10, LARGE])
async def test_an_accepted_message_is_durable_when_accept_returns_g7(spool: Spool, store: Store, size: int) -> None:
    planned = [plan(APPS, recipients=(ANN, BOB)), plan(NEW, recipients=(EVE,), doubt="ses")]
    await spool.accept(make_message("m1", b"x" * size, digest=b"d" * 32), planned)
    spool = await restarted(store)
    assert not await spool.orphans()
    delivery = await claim_one(spool, APPS)
    assert (delivery.doubt, delivery.message.envelope.recipients) == (None, (ANN, BOB))
    assert delivery.message.digest == b"d" * 32
    assert octets(delivery.message.content) == b"x" * size
    delivery = await claim_one(spool, NEW)
    assert (delivery.doubt, delivery.message.envelope.recipients) == ("ses", (EVE,))


@pytest.mark.parametrize("size", [10, LARGE])
async def test_what_was_left_prepared_is_given_back_once(spool: Spool, store: Store, size: int) -> None:
    for id_ in ("m1", "m2", "m3"):
        await spool.prepare(make_message(id_, b"x" * size, digest=b"d"), plans(NEW))
    spool = await restarted(store)
    left = await spool.orphans()
    assert sorted(prepared.message.id for prepared in left) == ["m1", "m2", "m3"]
    assert not await spool.orphans()
    for prepared in left:
        assert octets(prepared.message.content) == b"x" * size
        assert list(prepared.planned) == plans(NEW)
        assert prepared.message.digest == b"d"
        prepared.message.content.close()
    assert not await spool.lanes()
    spool.commit("m1")
    await spool.abort("m2")
    (running,) = await spool.commit_as("m3", [plan(APPS, running=True)])
    assert octets(running.message.content) == b"x" * size
    running.message.content.close()
    spool.settle(Settlement(running))
    assert (await claim_one(spool, NEW)).message.id == "m1"
    assert [count.lane for count in await spool.lanes()] == [NEW]


async def test_commit_as_is_durable_when_it_returns(spool: Spool, store: Store) -> None:
    await spool.prepare(make_message(), plans(NEW, ARCHIVE))
    planned = [plan(APPS, recipients=(ANN,), running=True, doubt="ses"), plan(ARCHIVE, recipients=(BOB,))]
    await spool.commit_as("m1", planned)
    spool = await restarted(store)
    assert not await spool.orphans()
    delivery = await claim_one(spool, APPS)
    assert (delivery.doubt, delivery.message.envelope.recipients) == ("ses", (ANN,))
    assert (await claim_one(spool, ARCHIVE)).message.envelope.recipients == (BOB,)
    assert not await spool.claim(NEW, NOW, 10)


async def test_an_abort_is_durable_when_it_returns(spool: Spool, store: Store) -> None:
    await spool.prepare(make_message(), plans(NEW))
    await spool.abort("m1")
    spool = await restarted(store)
    assert not await spool.orphans()
    assert not await spool.lanes()


async def test_what_was_in_flight_is_owed_again_and_not_in_doubt(spool: Spool, store: Store) -> None:
    await spool.accept(make_message(), plans(NEW))
    await claim_one(spool, NEW)
    spool = await restarted(store)
    delivery = await claim_one(spool, NEW)
    assert (delivery.message.id, delivery.attempts, delivery.doubt) == ("m1", 0, None)


@pytest.mark.parametrize("times", [0, 1])
async def test_an_intent_without_an_outcome_is_in_doubt_after_a_crash(spool: Spool, store: Store, times: int) -> None:
    await spool.accept(make_message(), plans(APPS, NEW))
    for _ in range(times):
        spool.settle(Settlement(await claim_one(spool, APPS), (ANN, BOB, EVE), NOW))
    delivery = await claim_one(spool, APPS)
    await spool.intend(delivery, "gmail")
    await spool.intend(delivery, "ses")  # the first one had refused
    spool = await restarted(store)
    delivery = await claim_one(spool, APPS)
    assert (delivery.doubt, delivery.attempts) == ("ses", times)
    assert (await claim_one(spool, NEW)).doubt is None
    # It stays in doubt until somebody knows better, through any number of crashes.
    spool = await restarted(store)
    delivery = await claim_one(spool, APPS)
    assert delivery.doubt == "ses"
    spool.settle(Settlement(delivery, (ANN,), NOW, doubt="ses"))
    assert (await claim_one(spool, APPS)).doubt == "ses"


@pytest.mark.parametrize("times", [0, 1])
async def test_an_intent_is_forgotten_with_the_outcome(spool: Spool, store: Store, times: int) -> None:
    await spool.accept(make_message(), plans(APPS, NEW))
    for _ in range(times):
        spool.settle(Settlement(await claim_one(spool, APPS), (ANN, BOB, EVE), NOW))
    delivery = await claim_one(spool, APPS)
    await spool.intend(delivery, "ses")
    spool.settle(Settlement(delivery, (ANN,), NOW))
    copy = await claim_one(spool, NEW)
    await spool.intend(copy, "new")
    spool.settle(Settlement(copy))
    await spool.check()
    spool = await restarted(store)
    assert (await claim_one(spool, APPS)).doubt is None
    assert not await spool.claim(NEW, NOW, 10)


async def test_an_intent_needs_a_claim(spool: Spool) -> None:
    await spool.accept(make_message(), plans(APPS))
    delivery = await claim_one(spool, APPS)
    spool.settle(Settlement(delivery))
    with pytest.raises(ValueError, match="not in flight"):
        await spool.intend(delivery, "ses")


async def test_what_is_done_of_a_message_stays_done(spool: Spool, store: Store) -> None:
    await spool.accept(make_message(), plans(NEW, ARCHIVE))
    spool.settle(Settlement(await claim_one(spool, NEW)))
    await spool.check()
    spool = await restarted(store)
    assert [count.lane for count in await spool.lanes()] == [ARCHIVE]
    assert await claim_ids(spool, ARCHIVE) == ["m1"]


async def test_a_close_writes_down_what_is_pending(spool: Spool, store: Store) -> None:
    await spool.accept(make_message(), plans(NEW, ARCHIVE))
    spool.settle(Settlement(await claim_one(spool, NEW)))
    running = await claim_one(spool, ARCHIVE)
    await spool.intend(running, "archive")
    await store.end()
    spool = await restarted(store)
    assert not await spool.claim(NEW, NOW, 10)
    assert (await claim_one(spool, ARCHIVE)).doubt == "archive", "its outcome is not known to the next process"


@pytest.mark.parametrize("size", [10, LARGE])
@pytest.mark.parametrize("how", ["prepare", "accept"])
async def test_what_is_cancelled_has_stored_nothing(spool: Spool, store: Store, size: int, how: str) -> None:
    task = asyncio.ensure_future(getattr(spool, how)(make_message("m1", b"x" * size), plans(NEW)))
    await asyncio.sleep(0)
    if not task.cancel():
        pytest.skip("it is never interrupted: it does not wait for anything")
    with pytest.raises(asyncio.CancelledError):
        await task
    await queue(spool, "m2", NEW)
    await spool.check()
    spool = await restarted(store)
    assert not await spool.orphans()
    assert await claim_ids(spool, NEW) == ["m2"]


@pytest.mark.parametrize("size", [10, LARGE])
async def test_a_copy_that_was_born_and_begun_is_in_doubt_and_its_primary_is_done(
    spool: Spool, store: Store, size: int
) -> None:
    await spool.accept(make_message("m1", b"x" * size), plans(APPS))
    primary = await claim_one(spool, APPS)
    await spool.intend(primary, "old")
    spool.settle(Settlement(primary, copies=tuple(plans(NEW, ARCHIVE))))
    await spool.intend(await claim_one(spool, NEW), "new")
    spool = await restarted(store)
    assert not await spool.claim(APPS, NOW, 10), "it was on record before the copy began"
    copy = await claim_one(spool, NEW)
    assert copy.doubt == "new"
    assert (await claim_one(spool, ARCHIVE)).doubt is None
    spool.settle(Settlement(copy))
    await spool.check()
    spool = await restarted(store)
    assert [(await claim_one(spool, ARCHIVE)).message.id, *await spool.claim(NEW, NOW, 10)] == ["m1"]
