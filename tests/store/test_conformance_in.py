"""What every spool does with new mail, whatever it stores it in: prepare, commit, abort, accept."""

import asyncio
from dataclasses import replace
from pathlib import Path

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
    claim_ids,
    claim_one,
    make_message,
    octets,
    plan,
    plans,
    queue,
)
from waypost.delivery.spool import Delivery, Role, Settlement, Spool
from waypost.mail.content import JoinedContent, MemoryContent
from waypost.net.driver import Driver
from waypost.store.spill import Spill
from waypost.store.sqlite import INLINE


async def test_a_new_spool_is_empty(spool: Spool) -> None:
    assert list(await spool.orphans()) == []
    assert list(await spool.lanes()) == []


async def test_a_committed_message_is_claimed_as_it_was(spool: Spool) -> None:
    message = make_message(digest=bytes(range(32)))
    await queue(spool, message, NEW, APPS)
    for lane in (NEW, APPS):
        delivery = await claim_one(spool, lane)
        assert (delivery.lane, delivery.route) == (lane, f"route of {lane}")
        assert (delivery.attempts, delivery.expires_at, delivery.doubt, delivery.warned) == (0, EXPIRES_AT, None, False)
        assert replace(delivery.message, content=message.content) == message
        assert octets(delivery.message.content) == octets(message.content)
    assert delivery.role is Role.PRIMARY


async def test_a_message_read_back_is_as_it_was(spool: Spool) -> None:
    message = make_message(digest=bytes(range(32)))
    await queue(spool, message, NEW)
    delivery = await claim_one(spool, NEW)
    spool.settle(Settlement(delivery, delivery.message.envelope.recipients, at=NOW + 60))
    delivery = await claim_one(spool, NEW, NOW + 60)
    assert replace(delivery.message, content=message.content) == message
    assert octets(delivery.message.content) == octets(message.content)
    assert (delivery.route, delivery.attempts, delivery.expires_at) == (f"route of {NEW}", 1, EXPIRES_AT)


@pytest.mark.parametrize("size", [0, 1, INLINE, INLINE + 1, 700_000])
async def test_content_of_any_size_survives(spool: Spool, size: int) -> None:
    data = bytes(range(256)) * (size // 256) + b"\r\n" * (size % 256)
    data = data[:size]
    message = make_message(content=JoinedContent(b"Received: by us\r\n", MemoryContent(b"cut" + data), 3))
    await queue(spool, message, NEW, ARCHIVE)
    message.content.close()
    first = await claim_one(spool, NEW)
    second = await claim_one(spool, ARCHIVE)
    assert octets(first.message.content) == b"Received: by us\r\n" + data
    first.message.content.close()
    assert octets(second.message.content) == b"Received: by us\r\n" + data
    second.message.content.close()


@pytest.mark.parametrize("nested", [False, True])
async def test_content_collected_in_a_file_survives(spool: Spool, tmp_path: Path, nested: bool) -> None:
    spill = Spill(getattr(spool, "incoming", tmp_path), 1024, 1024)
    assert spill.write(b"old front" + b"x" * 5000) is None
    content = await spill.finish()
    joined = JoinedContent(b"front", content, 9)
    if nested:
        joined = JoinedContent(b"Received: by us\r\n", JoinedContent(b"dropped, and kept", joined, 5), 9)
    expected = octets(joined)
    await queue(spool, make_message(content=joined), NEW)
    assert octets(joined) == expected, "the primary still reads it"
    joined.close()
    delivery = await claim_one(spool, NEW)
    assert octets(delivery.message.content) == expected


async def test_nothing_is_due_before_the_commit(spool: Spool, store: Store) -> None:
    await spool.prepare(make_message(), plans(NEW))
    assert not await spool.claim(NEW, NOW, 10)
    assert await spool.next_due(NEW) is None
    assert not await spool.lanes()
    assert store.due == []
    spool.commit("m1")
    assert store.due == [NEW]
    assert (await claim_one(spool, NEW)).message.id == "m1"


async def test_an_aborted_message_is_gone(spool: Spool, store: Store) -> None:
    await spool.prepare(make_message(), plans(NEW))
    await spool.abort("m1")
    assert not await spool.claim(NEW, NOW, 10)
    assert store.due == []
    with pytest.raises(ValueError, match="not prepared"):
        spool.commit("m1")
    await queue(spool, "m1", NEW)  # its id is free again


async def test_abort_of_an_unknown_message_is_nothing(spool: Spool) -> None:
    await spool.abort("never seen")


async def test_a_message_is_prepared_once(spool: Spool) -> None:
    await spool.prepare(make_message(), plans(NEW))
    with pytest.raises(ValueError, match="m1"):
        await spool.prepare(make_message(), plans(NEW))
    with pytest.raises(ValueError, match="m2"):
        await spool.prepare(make_message("m2"), [])
    with pytest.raises(ValueError, match="m3"):
        await spool.accept(make_message("m3"), [])


async def test_an_accepted_message_is_due_at_once(spool: Spool, store: Store) -> None:
    message = make_message()
    assert not await spool.accept(message, [plan(APPS), plan(NEW, recipients=(BOB,))])
    assert sorted(store.due) == [NEW, APPS]
    message.content.close()
    delivery = await claim_one(spool, APPS)
    assert octets(delivery.message.content) == octets(make_message().content)
    assert delivery.message.envelope == message.envelope
    assert (await claim_one(spool, NEW)).message.envelope.recipients == (BOB,)


async def test_what_runs_already_is_claimed_by_accepting_it(spool: Spool, store: Store) -> None:
    planned = [plan(APPS, recipients=(ANN,), running=True), plan(APPS, recipients=(BOB,)), plan(NEW, running=True)]
    first, second = await spool.accept(make_message(), planned)
    assert (first.lane, first.message.envelope.recipients) == (APPS, (ANN,))
    assert (second.lane, second.message.envelope.recipients) == (NEW, (ANN, BOB, EVE))
    assert octets(second.message.content) == octets(make_message().content)
    assert store.due == [APPS]
    assert (await claim_one(spool, APPS)).message.envelope.recipients == (BOB,)
    assert not await spool.claim(NEW, NOW, 10)
    spool.settle(Settlement(first))
    spool.settle(Settlement(second, again=(EVE,), at=NOW + 60))
    assert (await claim_one(spool, NEW, NOW + 60)).message.envelope.recipients == (EVE,)


async def test_large_content_is_given_to_what_runs_already(spool: Spool) -> None:
    data = b"x" * 200_000
    (delivery,) = await spool.accept(make_message(content=data), [plan(APPS, running=True)])
    assert octets(delivery.message.content) == data
    delivery.message.content.close()
    spool.settle(Settlement(delivery))


async def test_a_message_may_be_committed_with_other_deliveries(spool: Spool, store: Store) -> None:
    await spool.prepare(make_message(), plans(NEW, ARCHIVE))
    planned = [plan(NEW, recipients=(ANN,)), plan(APPS, recipients=(BOB,), running=True, doubt="ses")]
    (running,) = await spool.commit_as("m1", planned)
    assert (running.lane, running.doubt, running.message.envelope.recipients) == (APPS, "ses", (BOB,))
    assert octets(running.message.content) == octets(make_message().content)
    assert store.due == [NEW]
    assert (await claim_one(spool, NEW)).message.envelope.recipients == (ANN,)
    assert not await spool.claim(ARCHIVE, NOW, 10)
    spool.settle(Settlement(running))
    with pytest.raises(ValueError, match="not prepared"):
        await spool.commit_as("m1", planned)


async def test_a_message_may_be_committed_with_nothing(spool: Spool, store: Store) -> None:
    await spool.prepare(make_message(), plans(NEW))
    assert not await spool.commit_as("m1", [])
    await store.kill()
    spool = await store.start()
    assert not await spool.orphans()
    assert not await spool.lanes()


async def test_messages_of_one_lane_keep_their_order(spool: Spool) -> None:
    for number in range(5):
        await spool.accept(make_message(f"m{number}", received_at=NOW - 50 + number), plans(NEW))
    claimed = await spool.claim(NEW, NOW, 3)
    assert [delivery.message.id for delivery in claimed] == ["m0", "m1", "m2"]
    assert await claim_ids(spool, NEW) == ["m3", "m4"]


@pytest.mark.parametrize("size", [100, INLINE + 1])
async def test_sessions_store_without_a_task_of_their_own(spool: Spool, size: int) -> None:
    """Sessions are resumed by their sockets (decision 14): what they await may not need to be in a task."""
    ended: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
    given: list[Delivery] = []

    async def session() -> None:
        await spool.prepare(make_message("prepared", b"x" * size), plans(NEW))
        given.extend(await spool.commit_as("prepared", [plan(NEW, running=True)]))
        given.extend(await spool.accept(make_message("accepted", b"y" * size), [plan(APPS, running=True)]))
        await spool.prepare(make_message("aborted", b"z" * size), plans(NEW))
        await spool.abort("aborted")

    Driver(session(), lambda _, error: ended.set_result(error)).resume()
    assert await ended is None
    assert [octets(delivery.message.content)[:1] for delivery in given] == [b"x", b"y"]
    for delivery in given:
        delivery.message.content.close()
        spool.settle(Settlement(delivery))
