"""`waypost plan` and `/api/replay`: what came in, and where another configuration would send it."""

import asyncio
import json
import smtplib
from pathlib import Path

import pytest

from rig.control import Parts, id_of
from rig.ports import free_port
from rig.waiting import wait_until
from rig.waypost import WaypostProcess, waypost
from waypost.cli import main
from waypost.commands import CONFIGURATION, FAILED, FINE, USAGE
from waypost.config.compass import compass_of
from waypost.config.load import load
from waypost.net.stream import UNIX
from waypost.observe.record import json_line, timestamp
from waypost.routing.destination import Door
from waypost.routing.facts import Facts
from waypost.smtp.address import NULL, parse_mailbox
from waypost.store.journal import SqliteJournal

START = 1_800_000_000.0
HEAD = """\
listeners: [{address: "127.0.0.1:25", mode: submission}]
tls: {certificate: CERT, key: KEY}
accounts: {nextcloud: {password: "secret words"}, wiki: {password: "secret words"}}
upstreams: {old: {address: "old.example:25"}, new: {address: "new.example:25"}}
spool: {path: SPOOL}
"""
SAME = HEAD + "routes: {all: {primary: old}}\n"
RULED = (
    HEAD
    + """\
routes:
  all: {primary: old}
  moved: {primary: new, copies: [old]}
rules:
  - {recipient: "*@example.org", route: moved}
  - {recipient: "*@example.edu", route: moved}
  - {account: nextcloud, route: all}
"""
)


@pytest.fixture
async def parts(tmp_path):
    """The parts with a journal of three messages: two from an account, one to two recipients from another."""
    parts = Parts(tmp_path)
    parts.journal = SqliteJournal(tmp_path)
    await parts.journal.open()
    for number, account, to in (
        (1, "nextcloud", ["ann@example.org"]),
        (2, "nextcloud", ["bob@example.net"]),
        (3, "wiki", ["ann@example.org", "bob@example.net"]),
    ):
        came = START + 60 * number
        id_ = id_of(number, came)
        record = {
            "time": timestamp(came), "level": "info", "event": "received", "id": id_, "reverse_path": "app@example.com",
            "recipients": to, "recipient_count": len(to), "size": 100, "route": "all", "rule": "w.yaml:3",
            "listener": "127.0.0.1:25", "client": "192.0.2.7", "client_name": "app.example.com", "account": account,
        }  # fmt: skip
        parts.journal.write(id_, json_line(record).rstrip("\n"), to)
    yield parts
    await parts.journal.close()


@pytest.fixture
def plan(parts, control, capsys, tmp_path, certificates):
    """Runs `waypost plan` with a configuration: the exit code, and what was printed to either stream."""

    async def run(text, *words):
        path = tmp_path / "new.yaml"
        for name, value in (("CERT", certificates.certificate), ("KEY", certificates.key), ("SPOOL", tmp_path / "s")):
            text = text.replace(name, str(value))
        path.write_text(text)
        code = await asyncio.to_thread(main, ["plan", str(path), *words, "--socket", str(parts.path)])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


async def test_nothing_changes(plan):
    code, shown, error = await plan(SAME, "--exit-code")

    assert (code, error) == (FINE, "")
    assert "3 messages replayed" in shown
    assert "4 recipients as now" in shown
    assert shown.endswith("Nothing would change.\n")


async def test_what_would_change_and_by_which_rule(plan):
    code, shown, error = await plan(RULED)

    assert (code, error) == (FINE, "")
    assert "1 recipient as now" in shown
    paragraphs = shown.split("\n\n")
    moved = next(each for each in paragraphs if "+ route moved" in each)
    assert moved.startswith("2 recipients otherwise\n  - route all (hybrid) to old\n")
    assert "+ route moved (hybrid) to new, copies to old" in moved
    assert "new.yaml:10:5" in moved
    assert f"{id_of(1, START + 60)}  app@example.com -> ann@example.org" in moved
    refused = next(each for each in paragraphs if "+ refused" in each)
    assert refused.startswith("1 recipient otherwise\n")
    assert "550 5.7.1 No rule takes mail of this account" in refused
    assert all(len(line) <= 80 or "new.yaml" in line for line in shown.splitlines())  # a path is not broken


async def test_rules_that_decide_nothing_are_named(plan):
    _, shown, _ = await plan(RULED)

    listed = shown.split("that decided nothing here:\n")[1].splitlines()
    assert [line.split("/")[-1] for line in listed] == ["new.yaml:11:5"]


async def test_the_youngest_only(plan):
    _, shown, _ = await plan(RULED, "--last", "1")

    assert shown.startswith("1 message replayed")
    assert f"{id_of(3, START + 180)}" in shown
    assert f"{id_of(1, START + 60)}" not in shown


async def test_as_json_one_recipient_a_line(plan):
    code, shown, _ = await plan(RULED, "--json", "--exit-code")

    assert code == FAILED
    changes = [json.loads(line) for line in shown.splitlines()]
    assert {(each["recipient"], each["now"]["route"], each["then"]["route"]) for each in changes} == {
        ("ann@example.org", "all", "moved"),
        ("bob@example.net", "all", ""),
    }


async def test_what_hangs_on_header_fields_cannot_be_told(plan):
    text = RULED.replace('{recipient: "*@example.org", route', '{header: {Subject: "*invoice*"}, route')
    _, shown, _ = await plan(text)

    assert "that cannot be told of: it depends on the content" in " ".join(shown.split())


async def test_listeners_and_accounts_that_are_gone(plan):
    _, shown, _ = await plan(SAME.replace("127.0.0.1:25", "127.0.0.1:587").replace("wiki", "blog"))
    assert "+ there is no listener 127.0.0.1:25" in shown

    _, shown, _ = await plan(SAME.replace("wiki", "blog"))
    assert "+ refused: there is no account wiki" in shown


def test_whoever_may_open_a_unix_socket_may_send(tmp_path, certificates):
    text = RULED.replace("127.0.0.1:25", f"unix:{tmp_path}/mail")
    for name, value in (("CERT", certificates.certificate), ("KEY", certificates.key), ("SPOOL", tmp_path / "s")):
        text = text.replace(name, str(value))
    (tmp_path / "new.yaml").write_text(text)
    settings = load(str(tmp_path / "new.yaml"), {})
    [listener] = settings.listeners
    ann = parse_mailbox("ann@example.org")
    found = compass_of(settings).point(Facts(listener.name, None, UNIX, NULL, ann))
    assert (found.kind, found.route) == ("route", "moved")
    assert not Door(submission=True).admits(UNIX, None)


async def test_a_configuration_with_mistakes_is_told_of_as_by_check(plan):
    code, shown, error = await plan(SAME.replace("primary: old", "primary: odl"))

    assert (code, shown) == (CONFIGURATION, "")
    assert "odl" in error


async def test_without_a_journal_there_is_nothing_to_replay(plan, parts, control):
    control._journal = None
    code, _, error = await plan(SAME)

    assert code == USAGE
    assert "journal.keep" in error


@pytest.mark.parametrize("query", ["?last=0", "?last=x", "", "?last=5&until=3", "?last=1000000"])
async def test_questions_that_make_no_sense(ask, query):
    status, [answer] = await ask(f"/api/replay{query}")

    assert status == 400
    assert answer["error"]


def test_the_running_program_is_asked(tmp_path: Path, make_sink, sink) -> None:
    port = free_port()
    old = {
        "listeners": [{"address": f"127.0.0.1:{port}", "mode": "relay", "trusted_networks": ["127.0.0.0/8"]}],
        "upstreams": {"here": {"address": f"127.0.0.1:{sink.port}", "tls": "off"}},
        "routes": {"all": {"primary": "here"}},
        "rules": [{"route": "all"}],
        "spool": {"path": str(tmp_path / "spool")},
    }
    new = json.loads(json.dumps(old)) | {"rules": [{"recipient": "*@example.org", "route": "all"}]}
    (tmp_path / "new.json").write_text(json.dumps(new))
    with WaypostProcess(tmp_path, old, ports=[port]) as server:
        with smtplib.SMTP("127.0.0.1", port) as client:
            client.sendmail("a@example.com", ["b@example.org"], "Subject: one\r\n\r\n")
            client.sendmail("a@example.com", ["b@example.net"], "Subject: two\r\n\r\n")

        def planned() -> str:
            command = ["plan", str(tmp_path / "new.json"), "--config", str(server.folder / "waypost.yaml")]
            return waypost(*command).stdout

        wait_until(lambda: planned().startswith("2 messages replayed"), "both messages in the journal")
        assert "+ refused: 550 5.7.1 Relaying denied" in planned()
        assert "b@example.net" in planned()
        assert "b@example.org" not in planned()
