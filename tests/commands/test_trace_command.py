"""`waypost trace` and `/api/trace`: the journal's records, found by whatever is known of a message."""

import asyncio
import json
import time

import pytest

from rig.control import Asker, Parts, id_of
from waypost.cli import main
from waypost.commands import FAILED, FINE, TEMPORARY, USAGE
from waypost.observe.journal import JournalError
from waypost.observe.record import json_line, timestamp
from waypost.store.journal import SqliteJournal

START = 1_800_000_000.0


def write(journal, number, event, *keys, at=0.0, **fields):
    """Writes a record of message `number`, which came in so many minutes after the start; the record."""
    came = START + 60 * number
    id_ = id_of(number, came)
    record = {"time": timestamp(came + at), "level": "info", "event": event, "id": id_, **fields}
    journal.write(id_, json_line(record).rstrip("\n"), keys)
    return record


@pytest.fixture
async def parts(tmp_path):
    """The parts with a journal of three messages: 2 and 3 to Bob, of which 3 is still queued."""
    parts = Parts(tmp_path)
    parts.clock.advance(START - parts.clock.time() + 180)
    parts.journal = SqliteJournal(tmp_path)
    await parts.journal.open()
    for number, to in ((1, "ann@example.org"), (2, "bob@example.net"), (3, "bob@example.net")):
        write(
            parts.journal, number, "received", f"<{number}@app.example.com>", "app@example.com", to,
            reverse_path="app@example.com", recipients=[to], recipient_count=1, size=100, route="all", rule="w.yaml:3",
            listener="127.0.0.1:25", client="192.0.2.7", message_id_field=f"<{number}@app.example.com>",
        )  # fmt: skip
    write(
        parts.journal, 2, "relayed", at=0.5, role="primary", upstream="old", reverse_path="app@example.com",
        recipients=["bob@example.net"], delay=0.5, code=250, text="queued as \x1b4711", duration=0.1, reused=False,
    )  # fmt: skip
    parts.count = 2
    await parts.put("copy:new")
    yield parts
    await parts.journal.close()


@pytest.fixture
def trace(parts, control, capsys):
    """Runs `waypost trace`: the exit code, and what was printed to either stream."""

    async def run(*words):
        code = await asyncio.to_thread(main, ["trace", *words, "--socket", str(parts.path)])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


@pytest.mark.parametrize(
    ("words", "numbers"),
    [
        ([id_of(1, START + 60)], [1]),
        ([id_of(1, START + 60).lower()], [1]),
        (["<2@app.example.com>"], [2, 2]),
        (["2@app.example.com"], [2, 2]),
        (["Ann@Example.ORG"], [1]),
        (["<ann@example.org>"], [1]),
        (["app@example.com"], [3, 2, 2, 1]),
        (["app@example.com", "--limit", "1"], [3]),
        (["app@example.com", "--limit", "2"], [3, 2, 2]),
    ],
)
async def test_found_by_what_is_known_of_it(trace, words, numbers):
    code, shown, error = await trace("--json", *words)

    assert (code, error) == (FINE, "")
    records = [json.loads(line) for line in shown.split("\n")[:-1]]
    assert [record["id"] for record in records] == [id_of(number, START + 60 * number) for number in numbers]


async def test_json_gives_the_records_of_the_log(parts, trace):
    written = write(parts.journal, 1, "dead", at=9.5, role="copy", target="new", reason="expired \x1b[2J")

    _, shown, _ = await trace("--json", id_of(1, START + 60))

    assert json.loads(shown.split("\n")[1]) == written
    assert shown.isascii()


async def test_the_life_of_one_message_with_what_is_still_owed(trace):
    code, shown, _ = await trace("<3@app.example.com>")

    assert code == FINE
    assert shown.startswith(f"{id_of(3, START + 180)}\n")
    assert "Delivery 1, in lane copy:new:\n" in shown
    assert "app@example.com -> bob@example.net\n" in shown

    code, shown, _ = await trace("<2@app.example.com>")
    assert "Delivery" not in shown
    assert "4711" in shown
    assert "\x1b" not in shown


async def test_several_messages_are_listed_youngest_first(trace):
    code, shown, _ = await trace("bob@example.net")

    assert code == FINE
    lines = shown.split("\n")
    assert lines[0] == f"2027-01-15 08:03:00  {id_of(3, START + 180)}  app@example.com -> bob@example.net"
    assert lines[2] == f"2027-01-15 08:02:00  {id_of(2, START + 120)}  app@example.com -> bob@example.net"
    assert "old" in lines[3]
    assert lines[4] == "2 messages; `waypost trace ID` tells the life of one"

    _, shown, _ = await trace("app@example.com", "--limit", "2")
    assert "the youngest 2 (--limit shows more)" in shown


async def test_what_was_refused_is_listed_with_its_sender_and_recipient(parts, trace):
    write(parts.journal, 4, "attempted", upstream="old", phase="rcpt", text="refused")
    write(
        parts.journal, 4, "refused", "eve@example.org", listener="127.0.0.1:25", client="192.0.2.7", command="RCPT",
        reverse_path="app@example.com", recipient="eve@example.org", code=550, text="No such user",
    )  # fmt: skip
    write(parts.journal, 4, "attempted", "eve@example.org", upstream="old", phase="rcpt", text="refused")

    code, shown, _ = await trace("eve@example.org")
    assert code == FINE
    assert "  sender     app@example.com\n  recipients eve@example.org\n" in shown

    write(
        parts.journal,
        5,
        "refused",
        "eve@example.org",
        reverse_path="",
        recipient="eve@example.org",
        code=550,
        text="No",
    )
    _, shown, _ = await trace("eve@example.org")
    assert f"{id_of(5, START + 300)}  <> -> eve@example.org\n" in shown
    assert f"{id_of(4, START + 240)}  app@example.com -> eve@example.org\n" in shown


async def test_since(parts, trace):
    came = time.time() - 7200
    record = {"time": timestamp(came), "level": "info", "event": "received", "id": id_of(9, came)}
    parts.journal.write(record["id"], json_line(record).rstrip("\n"), ["eve@example.com"])

    assert (await trace("eve@example.com", "--since", "3h"))[0] == FINE
    assert (await trace("eve@example.com", "--since", "1h"))[0] == FAILED


async def test_only_messages_since_a_moment(parts, control):
    ask = Asker(parts.path)

    status, lives = await ask(f"/api/trace?about=bob@example.net&since={START + 150}")

    assert status == 200
    assert [life["id"] for life in lives] == [id_of(3, START + 180)]


@pytest.mark.parametrize("about", ["nobody@example.org", "<4@app.example.com>", id_of(7), "subject"])
async def test_nothing_is_known(trace, about):
    assert await trace(about) == (FAILED, "", f"waypost trace: nothing is known of {about!r}\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "required: ID|MESSAGE-ID|ADDRESS"),
        (["a@b", "--limit", "0"], "'0' is not a whole number from 1 to 1000"),
        (["a@b", "--limit", "1001"], "is not a whole number"),
        (["a@b", "--since", "x"], "'x' is not a duration"),
        ([""], "about is a Waypost id, a Message-ID, or an address"),
        (["a\x1bb"], "about is a Waypost id"),
    ],
)
async def test_a_question_that_makes_no_sense(trace, words, said):
    code, shown, error = await trace(*words)

    assert (code, shown) == (USAGE, "")
    assert said in error


@pytest.mark.parametrize("query", ["about=a&limit=0", "about=a&limit=x", "about=a&since=x", "about=a&x=y", ""])
async def test_the_api_refuses_what_makes_no_sense(parts, control, query):
    status, [answer] = await Asker(parts.path)(f"/api/trace?{query}")

    assert (status, set(answer)) == (400, {"error"})


async def test_a_journal_that_cannot_be_read(parts, trace, monkeypatch):
    async def broken(*_, **__):
        raise JournalError("journal.db is damaged")

    monkeypatch.setattr(parts.journal, "find", broken)

    assert await trace("bob@example.net") == (TEMPORARY, "", "waypost trace: journal.db is damaged\n")


class TestWithoutAJournal:
    """What the spool knows is told all the same."""

    @pytest.fixture
    async def parts(self, tmp_path):
        parts = Parts(tmp_path)
        await parts.put()
        return parts

    async def test_what_is_owed_is_told(self, trace):
        code, shown, _ = await trace(id_of(1))

        assert code == FINE
        assert "Delivery 1, in lane copy:new" in shown
        assert await trace("--json", id_of(1)) == (FINE, "", "")

    async def test_nothing_else_can_be_looked_for(self, trace):
        code, _, error = await trace("bob@example.net")

        assert code == USAGE
        assert "keeps no journal (journal.keep is 0), so it can look for its own ids only" in error
