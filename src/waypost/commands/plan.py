"""`waypost plan`: what another configuration would do to the mail of the last days, before it runs."""

import argparse
import json
import os
import time
from typing import TYPE_CHECKING

from waypost.commands import FAILED, FINE, Subparsers, add_command

if TYPE_CHECKING:
    from waypost.commands.control import Daemon

_EXAMPLES = """\
  waypost plan new.yaml                       the last 1000 messages
  waypost plan new.yaml --last 50000 --since 7d
  waypost plan new.yaml --exit-code           1 when any mail would go elsewhere
  waypost plan new.yaml --json | jq .now

The running Waypost says which messages came in, out of its journal, and where
each would go as it is configured now; the same is asked of the new file. Header
fields are not in the journal: where a rule looks at them, that is said. Health,
quotas and plugins are left out: they are of the moment.
"""


def register(subparsers: Subparsers) -> None:
    """Adds `plan`."""
    from waypost.commands.control import add_daemon_options
    from waypost.commands.queue_options import age

    parser = add_command(
        subparsers,
        "plan",
        summary="Replay the last messages through a new configuration: what would change.",
        examples=_EXAMPLES,
    )
    add = parser.add_argument
    add("file", metavar="NEW.yaml", help="the configuration to try")
    add("--last", type=_count, default=1000, metavar="N", help="messages to replay (default: 1000, at most 100000)")
    add("--since", type=age, metavar="AGE", help="messages of the last AGE only: 90s, 10m, 2h, 3d")
    add("--exit-code", action="store_true", help="exit with 1 when something would change")
    add("--json", action="store_true", help="print each recipient that would fare otherwise, one JSON object on a line")
    add_daemon_options(parser)
    parser.set_defaults(run=_plan)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 6 and 1 <= int(text) <= 100_000):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to 100000")
    return int(text)


def _plan(arguments: argparse.Namespace) -> int:
    from waypost.commands.control import ask
    from waypost.commands.planned import Plan
    from waypost.config.compass import compass_of
    from waypost.config.load import load

    settings = load(arguments.file, os.environ)
    plan = Plan(compass_of(settings), [rule.label for rule in settings.routes.rules])
    query = [("last", str(arguments.last))]
    if arguments.since is not None:
        query.append(("since", f"{time.time() - float(arguments.since):.3f}"))

    def run(daemon: "Daemon") -> int:
        from waypost.commands import queue_view as view

        for row in daemon.lines("/api/replay", query):
            for change in plan.compare(row):
                if arguments.json:
                    print(json.dumps(change), flush=True)
        if not arguments.json:
            for line in plan.lines(arguments.file, view.terminal_width()):
                view.say(line)
        return FAILED if arguments.exit_code and plan.has_changes else FINE

    return ask("plan", arguments, run)
