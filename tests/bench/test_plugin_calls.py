"""What is measured of plugins: every kind answers, and the table has a row for each."""

import sys

import pytest
from bench.plugins import PLUGINS

from bench import plugin_calls
from waypost.plugins.kinds import KINDS


def test_a_call_of_every_kind_is_measured(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["plugin_calls", "--calls", "3"])
    plugin_calls.main()
    rows = [line for line in capsys.readouterr().out.split("\n") if line.startswith("| ")]
    kinds = [row.split("|")[1].strip() for row in rows[1:]]
    assert kinds == [each.title for each in PLUGINS.values()]
    assert {each.kind for each in PLUGINS.values()} | {"go"} == set(KINDS)
    assert all(row.count(" µs ") == 2 for row in rows[1:])
