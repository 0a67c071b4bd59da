"""What every spool does, whatever it stores mail in."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from store.messages import ANN, BOB, EVE, EXPIRES_AT, NOW, RECEIVED_AT, make_message, octets, plans
from waypost.delivery.memory_spool import MemorySpool
from waypost.delivery.spool import Delivery, Settlement, Spool, LaneCount
from waypost.mail.content import JoinedContent, MemoryContent
from waypost.mail.message import Message
from waypost.store.spill import Spill
from waypost.store.sqlite import INLINE, SqliteSpool


class Due(list[str]):
    """The targets that were said to have something due."""


@pytest.fixture
def due() -> Due:
    return Due()


@pytest.fixture(params=["memory", "sqlite"])
async def spool(request: pytest.FixtureRequest, tmp_path: Path, due: Due) -> AsyncIterator[Any]:
    made = MemorySpool(on_due=due.append)
    if request.param == "sqlite":
        made = SqliteSpool(tmp_path / "spool", on_due=due.append)
    await made.open()
    yield made
    await made.close()


async def queue(spool: Spool, message: Message, *targets: str) -> None:
    """Prepares and commits."""
    await spool.prepare(message, plans(*targets))
    spool.commit(message.id)


async def claim_one(spool: Spool, target: str, now: float = NOW) -> Delivery:
    (delivery,) = await spool.claim(target, now, 10)
    return delivery


async def test_a_committed_message_is_claimed_as_it_was(spool: Spool) -> None:
    message = make_message()
    await queue(spool, message, "new", "archive")
    for target in ("new", "archive"):
        delivery = await claim_one(spool, target)
        assert (delivery.lane, delivery.route) == (target, f"route of {target}")
        assert (delivery.attempts, delivery.expires_at) == (0, EXPIRES_AT)
        assert replace(delivery.message, content=message.content) == message
        assert octets(delivery.message.content) == octets(message.content)


async def test_a_message_read_back_from_its_row_is_as_it_was(spool: Spool) -> None:
    message = make_message()
    await queue(spool, message, "new")
    delivery = await claim_one(spool, "new")
    spool.settle(Settlement(delivery, delivery.message.envelope.recipients, at=NOW + 60))
    delivery = await claim_one(spool, "new", NOW + 60)
    assert replace(delivery.message, content=message.content) == message
    assert octets(delivery.message.content) == octets(message.content)
    assert (delivery.route, delivery.attempts, delivery.expires_at) == ("route of new", 1, EXPIRES_AT)


@pytest.mark.parametrize("size", [0, 1, INLINE, INLINE + 1, 700_000])
async def test_content_of_any_size_survives(spool: Spool, size: int) -> None:
    data = bytes(range(256)) * (size // 256) + b"\r\n" * (size % 256)
    data = data[:size]
    message = make_message(content=JoinedContent(b"Received: by us\r\n", MemoryContent(b"cut" + data), 3))
    await queue(spool, message, "new", "archive")
    message.content.close()
    first = await claim_one(spool, "new")
    second = await claim_one(spool, "archive")
    assert octets(first.message.content) == b"Received: by us\r\n" + data
    first.message.content.close()
    assert octets(second.message.content) == b"Received: by us\r\n" + data


@pytest.mark.parametrize("nested", [False, True])
async def test_content_collected_in_a_file_survives(spool: Spool, tmp_path: Path, nested: bool) -> None:
    spill = Spill(getattr(spool, "incoming", tmp_path), 1024, 1024)
    assert spill.write(b"old front" + b"x" * 5000) is None
    content = await spill.finish()
    joined = JoinedContent(b"front", content, 9)
    if nested:
        joined = JoinedContent(b"Received: by us\r\n", JoinedContent(b"dropped, and kept", joined, 5), 9)
    expected = octets(joined)
    await queue(spool, make_message(content=joined), "new")
    assert octets(joined) == expected, "the primary still reads it"
    joined.close()
    delivery = await claim_one(spool, "new")
    assert octets(delivery.message.content) == expected


async def test_nothing_is_due_before_the_commit(spool: Spool, due: Due) -> None:
    await spool.prepare(make_message(), plans("new"))
    assert await spool.claim("new", NOW, 10) in ([], ())
    assert await spool.next_due("new") is None
    assert await spool.lanes() == []
    assert due == []
    spool.commit("m1")
    assert due == ["new"]
    assert await spool.next_due("new") <= NOW


async def test_an_aborted_message_is_gone(spool: Spool, due: Due) -> None:
    await spool.prepare(make_message(), plans("new"))
    await spool.abort("m1")
    assert await spool.claim("new", NOW, 10) in ([], ())
    assert due == []
    with pytest.raises(ValueError, match="not prepared"):
        spool.commit("m1")
    await queue(spool, make_message(), "new")  # its id is free again


async def test_abort_of_an_unknown_message_is_nothing(spool: Spool) -> None:
    await spool.abort("never seen")


async def test_a_message_is_prepared_once(spool: Spool) -> None:
    await spool.prepare(make_message(), plans("new"))
    with pytest.raises(ValueError, match="m1"):
        await spool.prepare(make_message(), plans("new"))
    with pytest.raises(ValueError, match="m2"):
        await spool.prepare(make_message("m2"), [])


async def test_what_is_in_flight_is_not_claimed_again(spool: Spool) -> None:
    for number in range(3):
        await queue(spool, make_message(f"m{number}", received_at=RECEIVED_AT + number), "new")
    first = await spool.claim("new", NOW, 2)
    assert [d.message.id for d in first] == ["m0", "m1"]
    assert [d.message.id for d in await spool.claim("new", NOW, 10)] == ["m2"]
    assert await spool.claim("new", NOW, 10) in ([], ())
    assert await spool.next_due("new") is None


async def test_targets_do_not_see_each_other(spool: Spool) -> None:
    await queue(spool, make_message(), "new", "archive")
    spool.settle(Settlement(await claim_one(spool, "new")))
    assert await spool.claim("new", NOW, 10) in ([], ())
    assert (await claim_one(spool, "archive")).message.id == "m1"


async def test_a_deferred_delivery_is_due_at_its_time_for_its_recipients(spool: Spool) -> None:
    await queue(spool, make_message(), "new", "archive")
    spool.settle(Settlement(await claim_one(spool, "new"), again=(BOB, EVE), at=NOW + 60, reason="451 later"))
    assert await spool.claim("new", NOW + 59, 10) in ([], ())
    assert await spool.next_due("new") == NOW + 60
    again = await claim_one(spool, "new", NOW + 60)
    assert (again.attempts, again.message.envelope.recipients) == (1, (BOB, EVE))
    spool.settle(Settlement(again, again=(EVE,), at=NOW + 180))
    again = await claim_one(spool, "new", NOW + 180)
    assert (again.attempts, again.message.envelope.recipients) == (2, (EVE,))
    assert (await claim_one(spool, "archive")).message.envelope.recipients == (ANN, BOB, EVE)


async def test_what_no_upstream_saw_does_not_count(spool: Spool) -> None:
    await queue(spool, make_message(), "new")
    spool.settle(Settlement(await claim_one(spool, "new"), again=(ANN,), at=NOW, attempted=False))
    assert (await claim_one(spool, "new")).attempts == 0


async def test_the_earliest_is_claimed_first(spool: Spool) -> None:
    for number, at in enumerate((30, 10, 20)):
        await queue(spool, make_message(f"m{number}"), "new")
        spool.settle(Settlement(await claim_one(spool, "new"), again=(ANN,), at=NOW + at))
    assert await spool.next_due("new") == NOW + 10
    assert [d.message.id for d in await spool.claim("new", NOW + 25, 10)] == ["m1", "m2"]
    assert await spool.next_due("new") == NOW + 30


async def test_refused_recipients_become_a_dead_letter_g20(spool: Spool) -> None:
    """Not a notification to the author, and not tried again."""
    await queue(spool, make_message(), "new")
    delivery = await claim_one(spool, "new")
    spool.settle(Settlement(delivery, again=(ANN,), at=NOW + 60, dead=(BOB,), reason="550 5.1.1 no Bob"))
    assert await spool.lanes() == [LaneCount("new", 1, 0, 1, RECEIVED_AT)]
    again = await claim_one(spool, "new", NOW + 60)
    assert again.message.envelope.recipients == (ANN,)
    spool.settle(Settlement(again, dead=(ANN,), reason="550 5.1.1 no Ann"))
    assert await spool.lanes() == [LaneCount("new", 0, 0, 2, None)]
    assert await spool.next_due("new") is None


async def test_targets_are_counted(spool: Spool) -> None:
    await queue(spool, make_message("m1", received_at=RECEIVED_AT), "new", "archive")
    await queue(spool, make_message("m2", received_at=RECEIVED_AT + 1), "new")
    first, second = await spool.claim("new", NOW, 10)
    assert await spool.lanes() == [
        LaneCount("archive", 1, 0, 0, RECEIVED_AT),
        LaneCount("new", 2, 0, 0, RECEIVED_AT),
    ]
    spool.settle(Settlement(second, again=(ANN,), at=NOW + 60))
    spool.settle(Settlement(first))
    assert await spool.lanes() == [
        LaneCount("archive", 1, 0, 0, RECEIVED_AT),
        LaneCount("new", 1, 0, 0, RECEIVED_AT + 1),
    ]
    spool.settle(Settlement(await claim_one(spool, "new", NOW + 60)))
    spool.settle(Settlement(await claim_one(spool, "archive")))
    assert await spool.lanes() == []


async def test_a_claim_is_settled_once(spool: Spool) -> None:
    await queue(spool, make_message(), "new")
    delivery = await claim_one(spool, "new")
    spool.settle(Settlement(delivery))
    with pytest.raises(ValueError, match="not in flight"):
        spool.settle(Settlement(delivery))


async def test_an_unknown_target_is_owed_nothing(spool: Spool) -> None:
    assert await spool.claim("nowhere", NOW, 10) in ([], ())
    assert await spool.next_due("nowhere") is None


async def test_a_sound_spool_passes_its_check(spool: Spool) -> None:
    await spool.check()


async def test_every_message_of_a_long_backlog_is_claimed_once(spool: Spool) -> None:
    """More than is kept in memory, with deferred ones in between."""
    count = 1300
    for number in range(count):
        await queue(spool, make_message(f"m{number}", b"x", recipients=(ANN,)), "new")
    seen: list[str] = []
    deferred: set[str] = set()
    while claimed := await spool.claim("new", NOW, 50):
        for delivery in claimed:
            if len(seen) % 3 == 0 and delivery.message.id not in deferred:
                deferred.add(delivery.message.id)
                spool.settle(Settlement(delivery, again=(ANN,), at=NOW))
            else:
                seen.append(delivery.message.id)
                spool.settle(Settlement(delivery))
    assert sorted(seen) == sorted(f"m{number}" for number in range(count))
    assert await spool.lanes() == []


async def test_new_mail_does_not_starve_what_was_deferred(spool: Spool) -> None:
    await queue(spool, make_message("old"), "new")
    spool.settle(Settlement(await claim_one(spool, "new"), again=(ANN,), at=NOW))
    ids = []
    for number in range(4):
        await queue(spool, make_message(f"m{number}a", received_at=NOW), "new")
        await queue(spool, make_message(f"m{number}b", received_at=NOW), "new")
        ids += [d.message.id for d in await spool.claim("new", NOW, 1)]
    assert "old" in ids
