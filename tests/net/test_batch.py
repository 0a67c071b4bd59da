"""Small writes leave together where there is company, and at once where there is none."""

import asyncio

import pytest

from waypost.net.batch import Batch


class Writer:
    """Counts how often it was told to write."""

    def __init__(self) -> None:
        self.flushed = 0

    def flush(self) -> None:
        self.flushed += 1


@pytest.fixture
async def batch() -> Batch:
    return Batch(asyncio.get_running_loop())


async def turn(batch: Batch, *writers: Writer) -> list[bool]:
    """One turn of the loop in which these write; whether each is to wait for the end of it."""
    waits = [batch.add(writer) for writer in writers]
    assert not any(writer.flushed for writer in writers)
    await asyncio.sleep(0)
    return waits


async def turns_until_lonely(batch: Batch) -> int:
    for count in range(100):
        if not batch.add(Writer()):
            return count
        await asyncio.sleep(0)
    raise AssertionError("a stream waits for ever for others that never come")


async def test_writes_of_one_turn_leave_together_at_its_end(batch: Batch) -> None:
    first, second = Writer(), Writer()
    assert await turn(batch, first, second) == [True, True]
    assert (first.flushed, second.flushed) == (1, 1)


async def test_who_waits_in_vain_for_long_writes_at_once(batch: Batch) -> None:
    assert 2 <= await turns_until_lonely(batch) <= 20


async def test_company_in_between_begins_the_count_anew(batch: Batch) -> None:
    patience = await turns_until_lonely(Batch(asyncio.get_running_loop()))
    for _ in range(3):
        for _ in range(patience - 1):
            assert await turn(batch, Writer()) == [True]
        assert await turn(batch, Writer(), Writer()) == [True, True]


async def test_company_is_looked_for_again_and_kept_when_found(batch: Batch) -> None:
    await turns_until_lonely(batch)
    at_once = 0
    while not batch.add(Writer()):
        at_once += 1
        assert at_once < 100
    assert at_once > 10  # it is not looked for so often that it would cost what it saves
    assert batch.add(Writer())
    await asyncio.sleep(0)
    assert await turn(batch, Writer(), Writer()) == [True, True]


async def test_who_is_still_alone_after_another_look_goes_on_writing_at_once(batch: Batch) -> None:
    await turns_until_lonely(batch)
    looks = [await turn(batch, Writer()) for _ in range(200)]
    assert 1 <= looks.count([True]) <= 20
