"""`waypost queue`: what is owed: listed, counted, shown, tried again, held, deleted, exported."""

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from waypost.commands import FAILED, FINE, USAGE, Subparsers, add_command

if TYPE_CHECKING:
    from waypost.commands.control import Daemon

_QUEUE = """\
  waypost queue summary                     how much waits, where, and why
  waypost queue list --state dead           what was given up
  waypost queue retry --upstream new        a server is back: do not wait
  waypost queue COMMAND --help              examples of each command

A delivery is one message owed to one pool, and has a number. It is queued,
running (an attempt is under way), held (by `hold`) or dead: a dead letter, that
is not tried again by itself. Deliveries stand in lanes: primary:ROUTE for what
must go to the primary of a route, copy:POOL for copies. A message can have
several. What happened to one is told by `waypost trace`.

The running Waypost is asked, over the socket in the folder of its spool. Only
root and the user it runs as may do so. Exit code 69: it cannot be reached.
"""
_LIST = """\
  waypost queue list
  waypost queue list --upstream new --older-than 2h
  waypost queue list --state dead --error "mailbox full"
  waypost queue list --recipient '*@example.com' --json | jq .reason

On a terminal lines are cut to its width; a file or another program gets all.
"""
_SUMMARY = """\
  waypost queue summary
  waypost queue summary --upstream new
  waypost queue summary --state dead --newer-than 1d

OLDEST is the age of the oldest that is queued or held. Under each lane are the
commonest last answers, of its 1000 oldest deliveries; numbers and words that
differ from message to message are written as *.
"""
_SHOW = """\
  waypost queue show 17
  waypost queue show 17 --content > message.eml
"""
_RETRY = """\
  waypost queue retry 17 18
  waypost queue retry --upstream new              it is back
  waypost queue retry --state dead --newer-than 1d --dry-run
  waypost queue retry --all

They are due now, dead letters too, and have the whole lifetime of their route
again. What is held is released. What is running is left alone.
"""
_INSTANCES = """\
  waypost queue instances

Several Wayposts can share a spool in PostgreSQL. One that is killed is listed
until the others have taken over what it had begun.
"""
_HOLD = """\
  waypost queue hold --recipient '*@example.com'
  waypost queue hold --lane copy:archive --older-than 1h

They stay queued, untouched, until `waypost queue release`.
"""
_RELEASE = """\
  waypost queue release 17
  waypost queue release --all

What was held is due now.
"""
_DELETE = """\
  waypost queue delete 17
  waypost queue delete --state dead --older-than 30d --yes
  waypost queue delete --sender 'alerts@example.com' --dry-run

Nobody is told of what is deleted, and nothing brings it back: `waypost queue
export` first when in doubt. More than one is asked about, unless --yes.
"""
_EXPORT = """\
  waypost queue export --state dead --to dead-letters
  waypost queue export 17 --to .

Each delivery becomes ID-NUMBER.eml, the message as it would have been sent, and
ID-NUMBER.json, its envelope and what is known of it, written last. Files that
are there already are left alone. Nothing changes in the spool.
"""


def register(subparsers: Subparsers) -> None:
    """Adds `queue` with its subcommands."""
    from waypost.commands.control import add_daemon_options
    from waypost.commands.queue_options import add_filters, delivery_number

    queue = add_command(subparsers, "queue", summary="See what is owed, and do something about it.", examples=_QUEUE)
    below: Subparsers = queue.add_subparsers(dest="subcommand", metavar="SUBCOMMAND", required=True)

    def add(
        name: str, summary: str, examples: str, run: Callable[[argparse.Namespace], int]
    ) -> argparse.ArgumentParser:
        parser = add_command(below, name, summary=summary, examples=examples)
        add_daemon_options(parser)
        parser.set_defaults(run=run)
        return parser

    listed = add("list", "List deliveries, with the last answer to each.", _LIST, _list)
    listed.add_argument("--json", action="store_true", help="print one JSON object for each, on a line")
    add_filters(listed)
    summary = add("summary", "Count what stands in each lane, and why it does.", _SUMMARY, _summary)
    summary.add_argument("--json", action="store_true", help="print one JSON object for each lane, on a line")
    add_filters(summary, numbers=False, limit=False)
    instances = add("instances", "List the Wayposts that work on this spool.", _INSTANCES, _instances)
    instances.add_argument("--json", action="store_true", help="print one JSON object for each, on a line")
    shown = add("show", "Show all facts about one delivery, and its header section.", _SHOW, _show)
    shown.add_argument(
        "number", type=delivery_number, metavar="NUMBER", help="the number of the delivery, as `list` prints it"
    )
    form = shown.add_mutually_exclusive_group()
    form.add_argument("--content", action="store_true", help="print the whole message instead, and nothing else")
    form.add_argument("--json", action="store_true", help="print one JSON object")
    for action, what, examples in (
        ("retry", "Try deliveries again now, dead letters too.", _RETRY),
        ("hold", "Keep deliveries from being tried.", _HOLD),
        ("release", "Let deliveries go that were held.", _RELEASE),
        ("delete", "Delete deliveries for good, unsent.", _DELETE),
    ):
        parser = add(action, what, examples, _act)
        parser.add_argument("--json", action="store_true", help="print one JSON object for each, on a line")
        parser.add_argument("--dry-run", action="store_true", help="only say what would be done")
        parser.add_argument("--all", action="store_true", help="every delivery: needed when nothing chooses some")
        if action == "delete":
            parser.add_argument("--yes", action="store_true", help="do not ask")
        parser.set_defaults(action=action)
        add_filters(parser)
    exported = add("export", "Write messages to files, for another program or to be safe.", _EXPORT, _export)
    exported.add_argument("--to", metavar="FOLDER", required=True, help="where; it is made when it is missing")
    add_filters(exported)


def _list(arguments: argparse.Namespace) -> int:
    from waypost.commands import queue_view as view
    from waypost.commands.control import ask
    from waypost.commands.queue_options import deliveries, wanted

    def run(daemon: "Daemon") -> int:
        rows = deliveries(daemon, wanted(arguments))
        if arguments.json:
            for row in rows:
                print(json.dumps(row))
            return FINE
        listing, count, size = view.Listing(view.terminal_width(), time.time()), 0, 0
        for row in rows:
            for line in listing.lines(row):
                view.say(line)
            count, size = count + 1, size + row["size"]
        print(f"{view.counted(count)}, {view.short_size(size)} octets" if count else "nothing is queued that matches")
        return FINE

    return ask("queue list", arguments, run)


def _summary(arguments: argparse.Namespace) -> int:
    from waypost.commands import queue_view as view
    from waypost.commands.control import ask
    from waypost.commands.queue_options import query, wanted

    def run(daemon: "Daemon") -> int:
        lanes = list(daemon.lines("/api/queue/summary", query(wanted(arguments))))
        if arguments.json:
            for lane in lanes:
                print(json.dumps(lane))
            return FINE
        for line in view.summary_lines(lanes, view.terminal_width(), time.time()):
            view.say(line)
        return FINE

    return ask("queue summary", arguments, run)


def _instances(arguments: argparse.Namespace) -> int:
    from waypost.commands import queue_view as view
    from waypost.commands.control import ask

    def run(daemon: "Daemon") -> int:
        instances = list(daemon.lines("/api/queue/instances", []))
        lines = map(json.dumps, instances) if arguments.json else view.instance_lines(instances, time.time())
        for line in lines:
            view.say(line)
        return FINE

    return ask("queue instances", arguments, run)


def _show(arguments: argparse.Namespace) -> int:
    from waypost.commands import queue_view as view
    from waypost.commands.control import ask

    def run(daemon: "Daemon") -> int:
        where = f"/api/queue/{arguments.number}"
        if arguments.content:
            _print_content(daemon, f"{where}/content")
        elif arguments.json:
            print(json.dumps(daemon.value(where)))
        else:
            for line in view.delivery_lines(daemon.value(where), view.terminal_width(), time.time()):
                view.say(line)
        return FINE

    return ask("queue show", arguments, run)


def _print_content(daemon: "Daemon", where: str) -> None:
    """The octets as they are for a file or a program; harmless for a terminal."""
    from waypost.commands import queue_view as view

    sys.stdout.flush()
    if not sys.stdout.isatty():
        for piece in daemon.pieces(where):
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
        return
    rest = b""
    for piece in daemon.pieces(where):
        *lines, rest = (rest + piece).split(b"\r\n")
        for line in lines:
            view.say(line.decode("utf-8", "backslashreplace"))
    if rest:
        view.say(rest.decode("utf-8", "backslashreplace"))


def _act(arguments: argparse.Namespace) -> int:
    from waypost.commands.control import ask
    from waypost.commands.queue_action import Action
    from waypost.commands.queue_options import is_everything, wanted

    chosen, name = wanted(arguments), f"queue {arguments.action}"
    if is_everything(chosen) and not arguments.all:
        print(
            f"waypost {name}: which deliveries? Give numbers or filters, or --all for every one",
            file=sys.stderr,
        )
        return USAGE
    if arguments.all and not is_everything(chosen):
        print(f"waypost {name}: --all is every delivery: it goes without numbers and filters", file=sys.stderr)
        return USAGE
    action = Action(arguments.action, chosen, dry_run=arguments.dry_run, as_json=arguments.json)
    yes = arguments.action != "delete" or arguments.yes
    return ask(name, arguments, lambda daemon: action.run(daemon, yes=yes))


def _export(arguments: argparse.Namespace) -> int:
    from waypost.commands import queue_view as view
    from waypost.commands.control import ask
    from waypost.commands.queue_export import Export
    from waypost.commands.queue_options import wanted

    def run(daemon: "Daemon") -> int:
        try:
            export = Export(daemon, arguments.to)
            export.run(wanted(arguments))
        except OSError as error:
            print(f"waypost queue export: {error.filename or arguments.to}: {error.strerror}", file=sys.stderr)
            return FAILED
        view.say(f"{view.counted(export.written)} written to {arguments.to}")
        for line in export.problems:
            print(f"waypost queue export: {view.plain(line)}", file=sys.stderr)
        return FAILED if export.problems else FINE

    return ask("queue export", arguments, run)
