"""The table of states: complete, connected, and drawn as it is."""

import subprocess
import sys
from pathlib import Path

import pytest

from waypost.smtp.commands import Kind
from waypost.smtp.diagram import page
from waypost.smtp.state import TABLE, State, after, is_allowed

PAGE = Path(__file__).parents[2] / "docs" / "states.md"


def test_the_page_is_current() -> None:
    written = subprocess.run(
        [sys.executable, "-m", "waypost.smtp.diagram"], capture_output=True, encoding="utf-8", check=True, timeout=30
    )
    assert written.stdout == page()
    assert PAGE.read_text("utf-8") == page(), "run: make docs"


def test_the_page_shows_every_transition() -> None:
    rows = [line for line in page().split("\n") if line.startswith("| ")]
    transitions = sum(len(commands) for commands in TABLE.values())
    assert len(rows) == 2 + len(State) + transitions
    drawn = page().partition("```mermaid")[2].partition("```")[0]
    for state, commands in TABLE.items():
        targets = {target for answers in commands.values() for target in answers.values()} - {state}
        for target in targets:
            assert f"    {state.name} --> {target.name}: " in drawn
    # Quotes, semicolons and colons would end a label early.
    assert not any(set('";') & set(line) for line in drawn.split("\n"))


def test_every_state_and_command_is_used_and_every_state_is_reached() -> None:
    assert set(TABLE) == set(State)
    assert {kind for commands in TABLE.values() for kind in commands} == set(Kind)
    reached, new = set(), {State.OPENING}
    while new:
        reached |= new
        new = {target for state in new for answers in TABLE[state].values() for target in answers.values()} - reached
    assert reached == set(State)


@pytest.mark.parametrize("state", State)
def test_421_closes_from_anywhere(state: State) -> None:
    assert all(after(state, kind, 421) is State.CLOSED for kind in Kind)


@pytest.mark.parametrize("state", State)
def test_a_refusal_leads_forward_nowhere(state: State) -> None:
    """4yz and 5yz leave the state as it is, end a transaction or exchange, or the session; no more.

    But what one recipient is told, of several, leads to what the next is told.
    """
    for kind, answers in TABLE[state].items():
        if kind is Kind.VERDICT:
            assert set(answers.values()) == {State.VERDICTS}
            continue
        for severity in (4, 5):
            assert answers.get(severity, state) in (state, State.READY, State.CLOSED)


def test_what_is_not_in_the_table_is_illegal() -> None:
    for state in State:
        for kind in Kind:
            assert is_allowed(state, kind) == (kind in TABLE[state])
            if kind not in TABLE[state]:
                assert {after(state, kind, code) for code in (250, 354, 334, 450, 550)} == {None}


@pytest.mark.parametrize(
    ("state", "kind", "code"),
    [
        (State.READY, Kind.MAIL, 354),
        (State.RCPT, Kind.DATA, 250),
        (State.RCPT, Kind.DATA, 334),
        (State.READY, Kind.AUTH, 354),
        (State.CONTENT, Kind.END, 354),
        (State.CONTENT, Kind.VERDICT, 353),
        (State.VERDICTS, Kind.LAST_VERDICT, 353),
        (State.VERDICTS, Kind.END, 250),
        (State.READY, Kind.MAIL, 150),
        (State.READY, Kind.MAIL, 650),
        (State.TLS, Kind.HANDSHAKE, 550),
    ],
)
def test_replies_that_make_no_sense(state: State, kind: Kind, code: int) -> None:
    assert after(state, kind, code) is None
