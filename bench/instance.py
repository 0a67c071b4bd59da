"""One running system: started in a directory of its own, ended afterwards, with everything that it forked."""

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from bench import ROOT
from bench.accounting import Group, new_group
from bench.ports import free_port, wait_greeting
from bench.systems.base import Place, System

START_WITHIN = 30  # seconds
END_WITHIN = 10


class NotStartedError(Exception):
    """The system did not greet."""


def environment(directory: Path) -> dict[str, str]:
    """Ours, in which what belongs to a running system, and is in no folder of its own, is in `directory`."""
    return {**os.environ, "RUNTIME_DIRECTORY": str(directory)}


class Instance:
    """A system from its start to its end. What it prints goes to the file `log` in its directory."""

    def __init__(self, system: System, directory: Path, sinks: dict[str, int]) -> None:
        self.group: Group = new_group(system.name)
        self._place = Place(directory, free_port(), sinks, free_port())
        self._system = system
        self.start_seconds = 0.0
        """From the start of the program to its first 220."""

    @property
    def port(self) -> int:
        """Where it listens on 127.0.0.1."""
        return self._place.port

    @property
    def admin(self) -> int:
        """Where it answers `/metrics` on 127.0.0.1, when it does."""
        return self._place.admin

    def __enter__(self) -> Self:
        try:
            command = self.group.wrap(self._system.configure(self._place))
        except BaseException:
            self._system.clear_away(self._place)
            self.group.close()
            raise
        self._log = (self._place.directory / "log").open("wb")
        begun = time.monotonic()
        self._process = subprocess.Popen(
            command,
            stdout=self._log,
            stderr=self._log,
            cwd=ROOT,
            env=environment(self._place.directory),
            start_new_session=True,
        )
        self.group.started(self._process.pid)
        try:
            if not self._wait_greeting(begun + START_WITHIN):
                raise NotStartedError(f"{self._system.name} did not greet: {self._last_words()}")
        except BaseException:  # Ctrl-C, too, must leave no process behind
            self._end()
            raise
        self.start_seconds = time.monotonic() - begun
        return self

    def _wait_greeting(self, deadline: float) -> bool:
        while self._process.poll() is None and time.monotonic() < deadline:
            if wait_greeting(self.port, min(deadline, time.monotonic() + 0.5)):
                return True
        return False

    def _last_words(self) -> str:
        lines = (self._place.directory / "log").read_text(errors="backslashreplace").strip().splitlines()
        errors = [line for line in lines if "Error" in line or "fatal" in line]
        return " / ".join(errors[-2:] or lines[-3:]) or "no words"

    def check_alive(self) -> None:
        """Raises `NotStartedError` when the program has ended by itself."""
        if self._process.poll() is not None:
            raise NotStartedError(f"{self._system.name} ended with {self._process.returncode}: {self._last_words()}")

    def wait_idle(self, within: float = 5.0) -> None:
        """Waits until what follows a delivery is done: less than 2 % of a CPU in a tenth of a second."""
        deadline = time.monotonic() + within
        before = self.group.cpu().total
        while time.monotonic() < deadline:
            time.sleep(0.1)
            now = self.group.cpu().total
            if now - before < 0.002:
                return
            before = now

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end()

    def _end(self) -> None:
        self._signal(signal.SIGTERM)
        deadline = time.monotonic() + END_WITHIN
        while self._lives():
            if time.monotonic() > deadline:
                self._signal(signal.SIGKILL)
            time.sleep(0.02)
        self._log.close()
        self._system.clear_away(self._place)
        self.group.close()

    def _lives(self) -> bool:
        """Whether any process of the group is left; asking also collects the one that was started."""
        return self._process.poll() is None or bool(self.group.pids())

    def _signal(self, number: signal.Signals) -> None:
        for pid in self.group.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
