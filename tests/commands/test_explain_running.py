"""`waypost explain` that asks the running Waypost: how upstreams are now, and messages that it has had."""

import asyncio
import json

import pytest

from rig.control import Parts, id_of
from waypost.cli import main
from waypost.commands import FAILED, FINE, UNREACHABLE, USAGE
from waypost.observe.record import json_line, timestamp
from waypost.store.journal import SqliteJournal

START = 1_800_000_000.0
CONFIGURED = """\
listeners: [{address: "127.0.0.1:25", mode: relay, trusted_networks: [192.0.2.0/24]}]
upstreams: {old: {address: "old.example:25"}, new: {address: "new.example:25"}}
pools: {both: {upstreams: [old, new]}, further: {upstreams: [new, old]}}
routes: {all: {primary: both}, bills: {primary: new}, more: {primary: further}}
rules:
  - {header: {Subject: "*invoice*"}, route: bills}
  - {recipient: "*@example.edu", route: more}
  - {route: all}
"""
WAY = ("--from", "a@example.com", "--to", "b@example.net", "--client", "192.0.2.7", "--header", "Subject: hi")


@pytest.fixture
async def parts(tmp_path):
    """The parts with a journal."""
    parts = Parts(tmp_path)
    parts.clock.advance(START - parts.clock.time())
    parts.journal = SqliteJournal(tmp_path)
    await parts.journal.open()
    yield parts
    await parts.journal.close()


@pytest.fixture
def explain(parts, control, capsys, tmp_path):
    """Runs `waypost explain`: the exit code, and what was printed to either stream."""
    (tmp_path / "waypost.yaml").write_text(CONFIGURED)

    async def run(*words, socket=parts.path):
        command = ["explain", "--config", str(tmp_path / "waypost.yaml"), "--socket", str(socket), *words]
        code = await asyncio.to_thread(main, command)
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


def received(parts, number, to, **more):
    """Writes down that a message came in; its id."""
    came = parts.clock.time()
    id_ = id_of(number, came)
    record = {
        "time": timestamp(came), "level": "info", "event": "received", "id": id_, "reverse_path": "app@example.com",
        "recipients": to, "size": 100, "listener": "127.0.0.1:25", "client": "192.0.2.7", "client_name": "app", **more,
    }  # fmt: skip
    parts.journal.write(id_, json_line(record).rstrip("\n"), to)
    return id_


async def upstreams(explain, *words):
    _, shown, error = await explain(*words, "--json")
    assert error == ""
    [recipient] = json.loads(shown)["recipients"]
    return recipient["route"]["primary"]


async def test_an_upstream_that_is_down_comes_last_and_it_is_said_why(explain, parts):
    parts.candidates.availability.of("old").login_refused(parts.clock.monotonic(), "535 5.7.8 wrong password")

    pool = await upstreams(explain, *WAY, "--running")
    assert [each["name"] for each in pool["upstreams"]] == ["new", "old"]
    assert "535 5.7.8 wrong password" in pool["upstreams"][1]["reason"]
    pool = await upstreams(explain, *WAY)
    assert [each["name"] for each in pool["upstreams"]] == ["old", "new"], "nobody was asked"


async def test_a_paused_one_is_not_tried(explain, parts):
    parts.candidates.availability.pause("old", "root")

    code, shown, _ = await explain(*WAY, "--running")
    assert code == FINE
    assert "1. new at new.example:25" in shown
    assert "-  old: paused by root since" in shown


async def test_a_pool_that_is_not_running_yet_is_explained_as_ever(explain):
    pool = await upstreams(explain, *WAY[:3], "b@example.edu", *WAY[4:], "--running")
    assert [each["name"] for each in pool["upstreams"]] == ["new", "old"]
    assert not pool["running"]


async def test_a_message_that_came_in(explain, parts):
    id_ = received(parts, 1, ["b@example.net", "c@example.edu"])

    code, shown, error = await explain("--id", id_)
    assert (code, error) == (FINE, "")
    assert "<app@example.com>, from 192.0.2.7" in shown
    assert "to <c@example.edu>" in shown
    assert shown.count("undecided") == 2, "its header fields are not in the journal"


async def test_a_message_in_the_spool_has_its_header_fields(explain, parts):
    id_ = await parts.put("primary:all", content=b"Subject: your invoice\r\n\r\nHi\r\n")
    received(parts, parts.count, ["bob@example.net"])

    code, shown, _ = await explain("--id", id_)
    assert code == FINE
    assert "route bills" in shown
    assert "undecided" not in shown


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--id", "06H02FAVX47CCNYM"), USAGE, "knows of no message 06H02FAVX47CCNYM"),
        (("--id", "06H02FAVX47CCNYM", "--size", "5"), USAGE, "with --id the message is the one that came in"),
        (("--to", "b@example.net"), USAGE, "--from and --to say which message is meant"),
        ((), USAGE, "--from and --to say which message is meant"),
    ],
)
async def test_questions_that_make_no_sense(explain, words, code, said):
    assert (await explain(*words))[0] == code
    assert said in (await explain(*words))[2]


async def test_a_message_whose_listener_is_gone(explain, parts):
    id_ = received(parts, 1, ["b@example.net"], listener="127.0.0.1:587")

    code, _, error = await explain("--id", id_)
    assert code == USAGE
    assert "listener 127.0.0.1:587, which this configuration does not have" in error


async def test_when_it_is_not_running(explain, tmp_path):
    code, _, error = await explain(*WAY, "--running", socket=tmp_path / "none.sock")

    assert code == UNREACHABLE
    assert "none.sock" in error


@pytest.mark.parametrize(
    "query",
    ["", "?pool=both", "?pool=none&from=a@b.example&to=c@d.example", "?pool=both&from=x&to=c@d.example",
     "?pool=both&from=a@b.example&to=", "?pool=both&from=a@b.example&to=c@d.example&weight=3"],
)  # fmt: skip
async def test_the_api_refuses_what_makes_no_sense(ask, query):
    status, [answer] = await ask(f"/api/order{query}")

    assert status == 400
    assert answer["error"]


async def test_who_is_refused_is_a_failure(explain):
    code, shown, _ = await explain(*WAY[:4], "--client", "198.51.100.1", "--running")

    assert code == FAILED
    assert "REFUSED" in shown
