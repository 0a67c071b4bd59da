"""`waypost trace`: the life of a message, as the journal and the spool of the running Waypost know it."""

import argparse
import json
import sys
import time
from typing import TYPE_CHECKING, Any

from waypost.commands import FAILED, FINE, Subparsers, add_command

if TYPE_CHECKING:
    from waypost.commands.control import Daemon, Row

_EXAMPLES = """\
  waypost trace 06H02FAVX47CCNYM              the id in the reply to its client
  waypost trace '<20261122.1@example.com>'    its Message-ID
  waypost trace bob@example.net --since 2h    sender or recipient: a list
  waypost trace 06H02FAVX47CCNYM --json | jq .event

The running Waypost is asked, over the socket in the folder of its spool; it
remembers for as long as `journal.keep` says. Exit code 1: nothing is known of
it; 69: Waypost cannot be reached.
"""


def register(subparsers: Subparsers) -> None:
    """Adds `trace`."""
    from waypost.commands.control import add_daemon_options
    from waypost.commands.queue_options import age

    parser = add_command(
        subparsers,
        "trace",
        summary="Tell the life of a message: how it came, every attempt, where it is now.",
        examples=_EXAMPLES,
    )
    add = parser.add_argument
    add(
        "about",
        metavar="ID|MESSAGE-ID|ADDRESS",
        help="a Waypost id, a Message-ID, or a sender's or recipient's address",
    )
    add("--since", type=age, metavar="AGE", help="messages of the last AGE only: 90s, 10m, 2h, 3d")
    add("--limit", type=_limit, default=20, metavar="N", help="the youngest N messages (default: 20, at most 1000)")
    add("--json", action="store_true", help="print the records as they are in the log, one JSON object on a line")
    add_daemon_options(parser)
    parser.set_defaults(run=_trace)


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 4 and 1 <= int(text) <= 1000):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to 1000")
    return int(text)


def _trace(arguments: argparse.Namespace) -> int:
    from waypost.commands.control import ask

    query = [("about", arguments.about), ("limit", str(arguments.limit))]
    if arguments.since is not None:
        query.append(("since", f"{time.time() - float(arguments.since):.3f}"))

    def run(daemon: "Daemon") -> int:
        lives = list(daemon.lines("/api/trace", query))
        if not lives:
            print(f"waypost trace: nothing is known of {arguments.about!r}", file=sys.stderr)
            return FAILED
        if arguments.json:
            for life in lives:
                for event in life["events"]:
                    print(json.dumps(event))
        elif len(lives) == 1:
            _print_life(lives[0])
        else:
            _print_list(lives, len(lives) == arguments.limit)
        return FINE

    return ask("trace", arguments, run)


def _print_life(life: "Row") -> None:
    from waypost.commands import queue_view as view
    from waypost.commands.trace_view import render

    width = view.terminal_width()
    for line in render(life["events"], width=width or 80).split("\n")[:-1]:
        view.say(line)
    for row in life["deliveries"]:
        print()
        view.say(f"Delivery {row['number']}, in lane {row['lane']}:")
        for line in view.Listing(width, time.time()).lines(row):
            view.say(line)


def _print_list(lives: list["Row"], more: bool) -> None:
    from waypost.commands import queue_view as view
    from waypost.commands.trace_fate import fate
    from waypost.commands.trace_view import born_of, recipients_of

    width = view.terminal_width()
    for life in lives:
        events: list[dict[str, Any]] = life["events"]
        start = f"{_came(events)}  {life['id']}  "
        born = born_of(events)
        sender, recipients = born.get("reverse_path", "?") or "<>", recipients_of(born) or ["nobody"]
        others = f" +{len(recipients) - 1}" if len(recipients) > 1 else ""
        view.say(start + view.join_cut(sender, recipients[0], others, None if width is None else width - len(start)))
        view.say(view.cut(f"    {fate(events)}", width))
    said = f"the youngest {len(lives)} (--limit shows more)" if more else f"{len(lives)} messages"
    print(f"{said}; `waypost trace ID` tells the life of one")


def _came(events: list[dict[str, Any]]) -> str:
    """When it came in: day and time, in UTC, as the log has them."""
    return str(events[0]["time"])[:19].replace("T", " ") if events else " " * 19
