"""The set-up of the log, seen from outside: programs that log, and what their readers get."""

import json
import os
import pty
import subprocess
import sys

import pytest

PROGRAM = """
import asyncio, logging, sys, structlog, warnings
from waypost.observe.log import configure
log = structlog.get_logger()
configure({form!r}, {level!r})
log.debug("hidden")
log.info("listening", address="127.0.0.1:2525")
logging.getLogger("asyncio").warning("slow %s", "callback")
logging.getLogger("asyncio").info("everyday talk")
logging.getLogger("other").warning("broken %d", "format")
try:
    raise OSError("disk")
except OSError:
    log.exception("failed", n=1)
    logging.getLogger("uvicorn.error").exception("theirs")
async def main():
    log.info("from the loop")
asyncio.run(main())
"""


def run(form="auto", level="info", **environ):
    program = PROGRAM.format(form=form, level=level)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, env=os.environ | environ, timeout=60)
    assert done.stderr == b""
    return done.stdout.decode()


def on_terminal(**environ):
    ours, theirs = pty.openpty()
    program = PROGRAM.format(form="auto", level="info")
    with subprocess.Popen([sys.executable, "-c", program], stdout=theirs, env=os.environ | environ) as child:
        os.close(theirs)
        found = b""
        try:
            while piece := os.read(ours, 65536):
                found += piece
        except OSError:  # how Linux says that the other side of a terminal has gone
            pass
    os.close(ours)
    assert child.returncode == 0
    return found.decode()


def test_json_when_not_on_a_terminal():
    records = [json.loads(line) for line in run().split("\n")[:-1]]

    assert [(record["level"], record["event"]) for record in records] == [
        ("info", "listening"),
        ("warning", "slow callback"),
        ("warning", "broken %d"),
        ("error", "failed"),
        ("error", "theirs"),
        ("info", "from the loop"),
    ]
    assert records[0]["address"] == "127.0.0.1:2525"
    assert records[1]["logger"] == "asyncio"
    assert records[3]["exception"].endswith("OSError: disk")
    assert records[3]["n"] == 1
    assert records[4]["exception"].endswith("OSError: disk")


def test_the_level_is_for_operational_records():
    assert [json.loads(line)["event"] for line in run(level="error").split("\n")[:-1]] == ["failed", "theirs"]
    assert '"hidden"' in run(level="debug")


def test_the_readable_form_may_be_asked_for():
    first, *_ = run(form="console").split("\n")

    assert first.endswith("Z info    listening address=127.0.0.1:2525")


def test_colours_on_a_terminal():
    assert "\x1b[32minfo" in on_terminal(TERM="xterm", NO_COLOR="")


@pytest.mark.parametrize("environ", [{"NO_COLOR": "1", "TERM": "xterm"}, {"NO_COLOR": "", "TERM": "dumb"}])
def test_no_colours_where_they_are_not_wanted(environ):
    found = on_terminal(**environ)

    assert "listening address=127.0.0.1:2525" in found
    assert "\x1b" not in found


def test_a_standard_output_that_was_closed_is_no_reason_to_fail():
    program = PROGRAM.format(form="auto", level="info")
    done = subprocess.run(["sh", "-c", 'exec "$0" -c "$1" >&-', sys.executable, program], stderr=subprocess.PIPE)

    assert (done.returncode, done.stderr) == (0, b"")


def test_what_can_be_raised_nowhere_is_one_record():
    program = """
from waypost.observe.log import configure
configure("json", "info")
class Last:
    def __del__(self):
        raise ValueError("x" * 100_000 + chr(10) + "Traceback")
Last()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60)
    assert done.stderr == b""
    [record] = map(json.loads, done.stdout.splitlines())
    assert (record["level"], record["event"]) == ("warning", "not_raised")
    assert record["error"].startswith("ValueError: xxx")
    assert len(record["error"]) == 200
