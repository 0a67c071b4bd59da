"""One damaged row or file of the spool on SQLite is a dead letter with the reason; everything else goes on."""

import os
from pathlib import Path

import pytest

from store.messages import ANN, ARCHIVE, NEW, NOW, claim_ids, claim_one, octets
from store.sqlite_rig import LARGE, files, query, queue_sized
from waypost.delivery.spool import Filter, LaneCount, Settlement, SpoolError, State


async def with_file(start, name: str):
    """A spool with a large message; its content file."""
    spool = await start()
    await queue_sized(spool, name, NEW, size=LARGE)
    await spool.check()
    (file,) = files(spool)
    return spool, Path(spool.incoming.parent / "content" / file)


@pytest.mark.parametrize("restarted", [False, True])
async def test_content_that_is_missing_says_so_when_it_is_read(start, restarted: bool) -> None:
    """The claim does not fail: whoever delivers it finds out, and makes it a dead letter."""
    spool, path = await with_file(start, "m1")
    path.unlink()
    if restarted:
        spool = await start()
    await queue_sized(spool, "m2", NEW)
    claimed = [*await spool.claim(NEW, NOW, 10), *await spool.claim(NEW, NOW, 10)]
    broken, sound = sorted(claimed, key=lambda delivery: delivery.message.id)
    with pytest.raises(OSError, match=f"{path} cannot be opened: No such file"):
        b"".join(broken.message.content.chunks())
    assert octets(sound.message.content) == b"x" * 10
    spool.settle(Settlement(broken, dead=broken.message.envelope.recipients, reason=f"{path} is missing"))
    spool.settle(Settlement(sound))
    await spool.check()
    assert [(count.queued, count.dead) for count in await spool.lanes()] == [(0, 1)]


@pytest.mark.parametrize("left", [0, 1, LARGE - 1])
async def test_content_that_is_truncated_says_so_when_it_is_read(start, left: int) -> None:
    spool, path = await with_file(start, "m1")
    os.truncate(path, left)
    delivery = await claim_one(spool, NEW)
    with pytest.raises(OSError, match=f"{path} is truncated: it ends at octet {left} of {LARGE}"):
        b"".join(delivery.message.content.chunks())
    with pytest.raises(OSError, match="truncated"):
        delivery.message.content.head(LARGE)
    with pytest.raises(OSError, match="truncated"):
        assert delivery.message.content.ends_line
    delivery.message.content.close()


DAMAGES = {
    "the record is no JSON": "UPDATE message SET record = '{' WHERE id = 'm1'",
    "the record is something else": "UPDATE message SET record = '[1, 2, 3, 4, 5, 6]' WHERE id = 'm1'",
    "the record is no text": "UPDATE message SET record = CAST(x'ff80' AS TEXT) WHERE id = 'm1'",
    "the recipients are no JSON": "UPDATE delivery SET recipients = 'ann' WHERE message_id = 'm1'",
    "the message is missing": "DELETE FROM message WHERE id = 'm1'",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
async def test_a_row_that_cannot_be_read_is_a_dead_letter(start, damage: str) -> None:
    spool = await start()
    for id_ in ("m1", "m2"):
        await queue_sized(spool, id_, NEW)
        spool.settle(Settlement(await claim_one(spool, NEW), (ANN,), NOW + (id_ == "m2")))
    await spool.close()
    query(spool, damage)
    spool = await start()
    shown = await spool.find(Filter())
    assert [entry.message_id for entry in shown] == ["m1", "m2"]
    assert await claim_ids(spool, NEW, NOW + 1) == ["m2"]
    assert await spool.lanes() == [LaneCount(NEW, 1, 0, 1, shown[0].received_at)]
    (dead,) = await spool.find(Filter(states=frozenset([State.DEAD])))
    assert dead.message_id == "m1"
    assert "cannot be read" in dead.reason
    with pytest.raises(SpoolError, match=f"cannot be read: delivery {dead.id}: "):
        await spool.read(dead.id)
    assert list(await spool.alter([dead.id], "delete", NOW, 0)) == [dead.id]
    spool = await start()
    assert await claim_ids(spool, NEW, NOW + 1) == ["m2"]


@pytest.mark.parametrize("live", [True, False])
async def test_a_message_without_rows_that_cannot_be_read_is_a_dead_letter(start, live: bool) -> None:
    """What was not split yet when the process died."""
    spool = await start()
    for id_ in ("m1", "m2"):
        await queue_sized(spool, id_, NEW, ARCHIVE)
    await spool.close()
    query(spool, "UPDATE message SET record = '{' WHERE id = 'm1'")
    query(spool, f"UPDATE whole SET live = {int(live)}")
    spool = await start()
    assert await claim_ids(spool, NEW) == (["m2"] if live else [])
    assert [prepared.message.id for prepared in await spool.orphans()] == ([] if live else ["m2"])
    (dead,) = await spool.find(Filter(states=frozenset([State.DEAD])))
    assert (dead.message_id, "cannot be read" in dead.reason) == ("m1", True)
