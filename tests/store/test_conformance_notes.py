"""Small durable facts, and who works on a spool: the same in every one."""

from store.implementations import Store
from store.messages import NOW
from waypost.delivery.spool import Note, Spool


def by_key(notes: object) -> list[Note]:
    return sorted(notes, key=lambda note: (note.kind, note.key))


async def test_notes_survive_a_crash(spool: Spool, store: Store) -> None:
    first, second = Note("sleep", "ses", '{"until": 1}', NOW + 60), Note("unheard", "ses", "ü\n'", NOW + 60.5)
    spool.put(first)
    spool.put(second)
    assert by_key(await spool.notes()) == [first, second]
    await spool.check()
    await store.kill()
    spool = await store.start()
    assert by_key(await spool.notes()) == [first, second]


async def test_a_note_takes_the_place_of_an_earlier_one(spool: Spool, store: Store) -> None:
    spool.put(Note("sleep", "ses", "old", NOW + 60))
    await spool.check()
    spool.put(Note("sleep", "ses", "new", NOW + 90))
    spool.put(Note("sleep", "gmail", "kept", NOW + 90))
    spool.put(Note("unheard", "ses", "gone", NOW + 90))
    spool.drop("unheard", "ses")
    spool.drop("unheard", "never there")
    await spool.check()
    await store.kill()
    spool = await store.start()
    assert by_key(await spool.notes()) == [
        Note("sleep", "gmail", "kept", NOW + 90),
        Note("sleep", "ses", "new", NOW + 90),
    ]


async def test_a_note_whose_time_is_over_is_not_remembered(spool: Spool, store: Store) -> None:
    spool.put(Note("sleep", "ses", "", store.now + 60))
    assert len(await spool.notes()) == 1
    store.now += 61
    assert not await spool.notes()


async def test_this_process_works_on_the_spool(spool: Spool) -> None:
    (instance,) = await spool.instances()
    assert instance.name
    assert instance.started_at <= instance.seen_at
