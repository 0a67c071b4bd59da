"""Doing something to deliveries: asking first where that is due, showing how far it is, and what came of it."""

import json
import sys
import time
from collections.abc import Iterator

from waypost.commands import FAILED, FINE, USAGE
from waypost.commands import queue_view as view
from waypost.commands.control import ControlError, Daemon, Row
from waypost.commands.queue_options import Wanted, is_everything

_SAID = {"retry": "due now", "hold": "held", "release": "released", "delete": "deleted"}
_NAMED = 20  # deliveries to which nothing was done, named one by one
_COUNTED = 10_000  # deliveries, before a question is asked about them: nobody waits for the last one
_PACE = 0.2  # seconds between two words about progress


class Action:
    """One action on the deliveries that were chosen."""

    def __init__(self, action: str, chosen: Wanted, *, dry_run: bool, as_json: bool) -> None:
        self._action = action
        self._chosen = chosen
        self._dry_run = dry_run
        self._as_json = as_json
        self._matched = self._done = 0
        self._told_at = 0.0
        self._listing = view.Listing(view.terminal_width(), time.time())
        self._left_alone: list[Row] = []

    def run(self, daemon: Daemon, *, yes: bool) -> int:
        """Does it; the exit code. Asks whether more than one is meant, unless `yes`. Raises `ControlError`."""
        if not (self._dry_run or yes or self._is_one):
            sure = self._ask(daemon)
            if sure is not None:
                return sure
        for line in self._lines(daemon, dry_run=self._dry_run):
            self._take(line)
        return self._conclude()

    @property
    def _is_one(self) -> bool:
        return len(self._chosen.get("number", ())) == 1

    def _ask(self, daemon: Daemon) -> int | None:
        """None when it may be done; the exit code otherwise."""
        count = 0
        for line in self._lines(daemon, dry_run=True):
            count += line["done"]
            if count > _COUNTED:
                break
        if count <= 1:
            return None
        about = view.counted(count) if count <= _COUNTED else f"more than {view.counted(_COUNTED)}"
        if not sys.stdin.isatty():
            print(
                f"waypost queue {self._action}: this would {self._action} {about}, and there is no terminal to ask on:"
                " say --yes",
                file=sys.stderr,
            )
            return USAGE
        print(f"This will {self._action} {about} for good. Go on? [y/N] ", end="", flush=True)
        if sys.stdin.readline().strip().lower() in ("y", "yes"):
            return None
        print("nothing was done")
        return FAILED

    def _lines(self, daemon: Daemon, *, dry_run: bool) -> Iterator[Row]:
        """A line for each delivery. Raises `ControlError`, also when it was not carried through."""
        limit = self._chosen.get("limit")
        chosen = {name: list(values) for name, values in self._chosen.items()}
        body = {"action": self._action, "filter": chosen, "dry_run": dry_run, "all": is_everything(self._chosen)}
        finished = False
        for line in daemon.act(body):
            finished = line.get("finished") is True
            if not finished:
                yield line
        if not finished:
            raise ControlError(f"it was not carried through{'' if limit else ' to its end'}", FAILED)

    def _take(self, line: Row) -> None:
        self._matched += 1
        self._done += line["done"]
        if not line["done"] and len(self._left_alone) < _NAMED:
            self._left_alone.append(line)
        if self._as_json:
            print(json.dumps(line))
        elif self._dry_run and line["done"]:
            for text in self._listing.lines(line):
                view.say(text)
        else:
            self._show_progress()

    def _show_progress(self) -> None:
        now = time.monotonic()
        if sys.stderr.isatty() and now - self._told_at > _PACE:
            self._told_at = now
            print(
                f"\r{self._matched} looked at, {self._done} {_SAID[self._action]}", end="", file=sys.stderr, flush=True
            )

    def _conclude(self) -> int:
        if self._told_at:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
        missing = len(self._chosen.get("number", ())) - self._matched
        if not self._as_json:
            self._print_result(missing)
        failed = "number" in self._chosen and "limit" not in self._chosen and (missing or self._done < self._matched)
        return FAILED if failed else FINE

    def _print_result(self, missing: int) -> None:
        if self._dry_run:
            print(f"would {self._action} {view.counted(self._done)}")
        elif self._matched or "number" in self._chosen:
            print(f"{view.counted(self._done)} {_SAID[self._action]}")
        else:
            print("nothing is queued that matches")
        for line in self._left_alone:
            print(f"{line['number']} is {line['state']}: left alone")
        unnamed = self._matched - self._done - len(self._left_alone)
        if unnamed > 0:
            print(f"and {unnamed} more were left alone")
        if missing > 0 and "limit" not in self._chosen:
            print(f"{missing} not found: delivered or deleted already, or never there, or another filter excludes them")
