"""What the journal in SQLite does besides: damage, a full disk, being killed, being behind, its index."""

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from store.test_journal_conformance import NOW, id_at, record, write
from waypost.observe.journal import JournalError, Search
from waypost.store import journal as module
from waypost.store.journal import SqliteJournal
from waypost.store.journal_file import SEGMENT, VERSION


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


async def opened(tmp_path: Path) -> SqliteJournal:
    journal = SqliteJournal(tmp_path)
    await journal.open()
    return journal


async def fill(tmp_path: Path) -> None:
    journal = await opened(tmp_path)
    for number in range(200):
        write(journal, record(id_at(0, number)), "ann@example.com")
    await journal.close()


async def wait_until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.005)


async def test_records_are_written_without_being_asked_for(tmp_path: Path) -> None:
    journal = await opened(tmp_path)
    write(journal, record(id_at(0)))

    await wait_until(lambda: journal.written == 1)

    await journal.close()


async def test_nobody_else_may_read_what_is_in_it(tmp_path: Path, path: Path) -> None:
    await fill(tmp_path)

    assert path.stat().st_mode & 0o777 == 0o600


async def test_records_from_before_it_was_open_are_kept(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path)
    made = write(journal, record(id_at(0)))
    await journal.open()

    await wait_until(lambda: journal.written == 1)

    assert await journal.events(id_at(0)) == [made]
    await journal.close()


# -- the file


async def test_a_file_of_a_newer_program_is_refused_with_both_versions_and_left_alone(
    tmp_path: Path, path: Path
) -> None:
    await fill(tmp_path)
    with sqlite3.connect(path) as database:
        database.execute(f"PRAGMA user_version = {VERSION + 41}")
    database.close()
    before = path.read_bytes()

    with pytest.raises(JournalError, match=rf"version {VERSION + 41}, this program knows version {VERSION}\."):
        await opened(tmp_path)

    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["journal.db"]


async def test_a_file_of_another_program_is_refused_and_left_alone(tmp_path: Path, path: Path) -> None:
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE theirs (x)")
    database.close()

    with pytest.raises(JournalError, match="another program"):
        await opened(tmp_path)

    assert [file.name for file in tmp_path.iterdir()] == ["journal.db"]


async def test_a_file_in_use_is_refused(tmp_path: Path) -> None:
    journal = await opened(tmp_path)

    with pytest.raises(JournalError, match="in use by another process"):
        await opened(tmp_path)

    await journal.close()


async def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(
        JournalError, match=r"cannot open the journal .*/file/journal\.db: .*(Not a directory|File exists)"
    ):
        await SqliteJournal(tmp_path / "file").open()


@pytest.mark.parametrize("damage", [b"not a database" * 1000, None], ids=["all", "inside"])
async def test_a_damaged_file_is_put_aside_and_a_new_journal_begun(
    tmp_path: Path, path: Path, damage: bytes | None
) -> None:
    await fill(tmp_path)
    sound = path.read_bytes()
    damaged = damage or sound[:4096] + bytes(len(sound) - 4096)
    path.write_bytes(damaged)

    with capture_logs() as logs:
        journal = await opened(tmp_path)
        made = write(journal, record(id_at(1)), "ann@example.com")
        assert await journal.events(id_at(1)) == [made]
        await journal.close()

    (said,) = [entry for entry in logs if entry["log_level"] == "error"]
    assert said["event"] == "journal_damaged"
    assert Path(said["moved_to"]).read_bytes()[4096:] == damaged[4096:]
    assert Path(said["moved_to"]).name.startswith("journal.db.damaged-")


async def test_damage_that_shows_while_it_is_open_costs_the_past_and_nothing_else(tmp_path: Path, path: Path) -> None:
    await fill(tmp_path)
    journal = await opened(tmp_path)
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (size - 4096))

    with capture_logs() as logs:
        made = [write(journal, record(id_at(1, number)), "eve@example.com") for number in range(50)]
        for one in made:
            assert await journal.events(one["id"]) == [one]

    assert "journal_damaged" in {entry["event"] for entry in logs}
    assert (journal.written, journal.dropped) == (50, 0)
    await journal.close()


# -- trouble


class Stuck:
    """The thread, kept busy until it is let go."""

    def __init__(self, journal: SqliteJournal) -> None:
        self._event = threading.Event()
        self._done = asyncio.get_running_loop().run_in_executor(journal._thread, self._event.wait, 30)

    async def release(self) -> None:
        self._event.set()
        await self._done


async def test_when_the_thread_is_behind_memory_is_bounded_and_losses_are_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = record(id_at(0))
    monkeypatch.setattr(module, "CAPACITY", 100 * len(json.dumps(made)))
    journal = await opened(tmp_path)
    stuck = Stuck(journal)

    with capture_logs() as logs:
        for _ in range(250):
            write(journal, made)
            await asyncio.sleep(0)
        assert journal.dropped == 150
        await stuck.release()
        await wait_until(lambda: journal.written == 100)
        await journal.events(id_at(0))

    assert [entry["event"] for entry in logs] == ["journal_full", "journal_records_lost"]
    assert logs[1]["count"] == 150
    assert len(await journal.events(id_at(0))) == 100
    write(journal, made)
    assert len(await journal.events(id_at(0))) == 101
    await journal.close()


async def test_what_cannot_be_written_is_written_later(
    tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PAUSES", (0.01,))
    journal = await opened(tmp_path)
    assert journal._file is not None
    pages = journal._file._execute  # a full disk as SQLite itself reports it: no page may be added
    await journal._in_thread(lambda: pages("PRAGMA max_page_count = 1").fetchone())

    with capture_logs() as logs:
        made = [write(journal, record(id_at(0, n), text="x" * 1000), "ann@example.com") for n in range(200)]
        await wait_until(lambda: journal._failures >= 3)
        assert (journal.written, journal.dropped) == (0, 0)
        await journal._in_thread(lambda: pages("PRAGMA max_page_count = 1000000").fetchone())
        await wait_until(lambda: journal.written == 200)

    assert [entry["event"] for entry in logs] == ["journal_not_written", "journal_written_again"]
    assert "full" in logs[0]["reason"]
    assert await journal.events(made[-1]["id"]) == [made[-1]]
    await journal.close()


async def test_closing_does_not_wait_for_a_disk_that_is_full(tmp_path: Path) -> None:
    journal = await opened(tmp_path)
    assert journal._file is not None
    pages = journal._file._execute
    await journal._in_thread(lambda: pages("PRAGMA max_page_count = 1").fetchone())
    for number in range(200):
        write(journal, record(id_at(0, number), text="x" * 1000))

    with capture_logs() as logs:
        async with asyncio.timeout(5):
            await journal.close()

    assert journal.dropped == 200
    assert logs[-1] == {"event": "journal_records_lost", "log_level": "error", "path": journal._path, "count": 200}


KILLED = """
import asyncio, json, sys
from pathlib import Path
from waypost.store.journal import SqliteJournal

async def main():
    journal = SqliteJournal(Path(sys.argv[1]))
    await journal.open()
    for number in range(1_000_000):
        journal.write(f"{number:016}", json.dumps({"id": number}), (f"{number}@example.com",))
        if number % 1000 == 0:
            await journal.events("")  # everything before is in the file
            print(number, flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize("lines", [1, 3, 20])
async def test_a_kill_loses_nothing_that_was_written(tmp_path: Path, lines: int) -> None:
    with subprocess.Popen([sys.executable, "-c", KILLED, tmp_path], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for _ in range(lines):
            last = int(process.stdout.readline())
        os.kill(process.pid, signal.SIGKILL)

    journal = await opened(tmp_path)
    for number in (0, last // 2, last):
        assert await journal.events(f"{number:016}") == [{"id": number}]
        assert await journal.find(Search(address=f"{number}@example.com")) == [f"{number:016}"]
    await journal.close()


# -- the index


def rows(path: Path, sql: str) -> Any:
    database = sqlite3.connect(path)
    try:
        return database.execute(sql).fetchall()
    finally:
        database.close()


async def test_keys_move_to_sorted_segments_and_are_found_there(tmp_path: Path, path: Path) -> None:
    journal = await opened(tmp_path)
    per_round = SEGMENT // 4
    for round_ in range(10):
        for number in range(per_round):
            id_ = id_at(round_, number)
            write(journal, record(id_), f"<{number}.{round_}@example.com>", f"{number}@example.net")
        await journal.events("")  # so that a round is a batch

    assert await journal.find(Search(address="7@example.net")) == [id_at(round_, 7) for round_ in range(9, -1, -1)]
    assert await journal.find(Search(address="7@example.net"), limit=2) == [id_at(9, 7), id_at(8, 7)]
    assert await journal.find(Search(message_id_field="<7.3@example.com>", address="7@example.net")) == [id_at(3, 7)]
    assert await journal.find(Search(address="7@example.net", until=NOW + 1)) == [id_at(0, 7)]
    await journal.close()
    assert rows(path, "SELECT count(*) FROM segment") == [(5,)]
    assert rows(path, "SELECT count(*) FROM fresh") == [(0,)]
    again = await opened(tmp_path)
    assert len(await again.find(Search(address="7@example.net"))) == 10
    await again.close()


async def test_no_key_outlasts_its_records(tmp_path: Path, path: Path) -> None:
    journal = await opened(tmp_path)
    for number in range(SEGMENT // 2 + 100):
        write(journal, record(id_at(number), at=number), f"<{number}@example.com>", f"{number}@example.net")
        if number % 1000 == 0:
            await journal.events("")

    assert await journal.prune(NOW + 1000) == 1000
    assert await journal.find(Search(address="1000@example.net")) == [id_at(1000)]
    await journal.close()
    assert rows(path, "SELECT count(*) FROM key")[0][0] + rows(path, "SELECT count(*) FROM fresh")[0][0] == 2 * (
        SEGMENT // 2 + 100 - 1000
    )

    again = await opened(tmp_path)
    await again.prune(NOW + 10**6)
    await again.close()
    assert [rows(path, f"SELECT count(*) FROM {table}") for table in ("record", "key", "fresh", "segment")] == [
        [(0,)]
    ] * 4


async def test_records_are_written_while_old_ones_are_forgotten(tmp_path: Path) -> None:
    journal = await opened(tmp_path)
    for number in range(20_000):
        write(journal, record(id_at(0, number)))
    await journal.events("")
    pruning = asyncio.create_task(journal.prune(NOW + 1))
    await asyncio.sleep(0)

    made = write(journal, record(id_at(5), at=5))
    assert await journal.events(id_at(5)) == [made]
    assert not pruning.done()

    assert await pruning == 20_000
    assert await journal.events(id_at(5)) == [made]
    await journal.close()


async def test_a_question_after_closing_is_an_error(tmp_path: Path) -> None:
    journal = await opened(tmp_path)
    await journal.close()

    with pytest.raises(JournalError, match="is not open"):
        await journal.events("")
