"""What a settlement adds in every spool: copies of the same message, and notices to its sender."""

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
)
from waypost.delivery.spool import LaneCount, Settlement, Spool

NOTICES = "primary:notices"


async def deferred(spool: Spool, *, times: int) -> None:
    """Lets the primary delivery be tried again, so that the store has had to write it down."""
    for _ in range(times):
        spool.settle(Settlement(await claim_one(spool, APPS), (ANN, BOB, EVE), at=NOW))


@pytest.mark.parametrize("times", [0, 2])
async def test_copies_follow_the_primary_for_those_it_relayed(spool: Spool, store: Store, times: int) -> None:
    await spool.accept(make_message(), plans(APPS))
    await deferred(spool, times=times)
    assert not await spool.claim(NEW, NOW, 10)
    store.due.clear()
    primary = await claim_one(spool, APPS)
    copies = (plan(NEW, recipients=(ANN, BOB)), plan(ARCHIVE, recipients=(ANN, BOB)))
    spool.settle(Settlement(primary, (EVE,), NOW + 60, copies=copies))
    assert sorted(store.due) == [ARCHIVE, NEW]
    delivered = {}
    for lane in (NEW, ARCHIVE):
        copy = await claim_one(spool, lane)
        assert copy.message.envelope.recipients == (ANN, BOB)
        assert (copy.message.id, copy.attempts, copy.route) == ("m1", 0, f"route of {lane}")
        assert octets(copy.message.content) == octets(make_message().content)
        delivered[copy.id] = copy
    again = await claim_one(spool, APPS, NOW + 60)
    assert again.message.envelope.recipients == (EVE,)
    spool.settle(Settlement(again, copies=(plan(NEW, recipients=(EVE,)),)))
    later = await claim_one(spool, NEW)
    assert later.message.envelope.recipients == (EVE,)
    assert len({primary.id, later.id, *delivered}) == 4
    for copy in (*delivered.values(), later):
        spool.settle(Settlement(copy))
    assert not await spool.lanes()


@pytest.mark.parametrize("times", [0, 1])
async def test_a_copy_never_gets_the_number_of_the_delivery_that_it_came_from(spool: Spool, times: int) -> None:
    await spool.accept(make_message(), plans(APPS))
    await deferred(spool, times=times)
    primary = await claim_one(spool, APPS)
    spool.settle(Settlement(primary, copies=(plan(NEW), plan(ARCHIVE))))
    copies = [await claim_one(spool, lane) for lane in (NEW, ARCHIVE)]
    assert len({primary.id, *(copy.id for copy in copies)}) == 3


@pytest.mark.parametrize("times", [0, 1])
async def test_dead_letters_and_copies_get_ids_of_their_own(spool: Spool, times: int) -> None:
    await spool.accept(make_message(), plans(APPS))
    await deferred(spool, times=times)
    for at, recipient in enumerate((ANN, BOB)):
        primary = await claim_one(spool, APPS, NOW + at)
        copies = (plan(NEW, recipients=(recipient,)),)
        spool.settle(Settlement(primary, (EVE,), NOW + at + 1, dead=(recipient,), copies=copies))
    assert list(await spool.lanes()) == [
        LaneCount(NEW, 2, 0, 0, RECEIVED_AT),
        LaneCount(APPS, 1, 0, 2, RECEIVED_AT),
    ]
    copies = await spool.claim(NEW, NOW, 10)
    assert sorted(str(c.message.envelope.recipients[0].address) for c in copies) == sorted(
        str(r.address) for r in (ANN, BOB)
    )


@pytest.mark.parametrize("times", [0, 1])
@pytest.mark.parametrize("others", [0, 1])
async def test_a_settlement_is_recorded_as_one(spool: Spool, store: Store, times: int, others: int) -> None:
    """Whatever of it is there after a crash, all of it is: checked here when all was recorded."""
    await spool.accept(make_message(), plans(APPS, *[ARCHIVE] * others))
    await deferred(spool, times=times)
    notice = make_message("n1", b"Subject: failed\r\n", received_at=NOW, recipients=(EVE,))
    settlement = Settlement(
        await claim_one(spool, APPS),
        dead=(BOB,),
        reason="550 no",
        copies=(plan(NEW, recipients=(ANN,)),),
        notices=((notice, plan(NOTICES)),),
    )
    store.due.clear()
    spool.settle(settlement)
    assert sorted(store.due) == [NEW, NOTICES]
    await spool.check()
    await store.kill()
    spool = await store.start()
    assert (await claim_one(spool, NEW)).message.envelope.recipients == (ANN,)
    sent = await claim_one(spool, NOTICES)
    assert sent.message.envelope == notice.envelope
    assert octets(sent.message.content) == b"Subject: failed\r\n"
    assert [count for count in await spool.lanes() if count.lane == APPS] == [LaneCount(APPS, 0, 0, 1, None)]
    assert await claim_ids(spool, ARCHIVE) == ["m1"] * others


async def test_a_notice_is_delivered_from_memory_as_well(spool: Spool) -> None:
    await spool.accept(make_message(), plans(APPS))
    notice = make_message("n1", b"Subject: failed\r\n", recipients=(EVE,))
    spool.settle(Settlement(await claim_one(spool, APPS), notices=((notice, plan(NOTICES)),)))
    notice.content.close()
    sent = await claim_one(spool, NOTICES)
    assert octets(sent.message.content) == b"Subject: failed\r\n"
    spool.settle(Settlement(sent, (EVE,), NOW + 60))
    sent = await claim_one(spool, NOTICES, NOW + 60)
    assert octets(sent.message.content) == b"Subject: failed\r\n"
    spool.settle(Settlement(sent))
    assert not await spool.lanes()
