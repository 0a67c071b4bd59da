"""What people can do to the queue, in every spool: find, read, hold, release, retry, delete, purge."""

import asyncio
from collections.abc import Sequence

import pytest

from store.implementations import Store
from store.messages import (
    ANN,
    APPS,
    ARCHIVE,
    BOB,
    EVE,
    EXPIRES_AT,
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
from waypost.delivery.spool import Entry, Filter, LaneCount, Settlement, Spool, State
from waypost.smtp.address import Address


async def find_all(spool: Spool, where: Filter | None = None, limit: int = 100) -> list[Entry]:
    """Every page of it."""
    found: list[Entry] = []
    while page := await spool.find(where or Filter(), after=found[-1].id if found else 0, limit=limit):
        assert len(page) <= limit
        found += page
    ids = [entry.id for entry in found]
    assert ids == sorted(set(ids))
    return found


async def ids_of(spool: Spool, where: Filter) -> list[int]:
    return [entry.id for entry in await find_all(spool, where)]


def messages(entries: Sequence[Entry]) -> list[str]:
    return sorted(entry.message_id for entry in entries)


async def one_of_each(spool: Spool) -> None:
    """m1 fresh, m2 running, m3 deferred, m4 held, m5 dead; all in one lane, and m1 in another one, too."""
    for number in range(5, 0, -1):
        sender = Address(f"Sender{number}", "example.com") if number > 1 else Address("", "")
        message = make_message(f"m{number}", received_at=RECEIVED_AT + number, reverse_path=sender)
        await spool.accept(message, plans(*([NEW, ARCHIVE] if number == 1 else [NEW])))
        match number:
            case 5:
                spool.settle(Settlement(await claim_one(spool, NEW), dead=(BOB,), reason="550 5.1.1 No such User"))
            case 4:
                (entry,) = await spool.find(Filter(message_ids=frozenset(["m4"])))
                assert list(await spool.alter([entry.id], "hold", NOW, EXPIRES_AT)) == [entry.id]
            case 3:
                delivery = await claim_one(spool, NEW)
                spool.settle(Settlement(delivery, (EVE,), NOW + 60, doubt="ses", reason="451 4.4.2 lost"))
            case 2:
                await claim_one(spool, NEW)


async def test_a_delivery_is_shown_as_it_is(spool: Spool) -> None:
    await one_of_each(spool)
    by_message = {entry.message_id: entry for entry in await find_all(spool) if entry.lane == NEW}
    assert {id_: entry.state for id_, entry in by_message.items()} == {
        "m1": State.QUEUED,
        "m2": State.RUNNING,
        "m3": State.QUEUED,
        "m4": State.HELD,
        "m5": State.DEAD,
    }
    fresh, deferred, dead = by_message["m1"], by_message["m3"], by_message["m5"]
    everybody = tuple(str(recipient.address) for recipient in (ANN, BOB, EVE))
    assert (fresh.reverse_path, fresh.recipients, fresh.route) == ("", everybody, f"route of {NEW}")
    assert (fresh.attempts, fresh.reason, fresh.doubt) == (0, "", None)
    assert fresh.size == len(octets(make_message().content))
    assert (fresh.received_at, fresh.expires_at) == (RECEIVED_AT + 1, EXPIRES_AT)
    assert fresh.next_at is not None
    assert (deferred.attempts, deferred.next_at, deferred.reason, deferred.doubt) == (
        1,
        NOW + 60,
        "451 4.4.2 lost",
        "ses",
    )
    assert deferred.recipients == (str(EVE.address),)
    assert (dead.reason, dead.recipients, dead.next_at) == ("550 5.1.1 No such User", (str(BOB.address),), None)
    assert by_message["m2"].next_at is None
    assert by_message["m4"].next_at is None


@pytest.mark.parametrize("limit", [1, 2, 100])
@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (Filter(), "m1 m1 m2 m3 m4 m5"),
        (Filter(states=frozenset([State.QUEUED])), "m1 m1 m3"),
        (Filter(states=frozenset([State.RUNNING])), "m2"),
        (Filter(states=frozenset([State.HELD, State.DEAD])), "m4 m5"),
        (Filter(lanes=frozenset([ARCHIVE])), "m1"),
        (Filter(lanes=frozenset([NEW, "copy:unknown"])), "m1 m2 m3 m4 m5"),
        (Filter(lanes=frozenset()), ""),
        (Filter(routes=frozenset([f"route of {ARCHIVE}"])), "m1"),
        (Filter(message_ids=frozenset(["m1", "m5"])), "m1 m1 m5"),
        (Filter(ids=frozenset([1 << 40])), ""),
        (Filter(received_before=RECEIVED_AT + 2), "m1 m1"),
        (Filter(received_after=RECEIVED_AT + 3), "m4 m5"),
        (Filter(sender="<>"), "m1 m1"),
        (Filter(sender="sender?@EXAMPLE.*"), "m2 m3 m4 m5"),
        (Filter(sender="sender3@example.com"), "m3"),
        (Filter(recipient="*@EXÄMPLE.com"), "m1 m1 m2 m3 m4"),
        (Filter(recipient="ann@*"), "m1 m1 m2 m4"),
        (Filter(reason="no such user"), "m5"),
        (Filter(reason="4.4.2", states=frozenset([State.QUEUED, State.RUNNING])), "m3"),
        (Filter(sender="*[*"), ""),
    ],
)
async def test_what_is_asked_for_is_found(spool: Spool, where: Filter, expected: str, limit: int) -> None:
    await one_of_each(spool)
    assert messages(await find_all(spool, where, limit)) == expected.split()


async def test_deliveries_are_found_by_their_ids(spool: Spool) -> None:
    await one_of_each(spool)
    every = await find_all(spool)
    some = frozenset([every[0].id, every[3].id])
    assert [entry.id for entry in await find_all(spool, Filter(ids=some))] == sorted(some)


async def test_a_rare_delivery_is_found_among_many(spool: Spool) -> None:
    """More than one look at the store takes in: the end is where nothing is returned."""
    for number in range(1400):
        sender = Address("rare" if number in (1250, 1350) else "common", "example.com")
        await spool.accept(make_message(f"m{number}", b"x", recipients=(ANN,), reverse_path=sender), plans(NEW))
    assert messages(await find_all(spool, Filter(sender="rare@*"))) == ["m1250", "m1350"]
    assert len(await find_all(spool, limit=700)) == 1400


@pytest.mark.parametrize("message_id", ["m1", "m2", "m3", "m4", "m5"])
async def test_a_delivery_is_read_with_its_content(spool: Spool, message_id: str) -> None:
    await one_of_each(spool)
    (entry,) = await find_all(spool, Filter(message_ids=frozenset([message_id]), lanes=frozenset([NEW])))
    read = await spool.read(entry.id)
    assert read is not None
    assert read[0] == entry
    delivery = read[1]
    assert (delivery.id, delivery.message.id, delivery.lane) == (entry.id, message_id, NEW)
    assert tuple(str(r.address) for r in delivery.message.envelope.recipients) == entry.recipients
    assert octets(delivery.message.content) == octets(make_message().content)
    delivery.message.content.close()


async def test_an_unknown_delivery_is_not_read(spool: Spool) -> None:
    await one_of_each(spool)
    assert await spool.read(1 << 40) is None
    assert await spool.read(0) is None


async def test_what_is_held_is_not_claimed_until_it_is_released(spool: Spool, store: Store) -> None:
    await spool.accept(make_message("m1"), plans(NEW, ARCHIVE))
    await spool.accept(make_message("m2"), plans(NEW))
    ids = await ids_of(spool, Filter(lanes=frozenset([NEW])))
    assert sorted(await spool.alter(ids, "hold", NOW, 0)) == ids
    assert not await spool.alter(ids, "hold", NOW, 0), "they are held already"
    assert not await spool.claim(NEW, NOW, 10)
    assert await spool.next_due(NEW) is None
    assert list(await spool.lanes()) == [
        LaneCount(ARCHIVE, 1, 0, 0, RECEIVED_AT),
        LaneCount(NEW, 0, 2, 0, RECEIVED_AT),
    ]
    await store.kill()
    spool = await store.start()
    assert not await spool.claim(NEW, NOW, 10)
    store.due.clear()
    assert list(await spool.alter(ids[1:], "release", NOW + 5, 0)) == ids[1:]
    assert store.due == [NEW]
    assert await spool.next_due(NEW) == NOW + 5
    released = await claim_one(spool, NEW, NOW + 5)
    assert (released.id, released.expires_at) == (ids[1], EXPIRES_AT)
    assert not await spool.alter(ids[1:], "release", NOW, 0), "it runs"
    assert await claim_ids(spool, ARCHIVE) == ["m1"]


async def test_a_retried_delivery_is_due_now_and_gets_more_time(spool: Spool, store: Store) -> None:
    await spool.accept(make_message(), plans(NEW, ARCHIVE))
    spool.settle(Settlement(await claim_one(spool, NEW), (ANN,), NOW + 3600, reason="451 no", warned=True))
    (id_,) = await ids_of(spool, Filter(lanes=frozenset([NEW])))
    store.due.clear()
    assert list(await spool.alter([id_], "retry", NOW, EXPIRES_AT + 1)) == [id_]
    assert store.due == [NEW]
    delivery = await claim_one(spool, NEW)
    assert (delivery.id, delivery.attempts, delivery.expires_at, delivery.warned) == (id_, 1, EXPIRES_AT + 1, True)
    spool.settle(Settlement(delivery, (ANN,), NOW + 3600))
    await spool.alter([id_], "retry", NOW, EXPIRES_AT)
    assert (await claim_one(spool, NEW)).expires_at == EXPIRES_AT + 1, "no time is taken away"


@pytest.mark.parametrize("action", ["retry", "hold", "delete"])
async def test_what_was_never_tried_can_be_altered(spool: Spool, store: Store, action: str) -> None:
    """It may be in memory only; its sibling is not touched."""
    await spool.accept(make_message(), plans(NEW, ARCHIVE))
    (id_,) = await ids_of(spool, Filter(lanes=frozenset([NEW])))
    assert list(await spool.alter([id_], action, NOW, EXPIRES_AT + 1)) == [id_]
    await store.kill()
    spool = await store.start()
    claimed = await spool.claim(NEW, NOW, 10)
    assert [delivery.expires_at for delivery in claimed] == ([EXPIRES_AT + 1] if action == "retry" else [])
    assert await claim_ids(spool, ARCHIVE) == ["m1"]


async def test_a_dead_letter_can_be_retried(spool: Spool, store: Store) -> None:
    await spool.accept(make_message(), plans(NEW))
    spool.settle(Settlement(await claim_one(spool, NEW), dead=(BOB,), reason="550 no"))
    (id_,) = await ids_of(spool, Filter(states=frozenset([State.DEAD])))
    assert not await spool.alter([id_], "hold", NOW, 0)
    assert not await spool.alter([id_], "release", NOW, 0)
    assert list(await spool.alter([id_], "retry", NOW + 1, EXPIRES_AT + 1)) == [id_]
    assert list(await spool.lanes()) == [LaneCount(NEW, 1, 0, 0, RECEIVED_AT)]
    delivery = await claim_one(spool, NEW, NOW + 1)
    assert delivery.message.envelope.recipients == (BOB,)
    assert octets(delivery.message.content) == octets(make_message().content)
    spool.settle(Settlement(delivery))
    assert not await spool.lanes()


async def test_deleted_deliveries_are_gone(spool: Spool, store: Store) -> None:
    await one_of_each(spool)
    running = await ids_of(spool, Filter(states=frozenset([State.RUNNING])))
    every = await ids_of(spool, Filter())
    assert sorted(await spool.alter(every, "delete", NOW, 0)) == sorted(set(every) - set(running))
    assert list(await spool.lanes()) == [LaneCount(NEW, 1, 0, 0, RECEIVED_AT + 2)]
    await store.kill()
    spool = await store.start()
    assert (await claim_one(spool, NEW)).message.id == "m2"
    assert not await spool.claim(ARCHIVE, NOW, 10)


@pytest.mark.parametrize("action", ["retry", "hold", "release", "delete"])
async def test_nothing_happens_to_what_runs(spool: Spool, action: str) -> None:
    await spool.accept(make_message(), [plan(APPS, running=True), plan(NEW)])
    delivery = await claim_one(spool, NEW)
    ids = await ids_of(spool, Filter())
    assert len(ids) == 2
    assert not await spool.alter(ids, action, NOW, EXPIRES_AT)
    spool.settle(Settlement(delivery, (ANN,), NOW + 60))
    assert await spool.next_due(NEW) == NOW + 60
    assert not await spool.alter([1 << 40], action, NOW, EXPIRES_AT)


async def test_altering_and_claiming_at_once_gives_each_delivery_to_one(spool: Spool) -> None:
    for number in range(40):
        await spool.accept(make_message(f"m{number}"), plans(NEW))
        if number % 2:
            spool.settle(Settlement((await spool.claim(NEW, NOW, 1))[0], (ANN,), NOW))
    ids = await ids_of(spool, Filter())
    held, *claims = await asyncio.gather(
        spool.alter(ids, "hold", NOW, 0), *(spool.claim(NEW, NOW, 4) for _ in range(6))
    )
    claimed = [delivery.id for some in claims for delivery in some]
    assert len(claimed) == len(set(claimed))
    assert sorted([*held, *claimed, *[d.id for d in await spool.claim(NEW, NOW, 100)]]) == ids


async def test_old_dead_letters_are_purged(spool: Spool, store: Store) -> None:
    for number in range(3):
        store.now = NOW + number
        await spool.accept(make_message(f"m{number}"), plans(NEW))
        spool.settle(Settlement(await claim_one(spool, NEW), dead=(ANN,), reason="550 no"))
    await spool.accept(make_message("alive"), plans(NEW))
    assert await spool.purge(NOW + 2) == 2
    assert await spool.purge(NOW + 2) == 0
    assert messages(await find_all(spool)) == ["alive", "m2"]
    assert list(await spool.lanes()) == [LaneCount(NEW, 1, 0, 1, RECEIVED_AT)]
    await store.kill()
    spool = await store.start()
    assert messages(await find_all(spool)) == ["alive", "m2"]


async def test_a_dead_letter_stays_dead_after_a_crash(spool: Spool, store: Store) -> None:
    await spool.accept(make_message(), plans(NEW, ARCHIVE))
    spool.settle(Settlement(await claim_one(spool, NEW), dead=(ANN, BOB), reason="550 5.1.1 no"))
    spool.settle(Settlement(await claim_one(spool, ARCHIVE)))
    await spool.check()
    await store.kill()
    spool = await store.start()
    assert not await spool.claim(NEW, NOW + 10**6, 10)
    (entry,) = await find_all(spool)
    assert (entry.state, entry.reason, entry.attempts) == (State.DEAD, "550 5.1.1 no", 1)
    read = await spool.read(entry.id)
    assert read is not None
    assert read[1].message.envelope.recipients == (ANN, BOB)
    assert octets(read[1].message.content) == octets(make_message().content)
