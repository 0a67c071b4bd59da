"""What is measured of plugins: every kind answers, and the table has a row for each."""

import sys

import pytest

from bench import plugin_calls


def test_a_call_of_every_kind_is_measured(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["plugin_calls", "--calls", "3"])
    plugin_calls.main()
    rows = [line for line in capsys.readouterr().out.split("\n") if line.startswith("| ")]
    kinds = [row.split("|")[1].strip() for row in rows[1:]]
    assert kinds[:4] == ["exec (in Python)", "python", "starlark, `choose`", "starlark, `selector`"]
    assert set(kinds[4:]) <= {"go"}
    assert all(row.count(" µs ") == 2 for row in rows[1:])
