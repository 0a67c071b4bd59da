"""`waypost queue`, as people and scripts use it, against a control API in this process."""

import asyncio
import json
import os
import pty
import subprocess
import sys

import pytest

from rig.control import DAY, id_of
from rig.waypost import COMMAND
from waypost.cli import main
from waypost.commands import CONFIGURATION, FAILED, FINE, TEMPORARY, UNREACHABLE, USAGE


@pytest.fixture
def queue(parts, control, capsys):
    """Runs `waypost queue`: the exit code, and what was printed to either stream."""

    async def run(*words):
        code = await asyncio.to_thread(main, ["queue", *words, "--socket", str(parts.path)])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


@pytest.fixture
async def various(parts):
    """1 and 2 failed for now, an hour ago; 3 is dead, 4 is queued with the null reverse-path."""
    parts.clock.advance(800_000_000)
    for _ in range(2):
        await parts.put("copy:new", to=("bob@example.net", "ann@example.org"))
    await parts.fail("copy:new", "451 4.3.2 not now")
    parts.clock.advance(3600)
    await parts.put("primary:all", "copy:archive", sender="<>")
    await parts.fail("primary:all", "550 5.1.1 no such mailbox", dead=True)


async def test_list(various, queue):
    code, shown, error = await queue("list")

    assert (code, error) == (FINE, "")
    lines = shown.split("\n")
    assert lines[0] == "NUMBER  STATE      AGE  TRIES   NEXT   SIZE  SENDER -> RECIPIENTS"
    number, state, _, tries, _, size, *way = lines[1].split()
    assert (number, state, tries, size) == ("1", "queued", "1", "18")
    assert way == ["app@example.com", "->", "bob@example.net", "ann@example.org"]
    assert lines[2] == "        451 4.3.2 not now"
    assert [line.split()[1] for line in lines if "->" in line][1:] == ["queued", "queued", "dead", "queued"]
    assert "<> -> bob@example.net" in shown
    assert lines[-2] == "4 deliveries, 72 octets"


async def test_list_of_nothing(queue):
    assert await queue("list") == (FINE, "nothing is queued that matches\n", "")
    assert await queue("list", "--json") == (FINE, "", "")
    assert await queue("summary") == (FINE, "nothing is queued\n", "")


@pytest.mark.parametrize(
    ("words", "numbers"),
    [
        ((), [1, 2, 3, 4]),
        (("3", "1", "1"), [1, 3]),
        (("--state", "dead", "--state", "running"), [3]),
        (("--lane", "copy:archive"), [4]),
        (("--upstream", "new"), [1, 2]),
        (("--route", "all", "--limit", "2"), [1, 2]),
        (("--sender", "<>"), [3, 4]),
        (("--recipient", "ANN@*"), [1, 2]),
        (("--error", "NO SUCH"), [3]),
        (("--id", id_of(3, 1_800_003_600)), [3, 4]),
        (("--older-than", "30m"), [1, 2]),
        (("--newer-than", "30m"), [3, 4]),
    ],
)
async def test_filters_and_json(various, queue, words, numbers):
    code, shown, _ = await queue("list", "--json", *words)

    assert code == FINE
    assert [json.loads(line)["number"] for line in shown.split("\n")[:-1]] == numbers


async def test_more_numbers_than_one_question_holds(parts, queue):
    for _ in range(5):
        await parts.put()
    numbers = [str(number) for number in range(1, 20_000, 2)]

    code, shown, _ = await queue("list", "--json", *numbers)
    assert (code, [json.loads(line)["number"] for line in shown.split("\n")[:-1]]) == (FINE, [1, 3, 5])

    _, shown, _ = await queue("list", "--json", "--limit", "2", *numbers)
    assert shown.count("\n") == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["list", "x"], "'x' is not the number of a delivery; a message's id goes with --id"),
        (["list", "1_0"], "is not the number"),
        (["list", "--state", "asleep"], "invalid choice: 'asleep'"),
        (["list", "--older-than", "soon"], "'soon' is not a duration: write a number and ms, s, m, h or d"),
        (["list", "--id", "abc"], "a message id has 16 characters, not 3"),
        (["list", "--limit", "0"], "'0' is not a whole number, at least 1"),
        (["list", "--sender", ""], "must not be empty"),
        (["list", "--lane", "new"], "'new' is not a lane: write primary:ROUTE or copy:POOL"),
        (["list", "--upstream", "nobody"], "there is no upstream 'nobody'"),
        (["show", "1", "--content", "--json"], "not allowed with argument"),
        (["retry"], "which deliveries? Give numbers or filters, or --all for every one"),
        (["delete", "--limit", "3", "--yes"], "which deliveries?"),
        (["hold", "--all", "7"], "--all is every delivery: it goes without numbers and filters"),
        (["export"], "the following arguments are required: --to"),
        ([], "required: SUBCOMMAND"),
    ],
)
async def test_a_command_line_that_makes_no_sense(various, parts, queue, words, said, capsys):
    if words:
        code, shown, error = await queue(*words)
    else:
        code, shown, error = main(["queue"]), "", capsys.readouterr().err

    assert (code, shown) == (USAGE, "")
    assert said in error
    assert parts.altered == []


async def test_instances(queue):
    code, shown, _ = await queue("instances")
    assert code == FINE
    head, line = shown.splitlines()
    assert head.split() == ["INSTANCE", "UP", "SEEN"]
    _, said, _ = await queue("instances", "--json")
    assert line.split()[0] == json.loads(said)["instance"]


async def test_summary(various, queue):
    code, shown, _ = await queue("summary")

    assert code == FINE
    words = [line.split() for line in shown.split("\n")[:-1]]
    assert words == [
        ["LANE", "QUEUED", "HELD", "DEAD", "OLDEST"],
        ["copy:archive", "1", "0", "0", words[1][4]],
        ["copy:new", "2", "0", "0", words[2][4]],
        ["100%", "451", "4.3.2", "not", "now"],
        ["primary:all", "0", "0", "1", "-"],
        ["100%", "550", "5.1.1", "no", "such", "mailbox"],
        ["all", "3", "0", "1"],
    ]
    _, shown, _ = await queue("summary", "--json", "--upstream", "old")
    assert json.loads(shown)["lane"] == "primary:all"


async def test_show(various, parts, queue):
    code, shown, _ = await queue("show", "3")

    assert code == FINE
    for line in (
        "delivery      3, dead",
        f"message       {id_of(3, 1_800_003_600)}",
        "lane          primary:all, by route all",
        "from client   app.example.com [192.0.2.7], ESMTPA, at 127.0.0.1:25, account nextcloud",
        "sender        <>",
        "recipient     bob@example.net",
        "last answer   550 5.1.1 no such mailbox",
    ):
        assert f"{line}\n" in shown
    assert shown.endswith("\n\nSubject: x\n")
    assert json.loads((await queue("show", "3", "--json"))[1])["header"] == "Subject: x\r\n"
    assert await queue("show", "99") == (
        FAILED,
        "",
        "waypost queue show: there is no delivery 99: it was delivered or deleted, or never existed\n",
    )


def in_terminal(*words, answer=b"", columns=80):
    """Runs `waypost` in a terminal: the exit code, and what is on the screen."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["COLUMNS"] = str(columns)
        os.execv(COMMAND, ["waypost", *words])
    os.write(terminal, answer)
    screen = b""
    try:
        while piece := os.read(terminal, 65536):
            screen += piece
    except OSError:  # how Linux says that nobody is at the other end any more
        pass
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), screen.decode().replace("\r\n", "\n")


async def terminal(parts, *words, **options):
    return await asyncio.to_thread(in_terminal, "queue", *words, "--socket", str(parts.path), **options)


async def test_on_a_terminal_lines_are_cut_and_nothing_can_steer_it(parts, control):
    long = "x" * 60
    await parts.put(
        to=(f"{long}@example.net", "b@example.net"), content=b"Subject: \x1b[2J\xe4\r\n\r\n\x1b]0;owned\x07\r\n"
    )
    await parts.fail(reason="451 4.3.2 " + "later " * 40)

    for words in (["list"], ["summary"], ["show", "1"]):
        code, screen = await terminal(parts, *words)
        assert code == FINE
        assert "\x1b" not in screen
        if words != ["show", "1"]:
            assert [line for line in screen.split("\n") if len(line) > 80] == []
    code, screen = await terminal(parts, "list")
    assert "... +1\n" in screen
    code, screen = await terminal(parts, "show", "1", "--content")
    assert screen == "Subject: \\x1b[2J\\xe4\n\n\\x1b]0;owned\\x07\n"


async def test_content_is_octet_for_octet_when_it_goes_to_a_file(parts, control):
    content = b"Subject: \xe4\x1b\r\n\r\n\xff" + b"x" * 300_000 + b"\r\n"
    await parts.put(content=content)
    command = [COMMAND, "queue", "show", "1", "--content", "--socket", parts.path]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, timeout=30, check=True)

    assert done.stdout == content


async def test_retry_hold_release_and_delete(various, parts, queue):
    assert await queue("hold", "--upstream", "new") == (FINE, "2 deliveries held\n", "")
    assert await queue("release", "1") == (FINE, "1 delivery released\n", "")
    assert await queue("retry", "--all") == (FINE, "4 deliveries due now\n", "")
    assert await queue("delete", "3") == (FINE, "1 delivery deleted\n", "")
    assert [altered[:2] for altered in parts.altered] == [
        ("hold", 1), ("hold", 2), ("release", 1), ("retry", 1), ("retry", 2), ("retry", 3), ("retry", 4), ("delete", 3),
    ]  # fmt: skip
    assert await queue("retry", "--state", "dead") == (FINE, "nothing is queued that matches\n", "")


async def test_what_was_not_done_is_said(various, parts, queue):
    await parts.spool.claim("copy:archive", parts.clock.time(), 1)

    code, shown, _ = await queue("release", "1", "4", "98", "99")

    assert code == FAILED
    assert shown.split("\n")[:4] == [
        "0 deliveries released",
        "1 is queued: left alone",
        "4 is running: left alone",
        "2 not found: delivered or deleted already, or never there, or another filter excludes them",
    ]
    code, shown, _ = await queue("delete", "--state", "running", "--yes")
    assert (code, shown) == (FINE, "0 deliveries deleted\n4 is running: left alone\n")


async def test_a_dry_run_lists_and_does_nothing(various, parts, queue):
    code, shown, _ = await queue("delete", "--dry-run", "--all")

    assert code == FINE
    assert "550 5.1.1 no such mailbox" in shown
    assert shown.endswith("would delete 4 deliveries\n")
    assert parts.altered == []
    _, shown, _ = await queue("release", "--dry-run", "--all", "--json")
    assert shown == ""


async def test_json_of_an_action(various, queue):
    code, shown, _ = await queue("retry", "--state", "dead", "--json")

    assert code == FINE
    assert json.loads(shown) == {
        "number": 3,
        "id": id_of(3, 1_800_003_600),
        "lane": "primary:all",
        "state": "dead",
        "done": True,
    }


async def test_deleting_many_is_asked_about(various, parts, control):
    code, screen = await terminal(parts, "delete", "--upstream", "new", answer=b"n\n")
    assert code == FAILED
    assert "This will delete 2 deliveries for good. Go on? [y/N]" in screen
    assert "nothing was done" in screen
    assert parts.altered == []

    code, screen = await terminal(parts, "delete", "--upstream", "new", answer=b"y\n")
    assert code == FINE
    assert screen.endswith("2 deliveries deleted\n")
    assert len(parts.altered) == 2


async def test_deleting_many_without_a_terminal_needs_yes(various, parts, queue, monkeypatch):
    with open(os.devnull) as nobody:
        monkeypatch.setattr(sys, "stdin", nobody)
        code, shown, error = await queue("delete", "--all")
        assert (code, shown) == (USAGE, "")
        assert "this would delete 4 deliveries, and there is no terminal to ask on: say --yes" in error
        assert await queue("delete", "--state", "dead") == (FINE, "1 delivery deleted\n", "")
    assert await queue("delete", "--all", "--yes") == (FINE, "3 deliveries deleted\n", "")


async def test_the_question_does_not_wait_for_the_last_of_very_many(parts, queue, monkeypatch):
    monkeypatch.setattr("waypost.commands.queue_action._COUNTED", 3)
    for _ in range(1000):
        await parts.put()
    with open(os.devnull) as nobody:
        monkeypatch.setattr(sys, "stdin", nobody)
        code, _, error = await queue("delete", "--all")

    assert code == USAGE
    assert "this would delete more than 3 deliveries" in error


async def test_export(parts, queue, tmp_path):
    first = await parts.put(content=b"A: b\r\n\r\n..\r\n")
    await parts.fail(dead=True)
    await parts.put("copy:new", "primary:all", content=b"C: d\r\n\r\n" + b"x" * 300_000)
    folder = tmp_path / "out" / "of"

    code, shown, error = await queue("export", "--to", str(folder))

    assert (code, shown, error) == (FINE, f"3 deliveries written to {folder}\n", "")
    assert sorted(path.name for path in folder.iterdir())[:2] == [f"{first}-1.eml", f"{first}-1.json"]
    assert (folder / f"{first}-1.eml").read_bytes() == b"A: b\r\n\r\n.\r\n"
    kept = json.loads((folder / f"{first}-1.json").read_bytes())
    assert kept["envelope"]["recipients"] == [{"address": "bob@example.net", "parameters": []}]
    assert "header" not in kept
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}

    (folder / f"{first}-1.eml").write_bytes(b"mine")
    (folder / f"{first}-1.json").unlink()
    code, shown, error = await queue("export", "--state", "dead", "--to", str(folder))
    assert (code, shown) == (FAILED, f"0 deliveries written to {folder}\n")
    assert error == f"waypost queue export: {folder}/{first}-1.eml is there already, and was left alone\n"
    assert (folder / f"{first}-1.eml").read_bytes() == b"mine"


async def test_what_was_delivered_during_an_export_is_said(parts, queue, tmp_path, monkeypatch):
    await parts.put()
    await parts.put()
    read = parts.spool.read

    async def gone(number):
        return None if number == 1 else await read(number)

    monkeypatch.setattr(parts.spool, "read", gone)

    code, shown, error = await queue("export", "--to", str(tmp_path / "out"))

    assert (code, shown) == (FAILED, f"1 delivery written to {tmp_path / 'out'}\n")
    assert "there is no delivery 1: it was delivered" in error


async def test_an_export_to_a_place_that_is_no_folder(parts, queue, tmp_path):
    (tmp_path / "file").write_text("")

    code, _, error = await queue("export", "--to", str(tmp_path / "file"))

    assert code == FAILED
    assert error == f"waypost queue export: {tmp_path / 'file'}: File exists\n"


async def test_content_that_breaks_off_leaves_no_half_file(parts, queue, tmp_path, monkeypatch):
    class Broken:
        size = 1_000_000

        def head(self, limit):
            return b""

        def chunks(self, start=0):
            yield b"x" * 200_000
            raise OSError("the file is shorter than it was")

        def close(self):
            pass

    await parts.put()
    entry, delivery = await parts.spool.read(1)
    broken = type(delivery.message)(
        delivery.message.id, 0, delivery.message.client, delivery.message.envelope, Broken()
    )

    async def read(number):
        return entry, type(delivery)(1, broken, delivery.lane, delivery.route, 0, DAY)

    monkeypatch.setattr(parts.spool, "read", read)

    code, _, error = await queue("export", "--to", str(tmp_path / "out"))

    assert code == TEMPORARY
    assert "the answer broke off" in error
    assert list((tmp_path / "out").iterdir()) == []


async def test_a_spool_that_cannot_be_changed_now(various, parts, queue):
    parts.spool.broken = "the disk is full"

    assert await queue("hold", "--all") == (TEMPORARY, "", "waypost queue hold: the disk is full\n")


@pytest.mark.parametrize("words", [["queue", "list"], ["queue", "retry", "--all"], ["trace", "bob@example.net"]])
def test_nobody_is_there(tmp_path, capsys, words):
    path = tmp_path / "control.sock"

    assert main([*words, "--socket", str(path)]) == UNREACHABLE
    error = capsys.readouterr().err
    assert f"the running Waypost cannot be reached at {path}: No such file or directory. Is Waypost running" in error


def test_the_socket_is_that_of_the_configured_spool(tmp_path, capsys):
    config = tmp_path / "waypost.yaml"
    config.write_text(
        "listeners: [{address: '127.0.0.1:2525', mode: relay}]\nupstreams: {a: {address: 'localhost:25'}}\n"
        f"routes: {{all: {{primary: a}}}}\nspool: {{path: {tmp_path}/spool, allow_temporary: true}}\n"
    )

    assert main(["queue", "list", "--config", str(config)]) == UNREACHABLE
    assert f"at {tmp_path}/spool/control.sock: No such file" in capsys.readouterr().err
    config.write_text("listenrs: []\n")
    assert main(["queue", "list", "--config", str(config)]) == CONFIGURATION


@pytest.mark.parametrize(
    "name", ["list", "summary", "instances", "show", "retry", "hold", "release", "delete", "export"]
)
def test_help_of_every_subcommand_fits_80_columns_and_has_examples(capsys, monkeypatch, name):
    monkeypatch.setenv("COLUMNS", "200")

    assert main(["queue", name, "--help"]) == FINE

    shown = capsys.readouterr().out
    assert f"waypost queue {name}" in shown.partition("examples:")[2]
    assert [line for line in shown.split("\n") if len(line) > 80] == []
