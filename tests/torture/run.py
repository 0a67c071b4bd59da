"""Plays one scenario, from an empty store to its judgement."""

import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from torture.disaster_play import play_of
from torture.disasters import Impossible, why_not
from torture.play import Play
from torture.promises import broken
from torture.scenario import Scenario
from torture.stage import Nursery, Sinks


@dataclass(frozen=True, slots=True)
class Result:
    """How a scenario ended: promises that were broken, steps at which the program was killed, and what is left."""

    scenario: Scenario
    broken: tuple[str, ...]
    struck: tuple[str, ...]
    seconds: float
    log: str = ""
    impossible: str = ""
    """Why this machine does not allow it."""


def run(scenario: Scenario, nursery: Nursery, *, keep: bool = False) -> Result:
    """One scenario, from an empty store to its judgement. With `keep` its folder stays, and is named in the log."""
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="wp-t-"))
    play: Play | None = None
    reason = None if scenario.disaster is None else why_not(scenario.disaster)
    if reason is not None:
        return Result(scenario, (), (), 0, impossible=reason)
    try:
        with Sinks(scenario) as sinks:
            play = play_of(scenario, nursery, folder, sinks)
            try:
                wrong = broken(scenario, play.perform())
            except AssertionError as error:
                wrong = [str(error)]
            finally:
                play.end()
        log = play.program.said() + (f"\n{folder}\n" if keep else "") if wrong else ""
        return Result(scenario, tuple(wrong), tuple(play.struck()), time.monotonic() - began, log)
    except Impossible as error:
        return Result(scenario, (), (), 0, impossible=str(error))
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
