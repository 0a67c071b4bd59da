"""`waypost demo`: see Waypost work, with no configuration, and then try it."""

import argparse
import os
import sys
import time
from typing import TYPE_CHECKING

from waypost.commands import FAILED, FINE, Subparsers, add_command

if TYPE_CHECKING:
    from waypost.demo.stage import Stage
    from waypost.demo.table import Table

_EXAMPLES = """\
  waypost demo               the tour, then your turn, until Ctrl-C
  waypost demo --once        the tour; exit code 0 if every message ended
                             where it should, else 1
  waypost demo --log demo.log

Everything is in this one process: two providers, an old and a new mail server,
and Waypost in front of them. All listen on 127.0.0.1, on ports that were free.
Nothing is stored, and nothing leaves this machine.
"""


def register(subparsers: Subparsers) -> None:
    """Adds `demo`."""
    parser = add_command(
        subparsers,
        "demo",
        summary="See Waypost work: servers, messages and all, no configuration.",
        examples=_EXAMPLES,
    )
    parser.add_argument("--once", action="store_true", help="end after the tour; so it does without a terminal")
    parser.add_argument("--log", metavar="FILE", help="append Waypost's log to FILE (default: it is not kept)")
    parser.set_defaults(run=_demo)


def _demo(arguments: argparse.Namespace) -> int:
    from waypost.commands.foreground import has_colours
    from waypost.commands.run import run_loop
    from waypost.demo.table import Table
    from waypost.observe.log import configure

    try:
        log = os.open(arguments.log or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    except OSError as error:
        print(f"waypost demo: --log {arguments.log}: {error.strerror}", file=sys.stderr)
        return FAILED
    operational = configure("json", fd=log)
    table = Table(colours=has_colours(sys.stdout), plain=not _can_show("✓─"))
    stays = not arguments.once and sys.stdout.isatty()
    try:
        return run_loop(lambda: perform(table, log, stays=stays))
    finally:
        operational.close()


def _can_show(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


async def perform(table: "Table", log: int, *, stays: bool) -> int:
    """The whole demonstration; its exit code. `log` is a file descriptor, `stays` goes on until Ctrl-C."""
    from waypost.commands.foreground import say, until_stopped
    from waypost.demo.arrivals import Arrivals
    from waypost.demo.stage import Records, Stage
    from waypost.demo.words import cast, invitation

    records = Records(log)
    arrivals = Arrivals(say)
    try:
        async with Stage(records, arrivals.at) as stage:
            say(cast(stage.ports))
            fine = await show_tour(stage, table)
            if stays:
                say(invitation(stage.ports))
                arrivals.begin()
                await until_stopped()
                say("\n")
    except OSError as error:
        print(f"waypost demo: cannot listen on 127.0.0.1: {error.strerror or error}", file=sys.stderr)
        return FAILED
    finally:
        records.close()
    return FINE if fine else FAILED


async def show_tour(stage: "Stage", table: "Table") -> bool:
    """Plays the tour and shows each message as it ends. Whether every one ended where it should."""
    from waypost.commands.foreground import say
    from waypost.demo.play import leftovers, play
    from waypost.demo.tour import tour

    began = time.monotonic()
    results = []
    say(table.head())
    for act in tour():
        results.append(await play(stage, act))
        say(table.row(results[-1]))
    late = leftovers(stage, results)
    say("\n" + table.verdict(results, late, time.monotonic() - began))
    return not late and not any(result.differs for result in results)
