"""What the harness asks of a system under test."""

import stat
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Place:
    """Where a system runs: its own empty directory, its ports, and the sinks it delivers to, all on 127.0.0.1."""

    directory: Path
    port: int
    sinks: Mapping[str, int]  # "primary", and "copy1", "copy2" for systems that copy
    admin: int = 0
    """Where a system with `has_metrics` answers `/metrics`."""


class System(Protocol):
    """A mail system that takes SMTP at a port and hands every message to the sinks."""

    name: str
    title: str
    sinks: tuple[str, ...]
    """The sinks that must get every message."""
    has_metrics: bool
    """Whether it tells at `Place.admin` how many messages it stored and how often it committed."""
    put_off: tuple[str, ...]
    """The sinks that answer 451 to each recipient first, and take it when it comes again."""
    database: str
    """The program whose CPU time is shown apart as that of the database; empty when there is none."""

    def unavailable(self) -> str | None:
        """Why it cannot run here, or None. May install what it needs."""

    def version(self) -> str:
        """Name and version for the report."""

    def configure(self, place: Place) -> list[str]:
        """Writes the configuration and returns the command that runs the system in the foreground."""

    def clear_away(self, place: Place) -> None:
        """Removes what is not in its directory, once all of its processes have ended."""


class Plain:
    """What holds for a system that says nothing else."""

    sinks: tuple[str, ...] = ("primary",)
    has_metrics = False
    put_off: tuple[str, ...] = ()
    database = ""

    def clear_away(self, place: Place) -> None:
        """Everything is in its directory, which goes as a whole."""


def first_line(command: list[str]) -> str:
    """The first line that a command prints, for versions."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    lines = (done.stdout or done.stderr).strip().splitlines()
    return lines[0] if lines else f"{command[0]}: says no version"


def check_way(directory: Path) -> None:
    """Lets daemons that give up root walk to `directory`. Raises PermissionError where they cannot."""
    directory.chmod(0o755)
    closed = next((folder for folder in directory.parents if not folder.stat().st_mode & stat.S_IXOTH), None)
    if closed:
        raise PermissionError(f"other users than root cannot enter {closed}; name another place with --work")
