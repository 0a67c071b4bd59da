"""Where Waypost's CPU time goes: one more run of a cell under cProfile, apart from those that are measured.

cProfile slows Python code down by half and more, and sees the main thread only (the store's writer is another), so its
times are shares and no figures.
"""

import io
import pstats
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.arrivals import Arrivals, MissingError
from bench.instance import Instance, NotStartedError
from bench.load import Load, LoadFailedError
from bench.matrix import Cell
from bench.systems.base import Place, System

LINES = 25
FILE = "profile"


class Profiled:
    """A system that is a Python program, run under cProfile; the profile is in its directory once it has ended."""

    def __init__(self, system: System) -> None:
        self._system = system
        self.name = system.name
        self.title = system.title
        self.sinks = system.sinks
        self.has_metrics = system.has_metrics
        self.put_off = system.put_off
        self.database = system.database

    def unavailable(self) -> str | None:
        return self._system.unavailable()

    def version(self) -> str:
        return self._system.version()

    def configure(self, place: Place) -> list[str]:
        output = str(place.directory / FILE)
        return [sys.executable, "-m", "cProfile", "-o", output, *self._system.configure(place)]

    def clear_away(self, place: Place) -> None:
        self._system.clear_away(place)


def profile(system: System, cell: Cell, messages: int, work: Path) -> str:
    """The functions of `system` that take most time of their own in `cell`, or why there is no profile."""
    directory = Path(tempfile.mkdtemp(prefix="profile-", dir=work))
    try:
        profiled = Profiled(system)
        with (
            Arrivals(directory, system.sinks, put_off=system.put_off) as arrivals,
            Instance(profiled, directory, arrivals.ports) as instance,
        ):
            Load(profiled, cell, arrivals, instance).send(messages)
        if not (directory / FILE).exists():
            return "no profile: the program was ended before it could write one"
        return table(directory / FILE)
    except (MissingError, NotStartedError, LoadFailedError, OSError, subprocess.SubprocessError) as error:
        return f"no profile: {error}"
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def table(path: Path) -> str:
    """The functions that take most time of their own, out of a file that cProfile wrote."""
    text = io.StringIO()
    pstats.Stats(str(path), stream=text).strip_dirs().sort_stats("tottime").print_stats(LINES)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines() if line.strip())
