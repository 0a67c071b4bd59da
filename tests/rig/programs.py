"""Programs that are not part of the project: found, or the test is skipped, or (in CI) failed."""

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

REQUIRED = os.environ.get("WAYPOST_TEST_REQUIRE_FOREIGN") == "1"
"""CI sets this: there, what would skip fails."""

_PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin", "/usr/lib/postfix/sbin"))


def require(program: str) -> str:
    """The path of `program`. Skips the test when it is not installed, or fails it where it has to be."""
    found = shutil.which(program, path=_PATH)
    if found is None:
        lacking(f"{program} is not installed")
    return found


def require_root() -> None:
    """Skips or fails, likewise, a test that only root can run."""
    if os.geteuid() != 0:
        lacking("needs root: Postfix's master process drops privileges by itself")


def lacking(reason: str) -> None:
    """Ends the test: skipped, or failed where everything has to be there."""
    if REQUIRED:
        pytest.fail(f"{reason}, and WAYPOST_TEST_REQUIRE_FOREIGN=1 is set", pytrace=False)
    pytest.skip(reason)


def run(
    line: str,
    *more: str | Path,
    stdin: bytes = b"",
    seconds: float = 60,
) -> subprocess.CompletedProcess[bytes]:
    """Runs a command line, as a shell would split it, followed by the words in `more`, to its end.

    Skips or fails the test when its program is not installed. The exit code is not looked at.
    """
    program, *words = shlex.split(line)
    return subprocess.run(
        [require(program), *words, *more],
        input=stdin,
        env={"PATH": _PATH, "LC_ALL": "C.UTF-8", "HOME": os.environ.get("HOME", "/")},
        capture_output=True,
        timeout=seconds,
        check=False,
    )


def transcript(result: subprocess.CompletedProcess[bytes]) -> str:
    """What a finished program said, for the message of an assertion."""
    said = (result.stdout + result.stderr).decode("utf-8", "backslashreplace")
    return f"exit code {result.returncode}\n{said}"
