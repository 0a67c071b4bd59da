"""`waypost upstream`, as people and scripts use it."""

import asyncio
import json
import os
import pty
import subprocess

import pytest
from structlog.testing import capture_logs

from rig.certificates import Certificates
from rig.faults import say
from rig.sink import StoringSink
from rig.waypost import COMMAND, waypost
from waypost.cli import main
from waypost.commands import CONFIGURATION, FAILED, FINE, UNREACHABLE, USAGE
from waypost.commands.upstream_view import list_lines
from waypost.mail.outcome import Phase
from waypost.routing.probing import DAY, Certificate, Finding, Stage, StageState


@pytest.fixture
def command(parts, control, capsys):
    """Runs `waypost upstream`: the exit code, and what was printed to either stream."""

    async def run(*words):
        code = await asyncio.to_thread(main, ["upstream", *words, "--socket", str(parts.path)])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    with capture_logs():
        yield run


async def test_list(parts, command):
    parts.clock.advance(800_000_000)  # to about now: ages are the machine's
    now = parts.clock.time()
    parts.certificates["old"] = Certificate(now + 3.5 * DAY, ("old.example",), "00")
    parts.found["old"] = Finding("old", now, (Stage(Phase.AUTH, StageState.FAILED, "535 5.7.8 no"),))
    assert parts.candidates.availability.pause("new", "root")

    code, shown, error = await command("list")

    assert (code, error) == (FINE, "")
    lines = shown.split("\n")
    assert lines[0] == "UPSTREAM  STATE      SINCE  TRIAL  BUSY    TAKES  FAILS  PROBE"
    assert lines[1].startswith("old       healthy        -      -     1        -     0%  auth failed, ")
    assert lines[2:4] == ["    probe, auth: 535 5.7.8 no", "    certificate: 3 days left"]
    assert lines[4].split()[:2] == ["new", "paused"]
    assert lines[5] == "    paused by root"


def test_a_long_name_has_a_line_of_its_own_in_80_columns():
    row = {
        "upstream": "a" * 60,
        "state": "asleep",
        "since": None,
        "next_trial_at": None,
        "busy": 3,
        "reason": "spent",
        "latency_seconds": 0.25,
        "error_share": 0.5,
        "quotas": [],
        "probe": None,
        "certificate": None,
    }
    lines = list(list_lines([row, {**row, "upstream": "b", "reason": ""}], 80, 0.0))
    assert [len(line) <= 80 for line in lines] == [True] * 5
    assert lines[0].startswith("UPSTREAM       STATE      SINCE")
    assert lines[1:] == [
        "a" * 60,
        "               asleep         -      -     3   250 ms    50%  -",
        "    spent",
        "b              asleep         -      -     3   250 ms    50%  -",
    ]
    assert list(list_lines([row], None, 0.0))[1].startswith("a" * 60 + "  asleep")


async def test_list_as_json(parts, command):
    _, shown, _ = await command("list", "--json")
    assert [json.loads(line)["upstream"] for line in shown.splitlines()] == ["old", "new"]


async def test_pause_and_resume(parts, command):
    assert await command("pause", "new", "old") == (FINE, "new paused\nold paused\n", "")
    assert await command("pause", "new") == (FINE, "new was paused already\n", "")
    assert set(parts.candidates.availability.paused) == {"new", "old"}
    assert await command("resume", "new") == (FINE, "new is used again\n", "")
    assert await command("resume", "new") == (FINE, "new was in use already\n", "")
    _, shown, _ = await command("resume", "--json", "old")
    assert json.loads(shown) == {"upstream": "old", "changed": True, "remembered": True}
    code, shown, error = await command("pause", "nwe")
    assert (code, shown) == (USAGE, "")
    assert error == "waypost upstream pause: there is no upstream 'nwe'; there are: old, new\n"


def test_without_a_daemon(tmp_path, capsys):
    assert main(["upstream", "list", "--socket", str(tmp_path / "none.sock")]) == UNREACHABLE
    assert "cannot be reached" in capsys.readouterr().err


# -- test


def configuration(folder, **upstreams):
    settings = {
        "hostname": "waypost.example",
        "listeners": [{"address": "127.0.0.1:2525", "mode": "relay"}],
        "upstreams": upstreams,
        "pools": {"all": {"upstreams": list(upstreams)}},
        "routes": {"all": {"primary": "all", "acceptance": "pass"}},
    }
    (folder / "w.yaml").write_text(json.dumps(settings))
    return str(folder / "w.yaml")


def test_test_of_one_that_works_and_one_that_does_not(tmp_path, sink, make_sink):
    full = make_sink(StoringSink(name="full.example"))
    full.on("rcpt", say("452 4.2.2 mailbox full"), times=None)
    probe = {"canary": "canary@example.com"}
    file = configuration(
        tmp_path, a={"address": sink.address}, b={"address": full.address, "probe": probe}, c={"address": sink.address}
    )

    done = waypost("upstream", "test", "a", "b", "--config", file)

    assert done.returncode == FAILED
    lines = done.stdout.split("\n")
    assert lines[0] == f"a: {sink.address}, tls opportunistic"
    assert lines[1].split() == ["resolve", "ok", *lines[1].split()[2:4], "127.0.0.1"]
    assert "a: fine" in lines
    assert any(line.startswith("  rcpt      FAILED") and line.endswith("452 4.2.2 mailbox full") for line in lines)
    assert any(line.startswith("  what to do:") for line in lines)
    assert lines[-2] == "b: FAILED at rcpt"
    assert sink.verbs() == ["EHLO", "QUIT"]


def test_test_with_another_canary_and_as_json(tmp_path, sink):
    file = configuration(tmp_path, a={"address": sink.address})

    done = waypost("upstream", "test", "--config", file, "--to", "x@example.com", "--from", "y@example.com", "--json")

    assert done.returncode == FINE
    found = json.loads(done.stdout)
    assert (found["upstream"], found["ok"], found["advice"]) == ("a", True, "")
    assert [stage["state"] for stage in found["stages"]] == ["ok"] * 4 + ["skipped"] * 2 + ["ok"] * 2
    assert [line.decode() for _, line in sink.commands][1:3] == ["MAIL FROM:<y@example.com>", "RCPT TO:<x@example.com>"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["b"], USAGE, "there is no upstream 'b'; there are: a"),
        (["--to", "nobody"], USAGE, "--to: 'nobody'"),
        (["--from", "a b@example.com"], USAGE, "--from: "),
        (["--config", "none.yaml"], CONFIGURATION, "none.yaml"),
    ],
)
def test_test_with_mistakes(tmp_path, words, code, said):
    file = configuration(tmp_path, a={"address": "127.0.0.1:1"})
    done = waypost("upstream", "test", "--config", file, *words)
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_80_columns_and_nothing_that_steers_a_terminal(tmp_path, make_sink, certificates: Certificates):
    sink = make_sink(StoringSink(tls=certificates.server_context(), accounts={"me": "s3cret"}))
    sink.on("auth", say("535 5.7.8 \x1b[31mUsername and Password not accepted. For more information, go to a page"))
    tls = {"mode": "starttls", "ca_file": str(certificates.ca_file)}
    auth = {"username": "me", "password": "s3cret"}
    file = configuration(tmp_path, a={"address": f"localhost:{sink.port}", "tls": tls, "auth": auth})
    ours, theirs = pty.openpty()
    environ = {**os.environ, "COLUMNS": "80", "LINES": "24"}
    with subprocess.Popen(
        [COMMAND, "upstream", "test", "--config", file], stdout=theirs, stderr=subprocess.DEVNULL, env=environ
    ) as process:
        os.close(theirs)
        shown = b""
        try:
            while piece := os.read(ours, 65536):
                shown += piece
        except OSError:  # how Linux says that the other side has closed it
            pass
        assert process.wait(20) == FAILED
    os.close(ours)
    lines = shown.decode().split("\r\n")
    assert max(map(len, lines)) <= 80
    assert b"\x1b" not in shown
    assert lines[5].startswith("  tls       ok")
    assert "s3cret" not in shown.decode()
    assert any(line.startswith("  certificate: for localhost") for line in lines)
    assert lines[-2] == "a: FAILED at auth"
