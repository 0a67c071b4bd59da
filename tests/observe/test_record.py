"""Both written forms of a record."""

import json
from ipaddress import ip_network
from pathlib import Path

import pytest

from waypost.observe.record import colour_line, console_line, json_line, timestamp
from waypost.smtp.sasl import Secret

START = {"time": "2026-01-01T00:00:00.250Z", "level": "info", "event": "relayed"}


@pytest.mark.parametrize(
    ("at", "written"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_767_225_600.9996, "2026-01-01T00:00:00.999Z"),
        (1_767_225_659.001, "2026-01-01T00:00:59.001Z"),
    ],
)
def test_times(at, written):
    assert timestamp(at) == written


def test_a_line_for_people():
    record = START | {"id": "4Z", "recipients": ["a@b", "c@d"], "text": 'OK "17" queued', "reused": False, "delay": 0.5}

    assert console_line(record) == (
        '00:00:00.250Z info    relayed   id=4Z recipients=a@b,c@d text="OK \\"17\\" queued" reused=false delay=0.5\n'
    )


def test_colours_are_added_to_the_same_words():
    import re

    record = START | {"id": "4Z", "reverse_path": ""}
    coloured = colour_line(record)

    assert "\x1b[32m" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == console_line(record)


def test_a_terminal_gets_no_control_characters_from_a_record():
    record = START | {"event": "x\x1b[2J", "client_name": "\x1b]0;owned\x07", "text": "a\u202eb", "list": ["\x9b1m"]}

    assert console_line(record)[:-1].isprintable()


def test_an_exception_follows_its_line_indented():
    record = START | {"exception": "Traceback:\n  File\nOSError: \x1b[2J"}

    assert console_line(record).split("\n")[1:] == ["    Traceback:", "      File", "    OSError: \\u001b[2J", ""]


@pytest.mark.parametrize("form", [json_line, console_line])
def test_values_that_are_not_meant_for_a_log_show_their_type_only(form):
    record = START | {"secret": Secret("swordfish"), "more": {"deep": Secret("swordfish")}, "raw": b"swordfish"}

    written = form(record)

    assert "swordfish" not in written
    assert "<Secret>" in written


def test_paths_networks_and_errors_are_written_as_text():
    record = START | {"path": Path("/var/lib"), "network": ip_network("10.0.0.0/8"), "error": OSError(28, "full")}

    found = json.loads(json_line(record))

    assert (found["path"], found["network"], found["error"]) == ("/var/lib", "10.0.0.0/8", "[Errno 28] full")
