"""What every journal does, whatever it stores records in."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from rig.postgres import new_database
from waypost.mail.ids import make_id
from waypost.observe.journal import Journal, Search
from waypost.observe.record import Record, timestamp
from waypost.store.journal import SqliteJournal
from waypost.store.postgres import PostgresJournal

NOW = 1_800_000_000.0
Opened = Callable[[], Any]


@asynccontextmanager
async def sqlite_journal(tmp_path: Path) -> AsyncIterator[Opened]:
    """What opens the same journal anew each time it is called."""
    yield lambda: SqliteJournal(tmp_path / "spool")


@asynccontextmanager
async def postgres_journal(tmp_path: Path) -> AsyncIterator[Opened]:
    url = new_database()
    yield lambda: PostgresJournal(url)


FACTORIES = {"sqlite": sqlite_journal, "postgres": postgres_journal}
"""An implementation is added here: a context around one test, giving what makes a journal on the same storage."""


@pytest.fixture(params=FACTORIES)
async def make(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Opened]:
    async with FACTORIES[request.param](tmp_path) as opened:
        yield opened


@pytest.fixture
async def journal(make: Opened) -> AsyncIterator[Journal]:
    made: Journal = make()
    await made.open()
    yield made
    await made.close()


def id_at(seconds: float, number: int = 0) -> str:
    return make_id(int((NOW + seconds) * 1000), number)


def record(id_: str, event: str = "received", at: float = 0.0, **facts: Any) -> Record:
    return {"time": timestamp(NOW + at), "level": "info", "event": event, "id": id_, **facts}


def write(journal: Journal, made: Record, *keys: str) -> Record:
    journal.write(made["id"], json.dumps(made), keys)
    return made


async def test_a_message_has_its_records_in_the_order_in_which_they_were_written(journal: Journal) -> None:
    one, two = id_at(0), id_at(1)
    first = write(journal, record(one, size=3, recipients=["b@example.net"]))
    write(journal, record(two))
    # The clock went back meanwhile: order is that of writing, not that of times.
    second = write(journal, record(one, "relayed", -5, delay=0.25, reused=True))

    assert await journal.events(one) == [first, second]
    assert await journal.events(id_at(2)) == []


async def test_records_outlast_the_process(make: Opened) -> None:
    journal = make()
    await journal.open()
    first = write(journal, record(id_at(0)), "a@example.com")
    await journal.close()

    again = make()
    await again.open()
    second = write(again, record(id_at(0), "relayed"))
    try:
        assert await again.events(id_at(0)) == [first, second]
        assert await again.find(Search(address="a@example.com")) == [id_at(0)]
    finally:
        await again.close()


@pytest.mark.parametrize(
    "search",
    [
        Search(message_id_field="<1@example.com>"),
        Search(address="Ann@Example.COM"),
        Search(address="bob@example.net"),
        Search(address="bob@example.net", message_id_field="<1@example.com>"),
        Search(address="bob@example.net", since=NOW - 1, until=NOW + 1),
        Search(since=NOW, until=NOW + 0.001),
    ],
    ids=str,
)
async def test_a_message_is_found_by_all_that_it_is_known_by(journal: Journal, search: Search) -> None:
    write(journal, record(id_at(0)), "<1@example.com>", "ann@example.com", "bob@example.net")
    write(journal, record(id_at(-10)), "<2@example.com>", "eve@example.com", "fay@example.net")
    write(journal, record(id_at(10)), "<3@example.com>", "eve@example.com", "fay@example.net")

    assert await journal.find(search) == [id_at(0)]


@pytest.mark.parametrize(
    "search",
    [
        Search(message_id_field="<1@EXAMPLE.com>"),
        Search(message_id_field="1@example.com"),
        Search(address="ann@example"),
        Search(address="%@example.com"),
        Search(address="ann@example.com", message_id_field="<2@example.com>"),
        Search(address="ann@example.com", since=NOW + 0.001),
        Search(address="ann@example.com", until=NOW),
        Search(until=NOW),
    ],
    ids=str,
)
async def test_what_does_not_match_in_everything_is_not_found(journal: Journal, search: Search) -> None:
    write(journal, record(id_at(0)), "<1@example.com>", "ann@example.com")
    write(journal, record(id_at(5)), "<2@example.com>", "eve@example.com")

    assert await journal.find(search) == []


async def test_the_youngest_are_found_first_each_once_and_no_more_than_asked_for(journal: Journal) -> None:
    ids = [id_at(seconds) for seconds in range(30)]
    for id_ in (*ids[10:], *ids[:10]):  # one clock is not the other's
        write(journal, record(id_), "ann@example.com", "ann@example.com")
        write(journal, record(id_, "refused"), "ann@example.com")

    assert await journal.find(Search(address="ann@example.com")) == ids[::-1]
    assert await journal.find(Search(address="ann@example.com"), limit=3) == ids[:-4:-1]
    assert await journal.find(Search(), limit=3) == ids[:-4:-1]


async def test_records_without_keys_are_known_by_the_id_only(journal: Journal) -> None:
    write(journal, record(id_at(0), "deferred"))

    assert await journal.find(Search(address="ann@example.com")) == []
    assert await journal.find(Search()) == [id_at(0)]


async def test_what_is_not_ascii_is_kept_and_found(journal: Journal) -> None:
    made = write(journal, record(id_at(0), client_name="\udcff\x00\u2028"), "jörg@exämple.de", "\udcff@example.com")

    assert await journal.events(id_at(0)) == [made]
    assert await journal.find(Search(address="JÖRG@exämple.de")) == [id_at(0)]


async def test_many_records_at_once_are_all_written(journal: Journal) -> None:
    ids = [id_at(0, number) for number in range(3000)]
    for number, id_ in enumerate(ids):
        write(journal, record(id_), f"{number}@example.net", "ann@example.com")
        write(journal, record(id_, "relayed"))

    assert await journal.find(Search(address="ann@example.com"), limit=5000) == ids[::-1]
    assert await journal.find(Search(address="1717@example.net")) == [ids[1717]]
    assert [made["event"] for made in await journal.events(ids[2999])] == ["received", "relayed"]
    assert (journal.written, journal.dropped) == (6000, 0)


async def test_a_record_with_very_many_recipients_is_found_by_each(journal: Journal) -> None:
    addresses = [f"r{number}@example.net" for number in range(1000)]
    made = write(journal, record(id_at(0), recipients=addresses), "a@example.com", *addresses)

    assert await journal.find(Search(address="r999@example.net")) == [id_at(0)]
    assert await journal.events(id_at(0)) == [made]


async def test_what_is_old_is_forgotten_and_what_is_not_stays(journal: Journal) -> None:
    for number in range(5000):
        write(journal, record(id_at(0, number), at=number / 1000), f"{number}@example.net")
    # Came in long ago, ended only now: its last records stay.
    write(journal, record(id_at(0, 0), "dead", at=10))

    assert await journal.prune(NOW + 4.5) == 4500

    assert [made["event"] for made in await journal.events(id_at(0, 0))] == ["dead"]
    assert await journal.events(id_at(0, 4499)) == []
    assert await journal.find(Search(address="4499@example.net")) == []
    assert await journal.find(Search(address="4500@example.net")) == [id_at(0, 4500)]
    assert len(await journal.find(Search(), limit=1000)) == 501
    assert await journal.prune(NOW + 4.5) == 0


@pytest.fixture
def prune_all(journal: Journal) -> Callable[[], Awaitable[int]]:
    return lambda: journal.prune(NOW + 86400)


async def test_when_all_is_forgotten_it_goes_on(journal: Journal, prune_all: Callable[[], Awaitable[int]]) -> None:
    write(journal, record(id_at(0)), "ann@example.com")
    assert await prune_all() == 1
    assert await prune_all() == 0

    made = write(journal, record(id_at(1)), "ann@example.com")

    assert await journal.find(Search(address="ann@example.com")) == [id_at(1)]
    assert await journal.events(id_at(1)) == [made]


async def test_writing_never_raises_even_when_closed(make: Opened) -> None:
    journal = make()
    await journal.open()
    await journal.close()

    write(journal, record(id_at(0)), "ann@example.com")
    await journal.close()

    assert journal.dropped == 1


async def test_what_was_flushed_is_there_without_a_look(journal: Journal) -> None:
    """In doubt is on record before a message is sent again: `flush` does not wait for the next round of writing."""
    write(journal, record(id_at(0), "in_doubt"))
    assert journal.written == 0
    await journal.flush()
    assert journal.written == 1
    await journal.flush()
    assert journal.written == 1
