"""`waypost hash-password`: from a pipe, from a terminal, never from the command line."""

import io
import os
import pty
import subprocess
import sys

import pytest

from waypost.cli import main
from waypost.commands import FAILED, FINE, USAGE
from waypost.net.password_hash import SCHEMES
from waypost.net.passwords import from_configuration


def given(monkeypatch: pytest.MonkeyPatch, octets: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(octets)))


@pytest.mark.parametrize("scheme", [None, *SCHEMES])
def test_from_a_pipe(scheme: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    given(monkeypatch, "p\u00e4ss word\r\n".encode())
    assert main(["hash-password", *(["--scheme", scheme] if scheme else [])]) == FINE
    out = capsys.readouterr().out
    assert out.endswith("\n")
    stored = from_configuration(out.rstrip("\n"))
    assert stored.fits("p\u00e4ss word".encode())
    if scheme is None:
        assert out.startswith("$argon2id$")


@pytest.mark.parametrize(
    ("octets", "code", "why"),
    [
        (b"", USAGE, "empty"),
        (b"\n", USAGE, "empty"),
        (b"one\ntwo\n", USAGE, "one line"),
        (b"\xff\n", USAGE, "UTF-8"),
        (b"x" * 2000, FAILED, "1024 octets"),
    ],
)
def test_what_is_no_password(
    octets: bytes, code: int, why: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given(monkeypatch, octets)
    assert main(["hash-password"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert why in err


@pytest.mark.usefixtures("capsys")
def test_never_from_the_command_line() -> None:
    assert main(["hash-password", "secret"]) == USAGE


def typed(*lines: str) -> tuple[int, str, str]:
    """Runs it on a terminal of its own: exit code, what it printed, and what the terminal showed."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "waypost", "hash-password"],
        stdin=slave,
        stdout=subprocess.PIPE,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    shown = b""
    for line in lines:
        while not shown.endswith(b": "):
            shown += os.read(master, 1024)
        shown += b"|"
        os.write(master, line.encode() + b"\n")
    assert process.stdout is not None
    with process.stdout as stdout:
        out = stdout.read().decode()
    code = process.wait(20)
    try:
        shown += os.read(master, 4096)
    except OSError:  # nothing was left, and nobody is there any more
        pass
    os.close(master)
    return code, out, shown.decode()


def test_from_a_terminal_without_echo() -> None:
    code, out, shown = typed("secret", "secret")
    assert code == FINE
    assert from_configuration(out.strip()).fits(b"secret")
    assert "secret" not in shown
    assert shown.startswith("Password: ")
    assert "Once more: " in shown


def test_two_that_differ() -> None:
    code, out, shown = typed("secret", "secert")
    assert (code, out) == (USAGE, "")
    assert "not the same" in shown
