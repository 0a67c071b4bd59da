"""Both written forms of a record."""

import json
from ipaddress import ip_network
from pathlib import Path

import pytest

from waypost.observe import record
from waypost.observe.record import colour_line, console_line, json_line, timestamp
from waypost.routing.login import Login
from waypost.routing.route import Account, Upstream
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
    made = START | {"id": "4Z", "recipients": ["a@b", "c@d"], "text": 'OK "17" queued', "reused": False, "delay": 0.5}

    assert console_line(made) == (
        '00:00:00.250Z info    relayed   id=4Z recipients=a@b,c@d text="OK \\"17\\" queued" reused=false delay=0.5\n'
    )


def test_colours_are_added_to_the_same_words():
    import re

    made = START | {"id": "4Z", "reverse_path": ""}
    coloured = colour_line(made)

    assert "\x1b[32m" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == console_line(made)


def test_a_terminal_gets_no_control_characters_from_a_record():
    made = START | {"event": "x\x1b[2J", "client_name": "\x1b]0;owned\x07", "text": "a\u202eb", "list": ["\x9b1m"]}

    assert console_line(made)[:-1].isprintable()


def test_an_exception_follows_its_line_indented():
    made = START | {"exception": "Traceback:\n  File\nOSError: \x1b[2J"}

    assert console_line(made).split("\n")[1:] == ["    Traceback:", "      File", "    OSError: \\u001b[2J", ""]


@pytest.mark.parametrize("form", [json_line, console_line])
def test_values_that_are_not_meant_for_a_log_show_their_type_only(form):
    made = START | {"secret": Secret("swordfish"), "more": {"deep": Secret("swordfish")}, "raw": b"swordfish"}

    written = form(made)

    assert "swordfish" not in written
    assert "<Secret>" in written


@pytest.mark.parametrize("form", [json_line, console_line, colour_line])
def test_configuration_handed_to_the_log_by_mistake_shows_its_type_only(form):
    credentials = Login("me@example.com", Secret("swordfish"))
    upstream = Upstream("gmail", "smtp.example.com", 587, credentials=credentials)
    account = Account("nextcloud", "swordfish")

    for value in (upstream, account, credentials):
        written = form(START | {"event": value, "value": value, "list": [value], "map": {"key": value}})

        assert "swordfish" not in written
        assert "me@example.com" not in written
        assert written.count(f"<{type(value).__name__}>") == 4


def test_paths_networks_and_errors_are_written_as_text():
    made = START | {"path": Path("/var/lib"), "network": ip_network("10.0.0.0/8"), "error": OSError(28, "full")}

    found = json.loads(json_line(made))

    assert (found["path"], found["network"], found["error"]) == ("/var/lib", "10.0.0.0/8", "[Errno 28] full")


def test_without_the_undocumented_encoder_the_same_is_written(monkeypatch):
    of_all_kinds = START | {"list": ["a"], "none": None, "number": 0.25, "text": "\u00e9\u2028", "path": Path("/x")}
    before = json_line(of_all_kinds)
    monkeypatch.setattr("json.encoder.c_make_encoder", None)  # as it is on PyPy

    assert record._encoder()(of_all_kinds) + "\n" == before
