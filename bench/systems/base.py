"""What the harness asks of a system under test."""

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Place:
    """Where a system runs: its own empty directory, its port, and the sinks it delivers to, all on 127.0.0.1."""

    directory: Path
    port: int
    sinks: Mapping[str, int]  # "primary", and "copy1", "copy2" for systems that copy


class System(Protocol):
    """A mail system that takes SMTP at a port and hands every message to the sinks."""

    name: str
    title: str
    sinks: tuple[str, ...]
    """The sinks that must get every message."""

    def unavailable(self) -> str | None:
        """Why it cannot run here, or None. May install what it needs."""

    def version(self) -> str:
        """Name and version for the report."""

    def configure(self, place: Place) -> list[str]:
        """Writes the configuration and returns the command that runs the system in the foreground."""


def first_line(command: list[str]) -> str:
    """The first line that a command prints, for versions."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    lines = (done.stdout or done.stderr).strip().splitlines()
    return lines[0] if lines else f"{command[0]}: says no version"
