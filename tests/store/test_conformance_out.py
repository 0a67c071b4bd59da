"""What every spool does with what it owes: claims, and how they end."""

import pytest

from store.implementations import Store
from store.messages import (
    ANN,
    ARCHIVE,
    BOB,
    EVE,
    NEW,
    NOW,
    RECEIVED_AT,
    claim_one,
    make_message,
    queue,
)
from waypost.delivery.spool import LaneCount, Settlement, Spool


async def test_what_is_in_flight_is_not_claimed_again(spool: Spool) -> None:
    for number in range(3):
        await queue(spool, make_message(f"m{number}", received_at=RECEIVED_AT + number), NEW)
    first = await spool.claim(NEW, NOW, 2)
    assert [d.message.id for d in first] == ["m0", "m1"]
    assert [d.message.id for d in await spool.claim(NEW, NOW, 10)] == ["m2"]
    assert not await spool.claim(NEW, NOW, 10)
    assert await spool.next_due(NEW) is None


async def test_lanes_do_not_see_each_other(spool: Spool) -> None:
    await queue(spool, "m1", NEW, ARCHIVE)
    spool.settle(Settlement(await claim_one(spool, NEW)))
    assert not await spool.claim(NEW, NOW, 10)
    assert (await claim_one(spool, ARCHIVE)).message.id == "m1"


async def test_a_deferred_delivery_is_due_at_its_time_for_its_recipients(spool: Spool) -> None:
    await queue(spool, "m1", NEW, ARCHIVE)
    spool.settle(Settlement(await claim_one(spool, NEW), again=(BOB, EVE), at=NOW + 60, reason="451 later"))
    assert not await spool.claim(NEW, NOW + 59, 10)
    assert await spool.next_due(NEW) == NOW + 60
    again = await claim_one(spool, NEW, NOW + 60)
    assert (again.attempts, again.message.envelope.recipients) == (1, (BOB, EVE))
    spool.settle(Settlement(again, again=(EVE,), at=NOW + 180))
    again = await claim_one(spool, NEW, NOW + 180)
    assert (again.attempts, again.message.envelope.recipients) == (2, (EVE,))
    assert (await claim_one(spool, ARCHIVE)).message.envelope.recipients == (ANN, BOB, EVE)


async def test_what_no_upstream_saw_does_not_count(spool: Spool) -> None:
    await queue(spool, "m1", NEW)
    spool.settle(Settlement(await claim_one(spool, NEW), again=(ANN,), at=NOW, attempted=False))
    assert (await claim_one(spool, NEW)).attempts == 0


async def test_the_earliest_is_claimed_first(spool: Spool) -> None:
    for number, at in enumerate((30, 10, 20)):
        await queue(spool, f"m{number}", NEW)
        spool.settle(Settlement(await claim_one(spool, NEW), again=(ANN,), at=NOW + at))
    assert await spool.next_due(NEW) == NOW + 10
    assert [d.message.id for d in await spool.claim(NEW, NOW + 25, 10)] == ["m1", "m2"]
    assert await spool.next_due(NEW) == NOW + 30


async def test_refused_recipients_become_a_dead_letter_g20(spool: Spool) -> None:
    """Not a notification to the author, and not tried again."""
    await queue(spool, "m1", NEW)
    delivery = await claim_one(spool, NEW)
    spool.settle(Settlement(delivery, again=(ANN,), at=NOW + 60, dead=(BOB,), reason="550 5.1.1 no Bob"))
    assert list(await spool.lanes()) == [LaneCount(NEW, 1, 0, 1, RECEIVED_AT)]
    again = await claim_one(spool, NEW, NOW + 60)
    assert again.message.envelope.recipients == (ANN,)
    spool.settle(Settlement(again, dead=(ANN,), reason="550 5.1.1 no Ann"))
    assert list(await spool.lanes()) == [LaneCount(NEW, 0, 0, 2, None)]
    assert await spool.next_due(NEW) is None


async def test_lanes_are_counted(spool: Spool) -> None:
    await queue(spool, make_message("m1", received_at=RECEIVED_AT), NEW, ARCHIVE)
    await queue(spool, make_message("m2", received_at=RECEIVED_AT + 1), NEW)
    first, second = await spool.claim(NEW, NOW, 10)
    assert list(await spool.lanes()) == [
        LaneCount(ARCHIVE, 1, 0, 0, RECEIVED_AT),
        LaneCount(NEW, 2, 0, 0, RECEIVED_AT),
    ]
    spool.settle(Settlement(second, again=(ANN,), at=NOW + 60))
    spool.settle(Settlement(first))
    assert list(await spool.lanes()) == [
        LaneCount(ARCHIVE, 1, 0, 0, RECEIVED_AT),
        LaneCount(NEW, 1, 0, 0, RECEIVED_AT + 1),
    ]
    spool.settle(Settlement(await claim_one(spool, NEW, NOW + 60)))
    spool.settle(Settlement(await claim_one(spool, ARCHIVE)))
    assert not await spool.lanes()


async def test_a_claim_is_settled_once(spool: Spool) -> None:
    await queue(spool, "m1", NEW)
    delivery = await claim_one(spool, NEW)
    spool.settle(Settlement(delivery))
    with pytest.raises(ValueError, match="not in flight"):
        spool.settle(Settlement(delivery))


async def test_an_unknown_lane_is_owed_nothing(spool: Spool) -> None:
    assert not await spool.claim("copy:nowhere", NOW, 10)
    assert await spool.next_due("copy:nowhere") is None


async def test_a_sound_spool_passes_its_check(spool: Spool) -> None:
    await spool.check()


async def test_every_message_of_a_long_backlog_is_claimed_once(spool: Spool) -> None:
    """More than is kept in memory, with deferred ones in between."""
    count = 1300
    for number in range(count):
        await queue(spool, make_message(f"m{number}", b"x", recipients=(ANN,)), NEW)
    seen: list[str] = []
    deferred: set[str] = set()
    while claimed := await spool.claim(NEW, NOW, 50):
        for delivery in claimed:
            if len(seen) % 3 == 0 and delivery.message.id not in deferred:
                deferred.add(delivery.message.id)
                spool.settle(Settlement(delivery, again=(ANN,), at=NOW))
            else:
                seen.append(delivery.message.id)
                spool.settle(Settlement(delivery))
    assert sorted(seen) == sorted(f"m{number}" for number in range(count))
    assert not await spool.lanes()


async def test_new_mail_does_not_starve_what_was_deferred(spool: Spool) -> None:
    await queue(spool, "old", NEW)
    spool.settle(Settlement(await claim_one(spool, NEW), again=(ANN,), at=NOW))
    ids = []
    for number in range(4):
        await queue(spool, make_message(f"m{number}a", received_at=NOW), NEW)
        await queue(spool, make_message(f"m{number}b", received_at=NOW), NEW)
        ids += [d.message.id for d in await spool.claim(NEW, NOW, 1)]
    assert "old" in ids


async def test_a_deferred_delivery_survives_a_crash_with_all_that_was_said_of_it(spool: Spool, store: Store) -> None:
    await queue(spool, "m1", NEW, ARCHIVE)
    delivery = await claim_one(spool, NEW)
    spool.settle(
        Settlement(delivery, (ANN,), NOW + 60, doubt="ses", warned=True, dead=(BOB,), reason="550 no", attempted=True)
    )
    await spool.check()
    await store.kill()
    spool = await store.start()
    assert await spool.next_due(NEW) == NOW + 60
    again = await claim_one(spool, NEW, NOW + 60)
    assert (again.attempts, again.message.envelope.recipients, again.doubt, again.warned) == (1, (ANN,), "ses", True)
    assert list(await spool.lanes()) == [
        LaneCount(ARCHIVE, 1, 0, 0, RECEIVED_AT),
        LaneCount(NEW, 1, 0, 1, RECEIVED_AT),
    ]
    spool.settle(Settlement(again, (ANN,), NOW + 120))
    again = await claim_one(spool, NEW, NOW + 120)
    assert (again.doubt, again.warned) == (None, True), "told once, but not in doubt any more"


async def test_a_delivery_knows_the_last_answer(spool: Spool) -> None:
    await queue(spool, "m1", NEW)
    first = await claim_one(spool, NEW)
    assert first.reason == ""
    spool.settle(Settlement(first, first.message.envelope.recipients, NOW, reason="a: 450 4.2.0 later"))
    again = await claim_one(spool, NEW)
    assert again.reason == "a: 450 4.2.0 later"
    spool.settle(Settlement(again))
